use super::*;

#[test]
fn a_set_sees_its_own_changes_and_others_see_them_when_it_is_applied() {
    let (_dir, store) = open();
    let space = store.space("seats");
    let mut staged = Staged::default();
    staged.set(&space, &AMPLE, "a", Some(b"1")).unwrap();
    assert_eq!(
        staged.get(&space, &AMPLE, "a").unwrap().as_deref(),
        Some(b"1".as_slice())
    );
    assert_eq!(get(&space, "a"), None);
    space.apply(staged).unwrap();
    assert_eq!(get(&space, "a").as_deref(), Some("1"));
}

#[test]
fn a_set_that_is_dropped_leaves_no_trace() {
    let (_dir, store) = open();
    let space = store.space("seats");
    set(&space, &[("a", "1")]);
    let mut staged = Staged::default();
    staged.set(&space, &AMPLE, "a", None).unwrap();
    staged.set(&space, &AMPLE, "b", Some(b"2")).unwrap();
    staged
        .publish(&space, &AMPLE, "room", "topic", "{}")
        .unwrap();
    drop(staged);
    assert_eq!(
        (get(&space, "a").as_deref(), get(&space, "b")),
        (Some("1"), None)
    );
}

#[test]
fn writing_what_is_there_or_deleting_what_is_not_is_no_change() {
    let (_dir, store) = open();
    let space = store.space("seats");
    set(&space, &[("a", "1")]);
    let mut staged = Staged::default();
    staged.set(&space, &AMPLE, "a", Some(b"1")).unwrap();
    staged.set(&space, &AMPLE, "b", None).unwrap();
    assert!(staged.is_empty());
    staged.set(&space, &AMPLE, "a", Some(b"2")).unwrap();
    staged.set(&space, &AMPLE, "a", Some(b"1")).unwrap();
    space.apply(staged).unwrap();
    assert_eq!(get(&space, "a").as_deref(), Some("1"));
}

#[test]
fn owners_do_not_see_each_others_keys() {
    let (_dir, store) = open();
    set(&store.space("seats"), &[("a", "1")]);
    assert_eq!(get(&store.space("billing"), "a"), None);
}

#[test]
fn a_listing_merges_what_is_kept_with_what_is_staged() {
    let (_dir, store) = open();
    let space = store.space("seats");
    set(
        &space,
        &[("p/a", "1"), ("p/c", "1"), ("p/d", "1"), ("q/a", "1")],
    );
    let mut staged = Staged::default();
    staged.set(&space, &AMPLE, "p/b", Some(b"1")).unwrap();
    staged.set(&space, &AMPLE, "p/c", Some(b"2")).unwrap();
    staged.set(&space, &AMPLE, "p/d", None).unwrap();
    staged.set(&space, &AMPLE, "o", Some(b"1")).unwrap();
    let list = |prefix: &str, after: Option<&str>, limit| {
        staged.list(&space, &AMPLE, prefix, after, limit).unwrap()
    };
    assert_eq!(list("p/", None, 10), ["p/a", "p/b", "p/c"]);
    assert_eq!(list("p/", None, 2), ["p/a", "p/b"]);
    assert_eq!(list("p/", Some("p/b"), 10), ["p/c"]);
    assert_eq!(list("p/", Some("a"), 1), ["p/a"]);
    assert_eq!(list("p/", Some("p/x"), 10), [""; 0]);
    assert_eq!(list("", None, 10), ["o", "p/a", "p/b", "p/c", "q/a"]);
    assert_eq!(
        staged.list(&space, &SMALL, "", None, 10).unwrap().len(),
        SMALL.listed
    );
}

#[test]
fn keys_and_values_have_a_length() {
    let (_dir, store) = open();
    let space = store.space("seats");
    let mut staged = Staged::default();
    let long = "x".repeat(9);
    for key in ["", &long] {
        assert_eq!(
            staged.set(&space, &SMALL, key, Some(b"")),
            Err(KeyError::InvalidKey(8))
        );
        assert_eq!(
            staged.set(&space, &SMALL, key, None),
            Err(KeyError::InvalidKey(8))
        );
        assert_eq!(
            staged.get(&space, &SMALL, key),
            Err(KeyError::InvalidKey(8))
        );
    }
    assert_eq!(
        staged.list(&space, &SMALL, &long, None, 1),
        Err(KeyError::InvalidKey(8))
    );
    let value = [0; 17];
    assert_eq!(
        staged.set(&space, &SMALL, "k", Some(&value)),
        Err(KeyError::ValueTooLarge(16))
    );
    assert!(staged.is_empty());
}

#[test]
fn an_owner_cannot_fill_the_memory_with_keys_or_bytes() {
    let (_dir, store) = open();
    let space = store.space("seats");
    let mut staged = Staged::default();
    let over = |result| matches!(result, Err(KeyError::QuotaExceeded(_)));
    for key in ["a", "b", "c"] {
        staged.set(&space, &SMALL, key, Some(b"1")).unwrap();
    }
    assert!(
        over(staged.set(&space, &SMALL, "d", Some(b"1"))),
        "a set changes three keys"
    );
    space.apply(staged).unwrap();
    let mut staged = Staged::default();
    staged.set(&space, &SMALL, "d", Some(b"1")).unwrap();
    assert!(
        over(staged.set(&space, &SMALL, "e", Some(b"1"))),
        "four keys are kept"
    );
    staged.set(&space, &SMALL, "a", None).unwrap();
    staged.set(&space, &SMALL, "e", Some(b"1")).unwrap();
    space.apply(staged).unwrap();
    let mut staged = Staged::default();
    for key in ["b", "c", "d"] {
        staged.set(&space, &SMALL, key, None).unwrap();
    }
    assert!(
        over(staged.set(&space, &SMALL, "e", None)),
        "a deletion is a change"
    );
    drop(staged);
    let mut staged = Staged::default();
    staged.set(&space, &SMALL, "b", Some(&[0; 16])).unwrap();
    staged.set(&space, &SMALL, "c", Some(&[0; 16])).unwrap();
    assert!(
        over(staged.set(&space, &SMALL, "d", Some(&[0; 16]))),
        "a set writes 40 bytes"
    );
    space.apply(staged).unwrap();
    let mut staged = Staged::default();
    staged.set(&space, &SMALL, "d", Some(&[0; 16])).unwrap();
    assert!(
        over(staged.set(&space, &SMALL, "e", Some(&[0; 16]))),
        "60 bytes are kept"
    );
    staged.set(&space, &SMALL, "b", None).unwrap();
    space.apply(staged).unwrap();
    assert_eq!(space.bytes(), 17 + 17 + 2);
}

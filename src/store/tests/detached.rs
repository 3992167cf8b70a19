use super::*;

#[test]
fn a_detached_space_keeps_in_memory_and_publishes_nowhere() {
    let space = Space::detached("seats");
    let mut staged = Staged::default();
    assert!(staged.is_empty());
    staged.set(&space, &AMPLE, "a", Some(b"1")).unwrap();
    staged
        .publish(&space, &AMPLE, "r", "one", "{\"n\": 1}")
        .unwrap();
    staged.publish(&space, &AMPLE, "r", "two", "2").unwrap();
    let events: Vec<_> = staged
        .events()
        .map(|(topic, payload)| (topic.to_owned(), payload.to_string()))
        .collect();
    let expected = [("one", "{\"n\":1}"), ("two", "2")];
    assert_eq!(events, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert!(
        space.apply(staged).unwrap().is_none(),
        "nothing to wait for"
    );
    assert_eq!(get(&space, "a").as_deref(), Some("1"));
}

#[test]
fn a_copy_has_what_the_space_had_and_goes_its_own_way() {
    let (_dir, store) = open();
    let space = store.space("seats");
    let now = UnixMs::now();
    let mut staged = Staged::new(now);
    staged.set(&space, &AMPLE, "a", Some(b"1")).unwrap();
    staged
        .set_expiring(&space, &AMPLE, "b", b"2", 60_000)
        .unwrap();
    staged
        .set_timer(&space, &AMPLE, &room("r"), "t", 0, None)
        .unwrap();
    space.apply(staged).unwrap();
    assert_eq!(space.due(now, 9).len(), 1);

    let copy = Space::copy_of(&space);
    copy.kept().check();
    assert_eq!((copy.keys(), copy.bytes(), copy.timers()), (2, 4, 1));
    assert_eq!(at(now, 60_000).get(&copy, &AMPLE, "b").unwrap(), None);
    assert_eq!(copy.due(now, 9).len(), 1, "it is not in flight in the copy");
    set(&copy, &[("a", "copy")]);
    set(&space, &[("c", "original")]);
    assert_eq!(get(&space, "a").as_deref(), Some("1"));
    assert_eq!(get(&copy, "c"), None);
}

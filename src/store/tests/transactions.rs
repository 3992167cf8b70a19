use super::*;

fn compare_and_set(
    staged: &mut Staged,
    space: &Space,
    key: &str,
    expected: Option<&str>,
    value: Option<&str>,
) -> bool {
    let (expected, value) = (expected.map(str::as_bytes), value.map(str::as_bytes));
    staged
        .compare_and_set(space, &AMPLE, key, expected, value)
        .unwrap()
}

#[test]
fn a_key_is_set_only_where_it_is_what_was_expected() {
    let (_dir, store) = open();
    let space = store.space("seats");
    let mut staged = Staged::default();
    assert!(!compare_and_set(
        &mut staged,
        &space,
        "a",
        Some("0"),
        Some("1")
    ));
    assert!(staged.is_empty());
    assert!(compare_and_set(&mut staged, &space, "a", None, Some("1")));
    assert!(!compare_and_set(&mut staged, &space, "a", None, Some("2")));
    assert!(compare_and_set(
        &mut staged,
        &space,
        "a",
        Some("1"),
        Some("2")
    ));
    space.apply(staged).unwrap();
    assert_eq!(get(&space, "a").as_deref(), Some("2"));
    let mut staged = Staged::default();
    assert!(compare_and_set(&mut staged, &space, "a", Some("2"), None));
    space.apply(staged).unwrap();
    assert_eq!(get(&space, "a"), None);
}

#[test]
fn of_two_calls_that_compared_the_same_key_the_second_to_return_is_run_again() {
    let (dir, store) = open();
    let space = store.space("seats");
    let (mut first, mut second) = (Staged::default(), Staged::default());
    for (staged, name) in [(&mut first, "anna"), (&mut second, "bert")] {
        assert!(compare_and_set(staged, &space, "seat", None, Some(name)));
        staged.set(&space, &AMPLE, name, Some(b"seated")).unwrap();
        staged
            .set_timer(&space, &AMPLE, &room("r"), name, 1000, None)
            .unwrap();
        staged
            .publish(&space, &AMPLE, "r", "seated", &format!("\"{name}\""))
            .unwrap();
    }
    space.apply(first).unwrap();
    let conflict = space.apply(second).unwrap_err();
    assert_eq!(&*conflict.key, "seat");
    assert!(conflict.to_string().contains("\"seat\""));
    assert_eq!(get(&space, "seat").as_deref(), Some("anna"));
    assert_eq!(get(&space, "bert"), None, "a conflict applies nothing");
    assert_eq!((space.keys(), space.timers()), (2, 1));
    let mut again = Staged::default();
    assert!(!compare_and_set(
        &mut again,
        &space,
        "seat",
        None,
        Some("bert")
    ));
    drop((space, store));
    assert_eq!(payloads(&dir), ["anna"]);
    let store = Store::open(dir.path()).unwrap();
    let space = store.space("seats");
    assert_eq!(get(&space, "bert"), None);
    assert_eq!((space.keys(), space.timers()), (2, 1));
}

#[test]
fn a_call_that_only_looked_is_told_that_the_key_has_changed_since() {
    let (_dir, store) = open();
    let space = store.space("seats");
    set(&space, &[("seat", "anna")]);
    let mut refused = Staged::default();
    assert!(!compare_and_set(
        &mut refused,
        &space,
        "seat",
        None,
        Some("bert")
    ));
    set(&space, &[("seat", "carl")]);
    assert!(refused.is_empty());
    assert!(space.apply(refused).is_err());
    let mut unchanged = Staged::default();
    assert!(!compare_and_set(
        &mut unchanged,
        &space,
        "seat",
        None,
        Some("bert")
    ));
    assert!(space.apply(unchanged).unwrap().is_none());
}

#[test]
fn a_call_sees_a_key_that_it_depends_on_as_it_was_throughout() {
    let (_dir, store) = open();
    let space = store.space("seats");
    let mut staged = Staged::default();
    assert!(!compare_and_set(
        &mut staged,
        &space,
        "seat",
        Some("x"),
        None
    ));
    set(&space, &[("seat", "anna")]);
    assert_eq!(staged.get(&space, &AMPLE, "seat").unwrap(), None);
    assert!(compare_and_set(
        &mut staged,
        &space,
        "seat",
        None,
        Some("bert")
    ));
    assert!(space.apply(staged).is_err());
}

#[test]
fn plain_writes_of_two_calls_overwrite_each_other() {
    let (_dir, store) = open();
    let space = store.space("seats");
    let (mut first, mut second) = (Staged::default(), Staged::default());
    for (staged, name) in [(&mut first, "anna"), (&mut second, "bert")] {
        assert_eq!(staged.get(&space, &AMPLE, "seat").unwrap(), None);
        staged
            .set(&space, &AMPLE, "seat", Some(name.as_bytes()))
            .unwrap();
        // It no longer matters what others make of a key that this call has overwritten.
        assert!(compare_and_set(
            staged,
            &space,
            "seat",
            Some(name),
            Some(name)
        ));
    }
    space.apply(second).unwrap();
    space.apply(first).unwrap();
    assert_eq!(get(&space, "seat").as_deref(), Some("anna"));
}

#[test]
fn a_number_is_decimal_text_and_absent_is_zero() {
    let (_dir, store) = open();
    let space = store.space("billing");
    let mut staged = Staged::default();
    let mut add = |by| staged.increment(&space, &AMPLE, "n", by);
    assert_eq!(add(0), Ok(0));
    assert_eq!(add(5), Ok(5));
    assert_eq!(add(-12), Ok(-7));
    space.apply(staged).unwrap();
    assert_eq!(get(&space, "n").as_deref(), Some("-7"));
    let cases: [(&str, i64, Result<i64, IncrementError>); 10] = [
        ("007", 1, Ok(8)),
        ("-0", 0, Ok(0)),
        ("9223372036854775807", 1, Err(IncrementError::Overflow)),
        ("9223372036854775808", -1, Ok(i64::MAX)),
        ("-9223372036854775808", -1, Err(IncrementError::Overflow)),
        (&"9".repeat(100), 1, Err(IncrementError::Overflow)),
        ("", 1, Err(IncrementError::NotANumber)),
        ("-", 1, Err(IncrementError::NotANumber)),
        ("+1", 1, Err(IncrementError::NotANumber)),
        ("1 ", 1, Err(IncrementError::NotANumber)),
    ];
    for (value, by, sum) in cases {
        set(&space, &[("n", value)]);
        let result = Staged::default().increment(&space, &AMPLE, "n", by);
        assert_eq!(result, sum, "{value:?} + {by}");
    }
    let long = Staged::default().increment(&space, &SMALL, &"x".repeat(9), 1);
    assert_eq!(long, Err(IncrementError::Storage(KeyError::InvalidKey(8))));
}

#[test]
fn increments_of_many_threads_add_up() {
    const EACH: i64 = 250;
    let (dir, store) = open();
    let threads: Vec<_> = (1..=8)
        .map(|by| {
            let space = store.space("billing");
            std::thread::spawn(move || {
                let mut conflicts = 0;
                for _ in 0..EACH {
                    loop {
                        let mut staged = Staged::default();
                        staged.increment(&space, &AMPLE, "n", by).unwrap();
                        match space.apply(staged) {
                            Ok(_) => break,
                            Err(_) => conflicts += 1,
                        }
                    }
                }
                conflicts
            })
        })
        .collect();
    let conflicts: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
    let sum = (1..=8).sum::<i64>() * EACH;
    let space = store.space("billing");
    assert_eq!(
        get(&space, "n"),
        Some(sum.to_string()),
        "{conflicts} conflicts"
    );
    drop((space, store));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(get(&store.space("billing"), "n"), Some(sum.to_string()));
}

#[test]
fn a_call_cannot_depend_on_any_number_of_keys() {
    let space = Space::detached("seats");
    let mut staged = Staged::default();
    for key in ["a", "b", "c", "a"] {
        assert_eq!(
            staged.compare_and_set(&space, &SMALL, key, Some(b"1"), None),
            Ok(false)
        );
    }
    let fourth = staged.compare_and_set(&space, &SMALL, "d", Some(b"1"), None);
    assert!(matches!(fourth, Err(KeyError::QuotaExceeded(_))));
}

use super::*;

const DAY: u64 = 86_400_000;

fn set_timer(space: &Space, now: u64, key: &str, after: u64, every: Option<u64>) {
    let mut staged = Staged::new(UnixMs(now));
    staged
        .set_timer(space, &AMPLE, &room("r"), key, after, every)
        .unwrap();
    space.apply(staged).unwrap();
}

fn cancel(space: &Space, key: &str) {
    let mut staged = Staged::default();
    staged.cancel_timer(space, &AMPLE, &room("r"), key).unwrap();
    space.apply(staged).unwrap();
}

/// What is due, as key and time.
fn due(space: &Space, now: u64) -> Vec<(String, u64)> {
    let due = space.due(UnixMs(now), 100).into_iter();
    due.map(|timer| (timer.key.to_string(), timer.due.0))
        .collect()
}

fn fire(space: &Space, now: u64, key: &str, due: u64) {
    let mut staged = Staged::new(UnixMs(now));
    staged.fired(&room("r"), key, UnixMs(due));
    assert!(!staged.is_empty());
    space.apply(staged).unwrap();
}

fn next(space: &Space) -> Option<u64> {
    space.next_due().map(|due| due.0)
}

fn timer(key: &str, due: u64) -> (String, u64) {
    (key.to_owned(), due)
}

#[test]
fn a_one_shot_timer_fires_once() {
    let space = Space::detached("seats");
    set_timer(&space, 1000, "grace", 500, None);
    assert_eq!(next(&space), Some(1500));
    assert_eq!(due(&space, 1499), []);
    assert_eq!(due(&space, 1500), [timer("grace", 1500)]);
    fire(&space, 1510, "grace", 1500);
    assert_eq!((due(&space, 9999), space.timers()), (vec![], 0));
}

#[test]
fn timers_are_listed_in_the_order_in_which_they_are_due() {
    let space = Space::detached("seats");
    for (key, after) in [("c", 30), ("a", 10), ("b", 20), ("d", 10)] {
        set_timer(&space, 0, key, after, None);
    }
    let first = space.due(UnixMs(100), 2);
    assert_eq!(first.len(), 2);
    assert_eq!((&*first[0].key, first[0].due), ("a", UnixMs(10)));
    assert_eq!((&*first[1].key, &first[1].room), ("d", &room("r")));
    assert_eq!(due(&space, 100), [timer("b", 20), timer("c", 30)]);
}

#[test]
fn a_timer_in_flight_is_not_listed_again_until_it_is_released() {
    let space = Space::detached("seats");
    set_timer(&space, 0, "a", 10, None);
    set_timer(&space, 0, "b", 20, None);
    assert_eq!(due(&space, 10), [timer("a", 10)]);
    assert_eq!(next(&space), Some(20));
    assert_eq!(due(&space, 10), []);
    space.release_timer(&room("r"), "a", UnixMs(11));
    space.release_timer(&room("other"), "a", UnixMs(10));
    assert_eq!(due(&space, 10), [], "that was another timer");
    space.release_timer(&room("r"), "a", UnixMs(10));
    assert_eq!(next(&space), Some(10));
    assert_eq!(due(&space, 10), [timer("a", 10)]);
    space.kept().check();
}

#[test]
fn a_repeating_timer_goes_on_and_skips_what_it_has_missed() {
    let space = Space::detached("seats");
    set_timer(&space, 0, "tick", 1000, Some(100));
    assert_eq!(due(&space, 1000), [timer("tick", 1000)]);
    fire(&space, 1001, "tick", 1000);
    assert_eq!(due(&space, 1100), [timer("tick", 1100)]);
    fire(&space, 1730, "tick", 1100);
    assert_eq!(next(&space), Some(1800));
    let timers = space.due(UnixMs(1800), 1);
    assert_eq!(timers[0].every, Some(100));
    assert_eq!(space.timers(), 1);
}

#[test]
fn what_the_call_itself_does_with_the_timer_counts() {
    let space = Space::detached("seats");
    let call = |at: u64, then: &dyn Fn(&mut Staged)| {
        assert_eq!(due(&space, at), [timer("a", at)]);
        let mut staged = Staged::new(UnixMs(at));
        staged.fired(&room("r"), "a", UnixMs(at));
        then(&mut staged);
        space.apply(staged).unwrap();
    };
    set_timer(&space, 0, "a", 100, None);
    call(100, &|staged| {
        staged
            .set_timer(&space, &AMPLE, &room("r"), "a", 50, Some(500))
            .unwrap();
    });
    call(150, &|staged| {
        staged
            .cancel_timer(&space, &AMPLE, &room("r"), "a")
            .unwrap();
    });
    assert_eq!(space.timers(), 0);
}

#[test]
fn a_timer_that_another_call_has_set_anew_or_cancelled_does_not_fire_away() {
    let space = Space::detached("seats");
    set_timer(&space, 0, "a", 100, None);
    assert_eq!(due(&space, 100), [timer("a", 100)]);
    assert!(space.is_timer_due(&room("r"), "a", UnixMs(100)));
    set_timer(&space, 100, "a", 60, None);
    assert!(!space.is_timer_due(&room("r"), "a", UnixMs(100)));
    fire(&space, 110, "a", 100);
    assert_eq!(due(&space, 160), [timer("a", 160)], "the new one stays");
    cancel(&space, "a");
    assert!(!space.is_timer_due(&room("r"), "a", UnixMs(160)));
    fire(&space, 160, "a", 160);
    space.release_timer(&room("r"), "a", UnixMs(160));
    assert_eq!((next(&space), space.timers()), (None, 0));
    space.kept().check();
}

#[test]
fn timers_of_different_rooms_and_owners_are_their_own() {
    let (_dir, store) = open();
    let space = store.space("seats");
    set_timer(&space, 0, "a", 10, None);
    let mut staged = Staged::new(UnixMs(0));
    staged
        .cancel_timer(&space, &AMPLE, &room("other"), "a")
        .unwrap();
    assert!(
        staged.is_empty(),
        "cancelling what is not there is no change"
    );
    assert_eq!(due(&store.space("billing"), 10), []);
    assert_eq!(due(&space, 10), [timer("a", 10)]);
}

#[test]
fn a_dropped_set_sets_no_timer() {
    let space = Space::detached("seats");
    let mut staged = Staged::new(UnixMs(0));
    staged
        .set_timer(&space, &AMPLE, &room("r"), "a", 10, None)
        .unwrap();
    drop(staged);
    assert_eq!((next(&space), space.timers()), (None, 0));
}

#[tokio::test]
async fn timers_survive_a_restart_and_are_no_longer_in_flight() {
    let (dir, store) = open();
    let space = store.space("seats");
    set_timer(&space, 0, "once", 10, None);
    set_timer(&space, 0, "tick", 20, Some(100));
    set_timer(&space, 0, "over", 5, None);
    set_timer(&space, 0, "cancelled", 7, None);
    cancel(&space, "cancelled");
    assert_eq!(due(&space, 15).len(), 2);
    let mut staged = Staged::new(UnixMs(15));
    staged.fired(&room("r"), "over", UnixMs(5));
    let saved = space.apply(staged).unwrap().unwrap();
    saved.wait(LIMIT).await.unwrap();
    drop((space, store));
    let store = Store::open(dir.path()).unwrap();
    let space = store.space("seats");
    assert_eq!(next(&space), Some(10));
    let all = [timer("once", 10), timer("tick", 20)];
    assert_eq!(due(&space, DAY), all);
    fire(&space, DAY, "once", 10);
    fire(&space, DAY, "tick", 20);
    drop((space, store));
    let store = Store::open(dir.path()).unwrap();
    let space = store.space("seats");
    assert_eq!((next(&space), space.timers()), (Some(DAY + 20), 1));
}

#[tokio::test]
async fn a_scheduler_is_told_when_the_next_time_changes() {
    let space = Space::detached("seats");
    let mut changes = space.timers_changed();
    assert_eq!(*changes.borrow_and_update(), None);
    let mut told = |what: &str| {
        let changed = changes.has_changed().unwrap();
        changed
            .then(|| changes.borrow_and_update().map(|due| due.0))
            .ok_or(what.to_owned())
    };
    set_timer(&space, 0, "b", 20, None);
    assert_eq!(told("set"), Ok(Some(20)));
    set_timer(&space, 0, "c", 30, None);
    assert_eq!(told("a later one"), Err("a later one".to_owned()));
    set_timer(&space, 0, "a", 10, None);
    assert_eq!(told("an earlier one"), Ok(Some(10)));
    assert_eq!(due(&space, 10).len(), 1);
    assert_eq!(told("in flight"), Ok(Some(20)));
    space.release_timer(&room("r"), "a", UnixMs(10));
    assert_eq!(told("released"), Ok(Some(10)));
    for (key, left) in [("a", Some(20)), ("b", Some(30)), ("c", None)] {
        cancel(&space, key);
        assert_eq!(told("cancelled"), Ok(left));
    }
}

#[test]
fn timers_have_limits() {
    let space = Space::detached("seats");
    let mut staged = Staged::new(UnixMs(0));
    let mut set =
        |key: &str, after, every| staged.set_timer(&space, &SMALL, &room("r"), key, after, every);
    assert_eq!(set("", 0, None), Err(TimerError::InvalidKey(8)));
    assert_eq!(set(&"x".repeat(9), 0, None), Err(TimerError::InvalidKey(8)));
    for (after, every) in [
        (400 * DAY + 1, None),
        (u64::MAX, None),
        (0, Some(0)),
        (0, Some(99)),
        (0, Some(400 * DAY + 1)),
    ] {
        let result = set("a", after, every);
        assert!(
            matches!(&result, Err(TimerError::InvalidDelay(text)) if text.contains("400 days")),
            "{after} {every:?}: {result:?}"
        );
    }
    assert_eq!(set("a", 400 * DAY, Some(100)), Ok(()));
    assert_eq!(set("b", 0, Some(400 * DAY)), Ok(()));
    let over = |result| matches!(result, Err(TimerError::QuotaExceeded(_)));
    assert!(over(set("c", 0, None)), "two timers");
    assert_eq!(set("b", 0, None), Ok(()), "replacing is no growth");
    staged
        .cancel_timer(&space, &SMALL, &room("r"), "a")
        .unwrap();
    let again = staged.set_timer(&space, &SMALL, &room("r"), "c", 0, None);
    assert_eq!(again, Ok(()));
    let fourth = staged.set_timer(&space, &SMALL, &room("r"), "d", 0, None);
    assert!(over(fourth), "a call changes three timers");
    space.apply(staged).unwrap();
    assert_eq!(space.timers(), SMALL.timers);
}

#[test]
fn a_timer_that_fires_makes_room_for_another() {
    let space = Space::detached("seats");
    for key in ["a", "b"] {
        set_timer(&space, 0, key, 10, None);
    }
    let mut staged = Staged::new(UnixMs(10));
    staged.fired(&room("r"), "a", UnixMs(10));
    let mut set = |key: &str| staged.set_timer(&space, &SMALL, &room("r"), key, 10, None);
    assert_eq!(set("c"), Ok(()));
    assert!(matches!(set("a"), Err(TimerError::QuotaExceeded(_))));
    space.apply(staged).unwrap();
    assert_eq!(space.timers(), 2);
}

use super::*;
use crate::store::disk::{EXPIRIES, KEYS};

/// An hour from now: a time at which the sweep has nothing to do yet.
fn soon() -> UnixMs {
    UnixMs(UnixMs::now().0 + 3_600_000)
}

fn set_expiring(space: &Space, now: UnixMs, key: &str, value: &str, ttl: u64) {
    let mut staged = Staged::new(now);
    staged
        .set_expiring(space, &AMPLE, key, value.as_bytes(), ttl)
        .unwrap();
    space.apply(staged).unwrap();
}

fn get_at(space: &Space, now: UnixMs, offset: u64, key: &str) -> Option<String> {
    text(at(now, offset).get(space, &AMPLE, key).unwrap())
}

#[test]
fn a_key_is_there_until_its_time_to_live_has_passed() {
    let (dir, store) = open();
    let now = soon();
    set_expiring(&store.space("seats"), now, "invite", "anna", 1000);
    let look = |store: &Store| {
        let space = store.space("seats");
        assert_eq!(get_at(&space, now, 999, "invite").as_deref(), Some("anna"));
        assert_eq!(get_at(&space, now, 1000, "invite"), None);
        let list = |offset| at(now, offset).list(&space, &AMPLE, "", None, 9).unwrap();
        assert_eq!(list(999), ["invite"]);
        assert_eq!(list(1000), [""; 0]);
    };
    look(&store);
    drop(store);
    look(&Store::open(dir.path()).unwrap());
}

#[test]
fn an_expired_key_is_absent_for_comparing_and_counting() {
    let space = Space::detached("seats");
    let now = soon();
    set_expiring(&space, now, "seat", "7", 1000);
    let mut staged = at(now, 1000);
    assert_eq!(
        staged.compare_and_set(&space, &AMPLE, "seat", Some(b"7"), None),
        Ok(false)
    );
    assert_eq!(
        staged.compare_and_set(&space, &AMPLE, "seat", None, Some(b"8")),
        Ok(true)
    );
    drop(staged);
    let mut staged = at(now, 1000);
    assert_eq!(staged.increment(&space, &AMPLE, "seat", 1), Ok(1));
    space.apply(staged).unwrap();
    assert_eq!(get_at(&space, now, 1 << 40, "seat").as_deref(), Some("1"));
}

#[test]
fn that_a_key_expires_between_two_calls_is_no_conflict_for_the_earlier() {
    let space = Space::detached("seats");
    let now = soon();
    set_expiring(&space, now, "seat", "1", 1000);
    let mut early = at(now, 999);
    assert_eq!(early.increment(&space, &AMPLE, "seat", 1), Ok(2));
    let mut late = at(now, 1001);
    late.set(&space, &AMPLE, "other", Some(b"1")).unwrap();
    space.apply(late).unwrap();
    space.apply(early).unwrap();
}

#[test]
fn setting_makes_a_key_stay_and_incrementing_does_not() {
    let space = Space::detached("seats");
    let now = soon();
    for key in ["set", "added", "compared"] {
        set_expiring(&space, now, key, "1", 1000);
    }
    let mut staged = Staged::new(now);
    staged.set(&space, &AMPLE, "set", Some(b"1")).unwrap();
    staged.increment(&space, &AMPLE, "added", 1).unwrap();
    staged
        .compare_and_set(&space, &AMPLE, "compared", Some(b"1"), Some(b"1"))
        .unwrap();
    space.apply(staged).unwrap();
    assert_eq!(get_at(&space, now, 1000, "set").as_deref(), Some("1"));
    assert_eq!(get_at(&space, now, 1000, "compared").as_deref(), Some("1"));
    assert_eq!(get_at(&space, now, 999, "added").as_deref(), Some("2"));
    assert_eq!(get_at(&space, now, 1000, "added"), None);
    space.kept().check();
}

#[test]
fn a_new_time_to_live_replaces_the_old_one_and_none_at_all_deletes() {
    let space = Space::detached("seats");
    let now = soon();
    set_expiring(&space, now, "a", "1", 1000);
    set_expiring(&space, now, "a", "1", 2000);
    assert_eq!(get_at(&space, now, 1999, "a").as_deref(), Some("1"));
    set_expiring(&space, now, "a", "1", 500);
    assert_eq!(get_at(&space, now, 500, "a"), None);
    set_expiring(&space, now, "b", "1", u64::MAX);
    assert_eq!(get_at(&space, now, 1 << 50, "b").as_deref(), Some("1"));
    set_expiring(&space, now, "b", "1", 0);
    assert_eq!((get_at(&space, now, 0, "b"), space.keys()), (None, 1));
    let long = Staged::new(now).set_expiring(&space, &SMALL, "b", &[0; 17], 0);
    assert_eq!(long, Err(KeyError::ValueTooLarge(16)));
    space.kept().check();
}

#[test]
fn expired_keys_go_with_later_sets_a_few_at_a_time() {
    let space = Space::detached("seats");
    let now = soon();
    let mut staged = Staged::new(now);
    for n in 0..100 {
        let key = format!("invite/{n}");
        staged
            .set_expiring(&space, &AMPLE, &key, b"1", 1000)
            .unwrap();
    }
    space.apply(staged).unwrap();
    let mut left = Vec::new();
    for n in 0..5 {
        let mut staged = at(now, 60_000);
        let value = [n];
        staged.set(&space, &AMPLE, "a", Some(&value)).unwrap();
        space.apply(staged).unwrap();
        left.push(space.keys() - 1);
    }
    assert_eq!(left, [68, 36, 4, 0, 0]);
    assert_eq!(space.bytes(), 2);
    space.kept().check();
}

#[tokio::test]
async fn expired_keys_leave_the_disk_though_nobody_calls() {
    let (dir, store) = open();
    let space = store.space("seats");
    let long_ago = UnixMs(UnixMs::now().0 - 60_000);
    let mut staged = Staged::new(long_ago);
    for n in 0..1000 {
        let key = format!("invite/{n}");
        staged
            .set_expiring(&space, &AMPLE, &key, b"1", 1000 + n)
            .unwrap();
    }
    staged.set(&space, &AMPLE, "stays", Some(b"1")).unwrap();
    // The set itself takes some of them at once.
    space
        .apply(staged)
        .unwrap()
        .unwrap()
        .wait(LIMIT)
        .await
        .unwrap();
    let mut progress = store.open.disk.progress.clone();
    let swept = progress.wait_for(|_| space.keys() == 1);
    tokio::time::timeout(LIMIT, swept).await.unwrap().unwrap();
    store.flush(LIMIT).await.unwrap();
    drop((space, store));
    assert_eq!((rows(&dir, KEYS), rows(&dir, EXPIRIES)), (1, 0));
}

#[test]
fn expired_keys_do_not_count_against_the_quota() {
    let space = Space::detached("seats");
    let now = soon();
    for (key, ttl) in [("a", 1000), ("b", 1001), ("c", 1002)] {
        set_expiring(&space, now, key, "1", ttl);
    }
    set_expiring(&space, now, "d", "1234567890123456", 1000);
    let try_set = |offset, key: &str, value: &[u8]| {
        let mut staged = at(now, offset);
        let result = staged.set(&space, &SMALL, key, Some(value));
        space.apply(staged).unwrap();
        result
    };
    let over = |result| matches!(result, Err(KeyError::QuotaExceeded(_)));
    assert!(over(try_set(999, "e", b"1")), "four keys are kept");
    assert_eq!(try_set(1000, "e", b"1234567890123456"), Ok(()));
    assert_eq!(try_set(1002, "f", b"1234567890123456"), Ok(()));
    assert_eq!(try_set(1002, "g", b"1234567890123456"), Ok(()));
    assert!(
        over(try_set(1002, "h", b"1234567890123456")),
        "60 bytes are kept"
    );
    assert_eq!((space.keys(), space.bytes()), (3, 51));
    space.kept().check();
}

#[test]
fn a_call_that_overwrites_expired_keys_is_counted_rightly_when_they_are_swept() {
    let limits = Limits {
        keys: 3,
        changes: 10,
        ..SMALL
    };
    let space = Space::detached("seats");
    let now = soon();
    for key in ["a", "b", "c"] {
        set_expiring(&space, now, key, "1", 1000);
    }
    let mut staged = at(now, 1000);
    let mut set = |key: &str| staged.set(&space, &limits, key, Some(b"2"));
    assert_eq!(set("a"), Ok(()), "it takes the place of the expired one");
    assert_eq!(space.keys(), 3);
    assert_eq!(set("d"), Ok(()));
    assert_eq!(space.keys(), 0, "all were swept to make room");
    assert_eq!(set("e"), Ok(()));
    assert!(matches!(set("f"), Err(KeyError::QuotaExceeded(_))));
    space.apply(staged).unwrap();
    assert_eq!((space.keys(), space.bytes()), (3, 6));
}

use std::{fs, os::unix::fs::symlink};

use serde_json::Value;
use tempfile::TempDir;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

const SMALL: Limits = Limits {
    key: 8,
    value: 16,
    keys: 4,
    total: 60,
    changes: 3,
    changed: 40,
    listed: 3,
    events: 2,
    payload: 32,
    topic: 16,
};

const AMPLE: Limits = Limits {
    key: 1024,
    value: 1 << 20,
    keys: 100_000,
    total: 1 << 30,
    changes: 100_000,
    changed: 1 << 30,
    listed: 100_000,
    events: 100_000,
    payload: 1 << 20,
    topic: 128,
};

fn open() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn set(space: &Space, pairs: &[(&str, &str)]) -> Option<Saved> {
    let mut staged = Staged::default();
    for (key, value) in pairs {
        staged
            .set(space, &AMPLE, key, Some(value.as_bytes()))
            .unwrap();
    }
    space.apply(staged)
}

fn get(space: &Space, key: &str) -> Option<String> {
    let value = Staged::default().get(space, &AMPLE, key).unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

fn publish(space: &Space, payload: &str) {
    let mut staged = Staged::default();
    staged
        .publish(space, &AMPLE, "room", "topic", payload)
        .unwrap();
    assert!(space.apply(staged).is_none(), "no key has changed");
}

fn published(dir: &TempDir) -> Vec<Value> {
    let text = fs::read_to_string(dir.path().join("published.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn payloads(dir: &TempDir) -> Vec<Value> {
    published(dir)
        .iter()
        .map(|line| line["payload"].clone())
        .collect()
}

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
    space.apply(staged);
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
    space.apply(staged);
    assert_eq!(get(&space, "a").as_deref(), Some("1"));
}

#[test]
fn owners_do_not_see_each_others_keys() {
    let (_dir, store) = open();
    set(&store.space("seats"), &[("a", "1")]);
    assert_eq!(get(&store.space("billing"), "a"), None);
}

#[tokio::test]
async fn what_was_saved_is_there_after_a_restart() {
    let (dir, store) = open();
    let space = store.space("seats");
    let saved = set(&space, &[("a", "1"), ("b", "2")]).unwrap();
    saved.wait(LIMIT).await.unwrap();
    let mut staged = Staged::default();
    staged.set(&space, &AMPLE, "b", None).unwrap();
    space.apply(staged).unwrap().wait(LIMIT).await.unwrap();
    drop((space, store));
    let store = Store::open(dir.path()).unwrap();
    let space = store.space("seats");
    assert_eq!(
        (get(&space, "a").as_deref(), get(&space, "b")),
        (Some("1"), None)
    );
}

#[test]
fn closing_writes_what_is_left() {
    let (dir, store) = open();
    set(&store.space("seats"), &[("a", "1")]);
    publish(&store.space("seats"), "{\"n\":1}");
    drop(store);
    assert_eq!(payloads(&dir).len(), 1);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(get(&store.space("seats"), "a").as_deref(), Some("1"));
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
    space.apply(staged);
    let mut staged = Staged::default();
    staged.set(&space, &SMALL, "d", Some(b"1")).unwrap();
    assert!(
        over(staged.set(&space, &SMALL, "e", Some(b"1"))),
        "four keys are kept"
    );
    staged.set(&space, &SMALL, "a", None).unwrap();
    staged.set(&space, &SMALL, "e", Some(b"1")).unwrap();
    space.apply(staged);
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
    space.apply(staged);
    let mut staged = Staged::default();
    staged.set(&space, &SMALL, "d", Some(&[0; 16])).unwrap();
    assert!(
        over(staged.set(&space, &SMALL, "e", Some(&[0; 16]))),
        "60 bytes are kept"
    );
    staged.set(&space, &SMALL, "b", None).unwrap();
    space.apply(staged);
    assert_eq!(space.bytes(), 17 + 17 + 2);
}

#[test]
fn an_event_is_one_line_whatever_its_json_looks_like() {
    let (dir, store) = open();
    let space = store.space("billing");
    let mut staged = Staged::default();
    staged
        .publish(
            &space,
            &AMPLE,
            "räum",
            "billing.started",
            "{\n \"a\":\t\"x\\ny\"\r\n}",
        )
        .unwrap();
    space.apply(staged);
    drop((space, store));
    let [line] = &published(&dir)[..] else {
        panic!("one line")
    };
    assert_eq!(line["plugin"], "billing");
    assert_eq!(line["room"], "räum");
    assert_eq!(line["topic"], "billing.started");
    assert_eq!(line["payload"], serde_json::json!({"a": "x\ny"}));
    let id: uuid::Uuid = serde_json::from_value(line["id"].clone()).unwrap();
    assert_eq!(id.get_version_num(), 7);
    assert!(line["at"].as_u64().unwrap() > 1_700_000_000_000);
}

#[test]
fn topics_and_payloads_are_checked() {
    let (_dir, store) = open();
    let space = store.space("billing");
    let mut staged = Staged::default();
    let mut publish =
        |topic: &str, payload: &str| staged.publish(&space, &SMALL, "room", topic, payload);
    for topic in ["", "Upper", "a b", "ä", "a\n", &"x".repeat(17)] {
        assert_eq!(
            publish(topic, "{}"),
            Err(PublishError::InvalidTopic),
            "{topic:?}"
        );
    }
    for payload in ["", "{", &format!("\"{}\"", "x".repeat(31))] {
        let result = publish("topic", payload);
        assert!(
            matches!(result, Err(PublishError::InvalidPayload(_))),
            "{payload:?}"
        );
    }
    assert_eq!(publish("a.b_c-1", "1"), Ok(()));
    assert_eq!(publish("a", "null"), Ok(()));
    assert_eq!(publish("a", "{}"), Err(PublishError::QuotaExceeded(2)));
}

#[test]
fn restarts_do_not_publish_again() {
    let (dir, store) = open();
    publish(&store.space("billing"), "1");
    publish(&store.space("billing"), "2");
    drop(store);
    for _ in 0..3 {
        drop(Store::open(dir.path()).unwrap());
    }
    assert_eq!(payloads(&dir), [1, 2]);
}

#[test]
fn an_event_whose_line_a_crash_has_torn_or_kept_out_is_published_after_the_restart() {
    for cut in [1, 10] {
        let (dir, store) = open();
        publish(&store.space("billing"), "1");
        publish(&store.space("billing"), "2");
        drop(store);
        let path = dir.path().join("published.jsonl");
        let length = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length - cut)
            .unwrap();
        drop(Store::open(dir.path()).unwrap());
        assert_eq!(
            payloads(&dir).last(),
            Some(&Value::from(2)),
            "{cut} bytes are missing"
        );
        assert_eq!(payloads(&dir).len(), 2, "{cut} bytes are missing");
    }
}

#[tokio::test]
async fn a_full_disk_delays_events_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("published.jsonl");
    symlink("/dev/full", &path).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let space = store.space("billing");
    publish(&space, "1");
    let saved = set(&space, &[("a", "1")]).unwrap();
    saved.wait(LIMIT).await.unwrap();
    assert_eq!(store.flush(Duration::from_millis(200)).await, Err(NotSaved));
    publish(&space, "2");
    fs::remove_file(&path).unwrap();
    store.flush(LIMIT).await.unwrap();
    assert_eq!(payloads(&dir), [1, 2]);
}

#[test]
fn a_second_server_on_the_same_directory_is_told_so() {
    let (dir, _store) = open();
    let error = Store::open(dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("in use by another server"));
}

#[test]
fn a_directory_that_cannot_be_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(&file.join("data")).err().unwrap();
    assert!(matches!(error, StoreError::File { .. }), "{error}");
    assert!(error.to_string().contains("file/data"), "{error}");
}

#[tokio::test]
async fn sets_of_many_threads_are_applied_whole_and_in_one_order() {
    let (dir, store) = open();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let space = store.space("seats");
            std::thread::spawn(move || {
                for n in 0..200 {
                    let value = format!("{thread}/{n}");
                    set(&space, &[("left", &value), ("right", &value)]);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let space = store.space("seats");
    let (left, right) = (get(&space, "left").unwrap(), get(&space, "right").unwrap());
    assert_eq!(left, right);
    drop((space, store));
    let store = Store::open(dir.path()).unwrap();
    let space = store.space("seats");
    assert_eq!(
        (get(&space, "left"), get(&space, "right")),
        (Some(left.clone()), Some(left))
    );
}

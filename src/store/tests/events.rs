use std::os::unix::fs::symlink;

use super::*;

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
    space.apply(staged).unwrap();
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

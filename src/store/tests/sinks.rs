use super::*;
use crate::config::SinkKind;

fn file(name: &str, topics: &[&str]) -> SinkConfig {
    SinkConfig {
        name: name.to_owned(),
        topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
        kind: SinkKind::File {
            file: format!("{name}.jsonl"),
        },
    }
}

fn publish_to(store: &Store, topic: &str, payload: &str) {
    let space = store.space("billing");
    let mut staged = Staged::default();
    staged
        .publish(&space, &AMPLE, "room", topic, payload)
        .unwrap();
    space.apply(staged).unwrap();
}

fn open_with(dir: &TempDir, sinks: &[SinkConfig]) -> Store {
    Store::open_with(dir.path(), &LedgerConfig::default(), sinks).unwrap()
}

fn lines(dir: &TempDir, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.path().join(file)).unwrap();
    let lines = text.lines().map(serde_json::from_str::<Value>);
    lines.map(|line| line.unwrap()["payload"].clone()).collect()
}

#[tokio::test]
async fn each_file_gets_the_topics_that_it_takes_and_one_that_fails_holds_up_none() {
    let dir = tempfile::tempdir().unwrap();
    let stuck = dir.path().join("stuck.jsonl");
    std::os::unix::fs::symlink("/dev/full", &stuck).unwrap();
    let sinks = [
        file("stuck", &[]),
        file("bills", &["billing."]),
        file("none", &["x"]),
    ];
    let store = open_with(&dir, &sinks);
    publish_to(&store, "billing.started", "1");
    publish_to(&store, "bill", "2");
    publish_to(&store, "billing.stopped", "3");
    assert_eq!(store.flush(Duration::from_millis(200)).await, Err(NotSaved));
    assert_eq!(lines(&dir, "bills.jsonl"), [1, 3]);
    assert_eq!(lines(&dir, "none.jsonl"), [0; 0]);
    fs::remove_file(&stuck).unwrap();
    store.flush(LIMIT).await.unwrap();
    assert_eq!(lines(&dir, "stuck.jsonl"), [1, 2, 3]);
}

#[test]
fn a_new_file_gets_what_the_ledger_still_has_and_one_that_was_away_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(&dir, &[file("first", &[])]);
    publish_to(&store, "t", "1");
    drop(store);
    let store = open_with(&dir, &[file("second", &[])]);
    publish_to(&store, "t", "2");
    drop(store);
    assert_eq!(lines(&dir, "second.jsonl"), [1, 2]);
    assert_eq!(lines(&dir, "first.jsonl"), [1]);
    drop(open_with(&dir, &[file("first", &[])]));
    assert_eq!(lines(&dir, "first.jsonl"), [1, 2]);
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_followed_by_a_new_one_that_has_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(&dir, &[file("f", &[])]);
    for n in 0..3 {
        publish_to(&store, "t", &n.to_string());
        store.flush(LIMIT).await.unwrap();
        let (from, to) = (dir.path().join("f.jsonl"), format!("{n}.jsonl"));
        fs::rename(from, dir.path().join(to)).unwrap();
    }
    publish_to(&store, "t", "3");
    publish_to(&store, "t", "4");
    drop(store);
    for n in 0..3 {
        assert_eq!(lines(&dir, &format!("{n}.jsonl")), [n]);
    }
    assert_eq!(lines(&dir, "f.jsonl"), [3, 4]);
}

#[tokio::test]
async fn after_a_restart_the_last_lines_of_a_file_that_was_moved_away_may_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(&dir, &[file("f", &[])]);
    publish_to(&store, "t", "1");
    drop(store);
    fs::rename(dir.path().join("f.jsonl"), dir.path().join("old.jsonl")).unwrap();
    let store = open_with(&dir, &[file("f", &[])]);
    publish_to(&store, "t", "2");
    drop(store);
    assert_eq!(lines(&dir, "old.jsonl"), [1]);
    // That the file had it was to be written with the next transaction.
    assert_eq!(lines(&dir, "f.jsonl"), [1, 2]);
}

#[tokio::test]
async fn a_file_that_has_much_to_catch_up_with_gets_all_of_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(&dir, &[]);
    for n in 0..10_000 {
        publish_to(&store, "t", &n.to_string());
    }
    drop(store);
    let store = open_with(&dir, &[file("late", &[])]);
    store.flush(LIMIT).await.unwrap();
    drop(store);
    assert_eq!(lines(&dir, "late.jsonl"), (0..10_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_position_is_what_was_last_reached_and_outlives_a_restart() {
    let (dir, store) = open();
    let sink = store.sink("hook");
    assert_eq!(sink.position().unwrap(), Position::default());
    let reached = Position {
        cursor: 3,
        ahead: vec![(5, 6), (9, 9)],
    };
    sink.reached(Position::default());
    sink.reached(reached.clone());
    store.flush(LIMIT).await.unwrap();
    assert_eq!(sink.position().unwrap(), reached);
    drop((sink, store));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.sink("hook").position().unwrap(), reached);
    assert_eq!(store.sink("other").position().unwrap(), Position::default());
}

#[tokio::test]
async fn what_a_sink_has_not_taken_is_kept_and_what_it_has_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let keep = LedgerConfig {
        entries: 2,
        ..LedgerConfig::default()
    };
    let hook = SinkConfig {
        name: "hook".to_owned(),
        topics: Vec::new(),
        kind: SinkKind::Webhook(crate::config::WebhookConfig::new(
            "http://localhost".parse().unwrap(),
            Vec::new(),
        )),
    };
    let store = Store::open_with(dir.path(), &keep, &[hook, file("f", &[])]).unwrap();
    for n in 0..6 {
        publish_to(&store, "t", &n.to_string());
    }
    store.flush(LIMIT).await.unwrap();
    store.sink("hook").reached(Position {
        cursor: 3,
        ahead: vec![(5, 6)],
    });
    let mut extent = store.ledger().extent;
    let cut = extent.wait_for(|extent| extent.anchor.seq > 0);
    assert_eq!(
        tokio::time::timeout(LIMIT, cut)
            .await
            .unwrap()
            .unwrap()
            .anchor
            .seq,
        3
    );
}

fn letter(problem: &str) -> DeadLetter {
    DeadLetter {
        at: UnixMs(1),
        tries: 2,
        problem: problem.to_owned(),
        retry: false,
        entry: "{\"seq\":1}".to_owned(),
    }
}

#[tokio::test]
async fn dead_letters_of_a_sink_are_listed_replaced_removed_and_counted() {
    let (dir, store) = open();
    let (sink, other) = (store.sink("hook"), store.sink("hook2"));
    let put = |letters: Vec<(u64, Option<DeadLetter>)>| sink.put_letters(letters).wait(LIMIT);
    put((1..=5).map(|seq| (seq, Some(letter("a")))).collect())
        .await
        .unwrap();
    put(vec![(2, Some(letter("b"))), (4, None), (9, None)])
        .await
        .unwrap();
    other
        .put_letters([(3, Some(letter("c")))])
        .wait(LIMIT)
        .await
        .unwrap();
    assert_eq!((sink.dead_letters(), other.dead_letters()), (4, 1));
    let page = sink.letters(None, 2).unwrap();
    assert_eq!(page.letters, [(1, letter("a")), (2, letter("b"))]);
    let page = sink.letters(page.next, 2).unwrap();
    assert_eq!(page.letters, [(3, letter("a")), (5, letter("a"))]);
    assert_eq!(page.next, None);
    assert_eq!(sink.letter(2).unwrap(), Some(letter("b")));
    assert_eq!(sink.letter(4).unwrap(), None);
    drop((sink, other, store));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.sink("hook").dead_letters(), 4);
}

use redb::ReadableTable;

use super::*;
use crate::store::{
    ledger::{Broken, LEDGER, LedgerError, Portion, Seal, VerifyError, verify},
    sinks::POSITIONS,
};

const ALL: Portion = Portion {
    entries: usize::MAX,
    bytes: usize::MAX,
};

pub(super) fn entries(store: &Store) -> Vec<Value> {
    let ledger = store.ledger();
    let span = ledger.read(ledger.extent().anchor.seq, ALL).unwrap();
    let mut seal = span.after;
    let entries = span.entries.iter().map(|entry| {
        let line = entry.json();
        seal = seal.check(&line).unwrap();
        serde_json::from_str(&line).unwrap()
    });
    let entries = entries.collect();
    assert_eq!(seal, ledger.extent().head);
    entries
}

fn seqs(store: &Store) -> Vec<u64> {
    let entries = entries(store);
    entries.iter().map(|e| e["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn what_is_published_is_an_entry_with_where_it_comes_from() {
    let (dir, store) = open();
    let space = store.space("billing");
    let mut staged = Staged::default();
    let producer = crate::model::ProducerId(Uuid::now_v7());
    staged.about(Some(crate::model::UserId(7)), Some(producer));
    staged
        .publish(
            &space,
            &AMPLE,
            "räum",
            "billing.started",
            "{\"b\": 1.50, \"a\": 1e3}",
        )
        .unwrap();
    space.apply(staged).unwrap();
    publish(&space, "null");
    store.flush(LIMIT).await.unwrap();
    let [first, second] = &entries(&store)[..] else {
        panic!("two entries")
    };
    assert_eq!(first["seq"], 1);
    assert_eq!(first["user"], 7);
    assert_eq!(first["producer"], producer.to_string());
    assert_eq!(first["plugin"], "billing");
    assert_eq!(first["room"], "räum");
    assert_eq!(first["payload"].to_string(), "{\"a\":1000,\"b\":1.5}");
    assert_eq!((&second["seq"], &second["user"]), (&2.into(), &Value::Null));
    // The file has the same.
    assert_eq!(published(&dir), [first.clone(), second.clone()]);
}

#[test]
fn numbers_go_on_after_a_restart_and_the_chain_holds() {
    let dir = tempfile::tempdir().unwrap();
    for start in 0..3 {
        let store = Store::open(dir.path()).unwrap();
        for n in 0..10 {
            publish(&store.space("billing"), &(start * 10 + n).to_string());
        }
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(seqs(&store), (1..=30).collect::<Vec<_>>());
    drop(store);
    assert_eq!(payloads(&dir), (0..30).collect::<Vec<_>>());
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.entries, verified.head.seq), (30, 30));
}

#[tokio::test]
async fn an_entry_is_there_when_the_keys_beside_it_are_and_not_before() {
    let (dir, store) = open();
    let space = store.space("billing");
    let mut staged = Staged::default();
    staged.set(&space, &AMPLE, "a", Some(b"1")).unwrap();
    staged.publish(&space, &AMPLE, "r", "t", "1").unwrap();
    let saved = space.apply(staged).unwrap().unwrap();
    saved.wait(LIMIT).await.unwrap();
    assert_eq!(seqs(&store), [1]);
    // As a crash leaves it between the commit and the file.
    drop(store);
    fs::remove_file(dir.path().join("published.jsonl")).unwrap();
    set_cursor(&dir, 0);
    let store = Store::open(dir.path()).unwrap();
    store.flush(LIMIT).await.unwrap();
    assert_eq!(seqs(&store), [1]);
    drop(store);
    assert_eq!(payloads(&dir), [1]);
}

fn change(dir: &TempDir, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::create(dir.path().join("plugins.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn set_cursor(dir: &TempDir, cursor: u64) {
    change(dir, |transaction| {
        let mut table = transaction.open_table(POSITIONS).unwrap();
        table.insert("published", (cursor, Vec::new())).unwrap();
    });
}

#[test]
fn a_file_that_is_behind_its_cursor_by_a_crash_gets_each_line_once() {
    for behind in [0, 1, 2, 3] {
        let (dir, store) = open();
        for n in 0..3 {
            publish(&store.space("billing"), &n.to_string());
        }
        drop(store);
        // The lines are in the file, and that they are was not saved any more.
        set_cursor(&dir, 3 - behind);
        drop(Store::open(dir.path()).unwrap());
        assert_eq!(payloads(&dir), [0, 1, 2], "{behind} behind");
    }
}

#[test]
fn a_file_that_is_ahead_of_an_older_copy_of_the_database_gets_what_comes() {
    let (dir, store) = open();
    publish(&store.space("billing"), "1");
    drop(store);
    set_cursor(&dir, 9);
    let store = Store::open(dir.path()).unwrap();
    publish(&store.space("billing"), "2");
    drop(store);
    assert_eq!(payloads(&dir), [1, 2]);
}

#[test]
fn a_changed_a_missing_and_a_cut_off_entry_are_found() {
    let written = || {
        let (dir, store) = open();
        for n in 0..5 {
            publish(
                &store.space("billing"),
                &format!("{{\"cents\":{}}}", 100 * n),
            );
        }
        drop(store);
        assert_eq!(verify(dir.path()).unwrap().entries, 5);
        dir
    };
    let broken = |dir: &TempDir| match verify(dir.path()).unwrap_err() {
        VerifyError::Broken(broken) => broken,
        error => panic!("{error}"),
    };
    let dir = written();
    change(&dir, |transaction| {
        let mut table = transaction.open_table(LEDGER).unwrap();
        let row = table.get(3).unwrap().unwrap();
        let (hash, text) = row.value();
        let (hash, text) = (*hash, text.replace("200", "100"));
        drop(row);
        table.insert(3, (&hash, text.as_str())).unwrap();
    });
    let found = broken(&dir);
    assert!(matches!(found, Broken::Changed { seq: 3, .. }), "{found}");

    let dir = written();
    change(&dir, |transaction| {
        transaction.open_table(LEDGER).unwrap().remove(2).unwrap();
    });
    let (expected, found) = (2, 3);
    assert_eq!(broken(&dir), Broken::Gap { expected, found });

    let dir = written();
    change(&dir, |transaction| {
        transaction.open_table(LEDGER).unwrap().remove(5).unwrap();
    });
    let (expected, found) = (5, 4);
    assert_eq!(broken(&dir), Broken::End { expected, found });
}

#[test]
fn verification_says_that_a_server_runs_and_where_there_is_nothing() {
    let (dir, _store) = open();
    let error = verify(dir.path()).unwrap_err();
    assert!(matches!(error, VerifyError::InUse { .. }), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = verify(empty.path()).unwrap_err();
    assert!(matches!(error, VerifyError::Database { .. }), "{error}");
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
}

#[test]
fn a_new_ledger_verifies() {
    let (dir, store) = open();
    drop(store);
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.entries, verified.head), (0, Seal::START));
}

#[tokio::test]
async fn portions_follow_each_other_and_what_never_was_is_told() {
    let (_dir, store) = open();
    for n in 0..10 {
        publish(&store.space("billing"), &n.to_string());
    }
    store.flush(LIMIT).await.unwrap();
    let ledger = store.ledger();
    let read = |after, entries, bytes| {
        let span = ledger.read(after, Portion { entries, bytes }).unwrap();
        let seqs: Vec<u64> = span.entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(span.next(), seqs.last().copied().unwrap_or(after));
        (span.after.seq, seqs)
    };
    assert_eq!(read(0, 3, usize::MAX), (0, vec![1, 2, 3]));
    assert_eq!(read(3, 3, usize::MAX), (3, vec![4, 5, 6]));
    assert_eq!(read(3, 9, 1), (3, vec![4]), "one, however long");
    assert_eq!(read(10, 9, 1), (10, vec![]));
    assert_eq!(ledger.entry(7).unwrap().seq, 7);
    for after in [11, u64::MAX] {
        let error = ledger.read(after, ALL).unwrap_err();
        assert!(
            matches!(error, LedgerError::Ahead { last: 10, .. }),
            "{error}"
        );
    }
    assert!(!ledger.grown(10, Duration::ZERO).await);
    assert!(ledger.grown(9, Duration::ZERO).await);
    let grown = ledger.grown(10, LIMIT);
    publish(&store.space("billing"), "10");
    assert!(grown.await);
}

#[tokio::test]
async fn what_need_not_be_kept_goes_and_the_rest_still_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let keep = LedgerConfig {
        entries: 4,
        ..LedgerConfig::default()
    };
    let sinks = [SinkConfig::published()];
    let store = Store::open_with(dir.path(), &keep, &sinks).unwrap();
    for n in 0..20 {
        publish(&store.space("billing"), &n.to_string());
    }
    let ledger = store.ledger();
    let mut extent = ledger.extent.clone();
    let cut = extent.wait_for(|extent| extent.anchor.seq == 16);
    tokio::time::timeout(LIMIT, cut).await.unwrap().unwrap();
    assert_eq!(seqs(&store), [17, 18, 19, 20]);
    let error = ledger.read(15, ALL).unwrap_err();
    assert!(
        matches!(error, LedgerError::Gone { first: 17, .. }),
        "{error}"
    );
    drop((ledger, extent, store));
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.entries, verified.anchor.seq), (4, 16));
    assert_eq!(
        payloads(&dir),
        (0..20).collect::<Vec<_>>(),
        "the file has all"
    );

    // All may be too old, and the numbers go on all the same.
    let keep = LedgerConfig {
        age: Duration::ZERO,
        ..keep
    };
    let store = Store::open_with(dir.path(), &keep, &sinks).unwrap();
    let mut extent = store.ledger().extent;
    let cut = extent.wait_for(|extent| extent.entries() == 0);
    tokio::time::timeout(LIMIT, cut).await.unwrap().unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    publish(&store.space("billing"), "20");
    store.flush(LIMIT).await.unwrap();
    assert_eq!(seqs(&store), [21]);
}

#[tokio::test]
async fn a_file_that_holds_much_more_than_is_kept_is_made_shorter_at_the_next_start() {
    const MIB: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let length = || fs::metadata(dir.path().join("plugins.redb")).unwrap().len();
    let large = format!("\"{}\"", "x".repeat(1 << 19));
    let store = Store::open_with(dir.path(), &LedgerConfig::default(), &[]).unwrap();
    set(&store.space("seats"), &[("a", "1")]);
    for _ in 0..160 {
        publish(&store.space("billing"), &large);
    }
    drop(store);
    let full = length();
    assert!(full > 80 * MIB, "{full}");
    let keep = LedgerConfig {
        entries: 2,
        ..LedgerConfig::default()
    };
    // Nothing is known yet of what will be cut.
    let store = Store::open_with(dir.path(), &keep, &[]).unwrap();
    let mut extent = store.ledger().extent;
    let cut = extent.wait_for(|extent| extent.entries() == 2);
    tokio::time::timeout(LIMIT, cut).await.unwrap().unwrap();
    drop(store);
    assert!(length() > 64 * MIB, "{}", length());
    let store = Store::open_with(dir.path(), &keep, &[]).unwrap();
    assert!(length() < 16 * MIB, "{}", length());
    assert_eq!(seqs(&store), [159, 160]);
    assert_eq!(get(&store.space("seats"), "a").as_deref(), Some("1"));
    publish(&store.space("billing"), "1");
    drop(store);
    assert_eq!(verify(dir.path()).unwrap().head.seq, 161);
}

#[tokio::test]
async fn many_who_publish_at_once_leave_no_gap() {
    let (_dir, store) = open();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let space = store.space(&format!("p{thread}"));
            std::thread::spawn(move || {
                for n in 0..250 {
                    publish(&space, &n.to_string());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    store.flush(LIMIT).await.unwrap();
    let entries = entries(&store);
    assert_eq!(entries.len(), 1000);
    for thread in 0..4 {
        let of = format!("p{thread}");
        let own = entries.iter().filter(|entry| entry["plugin"] == of);
        let payloads: Vec<_> = own.map(|entry| entry["payload"].clone()).collect();
        assert_eq!(payloads, (0..250).collect::<Vec<_>>(), "in order");
    }
}

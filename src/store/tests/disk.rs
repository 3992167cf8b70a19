use redb::TableDefinition;
use sha2::{Digest, Sha256};

use super::*;
use crate::store::format::{FORMAT, FORMAT_KEY, META};

#[tokio::test]
async fn what_was_saved_is_there_after_a_restart() {
    let (dir, store) = open();
    let space = store.space("seats");
    let saved = set(&space, &[("a", "1"), ("b", "2")]).unwrap();
    saved.wait(LIMIT).await.unwrap();
    let mut staged = Staged::default();
    staged.set(&space, &AMPLE, "b", None).unwrap();
    space
        .apply(staged)
        .unwrap()
        .unwrap()
        .wait(LIMIT)
        .await
        .unwrap();
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

/// A database as servers wrote it before there were expiries, timers and dead letters.
fn write_format_1(path: &Path) {
    const KEYS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("keys");
    const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox");
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert("format", 1).unwrap();
    drop(meta);
    let mut keys = transaction.open_table(KEYS).unwrap();
    keys.insert(("seats", "a"), b"1".as_slice()).unwrap();
    keys.insert(("billing", "b"), b"2".as_slice()).unwrap();
    drop(keys);
    let mut outbox = transaction.open_table(OUTBOX).unwrap();
    let line = br#"{"at":1,"id":"x","plugin":"billing","room":"r","topic":"t","payload":7}"#;
    outbox.insert(3, line.as_slice()).unwrap();
    drop(outbox);
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_database_of_format_1_is_upgraded_in_place() {
    let dir = tempfile::tempdir().unwrap();
    write_format_1(&dir.path().join("plugins.redb"));
    for _ in 0..2 {
        let store = Store::open(dir.path()).unwrap();
        let space = store.space("seats");
        assert_eq!(get(&space, "a").as_deref(), Some("1"));
        assert_eq!(get(&store.space("billing"), "b").as_deref(), Some("2"));
        assert_eq!(
            at(UnixMs(u64::MAX), 0)
                .list(&space, &AMPLE, "", None, 9)
                .unwrap()
                .len(),
            1
        );
        assert_eq!(space.next_due(), None);
        let mut staged = Staged::default();
        let far = 400 * 86_400_000;
        staged
            .set_timer(&space, &AMPLE, &room("r"), "t", far, None)
            .unwrap();
        staged
            .cancel_timer(&space, &AMPLE, &room("r"), "t")
            .unwrap();
        staged.set_expiring(&space, &AMPLE, "a", b"1", far).unwrap();
        staged.set(&space, &AMPLE, "a", Some(b"1")).unwrap();
        let saved = space.apply(staged).unwrap().unwrap();
        saved.wait(LIMIT).await.unwrap();
    }
    assert_eq!(payloads(&dir), [7]);
}

/// A database as servers wrote it before they noted facts.
fn write_format_3(path: &Path) {
    const KEYS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("keys");
    const EXPIRIES: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("expiries");
    const TIMERS: TableDefinition<'_, (&str, &str, &str), (u64, Option<u64>)> =
        TableDefinition::new("timers");
    const DEAD_LETTERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dead_letters");
    type Run = (u64, u64);
    const SINKS: TableDefinition<'_, &str, (u64, Vec<Run>)> = TableDefinition::new("sinks");
    const SINK_LETTERS: TableDefinition<'_, (&str, u64), &[u8]> =
        TableDefinition::new("sink_letters");
    const LEDGER: TableDefinition<'_, u64, (&[u8; 32], &str)> = TableDefinition::new("ledger");
    const SEALS: TableDefinition<'_, &str, (u64, &[u8; 32])> = TableDefinition::new("ledger_seals");
    const SUMS: TableDefinition<'_, &str, u64> = TableDefinition::new("ledger_sums");
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert("format", 3).unwrap();
    let mut keys = transaction.open_table(KEYS).unwrap();
    keys.insert(("seats", "a"), b"1".as_slice()).unwrap();
    let mut timers = transaction.open_table(TIMERS).unwrap();
    timers.insert(("seats", "r", "t"), (7, None)).unwrap();
    let mut letters = transaction.open_table(DEAD_LETTERS).unwrap();
    letters.insert(0, br#"{"id":"x"}"#.as_slice()).unwrap();
    // The first entry is no longer there, the second is in the file already.
    let mut ledger = transaction.open_table(LEDGER).unwrap();
    let mut seals = transaction.open_table(SEALS).unwrap();
    seals.insert("anchor", (1, &[7; 32])).unwrap();
    let mut hash = [7; 32];
    let mut bytes = 0;
    for seq in 2..=3 {
        let text = format!(
            "{{\"at\":{},\"id\":\"{}\",\"payload\":{seq},\"plugin\":\"billing\",\"producer\":null,\
             \"room\":\"r\",\"seq\":{seq},\"topic\":\"t\",\"user\":null}}",
            UnixMs::now().0,
            Uuid::from_u128(seq.into()),
        );
        let chained = Sha256::new().chain_update(hash).chain_update(&text);
        hash = chained.finalize().into();
        bytes += text.len() as u64;
        ledger.insert(seq, (&hash, text.as_str())).unwrap();
    }
    seals.insert("head", (3, &hash)).unwrap();
    let mut sums = transaction.open_table(SUMS).unwrap();
    sums.insert("bytes", bytes).unwrap();
    let mut sinks = transaction.open_table(SINKS).unwrap();
    sinks.insert("published", (2, Vec::new())).unwrap();
    drop(transaction.open_table(EXPIRIES).unwrap());
    drop(transaction.open_table(SINK_LETTERS).unwrap());
    drop((meta, keys, timers, letters, ledger, seals, sums, sinks));
    transaction.commit().unwrap();
}

#[test]
fn a_database_of_format_3_keeps_its_ledger_and_takes_facts() {
    let dir = tempfile::tempdir().unwrap();
    write_format_3(&dir.path().join("plugins.redb"));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.owed("seats"), store.open_rows()), (vec![], vec![]));
    let noted = store.note(&Note {
        id: Uuid::nil(),
        at: UnixMs(1),
        topic: "room.closed",
        room: "r",
        user: None,
        producer: None,
        payload: &4.into(),
        owed: &[("seats".into(), [1].into())],
        open: &[("r".to_owned(), Some([2].into()))],
    });
    assert!(noted.is_ok());
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let space = store.space("seats");
    assert_eq!(get(&space, "a").as_deref(), Some("1"));
    assert_eq!(space.next_due(), Some(UnixMs(7)));
    assert_eq!(store.dead_letters(0, 9).unwrap().lines, [r#"{"id":"x"}"#]);
    assert_eq!(store.owed("seats").len(), 1);
    assert_eq!(store.open_rows(), [("r".to_owned(), [2].into())]);
    drop((space, store));
    assert_eq!(payloads(&dir), [3], "what the file had is not repeated");
    let verified = crate::store::ledger::verify(dir.path()).unwrap();
    assert_eq!((verified.anchor.seq, verified.head.seq), (1, 4));
}

#[test]
fn a_database_of_a_later_format_is_refused_and_left_alone() {
    let (dir, store) = open();
    set(&store.space("seats"), &[("a", "1")]);
    drop(store);
    let path = dir.path().join("plugins.redb");
    let write = |format: u64| {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert(FORMAT_KEY, format).unwrap();
        drop(meta);
        transaction.commit().unwrap();
    };
    write(FORMAT + 1);
    let error = Store::open(dir.path()).err().unwrap();
    assert!(
        matches!(
            error,
            StoreError::Format {
                found: 5,
                known: 4,
                ..
            }
        ),
        "{error}"
    );
    write(FORMAT);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(get(&store.space("seats"), "a").as_deref(), Some("1"));
}

use redb::TableDefinition;

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
                found: 4,
                known: 3,
                ..
            }
        ),
        "{error}"
    );
    write(FORMAT);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(get(&store.space("seats"), "a").as_deref(), Some("1"));
}

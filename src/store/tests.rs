mod dead_letters;
mod detached;
mod disk;
mod events;
mod expiry;
mod health;
mod journal;
mod keys;
mod ledger;
mod model;
mod sinks;
mod timers;
mod transactions;

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::model::RoomId;

const LIMIT: Duration = Duration::from_secs(20);

const SMALL: Limits = Limits {
    key: 8,
    value: 16,
    keys: 4,
    total: 60,
    timers: 2,
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
    timers: 100_000,
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
    space.apply(staged).unwrap()
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
    assert!(space.apply(staged).unwrap().is_none(), "no key has changed");
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

/// A call at that time, in milliseconds since now: the sweep goes by the machine's clock.
fn at(base: UnixMs, offset: u64) -> Staged {
    Staged::new(UnixMs(base.0 + offset))
}

fn text(value: Option<Arc<[u8]>>) -> Option<String> {
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn room(id: &str) -> RoomId {
    RoomId::new(id).unwrap()
}

fn rows<K: redb::Key + 'static, V: redb::Value + 'static>(
    dir: &TempDir,
    table: redb::TableDefinition<'_, K, V>,
) -> u64 {
    use redb::{ReadableDatabase, ReadableTableMetadata};
    let database = redb::Database::open(dir.path().join("plugins.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    transaction.open_table(table).unwrap().len().unwrap()
}

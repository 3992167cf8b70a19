use serde_json::json;

use super::{
    health::{open_on_filling_disk, until},
    ledger::entries,
    *,
};
use crate::model::{ProducerId, UserId};

mod killed;

/// Ids that do not grow with time, so that no order comes from them.
fn fact(n: u8) -> Uuid {
    Uuid::from_bytes([255 - n; 16])
}

/// Notes that there is something to tell, and that a row is open with it.
fn note(store: &Store, n: u8, owners: &[&str]) -> Saved {
    let call = |owner: &&str| (Arc::from(*owner), Box::from([n].as_slice()));
    let owed: Vec<_> = owners.iter().map(call).collect();
    let note = Note {
        id: fact(n),
        at: UnixMs(u64::from(n)),
        topic: "media.first-rtp",
        room: "r",
        user: Some(UserId(7)),
        producer: None,
        payload: &json!(n),
        owed: &owed,
        open: &[(format!("p{n}"), Some(Box::from([n].as_slice())))],
    };
    store.note(&note).unwrap()
}

fn settling(n: u8) -> Staged {
    let mut staged = Staged::default();
    staged.settles(fact(n));
    staged
}

fn row(key: &str, value: &str) -> (String, Box<[u8]>) {
    (key.to_owned(), value.as_bytes().into())
}

fn change(key: &str, value: Option<&str>) -> (String, Option<Box<[u8]>>) {
    let value = value.map(|value| value.as_bytes().into());
    (key.to_owned(), value)
}

/// What the owner is owed, by the numbers of the notes.
fn owed(store: &Store, owner: &str) -> Vec<u8> {
    let owed = store.owed(owner);
    let number = |owed: &Owed| {
        assert_eq!(owed.fact, fact(owed.call[0]));
        owed.call[0]
    };
    owed.iter().map(number).collect()
}

fn reopen(dir: &TempDir, store: Store) -> Store {
    drop(store);
    Store::open(dir.path()).unwrap()
}

#[tokio::test]
async fn a_note_is_an_entry_of_the_server_itself_and_is_owed_after_a_restart() {
    let (dir, store) = open();
    let producer = ProducerId(Uuid::now_v7());
    let noted = store.note(&Note {
        id: fact(1),
        at: UnixMs(5),
        topic: "media.closed",
        room: "räum",
        user: Some(UserId(7)),
        producer: Some(producer),
        payload: &json!({ "packets": 3 }),
        owed: &[("billing".into(), [1].into()), ("seats".into(), [1].into())],
        open: &[change("a", Some("1")), change("b", None)],
    });
    noted.unwrap().wait(LIMIT).await.unwrap();
    let entries = entries(&store);
    let [entry] = &entries[..] else {
        panic!("{entries:?}")
    };
    let hash = entry["hash"].clone();
    assert_eq!(
        *entry,
        json!({
            "at": 5, "id": fact(1), "payload": { "packets": 3 }, "plugin": null,
            "producer": producer, "room": "räum", "seq": 1, "topic": "media.closed",
            "user": 7, "hash": hash,
        })
    );
    assert_eq!(owed(&store, "billing"), [0; 0], "only from earlier runs");
    assert_eq!(store.open_rows(), []);
    let store = reopen(&dir, store);
    assert_eq!(owed(&store, "billing"), [1]);
    assert_eq!(owed(&store, "billing"), [0; 0], "given out once");
    assert_eq!(owed(&store, "nobody"), [0; 0]);
    assert_eq!(store.open_rows(), [row("a", "1")]);
    assert_eq!(store.open_rows(), [], "given out once");
    let store = reopen(&dir, store);
    assert_eq!(owed(&store, "billing"), [1], "it is owed all the same");
    assert_eq!(owed(&store, "seats"), [1]);
    assert_eq!(store.open_rows(), [row("a", "1")]);
}

#[test]
fn what_is_owed_comes_in_the_order_of_the_notes_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    for start in 0..3 {
        let store = Store::open(dir.path()).unwrap();
        for n in 0..3 {
            note(&store, start * 3 + n, &["billing"]);
        }
        if start == 1 {
            let space = store.space("billing");
            space.apply(settling(1)).unwrap();
            space.apply(settling(5)).unwrap();
        }
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(owed(&store, "billing"), [0, 2, 3, 4, 6, 7, 8]);
}

#[test]
fn a_fact_that_was_settled_is_not_owed_any_more_by_this_owner() {
    let (dir, store) = open();
    for n in 1..=3 {
        note(&store, n, &["billing", "seats"]);
    }
    let space = store.space("billing");
    let mut staged = settling(1);
    staged.set(&space, &AMPLE, "a", Some(b"1")).unwrap();
    assert!(space.apply(staged).unwrap().is_some());
    let staged = settling(3);
    assert!(staged.is_empty(), "it takes no part in what may conflict");
    assert!(
        space.apply(staged).unwrap().is_none(),
        "nothing that an answer would wait for"
    );
    drop(space);
    let store = reopen(&dir, store);
    assert_eq!(owed(&store, "billing"), [2]);
    assert_eq!(owed(&store, "seats"), [1, 2, 3]);
    assert_eq!(get(&store.space("billing"), "a").as_deref(), Some("1"));
}

#[test]
fn an_owner_settles_its_own_facts_only_and_one_that_is_not_owed_is_no_matter() {
    let (dir, store) = open();
    note(&store, 1, &["billing"]);
    store.space("seats").apply(settling(1)).unwrap();
    store.space("billing").apply(settling(2)).unwrap();
    let copy = Space::copy_of(&store.space("billing"));
    assert!(copy.apply(settling(1)).unwrap().is_none());
    let store = reopen(&dir, store);
    assert_eq!(owed(&store, "billing"), [1]);
}

#[test]
fn a_call_that_conflicts_settles_nothing_and_its_rerun_settles_once() {
    let (dir, store) = open();
    let space = store.space("billing");
    let count = |n: u8| {
        let mut staged = settling(n);
        staged.increment(&space, &AMPLE, "calls", 1).unwrap();
        staged.publish(&space, &AMPLE, "r", "t", "1").unwrap();
        staged
    };
    let looked = |n: u8| {
        let mut staged = settling(n);
        let same = staged.compare_and_set(&space, &AMPLE, "calls", Some(b"x"), None);
        assert_eq!(same, Ok(false));
        staged
    };
    for n in 1..=3 {
        note(&store, n, &["billing"]);
    }
    let (first, second, third) = (count(1), count(2), looked(3));
    space.apply(first).unwrap();
    space.apply(second).unwrap_err();
    space.apply(third).unwrap_err();
    let (copy, _kept) = copy_of(&dir, &store);
    assert_eq!(owed(&copy, "billing"), [2, 3]);
    space.apply(count(2)).unwrap();
    space.apply(looked(3)).unwrap();
    drop(space);
    let store = reopen(&dir, store);
    assert_eq!(owed(&store, "billing"), [0; 0]);
    assert_eq!(get(&store.space("billing"), "calls").as_deref(), Some("2"));
    assert_eq!(payloads(&dir), [1, 1], "what plugins publish");
}

/// What a server finds that starts on a copy of the database of one that runs.
fn copy_of(dir: &TempDir, store: &Store) -> (Store, TempDir) {
    let flushed = store.flush(LIMIT);
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(flushed)
        .unwrap();
    let copy = tempfile::tempdir().unwrap();
    let file = "plugins.redb";
    fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    (Store::open(copy.path()).unwrap(), copy)
}

#[test]
fn a_fact_that_is_given_up_is_a_dead_letter_and_not_owed() {
    let (dir, store) = open();
    note(&store, 1, &["billing", "seats"]);
    let letter = json!({ "id": "x", "fact": fact(1) });
    store.forgive("billing", fact(1), letter.clone()).unwrap();
    let store = reopen(&dir, store);
    assert_eq!(owed(&store, "billing"), [0; 0]);
    assert_eq!(owed(&store, "seats"), [1]);
    let page = store.dead_letters(0, 9).unwrap();
    assert_eq!(page.lines, [letter.to_string()]);
}

#[tokio::test]
async fn a_disk_that_fails_for_a_while_changes_neither_order_nor_outcome() {
    let (dir, store, full) = open_on_filling_disk();
    note(&store, 1, &["billing"]).wait(LIMIT).await.unwrap();
    full.store(true, std::sync::atomic::Ordering::SeqCst);
    let second = note(&store, 2, &["billing"]);
    until(&store, |health| !health.is_durable()).await;
    let again = second.clone();
    assert_eq!(again.wait(Duration::from_millis(50)).await, Err(NotSaved));
    let third = note(&store, 3, &["billing"]);
    // Told before the trouble began.
    store.space("billing").apply(settling(1)).unwrap();
    store
        .keep_open(vec![change("p2", None), change("p3", Some("new"))])
        .unwrap();
    full.store(false, std::sync::atomic::Ordering::SeqCst);
    second.wait(LIMIT).await.unwrap();
    third.wait(LIMIT).await.unwrap();
    let topics = entries(&store);
    let topics: Vec<_> = topics
        .iter()
        .map(|entry| entry["payload"].clone())
        .collect();
    assert_eq!(topics, [1, 2, 3]);
    let store = reopen(&dir, store);
    assert_eq!(owed(&store, "billing"), [2, 3]);
    assert_eq!(store.open_rows(), [row("p1", "\u{1}"), row("p3", "new")]);
}

#[tokio::test]
async fn of_a_row_that_is_kept_open_only_the_latest_value_waits_for_the_disk() {
    let (dir, store, full) = open_on_filling_disk();
    full.store(true, std::sync::atomic::Ordering::SeqCst);
    let large = "x".repeat(1 << 20);
    for n in 0..600 {
        let value = format!("{n}{large}");
        let kept = store.keep_open(vec![change("a", Some(&value))]);
        assert_eq!(kept, Ok(()), "so many of them would fill the backlog");
    }
    until(&store, |health| !health.is_durable()).await;
    store.keep_open(vec![change("a", Some("last"))]).unwrap();
    full.store(false, std::sync::atomic::Ordering::SeqCst);
    store.flush(LIMIT).await.unwrap();
    let store = reopen(&dir, store);
    assert_eq!(store.open_rows(), [row("a", "last")]);
}

#[test]
fn a_row_that_is_over_is_not_opened_again_by_a_late_value() {
    let (dir, store) = open();
    store
        .keep_open(vec![change("a", Some("1")), change("b", Some("1"))])
        .unwrap();
    let store = reopen(&dir, store);
    let refresh = |value| {
        let rows = ["a", "b", "c"].map(|key| row(key, value));
        store.refresh_open(rows.to_vec()).unwrap();
    };
    refresh("2");
    let over = Note {
        id: fact(1),
        at: UnixMs(1),
        topic: "media.closed",
        room: "r",
        user: None,
        producer: None,
        payload: &Value::Null,
        owed: &[],
        open: &[change("a", None)],
    };
    store.note(&over).unwrap();
    refresh("3");
    let store = reopen(&dir, store);
    assert_eq!(store.open_rows(), [row("b", "3")]);
}

#[tokio::test]
async fn a_note_is_refused_where_too_much_waits_and_nothing_of_it_is_done() {
    let (_dir, store, full) = open_on_filling_disk();
    full.store(true, std::sync::atomic::Ordering::SeqCst);
    let large = "x".repeat(32 << 20);
    let refused = async {
        for n in 0.. {
            let value = if n < 9 { large.as_str() } else { "" };
            if store.keep_open(vec![change(&n.to_string(), Some(value))]) == Err(DiskBehind) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, refused).await.unwrap();
    let note = Note {
        id: fact(1),
        at: UnixMs(1),
        topic: "t",
        room: "r",
        user: None,
        producer: None,
        payload: &Value::Null,
        owed: &[],
        open: &[change("new", Some("1"))],
    };
    // The writer may just be holding what it tries to write.
    let refused = async {
        while store.note(&note).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, refused).await.unwrap();
}

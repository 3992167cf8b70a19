use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;
use crate::store::disk::DEAD_LETTERS;

fn letters(dir: &TempDir) -> Vec<Value> {
    let text = fs::read_to_string(dir.path().join("dead-letters.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn numbers(dir: &TempDir) -> Vec<u64> {
    let letters = letters(dir);
    letters.iter().map(|l| l["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_dead_letter_is_a_line_with_an_id_of_its_own() {
    let (dir, store) = open();
    store.dead_letter(json!({"plugin": "seats"})).unwrap();
    store.dead_letter(json!({"plugin": "seats"})).unwrap();
    store.dead_letter(json!({"id": 7})).unwrap();
    store.dead_letter(json!("torn\nline")).unwrap();
    store.flush(LIMIT).await.unwrap();
    let letters = letters(&dir);
    assert_eq!(letters.len(), 4);
    assert_eq!(letters[0]["plugin"], "seats");
    assert_ne!(letters[0]["id"], letters[1]["id"]);
    assert_eq!(letters[2], json!({"id": 7}));
    assert_eq!(letters[3]["letter"], "torn\nline");
}

#[test]
fn restarts_neither_lose_nor_double_dead_letters() {
    for cut in [0, 1, 10] {
        let (dir, store) = open();
        publish(&store.space("billing"), "1");
        for n in 0..3 {
            store.dead_letter(json!({"n": n})).unwrap();
        }
        drop(store);
        let path = dir.path().join("dead-letters.jsonl");
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length - cut).unwrap();
        drop(Store::open(dir.path()).unwrap());
        drop(Store::open(dir.path()).unwrap());
        assert_eq!(numbers(&dir), [0, 1, 2], "{cut} bytes are missing");
        assert_eq!(payloads(&dir), [1]);
    }
}

#[tokio::test]
async fn delivered_lines_leave_the_outbox_with_the_next_transaction() {
    let (dir, store) = open();
    store.dead_letter(json!({"n": 1})).unwrap();
    publish(&store.space("billing"), "1");
    store.flush(LIMIT).await.unwrap();
    let saved = set(&store.space("billing"), &[("a", "1")]).unwrap();
    saved.wait(LIMIT).await.unwrap();
    drop(store);
    assert_eq!(rows(&dir, DEAD_LETTERS), 0);
}

#[tokio::test]
async fn dead_letters_that_were_moved_away_are_none_and_later_ones_are_listed() {
    let (dir, store) = open();
    store.dead_letter(json!({"id": 1})).unwrap();
    store.flush(LIMIT).await.unwrap();
    let page = store.dead_letters(0, 9).unwrap();
    assert_eq!(page.lines, [r#"{"id":1}"#]);
    fs::rename(
        dir.path().join("dead-letters.jsonl"),
        dir.path().join("seen.jsonl"),
    )
    .unwrap();
    let none = store.dead_letters(page.next, 9).unwrap();
    assert_eq!((none.lines.len(), none.next), (0, 0));
    store.dead_letter(json!({"id": 2})).unwrap();
    store.flush(LIMIT).await.unwrap();
    let page = store.dead_letters(none.next, 9).unwrap();
    assert_eq!(page.lines, [r#"{"id":2}"#]);
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_written_is_not_lost_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead-letters.jsonl");
    symlink("/dev/full", &path).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let space = store.space("billing");
    let began = std::time::Instant::now();
    for n in 0..20 {
        store.dead_letter(json!({"n": n})).unwrap();
        publish(&space, &n.to_string());
        let saved = set(&space, &[("n", &n.to_string())]).unwrap();
        saved.wait(LIMIT).await.unwrap();
    }
    assert!(
        began.elapsed() < LIMIT,
        "no save waits for a try of the file"
    );
    assert!(payloads(&dir).len() >= 19, "events are written meanwhile");
    assert_eq!(store.flush(Duration::from_millis(200)).await, Err(NotSaved));
    fs::remove_file(&path).unwrap();
    store.flush(LIMIT).await.unwrap();
    assert_eq!(numbers(&dir), (0..20).collect::<Vec<_>>());
    assert_eq!(payloads(&dir).len(), 20);
}

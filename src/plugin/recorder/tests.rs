use std::{fs, path::PathBuf};

use serde_json::json;

use super::*;
use crate::{
    model::RoomId,
    plugin::{Fact, Input, Outcome, RoomView},
};

const LIMIT: Duration = Duration::from_secs(20);

fn instance() -> InstanceLine {
    InstanceLine {
        instance: 0,
        run: UnixMs(0),
        at: UnixMs(1000),
        plugin: "seats".to_owned(),
        component: "sha256:00".to_owned(),
        contract: "0.3.0".to_owned(),
        settings: json!({}),
        random: 7,
        imports: Vec::new(),
        truncated: false,
        outcome: Outcome::Noted,
        continued: false,
    }
}

fn call(instance: u64) -> Box<CallLine> {
    let room = RoomView {
        id: RoomId::new("a").unwrap(),
        participants: 1,
    };
    let at = UnixMs(2000);
    Box::new(CallLine {
        seq: 0,
        instance,
        at,
        input: Arc::new(Input::Fact(Fact::RoomOpened { room, at })),
        imports: Vec::new(),
        truncated: false,
        outcome: Outcome::Noted,
        amendment: None,
        actions: Vec::new(),
        published: Vec::new(),
        undone: false,
        micros: 3,
    })
}

fn lines(path: PathBuf) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn instances_and_their_calls_are_lines_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), RecordingConfig::default()).unwrap();
    let (first, second) = (recorder.began(instance()), recorder.began(instance()));
    assert_ne!(first, second);
    recorder.called(call(first));
    recorder.called(call(second));
    recorder.flush(LIMIT).await;
    let lines = lines(dir.path().join("calls.jsonl"));
    let [
        Line::Instance(begun),
        Line::Instance(_),
        Line::Call(earlier),
        Line::Call(later),
    ] = &lines[..]
    else {
        panic!("{lines:?}")
    };
    assert_eq!((begun.instance, begun.run), (first, recorder.run));
    assert_eq!((earlier.instance, later.instance), (first, second));
    assert!(earlier.seq < later.seq);
}

#[tokio::test]
async fn every_file_names_the_instances_that_still_live() {
    let dir = tempfile::tempdir().unwrap();
    let config = RecordingConfig {
        max_file: 2000,
        files: 100,
    };
    let recorder = Recorder::open(dir.path(), config).unwrap();
    let (gone, living) = (recorder.began(instance()), recorder.began(instance()));
    recorder.ended(gone);
    for _ in 0..50 {
        recorder.called(call(living));
        recorder.flush(LIMIT).await;
    }
    assert!(dir.path().join("calls.3.jsonl").exists());
    for number in 0..3 {
        let name = match number {
            0 => "calls.jsonl".to_owned(),
            number => format!("calls.{number}.jsonl"),
        };
        let lines = lines(dir.path().join(name));
        let expected = InstanceLine {
            instance: living,
            run: recorder.run,
            continued: true,
            ..instance()
        };
        assert_eq!(lines[0], Line::Instance(expected));
        let calls = &lines[1..];
        assert!(!calls.is_empty());
        assert!(calls.iter().all(|line| matches!(line, Line::Call(_))));
    }
}

#[tokio::test]
async fn an_instance_whose_line_was_lost_is_named_before_its_calls() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), RecordingConfig::default()).unwrap();
    let full = |size| recorder.shared.waiting.store(size, Ordering::Relaxed);
    full(QUEUE_BYTES + 1);
    let number = recorder.began(instance());
    full(0);
    recorder.called(call(number));
    recorder.ended(number);
    recorder.flush(LIMIT).await;
    let lines = lines(dir.path().join("calls.jsonl"));
    let [Line::Instance(begun), Line::Call(only)] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!((begun.instance, begun.continued), (number, true));
    assert_eq!(only.instance, number);
    assert!(recorder.shared.living.lock().is_empty());
}

#[tokio::test]
async fn what_waits_in_a_full_queue_is_flushed_all_the_same() {
    const CALLS: usize = 4000;
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), RecordingConfig::default()).unwrap();
    let number = recorder.began(instance());
    for _ in 0..CALLS {
        recorder.called(call(number));
    }
    let waiting = &recorder.shared.waiting;
    waiting.fetch_add(QUEUE_BYTES, Ordering::Relaxed);
    recorder.flush(LIMIT).await;
    assert_eq!(lines(dir.path().join("calls.jsonl")).len(), 1 + CALLS);
    assert_eq!(waiting.load(Ordering::Relaxed), QUEUE_BYTES);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    // Every write to this file fails, as on a full disk.
    std::os::unix::fs::symlink("/dev/full", dir.path().join("calls.jsonl")).unwrap();
    let recorder = Recorder::open(dir.path(), RecordingConfig::default()).unwrap();
    let number = recorder.began(instance());
    for _ in 0..100 {
        recorder.called(call(number));
    }
    recorder.flush(LIMIT).await;
    assert_eq!(recorder.shared.waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_does_not_fit_the_queue_is_dropped_and_leaves_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), RecordingConfig::default()).unwrap();
    let number = recorder.began(instance());
    recorder
        .shared
        .waiting
        .store(QUEUE_BYTES + 1, Ordering::Relaxed);
    recorder.called(call(number));
    recorder.shared.waiting.store(0, Ordering::Relaxed);
    recorder.called(call(number));
    recorder.flush(LIMIT).await;
    let lines = lines(dir.path().join("calls.jsonl"));
    let [Line::Instance(_), Line::Call(only)] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(only.seq, 2);
}

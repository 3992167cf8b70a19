use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    model::{UnixMs, UserId},
    room::Outbox,
};

const KEPT: usize = 4;

fn told(event: &Event) -> bool {
    !matches!(event, Event::Connected { .. })
}

fn plugin(payload: Value) -> Arc<Event> {
    Arc::new(Event::Plugin {
        name: "test".into(),
        payload,
    })
}

fn numbered() -> (Outbox, Tape) {
    let (outbox, inbox) = Outbox::new(64);
    (outbox, Tape::numbered(inbox, KEPT, told))
}

fn push(outbox: &Outbox, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        assert!(outbox.push(&plugin(json!(number))));
    }
}

/// Tells what there is to tell by now: numbers with what the events carry.
async fn tell(tape: &mut Tape, at_most: usize) -> Vec<(Option<u64>, Value)> {
    let mut all = Vec::new();
    while all.len() < at_most {
        let next = tape.next().await.unwrap();
        let Event::Plugin { payload, .. } = &*next.0 else {
            panic!("not what was pushed: {next:?}");
        };
        all.push((next.1, payload.clone()));
        tape.told();
    }
    all
}

fn expected(numbers: std::ops::RangeInclusive<u64>) -> Vec<(Option<u64>, Value)> {
    numbers.map(|one| (Some(one), json!(one))).collect()
}

#[tokio::test]
async fn only_events_that_are_told_are_numbered() {
    let (outbox, mut tape) = numbered();
    let silent = Event::Connected {
        user: UserId(1),
        at: UnixMs(1),
    };
    assert!(outbox.push(&Arc::new(silent)));
    push(&outbox, 1..=2);
    assert_eq!(tell(&mut tape, 2).await, expected(1..=2));
}

#[tokio::test]
async fn without_a_memory_nothing_is_numbered() {
    let (outbox, inbox) = Outbox::new(4);
    let mut tape = Tape::plain(inbox);
    push(&outbox, 7..=7);
    assert_eq!(tell(&mut tape, 1).await, [(None, json!(7))]);
}

#[tokio::test]
async fn what_did_not_go_out_is_still_next() {
    let (outbox, mut tape) = numbered();
    push(&outbox, 1..=2);
    assert_eq!(tape.next().await.unwrap().1, Some(1));
    assert_eq!(tape.next().await.unwrap().1, Some(1));
    assert_eq!(tape.reach().highest, 0);
    tape.told();
    assert_eq!(tape.next().await.unwrap().1, Some(2));
}

#[tokio::test]
async fn missed_events_come_again_before_those_that_waited() {
    let (outbox, mut tape) = numbered();
    push(&outbox, 1..=3);
    tell(&mut tape, 3).await;
    push(&outbox, 4..=5);
    assert_eq!(tape.rewind(1), 4);
    assert_eq!(tell(&mut tape, 4).await, expected(2..=5));
    push(&outbox, 6..=6);
    assert_eq!(tell(&mut tape, 1).await, expected(6..=6));
}

#[tokio::test]
async fn as_many_are_kept_as_was_said() {
    let (outbox, mut tape) = numbered();
    push(&outbox, 1..=10);
    tell(&mut tape, 10).await;
    let reach = Reach {
        lowest: 6,
        highest: 10,
    };
    assert_eq!(tape.reach(), reach);
    assert_eq!(tape.rewind(6), 4);
    assert_eq!(tell(&mut tape, 4).await, expected(7..=10));
}

#[tokio::test]
async fn large_events_leave_room_for_fewer() {
    let (outbox, mut tape) = numbered();
    for _ in 0..3 {
        assert!(outbox.push(&plugin(json!("x".repeat(MAX_KEPT_BYTES / 2)))));
    }
    tell(&mut tape, 3).await;
    assert_eq!(tape.reach().lowest, 2);
    push(&outbox, 4..=4);
    tell(&mut tape, 1).await;
    assert_eq!(tape.reach().lowest, 2, "a small one has room beside it");
}

#[tokio::test]
async fn nothing_is_forgotten_that_the_client_was_not_told() {
    let (outbox, mut tape) = numbered();
    push(&outbox, 1..=20);
    assert_eq!(tape.rewind(0), 20);
    assert_eq!(tell(&mut tape, 20).await, expected(1..=20));
}

#[tokio::test]
async fn a_tape_ends_with_its_inbox() {
    let (outbox, mut tape) = numbered();
    push(&outbox, 1..=1);
    outbox.finish(Departure::Kicked("rude".into()));
    assert_eq!(tell(&mut tape, 1).await, expected(1..=1));
    assert!(tape.next().await.is_none());
    assert_eq!(tape.end(), Some(&Departure::Kicked("rude".into())));
    assert_eq!(tape.rewind(0), 1);
    assert_eq!(tell(&mut tape, 1).await, expected(1..=1));
    assert!(tape.next().await.is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Tell(u64),
    /// Comes back after having seen all but so many of those that were told.
    Return(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..6u64).prop_map(Step::Push),
        (1..6u64).prop_map(Step::Tell),
        (0..6u64).prop_map(Step::Return),
    ]
}

proptest! {
    #[test]
    fn a_client_within_reach_sees_every_event_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (outbox, inbox) = Outbox::new(1_000);
            let mut tape = Tape::numbered(inbox, KEPT, told);
            let (mut pushed, mut seen) = (0u64, 0u64);
            for step in steps {
                match step {
                    Step::Push(count) => {
                        push(&outbox, pushed + 1..=pushed + count);
                        pushed += count;
                    }
                    Step::Tell(count) => {
                        let count = count.min(pushed - seen);
                        let all = tell(&mut tape, usize::try_from(count).unwrap()).await;
                        assert_eq!(all, expected(seen + 1..=seen + count));
                        seen += count;
                    }
                    Step::Return(lost) => {
                        let reach = tape.reach();
                        assert_eq!(reach.highest, seen);
                        seen = seen.saturating_sub(lost).max(reach.lowest);
                        assert_eq!(tape.rewind(seen), pushed - seen);
                    }
                }
            }
            let rest = usize::try_from(pushed - seen).unwrap();
            assert_eq!(tell(&mut tape, rest).await, expected(seen + 1..=pushed));
        });
    }
}

use super::*;
use crate::{
    model::{RoomId, UnixMs},
    plugin::{Fact, RoomView},
};

fn speaker_change(at: u64) -> Arc<Input> {
    let room = RoomView {
        id: RoomId::new("a").unwrap(),
        participants: 1,
    };
    let fact = Fact::SpeakerChanged {
        room,
        speakers: Vec::new(),
        at: UnixMs(at),
    };
    Arc::new(Input::Fact(fact))
}

fn left() -> Arc<Input> {
    left_in("a", 7)
}

fn left_in(room: &str, user: u64) -> Arc<Input> {
    let user = crate::model::User {
        id: crate::model::UserId(user),
        name: None,
        avatar: None,
        roles: Vec::new(),
        claims: "{}".to_owned(),
    };
    Arc::new(Input::Fact(Fact::Left {
        room: RoomView {
            id: RoomId::new(room).unwrap(),
            participants: 1,
        },
        participant: crate::plugin::ParticipantView {
            id: crate::model::ParticipantId::random(),
            user: Arc::new(user),
            connections: 0,
        },
        reason: "left".to_owned(),
        at: UnixMs(1),
    }))
}

#[test]
fn of_speakers_the_oldest_change_is_forgotten_and_only_when_there_is_no_place() {
    let mut queue = Queue::default();
    for at in 0..limits::QUEUE as u64 {
        assert_eq!(queue.tell(Telling::new(&speaker_change(at))), Pushed::Whole);
    }
    assert_eq!(queue.tell(Telling::new(&left())), Pushed::Forgot);
    assert_eq!(queue.len(), limits::QUEUE);
    let Some(Job::Fact(first)) = queue.pop() else {
        panic!("a fact")
    };
    assert!(matches!(
        &*first.input,
        Input::Fact(Fact::SpeakerChanged { at: UnixMs(1), .. })
    ));
    assert_eq!(queue.tell(Telling::new(&left())), Pushed::Whole);
}

#[test]
fn other_facts_are_not_forgotten_for_later_ones() {
    let mut queue = Queue::default();
    for _ in 0..limits::QUEUE {
        assert_eq!(queue.tell(Telling::new(&left())), Pushed::Whole);
    }
    assert_eq!(queue.tell(Telling::new(&left())), Pushed::Refused);
    assert_eq!(
        queue.tell(Telling::new(&speaker_change(1))),
        Pushed::Refused
    );
    assert!(queue.ask(&left()).is_none());
}

#[test]
fn questions_have_a_limit_of_their_own_and_leave_room_for_facts() {
    let mut queue = Queue::default();
    let mut waiting: Vec<_> = (0..limits::QUEUED_QUESTIONS)
        .map(|_| queue.ask(&left()).unwrap())
        .collect();
    assert!(queue.ask(&left()).is_none());
    assert_eq!(queue.tell(Telling::new(&left())), Pushed::Whole);
    assert_eq!(
        queue.refuse_questions(&Failure::Down),
        limits::QUEUED_QUESTIONS
    );
    assert_eq!(queue.len(), 1);
    let (_, mut reply) = waiting.pop().unwrap();
    assert!(matches!(reply.try_recv(), Ok(Err(Failure::Down))));
    assert!(queue.ask(&left()).is_some());
}

#[test]
fn a_call_is_claimed_once() {
    let claim = Claim::default();
    let other = claim.clone();
    assert_eq!(
        (claim.take(), other.take(), claim.take()),
        (true, false, false)
    );
}

fn next(queue: &mut Queue) -> Option<(String, u64)> {
    let Some(Job::Fact(telling)) = queue.pop() else {
        return None;
    };
    let room = telling.input().room().to_string();
    let user = telling.input().user()?;
    queue.passed(telling.input().room());
    Some((room, user.0))
}

#[test]
fn a_parked_room_keeps_its_order_and_others_go_on() {
    let mut queue = Queue::default();
    queue.tell(Telling::new(&left_in("a", 1)));
    queue.tell(Telling::new(&left_in("a", 2)));
    queue.tell(Telling::new(&left_in("b", 3)));
    let Some(Job::Fact(mut first)) = queue.pop() else {
        panic!("a fact")
    };
    first.tries += 1;
    queue.park(first);
    queue.tell(Telling::new(&left_in("a", 4)));

    assert_eq!(next(&mut queue), Some(("b".to_owned(), 3)));
    assert_eq!(next(&mut queue), None);
    assert!(queue.is_idle());
    assert_eq!(queue.len(), 3);

    queue.release(&RoomId::new("a").unwrap());
    for user in [1, 2, 4] {
        assert_eq!(next(&mut queue), Some(("a".to_owned(), user)));
    }
    assert_eq!(next(&mut queue), None);
    assert_eq!(queue.len(), 0);
    queue.tell(Telling::new(&left_in("a", 5)));
    assert_eq!(next(&mut queue), Some(("a".to_owned(), 5)));
}

#[test]
fn of_the_changes_of_speakers_only_the_latest_waits_in_a_parked_room() {
    let mut queue = Queue::default();
    let change = |at| Telling::new(&speaker_change(at));
    queue.park(change(1));
    assert_eq!(queue.tell(change(2)), Pushed::Forgot);
    assert_eq!(queue.tell(Telling::new(&left())), Pushed::Whole);
    assert_eq!(queue.tell(change(3)), Pushed::Forgot);
    assert_eq!(queue.len(), 2, "its place is behind what came meanwhile");
}

/// A fact on its way to the ledger.
fn recorded(room: &str, user: u64) -> (Telling, Receipt) {
    let receipt = Receipt::default();
    (Telling::recorded(&left_in(room, user), &receipt), receipt)
}

#[test]
fn a_fact_without_its_receipt_holds_up_its_room_alone() {
    let mut queue = Queue::default();
    let room = RoomId::new("a").unwrap();
    queue.tell(Telling::new(&left_in("a", 1)));
    let (first, receipt) = recorded("a", 2);
    queue.tell(first);
    let (second, its_receipt) = recorded("a", 3);
    queue.tell(second);
    queue.tell(Telling::new(&left_in("a", 4)));
    queue.tell(Telling::new(&left_in("b", 5)));
    assert_eq!(queue.len(), 5);
    assert_eq!(
        next(&mut queue),
        Some(("a".to_owned(), 1)),
        "came before it"
    );
    assert_eq!(next(&mut queue), Some(("b".to_owned(), 5)));
    queue.release_all();
    assert_eq!(next(&mut queue), None);

    its_receipt.set(left_in("a", 33)).unwrap();
    queue.release(&room);
    assert_eq!(next(&mut queue), None, "the first one goes first");
    receipt.set(left_in("a", 22)).unwrap();
    queue.release(&room);
    for user in [22, 33, 4] {
        assert_eq!(
            next(&mut queue),
            Some(("a".to_owned(), user)),
            "as recorded"
        );
    }
    assert_eq!(queue.len(), 0);
}

#[test]
fn at_the_end_a_recorded_fact_that_has_failed_waits_for_the_next_start() {
    let mut queue = Queue::default();
    let (mut failed, receipt) = recorded("a", 1);
    receipt.set(left_in("a", 1)).unwrap();
    failed.tries = 1;
    queue.park(failed);
    queue.tell(Telling::new(&left_in("a", 2)));
    let mut forgotten = Telling::new(&left_in("b", 3));
    forgotten.tries = 1;
    queue.park(forgotten);
    assert!(!queue.is_drained());
    queue.release_all();
    assert_eq!(next(&mut queue), Some(("b".to_owned(), 3)));
    assert_eq!(next(&mut queue), None);
    assert!(queue.is_drained());
    assert_eq!(queue.into_facts().len(), 2);
}

#[test]
fn what_comes_behind_a_parked_fact_does_not_hurry_it() {
    let mut queue = Queue::default();
    let room = RoomId::new("a").unwrap();
    let (second, receipt) = recorded("a", 2);
    queue.tell(Telling::new(&left_in("a", 1)));
    let Some(Job::Fact(first)) = queue.pop() else {
        panic!("a fact")
    };
    queue.tell(second);
    receipt.set(left_in("a", 2)).unwrap();
    queue.received(&room);
    queue.park(first);
    assert_eq!(next(&mut queue), None);
    let (third, receipt) = recorded("a", 3);
    queue.tell(third);
    receipt.set(left_in("a", 3)).unwrap();
    queue.received(&room);
    assert_eq!(next(&mut queue), None, "it rests until its own time");
    queue.release(&room);
    for user in [1, 2, 3] {
        assert_eq!(next(&mut queue), Some(("a".to_owned(), user)));
    }
}

#[test]
fn recorded_facts_that_wait_shut_out_nobody_else() {
    let mut queue = Queue::default();
    let receipts: Vec<_> = (0..limits::QUEUE as u64 + 1)
        .map(|user| {
            let (fact, receipt) = recorded("a", user);
            assert_eq!(queue.tell(fact), Pushed::Whole);
            receipt
        })
        .collect();
    assert_eq!(queue.tell(Telling::new(&left_in("b", 1))), Pushed::Whole);
    assert!(queue.ask(&left_in("b", 2)).is_some());
    assert_eq!(next(&mut queue), Some(("b".to_owned(), 1)));
    for receipt in &receipts {
        receipt.set(left_in("a", 1)).unwrap();
    }
    let room = RoomId::new("a").unwrap();
    queue.received(&room);
    assert_eq!(next(&mut queue), Some(("a".to_owned(), 1)));
    assert!(
        matches!(queue.pop(), Some(Job::Question { .. })),
        "it does not wait for all of them"
    );
    let mut told = 1;
    while next(&mut queue).is_some() {
        told += 1;
    }
    assert_eq!((told, queue.len()), (receipts.len(), 0));
}

#[test]
fn parked_facts_count_towards_the_limit_and_are_not_lost_at_the_end() {
    let mut queue = Queue::default();
    queue.park(Telling::new(&left_in("a", 0)));
    for user in 1..limits::QUEUE as u64 {
        assert_eq!(queue.tell(Telling::new(&left_in("a", user))), Pushed::Whole);
    }
    assert_eq!(queue.tell(Telling::new(&left_in("a", 9))), Pushed::Refused);
    assert_eq!(queue.tell(Telling::new(&left_in("b", 9))), Pushed::Refused);
    let facts = queue.into_facts();
    assert_eq!(facts.len(), limits::QUEUE);
    let users: Vec<_> = facts
        .iter()
        .filter_map(|fact| fact.input().user())
        .collect();
    assert!(users.is_sorted());
}

#[test]
fn a_fact_that_takes_the_last_place_does_not_overtake_its_parked_room() {
    let mut queue = Queue::default();
    queue.park(Telling::new(&left_in("a", 0)));
    for at in 1..limits::QUEUE as u64 {
        queue.tell(Telling::new(&Arc::new(Input::Fact(Fact::SpeakerChanged {
            room: RoomView {
                id: RoomId::new("b").unwrap(),
                participants: 1,
            },
            speakers: Vec::new(),
            at: UnixMs(at),
        }))));
    }
    assert_eq!(queue.tell(Telling::new(&left_in("a", 1))), Pushed::Forgot);
    assert_eq!(queue.len(), limits::QUEUE);
    queue.release(&RoomId::new("a").unwrap());
    for user in [0, 1] {
        assert_eq!(next(&mut queue), Some(("a".to_owned(), user)));
    }
}

#[test]
fn timers_leave_place_for_other_facts_and_for_questions() {
    let timer = Arc::new(Input::Fact(Fact::Timer {
        room: RoomView {
            id: RoomId::new("a").unwrap(),
            participants: 0,
        },
        key: "t".to_owned(),
        due: UnixMs(1),
        at: UnixMs(1),
    }));
    let mut queue = Queue::default();
    for _ in 0..limits::QUEUED_TIMERS {
        assert_eq!(queue.tell(Telling::new(&timer)), Pushed::Whole);
    }
    assert_eq!(queue.tell(Telling::new(&timer)), Pushed::Refused);
    assert_eq!(queue.tell(Telling::new(&left())), Pushed::Whole);
    assert!(queue.ask(&left()).is_some());
}

#[test]
fn a_room_that_is_stuck_does_not_fill_the_lane_for_others() {
    let mut queue = Queue::default();
    let stuck = Input::Fact(Fact::RoomClosed {
        room: RoomView {
            id: RoomId::new("a").unwrap(),
            participants: 0,
        },
        reason: "empty".to_owned(),
        fact: crate::model::FactId::random(),
        at: UnixMs(1),
    });
    let stuck = Arc::new(stuck);
    let receipt = Receipt::new(OnceLock::from(Arc::clone(&stuck)));
    let mut telling = Telling::recorded(&stuck, &receipt);
    telling.tries = 1;
    queue.park(telling.clone());
    for at in 1..limits::STUCK_ROOM as u64 {
        assert_eq!(queue.tell(Telling::new(&left_in("a", at))), Pushed::Whole);
    }
    assert_eq!(queue.tell(Telling::new(&left_in("a", 0))), Pushed::Refused);
    assert_eq!(queue.tell(telling), Pushed::Whole, "the ledger has it");
    assert_eq!(queue.tell(Telling::new(&left_in("b", 0))), Pushed::Whole);
    assert!(queue.ask(&left_in("a", 0)).is_some());
}

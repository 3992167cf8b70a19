//! What a participant has as a whole, and the room as a call.

use super::*;
use crate::room::Released;

/// Participant `n` of user `n` with the one transport `n*10`, which does both.
fn enter_both_ways(room: &mut RoomState, n: u128) {
    let account = u64::try_from(n).unwrap();
    room.commit_join(pid(n), &user(account), T).unwrap();
    room.check_new_transport(pid(n), Direction::Both).unwrap();
    room.commit_new_transport(pid(n), Direction::Both, Some(tid(n * 10)))
        .unwrap();
}

fn connected(out: &[Output]) -> Vec<UserId> {
    told(out)
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::Connected { user, .. } => Some(*user),
            _ => None,
        })
        .collect()
}

#[test]
fn a_transport_for_both_directions_sends_and_receives() {
    let mut room = room();
    enter_both_ways(&mut room, 1);
    enter(&mut room, 2);
    speak(&mut room, 2, 200, Source::Mic);
    assert_eq!(room.check_produce(pid(1), tid(10)), Ok(()));
    assert_eq!(room.check_consume(pid(1), tid(10), prod(200)), Ok(()));
}

#[test]
fn a_transport_for_both_directions_is_beside_no_other() {
    let mut room = room();
    enter_both_ways(&mut room, 1);
    enter(&mut room, 2);
    for direction in [Direction::Send, Direction::Receive, Direction::Both] {
        for participant in [pid(1), pid(2)] {
            assert_eq!(
                room.check_new_transport(participant, direction),
                Err(Reason::TransportLimit)
            );
        }
    }
}

#[test]
fn the_end_of_a_transport_for_both_directions_ends_all_that_ran_over_it() {
    let mut room = room();
    enter_both_ways(&mut room, 1);
    enter(&mut room, 2);
    speak(&mut room, 1, 100, Source::Mic);
    speak(&mut room, 2, 200, Source::Mic);
    room.commit_consume(pid(1), tid(10), prod(200), cons(1))
        .unwrap();
    let out = room.on_transport_ended(tid(10), T);
    assert_eq!(closed(&out), [(prod(100), CloseReason::TransportClosed)]);
    assert!(out.contains(&Output::DropConsumer(cons(1))));
    assert!(out.contains(&Output::DropTransport(tid(10))));
    assert_eq!(room.check_new_transport(pid(1), Direction::Both), Ok(()));
}

#[test]
fn releasing_lets_go_of_all_media_and_keeps_the_participant() {
    let mut room = room();
    enter(&mut room, 1);
    enter(&mut room, 2);
    speak(&mut room, 1, 100, Source::Mic);
    speak(&mut room, 1, 101, Source::Music);
    speak(&mut room, 2, 200, Source::Mic);
    room.commit_consume(pid(1), tid(11), prod(200), cons(1))
        .unwrap();
    let (released, out) = room.commit_release(pid(1), T).unwrap();
    let all = Released {
        transports: 2,
        producers: 2,
        consumers: 1,
    };
    assert_eq!(released, all);
    assert_eq!(closed(&out).len(), 2);
    assert!(!room.receives(pid(1), prod(200)));
    assert!(room.participant(pid(1)).is_ok());
    assert_eq!(room.check_new_transport(pid(1), Direction::Send), Ok(()));
    let (again, out) = room.commit_release(pid(1), T).unwrap();
    assert_eq!((again, out), (Released::default(), Vec::new()));
}

#[test]
fn a_transport_that_is_being_made_survives_a_release() {
    let mut room = room();
    room.commit_join(pid(1), &user(1), T).unwrap();
    room.check_new_transport(pid(1), Direction::Send).unwrap();
    room.commit_release(pid(1), T).unwrap();
    room.commit_new_transport(pid(1), Direction::Send, Some(tid(10)))
        .unwrap();
    assert_eq!(room.transport_of(pid(1), Direction::Send), Some(tid(10)));
}

#[test]
fn a_call_is_connected_once_by_the_first_packet() {
    let mut room = room();
    enter(&mut room, 1);
    enter(&mut room, 2);
    speak(&mut room, 1, 100, Source::Mic);
    speak(&mut room, 2, 200, Source::Mic);
    assert_eq!(connected(&hear(&mut room, 200, T)), [UserId(2)]);
    assert_eq!(connected(&hear(&mut room, 100, T)), []);
    assert_eq!(room.call().connected, Some((UserId(2), T)));
}

#[test]
fn a_call_of_both_is_connected_by_the_last_party() {
    let mut room = room();
    assert_eq!(
        connected(&room.decide_connected(ConnectedWhen::Both, T)),
        []
    );
    enter(&mut room, 1);
    enter(&mut room, 2);
    speak(&mut room, 1, 100, Source::Mic);
    speak(&mut room, 2, 200, Source::Mic);
    assert_eq!(connected(&hear(&mut room, 100, T)), []);
    assert_eq!(connected(&hear(&mut room, 200, T)), [UserId(2)]);
}

#[test]
fn a_call_of_both_is_connected_when_the_silent_party_leaves() {
    let mut room = room();
    assert_eq!(
        connected(&room.decide_connected(ConnectedWhen::Both, T)),
        []
    );
    for n in 1..=3 {
        enter(&mut room, n);
    }
    for n in 1..=2 {
        speak(&mut room, n, n * 100, Source::Mic);
        assert_eq!(connected(&hear(&mut room, n * 100, T)), []);
    }
    let out = room.commit_leave(pid(3), &Departure::Left, T);
    assert_eq!(connected(&out), [UserId(2)]);
}

#[test]
fn a_call_is_connected_by_a_decision_that_comes_after_the_packet() {
    let mut room = room_of_both();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    assert_eq!(connected(&hear(&mut room, 100, T)), []);
    enter(&mut room, 2);
    let later = UnixMs(T.0 + 1);
    let out = room.decide_connected(ConnectedWhen::First, later);
    assert_eq!(connected(&out), [UserId(1)]);
    assert_eq!(room.call().connected, Some((UserId(1), later)));
    let again = room.decide_connected(ConnectedWhen::First, later);
    assert_eq!(connected(&again), []);
}

fn room_of_both() -> RoomState {
    let limits = Limits {
        connected_when: ConnectedWhen::Both,
        ..limits()
    };
    RoomState::new(RoomId::new("stage").unwrap(), FactId::random(), limits)
}

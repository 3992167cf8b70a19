//! Who is forwarded, and what follows for consumers.

use super::*;
use crate::plugin::Pin;

/// One place for those who are heard; participants 1 and 2 send, 3 wants to hear both.
fn stage() -> RoomState {
    let limits = Limits {
        active_speakers: 1,
        ..limits()
    };
    let mut room = RoomState::new(RoomId::new("stage").unwrap(), CLOSING, limits);
    for n in 1..=3 {
        enter(&mut room, n);
    }
    for n in 1..=2 {
        speak(&mut room, n, n * 100, Source::Mic);
        room.commit_consume(pid(3), tid(31), prod(n * 100), cons(n))
            .unwrap();
        room.commit_want(pid(3), cons(n), true).unwrap();
    }
    room
}

fn flows(out: &[Output]) -> Vec<ConsumerId> {
    let mut flows: Vec<ConsumerId> = out
        .iter()
        .filter_map(|one| match one {
            Output::ApplyFlow(participant, id) if *participant == pid(3) => Some(*id),
            _ => None,
        })
        .collect();
    flows.sort_unstable();
    flows
}

#[test]
fn a_consumer_flows_when_its_client_wants_it_and_its_producer_is_heard() {
    let mut room = stage();
    assert_eq!(
        room.commit_want(pid(3), cons(1), true),
        Ok(true),
        "deferred"
    );
    assert!(!room.wants_flow(pid(3), cons(1)));
    let out = room.on_onset(prod(100), T);
    assert_eq!(flows(&out), [cons(1)]);
    assert!(room.wants_flow(pid(3), cons(1)));
    assert_eq!(room.commit_want(pid(3), cons(1), true), Ok(false));
    assert_eq!(room.commit_want(pid(3), cons(1), false), Ok(false));
    assert!(!room.wants_flow(pid(3), cons(1)));
}

#[test]
fn nothing_is_done_about_a_consumer_that_its_client_does_not_want() {
    let mut room = stage();
    room.commit_want(pid(3), cons(1), false).unwrap();
    assert!(flows(&room.on_onset(prod(100), T)).is_empty());
}

#[test]
fn whoever_makes_room_stops_and_whoever_enters_starts() {
    let mut room = stage();
    room.on_onset(prod(100), T);
    let out = room.on_onset(prod(200), UnixMs(T.0 + 2_000));
    assert_eq!(flows(&out), [cons(1), cons(2)]);
    assert!([100, 200].iter().all(|id| room.wants_probe(prod(*id))));
}

#[test]
fn a_producer_that_ends_may_leave_a_room_in_which_all_are_heard() {
    let mut room = stage();
    let out = room.commit_close_producer(pid(1), prod(100), T).unwrap();
    assert_eq!(flows(&out), [cons(2)]);
    assert!(room.wants_flow(pid(3), cons(2)));
    assert!(!room.wants_probe(prod(200)));
}

#[test]
fn another_participant_s_consumer_is_not_found() {
    let mut room = stage();
    let refused = room.commit_want(pid(1), cons(1), true);
    assert_eq!(refused, Err(Reason::ConsumerNotFound));
}

#[test]
fn the_muted_are_let_go_and_listened_for_again_later() {
    let mut room = stage();
    room.on_onset(prod(100), T);
    let out = room.commit_self_mute(pid(1), prod(100), true, T).unwrap();
    assert_eq!(flows(&out), [cons(1)]);
    assert!(!room.wants_probe(prod(100)));
    let out = room.commit_self_mute(pid(1), prod(100), false, T).unwrap();
    assert!(out.contains(&Output::ApplyProbe(prod(100))));
    assert!(room.wants_probe(prod(100)));
}

#[test]
fn a_plugin_s_pin_is_applied_at_once_and_nothing_in_a_room_that_has_ended() {
    let mut room = stage();
    let plugin: Arc<str> = "stage".into();
    let pin = |user| Action::PinSpeaker {
        user: UserId(user),
        pin: Pin::In,
    };
    let out = room.apply(&plugin, pin(1), T);
    assert_eq!(flows(&out), [cons(1)]);
    room.commit_end(RoomEnd::Shutdown, T);
    assert!(room.apply(&plugin, pin(2), T).is_empty());
}

#[test]
fn only_so_many_speakers_are_told_of_but_all_of_them_keep_their_places() {
    let limits = Limits {
        speakers: 1,
        active_speakers: 2,
        active_hold_ms: 1_000,
        ..limits()
    };
    let mut room = RoomState::new(RoomId::new("stage").unwrap(), CLOSING, limits);
    for n in 1..=3 {
        enter(&mut room, n);
        speak(&mut room, n, n * 100, Source::Mic);
    }
    let levels = [(100, -10), (200, -20)].map(|(id, volume)| Level {
        producer: prod(id),
        volume,
    });
    let out = room.on_levels(&levels, T);
    let speakers = told(&out).into_iter().find_map(|(_, event)| match event {
        Event::Speaking { speakers, .. } => Some(speakers.clone()),
        _ => None,
    });
    assert_eq!(speakers, Some(vec![(UserId(1), -10)]));
    assert!([100, 200].iter().all(|id| room.active.is_active(prod(*id))));
    assert_eq!(room.speaking_deadline(), Some(UnixMs(T.0 + 600)));
}

#[test]
fn a_loud_one_whom_nobody_receives_is_no_speaker() {
    let mut room = stage();
    let level = |id, volume| Level {
        producer: prod(id),
        volume,
    };
    let out = room.on_levels(&[level(100, -10), level(200, -5)], T);
    let speakers = told(&out).into_iter().find_map(|(_, event)| match event {
        Event::Speaking { speakers, .. } => Some(speakers.clone()),
        _ => None,
    });
    assert_eq!(speakers, Some(vec![(UserId(1), -10)]));
}

#[test]
fn a_lost_transport_is_told_to_its_user_and_may_be_made_anew() {
    let mut room = stage();
    let out = room.on_transport_lost(tid(31), T);
    let lost = Event::TransportClosed { transport: tid(31) };
    assert_eq!(told(&out), [(Audience::User(UserId(3)), &lost)]);
    let dropped = |id| out.contains(&Output::DropConsumer(cons(id)));
    assert!(dropped(1) && dropped(2) && out.contains(&Output::DropTransport(tid(31))));
    assert!(room.on_transport_lost(tid(31), T).is_empty(), "once");
    assert_eq!(room.check_new_transport(pid(3), Direction::Receive), Ok(()));
}

//! The rules, one sentence each.

mod belongings;
mod flow;
mod heard;

use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{
    media::Level,
    model::FirstPacket,
    plugin::{Action, Target},
    room::event::CloseReason,
};

const T: UnixMs = UnixMs(1_000);
const CLOSING: FactId = FactId(Uuid::from_u128(99));

fn limits() -> Limits {
    Limits {
        participants: 3,
        consumers: 2,
        speakers: 16,
        speaker_hold_ms: 600,
        active_speakers: 16,
        active_hold_ms: 10_000,
        active_grace_ms: 600,
        connected_when: ConnectedWhen::First,
        both_sides: false,
        silence_ms: 15_000,
    }
}

fn room() -> RoomState {
    RoomState::new(RoomId::new("stage").unwrap(), CLOSING, limits())
}

fn user(id: u64) -> Arc<User> {
    Arc::new(User {
        id: UserId(id),
        name: None,
        avatar: None,
        roles: Vec::new(),
        claims: "{}".to_owned(),
    })
}

fn pid(n: u128) -> ParticipantId {
    ParticipantId(Uuid::from_u128(n))
}

fn tid(n: u128) -> TransportId {
    TransportId(Uuid::from_u128(n))
}

fn prod(n: u128) -> ProducerId {
    ProducerId(Uuid::from_u128(n))
}

fn cons(n: u128) -> ConsumerId {
    ConsumerId(Uuid::from_u128(n))
}

fn stream(producer: u128, source: Source) -> Stream {
    Stream {
        id: prod(producer),
        source,
        codec: Codec {
            mime_type: "audio/opus".to_owned(),
            clock_rate: 48_000,
            channels: 2,
        },
        amendments: Amendments::default(),
    }
}

/// Participant `n` of user `n` with both transports: `n*10` sends, `n*10+1` receives.
fn enter(room: &mut RoomState, n: u128) -> Vec<Output> {
    enter_as(room, n, u64::try_from(n).unwrap())
}

fn enter_as(room: &mut RoomState, n: u128, account: u64) -> Vec<Output> {
    let (_, _, out) = room.commit_join(pid(n), &user(account), T).unwrap();
    for (direction, id) in [(Direction::Send, n * 10), (Direction::Receive, n * 10 + 1)] {
        room.check_new_transport(pid(n), direction).unwrap();
        room.commit_new_transport(pid(n), direction, Some(tid(id)))
            .unwrap();
    }
    out
}

fn speak(room: &mut RoomState, n: u128, producer: u128, source: Source) -> Vec<Output> {
    room.commit_produce(pid(n), tid(n * 10), stream(producer, source), T)
        .unwrap()
}

/// A stream begins, and that is noted.
fn hear(room: &mut RoomState, producer: u128, at: UnixMs) -> Vec<Output> {
    let mut out = room.on_first_rtp(prod(producer), packet(), at);
    let begun: Vec<_> = out.iter().filter_map(begun).collect();
    for (producer, user) in begun {
        out.extend(room.on_beginning_noted(producer, user, at));
    }
    out
}

/// Of which stream an output says that it has begun, and whose it is.
fn begun(out: &Output) -> Option<(ProducerId, UserId)> {
    match out {
        Output::Inform(Fact::FirstRtp {
            producer,
            participant,
            ..
        }) => Some((producer.id, participant.user.id)),
        _ => None,
    }
}

fn packet() -> FirstPacket {
    FirstPacket {
        ssrc: 7,
        timestamp: Some(960),
        payload_type: 100,
        after_ms: 5,
    }
}

fn told(out: &[Output]) -> Vec<(Audience, &Event)> {
    out.iter()
        .filter_map(|one| match one {
            Output::Tell(audience, event) => Some((*audience, event)),
            _ => None,
        })
        .collect()
}

fn closed(out: &[Output]) -> Vec<(ProducerId, CloseReason)> {
    told(out)
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::ProducerClosed {
                producer, reason, ..
            } => Some((*producer, *reason)),
            _ => None,
        })
        .collect()
}

fn paused(out: &[Output]) -> Vec<(bool, bool)> {
    told(out)
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::ProducerPaused {
                paused,
                by_moderator,
                ..
            } => Some((*paused, *by_moderator)),
            _ => None,
        })
        .collect()
}

#[test]
fn the_others_hear_of_a_newcomer_and_of_who_leaves() {
    let mut room = room();
    enter(&mut room, 1);
    let out = enter(&mut room, 2);
    assert_eq!(
        told(&out),
        [(Audience::RoomExcept(pid(2)), &Event::UserJoined(user(2)))]
    );
    let out = room.commit_leave(pid(2), &Departure::Left, T);
    let left = Event::UserLeft {
        user: user(2),
        reason: "left".into(),
    };
    assert_eq!(told(&out), [(Audience::RoomExcept(pid(2)), &left)]);
    assert!(matches!(out.last(), Some(Output::Unsubscribe(id, Departure::Left)) if *id == pid(2)));
}

#[test]
fn a_second_connection_of_a_user_is_neither_a_newcomer_nor_missed() {
    let mut room = room();
    enter_as(&mut room, 1, 7);
    let out = enter_as(&mut room, 2, 7);
    assert!(told(&out).is_empty());
    assert!(told(&room.commit_leave(pid(1), &Departure::Left, T)).is_empty());
    let (snapshot, ..) = room.commit_join(pid(3), &user(8), T).unwrap();
    assert_eq!(snapshot.users.len(), 1);
}

#[test]
fn a_full_room_takes_nobody() {
    let mut room = room();
    for n in 1..=3 {
        enter(&mut room, n);
    }
    assert_eq!(
        room.commit_join(pid(4), &user(4), T).unwrap_err(),
        Reason::RoomFull
    );
}

#[test]
fn the_last_one_out_ends_the_room_and_an_ended_room_takes_nobody() {
    let mut room = room();
    enter(&mut room, 1);
    let out = room.commit_leave(pid(1), &Departure::Disconnected, T);
    assert_eq!(out.last(), Some(&Output::End));
    assert_eq!(room.check_join(), Err(Reason::RoomNotFound));
}

#[test]
fn leaving_is_idempotent() {
    let mut room = room();
    enter(&mut room, 1);
    enter(&mut room, 2);
    speak(&mut room, 1, 100, Source::Mic);
    assert!(!room.commit_leave(pid(1), &Departure::Left, T).is_empty());
    assert!(
        room.commit_leave(pid(1), &Departure::Disconnected, T)
            .is_empty()
    );
}

#[test]
fn one_transport_of_each_direction_also_while_one_is_being_made() {
    let mut room = room();
    room.commit_join(pid(1), &user(1), T).unwrap();
    room.check_new_transport(pid(1), Direction::Send).unwrap();
    assert_eq!(
        room.check_new_transport(pid(1), Direction::Send),
        Err(Reason::TransportLimit)
    );
    room.commit_new_transport(pid(1), Direction::Send, None)
        .unwrap();
    room.check_new_transport(pid(1), Direction::Send).unwrap();
    room.commit_new_transport(pid(1), Direction::Send, Some(tid(1)))
        .unwrap();
    assert_eq!(
        room.check_new_transport(pid(1), Direction::Send),
        Err(Reason::TransportLimit)
    );
    assert_eq!(room.check_new_transport(pid(1), Direction::Receive), Ok(()));
}

#[test]
fn a_transport_connects_once_and_may_try_again_after_a_failure() {
    let mut room = room();
    enter(&mut room, 1);
    room.check_connect(pid(1), tid(10)).unwrap();
    assert_eq!(
        room.check_connect(pid(1), tid(10)),
        Err(Reason::AlreadyConnected)
    );
    room.cancel_connect(pid(1), tid(10)).unwrap();
    assert_eq!(room.check_connect(pid(1), tid(10)), Ok(()));
}

#[test]
fn foreign_ids_are_answered_like_unknown_ones() {
    let mut room = room();
    enter(&mut room, 1);
    enter(&mut room, 2);
    speak(&mut room, 2, 200, Source::Mic);
    room.commit_consume(pid(1), tid(11), prod(200), cons(1))
        .unwrap();
    for transport in [tid(20), tid(999)] {
        let refused = Err(Reason::TransportNotFound);
        assert_eq!(room.check_transport(pid(1), transport, None), refused);
        assert_eq!(room.check_connect(pid(1), transport), refused);
        assert_eq!(room.check_produce(pid(1), transport), refused);
        assert_eq!(room.check_consume(pid(1), transport, prod(200)), refused);
    }
    for producer in [prod(200), prod(999)] {
        let refused = Err(Reason::ProducerNotFound);
        assert_eq!(room.commit_self_mute(pid(1), producer, true, T), refused);
        assert_eq!(room.commit_close_producer(pid(1), producer, T), refused);
    }
    for consumer in [cons(1), cons(999)] {
        assert_eq!(
            room.check_consumer(pid(2), consumer),
            Err(Reason::ConsumerNotFound)
        );
    }
}

#[test]
fn direction_is_checked() {
    let mut room = room();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    assert_eq!(
        room.check_produce(pid(1), tid(11)),
        Err(Reason::WrongDirection)
    );
    assert_eq!(
        room.check_consume(pid(1), tid(10), prod(100)),
        Err(Reason::WrongDirection)
    );
}

#[test]
fn producing_again_announces_the_new_one_and_then_ends_the_old_one() {
    let mut room = room();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    speak(&mut room, 1, 101, Source::Music);
    let out = speak(&mut room, 1, 102, Source::Mic);
    let events = told(&out);
    assert!(matches!(events[0].1, Event::NewProducer { producer, .. } if *producer == prod(102)));
    assert_eq!(closed(&out), [(prod(100), CloseReason::Replaced)]);
    assert_eq!(room.producer_of(pid(1), Source::Mic), Some(prod(102)));
    assert_eq!(room.producer_of(pid(1), Source::Music), Some(prod(101)));
}

#[test]
fn every_close_path_tells_each_end_exactly_once() {
    type Path = fn(&mut RoomState) -> Vec<Output>;
    let paths: [(&str, Path, CloseReason); 6] = [
        (
            "leave",
            |room| room.commit_leave(pid(1), &Departure::Left, T),
            CloseReason::Left,
        ),
        (
            "disconnect",
            |room| room.commit_leave(pid(1), &Departure::Disconnected, T),
            CloseReason::Disconnected,
        ),
        (
            "kick",
            |room| {
                let kick = Action::Kick {
                    user: UserId(1),
                    reason: "rude".to_owned(),
                };
                room.apply(&"mod".into(), kick, T)
            },
            CloseReason::Kicked,
        ),
        (
            "transport",
            |room| room.on_transport_ended(tid(10), T),
            CloseReason::TransportClosed,
        ),
        (
            "plugin",
            |room| room.apply(&"mod".into(), Action::Close(Target::User(UserId(1))), T),
            CloseReason::Plugin,
        ),
        (
            "room",
            |room| room.commit_end(RoomEnd::WorkerDied, T),
            CloseReason::RoomClosed,
        ),
    ];
    for (name, path, reason) in paths {
        let mut room = room();
        enter(&mut room, 1);
        enter(&mut room, 2);
        speak(&mut room, 1, 100, Source::Mic);
        room.commit_consume(pid(2), tid(21), prod(100), cons(1))
            .unwrap();
        let out = path(&mut room);
        assert_eq!(closed(&out), [(prod(100), reason)], "{name}");
        let dropped = out
            .iter()
            .filter(|one| **one == Output::DropConsumer(cons(1)))
            .count();
        assert_eq!(dropped, 1, "{name}: the listener's consumer is let go once");
        let facts = out.iter().filter(|one| {
            matches!(one, Output::Inform(Fact::ProducerClosed { producer, .. }) if producer.id == prod(100))
        });
        assert_eq!(facts.count(), 1, "{name}: plugins are informed once");
        assert!(closed(&path(&mut room)).is_empty(), "{name}: idempotent");
        assert_eq!(
            room.check_producer(pid(1), prod(100)),
            Err(Reason::ProducerNotFound)
        );
    }
}

#[test]
fn whoever_leaves_is_told_of_their_own_ends_before_they_are_unsubscribed() {
    let mut room = room();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    let out = room.commit_leave(pid(1), &Departure::Left, T);
    let tell = out.iter().position(|one| {
        matches!(
            one,
            Output::Tell(Audience::Room, Event::ProducerClosed { .. })
        )
    });
    let unsubscribe = out
        .iter()
        .position(|one| matches!(one, Output::Unsubscribe(..)));
    assert!(tell.unwrap() < unsubscribe.unwrap());
}

#[test]
fn a_room_that_ends_tells_everyone_and_answers_not_found() {
    let mut room = room();
    enter(&mut room, 1);
    enter(&mut room, 2);
    let out = room.commit_end(RoomEnd::WorkerDied, T);
    let end = Event::RoomClosed {
        room: RoomId::new("stage").unwrap(),
        reason: RoomEnd::WorkerDied,
        at: T,
    };
    assert_eq!(told(&out), [(Audience::Room, &end)]);
    assert_eq!(
        room.check_new_transport(pid(1), Direction::Send),
        Err(Reason::RoomNotFound)
    );
    assert!(room.commit_end(RoomEnd::Shutdown, T).is_empty());
}

#[test]
fn a_commit_that_comes_after_the_departure_is_refused() {
    let mut room = room();
    enter(&mut room, 1);
    enter(&mut room, 2);
    speak(&mut room, 2, 200, Source::Mic);
    room.commit_leave(pid(1), &Departure::Left, T);
    let late = room.commit_produce(pid(1), tid(10), stream(1, Source::Mic), T);
    assert_eq!(late, Err(Reason::NotInRoom));
    let late = room.commit_consume(pid(1), tid(11), prod(200), cons(1));
    assert_eq!(late, Err(Reason::NotInRoom));
    room.commit_close_producer(pid(2), prod(200), T).unwrap();
    let late = room.commit_consume(pid(2), tid(21), prod(200), cons(1));
    assert_eq!(late, Err(Reason::ProducerNotFound));
}

#[test]
fn consumers_are_bounded_and_a_closed_one_makes_room() {
    let mut room = room();
    enter(&mut room, 1);
    enter(&mut room, 2);
    speak(&mut room, 1, 100, Source::Mic);
    for n in 1..=2 {
        room.commit_consume(pid(2), tid(21), prod(100), cons(n))
            .unwrap();
    }
    let refused = room.check_consume(pid(2), tid(21), prod(100));
    assert!(matches!(refused, Err(Reason::CannotConsume(_))));
    room.commit_close_consumer(pid(2), cons(1)).unwrap();
    assert_eq!(room.check_consume(pid(2), tid(21), prod(100)), Ok(()));
}

#[test]
fn a_self_mute_is_told_once_and_to_the_others() {
    let mut room = room();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    let out = room.commit_self_mute(pid(1), prod(100), true, T).unwrap();
    assert_eq!(paused(&out), [(true, false)]);
    assert_eq!(told(&out)[0].0, Audience::RoomExcept(pid(1)));
    assert!(
        room.commit_self_mute(pid(1), prod(100), true, T)
            .unwrap()
            .is_empty()
    );
    let out = room.commit_self_mute(pid(1), prod(100), false, T).unwrap();
    assert_eq!(paused(&out), [(false, false)]);
}

#[test]
fn what_a_plugin_mutes_its_user_cannot_unmute() {
    let mut room = room();
    let (seats, guard): (Arc<str>, Arc<str>) = ("seats".into(), "guard".into());
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    let mute = || Action::Mute(Target::User(UserId(1)));
    let unmute = || Action::Unmute(Target::User(UserId(1)));
    let out = room.apply(&seats, mute(), T);
    assert_eq!(paused(&out), [(true, true)]);
    assert_eq!(
        told(&out)[0].0,
        Audience::Room,
        "the muted one is told as well"
    );
    assert!(
        paused(&room.apply(&guard, mute(), T)).is_empty(),
        "muted already"
    );
    let refused = room.commit_self_mute(pid(1), prod(100), false, T);
    assert!(matches!(refused, Err(Reason::Muted(_))));
    assert!(
        paused(&room.apply(&seats, unmute(), T)).is_empty(),
        "guard still holds"
    );
    assert_eq!(paused(&room.apply(&guard, unmute(), T)), [(false, true)]);
}

#[test]
fn a_muted_user_starts_muted_again() {
    let mut room = room();
    enter(&mut room, 1);
    room.apply(&"seats".into(), Action::Mute(Target::User(UserId(1))), T);
    assert!(room.starts_muted(UserId(1)));
    let out = speak(&mut room, 1, 100, Source::Mic);
    assert_eq!(paused(&out), [(true, true)]);
    assert!(room.wants_paused(prod(100)));
}

#[test]
fn the_first_rtp_is_told_once_and_billed_to_the_end() {
    let mut room = room();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    let out = room.on_first_rtp(prod(100), packet(), UnixMs(2_000));
    assert_eq!(told(&out), [], "clients are told when it is noted");
    let begun = Event::FirstRtp {
        producer: prod(100),
        user: UserId(1),
        at: UnixMs(2_000),
    };
    let out = room.on_beginning_noted(prod(100), UserId(1), UnixMs(2_000));
    assert_eq!(told(&out).first(), Some(&(Audience::Room, &begun)));
    assert!(
        room.on_first_rtp(prod(100), packet(), UnixMs(3_000))
            .is_empty()
    );
    let out = room
        .commit_close_producer(pid(1), prod(100), UnixMs(4_000))
        .unwrap();
    let first = out.iter().find_map(|one| match one {
        Output::Inform(Fact::ProducerClosed { first_rtp_at, .. }) => *first_rtp_at,
        _ => None,
    });
    assert_eq!(first, Some(UnixMs(2_000)));
    assert!(
        room.on_first_rtp(prod(100), packet(), T).is_empty(),
        "after the end there is no first"
    );
    let noted = room.on_beginning_noted(prod(100), UserId(1), UnixMs(2_000));
    assert_eq!(told(&noted), [], "nor is anything announced");
}

#[test]
fn silence_is_told_and_a_muted_speaker_is_one() {
    let mut room = room();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    let level = [Level {
        producer: prod(100),
        volume: -20,
    }];
    let out = room.on_levels(&level, UnixMs(100));
    assert!(matches!(told(&out)[0].1, Event::Speaking { speakers, .. } if speakers.len() == 1));
    let out = room
        .commit_self_mute(pid(1), prod(100), true, UnixMs(200))
        .unwrap();
    let silent = told(&out)
        .into_iter()
        .any(|(_, event)| matches!(event, Event::Speaking { speakers, .. } if speakers.is_empty()));
    assert!(silent);
    assert!(
        room.on_levels(&level, UnixMs(300)).is_empty(),
        "an old report is not believed"
    );
}

#[test]
fn what_plugins_emit_reaches_only_the_addressed() {
    let mut room = room();
    enter(&mut room, 1);
    let plugin: Arc<str> = "seats".into();
    let emit = |audience: Option<UserId>, except| match audience {
        Some(user) => Action::EmitToUser {
            user,
            event: "x:y".to_owned(),
            payload: json!(1),
        },
        None => Action::EmitToRoom {
            event: "x:y".to_owned(),
            payload: json!(1),
            except,
        },
    };
    for (action, audience) in [
        (emit(Some(UserId(1)), None), Audience::User(UserId(1))),
        (emit(None, None), Audience::Room),
        (
            emit(None, Some(UserId(1))),
            Audience::RoomExceptUser(UserId(1)),
        ),
    ] {
        let out = room.apply(&plugin, action, T);
        assert_eq!(told(&out)[0].0, audience);
    }
}

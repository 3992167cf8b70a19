//! When streams begin, stop and go on.

use super::*;
use crate::model::FactId;

fn at(seconds: u64) -> UnixMs {
    UnixMs(seconds * 1_000)
}

/// What plugins are told of streams: what, whose, why, when in seconds.
fn facts(out: &[Output]) -> Vec<(&'static str, u64, &'static str, u64)> {
    out.iter()
        .filter_map(|one| match one {
            Output::Inform(fact) => fact_of(fact),
            _ => None,
        })
        .collect()
}

fn fact_of(fact: &Fact) -> Option<(&'static str, u64, &'static str, u64)> {
    Some(match fact {
        Fact::FirstRtp {
            participant, at, ..
        } => ("first", participant.user.id.0, "", at.0 / 1_000),
        Fact::ProducerPaused {
            participant,
            cause,
            at,
            ..
        } => (
            "paused",
            participant.user.id.0,
            cause.as_str(),
            at.0 / 1_000,
        ),
        Fact::ProducerResumed {
            participant,
            cause,
            at,
            ..
        } => (
            "resumed",
            participant.user.id.0,
            cause.as_str(),
            at.0 / 1_000,
        ),
        Fact::ProducerClosed {
            participant, at, ..
        } => ("closed", participant.user.id.0, "", at.0 / 1_000),
        _ => return None,
    })
}

fn ids(out: &[Output]) -> Vec<FactId> {
    let facts = out.iter().filter_map(|one| match one {
        Output::Inform(fact) => fact.id(),
        _ => None,
    });
    facts.collect()
}

/// A room with user 1, whose producer 100 began to send at 1 s.
fn speaking() -> RoomState {
    let mut room = room();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    let out = room.on_first_rtp(prod(100), packet(), at(1));
    assert_eq!(facts(&out), [("first", 1, "", 1)]);
    room
}

fn both_sides() -> RoomState {
    let limits = Limits {
        both_sides: true,
        ..limits()
    };
    let mut room = RoomState::new(
        RoomId::new("call").unwrap(),
        FactId(Uuid::from_u128(1)),
        limits,
    );
    for n in 1..=3 {
        enter(&mut room, n);
        speak(&mut room, n, n * 100, Source::Mic);
    }
    room
}

fn mute_by(room: &mut RoomState, plugin: &str, muted: bool, when: UnixMs) -> Vec<Output> {
    let target = Target::Producer(prod(100));
    let action = if muted {
        Action::Mute(target)
    } else {
        Action::Unmute(target)
    };
    room.apply(&plugin.into(), action, when)
}

fn self_mute(room: &mut RoomState, muted: bool, when: UnixMs) -> Vec<Output> {
    room.commit_self_mute(pid(1), prod(100), muted, when)
        .unwrap()
}

fn quiet(room: &mut RoomState, last: u64, now: u64) -> Vec<Output> {
    room.on_look(prod(100), Some(at(last)), false, at(now))
}

#[test]
fn pauses_and_their_ends_come_in_turns_and_each_is_a_fact_of_its_own() {
    let mut room = speaking();
    let mut all = Vec::new();
    for turn in 0..3 {
        all.extend(self_mute(&mut room, true, at(10 + turn * 2)));
        all.extend(self_mute(&mut room, true, at(10 + turn * 2)));
        all.extend(self_mute(&mut room, false, at(11 + turn * 2)));
    }
    let expected: Vec<_> = (0..3)
        .flat_map(|turn| {
            [
                ("paused", 1, "user", 10 + turn * 2),
                ("resumed", 1, "user", 11 + turn * 2),
            ]
        })
        .collect();
    assert_eq!(facts(&all), expected);
    let expected: Vec<_> = (1..=3)
        .flat_map(|nth| {
            [
                FactId::paused(prod(100), nth),
                FactId::resumed(prod(100), nth),
            ]
        })
        .collect();
    assert_eq!(ids(&all), expected);
}

#[test]
fn of_several_who_hold_a_stream_muted_the_first_stops_it_and_the_last_lets_it_go_on() {
    let mut room = speaking();
    let mut all = mute_by(&mut room, "seats", true, at(10));
    all.extend(mute_by(&mut room, "moderation", true, at(11)));
    all.extend(self_mute(&mut room, true, at(12)));
    all.extend(mute_by(&mut room, "seats", false, at(13)));
    all.extend(mute_by(&mut room, "moderation", false, at(14)));
    all.extend(self_mute(&mut room, false, at(15)));
    assert_eq!(
        facts(&all),
        [("paused", 1, "plugin", 10), ("resumed", 1, "plugin", 15)]
    );
}

#[test]
fn a_user_whom_a_plugin_mutes_stops_to_flow_with_all_that_they_send() {
    let mut room = speaking();
    speak(&mut room, 1, 101, Source::Music);
    let user = Target::User(UserId(1));
    let out = room.apply(&"mod".into(), Action::Mute(user), at(10));
    assert_eq!(
        facts(&out),
        [("paused", 1, "plugin", 10)],
        "what has not begun does not stop"
    );
    let out = room.apply(&"mod".into(), Action::Unmute(user), at(11));
    assert_eq!(facts(&out), [("resumed", 1, "plugin", 11)]);
}

#[test]
fn silence_counts_from_the_last_packet_and_ends_with_the_next() {
    let mut room = speaking();
    assert_eq!(facts(&quiet(&mut room, 20, 34)), []);
    let out = quiet(&mut room, 20, 36);
    assert_eq!(facts(&out), [("paused", 1, "silence", 20)]);
    assert_eq!(facts(&quiet(&mut room, 20, 50)), [], "told once");
    let out = room.on_rtp_again(prod(100), at(60));
    assert_eq!(facts(&out), [("resumed", 1, "silence", 60)]);
    assert_eq!(facts(&room.on_rtp_again(prod(100), at(61))), []);
    // What the worker did not say is seen at a look.
    let out = quiet(&mut room, 62, 80);
    assert_eq!(facts(&out), [("paused", 1, "silence", 62)]);
    let out = room.on_look(prod(100), Some(at(85)), true, at(85));
    assert_eq!(facts(&out), [("resumed", 1, "silence", 85)]);
}

#[test]
fn a_pause_of_speech_is_no_silence() {
    let mut room = speaking();
    for second in 2..60 {
        let grew = second % 10 == 0;
        let out = room.on_look(prod(100), Some(at(second / 10 * 10)), grew, at(second));
        assert_eq!(facts(&out), [], "{second}");
    }
}

#[test]
fn nothing_is_expected_of_a_muted_stream() {
    let mut room = speaking();
    self_mute(&mut room, true, at(10));
    assert_eq!(facts(&quiet(&mut room, 10, 100)), []);
    let out = self_mute(&mut room, false, at(100));
    assert_eq!(facts(&out), [("resumed", 1, "user", 100)]);
    assert_eq!(
        facts(&quiet(&mut room, 10, 110)),
        [],
        "it has time to begin"
    );
    // It stopped no earlier than it went on.
    let out = quiet(&mut room, 10, 116);
    assert_eq!(facts(&out), [("paused", 1, "silence", 100)]);
}

#[test]
fn a_silent_stream_that_is_muted_stays_what_it_is_until_it_is_neither() {
    let mut room = speaking();
    quiet(&mut room, 20, 40);
    let mut all = self_mute(&mut room, true, at(41));
    all.extend(self_mute(&mut room, false, at(42)));
    assert_eq!(facts(&all), [], "still silent");
    let mut all = self_mute(&mut room, true, at(43));
    all.extend(room.on_rtp_again(prod(100), at(44)));
    assert_eq!(facts(&all), [], "still muted");
    let out = self_mute(&mut room, false, at(45));
    assert_eq!(
        facts(&out),
        [("resumed", 1, "silence", 45)],
        "by the name under which it stopped"
    );
}

#[test]
fn a_stream_that_ends_while_it_is_paused_is_not_resumed_first() {
    let mut room = speaking();
    self_mute(&mut room, true, at(10));
    let out = room
        .commit_close_producer(pid(1), prod(100), at(20))
        .unwrap();
    assert_eq!(facts(&out), [("closed", 1, "", 20)]);
    assert_eq!(ids(&out), [FactId::closed(prod(100))]);
    assert_eq!(facts(&room.on_rtp_again(prod(100), at(21))), []);
    assert_eq!(facts(&quiet(&mut room, 20, 99)), []);
}

#[test]
fn what_has_not_begun_neither_stops_nor_goes_on() {
    let mut room = room();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    let mut all = self_mute(&mut room, true, at(1));
    all.extend(self_mute(&mut room, false, at(2)));
    all.extend(quiet(&mut room, 1, 60));
    all.extend(room.on_rtp_again(prod(100), at(61)));
    assert_eq!(facts(&all), []);
    assert_eq!(room.begun().count(), 0);
}

#[test]
fn a_packet_that_was_under_way_when_the_mute_came_is_no_start() {
    let mut room = room();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    self_mute(&mut room, true, at(1));
    assert!(room.on_first_rtp(prod(100), packet(), at(1)).is_empty());
    let out = self_mute(&mut room, false, at(2));
    assert_eq!(facts(&out), []);
    let again = Output::WatchFirstRtp(prod(100));
    assert!(out.contains(&again), "what follows may be one: {out:?}");
    let out = room.on_first_rtp(prod(100), packet(), at(3));
    assert_eq!(facts(&out), [("first", 1, "", 3)]);
    self_mute(&mut room, true, at(4));
    assert!(!self_mute(&mut room, false, at(5)).contains(&again));
}

#[test]
fn the_beginning_is_told_with_the_packet_that_proves_it() {
    let mut room = room();
    enter(&mut room, 1);
    speak(&mut room, 1, 100, Source::Mic);
    let out = room.on_first_rtp(prod(100), packet(), at(3));
    let evidence = out.iter().find_map(|one| match one {
        Output::Inform(Fact::FirstRtp { packet, .. }) => Some(*packet),
        _ => None,
    });
    assert_eq!(evidence, Some(packet()));
    assert_eq!(room.begun().collect::<Vec<_>>(), [prod(100)]);
}

#[test]
fn where_both_sides_are_to_flow_the_second_begins_both_and_a_third_follows_at_once() {
    let mut room = both_sides();
    let out = room.on_first_rtp(prod(200), packet(), at(5));
    assert!(out.is_empty(), "one side alone: {out:?}");
    let out = room.on_first_rtp(prod(100), packet(), at(9));
    assert_eq!(facts(&out), [("first", 2, "", 9), ("first", 1, "", 9)]);
    let out = room.on_first_rtp(prod(300), packet(), at(12));
    assert_eq!(facts(&out), [("first", 3, "", 12)]);
}

#[test]
fn two_streams_of_one_user_are_one_side() {
    let mut room = both_sides();
    speak(&mut room, 1, 101, Source::Music);
    assert!(room.on_first_rtp(prod(100), packet(), at(5)).is_empty());
    assert!(room.on_first_rtp(prod(101), packet(), at(6)).is_empty());
    let out = room.on_first_rtp(prod(200), packet(), at(7));
    let whose: Vec<_> = facts(&out).iter().map(|(_, user, ..)| *user).collect();
    assert_eq!(whose, [1, 1, 2]);
}

#[test]
fn a_side_that_went_before_the_other_came_has_never_begun() {
    let mut room = both_sides();
    room.on_first_rtp(prod(100), packet(), at(5));
    let out = room.commit_leave(pid(1), &Departure::Left, at(6));
    let begun = out.iter().find_map(|one| match one {
        Output::Inform(Fact::ProducerClosed { first_rtp_at, .. }) => Some(*first_rtp_at),
        _ => None,
    });
    assert_eq!(begun, Some(None));
    assert!(room.on_first_rtp(prod(200), packet(), at(7)).is_empty());
    let out = room.on_first_rtp(prod(300), packet(), at(8));
    assert_eq!(facts(&out), [("first", 2, "", 8), ("first", 3, "", 8)]);
}

#[test]
fn a_side_that_was_muted_while_the_other_was_waited_for_begins_and_stops_at_once() {
    let mut room = both_sides();
    room.on_first_rtp(prod(100), packet(), at(5));
    assert_eq!(facts(&self_mute(&mut room, true, at(6))), []);
    let out = room.on_first_rtp(prod(200), packet(), at(9));
    assert_eq!(
        facts(&out),
        [
            ("first", 1, "", 9),
            ("first", 2, "", 9),
            ("paused", 1, "user", 9)
        ]
    );
    let out = self_mute(&mut room, false, at(10));
    assert_eq!(facts(&out), [("resumed", 1, "user", 10)]);
}

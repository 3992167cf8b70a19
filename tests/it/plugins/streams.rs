//! What plugins are told of streams: when they begin, stop, go on and end, by the packets
//! that a client really sends.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use voice_room::{
    config::PluginConfig,
    model::{FactId, FirstPacket, MediaCount, PauseCause, ProducerId, RoomId, UnixMs},
    plugin::{Action, Fact, Input, Line, Target},
    room::Direction,
};

use super::rig::{LIMIT, fixture};
use crate::{
    house::{Guest, House},
    peer::{Disturbance, Peer, Track},
};

const LOUD: i8 = -20;
const SILENT: i8 = -127;
/// RTP time of one packet of the test's client.
const TICKS: u32 = 960;

/// Rooms with every rule, and a plugin whose calls are recorded.
const RULES: &str = "
    [[rooms.first_rtp_by_room]]
    prefix = 'fifty-'
    packets = 50
    [[rooms.first_rtp_by_room]]
    prefix = 'loud-'
    min_level_dbov = -50
    [[rooms.first_rtp_by_room]]
    prefix = 'call-'
    both_sides = true
";

async fn house(file: &str) -> House {
    let plugin = PluginConfig {
        record: true,
        ..fixture(&json!({}))
    };
    House::build(1, file, &[plugin]).await
}

/// What the plugin was told of a producer, in order.
fn told(house: &House, of: ProducerId) -> Vec<Fact> {
    let facts = house.recorded().into_iter().filter_map(|line| match line {
        Line::Call(call) if call.input.producer() == Some(of) => match &*call.input {
            Input::Fact(fact) => Some(fact.clone()),
            _ => None,
        },
        _ => None,
    });
    facts.collect()
}

/// Waits until the plugin was told something of a producer.
async fn until<T>(house: &House, of: ProducerId, find: impl Fn(&Fact) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = told(house, of).iter().find_map(&find) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, found)
        .await
        .unwrap_or_else(|_| panic!("not told in time: {:?}", told(house, of)))
}

async fn begun(house: &House, of: ProducerId) -> (FirstPacket, UnixMs) {
    until(house, of, |fact| match fact {
        Fact::FirstRtp { packet, at, .. } => Some((*packet, *at)),
        _ => None,
    })
    .await
}

/// When the plugin was told that it had begun, and what was received in all.
async fn ended(house: &House, of: ProducerId) -> (Option<UnixMs>, MediaCount) {
    until(house, of, |fact| match fact {
        Fact::ProducerClosed {
            first_rtp_at,
            media,
            ..
        } => Some((*first_rtp_at, *media)),
        _ => None,
    })
    .await
}

/// The pauses of a producer and their ends.
fn turns(house: &House, of: ProducerId) -> Vec<(bool, PauseCause, UnixMs, FactId)> {
    let turn = |fact: Fact| match fact {
        Fact::ProducerPaused {
            cause, at, fact, ..
        } => Some((true, cause, at, fact)),
        Fact::ProducerResumed {
            cause, at, fact, ..
        } => Some((false, cause, at, fact)),
        _ => None,
    };
    told(house, of).into_iter().filter_map(turn).collect()
}

async fn turned(house: &House, of: ProducerId, count: usize) -> Vec<(bool, PauseCause, UnixMs)> {
    until(house, of, |_| {
        let turns = turns(house, of);
        (turns.len() >= count).then_some(())
    })
    .await;
    let turns = turns(house, of);
    let turns = turns.into_iter();
    turns
        .map(|(paused, cause, at, _)| (paused, cause, at))
        .collect()
}

fn payload_type(track: &Track) -> u8 {
    let number = &track.rtp_parameters["codecs"][0]["payloadType"];
    u8::try_from(number.as_u64().unwrap()).unwrap()
}

/// Somebody with a stream, and a listener who hears all of it.
struct Talk {
    ada: Guest,
    ben: Guest,
    peer: Peer,
    track: Track,
    producer: ProducerId,
    ear: (Peer, u32),
}

impl Talk {
    async fn new(house: &House, room: &str) -> Self {
        let (ada, ben) = (house.join(room, 1).await, house.join(room, 2).await);
        let (peer, track, producer) = ada.speaker().await;
        let ear = ben.listener(producer).await;
        Self {
            ada,
            ben,
            peer,
            track,
            producer,
            ear,
        }
    }

    /// Falls silent, and waits until the server has forwarded what was sent in all.
    async fn hush(&self) -> crate::peer::Sent {
        let sent = self.peer.hush(&self.track).await;
        let (ear, ssrc) = &self.ear;
        ear.until("all heard", |progress| {
            let heard = progress.received.get(ssrc);
            heard.is_some_and(|stream| stream.packets >= sent.packets)
        })
        .await;
        sent
    }
}

/// Closer than the silence that the test waits for; a busy machine takes its time.
fn close_to(time: UnixMs, expected: UnixMs) {
    let apart = time.0.abs_diff(expected.0);
    assert!(apart < 3_000, "{apart} ms apart: {time:?}, {expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_the_packet_that_proves_it_and_ends_with_what_was_received() {
    let house = house("").await;
    let before = UnixMs::now();
    let talk = Talk::new(&house, "stage").await;
    talk.peer.speak(&talk.track, SILENT).await;
    let (packet, at) = begun(&house, talk.producer).await;
    assert_eq!(packet.ssrc, talk.track.ssrc);
    assert_eq!(packet.timestamp.map(|time| time % TICKS), Some(0));
    assert!(packet.timestamp < Some(50 * TICKS), "{packet:?}");
    assert_eq!(packet.payload_type, payload_type(&talk.track));
    assert!(packet.after_ms <= at.0 - before.0, "{packet:?}");

    talk.peer.sends(&talk.track, 50).await;
    let sent = talk.hush().await;
    talk.ada.membership.leave();
    let (first, media) = ended(&house, talk.producer).await;
    assert_eq!(first, Some(at));
    assert_eq!(media.packets, sent.packets);
    // RTP headers with two extensions, and the frames.
    assert!(media.bytes >= sent.packets * 92, "{media:?}");
    assert!(media.last_rtp_at >= first && media.last_rtp_at <= Some(UnixMs::now()));
    let ids: Vec<_> = told(&house, talk.producer)
        .iter()
        .filter_map(Fact::id)
        .collect();
    let id = talk.producer;
    assert_eq!(ids, [FactId::first_rtp(id), FactId::closed(id)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_names_no_ssrc_begins_with_what_its_score_knows() {
    let house = house(RULES).await;
    for room in ["stage", "fifty-1", "loud-1"] {
        let ada = house.join(room, 1).await;
        let (mut peer, transport) = ada.connect(Direction::Send).await;
        let track = peer.add_track().await;
        let mut parameters = track.rtp_parameters.clone();
        parameters["encodings"] = json!([{ "dtx": false }]);
        let producer = ada.produce(&transport, &parameters).await;
        peer.speak(&track, LOUD).await;
        let (packet, _) = begun(&house, producer).await;
        assert_eq!(
            (packet.ssrc, packet.timestamp),
            (track.ssrc, None),
            "{room}"
        );
        assert_eq!(packet.payload_type, payload_type(&track), "{room}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_packets_or_softer_ones_than_the_rule_asks_for_are_no_beginning() {
    let house = house(RULES).await;
    let few = Talk::new(&house, "fifty-1").await;
    few.peer.speak(&few.track, LOUD).await;
    few.peer.sends(&few.track, 4).await;
    let sent = few.hush().await;
    assert!(
        sent.packets < 10,
        "a machine that is too busy for this test"
    );
    few.ada.membership.close_producer(few.producer).unwrap();
    let (first, media) = ended(&house, few.producer).await;
    assert_eq!((first, media.packets), (None, sent.packets));

    let (peer, track, many) = few.ben.speaker().await;
    peer.speak(&track, SILENT).await;
    let (packet, _) = begun(&house, many).await;
    assert!(packet.timestamp >= Some(49 * TICKS), "{packet:?}");
    assert!(packet.after_ms >= 900, "{packet:?}");

    let soft = Talk::new(&house, "loud-1").await;
    soft.peer.speak(&soft.track, SILENT).await;
    soft.peer.sends(&soft.track, 50).await;
    soft.hush().await;
    soft.ada.membership.close_producer(soft.producer).unwrap();
    assert_eq!(ended(&house, soft.producer).await.0, None);

    let (peer, track, loud) = soft.ben.speaker().await;
    peer.speak(&track, SILENT).await;
    peer.sends(&track, 25).await;
    peer.speak(&track, LOUD).await;
    let (packet, _) = begun(&house, loud).await;
    assert!(packet.timestamp >= Some(25 * TICKS), "{packet:?}");
    assert_eq!(packet.ssrc, track.ssrc);
}

#[tokio::test(flavor = "multi_thread")]
async fn spoofed_tampered_and_replayed_packets_do_not_count() {
    let house = house(RULES).await;
    let ada = house.join("stage", 1).await;
    let (mut peer, transport) = ada.connect(Direction::Send).await;
    let (track, stranger) = (peer.add_track().await, peer.add_track().await);
    let producer = ada.produce(&transport, &track.rtp_parameters).await;
    peer.say(&stranger, LOUD, 25).await;
    peer.disturb(Disturbance::Tampered).await;
    peer.say(&track, LOUD, 25).await;
    ada.membership.close_producer(producer).unwrap();
    let (first, media) = ended(&house, producer).await;
    assert_eq!((first, media), (None, MediaCount::default()));

    let talk = Talk::new(&house, "fifty-1").await;
    talk.peer.disturb(Disturbance::Replayed).await;
    talk.peer.speak(&talk.track, LOUD).await;
    let (packet, _) = begun(&house, talk.producer).await;
    assert!(packet.timestamp >= Some(49 * TICKS), "{packet:?}");
    let sent = talk.hush().await;
    talk.ada.membership.close_producer(talk.producer).unwrap();
    assert_eq!(ended(&house, talk.producer).await.1.packets, sent.packets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_of_speech_is_no_pause_and_a_longer_silence_is_one_since_the_last_packet() {
    let house = house("rooms.heartbeat_ms = 100\nrooms.silence_ms = 4000").await;
    let talk = Talk::new(&house, "stage").await;
    talk.peer.speak(&talk.track, LOUD).await;
    begun(&house, talk.producer).await;
    talk.peer.hush(&talk.track).await;
    // The gap itself.
    tokio::time::sleep(Duration::from_secs(1)).await;
    talk.peer.speak(&talk.track, LOUD).await;
    talk.peer.sends(&talk.track, 10).await;
    let sent = talk.hush().await;
    let turns = turned(&house, talk.producer, 1).await;
    let [(true, PauseCause::Silence, since)] = turns[..] else {
        panic!("{turns:?}")
    };
    close_to(since, sent.last);

    let again = UnixMs::now();
    talk.peer.speak(&talk.track, LOUD).await;
    let turns = turned(&house, talk.producer, 2).await;
    let [_, (false, PauseCause::Silence, resumed)] = turns[..] else {
        panic!("{turns:?}")
    };
    close_to(resumed, again);
    talk.peer.sends(&talk.track, 10).await;
    let sent = talk.hush().await;
    talk.ada.membership.leave();
    assert_eq!(ended(&house, talk.producer).await.1.packets, sent.packets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_pauses_a_stream_and_its_end_resumes_it_whoever_does_it() {
    let house = house("").await;
    let talk = Talk::new(&house, "stage").await;
    let id = talk.producer;
    talk.peer.speak(&talk.track, LOUD).await;
    begun(&house, id).await;
    talk.ada.membership.self_mute(id, true).unwrap();
    talk.ada.membership.self_mute(id, false).unwrap();
    let (stage, plugin): (_, Arc<str>) = (RoomId::new("stage").unwrap(), "stage".into());
    for action in [
        Action::Mute(Target::Producer(id)),
        Action::Unmute(Target::Producer(id)),
    ] {
        house.rooms.carry_out(&stage, &plugin, vec![action]);
    }
    let told = turned(&house, id, 4).await;
    let told: Vec<_> = told
        .iter()
        .map(|(paused, why, _)| (*paused, *why))
        .collect();
    let (user, plugin) = (PauseCause::User, PauseCause::Plugin);
    assert_eq!(
        told,
        [(true, user), (false, user), (true, plugin), (false, plugin)]
    );
    let ids: Vec<_> = turns(&house, id).iter().map(|turn| turn.3).collect();
    let nth = |nth| [FactId::paused(id, nth), FactId::resumed(id, nth)];
    assert_eq!(ids, [nth(1), nth(2)].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_both_sides_are_to_flow_they_begin_together() {
    let house = house(RULES).await;
    let (ada, ben) = (house.join("call-1", 1).await, house.join("call-1", 2).await);
    let (one, other) = (ada.speaker().await, ben.speaker().await);
    one.0.speak(&one.1, LOUD).await;
    one.0.sends(&one.1, 25).await;
    let heard = told(&house, one.2);
    assert!(
        !heard
            .iter()
            .any(|fact| matches!(fact, Fact::FirstRtp { .. })),
        "one side alone: {heard:?}"
    );
    other.0.speak(&other.1, LOUD).await;
    let (first, second) = (begun(&house, one.2).await, begun(&house, other.2).await);
    assert_eq!(first.1, second.1, "the moment when both flow");
    assert_eq!(first.0.ssrc, one.1.ssrc);
    assert_eq!(second.0.ssrc, other.1.ssrc);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_gives_way_to_its_own_successor_is_counted_first() {
    let house = house("").await;
    let ada = house.join("stage", 1).await;
    let ben = house.join("stage", 2).await;
    let (mut peer, transport) = ada.connect(Direction::Send).await;
    let track = peer.add_track().await;
    let producer = ada.produce(&transport, &track.rtp_parameters).await;
    let (ear, ssrc) = ben.listener(producer).await;
    peer.speak(&track, LOUD).await;
    begun(&house, producer).await;
    let sent = peer.hush(&track).await;
    ear.until("all heard", |progress| {
        let heard = progress.received.get(&ssrc);
        heard.is_some_and(|stream| stream.packets >= sent.packets)
    })
    .await;
    let next = ada.produce(&transport, &track.rtp_parameters).await;
    assert_eq!(ended(&house, producer).await.1.packets, sent.packets);
    peer.speak(&track, LOUD).await;
    begun(&house, next).await;
}

//! Who is heard in a room with more producers than it forwards: real workers, real
//! packets with real levels.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use voice_room::{
    model::{ProducerId, RoomId, UserId},
    plugin::{Action, Pin},
    room::Flow,
};

use crate::{
    house::{Ear, Guest, House, Stream},
    peer::{LIMIT, Peer, Track},
};

const LOUD: i8 = -20;
const SILENT: i8 = -127;

/// Somebody who sends, silence at first.
struct Voice {
    _guest: Guest,
    peer: Peer,
    track: Track,
    producer: ProducerId,
}

impl Voice {
    async fn of(house: &House, user: u64) -> Self {
        let guest = house.join("hall", user).await;
        let (peer, track, producer) = guest.speaker().await;
        peer.speak(&track, SILENT).await;
        Self {
            _guest: guest,
            peer,
            track,
            producer,
        }
    }

    async fn says(&self, level: i8) {
        self.peer.speak(&self.track, level).await;
    }
}

async fn voices(house: &House, count: u64) -> Vec<Voice> {
    join_all((1..=count).map(|user| Voice::of(house, user))).await
}

/// Waits until a stream has stopped: no packet of it while another's come in.
async fn stops(ear: &Ear, stream: &Stream, witness: &Stream) {
    let stopped = async {
        loop {
            let before = ear.packets(stream);
            ear.hears(witness, 10).await;
            if ear.packets(stream) == before {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, stopped)
        .await
        .expect("a stream that stops");
}

fn hall() -> RoomId {
    RoomId::new("hall").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_one_is_deferred_and_flows_by_itself_when_it_speaks() {
    let house = House::with(1, "rooms.max_active_speakers = 1").await;
    let voices = voices(&house, 2).await;
    let cay = house.join("hall", 10).await;
    let ear = cay.ear().await;
    voices[0].says(LOUD).await;
    let (first, _) = cay.hear(&ear, voices[0].producer).await;
    ear.hears(&first, 10).await;
    let (second, flow) = cay.hear(&ear, voices[1].producer).await;
    assert_eq!(flow, Flow::Deferred);

    // Both at once: there is one place, and it is taken.
    voices[1].says(LOUD).await;
    ear.hears(&first, 20).await;
    assert_eq!(ear.packets(&second), 0);
    voices[0].says(SILENT).await;
    ear.hears(&second, 10).await;
    stops(&ear, &first, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_below_its_limit_defers_nothing() {
    let house = House::with(1, "rooms.max_active_speakers = 2").await;
    let voices = voices(&house, 2).await;
    let cay = house.join("hall", 10).await;
    let ear = cay.ear().await;
    for voice in &voices {
        let (stream, flow) = cay.hear(&ear, voice.producer).await;
        assert_eq!(flow, Flow::Resumed, "silent as it is");
        ear.hears(&stream, 5).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_paused_is_never_overruled() {
    let house = House::with(1, "rooms.max_active_speakers = 1").await;
    let voices = voices(&house, 2).await;
    let (cay, dan) = (house.join("hall", 10).await, house.join("hall", 11).await);
    let (one, other) = (cay.ear().await, dan.ear().await);
    let (paused, flow) = cay.hear(&one, voices[0].producer).await;
    assert_eq!(flow, Flow::Deferred);
    let flow = cay.membership.pause_consumer(paused.consumer, true).await;
    assert_eq!(flow.unwrap(), Flow::Paused);
    let unasked = dan.consume(&other, voices[1].producer).await;
    let (witness, _) = dan.hear(&other, voices[0].producer).await;
    let (heard, _) = cay.hear(&one, voices[1].producer).await;

    voices[0].says(LOUD).await;
    other.hears(&witness, 20).await;
    assert_eq!(one.packets(&paused), 0, "paused by its client");
    voices[0].says(SILENT).await;
    voices[1].says(LOUD).await;
    one.hears(&heard, 20).await;
    assert_eq!(other.packets(&unasked), 0, "never asked for");

    // What was paused flows when its client says so, if its producer is heard.
    voices[1].says(SILENT).await;
    voices[0].says(LOUD).await;
    other.hears(&witness, 10).await;
    let flow = cay.membership.pause_consumer(paused.consumer, false).await;
    assert_eq!(flow.unwrap(), Flow::Resumed);
    one.hears(&paused, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_silent_too_long_is_no_longer_forwarded() {
    let config = "rooms.max_active_speakers = 2\nrooms.active_speaker_hold_ms = 1000";
    let house = House::with(1, config).await;
    let voices = voices(&house, 3).await;
    let cay = house.join("hall", 10).await;
    let ear = cay.ear().await;
    let (first, _) = cay.hear(&ear, voices[0].producer).await;
    let (witness, _) = cay.hear(&ear, voices[1].producer).await;
    voices[0].says(LOUD).await;
    voices[1].says(LOUD).await;
    ear.hears(&first, 10).await;
    ear.hears(&witness, 10).await;
    // Nobody wants the place, and it ends all the same.
    voices[0].says(SILENT).await;
    stops(&ear, &first, &witness).await;
    voices[0].says(LOUD).await;
    ear.hears(&first, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_on_every_router_are_resumed() {
    let config = "rooms.max_active_speakers = 1\nrooms.max_consumers_per_router = 2";
    let house = House::with(3, config).await;
    let voices = voices(&house, 2).await;
    let listen = (10..13).map(async |user| {
        let guest = house.join("hall", user).await;
        let ear = guest.ear().await;
        let (first, _) = guest.hear(&ear, voices[0].producer).await;
        let (second, _) = guest.hear(&ear, voices[1].producer).await;
        (guest, ear, first, second)
    });
    let audience = join_all(listen).await;
    assert_eq!(house.routers("hall"), 3);
    voices[0].says(LOUD).await;
    for (_, ear, first, _) in &audience {
        ear.hears(first, 10).await;
    }
    voices[0].says(SILENT).await;
    voices[1].says(LOUD).await;
    for (_, ear, first, second) in &audience {
        ear.hears(second, 10).await;
        stops(ear, first, second).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_claims_no_levels_speaks_when_it_sends_sound() {
    let house = House::with(1, "rooms.max_active_speakers = 1").await;
    let _silent = Voice::of(&house, 1).await;
    let ben = house.join("hall", 2).await;
    let (mut peer, transport) = ben.connect(voice_room::room::Direction::Send).await;
    let track = peer.add_track().await;
    let mut parameters = track.rtp_parameters.clone();
    parameters["headerExtensions"] = json!([]);
    let producer = ben.produce(&transport, &parameters).await;
    let cay = house.join("hall", 10).await;
    let ear = cay.ear().await;
    let (stream, flow) = cay.hear(&ear, producer).await;
    assert_eq!(flow, Flow::Deferred);
    peer.speak(&track, SILENT).await;
    ear.hears(&stream, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_pins_speakers_in_and_keeps_them_out() {
    let house = House::with(1, "rooms.max_active_speakers = 2").await;
    let voices = voices(&house, 3).await;
    let cay = house.join("hall", 10).await;
    let ear = cay.ear().await;
    let (first, flow) = cay.hear(&ear, voices[0].producer).await;
    assert_eq!(flow, Flow::Deferred);
    let stage: Arc<str> = "stage".into();
    let pin = |user, pin| {
        let user = UserId(user);
        let action = Action::PinSpeaker { user, pin };
        house.rooms.carry_out(&hall(), &stage, vec![action]);
    };
    pin(1, Pin::In);
    ear.hears(&first, 10).await;

    let (second, _) = cay.hear(&ear, voices[1].producer).await;
    voices[1].says(LOUD).await;
    ear.hears(&second, 10).await;
    pin(2, Pin::Out);
    stops(&ear, &second, &first).await;
    // Now two may be heard, and no more than two are there to be.
    let (_, flow) = cay.hear(&ear, voices[2].producer).await;
    assert_eq!(flow, Flow::Resumed);
    pin(2, Pin::Auto);
    ear.hears(&second, 10).await;
}

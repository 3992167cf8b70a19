//! What a stage tells of streams.

use serde_json::{Value, json};

use crate::{
    Actions, Failure, InitError, OnFirstRtp, OnProducerClosed, OnProducerPaused, OnProducerResumed,
    OnRoomClosed, Outcome, Plugin, Settings, Source, User, events,
    testing::{Joined, Produced, Stage},
};

/// Publishes what it is told of streams.
struct Witness;

impl Plugin for Witness {
    fn init(_settings: Settings) -> Result<Self, InitError> {
        Ok(Self)
    }

    fn on_first_rtp(&mut self, call: &OnFirstRtp) -> Outcome {
        events::publish("told", ("began", &call.fact_id, call.at))?;
        Ok(Actions::new())
    }

    fn on_producer_paused(&mut self, call: &OnProducerPaused) -> Outcome {
        let why = ("paused", &call.cause, &call.fact_id);
        events::publish("told", (why, call.media.packets, call.at))?;
        Ok(Actions::new())
    }

    fn on_producer_resumed(&mut self, call: &OnProducerResumed) -> Outcome {
        let why = ("resumed", &call.cause, &call.fact_id);
        events::publish("told", (why, call.media.packets, call.at))?;
        Ok(Actions::new())
    }

    fn on_producer_closed(&mut self, call: &OnProducerClosed) -> Outcome {
        let why = (&call.reason, &call.fact_id, call.first_rtp_at);
        let media = (call.media.packets, call.media.last_rtp_at);
        events::publish("told", (why, media, call.at))?;
        Ok(Actions::new())
    }

    fn on_room_closed(&mut self, call: &OnRoomClosed) -> Result<(), Failure> {
        events::publish("told", (&call.room.id, &call.reason, call.at))?;
        Ok(())
    }
}

fn stage() -> (Stage<Witness>, Joined, Produced) {
    let mut stage = Stage::<Witness>::new(json!({})).unwrap().twinned();
    let alice = stage.join("lobby", User::new(7)).unwrap();
    let mic = stage.produce(&alice, Source::Mic).unwrap();
    (stage, alice, mic)
}

fn told(stage: &Stage<Witness>) -> Vec<Value> {
    stage.published("told")
}

#[test]
fn pauses_and_resumptions_alternate_and_packets_come_only_between_them() {
    let (mut stage, alice, mic) = stage();
    let (mic, began) = (&mic.producer, stage.now());
    stage.pause(&alice, mic, "user").unwrap();
    assert_eq!(told(&stage), [] as [Value; 0], "it has not begun");
    stage.first_rtp(&alice, mic).unwrap();
    stage.resume(&alice, mic).unwrap();
    stage.advance(1_000).unwrap();
    stage.pause(&alice, mic, "user").unwrap();
    stage.pause(&alice, mic, "plugin").unwrap();
    stage.advance(5_000).unwrap();
    stage.resume(&alice, mic).unwrap();
    stage.advance(3_000).unwrap();
    stage.silence(&alice, mic, began + 7_000).unwrap();
    stage.close(&alice, mic, "closed").unwrap();
    assert_eq!(
        told(&stage),
        [
            json!(["began", "first-rtp of producer-2", began]),
            json!([
                ["paused", "user", "paused/1 of producer-2"],
                51,
                began + 1_000
            ]),
            json!([
                ["resumed", "user", "resumed/1 of producer-2"],
                51,
                began + 6_000
            ]),
            json!([
                ["paused", "silence", "paused/2 of producer-2"],
                101,
                began + 7_000
            ]),
            json!([
                ["closed", "closed of producer-2", began],
                [101, began + 7_000],
                began + 9_000
            ]),
        ]
    );
}

#[test]
fn a_fact_that_is_told_again_is_the_same_one() {
    let (mut stage, alice, mic) = stage();
    stage.first_rtp(&alice, &mic.producer).unwrap();
    stage.advance(40).unwrap();
    stage.first_rtp(&alice, &mic.producer).unwrap();
    let told = told(&stage);
    assert_eq!(told[0], told[1]);
}

#[test]
fn what_a_killed_server_left_open_is_told_once() {
    let (mut stage, alice, mic) = stage();
    stage.first_rtp(&alice, &mic.producer).unwrap();
    let began = stage.now();
    stage.advance(200).unwrap();
    stage.restart_server().unwrap();
    stage.advance(60_000).unwrap();
    assert_eq!(told(&stage).len(), 1, "it is not running yet");
    stage.recover().unwrap();
    stage.recover().unwrap();
    let end = json!(["recovered", "closed of producer-2", began]);
    assert_eq!(
        told(&stage)[1..],
        [
            json!([end, [11, began + 200], began + 200]),
            json!(["lobby", "recovered", began + 200]),
        ]
    );
}

mod balances;
mod schemas;
mod tariffs;

use serde_json::{Value, json};
use voice_room_plugin_sdk::{
    Source, User,
    testing::{Joined, Stage, counter, keys, published, set_settings, timers},
};

use super::*;

fn stage(settings: Value) -> (Stage<Billing>, Joined) {
    let stage = Stage::new(settings).unwrap().twinned();
    // As it comes: whoever renames the topics changes the manifest as well.
    let manifest = include_str!("../plugin.toml").replace("billing.*", "*");
    let mut stage = stage.with_manifest(&manifest).unwrap();
    let alice = stage.join("lobby", User::new(7)).unwrap();
    (stage, alice)
}

fn topics() -> Vec<String> {
    published().into_iter().map(|event| event.topic).collect()
}

#[test]
fn a_session_starts_with_the_first_packet_and_stops_with_the_producer() {
    let (mut stage, alice) = stage(json!({}));
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    assert!(
        published().is_empty(),
        "a producer that is not heard costs nothing"
    );

    stage.first_rtp(&alice, &producer).unwrap();
    let started_at = stage.now();
    stage.advance(1_500).unwrap();
    stage.close(&alice, &producer, "closed").unwrap();

    let [started, stopped] = published().try_into().unwrap();
    assert_eq!(started.topic, "billing.started");
    assert_eq!(
        started.payload,
        json!({
            "sessionId": producer.id, "producerId": producer.id, "userId": 7,
            "roomId": "lobby", "source": "mic", "at": started_at, "tariff": null,
            "packet": { "ssrc": 1, "timestamp": 0, "payloadType": 111, "afterMs": 0 },
        })
    );
    assert_eq!(stopped.topic, "billing.stopped");
    assert_eq!(
        stopped.payload,
        json!({
            "sessionId": producer.id, "producerId": producer.id, "userId": 7,
            "roomId": "lobby", "source": "mic", "startedAt": started_at,
            "endedAt": started_at + 1_500, "durationMs": 1_500, "billedMs": 1_500,
            "segments": 1, "units": 0, "amount": 0, "currency": null,
            "media": { "packets": 76, "bytes": 7_600, "lastRtpAt": started_at + 1_500 },
            "reason": "closed", "closedAs": "closed",
        })
    );
    schemas::check_published();
    stage.advance(600_000).unwrap();
    assert!(
        keys().is_empty() && timers().is_empty(),
        "nothing is left behind"
    );
    assert_eq!(
        (counter("sessions_started"), counter("sessions_stopped")),
        (1, 1)
    );
}

#[test]
fn a_producer_that_was_never_heard_is_not_billed() {
    let (mut stage, alice) = stage(json!({}));
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    stage.close(&alice, &producer, "closed").unwrap();
    assert!(published().is_empty());
}

#[test]
fn a_source_that_is_not_configured_is_not_billed() {
    let (mut stage, alice) = stage(json!({}));
    let music = stage.produce(&alice, Source::Music).unwrap().producer;
    stage.first_rtp(&alice, &music).unwrap();
    stage.close(&alice, &music, "closed").unwrap();
    assert!(published().is_empty());
}

#[test]
fn sources_and_topics_can_be_configured() {
    let (mut stage, alice) = stage(json!({ "sources": ["music"], "topic_prefix": "acme.bill" }));
    let music = stage.produce(&alice, Source::Music).unwrap().producer;
    stage.first_rtp(&alice, &music).unwrap();
    stage.close(&alice, &music, "closed").unwrap();
    assert_eq!(topics(), ["acme.bill.started", "acme.bill.stopped"]);
}

#[test]
fn a_session_is_stopped_although_its_source_is_no_longer_billed() {
    let (mut stage, alice) = stage(json!({ "sources": ["mic", "music"] }));
    let music = stage.produce(&alice, Source::Music).unwrap().producer;
    stage.first_rtp(&alice, &music).unwrap();
    set_settings(&json!({ "sources": ["mic"] }));
    stage.replace_instance().unwrap();
    stage.advance(1_500).unwrap();
    stage.close(&alice, &music, "closed").unwrap();
    assert_eq!(topics(), ["billing.started", "billing.stopped"]);
    assert_eq!(published()[1].payload["durationMs"], 1_500);
}

#[test]
fn both_events_come_once_although_the_instance_is_replaced_in_between() {
    let (mut stage, alice) = stage(json!({}));
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    stage.first_rtp(&alice, &producer).unwrap();
    stage.replace_instance().unwrap();
    stage.close(&alice, &producer, "disconnected").unwrap();
    assert_eq!(topics(), ["billing.started", "billing.stopped"]);
}

#[test]
fn a_start_that_is_delivered_twice_is_published_once() {
    let (mut stage, alice) = stage(json!({}));
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    stage.first_rtp(&alice, &producer).unwrap();
    stage.first_rtp(&alice, &producer).unwrap();
    assert_eq!(topics(), ["billing.started"]);
}

#[test]
fn a_first_packet_that_is_told_of_after_the_end_starts_nothing() {
    let (mut stage, alice) = stage(json!({}));
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    stage.first_rtp(&alice, &producer).unwrap();
    stage.close(&alice, &producer, "closed").unwrap();
    stage.first_rtp(&alice, &producer).unwrap();
    stage.close(&alice, &producer, "closed").unwrap();
    assert_eq!(topics(), ["billing.started", "billing.stopped"]);
}

#[test]
fn the_manifest_asks_for_the_topics_of_the_default_settings() {
    let stage = Stage::<Billing>::new(json!({})).unwrap();
    let mut stage = stage.with_manifest(include_str!("../plugin.toml")).unwrap();
    let alice = stage.join("lobby", User::new(7)).unwrap();
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    stage.first_rtp(&alice, &producer).unwrap();
    stage.close(&alice, &producer, "closed").unwrap();
    assert_eq!(
        (
            stage.published("billing.started").len(),
            stage.published("billing.stopped").len()
        ),
        (1, 1)
    );
}

#[test]
fn a_start_that_was_missed_is_made_up_for_before_the_stop_and_costs_nothing() {
    let tariffs = json!([{ "currency": "EUR", "unit_price": 25, "prepaid": false }]);
    let (mut stage, alice) = stage(json!({ "sources": [], "tariffs": tariffs }));
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    let began = stage.now();
    stage.first_rtp(&alice, &producer).unwrap();
    set_settings(&json!({ "tariffs": tariffs }));
    stage.replace_instance().unwrap();
    stage.advance(120_000).unwrap();
    stage.close(&alice, &producer, "closed").unwrap();
    assert_eq!(topics(), ["billing.started", "billing.stopped"]);
    assert_eq!(published()[0].payload["at"], began);
    assert_eq!(published()[1].payload["durationMs"], 120_000);
    assert_eq!(published()[1].payload["units"], 0);
    schemas::check_published();
}

#[test]
fn without_a_tariff_pauses_are_counted_and_not_told() {
    let (mut stage, alice) = stage(json!({}));
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    stage.first_rtp(&alice, &producer).unwrap();
    stage.advance(1_000).unwrap();
    stage.pause(&alice, &producer, "user").unwrap();
    stage.advance(5_000).unwrap();
    stage.resume(&alice, &producer).unwrap();
    stage.advance(500).unwrap();
    stage.close(&alice, &producer, "closed").unwrap();
    assert_eq!(topics(), ["billing.started", "billing.stopped"]);
    let stopped = &published()[1].payload;
    assert_eq!(
        (&stopped["billedMs"], &stopped["durationMs"]),
        (&json!(1_500), &json!(6_500))
    );
    assert_eq!(stopped["segments"], 2);
}

#[test]
fn a_recovered_session_is_stopped_as_of_the_kill() {
    let (mut stage, alice) = stage(json!({}));
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    stage.first_rtp(&alice, &producer).unwrap();
    stage.advance(700).unwrap();
    stage.restart_server().unwrap();
    stage.advance(60_000).unwrap();
    stage.recover().unwrap();
    stage.join("lobby", User::new(8)).unwrap();
    assert_eq!(topics(), ["billing.started", "billing.stopped"]);
    let stopped = &published()[1].payload;
    assert_eq!(
        (&stopped["reason"], &stopped["durationMs"]),
        (&json!("recovered"), &json!(700))
    );
    schemas::check_published();
}

#[test]
fn what_no_journal_tells_is_stopped_when_its_room_opens_again() {
    let (mut stage, alice) = stage(json!({}));
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    stage.first_rtp(&alice, &producer).unwrap();
    let started_at = stage.now();
    stage.advance(1).unwrap();
    stage.restart_server().unwrap();
    stage.join("lob", User::new(8)).unwrap();
    assert_eq!(
        topics(),
        ["billing.started"],
        "another room's are not touched"
    );
    stage.join("lobby", User::new(8)).unwrap();
    assert_eq!(topics(), ["billing.started", "billing.stopped"]);
    let stopped = &published()[1].payload;
    assert_eq!(
        (&stopped["reason"], &stopped["endedAt"], &stopped["media"]),
        (&json!("server_lost"), &json!(started_at), &Value::Null)
    );
    schemas::check_published();
}

/// Sessions of so many users were cut off, and nobody told.
fn lost_sessions(sessions: u64) -> Stage<Billing> {
    let (mut stage, _) = stage(json!({}));
    for id in 1_000..1_000 + sessions {
        let user = stage.join("lobby", User::new(id)).unwrap();
        let producer = stage.produce(&user, Source::Mic).unwrap().producer;
        stage.first_rtp(&user, &producer).unwrap();
    }
    stage.restart_server().unwrap();
    stage.advance(1).unwrap();
    stage
}

fn lost(stage: &Stage<Billing>) -> usize {
    let stopped = stage.published("billing.stopped").into_iter();
    stopped
        .filter(|stopped| stopped["reason"] == "server_lost")
        .count()
}

#[test]
fn more_lost_sessions_than_one_call_stops_do_not_wait_for_the_room_to_end() {
    let mut stage = lost_sessions(70);
    let bob = stage.join("lobby", User::new(8)).unwrap();
    assert_eq!(lost(&stage), 30, "as many as one call stops");
    let producer = stage.produce(&bob, Source::Mic).unwrap().producer;
    stage.advance(1).unwrap();
    stage.first_rtp(&bob, &producer).unwrap();
    stage.advance(1_000).unwrap();
    assert_eq!(lost(&stage), 70, "and not the one that runs");
    stage.close(&bob, &producer, "closed").unwrap();
    assert_eq!(stage.published("billing.stopped").len(), 71);
    stage.advance(600_000).unwrap();
    assert!(keys().is_empty(), "{:?}", keys());
    assert!(timers().is_empty(), "{:?}", timers());
}

#[test]
fn a_second_participant_does_not_stop_the_sessions_of_the_first() {
    let (mut stage, alice) = stage(json!({}));
    let producer = stage.produce(&alice, Source::Mic).unwrap().producer;
    stage.first_rtp(&alice, &producer).unwrap();
    stage.join("lobby", User::new(8)).unwrap();
    assert_eq!(topics(), ["billing.started"]);
}

#[test]
fn a_wrong_setting_is_named() {
    let error = |settings| Stage::<Billing>::new(settings).unwrap_err().to_string();
    assert!(error(json!({ "topic_prefix": "Not a topic" })).contains("`topic_prefix`"));
    assert!(error(json!({ "sources": ["video"] })).contains("`sources`"));
    assert!(error(json!({ "source": [] })).contains("`source`"));
}

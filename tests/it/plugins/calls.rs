//! What goes into a hook and what comes out of it.

use serde_json::{Value, json};
use voice_room::{
    model::{FactId, FirstPacket, MediaCount, PauseCause, Refusal, UnixMs, UserId},
    plugin::{Action, Fact, Pin, SpeakerView, Target},
};

use super::rig::{self, Rig, bad, fixture, standard};

#[tokio::test]
async fn a_refusal_carries_code_message_details_and_the_plugin() {
    let rig = Rig::new(&[bad("before-produce", "deny")]).await;
    let refusal = rig
        .host
        .before_produce(rig::produce("bad", 1))
        .await
        .unwrap_err();
    let expected = Refusal {
        code: "DENIED".to_owned(),
        message: "Denied by the fixture".to_owned(),
        details: Some(json!({ "hook": "before-produce" })),
        plugin: Some("fixture".into()),
        decision: refusal.decision,
    };
    assert_eq!(refusal, expected);
    assert!(refusal.decision.is_some(), "it can be found in the log");
    assert_eq!(
        rig.host
            .before_produce(rig::produce("good", 1))
            .await
            .map(drop),
        Ok(())
    );
}

#[tokio::test]
async fn the_first_refusal_in_the_configured_order_wins() {
    let denying = || bad("before-produce", "deny");
    let seats = || standard("seats", json!({}));
    let rig = Rig::new(&[denying(), seats()]).await;
    let refusal = rig
        .host
        .before_produce(rig::produce("bad", 1))
        .await
        .unwrap_err();
    assert_eq!(refusal.plugin.as_deref(), Some("fixture"));
    let refusal = rig
        .host
        .before_produce(rig::produce("good", 1))
        .await
        .unwrap_err();
    assert_eq!(
        (refusal.plugin.as_deref(), &*refusal.code),
        (Some("seats"), "SEAT_REQUIRED")
    );
    let rig = Rig::new(&[seats(), denying()]).await;
    let refusal = rig
        .host
        .before_produce(rig::produce("bad", 1))
        .await
        .unwrap_err();
    assert_eq!(refusal.plugin.as_deref(), Some("seats"));
}

#[tokio::test]
async fn a_hook_that_is_not_exported_is_not_called() {
    // `billing` has neither `before-join` nor `describe-room`: were it called, it would fail.
    let rig = Rig::new(&[standard("billing", json!({}))]).await;
    assert_eq!(rig.host.before_join(rig::join("a", 1)).await, Ok(()));
    assert!(rig.host.describe_room(rig::join("a", 1)).await.is_empty());
}

#[tokio::test]
async fn a_guest_sees_what_it_is_called_with() {
    let rig = Rig::new(&[fixture(&json!({ "when": "x" }))]).await;
    let mut call = rig::command(
        "räum",
        7,
        "fixture:echo",
        &json!({ "roomId": "räum", "n": [1, null] }),
    );
    call.room.participants = 3;
    call.participant.connections = 2;
    let expected = json!({
        "room": { "id": "räum", "participants": 3 },
        "participant": {
            "id": call.participant.id.to_string(),
            "connections": 2,
            "user": {
                "id": 7, "name": "Ada", "avatar": null, "roles": ["speaker"],
                "claims": { "plan": "pro" },
            },
        },
        "payload": { "roomId": "räum", "n": [1, null] },
        "at": call.at.0,
    });
    assert_eq!(rig.host.command(call).await, Some(Ok(Some(expected))));
    assert_eq!(
        rig.data("a", "fixture:settings", json!({})).await,
        json!({ "when": "x" })
    );
}

#[tokio::test]
async fn a_command_is_answered_with_data_or_nothing_or_a_refusal() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    assert!(
        rig.host
            .command(rig::command("a", 1, "unknown:command", &json!({})))
            .await
            .is_none()
    );
    assert_eq!(
        rig.command("a", "fixture:do", json!({ "actions": [] }))
            .await,
        Ok(None)
    );
    let no = json!({ "code": "NO", "message": "No", "details": { "why": 1 } });
    let refusal = rig.command("a", "fixture:refuse", no).await.unwrap_err();
    assert_eq!((&*refusal.code, &*refusal.message), ("NO", "No"));
    assert_eq!(refusal.details, Some(json!({ "why": 1 })));
    assert_eq!(refusal.plugin.as_deref(), Some("fixture"));
    assert!(rig.host.has_command("fixture:echo"));
}

#[tokio::test]
async fn a_newcomer_is_shown_what_each_plugin_shows() {
    let plugins = [
        fixture(&json!({})),
        standard("seats", json!({ "seat_count": 2 })),
    ];
    let rig = Rig::new(&plugins).await;
    let shown = rig.host.describe_room(rig::join("a", 1)).await;
    assert_eq!(shown["fixture"], json!({ "participants": 1 }));
    assert_eq!(shown["seats"]["seatCount"], 2);
}

#[tokio::test]
async fn every_fact_reaches_its_hook_with_its_arguments() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    let (room, at) = (rig::room("a"), voice_room::model::UnixMs::now());
    let (participant, producer) = (rig::participant(7), rig::producer());
    let of = || (room.clone(), participant.clone(), producer.clone());
    rig.host.notify(Fact::Joined(rig::join("a", 7)));
    let (room, participant, producer) = of();
    rig.host.notify(Fact::NewProducer {
        room,
        participant,
        producer,
        at,
    });
    let (room, participant, producer) = of();
    rig.host.notify(Fact::FirstRtp {
        room,
        participant,
        producer,
        packet: FirstPacket::default(),
        fact: FactId::random(),
        at,
    });
    let (room, _, producer) = of();
    let speaker = SpeakerView {
        user_id: UserId(7),
        producer_id: producer.id,
        volume: -20,
    };
    rig.host.notify(Fact::SpeakerChanged {
        room,
        speakers: vec![speaker],
        at,
    });
    let (room, participant, producer) = of();
    let reason = "closed".to_owned();
    let first_rtp_at = Some(at);
    rig.host.notify(Fact::ProducerClosed {
        room,
        participant,
        producer,
        reason,
        first_rtp_at,
        media: MediaCount::default(),
        fact: FactId::random(),
        at,
    });
    rig.host.notify(rig::left("a", 7));
    let id = producer_id(&rig.history("a").await);
    assert_eq!(id, of().2.id.to_string());
    assert_eq!(
        rig.history("a").await,
        [
            "on-join 7".to_owned(),
            format!("on-new-producer 7 {id}"),
            format!("on-first-rtp 7 {id}"),
            "speaker-changed 7".to_owned(),
            format!("on-producer-closed 7 {id} closed"),
            "on-leave 7 left".to_owned(),
        ]
    );
}

fn producer_id(history: &[String]) -> String {
    history[1].rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn actions_are_carried_out_in_order_before_the_client_is_answered() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    let producer = uuid::Uuid::new_v4();
    let actions = json!({ "actions": [
        { "emitToUser": { "userId": 2, "event": "fixture:one", "payload": { "n": 1 } } },
        { "emitToRoom": { "event": "fixture:two", "payload": [2], "except": 3 } },
        { "mute": { "user": 4 } },
        { "unmute": { "producer": producer.to_string() } },
        { "close": { "user": 5 } },
        { "kick": { "userId": 6, "reason": "rude" } },
        { "pinSpeaker": { "userId": 7, "pin": "out" } },
    ]});
    rig.data("a", "fixture:do", actions).await;
    let expected = [
        Action::EmitToUser {
            user: UserId(2),
            event: "fixture:one".to_owned(),
            payload: json!({ "n": 1 }),
        },
        Action::EmitToRoom {
            event: "fixture:two".to_owned(),
            payload: json!([2]),
            except: Some(UserId(3)),
        },
        Action::Mute(Target::User(UserId(4))),
        Action::Unmute(Target::Producer(voice_room::model::ProducerId(producer))),
        Action::Close(Target::User(UserId(5))),
        Action::Kick {
            user: UserId(6),
            reason: "rude".to_owned(),
        },
        Action::PinSpeaker {
            user: UserId(7),
            pin: Pin::Out,
        },
    ];
    let carried = rig.carried.lock().clone();
    assert!(
        carried
            .iter()
            .all(|(room, plugin, _)| room == "a" && plugin == "fixture")
    );
    assert_eq!(rig.take_actions(), expected);
}

#[tokio::test]
async fn a_refusal_has_its_actions_carried_out_too() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    let no = json!({ "code": "NO", "message": "No", "actions": [{ "mute": { "user": 4 } }] });
    assert!(rig.command("a", "fixture:refuse", no).await.is_err());
    assert_eq!(rig.take_actions(), [Action::Mute(Target::User(UserId(4)))]);
}

#[tokio::test]
async fn a_guest_has_no_clock_files_environment_or_arguments() {
    // What a guest would need for them is linked, but empty, or not linked at all: sockets.
    let bytes = std::fs::read(rig::component("plugins-test/fixture-plugin.wasm")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("wasi:sockets"), "the fixture would not load");
    let rig = Rig::new(&[fixture(&Value::Object(serde_json::Map::new()))]).await;
    assert_eq!(rig.host.before_join(rig::join("a", 1)).await, Ok(()));
}

#[tokio::test]
async fn a_recorded_fact_comes_with_its_id_and_its_evidence() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    let (producer, media) = (
        rig::producer(),
        MediaCount {
            packets: u64::MAX,
            bytes: 1_000,
            last_rtp_at: Some(UnixMs(70)),
        },
    );
    let of = || (rig::room("a"), rig::participant(7), producer.clone());
    let ids = [
        FactId::first_rtp(producer.id),
        FactId::paused(producer.id, 1),
        FactId::resumed(producer.id, 1),
        FactId::closed(producer.id),
        FactId::random(),
    ];
    let (room, participant, view) = of();
    let packet = FirstPacket {
        ssrc: u32::MAX,
        timestamp: Some(960),
        payload_type: 111,
        after_ms: 42,
    };
    let first = Fact::FirstRtp {
        room,
        participant,
        producer: view,
        packet,
        fact: ids[0],
        at: UnixMs(1),
    };
    let (room, participant, view) = of();
    let paused = Fact::ProducerPaused {
        room,
        participant,
        producer: view,
        cause: PauseCause::Silence,
        media,
        fact: ids[1],
        at: UnixMs(2),
    };
    let (room, participant, view) = of();
    let resumed = Fact::ProducerResumed {
        room,
        participant,
        producer: view,
        cause: PauseCause::Silence,
        media: MediaCount::default(),
        fact: ids[2],
        at: UnixMs(3),
    };
    let (room, participant, view) = of();
    let closed = Fact::ProducerClosed {
        room,
        participant,
        producer: view,
        reason: "recovered".to_owned(),
        first_rtp_at: Some(UnixMs(1)),
        media,
        fact: ids[3],
        at: UnixMs(4),
    };
    let ended = Fact::RoomClosed {
        room: rig::room("a"),
        reason: "recovered".to_owned(),
        fact: ids[4],
        at: UnixMs(5),
    };
    for (fact, id) in [first, paused, resumed, closed, ended].into_iter().zip(ids) {
        assert_eq!(fact.id(), Some(id));
        rig.host.notify(fact);
    }
    let told = rig.data("a", "fixture:facts", json!({})).await;
    let id = producer.id;
    let counted = json!({ "packets": u64::MAX, "bytes": 1_000, "lastRtpAt": 70 });
    let nothing = json!({ "packets": 0, "bytes": 0, "lastRtpAt": null });
    assert_eq!(
        told["facts"],
        json!([
            { "hook": "on-first-rtp", "factId": ids[0], "producer": id, "packet": packet, "at": 1 },
            { "hook": "on-producer-paused", "factId": ids[1], "producer": id, "cause": "silence",
              "media": counted, "at": 2 },
            { "hook": "on-producer-resumed", "factId": ids[2], "producer": id, "cause": "silence",
              "media": nothing, "at": 3 },
            { "hook": "on-producer-closed", "factId": ids[3], "producer": id,
              "reason": "recovered", "firstRtpAt": 1, "media": counted, "at": 4 },
            { "hook": "on-room-closed", "factId": ids[4], "reason": "recovered", "at": 5 },
        ])
    );
}

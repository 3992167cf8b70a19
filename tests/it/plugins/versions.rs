//! Plugins that were built against an older version of the contract.

use rstest::rstest;
use serde_json::{Value, json};
use voice_room::{
    config::PluginConfig,
    model::{FactId, FirstPacket, MediaCount, Source, UnixMs, UserId},
    plugin::{Action, Fact, SpeakerView},
};

use super::rig::{self, Rig, component};

const OLDER: &str = "plugins-test/older-plugin.wasm";

fn older(settings: Value) -> PluginConfig {
    PluginConfig {
        instances: 1,
        memory_limit: 16 << 20,
        settings,
        ..PluginConfig::new("older", component(OLDER))
    }
}

fn described(participant: &voice_room::plugin::ParticipantView) -> Value {
    json!({
        "id": participant.id.to_string(),
        "connections": participant.connections,
        "user": {
            "id": participant.user.id.0,
            "name": "Ada",
            "avatar": null,
            "roles": ["speaker"],
            "claims": { "plan": "pro" },
        },
    })
}

fn codec() -> Value {
    json!({ "mimeType": "audio/opus", "clockRate": 48_000, "channels": 2 })
}

#[tokio::test]
async fn it_is_told_everything_by_its_own_names() {
    let rig = Rig::new(&[older(json!({}))]).await;
    let (join, produce) = (rig::join("a", 7), rig::produce("a", 7));
    let (who, producer, at) = (rig::participant(7), rig::producer(), UnixMs(1_234_567));
    assert_eq!(rig.host.before_join(join.clone()).await, Ok(()));
    assert!(rig.host.before_produce(produce.clone()).await.is_ok());
    let shown = rig.host.describe_room(join.clone()).await;
    assert_eq!(shown["older"], json!({ "participants": 1, "userId": 7 }));
    let (room, participant) = (rig::room("a"), who.clone());
    for fact in [
        Fact::Joined(join.clone()),
        Fact::NewProducer {
            room: room.clone(),
            participant: participant.clone(),
            producer: producer.clone(),
            at,
        },
        Fact::FirstRtp {
            room: room.clone(),
            participant: participant.clone(),
            producer: producer.clone(),
            packet: FirstPacket::default(),
            fact: FactId::random(),
            at,
        },
        Fact::SpeakerChanged {
            room: room.clone(),
            speakers: vec![SpeakerView {
                user_id: UserId(7),
                producer_id: producer.id,
                volume: -42,
            }],
            at,
        },
        // What 0.1 did not have is not told.
        Fact::RoomOpened {
            room: room.clone(),
            at,
        },
        Fact::ProducerClosed {
            room: room.clone(),
            participant: participant.clone(),
            producer: producer.clone(),
            reason: "closed".to_owned(),
            first_rtp_at: Some(UnixMs(99)),
            media: MediaCount::default(),
            fact: FactId::random(),
            at,
        },
        Fact::Left {
            room: room.clone(),
            participant: participant.clone(),
            reason: "left".to_owned(),
            at,
        },
    ] {
        rig.host.notify(fact);
    }
    let told = rig
        .data("a", "older:history", json!({ "roomId": "a" }))
        .await;
    let room = json!({ "id": "a", "participants": 1 });
    let sent = json!({ "id": producer.id.to_string(), "source": "mic", "codec": codec() });
    let offered = json!({ "source": "mic", "codec": codec() });
    let speakers = json!([{ "userId": 7, "producerId": producer.id.to_string(), "volume": -42 }]);
    let (joined, who) = (described(&join.participant), described(&who));
    let expected = json!([
        { "hook": "before-join", "room": room, "participant": joined, "at": join.at.0 },
        { "hook": "before-produce", "room": room, "participant": described(&produce.participant),
          "offered": offered, "at": produce.at.0 },
        { "hook": "describe-room", "room": room, "participant": joined, "at": join.at.0 },
        { "hook": "on-join", "room": room, "participant": joined, "at": join.at.0 },
        { "hook": "on-new-producer", "room": room, "participant": who, "producer": sent,
          "at": at.0 },
        { "hook": "on-first-rtp", "room": room, "participant": who, "producer": sent,
          "at": at.0 },
        { "hook": "speaker-changed", "room": room, "speakers": speakers, "at": at.0 },
        { "hook": "on-producer-closed", "room": room, "participant": who, "producer": sent,
          "reason": "closed", "firstRtpAt": 99, "at": at.0 },
        { "hook": "on-leave", "room": room, "participant": who, "reason": "left", "at": at.0 },
    ]);
    assert_eq!(told["history"], expected);
    assert_eq!(told["command"], "older:history");
    assert_eq!(told["payload"], json!({ "roomId": "a" }));
    assert_eq!(
        told["heard"],
        json!([format!("heard/{}", producer.id)]),
        "its keys"
    );
    let published = rig.published().await;
    assert_eq!(published.len(), 1, "{published:?}");
    assert_eq!(published[0]["topic"], "older.heard");
}

#[tokio::test]
async fn its_refusals_and_actions_are_as_they_were() {
    let rig = Rig::new(&[older(json!({ "greeting": "salut" }))]).await;
    let refusal = rig.host.before_join(rig::join("a", 12)).await.unwrap_err();
    assert_eq!((&*refusal.code, refusal.details), ("NOT_TWELVE", None));
    let mut produce = rig::produce("a", 13);
    produce.source = Source::Music;
    let refusal = rig.host.before_produce(produce).await.unwrap_err();
    assert_eq!(refusal.code, "UNLUCKY");
    assert_eq!(refusal.message, "Thirteen may not speak");
    assert_eq!(refusal.plugin.as_deref(), Some("older"));
    assert_eq!(
        refusal.details,
        Some(json!({ "source": "music", "codec": codec() }))
    );
    rig.host.notify(Fact::Joined(rig::join("a", 7)));
    rig.data("a", "older:history", json!({})).await;
    assert_eq!(
        rig.take_actions(),
        [
            Action::EmitToUser {
                user: UserId(13),
                event: "older:refused".to_owned(),
                payload: json!({ "userId": 13 }),
            },
            Action::EmitToRoom {
                event: "older:joined".to_owned(),
                payload: json!({ "userId": 7, "greeting": "salut" }),
                except: None,
            },
        ]
    );
}

#[tokio::test]
async fn its_answer_to_what_is_not_granted_is_one_that_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("older.toml");
    let plugin = older(json!({}));
    let text = std::fs::read_to_string(&plugin.manifest).unwrap();
    std::fs::write(&manifest, text.replace("older.heard", "other.*")).unwrap();
    let rig = Rig::new(&[PluginConfig { manifest, ..plugin }]).await;
    rig.host.notify(Fact::FirstRtp {
        room: rig::room("a"),
        participant: rig::participant(7),
        producer: rig::producer(),
        packet: FirstPacket::default(),
        fact: FactId::random(),
        at: UnixMs(1),
    });
    let told = rig.data("a", "older:history", json!({})).await;
    assert_eq!(
        told["heard"].as_array().unwrap().len(),
        1,
        "the hook went on"
    );
    assert_eq!(rig.published().await, Vec::<Value>::new());
}

#[tokio::test]
async fn it_begins_anew_after_a_restart() {
    let plugins = [older(json!({}))];
    let rig = Rig::new(&plugins).await;
    let join = rig::join("a", 7);
    assert_eq!(rig.host.before_join(join).await, Ok(()));
    let rig = rig.restart(&plugins).await;
    let told = rig.data("a", "older:history", json!({})).await;
    assert_eq!(told["history"], json!([]));
}

#[tokio::test]
async fn settings_that_it_cannot_read_are_told_in_its_words() {
    let Err(error) = Rig::load(&[older(json!({ "greeting": 7 }))]).await else {
        panic!("it loads")
    };
    assert!(error.to_string().contains("expected a string"), "{error}");
}

#[rstest]
#[case::a_patch_of_it("0.1.4", true)]
#[case::a_later_one("0.4.0", false)]
#[case::another_line("9.1.0", false)]
#[tokio::test]
async fn only_versions_that_are_spoken_load(#[case] version: &str, #[case] loads: bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = rig::patched(&dir, OLDER, "@0.1.0", &format!("@{version}"));
    let plugin = PluginConfig {
        path,
        ..older(json!({}))
    };
    match Rig::load(&[plugin]).await {
        Ok(rig) => {
            assert!(loads, "{version}");
            assert_eq!(rig.host.before_join(rig::join("a", 1)).await, Ok(()));
        }
        Err(error) => {
            assert!(!loads, "{error}");
            let expected = format!(
                "was built against voice-room:plugin@{version}; this server speaks \
                 voice-room:plugin@0.3.0, and with older plugins 0.2, 0.1"
            );
            assert!(error.to_string().ends_with(&expected), "{error}");
        }
    }
}

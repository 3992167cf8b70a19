//! The product's three plugins together, without media.

use std::sync::Arc;

use serde_json::{Value, json};
use voice_room::{
    config::PluginConfig,
    model::{FactId, FirstPacket, MediaCount, UnixMs, User, UserId},
    plugin::{Action, Fact, Target},
};

use super::{
    rig::{self, Rig, standard},
    watch::eventually,
};

fn all() -> [PluginConfig; 3] {
    [
        standard("seats", json!({})),
        standard("billing", json!({})),
        standard("moderation", json!({})),
    ]
}

/// A command of a moderator.
async fn moderate(rig: &Rig, name: &str, payload: Value) {
    let mut call = rig::command("a", 1, name, &payload);
    let user = User {
        roles: vec!["moderator".to_owned()],
        ..User::clone(&call.participant.user)
    };
    call.participant.user = Arc::new(user);
    let reply = rig.host.command(call).await;
    assert!(matches!(reply, Some(Ok(_))), "{name}: {reply:?}");
}

#[tokio::test]
async fn only_who_has_a_seat_speaks_and_the_room_is_told_of_it() {
    let rig = Rig::new(&all()).await;
    let refusal = rig
        .host
        .before_produce(rig::produce("a", 7))
        .await
        .unwrap_err();
    assert_eq!(
        (&*refusal.code, refusal.plugin.as_deref()),
        ("SEAT_REQUIRED", Some("seats"))
    );
    let take = rig::command(
        "a",
        7,
        "seat:take",
        &json!({ "roomId": "a", "seatIndex": 0 }),
    );
    assert!(matches!(rig.host.command(take).await, Some(Ok(_))));
    assert_eq!(
        rig.host
            .before_produce(rig::produce("a", 7))
            .await
            .map(drop),
        Ok(())
    );
    assert!(rig.host.before_produce(rig::produce("a", 8)).await.is_err());
    let told = rig.take_actions();
    let is_update = |action: &Action| matches!(action, Action::EmitToRoom { event, .. } if event == "seat:updated");
    assert!(told.iter().any(is_update), "{told:?}");
}

#[tokio::test]
async fn a_lock_and_a_ban_outlive_a_restart() {
    let rig = Rig::new(&all()).await;
    assert_eq!(rig.host.before_join(rig::join("a", 1)).await, Ok(()));
    moderate(&rig, "seat:lock", json!({ "roomId": "a", "seatIndex": 3 })).await;
    moderate(
        &rig,
        "moderation:ban",
        json!({ "roomId": "a", "userId": 9 }),
    )
    .await;
    let rig = rig.restart(&all()).await;
    let refusal = rig.host.before_join(rig::join("a", 9)).await.unwrap_err();
    assert_eq!(
        (&*refusal.code, refusal.plugin.as_deref()),
        ("BANNED", Some("moderation"))
    );
    let shown = rig.host.describe_room(rig::join("a", 1)).await;
    assert_eq!(shown["seats"]["lockedSeats"], json!([3]));
}

#[tokio::test]
async fn a_session_is_billed_once_from_its_first_packet_to_its_end() {
    let rig = Rig::new(&all()).await;
    let (participant, producer) = (rig::participant(7), rig::producer());
    let started = UnixMs(1_800_000_000_000);
    rig.host.notify(Fact::FirstRtp {
        room: rig::room("a"),
        participant: participant.clone(),
        producer: producer.clone(),
        packet: FirstPacket::default(),
        fact: FactId::random(),
        at: started,
    });
    rig.host.notify(Fact::ProducerClosed {
        room: rig::room("a"),
        participant,
        producer,
        reason: "closed".to_owned(),
        first_rtp_at: Some(started),
        media: MediaCount::default(),
        fact: FactId::random(),
        at: UnixMs(started.0 + 61_000),
    });
    rig.host.shutdown(rig::LIMIT).await;
    let topics: Vec<String> = rig
        .published()
        .await
        .iter()
        .map(|event| event["topic"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(topics, ["billing.started", "billing.stopped"]);
}

#[tokio::test]
async fn more_sessions_than_one_call_may_publish_of_are_stopped_after_a_crash() {
    let billing = [standard("billing", json!({}))];
    let rig = Rig::new(&billing).await;
    for user in 0..150 {
        rig.host.notify(Fact::FirstRtp {
            room: rig::room("a"),
            participant: rig::participant(user),
            producer: rig::producer(),
            packet: FirstPacket::default(),
            fact: FactId::random(),
            at: UnixMs::now(),
        });
    }
    let rig = rig.restart(&billing).await;
    let (room, at) = (rig::room("a"), UnixMs::now());
    rig.host.notify(Fact::RoomOpened { room, at });
    eventually("all are stopped", async || {
        let published = rig.published().await;
        let lost = published
            .iter()
            .filter(|event| event["payload"]["reason"] == "server_lost");
        lost.count() == 150
    })
    .await;
}

#[tokio::test]
async fn a_muted_seat_is_muted_in_the_room() {
    let rig = Rig::new(&all()).await;
    rig.host.notify(Fact::Joined(rig::join("a", 7)));
    let take = rig::command(
        "a",
        7,
        "seat:take",
        &json!({ "roomId": "a", "seatIndex": 0 }),
    );
    assert!(matches!(rig.host.command(take).await, Some(Ok(_))));
    rig.take_actions();
    moderate(&rig, "seat:mute", json!({ "roomId": "a", "userId": 7 })).await;
    let told = rig.take_actions();
    assert!(
        told.contains(&Action::Mute(Target::User(UserId(7)))),
        "{told:?}"
    );
}

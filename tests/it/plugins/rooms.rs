//! Hooks of contract 0.2 as a room on a real worker calls them.

use serde_json::json;
use voice_room::{
    media::lenient,
    model::Source,
    room::{Direction, Event, Failure},
};

use super::rig::fixture;
use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_may_refuse_that_somebody_listens() {
    let settings = json!({ "hooks": { "before-consume": "deny" }, "when": "private" });
    let house = House::with_plugins(&[fixture(&settings)]).await;
    for (room, may) in [("private", false), ("public", true)] {
        let (ada, ben) = (house.join(room, 1).await, house.join(room, 2).await);
        let (_peer, _track, producer) = ada.speaker().await;
        let ear = ben.ear().await;
        let capabilities = lenient::rtp_capabilities(&ear.peer.rtp_capabilities()).unwrap();
        let consumed = ben
            .membership
            .consume(ear.transport, producer, capabilities);
        match consumed.await {
            Ok(_) => assert!(may, "{room}"),
            Err(Failure::Refused(refusal)) => {
                assert!(!may, "{room}");
                assert_eq!(refusal.code, "DENIED");
                assert_eq!(refusal.plugin.as_deref(), Some("fixture"));
                assert!(refusal.decision.is_some());
            }
            Err(failure) => panic!("{failure}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amended_producer_begins_muted_and_its_announcement_carries_what_was_attached() {
    for (behaviour, muted) in [("amend-muted", true), ("amend-attach", false)] {
        let settings = json!({ "hooks": { "before-produce": behaviour } });
        let house = House::with_plugins(&[fixture(&settings)]).await;
        let ada = house.join("stage", 1).await;
        let mut ben = house.join("stage", 2).await;
        let (mut peer, transport) = ada.connect(Direction::Send).await;
        let track = peer.add_track().await;
        let producer = ada.produce(&transport, &track.rtp_parameters).await;
        let Some(Event::NewProducer {
            producer: announced,
            source,
            attached,
            ..
        }) = ben.next_fact().await
        else {
            panic!("an announcement")
        };
        assert_eq!((announced, source), (producer, Source::Mic));
        assert_eq!(attached.contains_key("fixture"), !muted, "{attached:?}");
        if muted {
            let paused = ben.next_fact().await;
            assert!(
                matches!(
                    paused,
                    Some(Event::ProducerPaused {
                        paused: true,
                        by_moderator: true,
                        ..
                    })
                ),
                "{paused:?}"
            );
        }
        let ear = ben.ear().await;
        let capabilities = lenient::rtp_capabilities(&ear.peer.rtp_capabilities()).unwrap();
        let consumed = ben
            .membership
            .consume(ear.transport, producer, capabilities);
        assert_eq!(consumed.await.unwrap().producer_paused, muted);
    }
}

//! Rooms on real workers, with WebRTC peers at the other end of their transports.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use voice_room::{
    media::lenient,
    model::{ProducerId, Source, UserId},
    room::{CloseReason, Direction, Event, RoomEnd},
};

use crate::{house::House, peer::LIMIT};

fn new_producer(producer: ProducerId, user: u64) -> Event {
    Event::NewProducer {
        producer,
        user: UserId(user),
        source: Source::Mic,
        attached: Arc::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_speaker_is_heard_and_the_first_packet_is_told_once() {
    let house = House::open().await;
    let mut ada = house.join("stage", 1).await;
    let mut ben = house.join("stage", 2).await;
    assert!(matches!(ada.next_fact().await, Some(Event::UserJoined(_))));

    let (peer, track, producer) = ada.speaker().await;
    assert_eq!(ben.next_fact().await, Some(new_producer(producer, 1)));
    let (listener, ssrc) = ben.listener(producer).await;

    peer.speak(&track, -20).await;
    for guest in [&mut ada, &mut ben] {
        let told = guest.next_fact().await;
        assert!(
            matches!(told, Some(Event::FirstRtp { producer: of, .. }) if of == producer),
            "{told:?}"
        );
        let told = guest.next_fact().await;
        assert!(matches!(told, Some(Event::Connected { .. })), "{told:?}");
    }
    listener
        .until("hearing", |progress| {
            progress
                .received
                .get(&ssrc)
                .is_some_and(|stream| stream.packets >= 25)
        })
        .await;

    // Were the first packet told again, it would come before the end.
    ada.membership.close_producer(producer).unwrap();
    let told = ben.next_fact().await;
    assert!(
        matches!(
            told,
            Some(Event::ProducerClosed {
                reason: CloseReason::Closed,
                ..
            })
        ),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_packet_of_a_stream_that_names_no_ssrc_is_told_as_well() {
    let house = House::open().await;
    let mut ada = house.join("by mid", 1).await;
    let (mut peer, transport) = ada.connect(Direction::Send).await;
    let track = peer.add_track().await;
    // Such packets are found by their MID, and cannot be traced.
    let mut parameters = track.rtp_parameters.clone();
    parameters["encodings"] = json!([{ "dtx": false }]);
    let producer = ada.produce(&transport, &parameters).await;
    peer.speak(&track, -20).await;
    let told = ada.next_fact().await;
    assert!(
        matches!(told, Some(Event::FirstRtp { producer: of, .. }) if of == producer),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_names_no_ssrc_cannot_join_one_whose_packets_are_traced() {
    let house = House::open().await;
    let ada = house.join("mixed", 1).await;
    let (mut peer, transport) = ada.connect(Direction::Send).await;
    let track = peer.add_track().await;
    ada.produce(&transport, &track.rtp_parameters).await;

    let mut parameters = peer.add_track().await.rtp_parameters;
    parameters["encodings"] = json!([{ "dtx": false }]);
    let parameters = lenient::rtp_parameters(&parameters).unwrap();
    let transport = transport.as_str().unwrap().parse().unwrap();
    let music = ada
        .membership
        .produce(transport, Source::Music, parameters)
        .await;
    assert!(music.is_err_and(|failure| failure.to_string().contains("Cannot produce")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_router_cannot_take_does_not_end_the_one_that_runs() {
    let house = House::open().await;
    let ada = house.join("codec", 1).await;
    let mut ben = house.join("codec", 2).await;
    let (mut peer, transport) = ada.connect(Direction::Send).await;
    let track = peer.add_track().await;
    let producer = ada.produce(&transport, &track.rtp_parameters).await;
    assert_eq!(ben.next_fact().await, Some(new_producer(producer, 1)));

    let mut parameters = track.rtp_parameters.clone();
    parameters["codecs"] = json!([{
        "mimeType": "audio/PCMU", "payloadType": 0, "clockRate": 8000, "channels": 1,
    }]);
    let parameters = lenient::rtp_parameters(&parameters).unwrap();
    let transport = transport.as_str().unwrap().parse().unwrap();
    let refused = ada
        .membership
        .produce(transport, Source::Mic, parameters)
        .await;
    assert!(refused.is_err_and(|failure| failure.to_string().contains("Cannot produce")));

    // The same SSRC again in what the router takes displaces the first.
    let parameters = lenient::rtp_parameters(&track.rtp_parameters).unwrap();
    let again = ada
        .membership
        .produce(transport, Source::Mic, parameters)
        .await;
    let again = again.unwrap();
    assert_eq!(ben.next_fact().await, Some(new_producer(again, 1)));
    let told = ben.next_fact().await;
    assert!(
        matches!(
            told,
            Some(Event::ProducerClosed { producer: of, reason: CloseReason::Replaced, .. })
                if of == producer
        ),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_follow_its_own_end_at_once() {
    let house = House::open().await;
    let ann = house.join("hall", 1).await;
    let (mut peer, transport) = ann.connect(Direction::Send).await;
    let track = peer.add_track().await;
    for _ in 0..20 {
        let producer = ann.produce(&transport, &track.rtp_parameters).await;
        ann.membership.close_producer(producer).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn speakers_who_leave_while_levels_are_reported_do_not_stop_the_worker() {
    let house = House::open().await;
    let mut ben = house.join("levels", 2).await;
    for _ in 0..20 {
        let ada = house.join("levels", 1).await;
        let (peer, track, _) = ada.speaker().await;
        peer.speak(&track, -20).await;
        loop {
            if let Event::Speaking { speakers, .. } = &*ben.next().await.unwrap()
                && !speakers.is_empty()
            {
                break;
            }
        }
        drop(ada);
    }
    ben.speaker().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_membership_that_is_dropped_leaves_the_room_with_all_it_had() {
    let house = House::open().await;
    let ada = house.join("gone", 1).await;
    let mut ben = house.join("gone", 2).await;
    let (_peer, _track, producer) = ada.speaker().await;
    assert_eq!(ben.next_fact().await, Some(new_producer(producer, 1)));
    let refused = ada.membership.create_transport(Direction::Send).await;
    assert!(refused.is_err(), "one transport of a direction");
    drop(ada);
    let told = ben.next_fact().await;
    assert!(
        matches!(
            told,
            Some(Event::ProducerClosed {
                reason: CloseReason::Disconnected,
                ..
            })
        ),
        "{told:?}"
    );
    assert!(matches!(
        ben.next_fact().await,
        Some(Event::UserLeft { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_ends_its_rooms_and_is_replaced() {
    let house = House::open().await;
    let mut ada = house.join("doomed", 1).await;
    let mut ben = house.join("doomed", 2).await;
    let (_peer, _track, producer) = ada.speaker().await;
    assert!(matches!(ada.next_fact().await, Some(Event::UserJoined(_))));
    assert_eq!(ben.next_fact().await, Some(new_producer(producer, 1)));

    assert!(house.media.retire(0));
    for guest in [&mut ada, &mut ben] {
        let told = guest.next_fact().await;
        assert!(
            matches!(
                told,
                Some(Event::ProducerClosed {
                    reason: CloseReason::RoomClosed,
                    ..
                })
            ),
            "{told:?}"
        );
        let told = guest.next_fact().await;
        assert!(
            matches!(
                told,
                Some(Event::RoomClosed {
                    reason: RoomEnd::WorkerDied,
                    ..
                })
            ),
            "{told:?}"
        );
        assert_eq!(guest.next_fact().await, None, "nothing comes after the end");
        assert!(guest.membership.is_over());
        let late = guest.membership.create_transport(Direction::Receive).await;
        assert!(late.is_err_and(|failure| failure.to_string().contains("Room not found")));
    }

    let replaced = async {
        while house.media.running() < house.media.configured() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, replaced)
        .await
        .expect("a new worker");
    let cay = house.join("doomed", 3).await;
    cay.speaker().await;
}

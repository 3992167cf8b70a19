//! Rooms that have outgrown one router: real workers, real pipes, real listeners.

use futures_util::future::join_all;
use voice_room::{
    model::{ProducerId, RoomId},
    room::{Event, Flow, RoomEnd},
};

use crate::house::{Ear, Guest, House, Stream};

/// Two consumers a router, so that pipes really run.
const TWO_A_ROUTER: &str = "rooms.max_consumers_per_router = 2";

/// Listeners of one producer, who flow.
async fn audience(
    house: &House,
    users: impl IntoIterator<Item = u64>,
    producer: ProducerId,
) -> Vec<(Guest, Ear, Stream)> {
    let mut audience = Vec::new();
    for user in users {
        let guest = house.join("hall", user).await;
        let ear = guest.ear().await;
        let (stream, flow) = guest.hear(&ear, producer).await;
        assert_eq!(flow, Flow::Resumed);
        audience.push((guest, ear, stream));
    }
    audience
}

async fn everybody_hears(audience: &[(Guest, Ear, Stream)]) {
    join_all(
        audience
            .iter()
            .map(|(_, ear, stream)| ear.hears(stream, 10)),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_on_every_router_hear_speakers_old_and_new() {
    let house = House::with(3, TWO_A_ROUTER).await;
    let ada = house.join("hall", 1).await;
    let (peer, track, first) = ada.speaker().await;
    peer.speak(&track, -20).await;
    let audience = audience(&house, 10..16, first).await;
    assert_eq!(house.routers("hall"), 3);
    everybody_hears(&audience).await;

    // One who begins to speak when the branches are there.
    let ben = house.join("hall", 2).await;
    let (peer, track, second) = ben.speaker().await;
    peer.speak(&track, -20).await;
    for (guest, ear, _) in &audience {
        let (stream, _) = guest.hear(ear, second).await;
        ear.hears(&stream, 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_below_the_limit_has_one_router() {
    let house = House::with(3, "rooms.max_consumers_per_router = 4").await;
    let ada = house.join("hall", 1).await;
    let (peer, track, producer) = ada.speaker().await;
    peer.speak(&track, -20).await;
    let audience = audience(&house, 10..14, producer).await;
    everybody_hears(&audience).await;
    assert_eq!(house.routers("hall"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_producer_can_be_consumed_on_every_router_when_it_is_announced() {
    let house = House::with(3, TWO_A_ROUTER).await;
    let ada = house.join("hall", 1).await;
    let mut guests = Vec::new();
    for user in 10..16 {
        let guest = house.join("hall", user).await;
        let ear = guest.ear().await;
        guests.push((guest, ear));
    }
    assert_eq!(house.routers("hall"), 3);
    let (peer, track, _) = ada.speaker().await;
    peer.speak(&track, -20).await;
    let consume = guests.iter_mut().map(|(guest, ear)| async move {
        loop {
            // At the very moment of the announcement.
            if let Event::NewProducer { producer, .. } = &*guest.next().await.unwrap() {
                let (stream, _) = guest.hear(ear, *producer).await;
                return ear.hears(&stream, 5).await;
            }
        }
    });
    join_all(consume).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_that_come_while_routers_do_are_on_all_of_them() {
    let house = House::with(4, TWO_A_ROUTER).await;
    let speakers: Vec<Guest> = join_all((1..5).map(|user| house.join("hall", user))).await;
    let listeners: Vec<Guest> = join_all((10..18).map(|user| house.join("hall", user))).await;
    let produce = join_all(speakers.iter().map(Guest::speaker));
    let open = join_all(listeners.iter().map(Guest::ear));
    let (speaking, ears) = tokio::join!(produce, open);
    for (peer, track, _) in &speaking {
        peer.speak(track, -20).await;
    }
    for (guest, ear) in listeners.iter().zip(&ears) {
        for (_, _, producer) in &speaking {
            let (stream, _) = guest.hear(ear, *producer).await;
            ear.hears(&stream, 3).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_joins_at_once_neither_overfill_a_router_nor_make_twins() {
    let house = House::with(20, TWO_A_ROUTER).await;
    let ada = house.join("hall", 1).await;
    let (peer, track, producer) = ada.speaker().await;
    peer.speak(&track, -20).await;
    let join = (10..50).map(async |user| {
        let guest = house.join("hall", user).await;
        let ear = guest.ear().await;
        let (stream, _) = guest.hear(&ear, producer).await;
        (guest, ear, stream)
    });
    let audience = join_all(join).await;
    assert_eq!(house.routers("hall"), 20, "two on each");
    everybody_hears(&audience).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_holds_on_every_router_and_so_does_its_end() {
    let house = House::with(2, TWO_A_ROUTER).await;
    let ada = house.join("hall", 1).await;
    let (peer, track, producer) = ada.speaker().await;
    peer.speak(&track, -20).await;
    let mut audience = audience(&house, 10..14, producer).await;
    assert_eq!(house.routers("hall"), 2);
    everybody_hears(&audience).await;
    // Back and forth without a pause: what comes last must hold everywhere.
    for _ in 0..20 {
        ada.membership.self_mute(producer, true).unwrap();
        ada.membership.self_mute(producer, false).unwrap();
    }
    everybody_hears(&audience).await;
    for _ in 0..20 {
        ada.membership.self_mute(producer, false).unwrap();
        ada.membership.self_mute(producer, true).unwrap();
    }
    // Somebody else's packets show that time has passed and those of Ada have not come.
    let ben = house.join("hall", 2).await;
    let (peer, track, witness) = ben.speaker().await;
    peer.speak(&track, -20).await;
    for (guest, ear, stream) in &mut audience {
        let (witnessed, _) = guest.hear(ear, witness).await;
        ear.hears(&witnessed, 10).await;
        let before = ear.packets(stream);
        ear.hears(&witnessed, 20).await;
        assert_eq!(ear.packets(stream), before, "muted");
    }
    ada.membership.self_mute(producer, false).unwrap();
    everybody_hears(&audience).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_closes_is_gone_on_every_router() {
    let house = House::with(2, TWO_A_ROUTER).await;
    let ada = house.join("hall", 1).await;
    let (peer, track, producer) = ada.speaker().await;
    peer.speak(&track, -20).await;
    let mut audience = audience(&house, 10..14, producer).await;
    everybody_hears(&audience).await;
    ada.membership.close_producer(producer).unwrap();
    for (guest, ear, stream) in &mut audience {
        let closed = |event: &Event| matches!(event, Event::ProducerClosed { producer: of, .. } if *of == producer);
        guest.until("the close", closed).await;
        let late = guest
            .membership
            .pause_consumer(stream.consumer, false)
            .await;
        assert!(late.is_err_and(|failure| failure.to_string().contains("Consumer not found")));
        let capabilities =
            voice_room::media::lenient::rtp_capabilities(&ear.peer.rtp_capabilities());
        let again = guest
            .membership
            .consume(ear.transport, producer, capabilities.unwrap())
            .await;
        assert!(again.is_err_and(|failure| failure.to_string().contains("Producer not found")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_that_nobody_listens_on_go_and_come_again() {
    let house = House::with(3, TWO_A_ROUTER).await;
    let ada = house.join("hall", 1).await;
    let (peer, track, producer) = ada.speaker().await;
    peer.speak(&track, -20).await;
    let first = audience(&house, 10..16, producer).await;
    assert_eq!(house.routers("hall"), 3);
    for (guest, ..) in first {
        guest.membership.leave();
    }
    assert_eq!(house.routers("hall"), 1);
    let again = audience(&house, 20..24, producer).await;
    assert_eq!(house.routers("hall"), 2);
    everybody_hears(&again).await;
}

/// Of workers that carry the same, the first is given a room.
const SOURCE: usize = 0;
const OTHER: usize = 1;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_takes_its_own_listeners_only_and_they_find_another_router() {
    let house = House::with(3, TWO_A_ROUTER).await;
    let ada = house.join("hall", 1).await;
    let (peer, track, producer) = ada.speaker().await;
    peer.speak(&track, -20).await;
    let mut audience = audience(&house, 10..14, producer).await;
    assert_eq!(house.routers("hall"), 2);
    everybody_hears(&audience).await;

    assert!(house.media.retire(OTHER));
    let hit = audience.split_off(2);
    let mut rescued = Vec::new();
    for (mut guest, ear, _) in hit {
        let lost = |event: &Event| matches!(event, Event::TransportClosed { transport } if *transport == ear.transport);
        guest.until("the loss", lost).await;
        let late = guest.membership.restart_ice(ear.transport).await;
        assert!(late.is_err_and(|failure| failure.to_string().contains("Transport not found")));
        let ear = guest.ear().await;
        let (stream, _) = guest.hear(&ear, producer).await;
        rescued.push((guest, ear, stream));
    }
    everybody_hears(&rescued).await;
    everybody_hears(&audience).await;
    assert_eq!(house.routers("hall"), 2, "another one");
    assert!(!ada.membership.is_over());
    // Those who were not hit have heard of nothing.
    for (mut guest, ..) in audience {
        guest.membership.leave();
        while let Some(event) = guest.inbox.next().await {
            assert!(
                !matches!(*event, Event::TransportClosed { .. }),
                "{event:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_s_worker_takes_the_room_with_it() {
    let house = House::with(2, TWO_A_ROUTER).await;
    let ada = house.join("hall", 1).await;
    let (_peer, _track, producer) = ada.speaker().await;
    let mut audience = audience(&house, 10..14, producer).await;
    assert!(house.media.retire(SOURCE));
    for (guest, ..) in &mut audience {
        let ended = |event: &Event| {
            matches!(
                event,
                Event::RoomClosed {
                    reason: RoomEnd::WorkerDied,
                    ..
                }
            )
        };
        guest.until("the end", ended).await;
    }
    assert_eq!(house.rooms.participants(&RoomId::new("hall").unwrap()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_spread_over_the_workers() {
    let house = House::with(3, "").await;
    let mut guests = Vec::new();
    for (room, user) in [("a", 1), ("b", 2), ("c", 3)] {
        guests.push(house.join(room, user).await);
    }
    // Each worker that ends takes one room with it.
    for worker in 0..3 {
        assert!(house.media.retire(worker));
        let mut guest = guests.remove(0);
        let closed = |event: &Event| matches!(event, Event::RoomClosed { .. });
        guest.until("the end", closed).await;
        assert!(guests.iter().all(|other| !other.membership.is_over()));
    }
}

//! Plugins are swapped while people talk, and nobody notices.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use serde_json::json;
use voice_room::{
    config::{HookPolicies, PluginConfig},
    room::Direction,
};

use crate::{
    peer::{Peer, Reception},
    rooms::{Guest, House},
};

const ROUNDS: usize = 4;
const SWAPS_OF_ROUND: usize = 250;

/// Packets of a run without swaps: five seconds.
const CALM: u64 = 250;

/// Time between two produces.
const PACE: Duration = Duration::from_millis(20);

/// A version of the fixture, which has every hook and allows all.
fn version(number: usize) -> PluginConfig {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins-test/fixture-plugin.wasm");
    PluginConfig {
        instances: 2,
        memory_limit: 16 << 20,
        hooks: HookPolicies::default().time_budget(Duration::from_secs(10)),
        settings: json!({ "number": number }),
        ..PluginConfig::new("fixture", path)
    }
}

/// Pages of this process that are in memory, in MiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (pages * 4096) >> 20
}

async fn heard(listener: &Peer, ssrc: u32, packets: u64) -> Reception {
    let progress = listener
        .until("hearing", |progress| {
            let stream = progress.received.get(&ssrc);
            stream.is_some_and(|stream| stream.packets >= packets)
        })
        .await;
    progress.received[&ssrc].clone()
}

/// Produces and closes again at a steady pace until told to stop. How often; a produce that
/// fails ends the test.
async fn produce_on(mut guest: Guest, stop: Arc<AtomicBool>) -> u32 {
    let (mut peer, transport) = guest.connect(Direction::Send).await;
    let mut parameters = peer.add_track().await.rtp_parameters;
    let mut pace = tokio::time::interval(PACE);
    let mut produced = 0;
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        // The worker may still know the last one by its SSRC.
        parameters["encodings"] = json!([{ "ssrc": 1_000 + produced }]);
        let producer = guest.produce(&transport, &parameters).await;
        guest.membership.close_producer(producer).unwrap();
        produced += 1;
        // A client takes its events, or is disconnected.
        while guest.inbox.next().now_or_never().is_some() {}
    }
    produced
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_swaps_cost_no_packet_and_no_produce() {
    let house = House::with_plugins(&[version(0)]).await;
    let (ada, ben) = (house.join("stage", 1).await, house.join("stage", 2).await);
    let (speaker, track, producer) = ada.speaker().await;
    let (listener, ssrc) = ben.listener(producer).await;
    speaker.speak(&track, -20).await;
    let calm = heard(&listener, ssrc, CALM).await;

    let stop = Arc::new(AtomicBool::new(false));
    let busy = house.join("busy", 3).await;
    let produces = tokio::spawn(produce_on(busy, Arc::clone(&stop)));
    let mut grown = u64::MAX;
    for round in 0..ROUNDS {
        let before = resident();
        for swap in 0..SWAPS_OF_ROUND {
            let next = version(round * SWAPS_OF_ROUND + swap);
            house.plugins.reconfigure(&next).await.unwrap();
        }
        // Other tests run in this process at the same time: the quietest round counts.
        grown = grown.min(resident().saturating_sub(before));
    }
    let swapped = heard(&listener, ssrc, 2 * CALM).await;
    stop.store(true, Ordering::Relaxed);
    let produced = produces.await.unwrap();

    let (without, with) = (calm.missing(), swapped.missing() - calm.missing());
    assert!(
        with <= without,
        "{with} packets lost, and {without} in peace"
    );
    assert!(produced >= 50, "only {produced} produces");
    assert!(grown < 50, "{grown} MiB more in {SWAPS_OF_ROUND} swaps");
    let [status] = &house.plugins.status()[..] else {
        panic!("one plugin")
    };
    assert_eq!((status.swaps, status.rollbacks), (1000, 0));
    let answer = ada.membership.command("fixture:settings", &json!({})).await;
    let last = ROUNDS * SWAPS_OF_ROUND - 1;
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer, Some(json!({ "number": last })));
}

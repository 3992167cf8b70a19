//! What it saves to forward only those who speak, and what it costs them: packets
//! that leave the server with a limit of 3 among 16 producers beside no limit, in
//! one run, and the time from the first loud packet of somebody outside the set
//! to the first packet that a listener gets. The listener gets nothing before its
//! consumer is resumed, and packets come every 20 ms, so that the second figure is
//! an upper bound of the time to resumed consumers.
//!
//! Real workers, and WebRTC peers with ICE, DTLS and SRTP over loopback, in one
//! process. Nobody uses DTX: the silent send as much as those who speak.
//!
//! Run with `cargo bench --bench speakers`; `-- --quick` for a first look.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that cannot run stops and says where"
)]

#[allow(dead_code, reason = "shared with the tests, which need more of it")]
#[path = "../tests/it/house.rs"]
mod house;
#[allow(dead_code, reason = "shared with the tests, which need more of it")]
#[path = "../tests/it/peer.rs"]
mod peer;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use voice_room::model::ProducerId;

use crate::{
    house::{Ear, Guest, House, Stream},
    peer::{Peer, Track},
};

const PRODUCERS: u64 = 16;
const LISTENERS: u64 = 4;
const LIMIT: usize = 3;
const LOUD: i8 = -20;
const SILENT: i8 = -127;
/// How long each one talks: the one before last has then been silent for long
/// enough to make room.
const TURN: Duration = Duration::from_millis(600);

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

    async fn falls_silent(&self) {
        self.peer.speak(&self.track, SILENT).await;
    }

    /// Begins to talk; when its first loud packet was sent.
    async fn talks(&self) -> Instant {
        let ssrc = self.track.ssrc;
        let asked = Instant::now();
        self.peer.speak(&self.track, LOUD).await;
        let done = self.peer.until("sending", |progress| {
            progress.turned.get(&ssrc).is_some_and(|at| *at > asked)
        });
        done.await.turned[&ssrc]
    }
}

/// A hall in which one after the other talks, and everybody listens to everyone.
struct Hall {
    voices: Vec<Voice>,
    audience: Vec<(Guest, Ear, Vec<Stream>)>,
    turn: usize,
    _house: House,
}

impl Hall {
    async fn open(limit: usize) -> Self {
        let house = House::with(1, &format!("rooms.max_active_speakers = {limit}")).await;
        let voices = join_all((1..=PRODUCERS).map(|user| Voice::of(&house, user))).await;
        let listen = (0..LISTENERS).map(async |nth| {
            let guest = house.join("hall", 100 + nth).await;
            let ear = guest.ear().await;
            let mut streams = Vec::new();
            for voice in &voices {
                streams.push(guest.hear(&ear, voice.producer).await.0);
            }
            (guest, ear, streams)
        });
        let audience = join_all(listen).await;
        Self {
            voices,
            audience,
            turn: 0,
            _house: house,
        }
    }

    /// The next one talks; how long each listener waited for the first packet.
    async fn next(&mut self) -> Vec<Duration> {
        let before = self.turn % self.voices.len();
        self.turn += 1;
        let now = self.turn % self.voices.len();
        self.voices[before].falls_silent().await;
        let waits = self.audience.iter().map(async |(_, ear, streams)| {
            ear.hears(&streams[now], 1).await;
            Instant::now()
        });
        let (spoken, heard) = tokio::join!(self.voices[now].talks(), join_all(waits));
        tokio::time::sleep(TURN).await;
        let since = |at: Instant| at.saturating_duration_since(spoken);
        heard.into_iter().map(since).collect()
    }

    fn packets(&self) -> u64 {
        let of = |(_, ear, streams): &(Guest, Ear, Vec<Stream>)| -> u64 {
            streams.iter().map(|stream| ear.packets(stream)).sum()
        };
        self.audience.iter().map(of).sum()
    }

    /// Packets a second that arrive at all listeners while so many take their turns.
    async fn egress(&mut self, turns: usize) -> f64 {
        let (packets, start) = (self.packets(), Instant::now());
        for _ in 0..turns {
            self.next().await;
        }
        (self.packets() - packets) as f64 / start.elapsed().as_secs_f64()
    }
}

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let turns = if quick { 8 } else { 16 };
    let rounds = if quick { 2 } else { 4 };

    let mut limited = Hall::open(LIMIT).await;
    // Once around, so that nobody is in the set for having been the first.
    for _ in 0..PRODUCERS {
        limited.next().await;
    }
    let mut waits = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
    for _ in 0..turns * rounds {
        for wait in limited.next().await {
            let wait = u64::try_from(wait.as_micros()).unwrap();
            waits.record(wait.max(1)).unwrap();
        }
    }
    let millis = |quantile| waits.value_at_quantile(quantile) as f64 / 1_000.0;
    println!(
        "from the first loud packet to the first one heard, {} of {PRODUCERS} heard at once, {} waits: \
         p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        LIMIT,
        waits.len(),
        millis(0.5),
        millis(0.99),
        millis(1.0),
    );

    println!("packets a second to {LISTENERS} listeners of {PRODUCERS} producers");
    println!("round   limit {LIMIT}   no limit   ratio");
    drop(limited);
    for round in 1..=rounds {
        // One after the other, so that neither has to share the machine.
        let mut hall = Hall::open(LIMIT).await;
        let few = hall.egress(turns).await;
        drop(hall);
        let mut hall = Hall::open(0).await;
        let all = hall.egress(turns).await;
        drop(hall);
        println!("{round:>5} {few:>9.0} {all:>10.0} {:>7.3}", few / all);
    }
}

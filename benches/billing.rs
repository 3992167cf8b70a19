//! What it costs that no billing fact is lost.
//!
//! * From the first packet on the wire to what `on-first-rtp` has returned, while a hundred
//!   people begin to speak at once: through the media worker, the journal with its fsync, and
//!   the guest. The guest asks for an event to the room; the time ends where that event is in
//!   a participant's queue. Real workers, ICE, DTLS and SRTP over loopback; the peers are in
//!   this process, and share its processors.
//! * Facts a second that are journaled, fsynced and told, with the plugin that bills: the first
//!   packets of streams in many rooms, all asked for at once.
//! * Events a second that a webhook receiver takes.
//! * From the opening of the data directory that a kill has left until 10,000 sessions that
//!   were open are ended in the ledger.
//!
//! Run with `cargo bench --bench billing`; `-- --quick` for a first look. It writes where
//! temporary files are: the disk that is measured is that one (`TMPDIR`).

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
mod support;

use std::{
    fs, slice,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode, routing::post};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use voice_room::{
    config::{Grants, LedgerConfig, PluginConfig, SigningKey, SinkConfig, SinkKind, WebhookConfig},
    model::{
        Codec, FactId, FirstPacket, ParticipantId, ProducerId, RoomId, Source, UnixMs, User, UserId,
    },
    plugin::{Fact, Journal, ParticipantView, PluginHost, ProducerView, RoomView},
    room::Event,
    sinks::Sinks,
    store::{Store, ledger::Ledger},
};

use crate::{
    house::{Guest, House},
    peer::{Peer, Track},
    support::{Extent, fixture, standard},
};

/// As the server has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Who begins at once.
const SPEAKERS: u64 = 100;

/// Rooms of those whose facts come without media.
const ROOMS: usize = 200;

/// For everything that is awaited.
const LIMIT: Duration = Duration::from_secs(120);

const LOUD: i8 = -20;

/// Somebody who is about to speak, alone in a room.
struct Speaker {
    guest: Guest,
    peer: Peer,
    track: Track,
}

impl Speaker {
    async fn of(house: &House, user: u64) -> Self {
        let guest = house.join(&format!("room-{user}"), user).await;
        let (peer, track, _) = guest.speaker().await;
        Self { guest, peer, track }
    }

    /// Speaks. Given back, since whoever goes is work for the server, which others wait for.
    async fn begins(mut self) -> (Self, Beginning) {
        let ssrc = self.track.ssrc;
        self.peer.speak(&self.track, LOUD).await;
        let sent = self
            .peer
            .until("sending", |progress| progress.turned.contains_key(&ssrc));
        let both = async {
            // In either order.
            let (noted, told) = (OnceLock::new(), OnceLock::new());
            let are_here = |event: &Event| {
                match event {
                    Event::FirstRtp { .. } => _ = noted.set(Instant::now()),
                    Event::Plugin { name, .. } if **name == *"fixture:told" => {
                        _ = told.set(Instant::now());
                    }
                    _ => {}
                }
                noted.get().is_some() && told.get().is_some()
            };
            self.guest.until("both events", are_here).await;
            (*noted.get().unwrap(), *told.get().unwrap())
        };
        let (sent, (noted, told)) = tokio::join!(sent, both);
        let sent = sent.turned[&ssrc];
        (self, Beginning { sent, noted, told })
    }
}

/// When somebody's first packet was sent, when clients knew that the ledger has it, and when the
/// guest had done something about it.
struct Beginning {
    sent: Instant,
    noted: Instant,
    told: Instant,
}

async fn starts(rounds: usize) {
    let teller = fixture(json!({ "hooks": { "on-first-rtp": "tell" } })).unwrap();
    let teller = PluginConfig {
        grants: Grants::AllAsked,
        ..teller
    };
    let histogram = || Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
    let (mut to_ledger, mut to_guest, mut bursts) = (histogram(), histogram(), histogram());
    for _ in 0..rounds {
        let house = House::with_plugins(&[standard("billing").unwrap(), teller.clone()]).await;
        let mut speakers = Vec::new();
        for user in 1..=SPEAKERS {
            speakers.push(Speaker::of(&house, user).await);
        }
        // Each on a task of its own, as sessions are.
        let begin = speakers.into_iter().map(|one| tokio::spawn(one.begins()));
        let (_speakers, begun): (Vec<Speaker>, Vec<Beginning>) = join_all(begin)
            .await
            .into_iter()
            .map(Result::unwrap)
            .unzip();
        let record = |waits: &mut Histogram<u64>, wait: Duration| {
            let wait = u64::try_from(wait.as_micros()).unwrap();
            waits.record(wait.max(1)).unwrap();
        };
        for one in &begun {
            let since = |at: Instant| at.saturating_duration_since(one.sent);
            record(&mut to_ledger, since(one.noted));
            record(&mut to_guest, since(one.told));
        }
        let sent = || begun.iter().map(|one| one.sent);
        record(&mut bursts, sent().max().unwrap() - sent().min().unwrap());
    }
    println!(
        "{SPEAKERS} begin at once, {} starts; their first packets are sent within:",
        to_guest.len()
    );
    for (what, waits) in [
        ("", bursts),
        (
            "first packet to where clients know that the ledger has it:",
            to_ledger,
        ),
        ("first packet to what on-first-rtp did:", to_guest),
    ] {
        let millis = |quantile| waits.value_at_quantile(quantile) as f64 / 1_000.0;
        let [p50, p99, longest] = [0.5, 0.99, 1.0].map(millis);
        println!("  {what} p50 {p50:.2} ms, p99 {p99:.2} ms, longest {longest:.2} ms");
    }
}

/// A host with the plugin that bills, on a data directory.
struct Billing {
    host: PluginHost,
    store: Store,
    dir: TempDir,
}

impl Billing {
    async fn open(dir: TempDir) -> Self {
        let store = Store::open(dir.path()).unwrap();
        let host = PluginHost::load(&[standard("billing").unwrap()], &store)
            .await
            .unwrap();
        host.connect(|_, _, _| {}, |_| 1).await;
        Self { host, store, dir }
    }

    /// Streams begin, in rooms side by side; ends when each is journaled and billed.
    async fn begin(&self, streams: usize) -> Duration {
        let journals: Vec<(RoomId, Journal)> = (0..ROOMS)
            .map(|room| {
                let id = RoomId::new(&format!("room-{room}")).unwrap();
                (id, self.host.journal())
            })
            .collect();
        let before = self.store.ledger().extent().head.seq;
        let began = Instant::now();
        for stream in 0..streams {
            let (room, journal) = &journals[stream % ROOMS];
            journal.tell(first_rtp(room, stream as u64));
            if stream.is_multiple_of(ROOMS) {
                // As media would, room by room, and not all of it before anything is written.
                tokio::task::yield_now().await;
            }
        }
        // A fact and an event of each.
        grown(&self.store.ledger(), before + 2 * streams as u64).await;
        began.elapsed()
    }
}

async fn grown(ledger: &Ledger, to: u64) {
    assert!(ledger.grown(to - 1, LIMIT).await, "{:?}", ledger.extent());
}

fn first_rtp(room: &RoomId, stream: u64) -> Fact {
    let producer = ProducerId(uuid::Uuid::new_v4());
    let at = UnixMs::now();
    let user = User {
        id: UserId(stream),
        name: None,
        avatar: None,
        roles: Vec::new(),
        claims: "{}".to_owned(),
    };
    Fact::FirstRtp {
        room: RoomView {
            id: room.clone(),
            participants: 1,
        },
        participant: ParticipantView {
            id: ParticipantId::random(),
            user: Arc::new(user),
            connections: 1,
        },
        producer: ProducerView {
            id: producer,
            source: Source::Mic,
            codec: Codec {
                mime_type: "audio/opus".to_owned(),
                clock_rate: 48_000,
                channels: 2,
            },
        },
        packet: FirstPacket {
            ssrc: 1,
            timestamp: Some(2),
            payload_type: 100,
            after_ms: 20,
        },
        fact: FactId::first_rtp(producer),
        at,
    }
}

fn per_second(number: usize, took: Duration) -> f64 {
    number as f64 / took.as_secs_f64()
}

async fn facts(streams: usize) {
    let billing = Billing::open(tempfile::tempdir().unwrap()).await;
    billing.begin(ROOMS).await;
    let took = billing.begin(streams).await;
    println!(
        "facts journaled, fsynced and billed: {:.0} a second ({streams} in {ROOMS} rooms, {:.2} s)",
        per_second(streams, took),
        took.as_secs_f64(),
    );
}

async fn webhooks(events: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let app = Router::new().route("/", post(async || StatusCode::NO_CONTENT));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let key = SigningKey::new("a", "a key that is only for measuring").unwrap();
    let webhook = WebhookConfig::new(url.parse().unwrap(), vec![key]);
    let sink = SinkConfig {
        name: "receiver".to_owned(),
        topics: vec!["billing.".to_owned()],
        kind: SinkKind::Webhook(webhook),
    };

    let billing = Billing::open(tempfile::tempdir().unwrap()).await;
    billing.begin(events).await;
    let Billing { host, store, dir } = billing;
    store.flush(LIMIT).await.unwrap();
    // The lock on the directory goes with the last of them.
    host.shutdown(LIMIT).await;
    drop((host, store));
    let store =
        Store::open_with(dir.path(), &LedgerConfig::default(), slice::from_ref(&sink)).unwrap();
    let began = Instant::now();
    let sinks = Sinks::start(&[sink], &store).unwrap();
    let all_taken = async {
        while sinks.status()[0].lag > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, all_taken).await.unwrap();
    let took = began.elapsed();
    println!(
        "events taken by a webhook receiver on this machine, 8 requests at once: {:.0} a second",
        per_second(events, took),
    );
    sinks.stop(LIMIT).await;
}

async fn recovery(sessions: usize) {
    let billing = Billing::open(tempfile::tempdir().unwrap()).await;
    billing.begin(sessions).await;
    billing.store.flush(LIMIT).await.unwrap();
    // As a kill at this moment would leave it.
    let killed = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(billing.dir.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|one| one == "redb") {
            fs::copy(entry.path(), killed.path().join(entry.file_name())).unwrap();
        }
    }
    drop(billing);

    let began = Instant::now();
    let store = Store::open(killed.path()).unwrap();
    let opened = began.elapsed();
    let before = store.ledger().extent().head.seq;
    let host = PluginHost::load(&[standard("billing").unwrap()], &store)
        .await
        .unwrap();
    host.connect(|_, _, _| {}, |_| 0).await;
    let recovered = began.elapsed();
    grown(&store.ledger(), before + 2 * sessions as u64).await;
    let told = began.elapsed();
    println!(
        "recovery of {sessions} open sessions: database open after {:.2} s, all ends journaled \
         after {:.2} s, all billed after {:.2} s",
        opened.as_secs_f64(),
        recovered.as_secs_f64(),
        told.as_secs_f64(),
    );
    let last: Value = {
        let portion = voice_room::store::ledger::Portion {
            entries: 1,
            bytes: usize::MAX,
        };
        let span = store.ledger().read(before, portion).unwrap();
        serde_json::from_str(&span.entries[0].json()).unwrap()
    };
    assert_eq!(last["payload"]["reason"], "recovered", "{last}");
    host.shutdown(LIMIT).await;
}

#[tokio::main]
async fn main() {
    // There can be only one, and it may be there already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let extent = Extent::from_arguments();
    starts(extent.of(5, 1)).await;
    facts(extent.of(20_000, 1_000)).await;
    webhooks(extent.of(10_000, 500)).await;
    recovery(extent.of(10_000, 500)).await;
}

//! What plugins cost a client: `produce` through a room with three plugins
//! beside `produce` through one with none, on real mediasoup workers, in one
//! run. The two alternate in short batches, so that the machine's moods meet
//! both alike. Connecting, ICE and RTP are not part of it.
//!
//! Run with `cargo bench --bench produce`, after `make plugins`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot run stops and says where"
)]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::json;
use voice_room::{
    config::{self, Config, Flags, PluginConfig, Sources},
    media::{Media, lenient},
    model::{RoomId, Source, TransportId, User, UserId},
    plugin::PluginHost,
    room::{Direction, Membership, Rooms},
    store::Store,
};

const ROUNDS: usize = 5;
const BATCHES: usize = 20;
const PAUSE: Duration = Duration::from_millis(1);
const BATCH: usize = 50;

/// A room's worth of server: one participant with a sending transport.
struct Side {
    membership: Membership,
    transport: TransportId,
    /// Keeps the data directory until the end.
    _dir: tempfile::TempDir,
}

impl Side {
    async fn new(media: &Media, config: &Config, plugins: &[PluginConfig]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let host = PluginHost::load(plugins, &store).await.unwrap();
        let outbox = config.sessions.outbox_capacity;
        let rooms = Rooms::new(config.rooms.clone(), outbox, media.clone(), host.clone());
        let carrier = rooms.clone();
        let carry_out =
            move |room: &_, plugin: &_, actions| carrier.carry_out(room, plugin, actions);
        host.connect(carry_out, |_| 1).await;
        let user = Arc::new(User {
            id: UserId(1),
            name: Some("Ada".to_owned()),
            avatar: None,
            roles: vec!["member".to_owned()],
            claims: "{}".to_owned(),
        });
        let joined = rooms
            .join(&RoomId::new("bench").unwrap(), &user, &mut None)
            .await
            .unwrap();
        let membership = joined.membership;
        // The room's events are taken as they come, as a client would.
        let mut inbox = joined.inbox;
        tokio::spawn(async move { while inbox.next().await.is_some() {} });
        if host.has_command("seat:take") {
            let seat = json!({ "roomId": "bench", "seatIndex": 0 });
            membership
                .command("seat:take", &seat)
                .await
                .unwrap()
                .unwrap();
        }
        let transport = membership.create_transport(Direction::Send).await.unwrap();
        let transport = transport["id"].as_str().unwrap().parse().unwrap();
        Self {
            membership,
            transport,
            _dir: dir,
        }
    }

    async fn batch(&self, ssrc: &mut u32, times: &mut Histogram<u64>) {
        for _ in 0..BATCH {
            *ssrc += 1;
            let parameters = json!({
                "codecs": [{
                    "mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000,
                    "channels": 2, "parameters": { "useinbandfec": 1, "usedtx": 1 },
                }],
                "encodings": [{ "ssrc": *ssrc }],
                "rtcp": { "cname": "bench" },
            });
            let parameters = lenient::rtp_parameters(&parameters).unwrap();
            let start = Instant::now();
            let id = self
                .membership
                .produce(self.transport, Source::Mic, parameters)
                .await
                .unwrap();
            times
                .record(u64::try_from(start.elapsed().as_nanos()).unwrap())
                .unwrap();
            self.membership.close_producer(id).unwrap();
            // No client produces within microseconds of having closed: what the
            // close set in motion comes to rest on either side.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap()
}

fn micros(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1_000.0
}

#[tokio::main]
async fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = Sources {
        flags: Flags {
            dev: true,
            ..Flags::default()
        },
        file_text: None,
        environment: Vec::new(),
        cores: 1,
        plugins_dir: root.join("target/plugins"),
    };
    let config = config::resolve(&sources).unwrap().config;
    let (media, _deaths) = Media::start(config.media.clone()).await.unwrap();
    let with = Side::new(&media, &config, &config.plugins).await;
    let without = Side::new(&media, &config, &[]).await;

    let mut ssrc = 1_000;
    let mut warm_up = histogram();
    for side in [&with, &without] {
        side.batch(&mut ssrc, &mut warm_up).await;
    }
    println!(
        "produce, {} calls a side and round, microseconds",
        BATCHES * BATCH
    );
    println!("round   none p50    p99   three p50    p99   ratio p50   mean");
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (mut none, mut three) = (histogram(), histogram());
        for batch in 0..BATCHES {
            // Neither side always goes first.
            if batch % 2 == 0 {
                without.batch(&mut ssrc, &mut none).await;
                with.batch(&mut ssrc, &mut three).await;
            } else {
                with.batch(&mut ssrc, &mut three).await;
                without.batch(&mut ssrc, &mut none).await;
            }
        }
        let ratio = micros(&three, 0.5) / micros(&none, 0.5);
        ratios.push(ratio);
        println!(
            "{round:>5} {:>10.1} {:>6.1} {:>11.1} {:>6.1} {ratio:>11.3} {:>6.3}",
            micros(&none, 0.5),
            micros(&none, 0.99),
            micros(&three, 0.5),
            micros(&three, 0.99),
            three.mean() / none.mean(),
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "ratio of medians, three plugins to none: {:.3} ({:.3} to {:.3})",
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1],
    );
}

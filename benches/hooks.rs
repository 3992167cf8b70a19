//! How long a decision takes: from the call of the plugin host to the verdict, dispatch,
//! limits, checks and metrics included.
//!
//! `cargo bench --bench hooks`. Needs the components (`make plugins`) and an idle machine.
//! Each figure is the median of the rounds, with the lowest and the highest round.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use voice_room::{
    config::PluginConfig,
    model::{Codec, ParticipantId, RoomId, Source, UnixMs, User, UserId},
    plugin::{CommandCall, JoinCall, ParticipantView, PluginHost, ProduceCall, RoomView},
    store::Store,
};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(500);
const WARM_UP: usize = 20_000;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    // Metrics are counted, as they are in a server.
    metrics::set_global_recorder(
        metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder(),
    )?;
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .init();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .enable_all()
        .on_thread_start(voice_room::plugin::prepare_thread)
        .build()?;
    // A server's requests are tasks of worker threads; `block_on` alone is not.
    runtime.block_on(async { tokio::spawn(run()).await? })
}

async fn run() -> Outcome<()> {
    println!(
        "A decision, in microseconds: median of {ROUNDS} rounds of {ROUND:?} (lowest to highest)"
    );
    println!(
        "{:<42}{:>25}{:>25}{:>25}{:>12}{:>11}",
        "", "p50", "p99", "p99.9", "max", "calls/s"
    );
    let fixture = || plugin("fixture", "plugins-test/fixture-plugin.wasm", json!({}));
    let standard = |name: &str| plugin(name, &format!("plugins/{name}.wasm"), json!({}));
    let three = [
        standard("seats"),
        standard("billing"),
        standard("moderation"),
    ];

    let bench = Bench::new(&[fixture()?]).await?;
    bench
        .measure("before-produce, one plugin (fixture)", Hook::BeforeProduce)
        .await?;
    let bench = Bench::new(&[standard("seats")?]).await?;
    bench.seat().await?;
    bench
        .measure("before-produce, one plugin (seats)", Hook::BeforeProduce)
        .await?;
    let bench = Bench::new(&[standard("seats")?, fixture()?]).await?;
    bench.seat().await?;
    bench
        .measure("before-produce, two that decide", Hook::BeforeProduce)
        .await?;
    let bench = Bench::new(&three.into_iter().collect::<Outcome<Vec<_>>>()?).await?;
    bench.seat().await?;
    bench
        .measure(
            "before-produce, seats+billing+moderation",
            Hook::BeforeProduce,
        )
        .await?;
    bench
        .measure("before-join, seats+billing+moderation", Hook::BeforeJoin)
        .await
}

#[derive(Clone, Copy)]
enum Hook {
    BeforeJoin,
    BeforeProduce,
}

struct Bench {
    host: PluginHost,
    user: Arc<User>,
    room: RoomId,
    _store: Store,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new(plugins: &[PluginConfig]) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let store = Store::open(dir.path())?;
        let host = PluginHost::load(plugins, &store).await?;
        host.connect(|_, _, _| {}, |_| 1);
        let user = User {
            id: UserId(7),
            name: Some("Ada Lovelace".to_owned()),
            avatar: Some("https://example.org/ada.png".to_owned()),
            roles: vec!["speaker".to_owned()],
            claims: "{\"plan\":\"pro\",\"country\":\"gb\"}".to_owned(),
        };
        let room = RoomId::new("bench").ok_or("a room id")?;
        Ok(Self {
            host,
            user: Arc::new(user),
            room,
            _store: store,
            _dir: dir,
        })
    }

    fn room(&self) -> RoomView {
        RoomView {
            id: self.room.clone(),
            participants: 12,
        }
    }

    fn participant(&self) -> ParticipantView {
        ParticipantView {
            id: ParticipantId::random(),
            user: Arc::clone(&self.user),
            connections: 1,
        }
    }

    /// Takes a seat, so that the plugin `seats` lets the user speak.
    async fn seat(&self) -> Outcome<()> {
        let call = CommandCall {
            room: self.room(),
            participant: self.participant(),
            command: "seat:take".to_owned(),
            payload: json!({ "roomId": "bench", "seatIndex": 0 }).to_string(),
            target: None,
            at: UnixMs::now(),
        };
        match self.host.command(call).await {
            Some(Ok(_)) => Ok(()),
            other => Err(format!("no seat: {other:?}").into()),
        }
    }

    async fn decide(&self, hook: Hook) -> Outcome<Duration> {
        let (room, participant, at) = (self.room(), self.participant(), UnixMs::now());
        let (verdict, took) = match hook {
            Hook::BeforeJoin => {
                let call = JoinCall {
                    room,
                    participant,
                    at,
                };
                let began = Instant::now();
                (self.host.before_join(call).await, began.elapsed())
            }
            Hook::BeforeProduce => {
                let codec = Codec {
                    mime_type: "audio/opus".to_owned(),
                    clock_rate: 48_000,
                    channels: 2,
                };
                let call = ProduceCall {
                    room,
                    participant,
                    source: Source::Mic,
                    codec,
                    at,
                };
                let began = Instant::now();
                (
                    self.host.before_produce(call).await.map(drop),
                    began.elapsed(),
                )
            }
        };
        verdict.map_err(|refusal| format!("refused: {refusal:?}"))?;
        Ok(took)
    }

    async fn measure(&self, name: &str, hook: Hook) -> Outcome<()> {
        for _ in 0..WARM_UP {
            self.decide(hook).await?;
        }
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
            let began = Instant::now();
            while began.elapsed() < ROUND {
                histogram.saturating_record(u64::try_from(self.decide(hook).await?.as_nanos())?);
            }
            rounds.push(histogram);
        }
        let figure = |of: &dyn Fn(&Histogram<u64>) -> u64| {
            let mut values: Vec<f64> = rounds
                .iter()
                .map(|round| of(round) as f64 / 1000.0)
                .collect();
            values.sort_by(f64::total_cmp);
            let at = |place: usize| values.get(place).copied().unwrap_or_default();
            (at(ROUNDS / 2), at(0), at(ROUNDS - 1))
        };
        let shown = |quantile: f64| {
            let (median, low, high) = figure(&|round| round.value_at_quantile(quantile));
            format!("{median:.2} ({low:.2} to {high:.2})")
        };
        let (_, _, longest) = figure(&|round| round.max());
        // Of one caller: the inverse of the mean.
        let calls: f64 = rounds.iter().map(|round| 1e9 / round.mean()).sum::<f64>() / ROUNDS as f64;
        println!(
            "{name:<42}{:>25}{:>25}{:>25}{longest:>12.1}{calls:>11.0}",
            shown(0.5),
            shown(0.99),
            shown(0.999),
        );
        Ok(())
    }
}

fn plugin(name: &str, component: &str, settings: Value) -> Outcome<PluginConfig> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target")
        .join(component);
    if !path.exists() {
        return Err(format!("{} is missing: run `make plugins` first", path.display()).into());
    }
    Ok(PluginConfig {
        settings,
        ..PluginConfig::new(name, path)
    })
}

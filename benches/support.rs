//! What the benchmarks share: a host with a call to make, and figures with their spread.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::{
    error::Error,
    path::Path,
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

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How much is measured: with `--quick` only so much that it is seen to work.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) rounds: usize,
    pub(crate) round: Duration,
    pub(crate) warm_up: usize,
    /// Single measurements that take long.
    pub(crate) trials: usize,
    quick: bool,
}

impl Extent {
    pub(crate) fn from_arguments() -> Self {
        let quick = std::env::args().any(|argument| argument == "--quick");
        let (rounds, round, warm_up, trials) = if quick {
            (3, Duration::from_millis(20), 50, 5)
        } else {
            (7, Duration::from_millis(500), 20_000, 100)
        };
        Self {
            rounds,
            round,
            warm_up,
            trials,
            quick,
        }
    }

    /// For calls with a rest before each: fewer to warm up, and more time to measure as many.
    pub(crate) fn rested(self) -> Self {
        Self {
            round: self.round * 2,
            warm_up: self.warm_up / 20,
            ..self
        }
    }

    /// The number, or in a quick run the other one.
    pub(crate) fn of(self, number: usize, quick: usize) -> usize {
        if self.quick { quick } else { number }
    }
}

/// Runs a benchmark as a server runs its requests: in tasks of prepared worker threads, with
/// metrics counted.
pub(crate) fn run(bench: impl Future<Output = Outcome<()>> + Send + 'static) -> Outcome<()> {
    metrics::set_global_recorder(
        metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder(),
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(voice_room::plugin::prepare_thread)
        .build()?;
    runtime.block_on(async { tokio::spawn(bench).await? })
}

/// Shows what goes wrong in the server.
pub(crate) fn log_warnings() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .init();
}

/// A plugin whose component `make` has built, with the server's defaults.
pub(crate) fn plugin(name: &str, component: &str, settings: Value) -> Outcome<PluginConfig> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
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

pub(crate) fn fixture(settings: Value) -> Outcome<PluginConfig> {
    plugin("fixture", "plugins-test/fixture-plugin.wasm", settings)
}

pub(crate) fn standard(name: &str) -> Outcome<PluginConfig> {
    plugin(name, &format!("plugins/{name}.wasm"), json!({}))
}

/// A host on a data directory of its own, and calls to make.
pub(crate) struct Bench {
    pub(crate) host: PluginHost,
    user: Arc<User>,
    _store: Store,
    dir: tempfile::TempDir,
}

/// Where the calls are, unless they say otherwise.
pub(crate) const ROOM: &str = "bench";

impl Bench {
    pub(crate) async fn new(plugins: &[PluginConfig]) -> Outcome<Arc<Self>> {
        Ok(Arc::new(Self::on(tempfile::tempdir()?, plugins).await?))
    }

    pub(crate) async fn on(dir: tempfile::TempDir, plugins: &[PluginConfig]) -> Outcome<Self> {
        let store = Store::open(dir.path())?;
        let host = PluginHost::load(plugins, &store).await?;
        host.connect(|_, _, _| {}, |_| 1).await;
        let user = User {
            id: UserId(7),
            name: Some("Ada Lovelace".to_owned()),
            avatar: Some("https://example.org/ada.png".to_owned()),
            roles: vec!["speaker".to_owned()],
            claims: "{\"plan\":\"pro\",\"country\":\"gb\"}".to_owned(),
        };
        Ok(Self {
            host,
            user: Arc::new(user),
            _store: store,
            dir,
        })
    }

    /// Ends it and gives its data directory back.
    pub(crate) fn into_dir(self) -> tempfile::TempDir {
        let Self {
            host, _store, dir, ..
        } = self;
        drop((host, _store));
        dir
    }

    fn room(&self, id: &str) -> Outcome<RoomView> {
        Ok(RoomView {
            id: RoomId::new(id).ok_or("a room id")?,
            participants: 12,
        })
    }

    fn participant(&self) -> ParticipantView {
        ParticipantView {
            id: ParticipantId::random(),
            user: Arc::clone(&self.user),
            connections: 1,
        }
    }

    pub(crate) fn join(&self, room: &str) -> Outcome<JoinCall> {
        Ok(JoinCall {
            room: self.room(room)?,
            participant: self.participant(),
            at: UnixMs::now(),
        })
    }

    pub(crate) fn produce(&self, room: &str) -> Outcome<ProduceCall> {
        Ok(ProduceCall {
            room: self.room(room)?,
            participant: self.participant(),
            source: Source::Mic,
            codec: Codec {
                mime_type: "audio/opus".to_owned(),
                clock_rate: 48_000,
                channels: 2,
            },
            at: UnixMs::now(),
        })
    }

    pub(crate) async fn command(&self, room: &str, name: &str, payload: Value) -> Outcome<Value> {
        let call = CommandCall {
            room: self.room(room)?,
            participant: self.participant(),
            command: name.to_owned(),
            payload: payload.to_string(),
            target: None,
            at: UnixMs::now(),
        };
        match self.host.command(call).await {
            Some(Ok(data)) => Ok(data.unwrap_or_default()),
            other => Err(format!("{name}: {other:?}").into()),
        }
    }

    /// Takes a seat, so that the plugin `seats` lets the user speak.
    pub(crate) async fn seat(&self) -> Outcome<()> {
        let seat = json!({ "roomId": ROOM, "seatIndex": 0 });
        self.command(ROOM, "seat:take", seat).await.map(drop)
    }

    /// Measures `before-produce`.
    pub(crate) async fn measure_producing(
        self: &Arc<Self>,
        name: &str,
        extent: Extent,
    ) -> Outcome<Option<f64>> {
        let call = || {
            let bench = Arc::clone(self);
            async move { bench.producing().await }
        };
        measure(name, extent, call).await
    }

    /// Measures `before-join`.
    pub(crate) async fn measure_joining(
        self: &Arc<Self>,
        name: &str,
        extent: Extent,
    ) -> Outcome<Option<f64>> {
        let call = || {
            let bench = Arc::clone(self);
            async move { bench.joining().await }
        };
        measure(name, extent, call).await
    }

    /// How long `before-join` takes.
    pub(crate) async fn joining(&self) -> Outcome<Duration> {
        let call = self.join(ROOM)?;
        let began = Instant::now();
        let verdict = self.host.before_join(call).await;
        let took = began.elapsed();
        verdict.map_err(|refusal| format!("refused: {refusal:?}"))?;
        Ok(took)
    }

    /// How long `before-produce` takes.
    pub(crate) async fn producing(&self) -> Outcome<Duration> {
        let call = self.produce(ROOM)?;
        let began = Instant::now();
        let verdict = self.host.before_produce(call).await;
        let took = began.elapsed();
        verdict.map_err(|refusal| format!("refused: {refusal:?}"))?;
        Ok(took)
    }
}

pub(crate) fn histogram() -> Outcome<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000_000, 3)?)
}

pub(crate) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// A quantile in microseconds.
pub(crate) fn micros(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

pub(crate) fn head(what: &str, extent: Extent) {
    let Extent { rounds, round, .. } = extent;
    println!("{what}, in microseconds: median of {rounds} rounds of {round:?} (lowest to highest)");
    println!(
        "{:<44}{:>25}{:>25}{:>25}{:>12}{:>11}",
        "", "p50", "p99", "p99.9", "max", "calls/s"
    );
}

/// Whether a line is wanted: those are that contain a word of the command line, or all.
fn is_wanted(name: &str) -> bool {
    let mut words = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}

/// Measures one call after the other, and prints a line. The median p50 in microseconds; none
/// if the line is not wanted.
pub(crate) async fn measure<Call>(
    name: &str,
    extent: Extent,
    mut call: impl FnMut() -> Call,
) -> Outcome<Option<f64>>
where
    Call: Future<Output = Outcome<Duration>> + Send,
{
    if !is_wanted(name) {
        return Ok(None);
    }
    for _ in 0..extent.warm_up {
        call().await?;
    }
    let mut rounds = Vec::new();
    for _ in 0..extent.rounds {
        let mut histogram = histogram()?;
        let began = Instant::now();
        while began.elapsed() < extent.round {
            record(&mut histogram, call().await?);
        }
        rounds.push(histogram);
    }
    let spread = |quantile: f64| {
        let mut values: Vec<f64> = rounds.iter().map(|round| micros(round, quantile)).collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or_default();
        (at(values.len() / 2), at(0), at(values.len() - 1))
    };
    let shown = |quantile: f64| {
        let (median, low, high) = spread(quantile);
        format!("{median:.2} ({low:.2} to {high:.2})")
    };
    let (_, _, longest) = spread(1.0);
    // Of one caller: the inverse of the mean.
    let number = rounds.len() as f64;
    let calls: f64 = rounds.iter().map(|round| 1e9 / round.mean()).sum::<f64>() / number;
    println!(
        "{name:<44}{:>25}{:>25}{:>25}{longest:>12.1}{calls:>11.0}",
        shown(0.5),
        shown(0.99),
        shown(0.999),
    );
    Ok(Some(spread(0.5).0))
}

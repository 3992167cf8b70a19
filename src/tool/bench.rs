//! `plugin bench`: what each hook of a component costs.

mod life;

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    Report,
    component::{Identity, IdentityError, sha256},
    json,
};
use crate::{
    cli::BenchOptions,
    config::{HookPolicies, PluginConfig},
    model::Hook,
    plugin::{Called, Input, LoadError, Offline, OfflineOptions, Outcome},
};
use life::{Cast, Life};

/// Lives before those that count: at least so many, at most a tenth of those.
const WARM_UP: u32 = 200;
/// Most calls of a hook that are each given a fresh instance: they take tens of times as long.
const FRESH: u32 = 1000;
/// Lives whose instructions are counted.
const COUNTED: u32 = 100;
/// Loads from the cache, and instances made, of which the median is told.
const REPEATED: usize = 21;

/// Here it is measured how long a call takes; nothing is cut off that takes longer than a
/// server would allow.
const TIME_BUDGET: Duration = Duration::from_secs(5);

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The manifest is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The component cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Compiled code has no place.
    #[error("no temporary folder: {0}")]
    NoTemporary(io::Error),
}

/// The figures.
#[derive(Serialize)]
struct Bench {
    plugin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    component: File,
    /// Whether the server that measured is an optimised build.
    optimized: bool,
    /// Of one instance, after all calls.
    memory_bytes: usize,
    /// Compiled, linked and started.
    load_ms: f64,
    /// As `load_ms`, with compiled code that was on the disk.
    load_cached_ms: f64,
    /// A further instance, its `init` included.
    init_us: f64,
    hooks: Vec<HookFigures>,
}

#[derive(Serialize)]
struct File {
    file: PathBuf,
    bytes: usize,
    sha256: String,
}

#[derive(Serialize)]
struct HookFigures {
    hook: Hook,
    /// Of `on-command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    calls: usize,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    /// WebAssembly instructions of a call, the median.
    instructions: u64,
    /// With an instance of its own for each call, that instance's start included.
    fresh_p50_us: f64,
    fresh_p99_us: f64,
    /// What the calls came to, and how often.
    answers: BTreeMap<String, usize>,
}

/// Calls are told apart by hook and command.
type Kind = (Hook, Option<String>);

#[derive(Default)]
struct Sample {
    times: Vec<Duration>,
    instructions: Vec<u64>,
    answers: BTreeMap<String, usize>,
}

type Samples = BTreeMap<Kind, Sample>;

/// Measures.
///
/// # Errors
///
/// If the component cannot be loaded.
pub(super) async fn component(options: &BenchOptions) -> Result<Report, BenchError> {
    let manifest = match &options.manifest {
        Some(manifest) => manifest.clone(),
        None => options.file.with_extension("toml"),
    };
    let identity = Identity::of_manifest(&manifest)?;
    let config = PluginConfig {
        manifest,
        settings: options.settings.clone(),
        hooks: HookPolicies::default().time_budget(TIME_BUDGET),
        ..PluginConfig::new(&identity.name, options.file.clone())
    };
    let bytes = fs::read(&options.file).map_err(|error| BenchError::Unreadable {
        path: options.file.clone(),
        error,
    })?;
    let cache = tempfile::tempdir().map_err(BenchError::NoTemporary)?;
    let (offline, load) = loaded(&config, cache.path()).await?;
    drop(offline);
    let mut cached = Vec::with_capacity(REPEATED);
    for _ in 0..REPEATED {
        cached.push(loaded(&config, cache.path()).await?.1);
    }
    let (mut offline, _) = loaded(&config, cache.path()).await?;

    let cast = Cast {
        roles: options.roles.clone(),
        payload: options.payload.clone(),
    };
    let warm_up = WARM_UP.max(options.calls / 10);
    live(&mut offline, &cast, 0..warm_up).await;
    let end = warm_up.saturating_add(options.calls);
    let measured = live(&mut offline, &cast, warm_up..end).await;
    let memory_bytes = offline.memory_bytes();
    let started = starts(&mut offline).await?;
    let fresh_until = warm_up.saturating_add(options.calls.min(FRESH));
    let fresh = live_fresh(&mut offline, &cast, warm_up..fresh_until).await?;
    let counted = instructions(&config, &cast).await?;

    let figures = measured.into_iter().map(|(kind, sample)| {
        let instructions = counted.get(&kind).map(|sample| &sample.instructions);
        figures(kind.clone(), sample, instructions, fresh.get(&kind))
    });
    let bench = Bench {
        plugin: identity.name,
        version: identity.version,
        component: File {
            file: options.file.clone(),
            bytes: bytes.len(),
            sha256: sha256(&bytes),
        },
        optimized: !cfg!(debug_assertions),
        memory_bytes,
        load_ms: rounded(load.as_secs_f64() * 1e3),
        load_cached_ms: rounded(micros(&mut cached, 0.5) / 1e3),
        init_us: rounded(started),
        hooks: figures.collect(),
    };
    let text = if options.json {
        json(&bench)
    } else {
        bench.for_people()
    };
    Ok(Report::fine(text))
}

async fn loaded(config: &PluginConfig, cache: &Path) -> Result<(Offline, Duration), LoadError> {
    let options = OfflineOptions {
        cache_dir: Some(cache.to_owned()),
        ..OfflineOptions::default()
    };
    let began = Instant::now();
    let offline = load(config, options).await?;
    Ok((offline, began.elapsed()))
}

async fn load(config: &PluginConfig, options: OfflineOptions) -> Result<Offline, LoadError> {
    let loaded = Offline::load(config, options).await;
    loaded.map_err(|problem| LoadError {
        problems: vec![problem],
    })
}

/// The calls of these lives, as far as the component has the hooks.
fn calls(offline: &Offline, cast: &Cast, lives: Range<u32>) -> impl Iterator<Item = Input> + use<> {
    let (hooks, commands) = (offline.hooks(), offline.commands().to_vec());
    let cast = cast.clone();
    let calls = lives
        .filter_map(move |number| Life::new(number.into(), &cast))
        .flat_map(move |life| life.calls(&commands));
    calls.filter(move |call| hooks.contains(&call.hook()))
}

async fn live(offline: &mut Offline, cast: &Cast, lives: Range<u32>) -> Samples {
    let mut samples = Samples::new();
    for call in calls(offline, cast, lives) {
        let called = offline.call(&call).await;
        let sample = samples.entry(kind(&call)).or_default();
        sample.note(&called, called.took);
    }
    samples
}

async fn live_fresh(
    offline: &mut Offline,
    cast: &Cast,
    lives: Range<u32>,
) -> Result<Samples, LoadError> {
    let mut samples = Samples::new();
    for call in calls(offline, cast, lives) {
        let began = Instant::now();
        replace(offline).await?;
        let started = began.elapsed();
        let called = offline.call(&call).await;
        let sample = samples.entry(kind(&call)).or_default();
        sample.note(&called, started + called.took);
    }
    Ok(samples)
}

/// Counting slows the calls down: a run of its own.
async fn instructions(config: &PluginConfig, cast: &Cast) -> Result<Samples, LoadError> {
    let options = OfflineOptions {
        count_instructions: true,
        ..OfflineOptions::default()
    };
    let mut offline = load(config, options).await?;
    Ok(live(&mut offline, cast, 0..COUNTED).await)
}

/// The median time that a new instance takes, in microseconds.
async fn starts(offline: &mut Offline) -> Result<f64, LoadError> {
    let mut times = Vec::with_capacity(REPEATED);
    for _ in 0..REPEATED {
        let began = Instant::now();
        replace(offline).await?;
        times.push(began.elapsed());
    }
    Ok(micros(&mut times, 0.5))
}

async fn replace(offline: &mut Offline) -> Result<(), LoadError> {
    let replaced = offline.replace_instance().await;
    replaced.map_err(|problem| LoadError {
        problems: vec![problem],
    })
}

fn kind(call: &Input) -> Kind {
    let command = match call {
        Input::Command(call) => Some(call.command.clone()),
        _ => None,
    };
    (call.hook(), command)
}

impl Sample {
    fn note(&mut self, called: &Called, took: Duration) {
        self.times.push(took);
        self.instructions.extend(called.instructions);
        let answer = match &called.outcome {
            Outcome::Refuse(refused) => format!("refuse {}", refused.code),
            other => other.kind().to_owned(),
        };
        *self.answers.entry(answer).or_default() += 1;
    }
}

fn figures(
    (hook, command): Kind,
    mut sample: Sample,
    instructions: Option<&Vec<u64>>,
    fresh: Option<&Sample>,
) -> HookFigures {
    let mut counted = instructions.cloned().unwrap_or_default();
    counted.sort_unstable();
    let mut fresh = fresh.map_or(Vec::new(), |sample| sample.times.clone());
    HookFigures {
        hook,
        command,
        calls: sample.times.len(),
        p50_us: rounded(micros(&mut sample.times, 0.5)),
        p99_us: rounded(micros(&mut sample.times, 0.99)),
        max_us: rounded(micros(&mut sample.times, 1.0)),
        instructions: quantile(&counted, 0.5).copied().unwrap_or(0),
        fresh_p50_us: rounded(micros(&mut fresh, 0.5)),
        fresh_p99_us: rounded(micros(&mut fresh, 0.99)),
        answers: sample.answers,
    }
}

/// A quantile of times, in microseconds; sorts them.
fn micros(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    quantile(times, share).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// The least value that at least this share of all does not exceed.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a list that fits in memory"
)]
fn quantile<T>(sorted: &[T], share: f64) -> Option<&T> {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1).min(sorted.len().saturating_sub(1)))
}

/// To a thousandth: what is behind it is noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl Bench {
    fn for_people(&self) -> String {
        let version = self.version.as_deref().unwrap_or_default();
        let File {
            file,
            bytes,
            sha256,
        } = &self.component;
        let mut text = format!(
            "{} {version} ({}, {bytes} bytes, sha256 {sha256})\n\
             load {:.1} ms, from the cache {:.2} ms; a further instance {:.1} µs, {} KiB\n",
            self.plugin,
            file.display(),
            self.load_ms,
            self.load_cached_ms,
            self.init_us,
            self.memory_bytes / 1024,
        );
        if !self.optimized {
            text +=
                "This is a development build of the server: times are longer than in production.\n";
        }
        let names: Vec<_> = self.hooks.iter().map(HookFigures::name).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        text += &format!(
            "\n{:width$}  {:>8} {:>9} {:>9} {:>9} {:>12} {:>10} {:>10}  answers\n",
            "", "calls", "p50 µs", "p99 µs", "max µs", "instructions", "fresh p50", "fresh p99"
        );
        for (name, hook) in names.iter().zip(&self.hooks) {
            let answers = hook.answers.iter().map(|(answer, count)| match count {
                count if *count == hook.calls => answer.clone(),
                count => format!("{answer} ({count})"),
            });
            text += &format!(
                "{name:width$}  {:>8} {:>9.2} {:>9.2} {:>9.2} {:>12} {:>10.1} {:>10.1}  {}\n",
                hook.calls,
                hook.p50_us,
                hook.p99_us,
                hook.max_us,
                hook.instructions,
                hook.fresh_p50_us,
                hook.fresh_p99_us,
                answers.collect::<Vec<_>>().join(", "),
            );
        }
        text
    }
}

impl HookFigures {
    fn name(&self) -> String {
        match &self.command {
            Some(command) => format!("{} {command}", self.hook),
            None => self.hook.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(quantile(&hundred, 0.5), Some(&50));
        assert_eq!(quantile(&hundred, 0.99), Some(&99));
        assert_eq!(quantile(&hundred, 1.0), Some(&100));
        assert_eq!(quantile(&[7], 0.01), Some(&7));
        assert_eq!(quantile::<u32>(&[], 0.5), None);
    }
}

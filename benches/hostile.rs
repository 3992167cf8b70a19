//! What others feel of a hostile guest: how long their decisions take while one room of a
//! plugin does its worst, beside how long they take in peace.
//!
//! `cargo bench --bench hostile` (`-- --quick` to see that it works). Needs the components
//! (`make plugins test-guests`) and an idle machine. Two callers attack without a pause; the
//! circuit breaker, which would end that after a few failures, is off. In the meantime one
//! caller each asks for a decision every half millisecond: in a room of another instance of the
//! plugin, in a room of the same instance, which waits for the attacker's time budget, and of
//! another plugin, in the room that is attacked.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use support::{Bench, Extent, Outcome, fixture, histogram, micros, record};
use voice_room::config::{BreakerConfig, HookPolicies, PluginConfig};

/// What the attacked hook, and all others, may take.
const BUDGET: Duration = Duration::from_millis(20);

const PACE: Duration = Duration::from_micros(500);

const ATTACKED: &str = "bad";

const ATTACKS: [(&str, &str); 14] = [
    ("an endless loop", "loop"),
    ("all memory", "exhaust-memory"),
    ("a stack overflow", "stack-overflow"),
    ("a panic", "panic"),
    ("a trap", "trap"),
    ("a gigabyte of log", "log-gigabyte"),
    ("ten million key-value calls", "flood-kv-calls"),
    ("a million metrics", "flood-metrics"),
    ("a million events", "flood-publish"),
    ("20,000 actions", "flood-actions"),
    ("a refusal of megabytes", "huge-refusal"),
    ("an action of megabytes", "huge-action"),
    ("a log line of megabytes", "huge-log"),
    ("JSON that is none", "invalid-json"),
];

/// Rooms of the same instance as the attacked one, and of another one.
struct Rooms {
    same: String,
    other: String,
}

fn main() -> Outcome<()> {
    support::run(run(Extent::from_arguments()))
}

async fn run(extent: Extent) -> Outcome<()> {
    println!(
        "A decision of others meanwhile, in microseconds, over {:?} each",
        span(extent)
    );
    println!(
        "{:<32}{:>22}{:>22}{:>22}",
        "", "another instance", "the same instance", "another plugin"
    );
    let columns = "p50         p99";
    println!("{:<32}{columns:>22}{columns:>22}{columns:>22}", "");
    row("in peace", None, extent).await?;
    for (name, behaviour) in ATTACKS {
        row(name, Some(behaviour), extent).await?;
    }
    Ok(())
}

fn span(extent: Extent) -> Duration {
    extent.round * 6
}

async fn row(name: &str, behaviour: Option<&str>, extent: Extent) -> Outcome<()> {
    let hostile = behaviour.map_or(
        json!({}),
        |behaviour| json!({ "before-produce": behaviour }),
    );
    let hostile = plugin("hostile", &json!({ "hooks": hostile, "when": ATTACKED }))?;
    let neighbour = plugin("neighbour", &json!({ "commands": ["fixture:echo"] }))?;
    let bench = Arc::new(Bench::new(&[without_echo(hostile), neighbour]).await?);
    let rooms = rooms(&bench).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let attackers: Vec<_> = (0..if behaviour.is_some() { 2 } else { 0 })
        .map(|_| tokio::spawn(attack(Arc::clone(&bench), Arc::clone(&stop))))
        .collect();
    let other = tokio::spawn(decide(Arc::clone(&bench), rooms.other, span(extent)));
    let same = tokio::spawn(decide(Arc::clone(&bench), rooms.same, span(extent)));
    let neighbour = tokio::spawn(command(Arc::clone(&bench), span(extent)));
    let columns = [other.await??, same.await??, neighbour.await??];
    stop.store(true, Ordering::Relaxed);
    for attacker in attackers {
        attacker.await??;
    }
    print!("{name:<32}");
    for column in columns {
        let (p50, p99) = (micros(&column, 0.5), micros(&column, 0.99));
        print!("{p50:>10.1}{p99:>12.1}");
    }
    println!();
    Ok(())
}

fn plugin(name: &str, settings: &Value) -> Outcome<PluginConfig> {
    Ok(PluginConfig {
        name: name.to_owned(),
        instances: 2,
        // Nobody's patience is to end, so that every decision counts.
        hooks: HookPolicies::default()
            .time_budget(Duration::from_secs(10))
            .time_budget_of(voice_room::model::Hook::BeforeProduce, BUDGET),
        breaker: BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        },
        ..fixture(settings.clone())?
    })
}

/// That command is the neighbour's.
fn without_echo(mut hostile: PluginConfig) -> PluginConfig {
    if let Some(settings) = hostile.settings.as_object_mut() {
        settings.insert("commands".to_owned(), json!(["fixture:calls"]));
    }
    hostile
}

/// Finds out which rooms share an instance, by its count of calls.
async fn rooms(bench: &Bench) -> Outcome<Rooms> {
    let calls = async |room: String| -> Outcome<u64> {
        let data = bench.command(&room, "fixture:calls", json!({})).await?;
        Ok(data
            .get("calls")
            .and_then(Value::as_u64)
            .unwrap_or_default())
    };
    let (mut same, mut other) = (None, None);
    for n in 0..1000 {
        let room = format!("good-{n}");
        let before = calls(ATTACKED.to_owned()).await?;
        calls(room.clone()).await?;
        let shares = calls(ATTACKED.to_owned()).await? == before + 2;
        let found = if shares { &mut same } else { &mut other };
        found.get_or_insert(room);
        if let (Some(same), Some(other)) = (&same, &other) {
            let (same, other) = (same.clone(), other.clone());
            return Ok(Rooms { same, other });
        }
    }
    Err("all rooms are in one lane".into())
}

async fn attack(bench: Arc<Bench>, stop: Arc<AtomicBool>) -> Outcome<()> {
    while !stop.load(Ordering::Relaxed) {
        let call = bench.produce(ATTACKED)?;
        // Whatever the answer is.
        drop(bench.host.before_produce(call).await);
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Decisions that only the plugins' good rooms make.
async fn decide(bench: Arc<Bench>, room: String, span: Duration) -> Outcome<Histogram<u64>> {
    paced(span, async || {
        let call = bench.join(&room)?;
        let began = Instant::now();
        let verdict = bench.host.before_join(call).await;
        let took = began.elapsed();
        verdict.map_err(|refusal| format!("refused: {refusal:?}"))?;
        Ok(took)
    })
    .await
}

/// Answers of the other plugin.
async fn command(bench: Arc<Bench>, span: Duration) -> Outcome<Histogram<u64>> {
    paced(span, async || {
        let began = Instant::now();
        bench.command(ATTACKED, "fixture:echo", json!({})).await?;
        Ok(began.elapsed())
    })
    .await
}

async fn paced(
    span: Duration,
    mut call: impl AsyncFnMut() -> Outcome<Duration>,
) -> Outcome<Histogram<u64>> {
    let mut taken = histogram()?;
    let began = Instant::now();
    while began.elapsed() < span {
        record(&mut taken, call().await?);
        tokio::time::sleep(PACE).await;
    }
    Ok(taken)
}

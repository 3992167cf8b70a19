//! What plugins cost besides decisions: how late a runaway loop is cut off, how long loading
//! from the cache of compiled code takes, and the memory of an instance that does nothing.
//!
//! `cargo bench --bench costs` (`-- --quick` to see that it works). Needs the components
//! (`make plugins test-guests`) and an idle machine.

mod support;

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;
use support::{Bench, Extent, Outcome, fixture, histogram, micros, record, standard};
use voice_room::config::{BreakerConfig, HookPolicies, PluginConfig};

fn main() -> Outcome<()> {
    // What fails does so because it is to, and a line about each would be in the way.
    support::run(run(Extent::from_arguments()))
}

async fn run(extent: Extent) -> Outcome<()> {
    println!("In milliseconds, {} trials each", extent.trials);
    println!("{:<52}{:>10}{:>10}{:>10}", "", "p50", "p99", "max");
    cut_off(extent).await?;
    loading(extent).await?;
    println!();
    println!("In KiB");
    memory(extent).await
}

fn line(name: &str, histogram: &Histogram<u64>) {
    let millis = |quantile| micros(histogram, quantile) / 1000.0;
    println!(
        "{name:<52}{:>10.3}{:>10.3}{:>10.3}",
        millis(0.5),
        millis(0.99),
        millis(1.0)
    );
}

/// The time between the end of a budget and the answer.
async fn cut_off(extent: Extent) -> Outcome<()> {
    let budget = Duration::from_millis(20);
    let looping = PluginConfig {
        hooks: HookPolicies::default().time_budget(budget),
        breaker: BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        },
        ..fixture(json!({ "hooks": { "before-produce": "loop" } }))?
    };
    let bench = Bench::new(&[looping]).await?;
    let mut over = histogram()?;
    for _ in 0..extent.trials {
        let call = bench.produce(support::ROOM)?;
        let began = Instant::now();
        let verdict = bench.host.before_produce(call).await;
        let took = began.elapsed();
        if verdict.is_ok() {
            return Err("the loop has ended".into());
        }
        record(&mut over, took.saturating_sub(budget));
    }
    line(&format!("a runaway loop, beyond its {budget:?}"), &over);
    Ok(())
}

/// A server's plugins at its start, and a reload while it runs.
async fn loading(extent: Extent) -> Outcome<()> {
    let mut plugins = vec![standard("seats")?];
    plugins.extend(standard("doors"));
    for plugin in plugins {
        let name = plugin.name.clone();
        let one = PluginConfig {
            instances: 1,
            ..plugin
        };
        // Compiles, so that from here on the code is there.
        let mut bench = Bench::new(std::slice::from_ref(&one)).await?;
        let (mut loaded, mut reloaded) = (histogram()?, histogram()?);
        for _ in 0..extent.trials {
            let dir = bench.into_dir();
            let began = Instant::now();
            bench = Bench::on(dir, std::slice::from_ref(&one)).await?;
            record(&mut loaded, began.elapsed());
            let began = Instant::now();
            bench.host.reload(&name).await?;
            record(&mut reloaded, began.elapsed());
        }
        line(
            &format!("load {name} from cache, the store included"),
            &loaded,
        );
        line(
            &format!("reload {name} from cache, while it runs"),
            &reloaded,
        );
    }
    Ok(())
}

async fn memory(extent: Extent) -> Outcome<()> {
    let mut plugins = vec![standard("seats")?, fixture(json!({}))?];
    plugins.extend(standard("doors"));
    for plugin in plugins {
        // One in JavaScript takes as much as a hundred others.
        let number = match &*plugin.name {
            "doors" => extent.of(20, 2),
            _ => extent.of(200, 20),
        };
        let with = |instances: usize| {
            let plugin = plugin.clone();
            [PluginConfig {
                instances,
                ..plugin
            }]
        };
        // What the first one brings with it, code for example, does not count.
        let first = Bench::new(&with(1)).await?;
        let before = resident()?;
        let many = Bench::new(&with(number + 1)).await?;
        let grown = resident()?.saturating_sub(before);
        let (name, each) = (&plugin.name, grown / number as u64 / 1024);
        println!("{:<52}{each:>10}", format!("an idle instance of {name}"));
        drop((first, many));
    }
    Ok(())
}

/// Bytes of this process that are in memory.
fn resident() -> Outcome<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("statm")?.parse()?;
    Ok(pages * 4096)
}

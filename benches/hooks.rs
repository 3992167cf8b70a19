//! How long a decision takes: from the call of the plugin host to the verdict, dispatch,
//! limits, checks and metrics included. And the same decision as a webhook on loopback.
//!
//! Most calls follow each other at once. Those after a rest are what a room meets that decides
//! now and then: caches are cold, threads asleep, and what is made ahead has had the time.
//!
//! `cargo bench --bench hooks` (`-- --quick` to see that it works; further words choose the
//! lines that contain one of them). Needs the components
//! (`make plugins test-guests`) and an idle machine. Each figure is the median of the rounds,
//! with the lowest and the highest round.

mod support;
mod webhook;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use support::{Bench, Extent, Outcome, fixture, measure, standard};
use voice_room::config::{Isolation, PluginConfig};
use webhook::Webhook;

/// Between two calls of those that do not follow each other at once.
const REST: Duration = Duration::from_millis(1);

fn main() -> Outcome<()> {
    if let Some(served) = webhook::serve_if_asked() {
        return served;
    }
    support::log_warnings();
    support::run(run(Extent::from_arguments()))
}

async fn run(extent: Extent) -> Outcome<()> {
    support::head("A decision", extent);
    let bench = Bench::new(&[fixture(json!({}))?]).await?;
    let name = "before-produce, one plugin (fixture)";
    bench.measure_producing(name, extent).await?;

    let bench = Bench::new(&[standard("seats")?]).await?;
    bench.seat().await?;
    let name = "before-produce, one plugin (seats)";
    let ours = bench.measure_producing(name, extent).await?;
    let name = "before-produce, seats, after a rest";
    let rested = measure_rested(&bench, name, extent).await?;

    let bench = Bench::new(&[standard("seats")?, fixture(json!({}))?]).await?;
    bench.seat().await?;
    let name = "before-produce, two that decide";
    bench.measure_producing(name, extent).await?;

    let three = [
        standard("seats")?,
        standard("billing")?,
        standard("moderation")?,
    ];
    let bench = Bench::new(&three).await?;
    bench.seat().await?;
    let name = "before-produce, seats+billing+moderation";
    bench.measure_producing(name, extent).await?;
    let name = "before-join, seats+billing+moderation";
    bench.measure_joining(name, extent).await?;

    let amending = json!({ "hooks": { "before-produce": "amend-attach" } });
    let bench = Bench::new(&[fixture(amending)?]).await?;
    let name = "before-produce with an amendment (fixture)";
    bench.measure_producing(name, extent).await?;

    fresh(extent).await?;
    javascript(extent).await?;

    webhook("axum", Webhook::axum()?, extent, (ours, rested)).await?;
    match Webhook::node() {
        Some(node) => webhook("Node.js", node?, extent, (ours, rested)).await,
        None => {
            println!("(no webhook in Node.js: it is not there)");
            Ok(())
        }
    }
}

/// Measures `before-produce` with a rest before each call.
async fn measure_rested(bench: &Arc<Bench>, name: &str, extent: Extent) -> Outcome<Option<f64>> {
    let call = || {
        let bench = Arc::clone(bench);
        async move {
            tokio::time::sleep(REST).await;
            bench.producing().await
        }
    };
    measure(name, extent.rested(), call).await
}

/// Measures a webhook, and compares it with the plugin's figures, at once and after a rest.
async fn webhook(
    server: &str,
    webhook: Webhook,
    extent: Extent,
    (ours, ours_rested): (Option<f64>, Option<f64>),
) -> Outcome<()> {
    let bench = Bench::new(&[]).await?;
    let webhook = Arc::new(webhook);
    let ask = |rest: Option<Duration>| {
        let (bench, webhook) = (Arc::clone(&bench), Arc::clone(&webhook));
        async move {
            if let Some(rest) = rest {
                tokio::time::sleep(rest).await;
            }
            webhook.ask(&bench.produce(support::ROOM)?).await
        }
    };
    let name = format!("the same as a webhook ({server})");
    let name_rested = format!("{name}, after a rest");
    let theirs = measure(&name, extent, || ask(None)).await?;
    let rested = measure(&name_rested, extent.rested(), || ask(Some(REST))).await?;
    for (theirs, ours, when) in [
        (theirs, ours, "at once"),
        (rested, ours_rested, "after a rest"),
    ] {
        if let (Some(theirs), Some(ours)) = (theirs, ours) {
            let times = theirs / ours;
            println!("A webhook ({server}) takes {times:.1} times as long as seats, {when}.");
        }
    }
    Ok(())
}

async fn fresh(extent: Extent) -> Outcome<()> {
    for name in ["fixture", "seats"] {
        let plugin = match name {
            "fixture" => fixture(json!({}))?,
            _ => standard(name)?,
        };
        let bench = Bench::new(&[PluginConfig {
            isolation: Isolation::Fresh,
            ..plugin
        }])
        .await?;
        if name == "seats" {
            bench.seat().await?;
        }
        let name = format!("before-produce, fresh instance ({name})");
        bench.measure_producing(&name, extent).await?;
        let name = format!("{name}, after a rest");
        measure_rested(&bench, &name, extent).await?;
    }
    Ok(())
}

async fn javascript(extent: Extent) -> Outcome<()> {
    // Node.js builds it, which not everybody has.
    let Ok(doors) = standard("doors") else {
        println!("(no plugin in JavaScript: target/plugins/doors.wasm is not there)");
        return Ok(());
    };
    let bench = Bench::new(&[doors]).await?;
    let name = "before-produce, in JavaScript (doors)";
    bench.measure_producing(name, extent).await?;
    let name = "before-join, in JavaScript (doors)";
    bench.measure_joining(name, extent).await?;
    Ok(())
}

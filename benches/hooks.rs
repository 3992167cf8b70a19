//! How long a decision takes: from the call of the plugin host to the verdict, dispatch,
//! limits, checks and metrics included. And the same decision as a webhook on loopback.
//!
//! `cargo bench --bench hooks` (`-- --quick` to see that it works). Needs the components
//! (`make plugins test-guests`) and an idle machine. Each figure is the median of the rounds,
//! with the lowest and the highest round.

mod support;
mod webhook;

use serde_json::json;
use support::{Bench, Extent, Outcome, fixture, measure, standard};
use voice_room::config::{Isolation, PluginConfig};
use webhook::Webhook;

fn main() -> Outcome<()> {
    support::log_warnings();
    support::run(run(Extent::from_arguments()))
}

async fn run(extent: Extent) -> Outcome<()> {
    support::head("A decision", extent);
    let bench = Bench::new(&[fixture(json!({}))?]).await?;
    let name = "before-produce, one plugin (fixture)";
    measure(name, extent, async || bench.producing().await).await?;

    let bench = Bench::new(&[standard("seats")?]).await?;
    bench.seat().await?;
    let name = "before-produce, one plugin (seats)";
    let ours = measure(name, extent, async || bench.producing().await).await?;

    let bench = Bench::new(&[standard("seats")?, fixture(json!({}))?]).await?;
    bench.seat().await?;
    let name = "before-produce, two that decide";
    measure(name, extent, async || bench.producing().await).await?;

    let three = [
        standard("seats")?,
        standard("billing")?,
        standard("moderation")?,
    ];
    let bench = Bench::new(&three).await?;
    bench.seat().await?;
    let name = "before-produce, seats+billing+moderation";
    measure(name, extent, async || bench.producing().await).await?;
    let name = "before-join, seats+billing+moderation";
    measure(name, extent, async || bench.joining().await).await?;

    let amending = json!({ "hooks": { "before-produce": "amend-attach" } });
    let bench = Bench::new(&[fixture(amending)?]).await?;
    let name = "before-produce with an amendment (fixture)";
    measure(name, extent, async || bench.producing().await).await?;

    fresh(extent).await?;
    javascript(extent).await?;

    let webhook = Webhook::start().await?;
    let bench = Bench::new(&[]).await?;
    let name = "before-produce as a webhook on loopback";
    let theirs = measure(name, extent, async || {
        webhook.ask(&bench.produce(support::ROOM)?).await
    })
    .await?;
    println!(
        "The webhook takes {:.0} times as long as the plugin seats.",
        theirs / ours
    );
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
        measure(&name, extent, async || bench.producing().await).await?;
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
    measure(name, extent, async || bench.producing().await).await?;
    let name = "before-join, in JavaScript (doors)";
    measure(name, extent, async || bench.joining().await).await?;
    Ok(())
}

//! A plugin that keeps failing is left alone for a while.

use std::time::{Duration, Instant};

use serde_json::json;
use voice_room::{
    config::{BreakerConfig, HookPolicies, OnFailure, PluginConfig},
    model::Hook,
    plugin::{BreakerState, PLUGIN_FAILED},
};

use super::{
    rig::{self, Rig, fixture},
    watch::{calls, eventually},
};

/// The fixture under a name of its own, which is unwell in rooms that begin with `bad`.
fn breaking(name: &str, failures: u32, probe_after: Duration) -> PluginConfig {
    let hooks = json!({ "before-produce": "unwell", "on-leave": "unwell" });
    PluginConfig {
        name: name.to_owned(),
        instances: 2,
        hooks: HookPolicies::default().time_budget(Duration::from_secs(10)),
        breaker: BreakerConfig {
            failures,
            window: Duration::from_secs(60),
            probe_after,
        },
        ..fixture(&json!({ "hooks": hooks, "when": "bad", "publish": true }))
    }
}

async fn produce(rig: &Rig, room: &str) -> Result<(), String> {
    let verdict = rig.host.before_produce(rig::produce(room, 1)).await;
    verdict.map(drop).map_err(|refusal| refusal.code)
}

#[tokio::test]
async fn the_circuit_opens_after_so_many_failures_and_a_probe_closes_it() {
    let plugin = breaking("circuit", 3, Duration::from_secs(2));
    let rig = Rig::new(&[plugin]).await;
    for failure in 0..3 {
        assert_eq!(rig.status().breaker, BreakerState::Closed, "{failure}");
        assert!(produce(&rig, "bad").await.is_err());
    }
    let opened = Instant::now();
    assert_eq!(rig.status().breaker, BreakerState::Open);
    for room in ["bad", "good", "good-1", "good-2"] {
        assert_eq!(produce(&rig, room).await, Err(PLUGIN_FAILED.to_owned()));
        rig.host.notify(rig::left(room, 1));
    }
    assert!(rig.told().await.is_empty());
    assert!(opened.elapsed() < Duration::from_secs(2), "a busy machine");
    assert_eq!(calls("circuit", "before-produce", "trapped"), 3);
    assert_eq!(calls("circuit", "before-produce", "done"), 0);
    assert_eq!(calls("circuit", "before-produce", "unanswered"), 4);
    assert_eq!(rig.status().queued, 4, "facts wait");

    eventually("facts have been told", async || rig.told().await.len() == 3).await;
    assert!(opened.elapsed() >= Duration::from_secs(2));
    assert_eq!(produce(&rig, "good").await, Ok(()));
    rig.heal("good").await;
    eventually("all facts have been told", async || {
        rig.told_of("bad").await == ["on-leave 1 left"]
    })
    .await;
    assert_eq!(rig.status().breaker, BreakerState::Closed);
    assert!(rig.dead_letters().await.is_empty());
}

#[tokio::test]
async fn an_open_circuit_is_answered_by_the_contract_of_the_hook() {
    let mut plugin = breaking("allowing", 1, Duration::from_secs(3600));
    plugin.hooks = plugin
        .hooks
        .on_failure(Hook::BeforeProduce, OnFailure::Allow);
    let rig = Rig::new(&[plugin]).await;
    for _ in 0..10 {
        assert_eq!(produce(&rig, "bad").await, Ok(()));
    }
    assert_eq!(calls("allowing", "before-produce", "trapped"), 1);
    assert!(rig.host.before_join(rig::join("good", 1)).await.is_err());
}

#[tokio::test]
async fn a_probe_that_fails_doubles_the_wait() {
    let wait = Duration::from_millis(100);
    let rig = Rig::new(&[breaking("doubling", 1, wait)]).await;
    assert!(produce(&rig, "bad").await.is_err());
    let mut before = Instant::now();
    for probe in 1..=4_u32 {
        eventually("a probe has failed", async || {
            assert!(produce(&rig, "bad").await.is_err());
            calls("doubling", "before-produce", "trapped") > u64::from(probe)
        })
        .await;
        // Taken after the circuit has opened, and so somewhat too late.
        let slack = Duration::from_millis(50);
        let expected = wait * 2_u32.pow(probe - 1);
        assert!(before.elapsed() + slack >= expected, "probe {probe}");
        before = Instant::now();
    }
    assert_eq!(rig.status().breaker, BreakerState::Open);
}

#[tokio::test]
async fn one_fact_that_fails_again_and_again_does_not_close_the_plugin_to_others() {
    let plugin = PluginConfig {
        retry_limit: u32::MAX,
        ..breaking("poisoned", 2, Duration::from_secs(3600))
    };
    let rig = Rig::new(&[plugin]).await;
    rig.host.notify(rig::left("bad", 1));
    eventually("it has been tried more often", async || {
        calls("poisoned", "on-leave", "trapped") >= 4
    })
    .await;
    assert_eq!(rig.status().breaker, BreakerState::Closed);
    assert_eq!(produce(&rig, "good").await, Ok(()));
}

#[tokio::test]
async fn another_version_is_called_at_once_and_told_what_has_waited() {
    let plugin = breaking("replaced", 1, Duration::from_secs(3600));
    let rig = Rig::new(std::slice::from_ref(&plugin)).await;
    assert!(produce(&rig, "bad").await.is_err());
    let rooms: Vec<String> = (0..8).map(|n| format!("room-{n}")).collect();
    for room in &rooms {
        rig.host.notify(rig::left(room, 1));
    }
    eventually("they have been tried", async || {
        calls("replaced", "on-leave", "done") == 0 && rig.status().queued == rooms.len()
    })
    .await;
    let well = PluginConfig {
        settings: json!({ "publish": true }),
        ..plugin
    };
    rig.host.reconfigure(&well).await.unwrap();
    eventually("all facts have been told", async || {
        rig.told().await.len() == rooms.len()
    })
    .await;
    assert_eq!(produce(&rig, "bad").await, Ok(()));
    assert_eq!(rig.status().breaker, BreakerState::Closed);
}

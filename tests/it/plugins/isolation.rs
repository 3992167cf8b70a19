//! Instances beside each other, and instances for one call each.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};
use voice_room::{
    config::{BreakerConfig, HookPolicies, Isolation, PluginConfig},
    plugin::{Fact, PLUGIN_FAILED},
};

use super::{
    rig::{self, LIMIT, Rig, fixture},
    watch::{calls, eventually},
};

fn fresh(settings: &Value) -> PluginConfig {
    PluginConfig {
        isolation: Isolation::Fresh,
        instances: 2,
        hooks: HookPolicies::default().time_budget(Duration::from_secs(10)),
        ..fixture(settings)
    }
}

#[tokio::test]
async fn memory_does_not_survive_a_call_and_keys_do() {
    let rig = Rig::new(&[fresh(&json!({}))]).await;
    assert_eq!(rig.status().isolation, "fresh");
    for n in 0..5 {
        let calls = rig.data("a", "fixture:calls", json!({})).await;
        assert_eq!(calls, json!({ "calls": 1 }));
        let key = json!({ "key": "n", "by": 1 });
        let sum = rig.data("a", "fixture:kv-increment", key).await;
        assert_eq!(sum, json!({ "sum": n + 1 }));
    }
    let behave = json!({ "hook": "before-join", "behaviour": "deny" });
    rig.data("a", "fixture:behave", behave).await;
    assert_eq!(rig.host.before_join(rig::join("a", 1)).await, Ok(()));
}

#[tokio::test]
async fn an_instance_that_grows_is_replaced_before_a_call_fails_for_it() {
    let settings = json!({ "hooks": { "before-join": "leak" } });
    // A quarter of the calls would fill it.
    let rig = Rig::new(&[PluginConfig {
        memory_limit: 16 << 20,
        ..fixture(&settings)
    }])
    .await;
    for call in 0..64 {
        let verdict = rig.host.before_join(rig::join("a", 1)).await;
        assert_eq!(verdict, Ok(()), "call {call}");
    }
    let calls = rig.data("a", "fixture:calls", json!({})).await["calls"].clone();
    assert!(calls.as_u64().unwrap() < 16, "{calls} of one instance");
    assert!(rig.status().last_failure.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_keep_their_order_also_where_each_has_an_instance_of_its_own() {
    let rig = Rig::new(&[fresh(&json!({ "publish": true }))]).await;
    for user in 0..100 {
        for room in ["a", "b", "c"] {
            rig.host.notify(Fact::Joined(rig::join(room, user)));
        }
    }
    rig.host.shutdown(LIMIT).await;
    let expected: Vec<String> = (0..100).map(|user| format!("on-join {user}")).collect();
    for room in ["a", "b", "c"] {
        assert_eq!(rig.told_of(room).await, expected, "room {room}");
    }
}

#[tokio::test]
async fn a_trap_costs_only_its_own_call() {
    let settings = json!({ "hooks": { "before-produce": "trap" }, "when": "bad" });
    let rig = Rig::new(&[fresh(&settings)]).await;
    for _ in 0..3 {
        let refusal = rig.host.before_produce(rig::produce("bad", 1)).await;
        assert_eq!(refusal.unwrap_err().code, PLUGIN_FAILED);
        let verdict = rig.host.before_produce(rig::produce("good", 1)).await;
        assert_eq!(verdict.map(drop), Ok(()));
        assert_eq!(rig.host.before_join(rig::join("bad", 1)).await, Ok(()));
    }
}

#[tokio::test]
async fn a_call_whose_instance_does_not_start_is_counted() {
    let named = |settings| PluginConfig {
        name: "no-start".to_owned(),
        ..fresh(&settings)
    };
    let rig = Rig::new(&[named(json!({}))]).await;
    rig.heal("a").await;
    let unwell = named(json!({ "hooks": { "init": "unwell" } }));
    rig.host.reconfigure(&unwell).await.unwrap();
    rig.data("a", "fixture:kv-delete", json!({ "key": "well" }))
        .await;
    let refusal = rig.host.before_join(rig::join("a", 1)).await;
    assert_eq!(refusal.unwrap_err().code, PLUGIN_FAILED);
    assert_eq!(calls("no-start", "before-join", "trapped"), 1);
}

/// Rooms in different lanes, as many as the hash gives.
fn rooms() -> Vec<String> {
    (0..32).map(|n| format!("room-{n}")).collect()
}

fn beside_each_other(isolation: Isolation) -> PluginConfig {
    PluginConfig {
        isolation,
        instances: 4,
        hooks: HookPolicies::default().time_budget(Duration::from_secs(10)),
        ..fixture(&json!({}))
    }
}

async fn increment_at_once(isolation: Isolation, times: usize) {
    let rig = Arc::new(Rig::new(&[beside_each_other(isolation)]).await);
    let rooms = rooms();
    let tasks: Vec<_> = (0..times)
        .map(|n| {
            let (rig, room) = (Arc::clone(&rig), rooms[n % rooms.len()].clone());
            tokio::spawn(async move {
                let key = json!({ "key": "n", "by": 1 });
                let data = rig.data(&room, "fixture:kv-increment", key).await;
                data["sum"].as_u64().unwrap()
            })
        })
        .collect();
    let mut sums = BTreeSet::new();
    for task in tasks {
        sums.insert(task.await.unwrap());
    }
    let expected: BTreeSet<u64> = (1..=times as u64).collect();
    assert_eq!(sums, expected, "each has seen all before it");
    assert_eq!(rig.key("a", "n").await, times.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_of_instances_that_run_at_once_are_all_counted() {
    increment_at_once(Isolation::Live, 800).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_of_instances_of_one_call_are_all_counted() {
    increment_at_once(Isolation::Fresh, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_those_who_compare_and_set_at_once_one_wins_each_time() {
    const EACH: usize = 20;
    let rig = Arc::new(Rig::new(&[beside_each_other(Isolation::Live)]).await);
    let tasks: Vec<_> = rooms()
        .into_iter()
        .take(16)
        .map(|room| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move {
                let mut won = 0;
                while won < EACH {
                    let expected = rig.key(&room, "n").await;
                    let before: u64 = expected.as_str().map_or(0, |text| text.parse().unwrap());
                    let value = (before + 1).to_string();
                    let change = json!({ "key": "n", "expected": expected, "value": value });
                    let data = rig.data(&room, "fixture:kv-cas", change).await;
                    won += usize::from(data["done"] == true);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(rig.key("a", "n").await, (16 * EACH).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn facts_that_count_at_once_are_all_counted() {
    let settings = json!({ "hooks": { "on-leave": "unwell" } });
    let plugin = PluginConfig {
        settings,
        ..beside_each_other(Isolation::Live)
    };
    let rig = Rig::new(&[plugin]).await;
    rig.heal("a").await;
    for n in 0..600 {
        rig.host.notify(rig::left(&rooms()[n % 32], 1));
    }
    eventually("all are counted", async || {
        rig.key("a", "called/on-leave").await == "600"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn facts_of_a_guest_that_traps_at_random_are_counted_once_each() {
    let settings = json!({ "hooks": { "on-leave": "whim" } });
    let plugin = PluginConfig {
        name: "whimsical".to_owned(),
        settings,
        retry_limit: 30,
        breaker: BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        },
        ..beside_each_other(Isolation::Live)
    };
    let rig = Rig::new(&[plugin]).await;
    for n in 0..100 {
        rig.host.notify(rig::left(&rooms()[n % 32], 1));
    }
    eventually("all are counted", async || {
        rig.key("a", "called/on-leave").await == "100"
    })
    .await;
    assert!(calls("whimsical", "on-leave", "trapped") > 0);
}

/// Until an instance waits for its call: nothing else takes memory between calls.
async fn made_ahead(rig: &Rig) {
    eventually("the next instance is there", async || {
        // The task that ends the last one has its turn first.
        tokio::task::yield_now().await;
        rig.status().memory_bytes > 0
    })
    .await;
}

async fn gone(rig: &Rig) {
    eventually("no instance is there", async || {
        rig.status().memory_bytes == 0
    })
    .await;
}

#[tokio::test]
async fn the_next_instance_is_made_ahead_and_goes_with_its_version() {
    let config = PluginConfig {
        instances: 1,
        ..fresh(&json!({}))
    };
    let rig = Rig::new(&[config]).await;
    assert_eq!(rig.status().memory_bytes, 0, "nobody has called yet");
    for _ in 0..3 {
        let calls = rig.data("a", "fixture:calls", json!({})).await;
        assert_eq!(calls, json!({ "calls": 1 }));
        made_ahead(&rig).await;
    }
    rig.host.reload("fixture").await.unwrap();
    gone(&rig).await;
    assert_eq!(rig.host.before_join(rig::join("a", 1)).await, Ok(()));
    made_ahead(&rig).await;
    rig.host.shutdown(LIMIT).await;
    gone(&rig).await;
}

#[tokio::test]
async fn no_instance_is_made_ahead_where_init_asks_for_what_may_change() {
    // It asks for too much, and does not mind.
    let rig = Rig::new(&[fresh(&json!({ "hooks": { "init": "huge-kv" } }))]).await;
    for _ in 0..3 {
        assert_eq!(rig.host.before_join(rig::join("a", 1)).await, Ok(()));
        tokio::task::yield_now().await;
        assert_eq!(rig.status().memory_bytes, 0);
    }
}

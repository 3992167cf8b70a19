//! A second version of a plugin beside the first.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::json;
use voice_room::{
    config::{BreakerConfig, HookPolicies, PluginConfig},
    model::UnixMs,
    plugin::{Fact, ShadowStatus},
    store::{Limits, Staged},
};

use super::{
    rig::{self, LIMIT, Rig, component, fixture, standard},
    watch::eventually,
};

const FIXTURE: &str = "plugins-test/fixture-plugin.wasm";

/// Large enough for what is written here.
const LIMITS: Limits = Limits {
    key: 100,
    value: 100,
    keys: 100,
    total: 10_000,
    timers: 100,
    changes: 100,
    changed: 10_000,
    listed: 100,
    events: 100,
    payload: 100,
    topic: 100,
};

fn shadowed(config: PluginConfig, by: &str) -> PluginConfig {
    PluginConfig {
        shadow: Some(component(by)),
        ..config
    }
}

impl Rig {
    fn shadow(&self) -> ShadowStatus {
        self.host.status()[0].shadow.clone().expect("a shadow")
    }

    /// How the shadow does, once it has had that many calls.
    async fn shadow_after(&self, calls: u64) -> ShadowStatus {
        let seen = async {
            loop {
                let status = self.shadow();
                if status.agreeing + status.differing + status.left_out >= calls {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        let seen = tokio::time::timeout(LIMIT, seen).await;
        seen.unwrap_or_else(|_| panic!("{calls} calls: {:?}", self.shadow()))
    }
}

#[tokio::test]
async fn the_same_component_agrees_and_nothing_happens_twice() {
    let live = fixture(&json!({}));
    let rig = Rig::new(std::slice::from_ref(&live)).await;
    let payload = json!({ "key": "count", "value": "41" });
    rig.data("a", "fixture:kv-set", payload).await;
    let rig = rig
        .restart(&[shadowed(live, "plugins-test/fixture-plugin.wasm")])
        .await;

    // It has the keys of before, and goes on from its own writes.
    for sum in [42, 43] {
        let payload = json!({ "key": "count", "by": 1 });
        let data = rig.data("a", "fixture:kv-increment", payload).await;
        assert_eq!(data, json!({ "sum": sum }));
    }
    rig.host.before_join(rig::join("a", 7)).await.unwrap();
    rig.host.notify(Fact::Joined(rig::join("a", 7)));
    let action = json!({ "mute": { "user": 7 } });
    rig.data("a", "fixture:do", json!({ "actions": [action] }))
        .await;
    let event = json!({ "topic": "fixture.t", "payload": "{}" });
    rig.data("a", "fixture:publish", event).await;
    let refusal = json!({ "code": "NO", "message": "No" });
    rig.command("a", "fixture:refuse", refusal)
        .await
        .unwrap_err();

    let status = rig.shadow_after(7).await;
    assert_eq!((status.agreeing, status.differing), (7, 0));
    assert_eq!(status.component, rig.host.status()[0].component);
    assert_eq!(rig.take_actions().len(), 1);
    assert_eq!(rig.published().await.len(), 1);
    let data = rig
        .data("a", "fixture:kv-get", json!({ "key": "count" }))
        .await;
    assert_eq!(data, json!({ "value": "43" }));
}

#[tokio::test]
async fn a_shadow_that_disagrees_is_counted_and_changes_nothing() {
    let config = shadowed(standard("seats", json!({})), "plugins/billing.wasm");
    let rig = Rig::new(&[config]).await;
    let refusal = rig.host.before_produce(rig::produce("a", 7)).await;
    assert_eq!(refusal.unwrap_err().code, "SEAT_REQUIRED");
    let status = rig.shadow_after(1).await;
    assert_eq!((status.agreeing, status.differing), (0, 1));
    assert_ne!(status.component, rig.host.status()[0].component);
}

#[tokio::test]
async fn a_shadow_that_does_not_keep_up_leaves_calls_out_and_begins_anew() {
    let config = PluginConfig {
        hooks: HookPolicies::default().time_budget(LIMIT),
        ..shadowed(fixture(&json!({})), "plugins-test/fixture-plugin.wasm")
    };
    let rig = Rig::new(&[config]).await;
    // On this one thread, the plugin has many calls done between two of the shadow.
    for user in 0..4000 {
        rig.host.notify(Fact::Joined(rig::join("a", user)));
    }
    let calls = Cell::new(4000);
    let increment = || {
        calls.set(calls.get() + 1);
        rig.data("a", "fixture:kv-increment", json!({ "key": "n", "by": 1 }))
    };
    increment().await;
    assert!(rig.shadow().left_out > 0, "{:?}", rig.shadow());

    // What it has missed, it finds in its copy of the keys.
    let caught_up = async {
        loop {
            let before = rig.shadow().left_out;
            increment().await;
            if rig.shadow().left_out == before {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let caught_up = tokio::time::timeout(LIMIT, caught_up).await;
    caught_up.expect("the shadow follows again");
    for _ in 0..10 {
        increment().await;
    }
    let status = rig.shadow_after(calls.get()).await;
    assert_eq!(status.differing, 0, "{status:?}");
}

#[tokio::test]
async fn what_a_failed_call_wrote_does_not_stay_in_the_shadow() {
    const TRIES: u64 = 4;
    let unwell = PluginConfig {
        hooks: HookPolicies::default().time_budget(LIMIT),
        retry_limit: TRIES as u32,
        breaker: BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        },
        ..fixture(&json!({ "hooks": { "on-leave": "unwell" } }))
    };
    let rig = Rig::new(std::slice::from_ref(&unwell)).await;
    rig.heal("a").await;
    let rig = rig.restart(&[shadowed(unwell, FIXTURE)]).await;

    // From here on, the plugin is unwell, and its shadow is not.
    let space = rig.store.space("fixture");
    let mut staged = Staged::new(UnixMs::now());
    staged.set(&space, &LIMITS, "well", None).unwrap();
    space.apply(staged).unwrap();
    rig.host.notify(rig::left("a", 7));
    let status = rig.shadow_after(TRIES).await;
    assert_eq!((status.agreeing, status.differing), (0, TRIES));
    assert_eq!(rig.key("a", "called/on-leave").await, json!(null));
    let status = rig.shadow_after(TRIES + 1).await;
    assert_eq!((status.agreeing, status.differing), (1, TRIES));
}

/// Increments in a room of its own, until told to stop. How many there were.
async fn increments(rig: &Rig, room: &str, stop: &AtomicBool, done: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let payload = json!({ "key": room, "by": 1 });
        rig.data(room, "fixture:kv-increment", payload).await;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_shadow_that_begins_under_traffic_misses_nothing() {
    let plain = PluginConfig {
        hooks: HookPolicies::default().time_budget(LIMIT),
        instances: 3,
        ..fixture(&json!({}))
    };
    let rig = Arc::new(Rig::new(std::slice::from_ref(&plain)).await);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let rooms = (0..6).map(|n| {
        let (rig, stop, done) = (Arc::clone(&rig), Arc::clone(&stop), Arc::clone(&done));
        tokio::spawn(async move { increments(&rig, &format!("room-{n}"), &stop, &done).await })
    });
    let rooms: Vec<_> = rooms.collect();
    let more = async |number| {
        let before = done.load(Ordering::Relaxed);
        eventually("there is traffic", async || {
            done.load(Ordering::Relaxed) >= before + number
        })
        .await;
    };
    for _ in 0..10 {
        more(20).await;
        let shadowed = shadowed(plain.clone(), FIXTURE);
        rig.host.reconfigure(&shadowed).await.unwrap();
        eventually("the shadow follows", async || rig.shadow().agreeing > 50).await;
        let status = rig.shadow();
        assert_eq!(status.differing, 0, "{status:?}");
        rig.host.reconfigure(&plain).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for room in rooms {
        room.await.unwrap();
    }
}

#[tokio::test]
async fn after_a_rollback_the_shadow_goes_on_with_what_was_written_meanwhile() {
    let good = PluginConfig {
        hooks: HookPolicies::default().time_budget(LIMIT),
        ..fixture(&json!({}))
    };
    let bad = PluginConfig {
        settings: json!({ "hooks": { "before-produce": "trap" } }),
        ..good.clone()
    };
    let rig = Rig::new(&[shadowed(good, FIXTURE)]).await;
    let increment = || rig.data("a", "fixture:kv-increment", json!({ "key": "n", "by": 1 }));
    increment().await;
    assert_eq!(rig.shadow_after(1).await.agreeing, 1);
    rig.host.reconfigure(&bad).await.unwrap();
    increment().await;
    eventually("the good version is back", async || {
        drop(rig.host.before_produce(rig::produce("a", 1)).await);
        rig.status().rollbacks == 1
    })
    .await;
    // More than the calls that it may not have come to yet.
    let before = rig.shadow();
    for sum in 3..20 {
        assert_eq!(increment().await, json!({ "sum": sum }));
    }
    let calls = before.agreeing + before.differing + before.left_out + 17;
    let status = rig.shadow_after(calls).await;
    assert_eq!((status.differing, status.left_out), (0, before.left_out));
}

#[tokio::test]
async fn a_shadow_that_grows_is_replaced_before_a_call_fails_for_it() {
    let leaking = PluginConfig {
        hooks: HookPolicies::default().time_budget(LIMIT),
        ..fixture(&json!({ "hooks": { "before-join": "leak" } }))
    };
    let rig = Rig::new(&[shadowed(leaking, FIXTURE)]).await;
    for _ in 0..64 {
        assert_eq!(rig.host.before_join(rig::join("a", 1)).await, Ok(()));
    }
    let status = rig.shadow_after(64).await;
    assert_eq!((status.agreeing, status.differing), (64, 0));
}

#[tokio::test]
async fn a_shadow_that_cannot_be_used_keeps_the_plugin_from_loading() {
    let config = shadowed(fixture(&json!({})), "plugins-test/fixture-plugin.toml");
    let Err(error) = Rig::load(&[config]).await else {
        panic!("it loaded")
    };
    let sentence = error.to_string();
    assert!(sentence.contains("has a shadow"), "{sentence}");
    assert!(
        sentence.contains("is not a WebAssembly component"),
        "{sentence}"
    );
}

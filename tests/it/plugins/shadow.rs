//! A second version of a plugin beside the first.

use std::cell::Cell;

use serde_json::json;
use voice_room::{
    config::{HookPolicies, PluginConfig},
    plugin::{Fact, ShadowStatus},
};

use super::rig::{self, LIMIT, Rig, component, fixture, standard};

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

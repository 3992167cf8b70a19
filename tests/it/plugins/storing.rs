//! Keys and published events, as a guest and a restart see them.

use std::time::Duration;

use serde_json::{Value, json};
use voice_room::{
    config::{HookPolicies, PluginConfig},
    plugin::PLUGIN_FAILED,
};

use super::rig::{Rig, fixture};

async fn set(rig: &Rig, room: &str, key: &str, value: &str) {
    rig.data(
        room,
        "fixture:kv-set",
        json!({ "key": key, "value": value }),
    )
    .await;
}

async fn get(rig: &Rig, room: &str, key: &str) -> Value {
    rig.data(room, "fixture:kv-get", json!({ "key": key }))
        .await["value"]
        .clone()
}

#[tokio::test]
async fn what_one_instance_writes_all_read() {
    let rig = Rig::new(&[PluginConfig {
        instances: 4,
        ..fixture(&json!({}))
    }])
    .await;
    set(&rig, "a", "key", "value").await;
    for n in 0..16 {
        assert_eq!(get(&rig, &format!("room-{n}"), "key").await, "value");
    }
    rig.data("a", "fixture:kv-delete", json!({ "key": "key" }))
        .await;
    assert_eq!(get(&rig, "b", "key").await, Value::Null);
}

#[tokio::test]
async fn what_a_trapped_hook_wrote_is_gone() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    set(&rig, "a", "key", "before").await;
    let write = json!({ "key": "key", "value": "after" });
    let refusal = rig
        .command("a", "fixture:kv-set-then-trap", write)
        .await
        .unwrap_err();
    assert_eq!(refusal.code, PLUGIN_FAILED);
    assert_eq!(get(&rig, "a", "key").await, "before");
}

#[tokio::test]
async fn a_written_key_is_durable_when_the_client_is_answered() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    set(&rig, "a", "banned/7", "yes").await;
    // The database as a crash at this moment would leave it.
    let copy = tempfile::tempdir().unwrap();
    let name = "plugins.redb";
    std::fs::copy(rig.dir.path().join(name), copy.path().join(name)).unwrap();
    let after = Rig::load_in(copy, &[fixture(&json!({}))]).await.unwrap();
    assert_eq!(get(&after, "a", "banned/7").await, "yes");
}

#[tokio::test]
async fn keys_outlive_a_restart() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    set(&rig, "a", "p/1", "one").await;
    set(&rig, "a", "p/2", "two").await;
    let rig = rig.restart(&[fixture(&json!({}))]).await;
    assert_eq!(get(&rig, "a", "p/1").await, "one");
    let keys = rig
        .data(
            "a",
            "fixture:kv-list",
            json!({ "prefix": "p/", "limit": 10 }),
        )
        .await;
    assert_eq!(keys, json!({ "keys": ["p/1", "p/2"] }));
}

#[tokio::test]
async fn plugins_do_not_see_each_others_keys() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    set(&rig, "a", "key", "value").await;
    let other = PluginConfig {
        name: "other".to_owned(),
        ..fixture(&json!({}))
    };
    let rig = rig.restart(&[other]).await;
    assert_eq!(get(&rig, "a", "key").await, Value::Null);
}

#[tokio::test]
async fn limits_are_told_to_the_guest() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    let error = async |name: &str, payload: Value| {
        let refusal = rig.command("a", name, payload).await.unwrap_err();
        assert_eq!(refusal.code, "IMPORT_ERROR");
        refusal.message
    };
    let long = "x".repeat(1025);
    assert_eq!(
        error("fixture:kv-set", json!({ "key": "", "value": "" })).await,
        "invalid-key"
    );
    assert_eq!(
        error("fixture:kv-get", json!({ "key": long })).await,
        "invalid-key"
    );
    let large = json!({ "key": "k", "value": "x".repeat((64 << 10) + 1) });
    assert_eq!(error("fixture:kv-set", large).await, "value-too-large");
    let event = |topic: &str, payload: &str| json!({ "topic": topic, "payload": payload });
    assert_eq!(
        error("fixture:publish", event("Not This", "{}")).await,
        "invalid-topic"
    );
    assert_eq!(
        error("fixture:publish", event("a", "{")).await,
        "invalid-payload"
    );
    let large = format!("\"{}\"", "x".repeat(64 << 10));
    assert_eq!(
        error("fixture:publish", event("a", &large)).await,
        "invalid-payload"
    );
}

#[tokio::test]
async fn an_event_is_published_once_with_where_it_comes_from() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    let event = json!({ "topic": "billing.started", "payload": "{\"user\": 7}" });
    rig.data("räum", "fixture:publish", event).await;
    let rig = rig.restart(&[fixture(&json!({}))]).await;
    let [event] = &rig.published().await[..] else {
        panic!("one event")
    };
    assert_eq!(event["plugin"], "fixture");
    assert_eq!(event["room"], "räum");
    assert_eq!(event["topic"], "billing.started");
    assert_eq!(event["payload"], json!({ "user": 7 }));
}

#[tokio::test]
async fn many_who_write_at_once_share_their_waits_for_the_disk() {
    let plugin = PluginConfig {
        hooks: HookPolicies::default().time_budget(Duration::from_secs(5)),
        ..fixture(&json!({}))
    };
    let rig = Rig::new(&[plugin]).await;
    let writes = (0..500).map(|n| {
        let rig = &rig;
        async move { set(rig, "a", &format!("k/{n}"), "v").await }
    });
    let began = std::time::Instant::now();
    futures_util::future::join_all(writes).await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "took {:?}",
        began.elapsed()
    );
    let listed = json!({ "prefix": "k/", "limit": 1000 });
    let keys = rig.data("a", "fixture:kv-list", listed).await["keys"].clone();
    assert_eq!(keys.as_array().unwrap().len(), 500);
}

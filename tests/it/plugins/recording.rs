//! Calls that are recorded.

use serde_json::{Value, json};
use voice_room::{
    config::{HookPolicies, Isolation, PluginConfig},
    plugin::{CallLine, Fact, InstanceLine, Line, Outcome},
};

use super::rig::{Rig, bad, fixture, join, left, produce};

fn recorded(config: PluginConfig) -> PluginConfig {
    PluginConfig {
        record: true,
        ..config
    }
}

fn split(lines: Vec<Line>) -> (Vec<InstanceLine>, Vec<CallLine>) {
    let (mut instances, mut calls) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Instance(line) => instances.push(line),
            Line::Call(line) => calls.push(line),
        }
    }
    (instances, calls)
}

fn hooks(calls: &[CallLine]) -> Vec<&str> {
    calls.iter().map(|call| call.input.hook().name()).collect()
}

#[tokio::test]
async fn a_recording_has_what_went_in_and_what_came_out() {
    let settings = json!({ "hooks": { "before-produce": "deny" } });
    let rig = Rig::new(&[recorded(fixture(&settings))]).await;
    rig.host.before_join(join("a", 7)).await.unwrap();
    rig.host.notify(Fact::Joined(join("a", 7)));
    rig.host.before_produce(produce("a", 7)).await.unwrap_err();
    rig.data("a", "fixture:kv-set", json!({ "key": "k", "value": "v" }))
        .await;
    rig.data("a", "fixture:kv-get", json!({ "key": "k" })).await;
    let action = json!({ "mute": { "user": 7 } });
    rig.data("a", "fixture:do", json!({ "actions": [action] }))
        .await;
    let event = json!({ "topic": "t", "payload": "{\"n\":1}" });
    rig.data("a", "fixture:publish", event).await;

    let (instances, calls) = split(rig.recorded().await);
    let [instance] = &instances[..] else {
        panic!("{instances:?}")
    };
    assert_eq!(instance.plugin, "fixture");
    assert!(instance.component.starts_with("sha256:"));
    assert_eq!(instance.settings, settings);
    assert_eq!(instance.outcome, Outcome::Noted);
    assert!(
        instance
            .imports
            .iter()
            .any(|call| call.function == "settings.get")
    );

    assert_eq!(
        hooks(&calls),
        [
            "before-join",
            "on-join",
            "before-produce",
            "on-command",
            "on-command",
            "on-command",
            "on-command"
        ]
    );
    assert!(calls.iter().all(|call| call.instance == instance.instance));
    assert!(calls.iter().all(|call| !call.undone && !call.truncated));
    let seqs: Vec<_> = calls.iter().map(|call| call.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
    let text: Vec<Value> = calls
        .iter()
        .map(|call| serde_json::to_value(call).unwrap())
        .collect();
    assert_eq!(text[0]["outcome"], json!({ "verdict": "allow" }));
    assert_eq!(text[1]["outcome"], json!("noted"));
    assert_eq!(text[2]["outcome"]["verdict"]["refuse"]["code"], "DENIED");
    assert_eq!(text[2]["input"]["participant"]["user"]["id"], 7);
    assert_eq!(
        text[3]["imports"],
        json!([{ "function": "key-value.set", "arguments": ["k", "v"], "answer": { "ok": null } }])
    );
    assert_eq!(text[4]["imports"][0]["answer"], json!({ "ok": "v" }));
    assert_eq!(text[4]["outcome"], json!({ "reply": { "value": "v" } }));
    assert_eq!(text[5]["actions"], json!([action]));
    assert_eq!(
        text[6]["published"],
        json!([{ "topic": "t", "payload": { "n": 1 } }])
    );
}

#[tokio::test]
async fn a_call_that_fails_is_recorded_and_so_is_the_instance_that_follows() {
    let rig = Rig::new(&[recorded(bad("before-join", "trap"))]).await;
    rig.host.before_join(join("bad", 7)).await.unwrap_err();
    rig.host.before_join(join("good", 7)).await.unwrap();
    let (instances, calls) = split(rig.recorded().await);
    assert_eq!(instances.len(), 2);
    assert_eq!(calls[0].outcome.kind(), "trapped");
    assert_eq!(calls[0].instance, instances[0].instance);
    assert_eq!(calls[1].outcome, Outcome::Allow);
    assert_eq!(calls[1].instance, instances[1].instance);
    assert_ne!(instances[0].random, instances[1].random);
}

#[tokio::test]
async fn a_call_that_runs_for_ever_is_recorded_when_it_is_ended() {
    let config = PluginConfig {
        hooks: HookPolicies::default().time_budget(std::time::Duration::from_millis(10)),
        ..bad("before-join", "loop")
    };
    let rig = Rig::new(&[recorded(config)]).await;
    rig.host.before_join(join("bad", 7)).await.unwrap_err();
    let (_, calls) = split(rig.recorded().await);
    assert_eq!(calls[0].outcome, Outcome::Failed("timed-out".to_owned()));
}

#[tokio::test]
async fn a_call_that_asks_for_much_is_recorded_in_part() {
    let rig = Rig::new(&[recorded(bad("before-join", "flood-kv-reads"))]).await;
    // Whether it is in time for its budget depends on the machine.
    drop(rig.host.before_join(join("bad", 7)).await);
    let (_, calls) = split(rig.recorded().await);
    assert!(calls[0].truncated);
    assert_eq!(calls[0].imports.len(), 1000);
}

#[tokio::test]
async fn a_fresh_instance_for_each_call_is_recorded_as_such() {
    let config = PluginConfig {
        isolation: Isolation::Fresh,
        ..fixture(&json!({}))
    };
    let rig = Rig::new(&[recorded(config)]).await;
    for _ in 0..3 {
        rig.host.before_join(join("a", 7)).await.unwrap();
    }
    let (instances, calls) = split(rig.recorded().await);
    for call in &calls {
        assert!(instances.iter().any(|one| one.instance == call.instance));
    }
    assert_eq!(calls.len(), 3);
    assert_ne!(calls[0].instance, calls[1].instance);
}

#[tokio::test]
async fn nothing_is_recorded_unless_it_is_wanted() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    rig.host.notify(left("a", 7));
    rig.host.shutdown(super::rig::LIMIT).await;
    assert!(!rig.dir.path().join("recordings").exists());
}

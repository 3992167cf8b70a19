//! A plugin without a server.

use serde_json::json;
use voice_room::{
    config::PluginConfig,
    model::{Hook, UnixMs},
    plugin::{Called, Fact, Input, Offline, OfflineOptions, Outcome},
};

use super::rig::{command, compiled, fixture, join, standard};

async fn offline(config: &PluginConfig, options: OfflineOptions) -> Offline {
    let options = OfflineOptions {
        cache_dir: Some(compiled()),
        ..options
    };
    Offline::load(config, options)
        .await
        .unwrap_or_else(|problem| panic!("{}", problem.problem))
}

fn ask(name: &str, payload: &serde_json::Value) -> Input {
    Input::Command(command("a", 7, name, payload))
}

fn replied(called: &Called) -> &serde_json::Value {
    match &called.outcome {
        Outcome::Reply(Some(data)) => data,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_plugin_runs_without_a_server() {
    let mut plugin = offline(&fixture(&json!({})), OfflineOptions::default()).await;
    assert!(plugin.hooks().contains(&Hook::BeforeProduce));
    assert!(plugin.commands().iter().any(|name| name == "fixture:do"));
    assert!(plugin.memory_bytes() >= 64 << 10);

    let allowed = plugin.call(&Input::BeforeJoin(join("a", 7))).await;
    assert_eq!(allowed.outcome, Outcome::Allow);
    assert_eq!(allowed.instructions, None);
    assert!(allowed.imports.is_empty());

    let noted = plugin.call(&Input::Fact(Fact::Joined(join("a", 7)))).await;
    assert_eq!(noted.outcome, Outcome::Noted);

    let action = json!({ "emitToRoom": { "event": "fixture:hello", "payload": { "n": 1 } } });
    let acted = plugin
        .call(&ask("fixture:do", &json!({ "actions": [action] })))
        .await;
    assert_eq!(
        serde_json::to_value(&acted.actions).unwrap(),
        json!([action])
    );

    let refusal = json!({ "code": "NO", "message": "No", "details": { "n": 1 } });
    let refused = plugin.call(&ask("fixture:refuse", &refusal)).await;
    assert_eq!(
        serde_json::to_value(&refused.outcome).unwrap(),
        json!({ "verdict": { "refuse": refusal } })
    );

    let event = json!({ "topic": "fixture.event", "payload": "{\"n\":1}" });
    let published = plugin.call(&ask("fixture:publish", &event)).await.published;
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].topic, "fixture.event");
    assert_eq!(published[0].payload, json!({ "n": 1 }));
}

#[tokio::test]
async fn a_failed_call_is_undone_and_ends_its_instance() {
    let mut plugin = offline(&fixture(&json!({})), OfflineOptions::default()).await;
    let set = |key| json!({ "key": key, "value": "1" });
    plugin.call(&ask("fixture:kv-set", &set("kept"))).await;
    let failed = plugin
        .call(&ask("fixture:kv-set-then-trap", &set("undone")))
        .await;
    assert_eq!(failed.outcome.kind(), "trapped");
    let keys: Vec<_> = plugin.keys().collect();
    assert_eq!(keys, [("kept".to_owned(), b"1".to_vec())]);
    let calls = plugin.call(&ask("fixture:calls", &json!({}))).await;
    assert_eq!(replied(&calls), &json!({ "calls": 1 }));

    plugin.replace_instance().await.unwrap();
    let calls = plugin.call(&ask("fixture:calls", &json!({}))).await;
    assert_eq!(replied(&calls), &json!({ "calls": 1 }));
    assert_eq!(plugin.keys().count(), 1);
}

#[tokio::test]
async fn calls_are_traced_and_counted_and_find_the_keys_that_were_planted() {
    let options = OfflineOptions {
        trace: true,
        count_instructions: true,
        seed: (0..1500)
            .map(|n| (format!("key/{n:04}"), vec![0xff, 0]))
            .collect(),
        ..OfflineOptions::default()
    };
    let mut plugin = offline(&fixture(&json!({})), options).await;
    assert_eq!(plugin.keys().count(), 1500);

    let payload = json!({ "prefix": "key/", "after": "key/1497", "limit": 10 });
    let listed = plugin.call(&ask("fixture:kv-list", &payload)).await;
    assert_eq!(
        serde_json::to_value(&listed.imports).unwrap(),
        json!([{
            "function": "key-value.list",
            "arguments": ["key/", "key/1497", 10],
            "answer": { "ok": ["key/1498", "key/1499"] },
        }])
    );
    let got = plugin
        .call(&ask("fixture:kv-get", &json!({ "key": "key/0001" })))
        .await;
    let answer = &serde_json::to_value(&got.imports).unwrap()[0]["answer"];
    assert_eq!(answer, &json!({ "ok": { "base64": "/wA=" } }));

    let counted = plugin.call(&ask("fixture:calls", &json!({}))).await;
    let again = plugin.call(&ask("fixture:calls", &json!({}))).await;
    assert!(counted.instructions.is_some_and(|number| number > 100));
    assert!(again.instructions.is_some_and(|number| number > 100));
}

#[tokio::test]
async fn timers_are_due_by_a_clock_of_ones_own() {
    let mut plugin = offline(&fixture(&json!({})), OfflineOptions::default()).await;
    let mut set = command(
        "a",
        7,
        "fixture:timer-set",
        &json!({ "key": "k", "afterMs": 50, "everyMs": 100 }),
    );
    set.at = UnixMs(1000);
    plugin.call(&Input::Command(set)).await;
    assert_eq!(plugin.next_due(), Some(UnixMs(1050)));
    assert!(plugin.due_timer(UnixMs(1049)).is_none());

    let input = plugin.due_timer(UnixMs(1060)).unwrap();
    let Input::Fact(Fact::Timer { key, due, at, .. }) = &input else {
        panic!("{input:?}")
    };
    assert_eq!((key.as_str(), *due, *at), ("k", UnixMs(1050), UnixMs(1060)));
    assert_eq!(plugin.call(&input).await.outcome, Outcome::Noted);
    assert_eq!(plugin.next_due(), Some(UnixMs(1150)));
}

#[tokio::test]
async fn an_instance_that_grows_is_replaced_before_a_call_fails_for_it() {
    let config = fixture(&json!({ "hooks": { "before-join": "leak" } }));
    let mut plugin = offline(&config, OfflineOptions::default()).await;
    for call in 0..64 {
        let called = plugin.call(&Input::BeforeJoin(join("a", 7))).await;
        assert_eq!(called.outcome, Outcome::Allow, "call {call}");
    }
    let calls = plugin.call(&ask("fixture:calls", &json!({}))).await;
    let calls = replied(&calls)["calls"].as_u64().unwrap();
    assert!(calls < 16, "{calls} of one instance");
}

#[tokio::test]
async fn at_the_quota_a_timer_that_fires_gives_its_place_to_one_that_its_call_sets() {
    const QUOTA: usize = 2_000;
    let config = PluginConfig {
        max_timers: QUOTA,
        ..fixture(&json!({ "hooks": { "on-timer": "flood-timers" } }))
    };
    let options = OfflineOptions {
        trace: true,
        ..OfflineOptions::default()
    };
    let mut plugin = offline(&config, options).await;
    for n in 0..QUOTA / 1000 {
        let key = format!("t-{n}");
        let timers = json!({ "key": key, "afterMs": 10, "number": 1000 });
        let set = plugin.call(&ask("fixture:timer-set", &timers)).await;
        assert_eq!(set.outcome.kind(), "reply");
    }
    let one_more = json!({ "key": "more", "afterMs": 10 });
    let refused = plugin.call(&ask("fixture:timer-set", &one_more)).await;
    assert_eq!(refused.outcome.kind(), "refuse");
    let due = plugin.next_due().unwrap();
    let input = plugin.due_timer(due).unwrap();
    let imports = plugin.call(&input).await.imports;
    let answers: Vec<_> = imports[..2].iter().map(|call| &call.answer).collect();
    assert_eq!(answers[0], &json!({ "ok": null }), "the place of its own");
    assert!(answers[1]["error"].is_object(), "no other: {}", answers[1]);
}

#[tokio::test]
async fn instructions_can_be_limited() {
    let options = OfflineOptions {
        count_instructions: true,
        instruction_limit: Some(5_000_000),
        ..OfflineOptions::default()
    };
    let settings = json!({ "hooks": { "before-join": "loop" } });
    let config = PluginConfig {
        hooks: voice_room::config::HookPolicies::default()
            .time_budget(std::time::Duration::from_secs(60)),
        ..fixture(&settings)
    };
    let mut plugin = offline(&config, options).await;
    let called = plugin.call(&Input::BeforeJoin(join("a", 7))).await;
    assert_eq!(called.outcome, Outcome::Failed("timed-out".to_owned()));
    assert_eq!(called.instructions, Some(5_000_000));
}

#[tokio::test]
async fn the_standard_plugins_run_offline() {
    for name in ["moderation", "seats", "billing"] {
        let options = OfflineOptions::default();
        let mut plugin = offline(&standard(name, json!({})), options).await;
        let joined = Input::Fact(Fact::Joined(join("a", 7)));
        if plugin.hooks().contains(&Hook::OnJoin) {
            assert_eq!(plugin.call(&joined).await.outcome, Outcome::Noted, "{name}");
        }
    }
}

#[tokio::test]
async fn a_plugin_that_does_not_start_is_a_problem_with_a_sentence() {
    let settings = json!({ "hooks": { "init": "deny" } });
    let options = OfflineOptions {
        cache_dir: Some(compiled()),
        ..OfflineOptions::default()
    };
    let Err(problem) = Offline::load(&fixture(&settings), options).await else {
        panic!("it started")
    };
    assert!(
        problem.problem.contains("Denied by the fixture"),
        "{}",
        problem.problem
    );
}

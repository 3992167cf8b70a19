//! The fixture guest as it was built against version 0.2 of the contract.

use serde_json::{Value, json};
use voice_room::{
    config::PluginConfig,
    model::{Hook, UserId},
    plugin::{Action, Fact, Pin},
};

use super::{
    hooks::{self, CALLED},
    rig::{self, Rig, component, fixture},
    watch::eventually,
};

/// Hooks that 0.2 does not have.
const LATER: [Hook; 2] = [Hook::OnProducerPaused, Hook::OnProducerResumed];

/// The guest, with the manifest that it had.
async fn rig(settings: Value) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let present = fixture(&settings);
    let mut text = std::fs::read_to_string(&present.manifest).unwrap();
    for hook in LATER {
        let line = format!("  \"{hook}\",\n");
        assert!(text.contains(&line), "{text}");
        text = text.replace(&line, "");
    }
    let manifest = dir.path().join("fixture.toml");
    std::fs::write(&manifest, text).unwrap();
    let path = component("plugins-test/fixture-0.2.wasm");
    Rig::new(&[PluginConfig {
        path,
        manifest,
        ..present
    }])
    .await
}

#[tokio::test]
async fn it_is_called_at_every_hook_that_it_knows() {
    let rig = rig(json!({})).await;
    for hook in CALLED {
        hooks::call(&rig, hook, "a").await;
    }
    // The timer comes when it comes.
    let told: Vec<String> = rig.history("a").await;
    for hook in CALLED.iter().filter(|hook| hook.informs()) {
        let times = told.iter().filter(|entry| entry.starts_with(hook.name()));
        let expected = if LATER.contains(hook) { 0 } else { 1 };
        let is_timer = *hook == Hook::OnTimer;
        assert!(is_timer || times.count() == expected, "{hook}: {told:?}");
    }
    assert!(told.iter().any(|entry| entry == "on-room-closed empty"));
    assert_eq!(rig.host.status()[0].contract, "0.2.0");
}

#[tokio::test]
async fn its_decisions_and_actions_are_carried_out() {
    let rig = rig(json!({
        "hooks": { "before-produce": "amend-attach", "before-join": "deny" }, "when": "bad",
    }))
    .await;
    let refusal = rig.host.before_join(rig::join("bad", 1)).await.unwrap_err();
    assert_eq!(
        (&*refusal.code, refusal.details),
        ("DENIED", Some(json!({ "hook": "before-join" })))
    );
    let amendments = rig.host.before_produce(rig::produce("bad", 1)).await;
    assert_eq!(
        amendments.unwrap().attached.get("fixture"),
        Some(&json!({ "by": "fixture" }))
    );
    let actions = json!([
        { "pinSpeaker": { "userId": 7, "pin": "out" } },
        { "kick": { "userId": 8, "reason": "enough" } },
    ]);
    rig.data("a", "fixture:do", json!({ "actions": actions }))
        .await;
    assert_eq!(
        rig.take_actions(),
        [
            Action::PinSpeaker {
                user: UserId(7),
                pin: Pin::Out
            },
            Action::Kick {
                user: UserId(8),
                reason: "enough".to_owned()
            },
        ]
    );
}

#[tokio::test]
async fn its_imports_do_what_they_did() {
    let rig = rig(json!({})).await;
    let set = json!({ "key": "k", "value": "1", "ttlMs": 60_000 });
    rig.data("a", "fixture:kv-set-expiring", set).await;
    let swap = json!({ "key": "k", "expected": "1", "value": "5" });
    assert_eq!(
        rig.data("a", "fixture:kv-cas", swap).await,
        json!({ "done": true })
    );
    let sum = rig.data("a", "fixture:kv-increment", json!({ "key": "k", "by": 2 }));
    assert_eq!(sum.await, json!({ "sum": 7 }));
    let timer = json!({ "key": "t", "afterMs": 60_000 });
    rig.data("a", "fixture:timer-set", timer).await;
    rig.data("a", "fixture:timer-cancel", json!({ "key": "t" }))
        .await;
    let event = json!({ "topic": "fixture.said", "payload": "{\"n\":1}" });
    rig.data("a", "fixture:publish", event).await;
    let wrong = json!({ "topic": "No Topic", "payload": "1" });
    let refusal = rig.command("a", "fixture:publish", wrong).await;
    assert_eq!(refusal.unwrap_err().message, "invalid-topic");
    let published = rig.published().await;
    assert_eq!(published[0]["payload"], json!({ "n": 1 }));
}

#[tokio::test]
async fn a_fact_that_fails_is_told_again_to_it() {
    let rig = rig(json!({ "hooks": { "on-first-rtp": "unwell" } })).await;
    hooks::call(&rig, Hook::OnFirstRtp, "a").await;
    let well = json!({ "key": "well", "value": "" });
    rig.data("b", "fixture:kv-set", well).await;
    rig.host.notify(Fact::Joined(rig::join("a", 9)));
    // What a question is answered does not wait for facts that are told again.
    eventually("both are told", async || rig.history("a").await.len() == 2).await;
    let told = rig.history("a").await;
    assert!(told[0].starts_with("on-first-rtp 1 "), "{told:?}");
    assert_eq!(told[1], "on-join 9");
}

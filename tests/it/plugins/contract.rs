//! What stands for the answer of a hook that fails, and what becomes of facts that a plugin
//! does not take.

use std::time::{Duration, Instant};

use serde_json::json;
use voice_room::{
    config::{BreakerConfig, HookPolicies, OnFailure, PluginConfig},
    model::{Hook, Refusal},
    plugin::{Fact, PLUGIN_FAILED},
};

use super::{
    hooks,
    rig::{self, LIMIT, Rig, fixture},
    watch::{calls, eventually},
};

/// A budget that no busy machine uses up.
const AMPLE: Duration = Duration::from_secs(10);

/// The fixture under a name of its own, whose `hook` behaves so in rooms that begin with
/// `bad`, which publishes what it is told, and which no circuit breaker leaves alone.
fn ill(name: &str, hook: &str, behaviour: &str) -> PluginConfig {
    PluginConfig {
        name: name.to_owned(),
        hooks: HookPolicies::default().time_budget(AMPLE),
        breaker: BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        },
        ..fixture(&json!({ "hooks": { hook: behaviour }, "when": "bad", "publish": true }))
    }
}

#[tokio::test]
async fn a_decision_that_fails_is_answered_by_the_contract_of_its_hook() {
    let deciding = [Hook::BeforeJoin, Hook::BeforeProduce, Hook::BeforeConsume];
    for allowed in deciding {
        let hooks =
            json!({ "before-join": "trap", "before-produce": "trap", "before-consume": "trap" });
        let mut plugin = fixture(&json!({ "hooks": hooks }));
        plugin.hooks = plugin.hooks.on_failure(allowed, OnFailure::Allow);
        let rig = Rig::new(&[plugin]).await;
        let verdicts = [
            rig.host.before_join(rig::join("a", 1)).await,
            rig.host
                .before_produce(rig::produce("a", 1))
                .await
                .map(drop),
            rig.host.before_consume(hooks::consume("a")).await,
        ];
        for (hook, verdict) in deciding.into_iter().zip(verdicts) {
            if hook == allowed {
                assert_eq!(verdict, Ok(()), "{hook}");
            } else {
                assert_stands_for_the_plugin(&verdict.unwrap_err());
            }
        }
    }
}

fn assert_stands_for_the_plugin(refusal: &Refusal) {
    assert_eq!(refusal.code, PLUGIN_FAILED);
    assert_eq!(refusal.plugin.as_deref(), Some("fixture"));
    assert!(refusal.message.contains("fixture"), "{}", refusal.message);
    assert!(refusal.decision.is_some(), "it can be found in the log");
}

#[tokio::test]
async fn a_fact_is_told_again_until_it_is_taken_and_its_rooms_later_facts_wait_for_it() {
    let plugin = PluginConfig {
        retry_limit: u32::MAX,
        ..ill("again", "on-leave", "unwell")
    };
    let rig = Rig::new(&[plugin]).await;
    rig.host.notify(rig::left("bad", 1));
    rig.host.notify(Fact::Joined(rig::join("bad", 2)));
    rig.host.notify(rig::left("bad", 3));
    rig.host.notify(rig::left("good", 4));
    eventually("three calls have trapped", async || {
        calls("again", "on-leave", "trapped") >= 3
    })
    .await;
    rig.host.notify(Fact::Joined(rig::join("bad", 5)));
    rig.host.notify(rig::left("good", 6));
    eventually("the other room goes on", async || {
        rig.told_of("good").await == ["on-leave 4 left", "on-leave 6 left"]
    })
    .await;
    assert!(rig.told_of("bad").await.is_empty());
    assert_eq!(
        rig.key("good", "called/on-leave").await,
        json!(null),
        "what a call that trapped has written is gone"
    );

    rig.heal("good").await;
    let expected = [
        "on-leave 1 left",
        "on-join 2",
        "on-leave 3 left",
        "on-join 5",
    ];
    eventually("the room has caught up", async || {
        rig.told_of("bad").await == expected
    })
    .await;
    assert_eq!(rig.key("good", "called/on-leave").await, "2");
    assert_eq!(calls("again", "on-leave", "done"), 4, "each fact once");
    rig.host.shutdown(LIMIT).await;
    assert_eq!(rig.told_of("bad").await, expected);
    assert!(rig.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_fact_that_is_never_taken_is_a_dead_letter_and_its_room_goes_on() {
    let plugin = PluginConfig {
        retry_limit: 3,
        ..ill("never", "on-leave", "trap")
    };
    let rig = Rig::new(&[plugin]).await;
    let fact = rig::left("bad", 1);
    rig.host.notify(fact.clone());
    rig.host.notify(Fact::Joined(rig::join("bad", 2)));
    eventually("the room goes on", async || {
        rig.told_of("bad").await == ["on-join 2"]
    })
    .await;
    let [letter] = &rig.dead_letters().await[..] else {
        panic!("one letter")
    };
    assert_eq!(letter["plugin"], "never");
    assert_eq!(letter["hook"], "on-leave");
    assert_eq!(letter["room"], "bad");
    assert_eq!(letter["tries"], 3);
    let failure = letter["failure"].as_str().unwrap();
    assert!(failure.contains("trapped"), "{failure}");
    assert!(letter["at"].as_u64().is_some());
    let call: Fact = serde_json::from_value(letter["call"].clone()).unwrap();
    assert_eq!(call, fact, "all of it, to be told by hand");
    assert_eq!(calls("never", "on-leave", "trapped"), 3);
}

#[tokio::test]
async fn a_fact_whose_policy_is_to_drop_it_is_told_once() {
    let rig = Rig::new(&[ill("once", "on-join", "trap")]).await;
    rig.host.notify(Fact::Joined(rig::join("bad", 1)));
    rig.host.notify(rig::left("bad", 2));
    eventually("the room goes on", async || {
        rig.told_of("bad").await == ["on-leave 2 left"]
    })
    .await;
    assert_eq!(calls("once", "on-join", "trapped"), 1);
    assert!(rig.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_stop_during_retries_writes_down_what_waits() {
    let plugin = PluginConfig {
        retry_limit: u32::MAX,
        ..ill("stopped", "on-leave", "trap")
    };
    let rig = Rig::new(&[plugin]).await;
    for user in 1..=3 {
        rig.host.notify(rig::left("bad", user));
    }
    eventually("it is tried", async || {
        calls("stopped", "on-leave", "trapped") >= 2
    })
    .await;
    rig.host.shutdown(Duration::from_millis(200)).await;
    let letters = rig.dead_letters().await;
    let users: Vec<_> = letters
        .iter()
        .map(|letter| letter["call"]["input"]["participant"]["user"]["id"].clone())
        .collect();
    assert_eq!(users, [1, 2, 3]);
    assert!(letters[0]["tries"].as_u64().unwrap() >= 2);
    assert_eq!(letters[2]["tries"], 0);
    for letter in &letters {
        assert_eq!(letter["failure"], "the server stops");
    }
}

#[tokio::test]
async fn a_stop_during_a_call_writes_its_fact_down_and_the_call_has_not_happened() {
    let rig = Rig::new(&[ill("halted", "on-leave", "loop")]).await;
    rig.host.notify(rig::left("bad", 1));
    eventually("it is being told", async || rig.status().queued == 0).await;
    rig.host.shutdown(Duration::from_millis(50)).await;
    let letters = rig.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["failure"], "the server stops");
    rig.host.notify(rig::left("bad", 2));
    assert_eq!(rig.dead_letters().await.len(), 2, "also what comes later");
    assert!(rig.told().await.is_empty());
}

#[tokio::test]
async fn facts_that_find_no_place_are_dead_letters_where_they_matter() {
    let rig = Rig::new(&[ill("full", "on-leave", "allow")]).await;
    // Nothing is awaited in between, so nothing is taken from the queue.
    for user in 0..4096 + 10 {
        rig.host.notify(rig::left("a", user));
    }
    rig.host.notify(Fact::Joined(rig::join("a", 1)));
    rig.host.shutdown(LIMIT).await;
    assert_eq!(rig.told_of("a").await.len(), 4096);
    let letters = rig.dead_letters().await;
    assert_eq!(letters.len(), 10);
    for letter in letters {
        assert_eq!(letter["failure"], "its queue is full");
        assert_eq!(letter["tries"], 0);
    }
}

#[tokio::test]
async fn each_hook_has_its_own_time_budget() {
    let (short, long) = (Duration::from_millis(10), Duration::from_secs(2));
    let hooks = json!({ "before-join": "loop", "before-produce": "loop" });
    let plugin = PluginConfig {
        hooks: HookPolicies::default()
            .time_budget_of(Hook::BeforeJoin, short)
            .time_budget_of(Hook::BeforeProduce, long),
        ..fixture(&json!({ "hooks": hooks }))
    };
    let rig = Rig::new(&[plugin]).await;
    let began = Instant::now();
    assert!(rig.host.before_join(rig::join("a", 1)).await.is_err());
    let took = began.elapsed();
    assert!(short <= took && took < long, "took {took:?}");
    let began = Instant::now();
    assert!(rig.host.before_produce(rig::produce("a", 1)).await.is_err());
    assert!(began.elapsed() >= long, "took {:?}", began.elapsed());
}

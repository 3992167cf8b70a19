//! Recorded calls through the same component, and through others.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use voice_room::{
    config::{HookPolicies, PluginConfig},
    model::{FactId, FirstPacket, Hook, MediaCount, UnixMs, User},
    plugin::{Fact, Part, ReplayError, ReplayOptions, ReplayReport, replay},
};

use super::rig::{self, LIMIT, Rig, bad, compiled, component, fixture, standard};

fn recorded(config: PluginConfig) -> PluginConfig {
    PluginConfig {
        record: true,
        ..config
    }
}

fn options() -> ReplayOptions {
    ReplayOptions {
        cache_dir: Some(compiled()),
        instruction_limit: 20_000_000,
        ..ReplayOptions::default()
    }
}

/// The text of all that was recorded.
async fn text(rig: &Rig) -> String {
    rig.host.shutdown(LIMIT).await;
    std::fs::read_to_string(rig.dir.path().join("recordings/calls.jsonl")).unwrap()
}

async fn replayed(text: &str, config: &PluginConfig) -> ReplayReport {
    replay(text.as_bytes(), config, &options())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// As it should be through the same component.
async fn assert_same(text: &str, config: &PluginConfig) -> ReplayReport {
    let report = replayed(text, config).await;
    assert_eq!(report.differing, 0, "{report}");
    assert!(report.calls > 0);
    let again = replayed(text, config).await;
    let json = |report| serde_json::to_string(report).unwrap();
    assert_eq!(json(&report), json(&again));
    report
}

async fn command(rig: &Rig, room: &str, user: u64, name: &str, mut payload: Value) {
    payload["roomId"] = json!(room);
    let mut call = rig::command(room, user, name, &payload);
    let user = User {
        roles: vec!["moderator".to_owned()],
        ..User::clone(&call.participant.user)
    };
    call.participant.user = Arc::new(user);
    // A refusal is as good.
    drop(rig.host.command(call).await);
}

#[tokio::test]
async fn the_standard_plugins_do_the_same_again() {
    let configs = ["moderation", "seats", "billing"].map(|name| PluginConfig {
        instances: 3,
        ..recorded(standard(name, json!({})))
    });
    let rig = Rig::new(&configs).await;
    for user in 1..=6 {
        let room = if user % 2 == 0 { "a" } else { "b" };
        let join = rig::join(room, user);
        drop(rig.host.before_join(join.clone()).await);
        rig.host.notify(Fact::Joined(join.clone()));
        rig.host.describe_room(join.clone()).await;
        command(&rig, room, user, "seat:take", json!({ "seatIndex": user })).await;
        drop(rig.host.before_produce(rig::produce(room, user)).await);
        let (participant, producer) = (join.participant, rig::producer());
        rig.host.notify(Fact::FirstRtp {
            room: rig::room(room),
            participant: participant.clone(),
            producer: producer.clone(),
            packet: FirstPacket::default(),
            fact: FactId::random(),
            at: UnixMs::now(),
        });
        rig.host.notify(Fact::ProducerClosed {
            room: rig::room(room),
            participant,
            producer,
            reason: "closed".to_owned(),
            first_rtp_at: Some(UnixMs::now()),
            media: MediaCount::default(),
            fact: FactId::random(),
            at: UnixMs::now(),
        });
    }
    command(&rig, "a", 1, "seat:lock", json!({ "seatIndex": 3 })).await;
    command(&rig, "a", 1, "moderation:ban", json!({ "userId": 2 })).await;
    drop(rig.host.before_join(rig::join("a", 2)).await);
    for user in 1..=6 {
        rig.host.notify(rig::left("a", user));
    }
    let text = text(&rig).await;
    for config in &configs {
        let report = assert_same(&text, config).await;
        assert_eq!(report.plugin, config.name);
        assert_eq!(report.recorded.len(), 1);
        assert_eq!(report.recorded[0], report.component);
        assert!(report.gaps.of_others > 0);
        assert_eq!(report.gaps.missing, 0);
    }
}

/// What the fixture can do with keys, timers and events, begun with keys of an earlier run.
async fn busy(config: &PluginConfig) -> String {
    let unrecorded = PluginConfig {
        record: false,
        ..config.clone()
    };
    let rig = Rig::new(std::slice::from_ref(&unrecorded)).await;
    let set = |key: &str, value: &str| json!({ "key": key, "value": value });
    for (key, value) in [("before/1", "one"), ("before/2", "two"), ("count", "41")] {
        rig.data("a", "fixture:kv-set", set(key, value)).await;
    }
    let rig = rig.restart(std::slice::from_ref(config)).await;
    let calls = [
        (
            "fixture:kv-list",
            json!({ "prefix": "before/", "limit": 10 }),
        ),
        ("fixture:kv-get", json!({ "key": "before/2" })),
        ("fixture:kv-increment", json!({ "key": "count", "by": 1 })),
        ("fixture:kv-increment", json!({ "key": "new", "by": -3 })),
        ("fixture:kv-set", set("x", "1")),
        (
            "fixture:kv-cas",
            json!({ "key": "x", "expected": "1", "value": "2" }),
        ),
        (
            "fixture:kv-cas",
            json!({ "key": "x", "expected": "1", "value": "3" }),
        ),
        (
            "fixture:kv-cas",
            json!({ "key": "before/1", "expected": "one" }),
        ),
        ("fixture:kv-delete", json!({ "key": "before/2" })),
        ("fixture:kv-list", json!({ "prefix": "", "limit": 100 })),
        (
            "fixture:publish",
            json!({ "topic": "fixture.t", "payload": "{\"n\":1}" }),
        ),
        (
            "fixture:do",
            json!({ "actions": [{ "mute": { "user": 7 } }] }),
        ),
        (
            "fixture:refuse",
            json!({ "code": "NO", "message": "No", "details": { "a": [1] } }),
        ),
        (
            "fixture:echo",
            json!({ "some": { "payload": [1, 2.5, "x", null] } }),
        ),
        (
            "fixture:kv-set-expiring",
            json!({ "key": "soon", "value": "1", "ttlMs": 1 }),
        ),
        ("fixture:timer-set", json!({ "key": "soon", "afterMs": 1 })),
        (
            "fixture:timer-set",
            json!({ "key": "never", "afterMs": 3_600_000 }),
        ),
        ("fixture:timer-cancel", json!({ "key": "never" })),
        ("fixture:calls", json!({})),
    ];
    for (name, payload) in calls {
        for room in ["a", "b"] {
            drop(rig.command(room, name, payload.clone()).await);
        }
    }
    let told = async {
        for room in ["a", "b"] {
            while !rig
                .history(room)
                .await
                .iter()
                .any(|one| one.starts_with("on-timer"))
            {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(LIMIT, told)
        .await
        .expect("the timers' calls");
    rig.data("a", "fixture:kv-get", json!({ "key": "soon" }))
        .await;
    text(&rig).await
}

#[tokio::test]
async fn keys_timers_and_events_are_the_same_again() {
    let config = recorded(fixture(&json!({})));
    let report = assert_same(&busy(&config).await, &config).await;
    assert!(report.hooks[&Hook::OnTimer].calls >= 2);
    assert_eq!(report.gaps.unexplained_keys, 0);
    assert!(report.untried.contains(&Hook::BeforeJoin));
}

#[tokio::test]
async fn instances_that_share_their_keys_are_the_same_again() {
    let config = PluginConfig {
        instances: 4,
        ..recorded(fixture(&json!({})))
    };
    assert_same(&busy(&config).await, &config).await;
}

/// Instances that work at the same time get into each other's way: calls are undone and made
/// again, and the lines are not always in the order in which the keys were changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_instances_did_to_each_other_is_the_same_again() {
    let config = PluginConfig {
        instances: 4,
        ..recorded(fixture(&json!({})))
    };
    let rig = Rig::new(std::slice::from_ref(&config)).await;
    let rooms: Vec<String> = (0..8).map(|room| format!("room-{room}")).collect();
    let work = rooms.iter().map(|room| async {
        for n in 0..40 {
            let payload = json!({ "key": "shared", "by": n });
            drop(rig.command(room, "fixture:kv-increment", payload).await);
            let payload = json!({ "key": "shared", "expected": "7", "value": "8" });
            drop(rig.command(room, "fixture:kv-cas", payload).await);
            let payload = json!({ "key": "shared" });
            drop(rig.command(room, "fixture:kv-get", payload).await);
        }
    });
    futures_util::future::join_all(work).await;
    assert_same(&text(&rig).await, &config).await;
}

#[tokio::test]
async fn an_instance_of_its_own_for_each_call_is_the_same_again() {
    let config = PluginConfig {
        isolation: voice_room::config::Isolation::Fresh,
        ..recorded(fixture(&json!({})))
    };
    let rig = Rig::new(std::slice::from_ref(&config)).await;
    for n in 0..20 {
        let payload = json!({ "key": "count", "by": n });
        rig.data("a", "fixture:kv-increment", payload).await;
        rig.data("a", "fixture:calls", json!({})).await;
    }
    assert_same(&text(&rig).await, &config).await;
}

#[tokio::test]
async fn calls_that_failed_fail_again_and_do_nothing() {
    for behaviour in [
        "trap",
        "panic",
        "loop",
        "stack-overflow",
        "exhaust-memory",
        "flood-kv",
    ] {
        let budget = if behaviour == "loop" { 20 } else { 10_000 };
        let config = PluginConfig {
            hooks: HookPolicies::default().time_budget(Duration::from_millis(budget)),
            ..recorded(bad("before-join", behaviour))
        };
        let rig = Rig::new(std::slice::from_ref(&config)).await;
        drop(rig.host.before_join(rig::join("bad", 7)).await);
        rig.host.before_join(rig::join("good", 7)).await.unwrap();
        let text = text(&rig).await;
        let report = replayed(&text, &config).await;
        assert_eq!(report.hooks[&Hook::BeforeJoin].calls, 2, "{behaviour}");
        // How far a flood of writes comes in its time is another matter.
        if behaviour != "flood-kv" {
            assert_eq!((report.gaps.failed, report.differing), (1, 0), "{report}");
        }
    }
}

#[tokio::test]
async fn an_instance_that_grows_is_replaced_before_a_call_fails_for_it() {
    let settings = json!({ "hooks": { "before-join": "leak" } });
    let roomy = recorded(PluginConfig {
        memory_limit: 64 << 20,
        ..fixture(&settings)
    });
    let rig = Rig::new(std::slice::from_ref(&roomy)).await;
    for _ in 0..32 {
        rig.host.before_join(rig::join("a", 7)).await.unwrap();
    }
    let text = text(&rig).await;
    let narrow = PluginConfig {
        memory_limit: 16 << 20,
        ..roomy
    };
    let report = assert_same(&text, &narrow).await;
    assert_eq!(report.hooks[&Hook::BeforeJoin].calls, 32);
}

#[tokio::test]
async fn an_instance_that_failed_is_made_again_only_where_it_is_called_again() {
    let settings = json!({ "hooks": { "init": "unwell", "before-join": "trap" }, "when": "bad" });
    let well = fixture(&json!({}));
    let config = PluginConfig {
        settings,
        ..recorded(well.clone())
    };
    let rig = Rig::new(&[well]).await;
    rig.heal("a").await;
    let rig = rig.restart(std::slice::from_ref(&config)).await;
    rig.host.before_join(rig::join("bad", 7)).await.unwrap_err();
    let starts = rig.data("a", "fixture:kv-get", json!({ "key": "called/init" }));
    assert_eq!(starts.await, json!({ "value": "2" }));
    assert_same(&text(&rig).await, &config).await;
}

#[tokio::test]
async fn what_comes_out_otherwise_is_shown_with_both_sides() {
    let settings = json!({ "hooks": { "before-produce": "deny" } });
    let config = recorded(fixture(&settings));
    let rig = Rig::new(std::slice::from_ref(&config)).await;
    rig.host
        .before_produce(rig::produce("a", 7))
        .await
        .unwrap_err();
    let event = json!({ "topic": "fixture.t", "payload": "{\"n\":1}" });
    rig.data("a", "fixture:publish", event).await;
    let action = json!({ "mute": { "user": 7 } });
    rig.data("a", "fixture:do", json!({ "actions": [action] }))
        .await;
    let text = text(&rig).await;
    assert_same(&text, &config).await;

    // As if another version had been recorded.
    let other = text
        .replace("DENIED", "DECLINED")
        .replace(
            r#""published":[{"topic":"fixture.t","payload":{"n":1}"#,
            r#""published":[{"topic":"fixture.t","payload":{"n":2}"#,
        )
        .replace(
            r#""actions":[{"mute":{"user":7}}],"micros""#,
            r#""actions":[{"unmute":{"user":7}}],"micros""#,
        );
    let report = replayed(&other, &config).await;
    let parts: Vec<_> = report
        .differences
        .iter()
        .map(|one| one.parts.clone())
        .collect();
    assert_eq!(
        parts,
        [[Part::Verdict], [Part::Published], [Part::Actions]],
        "{report}"
    );
    let shown = report.to_string();
    assert!(
        shown.contains("before-produce in \"a\": verdict"),
        "{shown}"
    );
    assert!(
        shown.contains("DECLINED") && shown.contains("DENIED"),
        "{shown}"
    );
    assert!(shown.ends_with("3 calls differ.\n"), "{shown}");

    let through_another = PluginConfig::new("fixture", component("plugins/moderation.wasm"));
    let report = replayed(&text, &through_another).await;
    // It does not know these settings, and decides on nothing.
    assert_eq!(report.not_started, 1);
    let parts: Vec<_> = report
        .differences
        .iter()
        .map(|one| (one.hook, &one.parts[0]))
        .collect();
    assert_eq!(parts[0], (Hook::Init, &Part::Failure));
    assert_eq!(parts[1], (Hook::BeforeProduce, &Part::Verdict));
    assert_ne!(report.recorded[0], report.component);
}

#[tokio::test]
async fn a_recording_with_gaps_is_replayed_as_far_as_it_goes_and_the_gaps_are_named() {
    let config = recorded(fixture(&json!({})));
    let rig = Rig::new(std::slice::from_ref(&config)).await;
    for value in 1..=5 {
        let payload = json!({ "key": "k", "value": value.to_string() });
        rig.data("a", "fixture:kv-set", payload).await;
        rig.data("a", "fixture:kv-get", json!({ "key": "k" })).await;
    }
    let text = text(&rig).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 11);

    // Without the second writing, and with a torn last line.
    let torn = lines[10].get(..lines[10].len() / 2).unwrap();
    let mut kept = lines.clone();
    kept[10] = torn;
    kept.remove(3);
    let report = assert_same(&kept.join("\n"), &config).await;
    let gaps = report.gaps;
    assert_eq!((report.calls, gaps.damaged_lines, gaps.missing), (8, 1, 1));
    assert_eq!(gaps.unexplained_keys, 1);

    // Without the instance's beginning.
    let report = replay(lines[1..].join("\n").as_bytes(), &config, &options()).await;
    assert!(matches!(report, Err(ReplayError::Empty)), "{report:?}");

    let nothing = replay(&b"nonsense\n"[..], &config, &options()).await;
    assert!(matches!(nothing, Err(ReplayError::Empty)));
}

#[tokio::test]
async fn of_several_plugins_one_has_to_be_named() {
    let configs = ["moderation", "seats"].map(|name| recorded(standard(name, json!({}))));
    let rig = Rig::new(&configs).await;
    rig.host.notify(Fact::Joined(rig::join("a", 7)));
    let text = text(&rig).await;
    let other = PluginConfig::new("other", component("plugins/seats.wasm"));
    let refused = replay(text.as_bytes(), &other, &options())
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("but of `moderation`, `seats`"),
        "{refused}"
    );
}

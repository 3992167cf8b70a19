//! Swaps of a plugin's version while calls go on.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use voice_room::{
    config::{BreakerConfig, HookPolicies, PluginConfig},
    model::Hook,
    plugin::{BreakerState, Fact, SwapError},
};

use super::{
    rig::{self, LIMIT, Rig, fixture, standard},
    watch::{calls, eventually},
};

/// A version of the fixture, told apart by its settings.
fn version(number: u64) -> PluginConfig {
    PluginConfig {
        hooks: HookPolicies::default()
            .time_budget(Duration::from_secs(10))
            .time_budget_of(Hook::BeforeProduce, Duration::from_millis(300)),
        ..fixture(&json!({ "number": number, "publish": true }))
    }
}

/// A version in which hooks behave so.
fn behaving(number: u64, hooks: &Value) -> PluginConfig {
    let settings = json!({ "number": number, "publish": true, "hooks": hooks });
    PluginConfig {
        settings,
        ..version(number)
    }
}

/// The first version, whose `before-produce` keeps the lane busy for long enough to have
/// others wait, also on a busy machine.
fn busy() -> PluginConfig {
    let looping = behaving(1, &json!({ "before-produce": "loop" }));
    let hooks = looping.hooks.clone();
    PluginConfig {
        hooks: hooks.time_budget_of(Hook::BeforeProduce, Duration::from_millis(1500)),
        ..looping
    }
}

/// Another component in the fixture's place.
fn other(component: &str) -> PluginConfig {
    PluginConfig {
        name: "fixture".to_owned(),
        ..standard(component, json!({}))
    }
}

async fn number(rig: &Rig, room: &str) -> Value {
    rig.data(room, "fixture:settings", json!({})).await["number"].clone()
}

#[tokio::test]
async fn a_call_in_flight_ends_on_the_old_version_and_those_that_wait_on_the_new() {
    let before = busy();
    let rig = Rig::new(&[before]).await;
    let (rig, runaway) = (&rig, rig.host.before_produce(rig::produce("a", 1)));
    let swapped = async {
        let mut waiting = Box::pin(number(rig, "a"));
        tokio::select! {
            _ = &mut waiting => panic!("the lane is busy"),
            () = eventually("it waits", async || rig.status().queued == 1) => {}
        }
        rig.host.notify(Fact::Joined(rig::join("a", 7)));
        rig.host.reconfigure(&version(2)).await.unwrap();
        waiting.await
    };
    let (verdict, waiting) = tokio::join!(runaway, swapped);
    assert!(verdict.is_err(), "it was cut off by its budget");
    assert_eq!(waiting, 2);
    assert_eq!(rig.history("a").await, ["on-join 7"], "on the new instance");
    let verdict = rig.host.before_produce(rig::produce("a", 1)).await;
    assert_eq!(verdict.map(drop), Ok(()));
    let status = rig.status();
    assert_eq!((status.swaps, status.rollbacks), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_keep_their_order_and_none_is_lost_over_many_swaps() {
    const FACTS: u64 = 400;
    let four = |number| PluginConfig {
        instances: 4,
        ..version(number)
    };
    let rig = Rig::new(&[four(0)]).await;
    let told = async {
        for user in 0..FACTS {
            for room in ["a", "b", "c"] {
                rig.host.notify(rig::left(room, user));
            }
            tokio::task::yield_now().await;
        }
    };
    let swapped = async {
        for n in 1..=30 {
            rig.host.reconfigure(&four(n)).await.unwrap();
            assert_eq!(number(&rig, "a").await, n);
        }
    };
    tokio::join!(told, swapped);
    rig.host.shutdown(LIMIT).await;
    let expected: Vec<String> = (0..FACTS)
        .map(|user| format!("on-leave {user} left"))
        .collect();
    for room in ["a", "b", "c"] {
        assert_eq!(rig.told_of(room).await, expected, "room {room}");
    }
    assert!(rig.dead_letters().await.is_empty());
}

#[tokio::test]
async fn commands_come_and_go_with_versions() {
    let rig = Rig::new(&[version(1), standard("seats", json!({}))]).await;
    assert!(rig.host.has_command("fixture:run"));
    let one = PluginConfig {
        settings: json!({ "commands": ["fixture:settings"] }),
        ..version(2)
    };
    rig.host.reconfigure(&one).await.unwrap();
    assert!(!rig.host.has_command("fixture:run"));
    assert!(rig.host.has_command("fixture:settings"));
    assert!(rig.host.has_command("seat:take"), "others keep theirs");
    let call = rig::command("a", 1, "fixture:run", &json!({}));
    assert!(rig.host.command(call).await.is_none());
    rig.host.reconfigure(&version(3)).await.unwrap();
    assert!(rig.host.has_command("fixture:run"));
    assert_eq!(number(&rig, "a").await, 3);
}

#[tokio::test]
async fn a_version_that_cannot_be_used_leaves_the_old_one_running() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        // A manifest is looked at first.
        let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let manifest = manifest.join("tests/fixture-plugin/plugin.toml");
        std::fs::copy(manifest, path.with_extension("toml")).unwrap();
        PluginConfig {
            manifest: path.with_extension("toml"),
            path,
            ..version(2)
        }
    };
    let missing = PluginConfig {
        path: dir.path().join("missing.wasm"),
        ..version(2)
    };
    let unusable = [
        behaving(2, &json!({ "init": "deny" })),
        behaving(2, &json!({ "init": "trap" })),
        file("text.wasm", b"not a component"),
        file("cut.wasm", b"\0asm\x0d\0\x01\0\xff"),
        missing,
    ];
    let rig = Rig::new(&[version(1)]).await;
    rig.data("a", "fixture:calls", json!({})).await;
    let running = rig.status().component;
    for config in unusable {
        let error = rig.host.reconfigure(&config).await.unwrap_err();
        assert!(matches!(error, SwapError::Unusable(_)), "{error}");
        assert!(error.to_string().contains("plugin `fixture`"), "{error}");
    }
    assert_eq!(number(&rig, "a").await, 1);
    let same = rig.data("a", "fixture:calls", json!({})).await;
    assert_eq!(same, json!({ "calls": 3 }), "the same instance");
    let status = rig.status();
    assert_eq!((status.swaps, status.component), (0, running));
    let unknown = rig.host.reload("nobody").await;
    assert!(matches!(unknown, Err(SwapError::Unknown(name)) if name == "nobody"));
}

#[tokio::test]
async fn a_version_that_fails_right_after_the_swap_is_taken_back() {
    let rig = Rig::new(&[other("moderation")]).await;
    let before = rig.status().component;
    let failing = behaving(2, &json!({ "before-produce": "trap" }));
    let swapped = rig.host.reconfigure(&failing).await.unwrap();
    assert_eq!(swapped.previous, before);
    eventually("it is taken back", async || {
        drop(rig.host.before_produce(rig::produce("a", 1)).await);
        rig.status().component == before
    })
    .await;
    let status = rig.status();
    assert_eq!((status.swaps, status.rollbacks), (2, 1));
    assert_eq!(status.breaker, BreakerState::Closed);
    assert!(!rig.host.has_command("fixture:run"), "nor are its commands");
    let verdict = rig.host.before_produce(rig::produce("a", 1)).await;
    assert_eq!(verdict.map(drop), Ok(()));

    // Whoever wants it all the same can have it.
    let well = rig.host.reconfigure(&version(3)).await.unwrap();
    assert_eq!(well.component, swapped.component);
    assert_eq!(number(&rig, "a").await, 3);
}

#[tokio::test]
async fn after_several_swaps_within_a_probation_the_last_version_that_passed_comes_back() {
    let failing = |number| behaving(number, &json!({ "before-produce": "trap" }));
    let rig = Rig::new(&[version(1)]).await;
    rig.host.reconfigure(&failing(2)).await.unwrap();
    rig.host.reconfigure(&failing(3)).await.unwrap();
    rig.host.reload("fixture").await.unwrap();
    eventually("the good one is back", async || {
        drop(rig.host.before_produce(rig::produce("a", 1)).await);
        rig.status().rollbacks > 0
    })
    .await;
    assert_eq!(number(&rig, "a").await, 1);
    let status = rig.status();
    assert_eq!((status.swaps, status.rollbacks), (4, 1));
}

#[tokio::test]
async fn a_version_that_has_passed_its_probation_is_what_the_next_gives_way_to() {
    let passed = PluginConfig {
        probation: Duration::ZERO,
        ..version(2)
    };
    let rig = Rig::new(&[version(1)]).await;
    rig.host.reconfigure(&passed).await.unwrap();
    let failing = behaving(3, &json!({ "before-produce": "trap" }));
    rig.host.reconfigure(&failing).await.unwrap();
    eventually("it is back", async || {
        drop(rig.host.before_produce(rig::produce("a", 1)).await);
        rig.status().rollbacks > 0
    })
    .await;
    assert_eq!(number(&rig, "a").await, 2);
}

#[tokio::test]
async fn a_version_whose_instances_cannot_be_replaced_is_taken_back() {
    let rig = Rig::new(&[version(1)]).await;
    rig.heal("a").await;
    rig.host
        .reconfigure(&behaving(2, &json!({ "init": "unwell" })))
        .await
        .unwrap();
    rig.data("a", "fixture:kv-delete", json!({ "key": "well" }))
        .await;
    let trap = json!({ "key": "k", "value": "v" });
    let failed = rig.command("a", "fixture:kv-set-then-trap", trap).await;
    assert!(failed.is_err());
    eventually("it is taken back", async || rig.status().rollbacks == 1).await;
    assert_eq!(number(&rig, "a").await, 1);
}

#[tokio::test]
async fn a_version_that_fails_after_its_probation_stays() {
    let failing = PluginConfig {
        probation: Duration::ZERO,
        breaker: BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        },
        ..behaving(2, &json!({ "before-produce": "trap" }))
    };
    let rig = Rig::new(&[version(1)]).await;
    rig.host.reconfigure(&failing).await.unwrap();
    for _ in 0..20 {
        assert!(rig.host.before_produce(rig::produce("a", 1)).await.is_err());
        assert_eq!(number(&rig, "a").await, 2);
    }
    assert_eq!(rig.status().rollbacks, 0);
}

#[tokio::test]
async fn calls_that_fail_on_the_old_version_do_not_bring_it_back() {
    let four = |config| PluginConfig {
        instances: 8,
        ..config
    };
    let before = four(behaving(1, &json!({ "before-produce": "loop" })));
    let rig = Rig::new(&[before]).await;
    let rooms: Vec<String> = (0..64).map(|n| format!("room-{n}")).collect();
    let runaways = rooms
        .iter()
        .map(|room| rig.host.before_produce(rig::produce(room, 1)));
    let runaways = futures_util::future::join_all(runaways);
    let swapped = async {
        eventually("lanes are busy", async || rig.status().queued >= 50).await;
        rig.host.reconfigure(&four(version(2))).await.unwrap();
    };
    let (verdicts, ()) = tokio::join!(runaways, swapped);
    assert!(verdicts.iter().any(Result::is_err), "some ran on the old");
    for room in &rooms {
        assert_eq!(number(&rig, room).await, 2);
    }
    assert_eq!(rig.status().rollbacks, 0);
}

#[tokio::test]
async fn a_version_without_a_hook_does_not_fail_in_what_waited_for_it() {
    let before = busy();
    let rig = Rig::new(&[before]).await;
    let timer = json!({ "key": "t", "afterMs": 50 });
    rig.data("a", "fixture:timer-set", timer).await;
    let runaway = rig.host.before_produce(rig::produce("a", 1));
    let swapped = async {
        let mut command = Box::pin(rig.command("a", "fixture:calls", json!({})));
        let mut joins = Box::pin(rig.host.before_join(rig::join("a", 2)));
        tokio::select! {
            _ = &mut command => panic!("the lane is busy"),
            _ = &mut joins => panic!("the lane is busy"),
            () = eventually("they wait", async || rig.status().queued == 3) => {}
        }
        for user in 0..10 {
            rig.host.notify(Fact::Joined(rig::join("a", user)));
        }
        rig.host.reconfigure(&other("billing")).await.unwrap();
        (command.await, joins.await)
    };
    let (_, (command, joins)) = tokio::join!(runaway, swapped);
    assert!(command.is_err(), "nobody answers it any more");
    assert_eq!(joins, Ok(()), "nobody has anything against it");
    eventually("the timer is over, and nothing waits", async || {
        let status = rig.status();
        (status.stored.timers, status.queued) == (0, 0)
    })
    .await;
    let status = rig.status();
    assert_eq!(status.rollbacks, 0);
    assert_eq!(status.breaker, BreakerState::Closed);
}

#[tokio::test]
async fn a_swap_brings_a_plugin_back_that_could_not_be_restarted() {
    let down = PluginConfig {
        name: "down".to_owned(),
        probation: Duration::ZERO,
        breaker: BreakerConfig {
            failures: 2,
            probe_after: Duration::from_secs(3600),
            ..BreakerConfig::default()
        },
        ..behaving(1, &json!({ "init": "unwell" }))
    };
    let well = PluginConfig {
        settings: version(2).settings,
        ..down.clone()
    };
    let rig = Rig::new(std::slice::from_ref(&well)).await;
    rig.heal("a").await;
    rig.host.reconfigure(&down).await.unwrap();
    rig.data("a", "fixture:kv-delete", json!({ "key": "well" }))
        .await;
    let trap = json!({ "key": "k", "value": "v" });
    let failed = rig.command("a", "fixture:kv-set-then-trap", trap).await;
    assert!(failed.is_err());
    eventually("it is down, and left alone", async || {
        rig.status().breaker == BreakerState::Open
    })
    .await;
    assert!(rig.host.before_join(rig::join("a", 1)).await.is_err());
    rig.host.notify(rig::left("a", 7));
    rig.host.reconfigure(&well).await.unwrap();
    assert_eq!(number(&rig, "a").await, 2);
    eventually("what waited is told", async || {
        rig.told_of("a").await == ["on-leave 7 left"]
    })
    .await;
    assert_eq!(calls("down", "on-leave", "done"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_at_once_happen_one_after_the_other() {
    let rig = Arc::new(Rig::new(&[version(0), standard("seats", json!({}))]).await);
    let reloads = (1..=10).flat_map(|n| {
        let (one, two) = (Arc::clone(&rig), Arc::clone(&rig));
        [
            tokio::spawn(async move { one.host.reconfigure(&version(n)).await.map(drop) }),
            tokio::spawn(async move { two.host.reload("seats").await.map(drop) }),
        ]
    });
    for reload in futures_util::future::join_all(reloads).await {
        reload.unwrap().unwrap();
    }
    let swaps: Vec<u64> = rig.host.status().iter().map(|one| one.swaps).collect();
    assert_eq!(swaps, [10, 10]);
    let last = rig.host.config_of("fixture").unwrap();
    assert_eq!(number(&rig, "a").await, last.settings["number"]);
}

/// Pages of this process that are in memory, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test]
async fn memory_does_not_grow_with_swaps() {
    let rig = Rig::new(&[version(0)]).await;
    let swap = async |number| {
        rig.host.reconfigure(&version(number)).await.unwrap();
        rig.host.notify(Fact::Joined(rig::join("a", number)));
        rig.data("a", "fixture:calls", json!({})).await;
    };
    for number in 0..20 {
        swap(number).await;
    }
    // A version that stayed would keep about a megabyte of code and memory. Other tests run
    // in this process at the same time, so the quietest of the rounds counts.
    let mut grown = u64::MAX;
    for _ in 0..4 {
        let before = resident();
        for number in 0..50 {
            swap(number).await;
        }
        grown = grown.min(resident().saturating_sub(before) >> 20);
    }
    assert!(grown < 20, "{grown} MiB more in fifty swaps");
    assert_eq!(rig.status().swaps, 220);
}

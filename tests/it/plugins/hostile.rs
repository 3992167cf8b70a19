//! Hostile guests beside a load of good calls, in other rooms and of another plugin: these
//! all have their answers, and nothing of them is lost.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use rstest::rstest;
use serde_json::{Value, json};
use voice_room::{
    config::{BreakerConfig, HookPolicies, PluginConfig},
    model::Hook,
    plugin::{Fact, PluginHost},
    room::Event,
};

use super::{
    hooks,
    rig::{self, LIMIT, Rig, fixture},
    watch::{calls, eventually},
};
use crate::rooms::House;

/// What a hook of the hostile plugin may take, and what all that are well may.
const SHORT: Duration = Duration::from_millis(40);
const AMPLE: Duration = Duration::from_secs(10);

/// A room in which nothing bad happens.
const GOOD: &str = "good";

/// Good calls of each kind before, and after, an attack.
const CALLS: u64 = 20;

/// The time between two good calls of a kind.
const PACE: Duration = Duration::from_millis(1);

/// A plugin that behaves so in these hooks, in rooms that begin with `bad`.
fn hostile(name: &str, attacked: &[Hook], behaviour: &str) -> PluginConfig {
    let told: serde_json::Map<String, Value> = attacked
        .iter()
        .map(|hook| (hook.name().to_owned(), json!(behaviour)))
        .collect();
    let commands = ["fixture:run", "fixture:timer-set", "fixture:calls"];
    let settings = json!({ "hooks": told, "when": "bad", "publish": true, "commands": commands });
    PluginConfig {
        name: name.to_owned(),
        instances: 2,
        hooks: HookPolicies::default().time_budget(AMPLE),
        retry_limit: 2,
        // It would answer for the plugin's other rooms too.
        breaker: BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        },
        ..fixture(&settings)
    }
}

/// With little time for these hooks.
fn short(mut plugin: PluginConfig, hooks: &[Hook]) -> PluginConfig {
    for &hook in hooks {
        plugin.hooks = plugin.hooks.time_budget_of(hook, SHORT);
    }
    plugin
}

fn neighbour() -> PluginConfig {
    PluginConfig {
        name: "neighbour".to_owned(),
        hooks: HookPolicies::default().time_budget(AMPLE),
        ..fixture(&json!({ "commands": ["fixture:kv-increment"] }))
    }
}

/// Good calls that go on until told to stop.
struct Load {
    stop: AtomicBool,
    decisions: AtomicU64,
    commands: AtomicU64,
    facts: AtomicU64,
}

impl Load {
    async fn decide(&self, host: &PluginHost, rooms: &[String]) {
        for room in rooms.iter().cycle() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let verdict = host.before_join(rig::join(room, 1)).await;
            assert_eq!(verdict, Ok(()), "{room}");
            let verdict = host.before_produce(rig::produce(room, 1)).await;
            assert_eq!(verdict.map(drop), Ok(()), "{room}");
            self.decisions.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PACE).await;
        }
    }

    /// Of the other plugin, in the room that is attacked.
    async fn command(&self, host: &PluginHost) {
        let key = json!({ "key": "n", "by": 1 });
        while !self.stop.load(Ordering::Relaxed) {
            let call = rig::command("bad", 1, "fixture:kv-increment", &key);
            let expected = self.commands.fetch_add(1, Ordering::Relaxed) + 1;
            let answer = host.command(call).await;
            assert_eq!(answer, Some(Ok(Some(json!({ "sum": expected })))));
            tokio::time::sleep(PACE).await;
        }
    }

    async fn tell(&self, host: &PluginHost) {
        while !self.stop.load(Ordering::Relaxed) {
            let user = self.facts.fetch_add(1, Ordering::Relaxed);
            host.notify(Fact::Joined(rig::join(GOOD, user)));
            tokio::time::sleep(PACE).await;
        }
    }

    async fn goes_on(&self) {
        let counts = [&self.decisions, &self.commands, &self.facts];
        let before = counts.map(|count| count.load(Ordering::Relaxed));
        eventually("the load goes on", async || {
            let enough = |(count, before): (&&AtomicU64, u64)| {
                count.load(Ordering::Relaxed) >= before + CALLS
            };
            counts.iter().zip(before).all(enough)
        })
        .await;
    }
}

/// Attacks beside the load.
async fn beside_a_load(rig: Rig, attack: impl AsyncFnOnce(&Rig)) {
    let load = Arc::new(Load {
        stop: AtomicBool::new(false),
        decisions: AtomicU64::new(0),
        commands: AtomicU64::new(0),
        facts: AtomicU64::new(0),
    });
    // Facts are told in one room, and decisions asked for in the rooms of its lane.
    let mut rooms = vec![GOOD.to_owned()];
    for n in 0..16 {
        let room = format!("{GOOD}-{n}");
        if are_in_one_lane(&rig, GOOD, &room).await {
            rooms.push(room);
        }
    }
    let begin = |which: u8| {
        let (load, host, rooms) = (Arc::clone(&load), rig.host.clone(), rooms.clone());
        tokio::spawn(async move {
            match which {
                0 => load.decide(&host, &rooms).await,
                1 => load.command(&host).await,
                _ => load.tell(&host).await,
            }
        })
    };
    let tasks = [begin(0), begin(1), begin(2)];
    load.goes_on().await;
    attack(&rig).await;
    load.goes_on().await;
    load.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    rig.host.shutdown(LIMIT).await;
    let facts = load.facts.load(Ordering::Relaxed);
    let expected: Vec<String> = (0..facts).map(|user| format!("on-join {user}")).collect();
    assert_eq!(rig.told_of(GOOD).await, expected);
}

/// Whether two rooms are served by the same instance of the first plugin.
async fn are_in_one_lane(rig: &Rig, one: &str, other: &str) -> bool {
    let calls = async |room| {
        let data = rig.data(room, "fixture:calls", json!({})).await;
        data["calls"].as_u64().unwrap()
    };
    let before = calls(one).await;
    calls(other).await;
    calls(one).await == before + 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_loop_in_every_hook() {
    let looping = hostile("endless", &hooks::CALLED, "loop");
    let mut looping = short(looping, &hooks::CALLED);
    // Of these the load has good ones, on a busy machine.
    for hook in [Hook::BeforeJoin, Hook::BeforeProduce, Hook::OnJoin] {
        looping.hooks = looping.hooks.time_budget_of(hook, SHORT * 25);
    }
    let rig = Rig::new(&[looping, neighbour()]).await;
    // One for each hook: a fact that is told again holds up those behind it.
    let mut attacked = Vec::new();
    for n in 0.. {
        let room = format!("bad-{n}");
        if !are_in_one_lane(&rig, GOOD, &room).await {
            attacked.push(room);
        }
        if attacked.len() == hooks::CALLED.len() {
            break;
        }
    }
    beside_a_load(rig, async |rig| {
        for (hook, room) in hooks::CALLED.into_iter().zip(&attacked) {
            let before = calls("endless", hook.name(), "timed_out");
            hooks::call(rig, hook, room).await;
            let what = format!("{hook} is cut off");
            eventually(&what, async || {
                calls("endless", hook.name(), "timed_out") > before
            })
            .await;
        }
    })
    .await;
}

#[rstest]
#[case::takes_all_memory("exhaust-memory")]
#[case::overflows_its_stack("stack-overflow")]
#[case::panics("panic")]
#[case::refuses_with_megabytes("huge-refusal")]
#[case::asks_for_megabytes("huge-action")]
#[case::floods_with_actions("flood-actions")]
#[case::writes_no_json("invalid-json")]
#[case::asks_for_nonsense("bad-action")]
#[case::answers_with_megabytes("huge-answer")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that(#[case] behaviour: &str) {
    let attacked = [Hook::BeforeConsume, Hook::OnLeave, Hook::OnCommand];
    let plugin = hostile(behaviour, &attacked, behaviour);
    let rig = Rig::new(&[plugin, neighbour()]).await;
    beside_a_load(rig, async |rig| {
        for _ in 0..5 {
            for hook in attacked {
                hooks::call(rig, hook, "bad").await;
            }
        }
    })
    .await;
}

#[rstest]
#[case::a_gigabyte_of_log("log-gigabyte")]
#[case::ten_million_key_value_calls("flood-kv-calls")]
#[case::a_million_keys("flood-kv")]
#[case::a_million_metrics("flood-metrics")]
#[case::a_million_events("flood-publish")]
#[case::a_million_timers("flood-timers")]
#[case::log_lines_for_ever("flood-logs")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of(#[case] behaviour: &str) {
    let attacked = [Hook::BeforeConsume, Hook::OnLeave];
    let name = format!("flood-of-{behaviour}");
    let plugin = short(hostile(&name, &attacked, behaviour), &attacked);
    let rig = Rig::new(&[plugin, neighbour()]).await;
    beside_a_load(rig, async |rig| {
        for _ in 0..3 {
            for hook in attacked {
                hooks::call(rig, hook, "bad").await;
            }
        }
        // Of the questions some may have been given up while they waited.
        eventually("all facts have had their time", async || {
            let outcomes = ["done", "timed_out", "trapped", "out_of_memory"];
            let calls = outcomes.map(|outcome| calls(&name, "on-leave", outcome));
            calls.iter().sum::<u64>() >= 3
        })
        .await;
    })
    .await;
}

/// A file in the place of a component, with the fixture's manifest.
fn in_place_of(plugin: &PluginConfig, file: &Path) -> PluginConfig {
    PluginConfig {
        path: file.to_owned(),
        manifest: plugin.manifest.clone(),
        ..plugin.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_cannot_start() {
    let well = hostile("beginner", &[], "allow");
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.wasm");
    std::fs::write(&text, "#!/bin/sh").unwrap();
    let module = dir.path().join("module.wasm");
    std::fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
    let large = dir.path().join("large.wasm");
    let file = std::fs::File::create(&large).unwrap();
    file.set_len(200 << 20).unwrap();
    let noise = dir.path().join("noise.wasm");
    let bytes = b"\0asm\x0d\0\x01\0".iter().copied();
    let bytes: Vec<u8> = bytes.chain((0..=255).cycle().take(1 << 20)).collect();
    std::fs::write(&noise, bytes).unwrap();

    let failing = [
        "panic",
        "trap",
        "loop",
        "exhaust-memory",
        "stack-overflow",
        "deny",
    ];
    let failing = failing.map(|behaviour| {
        let plugin = hostile("beginner", &[Hook::Init], behaviour);
        short(plugin, &[Hook::Init])
    });
    let files = [&text, &module, &large, &noise].map(|file| in_place_of(&well, file));
    let rig = Rig::new(&[well, neighbour()]).await;
    beside_a_load(rig, async |rig| {
        for version in failing.iter().chain(&files) {
            let refused = rig.host.reconfigure(version).await;
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("beginner"), "{error}");
        }
    })
    .await;
}

/// The next event that is no level.
async fn next_fact(inbox: &mut voice_room::room::Inbox) -> Arc<Event> {
    loop {
        let event = tokio::time::timeout(LIMIT, inbox.next()).await;
        let event = event.expect("an event in time").expect("the room goes on");
        if !matches!(&*event, Event::Speaking { .. }) {
            return event;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_reach_only_the_room_of_the_call() {
    let house = House::with_plugins(&[hostile_actor()]).await;
    let mut ada = house.join("elsewhere", 1).await;
    let (_peer, _track, producer) = ada.speaker().await;
    let mut eve = house.join("bad", 2).await;
    let actions = json!({ "actions": [
        { "emitToUser": { "userId": 1, "event": "fixture:pest", "payload": {} } },
        { "emitToRoom": { "event": "fixture:pest", "payload": {} } },
        { "mute": { "user": 1 } },
        { "mute": { "producer": producer.to_string() } },
        { "close": { "user": 1 } },
        { "close": { "producer": producer.to_string() } },
        { "kick": { "userId": 1, "reason": "gone" } },
    ]});
    for _ in 0..3 {
        let done = eve.membership.command("fixture:do", &actions).await;
        done.unwrap().unwrap();
        let told = next_fact(&mut eve.inbox).await;
        assert!(matches!(&*told, Event::Plugin { .. }), "{told:?}");
    }
    assert!(!ada.membership.is_over());
    assert!(ada.inbox.next().now_or_never().is_none(), "not a word");
    ada.membership.self_mute(producer, true).unwrap();
    ada.membership.self_mute(producer, false).unwrap();
    ada.membership.close_producer(producer).unwrap();
}

fn hostile_actor() -> PluginConfig {
    PluginConfig {
        hooks: HookPolicies::default().time_budget(AMPLE),
        ..fixture(&json!({}))
    }
}

//! Timers of plugins.

use std::{future::Future, pin::Pin, time::Duration};

use serde_json::{Value, json};
use voice_room::{
    config::{BreakerConfig, HookPolicies, PluginConfig},
    model::{Hook, UnixMs},
};

use super::{
    rig::{self, LIMIT, Rig, fixture},
    watch::{calls, eventually},
};

/// How long the lane is kept busy.
const BUSY: Duration = Duration::from_secs(3);

/// The fixture under a name of its own, which publishes what it is told, and with which
/// `before-produce` of rooms that begin with `bad` keeps the lane busy.
fn timed(name: &str) -> PluginConfig {
    let hooks = json!({ "before-produce": "loop" });
    PluginConfig {
        name: name.to_owned(),
        hooks: HookPolicies::default()
            .time_budget(Duration::from_secs(10))
            .time_budget_of(Hook::BeforeProduce, BUSY),
        ..fixture(&json!({ "hooks": hooks, "when": "bad", "publish": true }))
    }
}

async fn set(rig: &Rig, room: &str, timer: Value) -> UnixMs {
    rig.data(room, "fixture:timer-set", timer).await;
    UnixMs::now()
}

/// Keys and due times of the timers that a room was told of.
async fn fired(rig: &Rig, room: &str) -> Vec<(String, u64)> {
    let told = rig.told_of(room).await;
    let timers = told.iter().filter_map(|entry| {
        let mut words = entry.strip_prefix("on-timer ")?.split(' ');
        let (key, due) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        assert_eq!(words.next(), Some("0"), "the room is not open");
        Some((key, due))
    });
    timers.collect()
}

async fn keys(rig: &Rig, room: &str) -> Vec<String> {
    let fired = fired(rig, room).await;
    fired.into_iter().map(|(key, _)| key).collect()
}

#[tokio::test]
async fn a_timer_fires_once_when_it_is_due_in_the_room_that_set_it() {
    let rig = Rig::new(&[timed("fixture")]).await;
    let before = UnixMs::now();
    let set_at = set(&rig, "a", json!({ "key": "once", "afterMs": 300 })).await;
    assert_eq!(rig.status().stored.timers, 1);
    eventually("it fires", async || keys(&rig, "a").await == ["once"]).await;
    let [(_, due)] = fired(&rig, "a").await[..] else {
        panic!("once")
    };
    assert!(before.0 + 300 <= due && due <= set_at.0 + 300);
    assert!(UnixMs::now().0 >= due);
    eventually("it is over", async || rig.status().stored.timers == 0).await;
    assert_eq!(keys(&rig, "a").await, ["once"]);
}

#[tokio::test]
async fn a_repeating_timer_fires_until_it_is_cancelled() {
    let rig = Rig::new(&[timed("fixture")]).await;
    let timer = json!({ "key": "beat", "afterMs": 0, "everyMs": 100 });
    set(&rig, "a", timer).await;
    eventually("it fires", async || keys(&rig, "a").await.len() >= 3).await;
    rig.data("a", "fixture:timer-cancel", json!({ "key": "beat" }))
        .await;
    assert_eq!(rig.status().stored.timers, 0);
    let fired = fired(&rig, "a").await;
    for pair in fired.windows(2) {
        let (before, after) = (pair[0].1, pair[1].1);
        assert!(before < after && (after - before) % 100 == 0, "{fired:?}");
    }
}

/// Keeps the lane busy, and has commands wait in it, until so many jobs wait.
async fn while_busy<T>(
    rig: &Rig,
    mut command: Pin<Box<impl Future<Output = T>>>,
    waiting: usize,
) -> T {
    let runaway = rig.host.before_produce(rig::produce("bad", 1));
    let held = async {
        tokio::select! {
            _ = &mut command => panic!("the lane is not busy"),
            () = eventually("all wait", async || rig.status().queued == waiting) => {}
        }
        command.await
    };
    let (verdict, held) = tokio::join!(runaway, held);
    assert!(verdict.is_err());
    held
}

#[tokio::test]
async fn a_timer_that_is_cancelled_while_its_call_waits_does_not_fire() {
    let rig = Rig::new(&[timed("cancelled")]).await;
    set(&rig, "a", json!({ "key": "gone", "afterMs": 1000 })).await;
    let cancel = rig.data("a", "fixture:timer-cancel", json!({ "key": "gone" }));
    while_busy(&rig, Box::pin(cancel), 2).await;
    rig.data("a", "fixture:calls", json!({})).await;
    assert_eq!(calls("cancelled", "on-timer", "done"), 0);
    assert_eq!(rig.status().stored.timers, 0);
}

#[tokio::test]
async fn a_timer_that_is_set_anew_while_its_call_waits_fires_at_its_new_time() {
    let rig = Rig::new(&[timed("anew")]).await;
    set(&rig, "a", json!({ "key": "moved", "afterMs": 1000 })).await;
    let anew = json!({ "key": "moved", "afterMs": 8000 });
    while_busy(&rig, Box::pin(set(&rig, "a", anew)), 2).await;
    rig.data("a", "fixture:calls", json!({})).await;
    assert_eq!(calls("anew", "on-timer", "done"), 0);
    assert_eq!(rig.status().stored.timers, 1);
    eventually("it fires", async || keys(&rig, "a").await == ["moved"]).await;
    assert_eq!(calls("anew", "on-timer", "done"), 1);
}

#[tokio::test]
async fn timers_survive_a_restart_and_those_that_were_due_meanwhile_fire() {
    let rig = Rig::new(&[timed("fixture")]).await;
    set(&rig, "a", json!({ "key": "later", "afterMs": 3000 })).await;
    let repeating = json!({ "key": "beat", "afterMs": 400, "everyMs": 60_000 });
    set(&rig, "a", repeating).await;
    let set_at = set(&rig, "a", json!({ "key": "soon", "afterMs": 400 })).await;
    let Rig {
        host, store, dir, ..
    } = rig;
    host.shutdown(LIMIT).await;
    drop((host, store));
    let due = Duration::from_millis((set_at.0 + 500).saturating_sub(UnixMs::now().0));
    tokio::time::sleep(due).await;
    let rig = Rig::load_in(dir, &[timed("fixture")]).await.unwrap();
    eventually("all have fired", async || keys(&rig, "a").await.len() == 3).await;
    let mut fired = keys(&rig, "a").await;
    assert_eq!(fired.pop().as_deref(), Some("later"));
    fired.sort_unstable();
    assert_eq!(fired, ["beat", "soon"]);
    eventually("the repeating one is left", async || {
        rig.status().stored.timers == 1
    })
    .await;
}

#[tokio::test]
async fn a_timer_whose_call_fails_is_told_again_and_what_it_wrote_counts_once() {
    let plugin = PluginConfig {
        breaker: BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        },
        retry_limit: u32::MAX,
        settings: json!({ "hooks": { "on-timer": "unwell" }, "publish": true }),
        ..timed("unwell-timer")
    };
    let rig = Rig::new(&[plugin]).await;
    set(&rig, "a", json!({ "key": "t", "afterMs": 0 })).await;
    eventually("it has failed", async || {
        calls("unwell-timer", "on-timer", "trapped") >= 3
    })
    .await;
    assert_eq!(rig.status().stored.timers, 1, "it is not over");
    rig.heal("a").await;
    eventually("it fires", async || keys(&rig, "a").await == ["t"]).await;
    assert_eq!(rig.key("a", "called/on-timer").await, "1");
    assert_eq!(rig.status().stored.timers, 0);
    assert_eq!(calls("unwell-timer", "on-timer", "done"), 1);
}

#[tokio::test]
async fn a_timer_that_is_never_taken_is_a_dead_letter_and_over() {
    let plugin = PluginConfig {
        retry_limit: 2,
        settings: json!({ "hooks": { "on-timer": "trap" } }),
        ..timed("fixture")
    };
    let rig = Rig::new(&[plugin]).await;
    set(&rig, "a", json!({ "key": "t", "afterMs": 0 })).await;
    eventually("it is over", async || rig.status().stored.timers == 0).await;
    let [letter] = &rig.dead_letters().await[..] else {
        panic!("one letter")
    };
    assert_eq!(
        (&letter["hook"], &letter["tries"]),
        (&json!("on-timer"), &json!(2))
    );
    assert_eq!(letter["call"]["input"]["key"], "t");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_timers_at_once_all_fire_and_questions_have_their_answers() {
    let plugin = PluginConfig {
        settings: json!({}),
        ..timed("flood-of-timers")
    };
    let rig = Rig::new(&[plugin]).await;
    let due = UnixMs::now().0 + 2000;
    for room in 0..10 {
        let after = due.saturating_sub(UnixMs::now().0);
        let timers = json!({ "key": "t", "afterMs": after, "number": 1000 });
        set(&rig, &format!("room-{room}"), timers).await;
    }
    let done = || calls("flood-of-timers", "on-timer", "done");
    eventually("all have fired", async || {
        let verdict = rig.host.before_join(rig::join("a", 1)).await;
        assert_eq!(verdict, Ok(()), "there is place for questions");
        rig.host.notify(rig::left("a", 1));
        done() >= 10_000
    })
    .await;
    eventually("all are over", async || rig.status().stored.timers == 0).await;
    assert_eq!(done(), 10_000);
    assert!(
        rig.dead_letters().await.is_empty(),
        "there is place for facts"
    );
}

//! Order, concurrency, patience.

use std::{future::Future, task::Poll, time::Duration};

use serde_json::json;
use voice_room::{
    config::{HookPolicies, PluginConfig},
    model::UnixMs,
    plugin::{Fact, PLUGIN_FAILED, SpeakerView},
};

use super::rig::{self, LIMIT, Rig, bad, fixture};

fn with(plugin: PluginConfig, instances: usize, time_budget: Duration) -> PluginConfig {
    PluginConfig {
        instances,
        hooks: HookPolicies::default().time_budget(time_budget),
        ..plugin
    }
}

/// A room whose lane is not that of `room`: its instance has had no call yet.
async fn room_of_other_lane(rig: &Rig, room: &str) -> String {
    rig.data(room, "fixture:calls", json!({})).await;
    for n in 0..1000 {
        let other = format!("good-{n}");
        if rig.data(&other, "fixture:calls", json!({})).await["calls"] == 1 {
            return other;
        }
    }
    panic!("all rooms are in one lane");
}

/// Polls once.
async fn begin<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    std::future::poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *future).poll(context)))
        .await
}

#[tokio::test]
async fn a_room_learns_of_its_facts_in_order_and_a_question_sees_them_all() {
    let rig = Rig::new(&[with(fixture(&json!({})), 4, Duration::from_secs(1))]).await;
    let rooms = ["a", "b", "c", "d", "e"];
    for user in 0..200 {
        for room in rooms {
            rig.host.notify(Fact::Joined(rig::join(room, user)));
        }
    }
    let expected: Vec<String> = (0..200).map(|user| format!("on-join {user}")).collect();
    for room in rooms {
        assert_eq!(rig.history(room).await, expected, "room {room}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_keep_their_order_beside_many_questions() {
    let rig = Rig::new(&[with(fixture(&json!({})), 2, Duration::from_secs(5))]).await;
    let questions: Vec<_> = (0..4)
        .map(|_| {
            let host = rig.host.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    assert_eq!(
                        host.before_produce(rig::produce("a", 1)).await.map(drop),
                        Ok(())
                    );
                }
            })
        })
        .collect();
    for user in 0..300 {
        rig.host.notify(Fact::Joined(rig::join("a", user)));
        tokio::task::yield_now().await;
    }
    for question in questions {
        question.await.unwrap();
    }
    let expected: Vec<String> = (0..300).map(|user| format!("on-join {user}")).collect();
    assert_eq!(rig.history("a").await, expected);
}

#[tokio::test]
async fn a_question_is_answered_in_the_askers_task_also_right_after_facts() {
    let rig = Rig::new(&[with(fixture(&json!({})), 1, Duration::from_secs(5))]).await;
    // A busy machine may stop the thread in the middle of a call, which then goes on in a
    // task of its own: so once in twenty times is enough.
    let mut at_once = [0, 0];
    for user in 0..20 {
        for (number, at_once) in at_once.iter_mut().enumerate() {
            if number == 1 {
                rig.host.notify(Fact::Joined(rig::join("a", user)));
            }
            let mut call = Box::pin(rig.host.describe_room(rig::join("a", user)));
            if begin(&mut call).await.is_ready() {
                *at_once += 1;
            } else {
                call.await;
            }
        }
    }
    assert!(at_once[0] > 0 && at_once[1] > 0, "{at_once:?}");
}

#[tokio::test]
async fn a_runaway_guest_holds_up_neither_other_lanes_nor_the_thread() {
    // On this runtime there is one thread: if the guest held it, nothing else would run.
    let plugin = with(bad("before-produce", "loop"), 2, Duration::from_secs(2));
    let rig = Rig::new(&[plugin]).await;
    let good = room_of_other_lane(&rig, "bad").await;
    let mut runaway = Box::pin(rig.host.before_produce(rig::produce("bad", 1)));
    assert!(begin(&mut runaway).await.is_pending());
    let began = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(
            rig.host
                .before_produce(rig::produce(&good, 1))
                .await
                .map(drop),
            Ok(())
        );
    }
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "took {:?}",
        began.elapsed()
    );
    assert!(begin(&mut runaway).await.is_pending(), "it still runs");
    assert_eq!(runaway.await.unwrap_err().code, PLUGIN_FAILED);
}

#[tokio::test]
async fn a_runaway_guest_is_cut_off_soon_after_its_budget() {
    let plugin = with(bad("before-produce", "loop"), 1, Duration::from_millis(100));
    let rig = Rig::new(&[plugin]).await;
    let began = std::time::Instant::now();
    assert!(
        rig.host
            .before_produce(rig::produce("bad", 1))
            .await
            .is_err()
    );
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(100), "took {took:?}");
    assert!(took < LIMIT, "took {took:?}");
}

#[tokio::test]
async fn a_caller_who_goes_away_in_the_middle_of_a_call_holds_up_nobody() {
    let rig = Rig::new(&[bad("before-produce", "loop")]).await;
    for _ in 0..3 {
        let mut call = Box::pin(rig.host.before_produce(rig::produce("bad", 1)));
        assert!(begin(&mut call).await.is_pending());
        drop(call);
        assert_eq!(rig.host.before_join(rig::join("good", 1)).await, Ok(()));
    }
}

#[tokio::test]
async fn a_caller_who_does_not_look_holds_up_nobody() {
    let rig = Rig::new(&[bad("before-produce", "loop")]).await;
    let mut call = Box::pin(rig.host.before_produce(rig::produce("bad", 1)));
    assert!(begin(&mut call).await.is_pending());
    assert_eq!(rig.host.before_join(rig::join("good", 1)).await, Ok(()));
    assert_eq!(call.await.unwrap_err().code, PLUGIN_FAILED);
}

#[tokio::test]
async fn a_caller_who_goes_away_while_waiting_holds_up_nobody() {
    let rig = Rig::new(&[bad("before-produce", "loop")]).await;
    let mut runaway = Box::pin(rig.host.before_produce(rig::produce("bad", 1)));
    assert!(begin(&mut runaway).await.is_pending());
    let mut waiting = Box::pin(rig.host.before_join(rig::join("good", 1)));
    assert!(begin(&mut waiting).await.is_pending());
    drop(waiting);
    assert_eq!(rig.host.before_join(rig::join("good", 1)).await, Ok(()));
}

#[tokio::test]
async fn who_waits_too_long_is_answered_by_the_policy_and_nothing_has_happened() {
    // Five runaways take five budgets; patience is four.
    let budget = Duration::from_millis(200);
    let plugin = with(bad("before-produce", "loop"), 1, budget);
    let rig = Rig::new(&[plugin]).await;
    let mut runaways = Vec::new();
    for _ in 0..5 {
        let mut call = Box::pin(rig.host.before_produce(rig::produce("bad", 1)));
        assert!(begin(&mut call).await.is_pending());
        runaways.push(call);
    }
    let began = std::time::Instant::now();
    let set = json!({ "key": "late", "value": "1" });
    let refusal = rig
        .command("good", "fixture:kv-set", set)
        .await
        .unwrap_err();
    assert_eq!(refusal.code, PLUGIN_FAILED);
    assert!(began.elapsed() < budget * 5, "took {:?}", began.elapsed());
    for call in runaways {
        assert!(call.await.is_err());
    }
    let value = rig
        .data("good", "fixture:kv-get", json!({ "key": "late" }))
        .await;
    assert_eq!(value, json!({ "value": null }));
}

#[tokio::test]
async fn a_full_queue_forgets_changes_of_speakers_first() {
    let rig = Rig::new(&[with(fixture(&json!({})), 1, Duration::from_secs(5))]).await;
    // Nothing is awaited in between, so nothing is taken from the queue.
    for _ in 0..5000 {
        let speakers: Vec<SpeakerView> = Vec::new();
        let (room, at) = (rig::room("quiet"), UnixMs::now());
        rig.host.notify(Fact::SpeakerChanged { room, speakers, at });
    }
    for user in 0..100 {
        rig.host.notify(Fact::Joined(rig::join("a", user)));
    }
    let mut expected: Vec<String> = (0..100).map(|user| format!("on-join {user}")).collect();
    rig.host.notify(Fact::Joined(rig::join("a", 100)));
    expected.push("on-join 100".to_owned());
    wait_until_taken(&rig).await;
    assert_eq!(rig.history("a").await, expected);
}

/// A question finds no place in a full queue; facts make room as they are taken.
async fn wait_until_taken(rig: &Rig) {
    let taken = async {
        while rig.host.before_join(rig::join("a", 1)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, taken)
        .await
        .expect("the queue is worked through");
}

#[tokio::test]
async fn a_full_queue_loses_the_latest_facts_and_refuses_questions() {
    let rig = Rig::new(&[with(fixture(&json!({})), 1, Duration::from_secs(5))]).await;
    for user in 0..4096 + 50 {
        let room = if user % 64 == 0 { "a" } else { "b" };
        rig.host.notify(Fact::Joined(rig::join(room, user)));
    }
    let refusal = rig.host.before_join(rig::join("a", 1)).await.unwrap_err();
    assert_eq!(refusal.code, PLUGIN_FAILED);
    wait_until_taken(&rig).await;
    let expected: Vec<String> = (0..64).map(|n| format!("on-join {}", n * 64)).collect();
    assert_eq!(rig.history("a").await, expected);
}

#[tokio::test]
async fn a_flood_of_questions_is_answered_by_the_policy_and_not_queued_without_end() {
    let rig = Rig::new(&[bad("before-produce", "loop")]).await;
    let mut runaway = Box::pin(rig.host.before_produce(rig::produce("bad", 1)));
    assert!(begin(&mut runaway).await.is_pending());
    let mut waiting = Vec::new();
    let mut refused = 0;
    for _ in 0..1500 {
        let mut call = Box::pin(rig.host.before_join(rig::join("good", 1)));
        match begin(&mut call).await {
            Poll::Ready(verdict) => {
                assert_eq!(verdict.unwrap_err().code, PLUGIN_FAILED);
                refused += 1;
            }
            Poll::Pending => waiting.push(call),
        }
    }
    assert_eq!((waiting.len(), refused), (1024, 476));
    drop(waiting);
    assert!(runaway.await.is_err());
    // Those who have gone are passed over, but not at once.
    wait_until_taken(&rig).await;
}

#[tokio::test]
async fn a_shutdown_lets_facts_through_and_then_nothing() {
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    rig.data("a", "fixture:do", json!({ "actions": [] })).await;
    for user in 0..500 {
        rig.host.notify(Fact::Joined(rig::join("bad", user)));
    }
    rig.host.shutdown(LIMIT).await;
    let refusal = rig.host.before_join(rig::join("a", 1)).await.unwrap_err();
    assert_eq!(refusal.code, PLUGIN_FAILED);
    rig.host.notify(Fact::Joined(rig::join("a", 1)));
}

#[tokio::test]
async fn a_shutdown_waits_no_longer_than_its_limit() {
    let plugin = with(bad("on-join", "loop"), 1, Duration::from_secs(10));
    let rig = Rig::new(&[plugin]).await;
    rig.host.notify(Fact::Joined(rig::join("bad", 1)));
    let began = std::time::Instant::now();
    rig.host.shutdown(Duration::from_millis(100)).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "took {:?}",
        began.elapsed()
    );
}

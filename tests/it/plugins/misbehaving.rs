//! Every way in which the fixture guest can behave badly: it is answered for, its instance
//! is replaced where it must be, and nobody else notices.

use std::{
    io::Write,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use rstest::rstest;
use serde_json::json;
use voice_room::{
    config::{HookPolicies, PluginConfig},
    model::UserId,
    plugin::{Action, Fact, PLUGIN_FAILED, Target},
};

use super::{
    hooks,
    rig::{self, Rig, bad, fixture},
    watch::eventually,
};

/// Enough for a million calls of an import, also on a busy machine.
const AMPLE: Duration = Duration::from_secs(60);

fn patient(plugin: PluginConfig) -> PluginConfig {
    PluginConfig {
        hooks: HookPolicies::default().time_budget(AMPLE),
        ..plugin
    }
}

/// The same room, another room of the same lane, and a room of the other lane go on.
async fn assert_all_is_well(rig: &Rig) {
    for room in ["bad", "good", "good-1", "good-2", "good-3"] {
        assert_eq!(
            rig.host.before_join(rig::join(room, 1)).await,
            Ok(()),
            "room {room}"
        );
        rig.host.notify(rig::left(room, 9));
        assert_eq!(
            rig.history(room).await.last().unwrap(),
            "on-leave 9 left",
            "room {room}"
        );
    }
}

#[rstest]
#[case::that_never_returns("loop")]
#[case::that_traps("trap")]
#[case::that_panics("panic")]
#[case::that_overflows_its_stack("stack-overflow")]
#[case::that_takes_all_memory("exhaust-memory")]
#[case::that_logs_for_ever("flood-logs")]
#[tokio::test]
async fn a_decision_fails_and_all_goes_on(#[case] behaviour: &str) {
    let rig = Rig::new(&[PluginConfig {
        instances: 2,
        ..bad("before-produce", behaviour)
    }])
    .await;
    for _ in 0..3 {
        let refusal = rig
            .host
            .before_produce(rig::produce("bad", 1))
            .await
            .unwrap_err();
        assert_eq!(refusal.code, PLUGIN_FAILED);
        assert_eq!(refusal.plugin.as_deref(), Some("fixture"));
        assert_eq!(
            rig.host
                .before_produce(rig::produce("good", 1))
                .await
                .map(drop),
            Ok(())
        );
    }
    assert_all_is_well(&rig).await;
}

#[tokio::test]
async fn a_guest_that_traps_in_any_hook_is_replaced() {
    for hook in hooks::CALLED {
        let rig = Rig::new(&[bad(hook.name(), "trap")]).await;
        let behave = json!({ "hook": "describe-room", "behaviour": "huge-answer" });
        rig.data("good", "fixture:behave", behave).await;
        hooks::call(&rig, hook, "bad").await;
        eventually("a fresh instance does not know of it", async || {
            !rig.host
                .describe_room(rig::join("good", 1))
                .await
                .is_empty()
        })
        .await;
        let verdict = rig.host.before_produce(rig::produce("good", 1)).await;
        assert_eq!(verdict.map(drop), Ok(()), "{hook}");
    }
}

#[tokio::test]
async fn a_flood_of_actions_is_cut() {
    let rig = Rig::new(&[patient(bad("before-produce", "flood-actions"))]).await;
    assert_eq!(
        rig.host
            .before_produce(rig::produce("bad", 1))
            .await
            .map(drop),
        Ok(())
    );
    assert!(rig.take_actions().len() <= 256);
    let flood: Vec<_> = (0..300)
        .map(|user| json!({ "mute": { "user": user } }))
        .collect();
    rig.data("good", "fixture:do", json!({ "actions": flood }))
        .await;
    let carried = rig.take_actions();
    assert_eq!(carried.len(), 256);
    assert_eq!(
        carried.last(),
        Some(&Action::Mute(Target::User(UserId(255))))
    );
    assert_all_is_well(&rig).await;
}

#[rstest]
#[case::whose_name_and_payload_are_a_megabyte("huge-action")]
#[case::of_the_server("spoof-event")]
#[case::whose_payload_is_no_json("invalid-json")]
#[tokio::test]
async fn an_event_is_dropped(#[case] behaviour: &str) {
    let rig = Rig::new(&[patient(bad("before-produce", behaviour))]).await;
    assert_eq!(
        rig.host
            .before_produce(rig::produce("bad", 1))
            .await
            .map(drop),
        Ok(())
    );
    assert_eq!(rig.take_actions(), []);
    assert_all_is_well(&rig).await;
}

#[tokio::test]
async fn of_bad_actions_those_are_handed_on_that_the_room_can_judge() {
    let rig = Rig::new(&[bad("on-join", "bad-action")]).await;
    rig.host.notify(Fact::Joined(rig::join("bad", 1)));
    assert_all_is_well(&rig).await;
    let nobody = UserId(u64::MAX);
    let expected = [
        Action::Unmute(Target::User(nobody)),
        Action::Kick {
            user: nobody,
            reason: String::new(),
        },
    ];
    assert_eq!(rig.take_actions(), expected);
}

#[tokio::test]
async fn a_refusal_of_megabytes_is_cut_and_stands() {
    let rig = Rig::new(&[patient(bad("before-produce", "huge-refusal"))]).await;
    let refusal = rig
        .host
        .before_produce(rig::produce("bad", 1))
        .await
        .unwrap_err();
    assert_eq!(refusal.code, "REFUSED");
    assert_eq!(refusal.message.chars().count(), 512 + 1, "and an ellipsis");
    assert_eq!(refusal.details, None);
    assert_all_is_well(&rig).await;
}

#[rstest]
#[case::without_words("empty-refusal", "REFUSED", "Refused", Some(json!({})))]
#[case::with_details_that_are_no_json(
    "invalid-refusal-details",
    "DENIED",
    "Denied by the fixture",
    None
)]
#[tokio::test]
async fn a_refusal_stands(
    #[case] behaviour: &str,
    #[case] code: &str,
    #[case] message: &str,
    #[case] details: Option<serde_json::Value>,
) {
    let rig = Rig::new(&[bad("before-join", behaviour)]).await;
    let refusal = rig.host.before_join(rig::join("bad", 1)).await.unwrap_err();
    assert_eq!(
        (&*refusal.code, &*refusal.message, refusal.details),
        (code, message, details)
    );
}

#[rstest]
#[case::of_two_megabytes("huge-answer")]
#[case::that_is_no_json("invalid-json")]
#[tokio::test]
async fn an_answer_counts_as_a_failure(#[case] behaviour: &str) {
    let rig = Rig::new(&[patient(bad("on-command", behaviour))]).await;
    let refusal = rig
        .command("bad", "fixture:run", json!({}))
        .await
        .unwrap_err();
    assert_eq!(refusal.code, PLUGIN_FAILED);
    assert_eq!(rig.take_actions(), [], "and so nothing of it has happened");
    assert_all_is_well(&rig).await;
    let rig = Rig::new(&[patient(bad("describe-room", behaviour))]).await;
    assert!(rig.host.describe_room(rig::join("bad", 1)).await.is_empty());
    assert_eq!(rig.host.describe_room(rig::join("good", 1)).await.len(), 1);
}

#[tokio::test]
async fn a_million_keys_are_refused_beyond_the_calls_limit() {
    let rig = Rig::new(&[patient(bad("before-produce", "flood-kv"))]).await;
    assert_eq!(
        rig.host
            .before_produce(rig::produce("bad", 1))
            .await
            .map(drop),
        Ok(())
    );
    let mut keys = 0;
    let mut after = None;
    loop {
        let page = json!({ "prefix": "flood/", "after": after, "limit": 10_000 });
        let page = rig.data("good", "fixture:kv-list", page).await;
        let page = page["keys"].as_array().unwrap().clone();
        assert!(page.len() <= 1000, "a listing has a limit of its own");
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        keys += page.len();
    }
    assert_eq!(keys, 1024);
    assert_all_is_well(&rig).await;
}

#[rstest]
#[case::reads_a_million_times("flood-kv-reads")]
#[case::stores_megabytes("huge-kv")]
#[case::counts_with_a_million_names("flood-metrics")]
#[tokio::test]
async fn a_guest_may_call_what_it_has_until_its_time_is_up(#[case] behaviour: &str) {
    let rig = Rig::new(&[patient(bad("before-produce", behaviour))]).await;
    assert_eq!(
        rig.host
            .before_produce(rig::produce("bad", 1))
            .await
            .map(drop),
        Ok(())
    );
    let keys = rig
        .data(
            "good",
            "fixture:kv-list",
            json!({ "prefix": "", "limit": 1 }),
        )
        .await;
    assert_eq!(keys, json!({ "keys": [] }));
    assert_all_is_well(&rig).await;
}

#[rstest]
#[case::a_million_events("flood-publish", 64)]
#[case::two_megabytes("huge-publish", 0)]
#[tokio::test]
async fn publishing_is_refused_beyond_its_limits(
    #[case] behaviour: &str,
    #[case] published: usize,
) {
    let rig = Rig::new(&[patient(bad("before-produce", behaviour))]).await;
    assert_eq!(
        rig.host
            .before_produce(rig::produce("bad", 1))
            .await
            .map(drop),
        Ok(())
    );
    assert_eq!(rig.published().await.len(), published);
    assert_all_is_well(&rig).await;
}

#[tokio::test]
async fn a_guest_cannot_make_the_server_copy_more_than_eight_megabytes() {
    let plugin = PluginConfig {
        memory_limit: 256 << 20,
        ..fixture(&json!({}))
    };
    let rig = Rig::new(&[patient(plugin)]).await;
    let line = |size: usize| json!({ "level": "trace", "message": "x".repeat(size) });
    assert_eq!(
        rig.command("bad", "fixture:log", line(7 << 20)).await,
        Ok(None)
    );
    let refusal = rig
        .command("bad", "fixture:log", line(9 << 20))
        .await
        .unwrap_err();
    assert_eq!(refusal.code, PLUGIN_FAILED);
    assert_all_is_well(&rig).await;
}

/// All that is logged about plugins while the tests run.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// One for all tests, since what a thread has found unwanted stays unlogged everywhere.
    fn collect() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_env_filter("plugin=trace,voice_room::plugin=debug")
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::set_global_default(subscriber).expect("the only collector");
            log
        })
    }

    fn lines_with(&self, texts: &[&str]) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().clone()).unwrap();
        let has_all = |line: &&str| texts.iter().all(|text| line.contains(text));
        log.lines().filter(has_all).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_in_number_and_length() {
    let log = Log::collect();
    let rig = Rig::new(&[bad("before-produce", "flood-logs")]).await;
    assert!(
        rig.host
            .before_produce(rig::produce("bad-flood", 1))
            .await
            .is_err()
    );
    assert_eq!(log.lines_with(&["INFO", ": flood", "bad-flood"]).len(), 64);
    let rig = Rig::new(&[patient(bad("before-produce", "huge-log"))]).await;
    assert_eq!(
        rig.host
            .before_produce(rig::produce("bad-huge", 1))
            .await
            .map(drop),
        Ok(())
    );
    let [line] = &log.lines_with(&["xxxx", "bad-huge"])[..] else {
        panic!("one line")
    };
    assert!(line.len() < 2000, "{} bytes", line.len());
}

#[tokio::test]
async fn a_guests_log_line_has_its_level_and_the_plugins_name() {
    let log = Log::collect();
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    for level in ["trace", "debug", "info", "warn", "error"] {
        let line = json!({ "level": level, "message": format!("at {level}\nERROR forged") });
        rig.data("logging", "fixture:log", line).await;
        let lines = log.lines_with(&[&format!("at {level} ERROR forged"), "room=\"logging\""]);
        let [line] = &lines[..] else {
            panic!("one line")
        };
        assert!(line.contains(&level.to_uppercase()), "{line}");
        assert!(line.contains("plugin=\"fixture\""), "{line}");
    }
}

#[tokio::test]
async fn the_message_of_a_guests_panic_is_logged() {
    let log = Log::collect();
    let rig = Rig::new(&[bad("before-produce", "panic")]).await;
    assert!(
        rig.host
            .before_produce(rig::produce("bad-panic", 1))
            .await
            .is_err()
    );
    let lines = log.lines_with(&["the fixture panics", "room=bad-panic"]);
    let [line] = &lines[..] else {
        panic!("one line")
    };
    assert!(
        line.contains("ERROR") && line.contains("before-produce"),
        "{line}"
    );
}

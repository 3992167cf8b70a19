mod streams;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    Actions, Answer, BeforeConsume, Decision, Failure, InitError, OnCommand, OnJoin, OnLeave,
    OnNewProducer, OnProducerClosed, OnRoomClosed, OnRoomOpened, OnTimer, Outcome, Permit, Plugin,
    ProduceDecision, Reply, Settings, Source, User, allow, events, kv, log, metrics, refuse,
    timers,
};

struct Counting;

impl Plugin for Counting {
    fn init(_settings: Settings) -> Result<Self, InitError> {
        Ok(Self)
    }

    fn before_produce(&mut self, _call: &crate::BeforeProduce) -> ProduceDecision {
        metrics::increment("produced", 1);
        log::warn!("somebody speaks");
        allow()
    }

    fn on_command(&mut self, call: &OnCommand) -> Answer {
        let count = kv::get::<u32>("count")?.unwrap_or(0) + 1;
        kv::set("count", &count)?;
        events::publish("counted", count)?;
        if call.command == "fail" {
            return Err(Failure::new("told to").into());
        }
        Ok(Reply::new().data(count)?)
    }
}

#[test]
fn what_a_failed_hook_wrote_and_published_is_undone() {
    let mut stage = Stage::<Counting>::new(json!({})).unwrap();
    let alice = stage.join("lobby", User::new(1)).unwrap();
    assert!(stage.command(&alice, "count", json!({})).is_ok());
    assert!(stage.command(&alice, "fail", json!({})).is_err());
    assert_eq!(kv::get::<u32>("count").unwrap(), Some(1));
    assert_eq!(
        published(),
        [Published {
            topic: "counted".into(),
            payload: json!(1)
        }]
    );
}

#[test]
fn storage_outlives_the_instance_and_counters_and_lines_are_kept() {
    let mut stage = Stage::<Counting>::new(json!({})).unwrap();
    let alice = stage.join("lobby", User::new(1)).unwrap();
    stage.command(&alice, "count", json!({})).unwrap();
    stage.replace_instance().unwrap();
    let reply = stage.command(&alice, "count", json!({})).unwrap();
    assert_eq!(reply.data, Some(Value::from(2)));

    stage.produce(&alice, Source::Mic).unwrap();
    assert_eq!(counter("produced"), 1);
    assert_eq!(counter("unheard of"), 0);
    assert_eq!(
        log_lines(),
        [LogLine {
            level: log::Level::Warn,
            message: "somebody speaks".into()
        }]
    );
}

#[test]
fn participants_and_connections_are_counted_as_the_server_counts_them() {
    let mut stage = Stage::<Counting>::new(json!({})).unwrap();
    let first = stage.join("lobby", User::new(1)).unwrap();
    let second = stage.join("lobby", User::new(1)).unwrap();
    assert_eq!(
        (
            first.participant.connections,
            second.participant.connections
        ),
        (1, 2)
    );
    stage.restart_server().unwrap();
    assert_eq!(
        stage
            .join("lobby", User::new(1))
            .unwrap()
            .participant
            .connections,
        1
    );
}

#[test]
fn keys_are_listed_by_prefix_in_pages() {
    reset();
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        kv::set(key, &0).unwrap();
    }
    assert_eq!(kv::list("a/", None, 2).unwrap(), ["a/1", "a/2"]);
    assert_eq!(kv::list("a/", Some("a/2"), 2).unwrap(), ["a/3"]);
    kv::delete("b/1").unwrap();
    assert_eq!(keys(), ["a/1", "a/2", "a/3"]);
}

#[test]
fn keys_values_and_topics_out_of_bounds_are_refused_as_by_the_server() {
    reset();
    assert!(matches!(
        kv::set_bytes("", b""),
        Err(kv::Error::InvalidKey(_))
    ));
    assert!(matches!(
        kv::set_bytes("big", &vec![0; 1 << 20]),
        Err(kv::Error::ValueTooLarge(_))
    ));
    assert_eq!(
        events::publish("No Spaces", 1),
        Err(events::Error::InvalidTopic)
    );
    kv::set_bytes("text", b"{").unwrap();
    assert!(matches!(
        kv::get::<u32>("text"),
        Err(kv::Error::Unreadable { .. })
    ));
    assert_eq!(
        kv::get_bytes("text").unwrap().as_deref(),
        Some(b"{".as_slice())
    );
}

const ONCE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// Counts in key-value what it is told, and obeys commands.
struct Scripted;

impl Plugin for Scripted {
    fn init(_settings: Settings) -> Result<Self, InitError> {
        Ok(Self)
    }

    fn commands(&self) -> &[&str] {
        &["once", "repeat", "cancel", "expire", "whom", "fail-next"]
    }

    fn on_room_opened(&mut self, call: &OnRoomOpened) -> Outcome {
        Ok(Actions::new().emit_to_room("x:opened", call.room.participants))
    }

    fn on_room_closed(&mut self, call: &OnRoomClosed) -> Result<(), Failure> {
        kv::set("closed", &(&call.room.id, &call.reason))?;
        Ok(())
    }

    fn before_produce(&mut self, _call: &crate::BeforeProduce) -> ProduceDecision {
        Ok(Permit::new().start_muted().attach("x"))
    }

    fn before_consume(&mut self, call: &BeforeConsume) -> Decision {
        if call.owner == 13 {
            return refuse("NOT_THEM", "Not them");
        }
        allow()
    }

    fn on_timer(&mut self, call: &OnTimer) -> Outcome {
        if kv::get("fail")? == Some(true) {
            return Err(Failure::new("told to"));
        }
        let fired = (call.at, call.room.participants);
        Ok(Actions::new().emit_to_room(&call.key, fired))
    }

    fn on_command(&mut self, call: &OnCommand) -> Answer {
        match call.command.as_str() {
            "once" => timers::set("once", ONCE)?,
            "repeat" => timers::set_repeating("repeat", SECOND, 10 * SECOND)?,
            "cancel" => timers::cancel("once")?,
            "expire" => kv::set_expiring("brief", &1, SECOND)?,
            "fail-next" => kv::set("fail", &true)?,
            _ => return Ok(Reply::new().data(call.target.as_ref().map(|it| it.user.id))?),
        }
        Ok(Reply::new())
    }
}

fn scripted() -> (Stage<Scripted>, Joined) {
    let mut stage = Stage::<Scripted>::new(json!({})).unwrap().twinned();
    let alice = stage.join("lobby", User::new(7)).unwrap();
    (stage, alice)
}

#[test]
fn timers_fire_when_they_are_due_in_that_order_and_at_their_time() {
    let (mut stage, alice) = scripted();
    let start = stage.now();
    stage.command(&alice, "once", json!({})).unwrap();
    stage.command(&alice, "repeat", json!({})).unwrap();
    let fired = |fired: Vec<Fired>| -> Vec<_> {
        let fired = fired.into_iter();
        fired.map(|it| (it.key, it.due - start)).collect()
    };
    let first = stage.advance(30_500).unwrap();
    assert_eq!(
        first[0].actions,
        Actions::new().emit_to_room("repeat", (start + 1_000, 1))
    );
    let expected = [
        ("repeat", 1_000),
        ("repeat", 11_000),
        ("repeat", 21_000),
        ("once", 30_000),
    ];
    assert_eq!(
        fired(first),
        expected.map(|(key, due)| (key.to_owned(), due))
    );
    assert_eq!(
        fired(stage.advance(500).unwrap()),
        [("repeat".to_owned(), 31_000)]
    );
    assert_eq!(stage.now(), start + 31_000);
}

#[test]
fn a_timer_outlives_its_room_and_the_server_unless_it_is_cancelled() {
    let (mut stage, alice) = scripted();
    stage.command(&alice, "once", json!({})).unwrap();
    stage.leave(&alice, "left").unwrap();
    stage.restart_server().unwrap();
    let at = stage.now() + 30_000;
    let fired = stage.advance(40_000).unwrap();
    assert_eq!(
        fired[0].actions,
        Actions::new().emit_to_room("once", (at, 0))
    );
    assert!(timers_set().is_empty());

    let alice = stage.join("lobby", User::new(7)).unwrap();
    stage.command(&alice, "once", json!({})).unwrap();
    stage.command(&alice, "cancel", json!({})).unwrap();
    assert_eq!(stage.advance(40_000).unwrap(), []);
}

fn timers_set() -> Vec<Timer> {
    super::timers()
}

#[test]
fn a_timer_whose_call_fails_stays_due() {
    let (mut stage, alice) = scripted();
    stage.command(&alice, "once", json!({})).unwrap();
    stage.command(&alice, "fail-next", json!({})).unwrap();
    assert!(stage.advance(30_000).is_err());
    kv::delete("fail").unwrap();
    assert_eq!(stage.advance(1).unwrap().len(), 1);
}

#[test]
fn a_key_is_gone_when_its_time_has_passed() {
    let (mut stage, alice) = scripted();
    stage.command(&alice, "expire", json!({})).unwrap();
    stage.advance(999).unwrap();
    assert_eq!(stage.kv::<u32>("brief"), Some(1));
    assert_eq!(kv::increment("brief", 2).unwrap(), 3);
    stage.advance(1).unwrap();
    assert_eq!(stage.kv::<u32>("brief"), None);
    assert!(keys().is_empty());
}

#[test]
fn keys_are_compared_and_incremented_as_by_the_server() {
    reset();
    assert!(kv::insert("lock", &1).unwrap());
    assert!(!kv::insert("lock", &2).unwrap());
    assert!(!kv::compare_and_set("lock", Some(&2), Some(&3)).unwrap());
    assert!(kv::compare_and_set("lock", Some(&1), None).unwrap());
    assert_eq!(kv::get::<u32>("lock").unwrap(), None);

    assert_eq!(kv::increment("count", -3).unwrap(), -3);
    assert_eq!(kv::get::<i64>("count").unwrap(), Some(-3));
    kv::set("count", &i64::MAX).unwrap();
    assert_eq!(
        kv::increment("count", 1),
        Err(kv::Error::Overflow("count".into()))
    );
    kv::set("count", "three").unwrap();
    assert_eq!(
        kv::increment("count", 1),
        Err(kv::Error::NotANumber("count".into()))
    );

    let doubled = kv::update("count", |_: Option<Value>| None).unwrap();
    assert_eq!((doubled, keys()), (None, vec![]));
}

#[test]
fn timers_out_of_bounds_or_without_a_room_are_refused_as_by_the_server() {
    reset();
    assert!(matches!(
        timers::set("", SECOND),
        Err(timers::Error::InvalidKey(_))
    ));
    assert!(matches!(
        timers::set("k", Duration::MAX),
        Err(timers::Error::InvalidDelay(_))
    ));
    let often = timers::set_repeating("k", SECOND, Duration::ZERO);
    assert!(matches!(often, Err(timers::Error::InvalidDelay(_))));
    assert_eq!(timers::set("k", SECOND), Err(timers::Error::NoRoom));
}

#[test]
fn rooms_open_and_close_producers_are_amended_and_consuming_is_refused() {
    let (mut stage, alice) = scripted();
    assert_eq!(alice.actions, Actions::new().emit_to_room("x:opened", 1));
    let thirteen = stage.join("lobby", User::new(13)).unwrap();
    assert!(thirteen.actions.is_empty(), "it was open");

    let produced = stage.produce(&alice, Source::Mic).unwrap();
    assert!(produced.amendment.muted);
    assert_eq!(produced.amendment.attach, Some(json!("x")));
    let mic = &produced.producer;
    assert!(stage.consume(&thirteen, &alice, mic).is_ok());
    assert!(stage.consume(&alice, &thirteen, mic).is_err());

    let whom = |stage: &mut Stage<Scripted>, user: u64| {
        stage
            .command(&alice, "whom", json!({ "userId": user }))
            .unwrap()
            .data
    };
    assert_eq!(whom(&mut stage, 13), Some(json!(13)));
    assert_eq!(whom(&mut stage, 14), Some(json!(null)));

    stage.leave(&thirteen, "left").unwrap();
    assert_eq!(stage.kv::<Value>("closed"), None);
    stage.leave(&alice, "left").unwrap();
    assert_eq!(stage.kv("closed"), Some(json!(["lobby", "empty"])));
}

/// Tells the room of every producer's beginning and end.
struct Crier;

impl Plugin for Crier {
    fn init(_settings: Settings) -> Result<Self, InitError> {
        Ok(Self)
    }

    fn on_new_producer(&mut self, call: &OnNewProducer) -> Outcome {
        Ok(Actions::new().emit_to_room("new", &call.producer.id))
    }

    fn on_producer_closed(&mut self, call: &OnProducerClosed) -> Outcome {
        if kv::get("fail")? == Some(true) {
            return Err(Failure::new("told to"));
        }
        let was_heard = call.first_rtp_at.is_some();
        let told = (&call.producer.id, &call.reason, was_heard);
        Ok(Actions::new().emit_to_room("end", (told, call.room.participants)))
    }

    fn on_leave(&mut self, call: &OnLeave) -> Outcome {
        kv::increment("left", 1)?;
        Ok(Actions::new().emit_to_room("left", call.room.participants))
    }

    fn on_room_closed(&mut self, _call: &OnRoomClosed) -> Result<(), Failure> {
        kv::set("closed", &true)?;
        Ok(())
    }
}

fn crier() -> (Stage<Crier>, Joined, Produced) {
    let mut stage = Stage::<Crier>::new(json!({})).unwrap().twinned();
    let alice = stage.join("lobby", User::new(7)).unwrap();
    let mic = stage.produce(&alice, Source::Mic).unwrap();
    stage.first_rtp(&alice, &mic.producer).unwrap();
    (stage, alice, mic)
}

fn ended(producer: &Produced, reason: &str, was_heard: bool) -> Actions {
    let told = (&producer.producer.id, reason, was_heard);
    Actions::new().emit_to_room("end", (told, 1))
}

#[test]
fn a_second_producer_of_a_source_ends_the_first_one() {
    let (mut stage, alice, mic) = crier();
    let music = stage.produce(&alice, Source::Music).unwrap();
    let began = |it: &Produced| Actions::new().emit_to_room("new", &it.producer.id);
    assert_eq!(music.actions, began(&music), "another source");
    let again = stage.produce(&alice, Source::Mic).unwrap();
    assert_eq!(
        again.actions,
        began(&again).then(ended(&mic, "replaced", true))
    );
    stage.close(&alice, &again.producer, "closed").unwrap();
    let third = stage.produce(&alice, Source::Mic).unwrap();
    assert_eq!(third.actions, began(&third), "the second one had ended");
}

#[test]
fn who_leaves_ends_what_they_send_before_they_are_gone() {
    for (reason, close_reason) in [
        ("left", "left"),
        ("disconnected", "disconnected"),
        ("too_slow", "disconnected"),
        ("rude", "kicked"),
    ] {
        let (mut stage, alice, mic) = crier();
        let music = stage.produce(&alice, Source::Music).unwrap();
        let expected = ended(&mic, close_reason, true)
            .then(ended(&music, close_reason, false))
            .then(Actions::new().emit_to_room("left", 0));
        assert_eq!(stage.leave(&alice, reason).unwrap(), expected);
    }
}

#[test]
fn who_leaves_is_gone_although_a_hook_fails() {
    let (mut stage, alice, _) = crier();
    kv::set("fail", &true).unwrap();
    assert!(stage.leave(&alice, "left").is_err());
    assert_eq!(stage.kv("left"), Some(1));
    assert_eq!(stage.kv("closed"), Some(true));
}

/// Counts in memory, which is not what a plugin may do.
struct Forgetful(u32);

impl Plugin for Forgetful {
    fn init(_settings: Settings) -> Result<Self, InitError> {
        Ok(Self(0))
    }

    fn on_join(&mut self, _call: &OnJoin) -> Outcome {
        self.0 += 1;
        Ok(Actions::new().emit_to_room("x:count", self.0))
    }
}

#[test]
#[should_panic(expected = "fresh instance (left) and live one differ")]
fn a_twinned_stage_finds_what_is_kept_in_memory() {
    let mut stage = Stage::<Forgetful>::new(json!({})).unwrap().twinned();
    stage.join("lobby", User::new(1)).unwrap();
    drop(stage.join("lobby", User::new(2)));
}

const MANIFEST: &str = r#"
    name = "scripted"
    version = "0.2.0"
    hooks = ["on-room-opened", "before-produce", "on-command"]
    commands = ["once", "repeat", "cancel", "expire", "whom", "fail-next"]
    topics = ["counted", "x.*"]
    capabilities = ["publish", "mute"]
"#;

#[test]
fn what_a_manifest_does_not_ask_for_is_not_done() {
    let stage = Stage::<Scripted>::new(json!({})).unwrap();
    let mut stage = stage.with_manifest(MANIFEST).unwrap();
    let alice = stage.join("lobby", User::new(7)).unwrap();
    assert!(alice.actions.is_empty(), "it may not emit");
    let produced = stage.produce(&alice, Source::Mic).unwrap();
    assert_eq!(produced.amendment, crate::Amendment::default());
    assert!(
        stage.consume(&alice, &alice, &produced.producer).is_ok(),
        "it is not asked"
    );
    assert_eq!(events::publish("x.y", 1), Ok(()));
    assert_eq!(events::publish("xy", 1), Err(events::Error::NotGranted));
}

#[test]
#[should_panic(expected = "does not ask for: Timers")]
fn an_import_that_a_manifest_does_not_ask_for_is_not_there() {
    let stage = Stage::<Scripted>::new(json!({})).unwrap();
    let mut stage = stage.with_manifest(MANIFEST).unwrap();
    let alice = stage.join("lobby", User::new(7)).unwrap();
    drop(stage.command(&alice, "once", json!({})));
}

#[test]
fn a_command_that_a_manifest_does_not_list_keeps_the_plugin_from_loading() {
    let manifest = MANIFEST.replace("\"whom\", ", "");
    let stage = Stage::<Scripted>::new(json!({})).unwrap();
    let error = stage.with_manifest(&manifest).unwrap_err().to_string();
    assert!(error.contains("`whom`"), "{error}");
    let stage = Stage::<Scripted>::new(json!({})).unwrap();
    assert!(stage.with_manifest("name = 1").is_err());
}

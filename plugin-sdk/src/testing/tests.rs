use serde_json::{Value, json};

use super::*;
use crate::{
    Answer, Failure, InitError, OnCommand, Plugin, ProduceDecision, Reply, Settings, Source, User,
    allow, events, kv, log, metrics,
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

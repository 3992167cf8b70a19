//! Facts on their way through the ledger to the plugins, and over a crash.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use voice_room::{
    config::{BreakerConfig, OnFailure, PluginConfig},
    model::{FactId, FirstPacket, Hook, MediaCount, PauseCause, UnixMs},
    plugin::{Fact, FlowChange, ParticipantView, ProducerView, Progress},
    store::{Store, ledger::Portion},
};

use super::rig::{LIMIT, Rig, fixture, left, opened, participant, producer, room, standard};

/// A stream in a room.
struct Stream {
    room: &'static str,
    participant: ParticipantView,
    producer: ProducerView,
}

impl Stream {
    fn new(room: &'static str, user: u64) -> Self {
        Self {
            room,
            participant: participant(user),
            producer: producer(),
        }
    }

    fn first_rtp(&self, at: u64) -> Fact {
        Fact::FirstRtp {
            room: room(self.room),
            participant: self.participant.clone(),
            producer: self.producer.clone(),
            packet: FirstPacket {
                ssrc: 0xdead_beef,
                timestamp: Some(4_294_967_295),
                payload_type: 111,
                after_ms: 12,
            },
            fact: FactId::first_rtp(self.producer.id),
            at: moment(at),
        }
    }

    fn closed(&self, at: u64) -> Fact {
        Fact::ProducerClosed {
            room: room(self.room),
            participant: self.participant.clone(),
            producer: self.producer.clone(),
            reason: "left".to_owned(),
            first_rtp_at: None,
            media: MediaCount::default(),
            fact: FactId::closed(self.producer.id),
            at: moment(at),
        }
    }
}

fn ended(room: &str, at: u64) -> Fact {
    Fact::RoomClosed {
        room: self::room(room),
        reason: "empty".to_owned(),
        fact: FactId(uuid::Uuid::new_v4()),
        at: moment(at),
    }
}

/// The fixture, which publishes what it is told, and nothing that is slow.
fn teller(hooks: &Value) -> PluginConfig {
    PluginConfig {
        breaker: BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        },
        ..fixture(&json!({ "publish": true, "hooks": hooks }))
    }
}

/// Some seconds ago, as long after each other as these numbers say.
fn moment(ms: u64) -> UnixMs {
    static BEGIN: LazyLock<u64> = LazyLock::new(|| UnixMs::now().0 - 10_000);
    UnixMs(*BEGIN + ms)
}

/// The whole ledger.
async fn entries(rig: &Rig) -> Vec<Value> {
    rig.store.flush(LIMIT).await.unwrap();
    let portion = Portion {
        entries: usize::MAX,
        bytes: usize::MAX,
    };
    let span = rig.store.ledger().read(0, portion).unwrap();
    let entries = span.entries.iter();
    entries
        .map(|entry| serde_json::from_str(&entry.json()).unwrap())
        .collect()
}

/// The ledger's topics, and what the fixture says it was told, once there are so many.
async fn story(rig: &Rig, length: usize) -> Vec<String> {
    let ledger = rig.store.ledger();
    let last = u64::try_from(length).unwrap().saturating_sub(1);
    assert!(ledger.grown(last, LIMIT).await, "{:?}", entries(rig).await);
    let entries = entries(rig).await;
    let line = |entry: &Value| match &entry["payload"] {
        Value::String(told) => told.split(' ').next().unwrap_or_default().to_owned(),
        _ => entry["topic"].as_str().unwrap_or_default().to_owned(),
    };
    entries.iter().map(line).collect()
}

/// A data directory as a crash at this moment would leave it.
async fn crashed(rig: &Rig) -> TempDir {
    // A copy of a file that is being written would be none that a crash leaves.
    rig.store.flush(LIMIT).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    let name = "plugins.redb";
    std::fs::copy(rig.dir.path().join(name), copy.path().join(name)).unwrap();
    copy
}

async fn after_crash(rig: &Rig, plugins: &[PluginConfig]) -> Rig {
    Rig::load_in(crashed(rig).await, plugins).await.unwrap()
}

#[tokio::test]
async fn a_plugin_is_told_what_the_ledger_has() {
    let rig = Rig::new(&[teller(&json!({}))]).await;
    let stream = Stream::new("a", 7);
    let journal = rig.host.journal();
    journal.tell(stream.first_rtp(1_000));
    assert_eq!(story(&rig, 2).await.len(), 2);
    let count = MediaCount {
        packets: 50,
        bytes: 4_000,
        last_rtp_at: Some(moment(1_900)),
    };
    let counted = async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        count
    };
    journal.tell_counted(stream.closed(2_000), Box::pin(counted));
    journal.tell(left("a", 7));
    assert_eq!(
        story(&rig, 5).await,
        [
            "media.first-rtp",
            "on-first-rtp",
            "media.closed",
            "on-producer-closed",
            "on-leave"
        ]
    );
    let entries = entries(&rig).await;
    let (first, closed) = (&entries[0], &entries[2]);
    assert_eq!(first["id"], json!(FactId::first_rtp(stream.producer.id)));
    assert_eq!(
        first["payload"]["packet"],
        json!({
            "ssrc": 0xdead_beef_u32, "timestamp": 4_294_967_295_u32,
            "payloadType": 111, "afterMs": 12,
        })
    );
    for entry in [first, closed] {
        assert_eq!(entry["plugin"], Value::Null);
        assert_eq!((&entry["user"], &entry["room"]), (&json!(7), &json!("a")));
        assert_eq!(entry["producer"], json!(stream.producer.id));
        assert_eq!(entry["payload"]["source"], "mic");
        assert_eq!(entry["payload"]["node"], rig.store.node());
        assert!(entry["payload"]["monotonicMs"].is_u64());
    }
    assert_eq!(closed["payload"]["media"], json!(count));
    assert_eq!(closed["at"], json!(moment(2_000)));
}

#[tokio::test]
async fn a_fact_that_a_plugin_fails_is_told_again_after_a_crash_and_only_then_settled() {
    let rig = Rig::new(&[teller(&json!({ "on-first-rtp": "trap" }))]).await;
    let stream = Stream::new("a", 7);
    rig.host.journal().tell(stream.first_rtp(1_000));
    assert_eq!(story(&rig, 1).await, ["media.first-rtp"]);

    let broken = after_crash(&rig, &[teller(&json!({ "on-first-rtp": "trap" }))]).await;
    let mended = after_crash(&broken, &[teller(&json!({}))]).await;
    // What the first crash has left open was ended after it, once. The plugin is told all of
    // it in order, whatever the ledger has got to by then.
    let whole = story(&mended, 6).await;
    let of = |start: &str| -> Vec<&String> {
        whole
            .iter()
            .filter(|entry| entry.starts_with(start))
            .collect()
    };
    assert_eq!(
        of("on-"),
        ["on-first-rtp", "on-producer-closed", "on-room-closed"]
    );
    assert_eq!(of("media."), ["media.first-rtp", "media.closed"]);

    let again = after_crash(&mended, &[teller(&json!({}))]).await;
    again.host.shutdown(LIMIT).await;
    assert_eq!(story(&again, 6).await, whole, "nothing is told twice");
}

#[tokio::test]
async fn what_a_stop_leaves_untold_is_told_after_the_next_start() {
    let rig = Rig::new(&[teller(&json!({ "on-first-rtp": "trap" }))]).await;
    let stream = Stream::new("a", 7);
    let journal = rig.host.journal();
    journal.tell(stream.first_rtp(1_000));
    assert_eq!(story(&rig, 1).await, ["media.first-rtp"]);
    rig.host.shutdown(Duration::from_millis(50)).await;
    journal.tell(stream.closed(2_000));
    journal.tell(ended("a", 2_100));
    drop(journal);
    assert_eq!(story(&rig, 3).await.len(), 3);

    let rig = rig.restart(&[teller(&json!({}))]).await;
    assert_eq!(
        story(&rig, 6).await,
        [
            "media.first-rtp",
            "media.closed",
            "room.closed",
            "on-first-rtp",
            "on-producer-closed",
            "on-room-closed"
        ]
    );
    assert!(rig.host.dead_letters(0, 10).await.unwrap().lines.is_empty());
}

#[tokio::test]
async fn a_stream_that_a_crash_cuts_off_ends_once_at_its_last_proven_moment() {
    let billing = || standard("billing", json!({}));
    let rig = Rig::new(&[billing()]).await;
    let (one, other) = (Stream::new("a", 7), Stream::new("b", 8));
    let journals = [rig.host.journal(), rig.host.journal()];
    journals[0].tell(opened("a", moment(500)));
    journals[1].tell(opened("b", moment(600)));
    journals[0].tell(one.first_rtp(1_000));
    journals[1].tell(other.first_rtp(1_100));
    assert_eq!(story(&rig, 4).await.len(), 4);
    let proven = Progress {
        media: MediaCount {
            packets: 250,
            bytes: 20_000,
            last_rtp_at: Some(moment(5_990)),
        },
        at: moment(6_000),
    };
    // Of a stream that has ended there is no progress.
    let gone = Stream::new("a", 9).producer.id;
    journals[0].progress([(one.producer.id, proven), (gone, proven)]);
    rig.store.flush(LIMIT).await.unwrap();

    let after = after_crash(&rig, &[billing()]).await;
    assert_eq!(story(&after, 10).await.len(), 10);
    let all = entries(&after).await;
    let of = |topic: &str, room: &str| -> Vec<Value> {
        let wanted = |entry: &&Value| entry["topic"] == topic && entry["room"] == room;
        all.iter().filter(wanted).cloned().collect()
    };
    for (room, at, packets) in [("a", 6_000, 250), ("b", 1_100, 0)] {
        let [closed] = &of("media.closed", room)[..] else {
            panic!("one end in {room}: {all:?}")
        };
        assert_eq!(closed["payload"]["reason"], "recovered");
        assert_eq!(closed["payload"]["media"]["packets"], packets);
        assert_eq!(closed["at"], json!(moment(at)));
        let [stopped] = &of("billing.stopped", room)[..] else {
            panic!("one end of a session in {room}: {all:?}")
        };
        assert_eq!(stopped["payload"]["reason"], "recovered");
        assert_eq!(stopped["payload"]["endedAt"], json!(moment(at)));
        let [ended] = &of("room.closed", room)[..] else {
            panic!("one end of the room {room}: {all:?}")
        };
        assert_eq!(ended["payload"]["reason"], "recovered");
        assert!(ended["seq"].as_u64() > closed["seq"].as_u64());
    }

    let again = after_crash(&after, &[billing()]).await;
    again.host.shutdown(LIMIT).await;
    assert_eq!(entries(&again).await.len(), 10, "it is ended once");
}

#[tokio::test]
async fn a_recorded_fact_is_told_until_the_plugin_takes_it_and_its_room_waits_for_it() {
    let tired = |hooks: Value| PluginConfig {
        retry_limit: 2,
        ..teller(&hooks)
    };
    let rig = Rig::new(&[tired(json!({ "on-first-rtp": "trap" }))]).await;
    let (stream, other) = (Stream::new("a", 7), Stream::new("b", 8));
    let journal = rig.host.journal();
    journal.tell(stream.first_rtp(1_000));
    journal.tell(stream.closed(2_000));
    rig.host.journal().tell(other.closed(2_000));
    let failing = async {
        let mut failures = BTreeSet::new();
        while failures.len() < 5 {
            let last = rig.host.status()[0].last_failure.clone();
            failures.extend(last.map(|failure| failure.at));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, failing).await.unwrap();
    let told = |story: &[String]| -> Vec<String> {
        let told = story.iter().filter(|line| line.starts_with("on-"));
        told.cloned().collect()
    };
    assert_eq!(told(&story(&rig, 4).await), ["on-producer-closed"]);
    assert!(rig.host.dead_letters(0, 10).await.unwrap().lines.is_empty());

    let mended = after_crash(&rig, &[tired(json!({}))]).await;
    // Neither room was closed before.
    let whole = story(&mended, 10).await;
    let entries = entries(&mended).await;
    let of_a = whole
        .iter()
        .zip(&entries)
        .filter(|(_, one)| one["room"] == "a");
    let of_a: Vec<String> = of_a.map(|(line, _)| line.clone()).collect();
    assert_eq!(
        told(&of_a),
        ["on-first-rtp", "on-producer-closed", "on-room-closed"]
    );
}

#[tokio::test]
async fn a_fact_that_stays_stuck_does_not_bring_the_version_before_back() {
    let trapping = PluginConfig {
        retry_limit: 1,
        ..teller(&json!({ "on-first-rtp": "trap" }))
    };
    let rig = Rig::new(std::slice::from_ref(&trapping)).await;
    rig.host
        .journal()
        .tell(Stream::new("a", 7).first_rtp(1_000));
    let failed = || {
        rig.host.status()[0]
            .last_failure
            .clone()
            .map(|last| last.at)
    };
    let fails_again = async |before: Option<UnixMs>| {
        let fails = async {
            while failed() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(LIMIT, fails).await.unwrap();
    };
    fails_again(None).await;
    // Something else is mended by it.
    let next = PluginConfig {
        settings: json!({ "publish": true, "hooks": { "on-first-rtp": "trap" }, "number": 2 }),
        ..trapping
    };
    rig.host.reconfigure(&next).await.unwrap();
    for _ in 0..4 {
        fails_again(failed()).await;
    }
    assert_eq!(rig.host.status()[0].rollbacks, 0);
    assert_eq!(
        rig.data("b", "fixture:settings", json!({})).await["number"],
        2
    );
}

#[tokio::test]
async fn a_fact_whose_policy_is_to_drop_it_is_not_told_again() {
    let config = |hooks: Value| {
        let mut config = teller(&hooks);
        let hooks = config.hooks.clone();
        config.hooks = hooks.on_failure(Hook::OnFirstRtp, OnFailure::Drop);
        config
    };
    let rig = Rig::new(&[config(json!({ "on-first-rtp": "trap" }))]).await;
    let stream = Stream::new("a", 7);
    rig.host.journal().tell(stream.first_rtp(1_000));
    rig.host.journal().tell(stream.closed(1_000));
    assert_eq!(story(&rig, 3).await.last().unwrap(), "on-producer-closed");
    rig.store.flush(LIMIT).await.unwrap();
    let left = crashed(&rig).await;
    let store = Store::open(left.path()).unwrap();
    assert_eq!(store.owed("fixture"), []);
}

#[tokio::test]
async fn a_recovered_room_ends_no_earlier_than_any_of_its_streams() {
    let rig = Rig::new(&[]).await;
    let (silent, gone) = (Stream::new("a", 7), Stream::new("a", 8));
    let journal = rig.host.journal();
    journal.tell(opened("a", moment(0)));
    journal.tell(silent.first_rtp(10));
    journal.tell(gone.first_rtp(20));
    journal.tell(gone.closed(100));
    // Silence is told late, with the time of the last packet.
    journal.tell(Fact::paused(FlowChange {
        room: room("a"),
        participant: silent.participant.clone(),
        producer: silent.producer.clone(),
        cause: PauseCause::Silence,
        nth: 1,
        media: MediaCount::default(),
        at: moment(90),
    }));
    assert_eq!(story(&rig, 4).await.len(), 4);
    let after = after_crash(&rig, &[]).await;
    assert_eq!(story(&after, 6).await.last().unwrap(), "room.closed");
    let entries = entries(&after).await;
    let ends: Vec<_> = entries[4..].iter().map(|entry| &entry["at"]).collect();
    assert_eq!(ends, [&json!(moment(90)), &json!(moment(100))]);
}

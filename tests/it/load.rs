//! The load generator against a real server: what it measures elsewhere is right here,
//! where what must come out is known.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use voice_room_load::{
    Access, Meter, Server, Stage, Target,
    media::{Engine, Options},
    plan::{Outcome, Plan},
    scenario::{
        media,
        signalling::{self, Consume},
    },
};

/// A server in development mode without plugins.
struct Running {
    process: Child,
    url: String,
    _dir: TempDir,
}

impl Running {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("voice-room.toml");
        std::fs::write(&config, "plugins = []\n").unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_voice-room"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--data-dir")
            .arg(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.split_whitespace().last().unwrap().to_owned();
        Self {
            process,
            url,
            _dir: dir,
        }
    }

    async fn stage(&self, access: Access, verify: u64) -> Arc<Stage> {
        let server = Server::resolve(&self.url, access, false).await.unwrap();
        let options = Options { threads: 1, verify };
        Arc::new(Stage {
            target: Target::Server(server),
            engine: Engine::start(options).unwrap(),
            meter: Meter::default(),
            limit: Duration::from_secs(20),
            media_limit: Duration::from_secs(20),
            allow_remote: false,
            take_seats: false,
        })
    }

    fn plan(&self, rooms: usize, speakers: usize, listeners: usize, steady: u64) -> Plan {
        Plan {
            rooms,
            speakers,
            listeners,
            concurrency: 10,
            join_limit: Duration::from_secs(20),
            steady: Duration::from_secs(steady),
            settle: Duration::ZERO,
            server: Some(self.process.id()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn json(outcome: &Outcome) -> Value {
    serde_json::to_value(outcome).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listener_hears_every_speaker_and_no_packet_is_lost() {
    let server = Running::start();
    let stage = server.stage(Access::Development, 1).await;
    let plan = server.plan(1, 2, 4, 2);
    let outcome = media::run(&stage, &plan, "steady", server.url.clone())
        .await
        .unwrap();
    let json = json(&outcome);

    assert!(outcome.errors.is_empty(), "{json:#}");
    let hearing = outcome.hearing.as_ref().unwrap();
    assert_eq!((hearing.heard, hearing.expected), (8, 8), "{json:#}");
    assert!(hearing.seconds_until_all.unwrap() > 0.0);
    let forwarding = outcome.forwarding.as_ref().unwrap();
    // Two speakers, 50 packets a second, two seconds; a late timer may shift one or two.
    assert!((190..=215).contains(&forwarding.sent), "{json:#}");
    assert_eq!(forwarding.expected, forwarding.sent * 4);
    assert!(forwarding.received <= forwarding.expected, "{json:#}");
    assert!(forwarding.loss < 0.01, "{json:#}");
    assert_eq!(forwarding.not_verified, 0, "{json:#}");
    assert!(forwarding.verified >= forwarding.received, "{json:#}");
    let delay = forwarding.delay_ms.unwrap();
    assert_eq!(delay.count, forwarding.received);
    assert!(delay.p50 > 0.0 && delay.p50 < 1_000.0, "{json:#}");
    assert!(outcome.memory.unwrap().full > 1 << 20);
    let events = [
        ("connect", 6),
        ("room:join", 6),
        ("transport:create", 6),
        ("transport:connect", 6),
        ("audio:produce", 2),
        ("audio:consume", 8),
        ("consumer:resume", 8),
    ];
    for (event, count) in events {
        assert_eq!(json["eventsMs"][event]["count"], count, "{event}: {json:#}");
    }
    assert!(outcome.is_fine(0.01));
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_are_only_counted_are_counted_all_the_same() {
    let server = Running::start();
    let stage = server.stage(Access::Development, 50).await;
    let plan = server.plan(2, 1, 2, 2);
    let outcome = media::run(&stage, &plan, "steady", server.url.clone())
        .await
        .unwrap();
    let forwarding = outcome.forwarding.as_ref().unwrap();
    assert!(outcome.is_fine(0.01), "{:#}", json(&outcome));
    assert!(forwarding.verified < forwarding.received / 10);
    assert!(forwarding.verified >= 4 * 3, "the first three of each");
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_without_media_are_counted_and_producers_announced() {
    let server = Running::start();
    let stage = server.stage(Access::Development, 1).await;
    let plan = server.plan(2, 1, 3, 0);
    let outcome = signalling::run(&stage, &plan, Consume::All, server.url.clone())
        .await
        .unwrap();
    let json = json(&outcome);
    assert!(outcome.is_fine(0.0), "{json:#}");
    assert_eq!(json["eventsMs"]["audio:produce"]["count"], 2);
    assert_eq!(json["eventsMs"]["audio:consume"]["count"], 6);
    let operations = outcome.operations.unwrap();
    assert!(operations.announcements >= operations.announcements_expected);
    assert!(operations.consume_per_second.unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_an_error_with_the_servers_words() {
    let server = Running::start();
    let secret = Access::Secret("not the secret of this server, however long".to_owned());
    let stage = server.stage(secret, 1).await;
    let plan = server.plan(1, 1, 1, 0);
    let outcome = media::run(&stage, &plan, "storm", server.url.clone())
        .await
        .unwrap();
    assert_eq!(outcome.errors["connect: Invalid credentials"], 2);
    assert_eq!(outcome.joining.failed, 1);
    assert!(!outcome.is_fine(1.0));
}

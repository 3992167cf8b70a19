//! `GET /ledger`, the operators' view of delivery, and the commands that use them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod cutting;
mod outside;

use std::{process::Command, sync::Arc, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use voice_room::{
    config::{self, Flags, LedgerConfig, SinkConfig, Sources},
    model::UserId,
    signal::{
        Faces,
        auth::Authenticator,
        http::{self, HttpState},
        ledger::Records,
    },
    sinks::Sinks,
    store::{Staged, Store, ledger::Seal},
    telemetry::Metrics,
};

use crate::{
    house::House,
    sinks::{
        LIMIT, LIMITS,
        receiver::{Receiver, Reply},
        webhook,
    },
};

/// A server's HTTP face, with a store that tests write to.
struct Api {
    dir: TempDir,
    store: Store,
    sinks: Sinks,
    url: String,
    admin: String,
    client: reqwest::Client,
    serving: JoinHandle<()>,
    _house: House,
}

impl Api {
    async fn open(keep: &LedgerConfig, configs: &[SinkConfig]) -> Self {
        let house = House::open().await;
        let config = config::resolve(&Sources {
            flags: Flags {
                dev: true,
                ..Flags::default()
            },
            file_text: None,
            environment: Vec::new(),
            cores: 1,
            plugins_dir: "plugins".into(),
        });
        let config = config.unwrap().config;
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::install().unwrap();
        let store = Store::open_with(dir.path(), keep, configs).unwrap();
        let sinks = Sinks::start(configs, &store).unwrap();
        let auth = Authenticator::new(&config.auth).unwrap();
        let admin = auth.issue(UserId(1), None, &["admin".to_owned()]).unwrap();
        let state = HttpState {
            faces: Arc::new(Faces::new(config, auth, house.rooms.clone(), Value::Null)),
            media: house.media.clone(),
            plugins: house.plugins.clone(),
            records: Records::new(&store, &sinks),
            metrics: Arc::new(metrics),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = http::routes(state);
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        drop(rustls::crypto::ring::default_provider().install_default());
        Self {
            dir,
            store,
            sinks,
            url,
            admin,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            serving,
            _house: house,
        }
    }

    async fn standard() -> Self {
        Self::open(&LedgerConfig::default(), &[SinkConfig::published()]).await
    }

    async fn publish(&self, numbers: impl IntoIterator<Item = u64>) {
        for n in numbers {
            publish(&self.store, n);
        }
        self.store.flush(LIMIT).await.unwrap();
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.get(format!("{}{path}", self.url));
        request.bearer_auth(&self.admin).timeout(LIMIT)
    }

    async fn ask(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.get(path).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.run_at(&self.url, arguments).await
    }

    async fn run_at(&self, url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voice-room"));
        command.args(arguments).args(["--url", url]);
        command.env("VOICE_ROOM_ADMIN_TOKEN", &self.admin);
        let done = tokio::task::spawn_blocking(move || command.output().unwrap());
        let done = done.await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn publish(store: &Store, n: u64) {
    let space = store.space("billing");
    let mut staged = Staged::default();
    let payload = json!({ "n": n }).to_string();
    staged
        .publish(&space, &LIMITS, "r", "billing.tick", &payload)
        .unwrap();
    space.apply(staged).unwrap();
}

async fn cut_up_to(store: &Store, seq: u64) {
    let mut extent = store.ledger().watch();
    let cut = extent.wait_for(|extent| extent.anchor.seq == seq);
    tokio::time::timeout(LIMIT, cut).await.unwrap().unwrap();
}

fn seqs(page: &Value) -> Vec<u64> {
    let entries = page["entries"].as_array().unwrap();
    entries.iter().map(|e| e["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_ledger_is_for_holders_of_the_role_admin() {
    let api = Api::standard().await;
    let url = format!("{}/ledger", api.url);
    let answer = api.client.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let asked = json!({ "userId": 2, "roles": ["member"] });
    let token = api
        .client
        .post(format!("{}/dev/token", api.url))
        .json(&asked);
    let token: Value = token.send().await.unwrap().json().await.unwrap();
    for path in ["/ledger", "/admin/sinks", "/admin/sinks/x/dead-letters"] {
        let url = format!("{}{path}", api.url);
        let request = api
            .client
            .get(&url)
            .bearer_auth(token["token"].as_str().unwrap());
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    // In development, whoever asks for the role has it.
    let asked = json!({ "userId": 2, "roles": ["admin"] });
    let token = api
        .client
        .post(format!("{}/dev/token", api.url))
        .json(&asked);
    let token: Value = token.send().await.unwrap().json().await.unwrap();
    let request = api
        .client
        .get(&url)
        .bearer_auth(token["token"].as_str().unwrap());
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_page_says_what_it_follows_and_where_the_next_one_begins() {
    let api = Api::standard().await;
    let (status, empty) = api.ask("/ledger").await;
    assert_eq!(status, StatusCode::OK);
    let start = json!({ "seq": 0, "hash": "0".repeat(64) });
    assert_eq!(empty, json!({ "entries": [], "next": 0, "anchor": start }));
    api.publish(0..5).await;
    let (_, page) = api.ask("/ledger?after=1&limit=2").await;
    assert_eq!((seqs(&page), &page["next"]), (vec![2, 3], &3.into()));
    let (_, first) = api.ask("/ledger?limit=1").await;
    assert_eq!(page["anchor"]["hash"], first["entries"][0]["hash"]);
    let entry = &page["entries"][0];
    assert_eq!(entry["topic"], "billing.tick");
    assert_eq!(entry["payload"], json!({ "n": 1 }));
    let members: Vec<_> = entry.as_object().unwrap().keys().cloned().collect();
    let all = "at hash id payload plugin producer room seq topic user";
    assert_eq!(members.join(" "), all);
}

#[tokio::test]
async fn what_cannot_be_given_out_is_said_with_a_code() {
    let keep = LedgerConfig {
        entries: 2,
        ..LedgerConfig::default()
    };
    let api = Api::open(&keep, &[SinkConfig::published()]).await;
    api.publish(0..10).await;
    cut_up_to(&api.store, 8).await;
    let (status, body) = api.ask("/ledger?after=7").await;
    assert_eq!(
        (status, &body["error"]),
        (StatusCode::GONE, &"LEDGER_GONE".into())
    );
    assert_eq!(body["details"]["first"], 9);
    assert_eq!(body["details"]["anchor"]["seq"], 8);
    let (status, page) = api.ask("/ledger?after=8").await;
    assert_eq!((status, seqs(&page)), (StatusCode::OK, vec![9, 10]));
    assert_eq!(page["anchor"], body["details"]["anchor"]);
    for after in ["11", "18446744073709551615"] {
        let (status, body) = api.ask(&format!("/ledger?after={after}&wait=5")).await;
        assert_eq!(
            (status, &body["error"]),
            (StatusCode::CONFLICT, &"LEDGER_AHEAD".into())
        );
        assert_eq!(body["details"]["last"], 10);
    }
    for wrong in ["after=x", "after=-1", "limit=x", "wait=1.5", "from=1"] {
        let (status, body) = api.ask(&format!("/ledger?{wrong}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
        assert_eq!(body["error"], "INVALID_PAYLOAD", "{wrong}");
    }
    // The rest verifies through the server, from its anchor on.
    let (code, out, problem) = api.run(&["ledger", "verify"]).await;
    assert_eq!(code, Some(0), "{problem}");
    assert!(out.contains("2 entries, 9 to 10, without a gap"), "{out}");
}

#[tokio::test]
async fn whoever_waits_is_answered_when_there_is_something_and_at_the_end() {
    let api = Api::standard().await;
    let waiting = tokio::spawn(api.get("/ledger?wait=30").send());
    publish(&api.store, 1);
    let page: Value = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(seqs(&page), [1]);
    let (_, page) = api.ask("/ledger?after=1&wait=1").await;
    assert_eq!((seqs(&page), &page["next"]), (vec![], &1.into()));
    let waiting = tokio::spawn(api.get("/ledger?after=1&wait=30").send());
    let began = std::time::Instant::now();
    api.sinks.stop(LIMIT).await;
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_reader_beside_many_publishers_gets_everything_once_and_in_order() {
    let api = Api::standard().await;
    let publishers: Vec<_> = (0..4)
        .map(|thread| {
            let store = api.store.clone();
            std::thread::spawn(move || (0..250).for_each(|n| publish(&store, thread * 1000 + n)))
        })
        .collect();
    let mut seal = Seal::START;
    let mut numbers = Vec::new();
    while numbers.len() < 1000 {
        let path = format!("/ledger?after={}&limit=70&wait=10", seal.seq);
        let request = api.get(&path).header("accept", "application/x-ndjson");
        let text = request.send().await.unwrap().text().await.unwrap();
        for line in text.lines() {
            seal = seal.check(line).unwrap();
            let entry: Value = serde_json::from_str(line).unwrap();
            numbers.push(entry["payload"]["n"].as_u64().unwrap());
        }
    }
    publishers
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(seal.seq, 1000);
    for thread in 0..4 {
        let own = numbers.iter().filter(|n| **n / 1000 == thread).copied();
        let expected: Vec<u64> = (0..250).map(|n| thread * 1000 + n).collect();
        assert_eq!(own.collect::<Vec<_>>(), expected);
    }
    let (code, out, problem) = api.run(&["ledger", "verify", "--json"]).await;
    assert_eq!(code, Some(0), "{problem}");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&found["holds"], &found["entries"]),
        (&true.into(), &1000.into())
    );
    assert_eq!(found["head"], json!(seal));
}

#[tokio::test]
async fn a_data_directory_is_verified_when_its_server_is_gone() {
    let api = Api::standard().await;
    api.publish(0..3).await;
    let verify = |dir: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voice-room"));
        command.args(["ledger", "verify", "--data-dir", dir]);
        let done = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    let path = api.dir.path().to_str().unwrap().to_owned();
    let (code, _, problem) = verify(&path);
    assert_eq!(code, Some(1));
    assert!(problem.contains("in use by a running server"), "{problem}");
    // A copy is as a crash would leave it.
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(
        api.dir.path().join("plugins.redb"),
        copy.path().join("plugins.redb"),
    )
    .unwrap();
    let (code, out, problem) = verify(copy.path().to_str().unwrap());
    assert_eq!(code, Some(0), "{problem}");
    assert!(
        out.starts_with("The ledger holds: 3 entries, 1 to 3"),
        "{out}"
    );
    // Without the database's own check sums, which would find it too.
    drop(Store::open(copy.path()).unwrap());
    let file = copy.path().join("plugins.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let (from, to) = (b"{\"n\":1}", b"{\"n\":7}");
    let places: Vec<_> = (0..bytes.len() - from.len())
        .filter(|&place| bytes[place..].starts_with(from))
        .collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    std::fs::write(&file, bytes).unwrap();
    let (code, out, _) = verify(copy.path().to_str().unwrap());
    assert_eq!(code, Some(1));
    assert!(out.contains("THE LEDGER DOES NOT HOLD: entry 2"), "{out}");
}

#[tokio::test]
async fn dead_letters_are_listed_retried_and_dropped_from_the_command_line() {
    let receiver = Receiver::open(|_| Reply::Status(422)).await;
    let sinks = [SinkConfig::published(), webhook("hook", &receiver.url())];
    let api = Api::open(&LedgerConfig::default(), &sinks).await;
    api.publish(0..3).await;
    let letters = async |number: u64| {
        let reached = async {
            loop {
                let (_, body) = api.ask("/admin/sinks").await;
                if body["sinks"][1]["deadLetters"] == number {
                    return body;
                }
            }
        };
        tokio::time::timeout(LIMIT, reached).await.unwrap()
    };
    let body = letters(3).await;
    assert_eq!(body["store"]["state"], "durable");
    assert_eq!(body["ledger"]["entries"], 3);
    let (code, out, problem) = api.run(&["outbox", "list"]).await;
    assert_eq!(code, Some(0), "{problem}");
    assert!(out.contains("hook       webhook"), "{out}");
    assert!(
        out.contains("Dead letters of hook:") && out.contains("answered 422"),
        "{out}"
    );

    let (code, out, problem) = api.run(&["outbox", "drop", "hook", "2"]).await;
    assert_eq!(
        (code, &*out),
        (Some(0), "hook: 1 dead letter dropped\n"),
        "{problem}"
    );
    let (code, out, _) = api.run(&["outbox", "list", "hook", "--json"]).await;
    let listed: Value = serde_json::from_str(&out).unwrap();
    let listed = listed["deadLetters"]["hook"]["letters"]
        .as_array()
        .unwrap()
        .clone();
    let listed: Vec<_> = listed
        .iter()
        .map(|letter| letter["entry"]["seq"].clone())
        .collect();
    assert_eq!((code, listed), (Some(0), vec![json!(1), json!(3)]));

    receiver.behaves(|_| Reply::Status(200));
    let (code, out, problem) = api.run(&["outbox", "retry", "hook", "--all"]).await;
    assert_eq!(code, Some(0), "{problem}");
    assert_eq!(out, "hook: 2 dead letters will be delivered again\n");
    letters(0).await;

    for (arguments, said) in [
        (["outbox", "drop", "hook", "2"], "has no dead letter 2"),
        (
            ["outbox", "retry", "other", "--all"],
            "there is no sink `other`",
        ),
    ] {
        let (code, out, problem) = api.run(&arguments).await;
        assert_eq!((code, &*out), (Some(1), ""));
        assert!(problem.contains(said), "{problem}");
    }
    for body in [
        json!({}),
        json!({ "all": true, "seqs": [1] }),
        json!({ "seqs": [] }),
    ] {
        let url = format!("{}/admin/sinks/hook/dead-letters/drop", api.url);
        let request = api.client.post(url).bearer_auth(&api.admin).json(&body);
        let status = request.send().await.unwrap().status();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn readiness_and_metrics_tell_of_the_store_the_ledger_and_the_sinks() {
    let receiver = Receiver::open(|_| Reply::Status(422)).await;
    let api = Api::open(
        &LedgerConfig::default(),
        &[webhook("told", &receiver.url())],
    )
    .await;
    api.publish(0..2).await;
    for path in ["/ready", "/health"] {
        let (status, body) = api.ask(path).await;
        assert_eq!(
            (status, &body["store"]),
            (StatusCode::OK, &json!({ "state": "durable" })),
            "{path}"
        );
    }
    let seen = async {
        loop {
            let text = api
                .get("/metrics")
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap();
            // Other tests' stores write the gauges without a label too.
            let all = [
                "voice_room_store_durable ",
                "voice_room_ledger_entries ",
                "voice_room_ledger_last_seq ",
                "voice_room_sink_lag_entries{sink=\"told\"} 0",
                "voice_room_sink_deliveries_total{sink=\"told\"} 0",
                "voice_room_sink_failures_total{sink=\"told\"} 2",
                "voice_room_sink_dead_letters{sink=\"told\"} 2",
                "voice_room_sink_request_seconds_count{sink=\"told\"} 2",
            ];
            if all.iter().all(|line| text.contains(line)) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, seen).await.unwrap();
}

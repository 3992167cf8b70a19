//! Who comes back to a room that was closed meanwhile, over Socket.IO by HTTP polling.

use std::{collections::VecDeque, sync::Arc};

use axum::Router;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tower::Layer as _;
use voice_room::{
    config::{self, Flags, LedgerConfig, Sources},
    model::UserId,
    room::RoomEnd,
    signal::{
        Faces,
        auth::Authenticator,
        http::{self, HttpState},
        ledger::Records,
        socketio,
    },
    sinks::Sinks,
    store::Store,
    telemetry::{Metrics, PARKED_SESSIONS},
};

use crate::{house::House, peer::LIMIT};

/// Between packets of one payload (Engine.IO 4).
const SEPARATOR: char = '\u{1e}';

/// A server with its faces.
struct Open {
    house: House,
    url: String,
    /// Of one user.
    token: String,
    metrics: Arc<Metrics>,
    serving: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Open {
    async fn start() -> Self {
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
        let store = Store::open_with(dir.path(), &LedgerConfig::default(), &[]).unwrap();
        let sinks = Sinks::start(&[], &store).unwrap();
        let auth = Authenticator::new(&config.auth).unwrap();
        let token = auth.issue(UserId(7), None, &[]).unwrap();
        let faces = Faces::new(config, auth, house.rooms.clone(), Value::Null);
        let faces = Arc::new(faces);
        let (layer, _) = socketio::layer(&faces);
        let metrics = Arc::new(Metrics::install().unwrap());
        let state = HttpState {
            faces,
            media: house.media.clone(),
            plugins: house.plugins.clone(),
            records: Records::new(&store, &sinks),
            metrics: Arc::clone(&metrics),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback_service(layer.layer(http::routes(state)));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        drop(rustls::crypto::ring::default_provider().install_default());
        Self {
            house,
            url,
            token,
            metrics,
            serving,
            _dir: dir,
        }
    }

    /// Waits until so many lost connections are waited for.
    async fn parked(&self, number: u64) {
        let line = format!("{PARKED_SESSIONS} {number}\n");
        let seen = async {
            while !self.metrics.render().contains(&line) {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, seen).await.unwrap();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One connection.
struct Client {
    http: reqwest::Client,
    url: String,
    /// What has come and was not asked for yet.
    packets: VecDeque<String>,
}

impl Client {
    async fn connect(server: &Open) -> Self {
        let mut client = Self {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            url: format!("{}/socket.io/?EIO=4&transport=polling", server.url),
            packets: VecDeque::new(),
        };
        let opened: Value = client.next("0").await;
        let session = opened["sid"].as_str().unwrap();
        client.url = format!("{}&sid={session}", client.url);
        let auth = json!({ "token": server.token });
        client.send(&format!("40{auth}")).await;
        client.next("40").await;
        client
    }

    async fn send(&self, packet: &str) {
        let request = self.http.post(&self.url).body(packet.to_owned());
        let answer = request.timeout(LIMIT).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// What follows the first packet that begins so; those before it are passed over.
    async fn next(&mut self, start: &str) -> Value {
        loop {
            while let Some(packet) = self.packets.pop_front() {
                if let Some(rest) = packet.strip_prefix(start) {
                    return serde_json::from_str(rest).unwrap();
                }
            }
            let request = self.http.get(&self.url).timeout(LIMIT);
            let text = request.send().await.unwrap().text().await.unwrap();
            self.packets
                .extend(text.split(SEPARATOR).map(str::to_owned));
        }
    }

    /// The data of an answer that must be good.
    async fn ask(&mut self, event: &str, payload: Value) -> Value {
        self.send(&format!("421{}", json!([event, payload]))).await;
        let [answer] = &mut *self.next("431").await.as_array().unwrap().clone() else {
            panic!("one answer")
        };
        assert_eq!(answer["success"], true, "{answer}");
        answer["data"].take()
    }

    /// The next event: its name and what comes with it.
    async fn event(&mut self) -> Value {
        self.next("42").await
    }
}

#[tokio::test]
async fn who_comes_back_after_the_room_was_closed_hears_of_it_and_can_enter_anew() {
    let server = Open::start().await;
    let join = json!({ "roomId": "lost", "resumable": true });
    let mut lost = Client::connect(&server).await;
    let joined = lost.ask("room:join", join.clone()).await;
    // The transport is closed, and nobody has said goodbye.
    lost.send("1").await;
    server.parked(1).await;
    server.house.rooms.end_all(RoomEnd::WorkerDied);

    let mut back = Client::connect(&server).await;
    let resume = json!({ "token": joined["resume"]["token"], "lastSeq": 0 });
    let mut resumed = back.ask("room:resume", resume).await;
    resumed["resume"].take();
    let expected = json!({
        "roomId": "lost", "userId": 7, "transports": [], "producers": [], "consumers": [],
        "missed": 1, "resume": null,
    });
    assert_eq!(resumed, expected);
    let mut closed = back.event().await;
    assert!(closed[1]["timestamp"].take().is_u64(), "{closed}");
    let told = json!({ "roomId": "lost", "reason": "worker_died", "timestamp": null });
    assert_eq!(closed, json!(["room:closed", told, { "seq": 1 }]));
    server.parked(0).await;

    let again = back.ask("room:join", join).await;
    assert!(again["resume"]["token"].is_string(), "{again}");
}

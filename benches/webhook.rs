//! The policy of the plugin `seats` the usual way: the server posts each decision as JSON to
//! a web server of its own, another process on this machine, over one connection that stays
//! open. No network is in between, nothing waits on purpose, and the policy keeps its seats in
//! memory.
//!
//! Two such servers, each as its framework's first example has it: axum, which is this
//! program once more, and Node.js without a framework.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::post};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use voice_room::plugin::ProduceCall;

use crate::support::{Outcome, ROOM};

/// Has this program be the webhook in axum, and not a benchmark.
const SERVE: &str = "--serve-webhook";

/// Who has a seat, by room.
type Seats = Arc<Mutex<HashMap<String, HashSet<u64>>>>;

/// A web server in its process, and a client of it.
pub(crate) struct Webhook {
    server: Child,
    client: Client,
    url: String,
}

impl Webhook {
    /// Another process of this program.
    pub(crate) fn axum() -> Outcome<Self> {
        Self::start(Command::new(std::env::current_exe()?).arg(SERVE))
    }

    /// `None` where there is no Node.js.
    pub(crate) fn node() -> Option<Outcome<Self>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/webhook.mjs");
        let version = Command::new("node").arg("--version").output();
        version
            .is_ok()
            .then(|| Self::start(Command::new("node").arg(script).arg(ROOM)))
    }

    /// The command's first line is the port that it listens on.
    fn start(command: &mut Command) -> Outcome<Self> {
        let mut server = command.stdout(Stdio::piped()).spawn()?;
        let output = server.stdout.take().ok_or("no output")?;
        let mut port = String::new();
        BufReader::new(output).read_line(&mut port)?;
        // There can be only one, and it may be there already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
        Ok(Self {
            server,
            client,
            url: format!("http://127.0.0.1:{}/before-produce", port.trim()),
        })
    }

    /// How long a decision takes: JSON, the way there and back, and JSON.
    pub(crate) async fn ask(&self, call: &ProduceCall) -> Outcome<Duration> {
        let began = Instant::now();
        let answer = self.client.post(&self.url).json(call).send().await?;
        let decision: Value = answer.error_for_status()?.json().await?;
        let took = began.elapsed();
        match decision.get("verdict").and_then(Value::as_str) {
            Some("allow") => Ok(took),
            _ => Err(format!("refused: {decision}").into()),
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// Serves the webhook, if this process is for that.
pub(crate) fn serve_if_asked() -> Option<Outcome<()>> {
    std::env::args()
        .any(|argument| argument == SERVE)
        .then(serve)
}

fn serve() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        let seats = HashMap::from([(ROOM.to_owned(), HashSet::from([7]))]);
        let app = Router::new()
            .route("/before-produce", post(decide))
            .with_state(Arc::new(Mutex::new(seats)));
        use axum::serve::ListenerExt;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        Ok(axum::serve(listener, app).await?)
    })
}

async fn decide(State(seats): State<Seats>, Json(call): Json<ProduceCall>) -> Json<Value> {
    let user = call.participant.user.id.0;
    let seated = seats.lock().is_ok_and(|seats| {
        let room = seats.get(call.room.id.as_str());
        room.is_some_and(|seated| seated.contains(&user))
    });
    Json(if seated {
        json!({ "verdict": "allow" })
    } else {
        json!({ "verdict": "refuse", "code": "SEAT_REQUIRED", "message": "Take a seat first" })
    })
}

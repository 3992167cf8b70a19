//! The policy of the plugin `seats` the usual way: the server posts each decision as JSON to
//! a web server, here in the same process, on a thread of its own, over one connection that
//! stays open.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::post};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use voice_room::plugin::ProduceCall;

use crate::support::{Outcome, ROOM};

/// Who has a seat, by room.
type Seats = Arc<Mutex<HashMap<String, HashSet<u64>>>>;

/// A client of the webhook.
pub(crate) struct Webhook {
    sender: tokio::sync::Mutex<SendRequest<Full<Bytes>>>,
}

impl Webhook {
    /// Starts the web server and connects to it.
    pub(crate) async fn start() -> Outcome<Self> {
        let (told, address) = mpsc::channel();
        thread::Builder::new()
            .name("webhook".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(async {
                    let listener = TcpListener::bind("127.0.0.1:0").await?;
                    // Without a reader there is nobody to serve.
                    if told.send(listener.local_addr()?).is_err() {
                        return Ok(());
                    }
                    let seats = HashMap::from([(ROOM.to_owned(), HashSet::from([7]))]);
                    let app = Router::new()
                        .route("/before-produce", post(decide))
                        .with_state(Arc::new(Mutex::new(seats)));
                    use axum::serve::ListenerExt;
                    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
                    axum::serve(listener, app).await
                })
            })?;
        let stream = TcpStream::connect(address.recv()?).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            sender: tokio::sync::Mutex::new(sender),
        })
    }

    /// How long a decision takes: JSON, the way there and back, and JSON.
    pub(crate) async fn ask(&self, call: &ProduceCall) -> Outcome<Duration> {
        let began = Instant::now();
        let request = Request::post("/before-produce")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(call)?)))?;
        let mut sender = self.sender.lock().await;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let body = response.into_body().collect().await?.to_bytes();
        let decision: Value = serde_json::from_slice(&body)?;
        let took = began.elapsed();
        match decision.get("verdict").and_then(Value::as_str) {
            Some("allow") => Ok(took),
            _ => Err(format!("refused: {decision}").into()),
        }
    }
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

//! A client of Socket.IO 4 over WebSocket: one connection, requests with
//! acknowledgements, and events.
//!
//! Made here because the published client crate is not maintained, and because a load
//! client wants little: no reconnecting, no polling, no binary, and the time at which
//! each answer came, taken where it came.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error as WsError, Message, Utf8Bytes},
};

use crate::{error::StepError, server::Server};

/// Requests that may wait to be sent on one connection.
const QUEUE: usize = 64;

/// Told of each event: its name, its first argument as JSON, and when it came. Called in
/// the connection's task, so it must be quick.
pub type OnEvent = Arc<dyn Fn(&str, &str, std::time::Instant) + Send + Sync>;

type Socket = WebSocketStream<TcpStream>;

/// One connection. Dropping it closes the connection without a word.
#[derive(Debug)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

struct Request {
    event: &'static str,
    /// The packet's JSON: the event's name and its argument.
    body: String,
    answer: oneshot::Sender<Answer>,
}

/// An acknowledgement, and how long it took.
#[derive(Debug)]
pub(crate) struct Answer {
    /// A JSON list of its arguments.
    pub(crate) text: String,
    pub(crate) took: Duration,
}

impl Client {
    /// Connects with this token.
    ///
    /// # Errors
    /// If the server cannot be reached, refuses the connection or is late.
    pub(crate) async fn connect(
        server: &Server,
        token: &str,
        on_event: OnEvent,
        limit: Duration,
    ) -> Result<Self, StepError> {
        let event = "connect";
        let opening = open(server, token);
        let socket = timeout(limit, opening)
            .await
            .map_err(|_| StepError::TimedOut { event, limit })??;
        let (requests, incoming) = mpsc::channel(QUEUE);
        let connection = Connection {
            socket,
            on_event,
            waiting: HashMap::new(),
            next: 0,
        };
        Ok(Self {
            requests,
            task: tokio::spawn(connection.run(incoming)),
        })
    }

    /// Asks for something. `body` is the event's name and its argument, as a JSON list.
    pub(crate) async fn call(
        &self,
        event: &'static str,
        body: String,
        limit: Duration,
    ) -> Result<Answer, StepError> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            event,
            body,
            answer,
        };
        let ended = |_| StepError::Connection(format!("{event}: the connection has ended"));
        let exchange = async {
            self.requests.send(request).await.map_err(|_| ended(()))?;
            answered.await.map_err(|_| ended(()))
        };
        timeout(limit, exchange)
            .await
            .map_err(|_| StepError::TimedOut { event, limit })?
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn broken(error: &WsError) -> StepError {
    StepError::Connection(error.to_string())
}

/// Engine.IO's handshake and Socket.IO's, each one packet there and one back.
async fn open(server: &Server, token: &str) -> Result<Socket, StepError> {
    let stream = server.connect().await?;
    let url = format!(
        "ws://{}/socket.io/?EIO=4&transport=websocket",
        server.authority()
    );
    let (mut socket, _) = client_async(url, stream)
        .await
        .map_err(|why| broken(&why))?;
    let opened = next_text(&mut socket).await?;
    if !opened.starts_with('0') {
        return Err(unexpected(&opened));
    }
    let hello = format!("40{}", json!({ "token": token }));
    let sent = socket.send(Message::text(hello)).await;
    sent.map_err(|why| broken(&why))?;
    loop {
        let packet = next_text(&mut socket).await?;
        if packet == "2" {
            let sent = socket.send(Message::text("3")).await;
            sent.map_err(|why| broken(&why))?;
        } else if packet.starts_with("40") {
            return Ok(socket);
        } else {
            return Err(refused(&packet));
        }
    }
}

async fn next_text(socket: &mut Socket) -> Result<Utf8Bytes, StepError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Close(_))) | None => {
                return Err(StepError::Connection("closed by the server".to_owned()));
            }
            Some(Ok(_)) => {}
            Some(Err(why)) => return Err(broken(&why)),
        }
    }
}

fn unexpected(packet: &str) -> StepError {
    StepError::Malformed {
        event: "connect",
        problem: packet.chars().take(80).collect(),
    }
}

/// `44{"message":…}` is the server's word; anything else is not of the protocol.
fn refused(packet: &str) -> StepError {
    #[derive(Deserialize)]
    struct ConnectError {
        message: String,
    }
    let body = packet.strip_prefix("44");
    match body.and_then(|body| serde_json::from_str::<ConnectError>(body).ok()) {
        Some(ConnectError { message }) => StepError::Refused {
            event: "connect",
            error: message,
            code: None,
        },
        None => unexpected(packet),
    }
}

/// The task's side of a connection.
struct Connection {
    socket: Socket,
    on_event: OnEvent,
    waiting: HashMap<u64, (Instant, oneshot::Sender<Answer>)>,
    next: u64,
}

impl Connection {
    /// Runs until either side ends it. Requests that still wait then learn it, because
    /// their answers' senders are dropped.
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            let done = tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.send(request).await,
                    None => return,
                },
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(packet))) => self.take(&packet).await,
                    Some(Ok(Message::Close(_))) | None => return,
                    Some(Ok(_)) => Ok(()),
                    Some(Err(why)) => Err(why),
                },
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn send(&mut self, request: Request) -> Result<(), WsError> {
        let id = self.next;
        self.next += 1;
        let packet = format!("42{id}{}", request.body);
        debug_assert!(request.body.contains(request.event));
        self.waiting.insert(id, (Instant::now(), request.answer));
        self.socket.send(Message::text(packet)).await
    }

    async fn take(&mut self, packet: &str) -> Result<(), WsError> {
        if packet == "2" {
            return self.socket.send(Message::text("3")).await;
        }
        if let Some(ack) = packet.strip_prefix("43") {
            self.answer(ack);
        } else if let Some((name, argument)) = packet.strip_prefix("42").and_then(event) {
            (self.on_event)(name, argument, std::time::Instant::now());
        } else if packet.starts_with("41") {
            return Err(WsError::ConnectionClosed);
        }
        Ok(())
    }

    fn answer(&mut self, ack: &str) {
        let Some(at) = ack.find('[') else { return };
        let (id, text) = ack.split_at(at);
        let waiting = id.parse().ok().and_then(|id| self.waiting.remove(&id));
        if let Some((sent, answer)) = waiting {
            let took = sent.elapsed();
            // Who asked may have stopped waiting.
            drop(answer.send(Answer {
                text: text.to_owned(),
                took,
            }));
        }
    }
}

/// Name and first argument of `["name",{…}]`: names need no unescaping, and most events
/// are of no interest, so nothing is parsed here.
fn event(body: &str) -> Option<(&str, &str)> {
    let body = body.trim_start_matches(|one: char| one.is_ascii_digit());
    let (name, rest) = body.strip_prefix("[\"")?.split_once('"')?;
    let argument = rest.strip_suffix(']')?;
    Some((name, argument.strip_prefix(',').unwrap_or("null")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_split_without_being_parsed() {
        assert_eq!(event("[\"a:b\",{\"c\":[1]}]"), Some(("a:b", "{\"c\":[1]}")));
        assert_eq!(event("12[\"a\",1]"), Some(("a", "1")));
        assert_eq!(event("[\"a\"]"), Some(("a", "null")));
        assert_eq!(event("[]"), None);
    }

    #[test]
    fn a_refused_connection_says_what_the_server_says() {
        let error = refused("44{\"message\":\"Invalid credentials\"}");
        assert_eq!(error.to_string(), "connect: Invalid credentials");
        assert!(matches!(refused("1"), StepError::Malformed { .. }));
    }
}

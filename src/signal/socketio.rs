//! The Socket.IO face. Each connection is one session task that answers its
//! requests one after the other, in the order in which they came, and, while
//! in a room, one task that passes the room's events on.

mod dialect;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use socketioxide::{
    SendError, SocketError, SocketIo,
    extract::{AckSender, Event as EventName, SocketRef, TryData},
    handler::{ConnectHandler, FromMessageParts, Value as RawValue},
    layer::SocketIoLayer,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tracing::{debug, warn};

use self::dialect::Dialect;
use super::{
    SharedFaces,
    auth::{self, AuthError, Identity},
    denial::Denial,
    gate::{self, Gate, Turned},
    request::{self, ClientEvent},
    session::Session,
    wire,
};
use crate::{
    model::{RoomId, UnixMs},
    room::{Departure, Inbox},
};

/// Requests of one connection that may wait; more are over its budget.
const WAITING_REQUESTS: usize = 256;
/// Packets that may wait in the socket below: room for the answers to all that a
/// client may ask at once, many times over. One who fills it takes no answers.
const SOCKET_BUFFER: usize = 4_096;
/// How long a client may leave its socket full before it is disconnected.
const FULL_SOCKET_LIMIT: Duration = Duration::from_secs(10);
/// How long the last events of a room that was left may take to go out.
const HEAR_OUT_LIMIT: Duration = Duration::from_secs(1);
const FULL_SOCKET_PAUSE: Duration = Duration::from_millis(10);

/// Builds the layer that serves `/socket.io`, and the handle to speak to everyone.
#[must_use]
pub fn layer(faces: &SharedFaces) -> (SocketIoLayer, SocketIo) {
    let limits = &faces.config.sessions;
    let readable = gate::readable(limits);
    let (layer, io) = SocketIo::builder()
        .ping_interval(limits.ping_interval)
        .ping_timeout(limits.ping_timeout)
        .ws_max_message_size(readable)
        .ws_max_frame_size(readable)
        .max_payload(u64::try_from(readable).unwrap_or(u64::MAX))
        .max_buffer_size(SOCKET_BUFFER)
        .build_layer();
    let faces = Arc::clone(faces);
    // Everything is registered before the connect packet is sent: a quick
    // client's first event must not arrive before its handler.
    let admit = async move |socket: SocketRef, TryData(auth): TryData<Value>| {
        let auth = auth.ok();
        let identity = authenticate(&faces, &socket, auth.as_ref())?;
        prepare(&faces, &socket, identity, Dialect::of(auth.as_ref()));
        Ok::<(), Refused>(())
    };
    // The session itself starts with the connection: one that breaks before
    // leaves nothing behind.
    io.ns("/", connected.with(admit));
    (layer, io)
}

/// Why a connection is refused; the message of the client's `connect_error`.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Token(#[from] AuthError),
    #[error("Origin not allowed")]
    Origin,
}

fn authenticate(
    faces: &SharedFaces,
    socket: &SocketRef,
    auth: Option<&Value>,
) -> Result<Identity, Refused> {
    let headers = &socket.req_parts().headers;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if !faces.origin_allowed(header("origin"), header("host")) {
        return Err(Refused::Origin);
    }
    let from_header = header("authorization").and_then(auth::bearer);
    let token = auth
        .and_then(|auth| auth.get("token"))
        .and_then(Value::as_str)
        .or(from_header);
    let identity = faces.auth.verify(token.unwrap_or_default())?;
    Ok(identity)
}

/// One request as it came in.
struct Incoming {
    event: String,
    payload: Option<Value>,
    ack: AckSender,
}

/// Size of a frame, known before anything else is read from it.
struct FrameSize(usize);

impl<A: socketioxide::adapter::Adapter> FromMessageParts<A> for FrameSize {
    type Error = std::convert::Infallible;

    fn from_message_parts(
        _: &Arc<socketioxide::socket::Socket<A>>,
        value: &mut RawValue,
        _: &Option<i64>,
    ) -> Result<Self, Self::Error> {
        Ok(Self(match value {
            RawValue::Str(text, binaries) => {
                text.len()
                    + binaries
                        .iter()
                        .flatten()
                        .map(bytes::Bytes::len)
                        .sum::<usize>()
            }
            RawValue::Bytes(bytes) => bytes.len(),
        }))
    }
}

/// What [`prepare`] leaves for [`connected`].
#[derive(Clone)]
struct Prepared(Arc<Mutex<Option<Start>>>);

/// A session, its requests, and the end of its connection.
type Start = (Connection, mpsc::Receiver<Incoming>, oneshot::Receiver<()>);

fn prepare(faces: &SharedFaces, socket: &SocketRef, identity: Identity, dialect: Dialect) {
    let gate = Arc::new(Gate::new(&faces.config.sessions));
    let (requests, waiting) = mpsc::channel(WAITING_REQUESTS);
    // Runs where the frame was read and only queues, so order is kept.
    let receive = move |socket: SocketRef,
                        FrameSize(size): FrameSize,
                        EventName(event): EventName,
                        TryData(payload): TryData<Value>,
                        ack: AckSender| {
        let incoming = Incoming {
            event,
            payload: payload.ok(),
            ack,
        };
        if let Err(turned) = gate.admit(size) {
            turn_away(&socket, incoming, turned, dialect);
        } else if let Err(behind) = requests.try_send(incoming) {
            turn_away(&socket, behind.into_inner(), gate::over_budget(), dialect);
        }
        std::future::ready(())
    };
    socket.on_fallback(receive);
    let (ended, end) = oneshot::channel::<()>();
    let ended = Ended(Arc::new(Mutex::new(Some(ended))));
    socket.extensions.insert(ended.clone());
    socket.on_disconnect(async move || drop(ended.0.lock().take()));
    let connection = Connection {
        session: Session::new(faces, identity),
        dialect,
        passing: None,
    };
    let start = (connection, waiting, end);
    let prepared = Prepared(Arc::new(Mutex::new(Some(start))));
    socket.extensions.insert(prepared);
}

async fn connected(socket: SocketRef) {
    let prepared = socket.extensions.remove::<Prepared>();
    let taken = prepared.and_then(|prepared| prepared.0.lock().take());
    if let Some((connection, waiting, end)) = taken {
        connection.run(socket, waiting, end).await;
    }
}

fn turn_away(socket: &SocketRef, incoming: Incoming, turned: Turned, dialect: Dialect) {
    let ends = matches!(turned, Turned::Oversize(_));
    let answer = dialect.answer(&incoming.event, Err(turned.into()));
    acknowledge(socket, incoming.ack, &answer);
    if ends {
        debug!(socket = %socket.id, "oversize frame: disconnected");
        end(socket);
    }
}

/// Answers, or ends the connection: no request is left without an answer.
fn acknowledge(socket: &SocketRef, ack: AckSender, answer: &Value) {
    if let Err(error) = ack.send(answer) {
        debug!(socket = %socket.id, %error, "answer not delivered: disconnected");
        end(socket);
    }
}

/// Ends the session of a socket when taken: its task then leaves the room.
#[derive(Clone)]
struct Ended(Arc<Mutex<Option<oneshot::Sender<()>>>>);

/// Marks a socket whose end is under way.
#[derive(Clone)]
struct Ending;

/// Ends the connection. A full socket gets a moment to make room for the
/// farewell; then its session ends without one, and the rest is left to TCP.
fn end(socket: &SocketRef) {
    if socket.extensions.insert(Ending).is_some() {
        return;
    }
    let socket = socket.clone();
    tokio::spawn(async move {
        let give_up = Instant::now() + FULL_SOCKET_LIMIT;
        while socket.clone().disconnect().is_err() && Instant::now() < give_up {
            tokio::time::sleep(FULL_SOCKET_PAUSE).await;
        }
        if let Some(ended) = socket.extensions.remove::<Ended>() {
            drop(ended.0.lock().take());
        }
    });
}

/// One connection.
struct Connection {
    session: Session,
    dialect: Dialect,
    /// Passes the room's events on.
    passing: Option<JoinHandle<()>>,
}

impl Connection {
    async fn run(
        mut self,
        socket: SocketRef,
        mut waiting: mpsc::Receiver<Incoming>,
        mut end: oneshot::Receiver<()>,
    ) {
        loop {
            tokio::select! {
                biased;
                _ = &mut end => return,
                incoming = waiting.recv() => match incoming {
                    Some(incoming) => self.answer(&socket, incoming).await,
                    None => return,
                },
            }
        }
    }

    async fn answer(&mut self, socket: &SocketRef, incoming: Incoming) {
        let Incoming {
            event,
            payload,
            ack,
        } = incoming;
        let started = Instant::now();
        // Events of plugins share one label: clients choose the names.
        let label = request::EVENTS
            .iter()
            .find(|one| **one == event)
            .map_or("plugin", |one| *one);
        let mut inbox = None;
        let result = match ClientEvent::parse(&event, payload.unwrap_or_default()) {
            Ok((room, asked)) => self.serve(&room, asked, &mut inbox).await,
            Err(invalid) => Err(invalid.into()),
        };
        self.session.record(label, started, &result);
        acknowledge(socket, ack, &self.dialect.answer(&event, result));
        // A newcomer hears of the room after the answer that describes it.
        if let Some(inbox) = inbox {
            self.passing = Some(tokio::spawn(pass_on(socket.clone(), inbox)));
        }
    }

    async fn serve(
        &mut self,
        room: &RoomId,
        asked: ClientEvent,
        inbox: &mut Option<Inbox>,
    ) -> Result<Option<Value>, Denial> {
        match asked {
            ClientEvent::Join => {
                let welcome = self.session.join(room).await?;
                let ice_servers = &self.session.faces().ice_servers;
                let (data, events) = wire::welcome(welcome, ice_servers);
                self.hear_out().await;
                *inbox = Some(events);
                Ok(Some(data))
            }
            ClientEvent::Leave => {
                self.session.leave(room)?;
                self.hear_out().await;
                Ok(None)
            }
            ClientEvent::InRoom(request) => {
                let reply = self.session.serve(room, request).await?;
                Ok(wire::data(reply, &self.session.faces().ice_servers))
            }
        }
    }

    /// Lets the last events of a room that was left go out before the answer:
    /// they do not name their room, so they must not be taken for the next one's.
    async fn hear_out(&mut self) {
        if let Some(mut passing) = self.passing.take()
            && tokio::time::timeout(HEAR_OUT_LIMIT, &mut passing)
                .await
                .is_err()
        {
            passing.abort();
        }
    }
}

/// Passes a room's events on until the room or the connection ends.
async fn pass_on(socket: SocketRef, mut inbox: Inbox) {
    while let Some(event) = inbox.next().await {
        let Some((name, payload)) = wire::event(&event) else {
            continue;
        };
        if !emit(&socket, &name, &payload).await {
            return;
        }
    }
    match inbox.end() {
        Some(Departure::Kicked(reason)) => {
            emit(
                &socket,
                "auth:force_disconnect",
                &json!({ "reason": reason }),
            )
            .await;
            end(&socket);
        }
        Some(Departure::TooSlow) => {
            warn!(socket = %socket.id, "client does not take its events: disconnected");
            end(&socket);
        }
        Some(Departure::Left | Departure::Disconnected) | None => {}
    }
}

/// Emits an event, waiting a bounded time for room in the socket. `false` if
/// the connection has ended.
async fn emit(socket: &SocketRef, name: &str, payload: &Value) -> bool {
    let give_up = Instant::now() + FULL_SOCKET_LIMIT;
    loop {
        match socket.emit(name, payload) {
            Ok(()) => return true,
            Err(SendError::Socket(SocketError::InternalChannelFull))
                if Instant::now() < give_up =>
            {
                tokio::time::sleep(FULL_SOCKET_PAUSE).await;
            }
            Err(error) => {
                debug!(socket = %socket.id, %error, "event not delivered: disconnected");
                end(socket);
                return false;
            }
        }
    }
}

/// Tells every connection that the server is about to stop.
pub async fn announce_drain(io: &SocketIo, deadline: UnixMs) {
    let payload = json!({ "deadline": deadline });
    if let Err(error) = io.emit("server:draining", &payload).await {
        debug!(%error, "not everyone heard of the drain");
    }
}

//! The Socket.IO face. Each connection is one session task that answers its
//! requests one after the other, in the order in which they came, and, while
//! in a room, one task that passes the room's events on.

mod dialect;
mod ending;
mod passing;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use socketioxide::{
    SocketIo,
    extract::{AckSender, Event as EventName, SocketRef, TryData},
    handler::{ConnectHandler, FromMessageParts, Value as RawValue},
    layer::SocketIoLayer,
};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use self::{
    dialect::Dialect,
    ending::{End, end},
    passing::Passing,
};
use super::{
    SharedFaces,
    auth::{self, AuthError, Identity},
    denial::Denial,
    gate::{self, Gate, Turned},
    request::{self, ClientEvent, Resume},
    resume::{self, Claim, Held, Tape, Ticket},
    session::Session,
    wire,
};
use crate::model::{RoomId, UnixMs};

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
type Start = (Connection, mpsc::Receiver<Incoming>, oneshot::Receiver<End>);

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
    let end = ending::watch(socket);
    let connection = Connection {
        session: Session::new(faces, identity),
        dialect,
        passing: None,
        ticket: None,
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
        end(socket, End::Meant);
    }
}

/// Answers, or ends the connection: no request is left without an answer.
fn acknowledge(socket: &SocketRef, ack: AckSender, answer: &Value) {
    if let Err(error) = ack.send(answer) {
        debug!(socket = %socket.id, %error, "answer not delivered: disconnected");
        end(socket, End::Lost);
    }
}

/// One connection.
struct Connection {
    session: Session,
    dialect: Dialect,
    /// Passes the room's events on.
    passing: Option<Passing>,
    /// Lets another connection take the place over.
    ticket: Option<Ticket>,
}

impl Connection {
    async fn run(
        mut self,
        socket: SocketRef,
        mut waiting: mpsc::Receiver<Incoming>,
        mut end: oneshot::Receiver<End>,
    ) {
        loop {
            tokio::select! {
                biased;
                ended = &mut end => {
                    if matches!(ended, Ok(End::Lost | End::Removed)) && let Some(held) = self.let_go().await {
                        let stopping = self.session.faces().stopping();
                        tokio::spawn(resume::park(held, stopping));
                    }
                    return;
                }
                claim = resume::claimed(&mut self.ticket) => {
                    if self.hand_over(&socket, claim).await {
                        return;
                    }
                }
                incoming = waiting.recv() => match incoming {
                    Some(incoming) => self.answer(&socket, incoming).await,
                    None => return,
                },
            }
        }
    }

    /// Takes the place away from this connection, if it can be taken over.
    async fn let_go(&mut self) -> Option<Held> {
        let ticket = self.ticket.take()?;
        let tape = self.passing.take()?.stop().await?;
        let membership = self.session.take_place()?;
        Some(Held {
            ticket,
            membership,
            tape,
        })
    }

    /// Another connection of the same client wants the place, so this one is dead
    /// or not wanted any more. `false`: the claim was not good, and nothing changes.
    async fn hand_over(&mut self, socket: &SocketRef, claim: Claim) -> bool {
        let Some(held) = self.let_go().await else {
            return false;
        };
        match held.give(claim) {
            Some(Held {
                ticket,
                membership,
                tape,
            }) => {
                self.ticket = Some(ticket);
                self.session.put_back(membership);
                self.passing = Some(Passing::start(socket, tape));
                false
            }
            None => {
                debug!(socket = %socket.id, "another connection took its place: disconnected");
                end(socket, End::Meant);
                true
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
        let mut tape = None;
        let result = match ClientEvent::parse(&event, payload.unwrap_or_default()) {
            Ok(asked) => self.serve(asked, &mut tape).await,
            Err(invalid) => Err(invalid.into()),
        };
        self.session.record(label, started, &result);
        acknowledge(socket, ack, &self.dialect.answer(&event, result));
        // A newcomer hears of the room after the answer that describes it.
        if let Some(tape) = tape {
            self.passing = Some(Passing::start(socket, tape));
        }
    }

    /// Does what a client asks for. `tape`: what it is told from now on, if that
    /// has changed.
    async fn serve(
        &mut self,
        asked: ClientEvent,
        tape: &mut Option<Tape>,
    ) -> Result<Option<Value>, Denial> {
        match asked {
            ClientEvent::Join { room, resumable } => {
                let (data, entered) = self.join(&room, resumable).await?;
                *tape = Some(entered);
                Ok(Some(data))
            }
            ClientEvent::Resume(resume) => {
                let (data, entered) = self.resume(&resume).await?;
                *tape = Some(entered);
                Ok(Some(data))
            }
            ClientEvent::Leave(room) => {
                self.session.leave(&room)?;
                self.ticket = None;
                self.hear_out().await;
                Ok(None)
            }
            ClientEvent::InRoom(room, request) => {
                let reply = self.session.serve(&room, request).await?;
                Ok(wire::data(reply, &self.session.faces().ice_servers))
            }
        }
    }

    async fn join(&mut self, room: &RoomId, resumable: bool) -> Result<(Value, Tape), Denial> {
        let welcome = self.session.join(room).await?;
        self.ticket = resumable.then(|| self.session.ticket()).flatten();
        let ice_servers = &self.session.faces().ice_servers;
        let (mut data, inbox) = wire::welcome(welcome, ice_servers);
        wire::with_resume(&mut data, self.ticket.as_ref());
        self.hear_out().await;
        let tape = match &self.ticket {
            Some(ticket) => Tape::numbered(inbox, ticket.max_events(), wire::tells),
            None => Tape::plain(inbox),
        };
        Ok((data, tape))
    }

    async fn resume(&mut self, resume: &Resume) -> Result<(Value, Tape), Denial> {
        let Resume { token, last_seq } = resume;
        // To wait for oneself would take forever.
        if self.ticket.as_ref().is_some_and(|mine| mine.is(token)) {
            return Err(Denial::ResumeExpired);
        }
        let resumed = self.session.resume(token, *last_seq).await?;
        let data = wire::resumed(self.session.user().id, &resumed);
        self.ticket = resumed.ticket;
        self.hear_out().await;
        Ok((data, resumed.tape))
    }

    /// Lets the last events of a room that was left go out before the answer:
    /// they do not name their room, so they must not be taken for the next one's.
    async fn hear_out(&mut self) {
        if let Some(passing) = self.passing.take() {
            passing.hear_out().await;
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

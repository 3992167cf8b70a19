//! The Socket.IO face. Each connection is one session task that answers its
//! requests one after the other, in the order in which they came, and, while
//! in a room, one task that passes the room's events on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use governor::{Quota, RateLimiter};
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
use tracing::{debug, error, warn};

use super::{
    SharedFaces,
    auth::{self, AuthError, Identity},
    fields::Invalid,
    request::{self, Request},
    wire,
};
use crate::{
    model::{Refusal, RoomId, UnixMs, User},
    room::{Departure, Direction, Failure, Flow, Inbox, Membership, Reason},
    telemetry,
};

/// Requests of one connection that may wait; more are over its budget.
const WAITING_REQUESTS: usize = 256;
/// Packets that may wait in the socket below: room for the answers to all that a
/// client may ask at once, many times over. One who fills it takes no answers.
const SOCKET_BUFFER: usize = 4_096;
/// Frames up to this many times the limit are read, so that they can be counted
/// and explained; larger ones are cut off below, unread.
const READABLE_FRAMES: usize = 32;
/// How long a client may leave its socket full before it is disconnected.
const FULL_SOCKET_LIMIT: Duration = Duration::from_secs(10);
/// How long the last events of a room that was left may take to go out.
const HEAR_OUT_LIMIT: Duration = Duration::from_secs(1);
const FULL_SOCKET_PAUSE: Duration = Duration::from_millis(10);

/// Builds the layer that serves `/socket.io`, and the handle to speak to everyone.
#[must_use]
pub fn layer(faces: &SharedFaces) -> (SocketIoLayer, SocketIo) {
    let readable = faces
        .config
        .sessions
        .max_frame_bytes
        .saturating_mul(READABLE_FRAMES);
    let (layer, io) = SocketIo::builder()
        .ws_max_message_size(readable)
        .ws_max_frame_size(readable)
        .max_payload(u64::try_from(readable).unwrap_or(u64::MAX))
        .max_buffer_size(SOCKET_BUFFER)
        .build_layer();
    let faces = Arc::clone(faces);
    // Everything is registered before the connect packet is sent: a quick
    // client's first event must not arrive before its handler.
    let admit = async move |socket: SocketRef, TryData(auth): TryData<Value>| {
        let identity = authenticate(&faces, &socket, auth.ok().as_ref())?;
        prepare(&faces, &socket, identity);
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
type Start = (Session, mpsc::Receiver<Incoming>, oneshot::Receiver<()>);

fn prepare(faces: &SharedFaces, socket: &SocketRef, identity: Identity) {
    let limits = &faces.config.sessions;
    let max_frame = limits.max_frame_bytes;
    let quota = Quota::per_second(limits.event_budget_refill_per_second)
        .allow_burst(limits.event_budget_capacity);
    let budget = Arc::new(RateLimiter::direct(quota));
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
        if size > max_frame {
            refuse_frame(&socket, size, max_frame, incoming.ack);
        } else if budget.check().is_err() {
            refuse_over_budget(&socket, incoming.ack);
        } else if let Err(behind) = requests.try_send(incoming) {
            refuse_over_budget(&socket, behind.into_inner().ack);
        }
        std::future::ready(())
    };
    socket.on_fallback(receive);
    let (ended, end) = oneshot::channel::<()>();
    let ended = Ended(Arc::new(Mutex::new(Some(ended))));
    socket.extensions.insert(ended.clone());
    socket.on_disconnect(async move || drop(ended.0.lock().take()));
    let session = Session {
        faces: Arc::clone(faces),
        user: Arc::new(identity.user.clone()),
        identity,
        membership: None,
        passing: None,
    };
    socket.extensions.insert(Prepared(Arc::new(Mutex::new(Some((
        session, waiting, end,
    ))))));
}

async fn connected(socket: SocketRef) {
    let prepared = socket.extensions.remove::<Prepared>();
    let taken = prepared.and_then(|prepared| prepared.0.lock().take());
    if let Some((session, waiting, end)) = taken {
        session.run(socket, waiting, end).await;
    }
}

fn refuse_frame(socket: &SocketRef, size: usize, limit: usize, ack: AckSender) {
    metrics::counter!(telemetry::REFUSED_FRAMES, "reason" => "oversize").increment(1);
    debug!(socket = %socket.id, size, "oversize frame: disconnected");
    let invalid = Invalid::one(
        "",
        format!("a frame has at most {limit} bytes, this one {size}"),
    );
    acknowledge(socket, ack, &wire::failure(Refusal::from(invalid).into()));
    end(socket);
}

fn refuse_over_budget(socket: &SocketRef, ack: AckSender) {
    metrics::counter!(telemetry::REFUSED_FRAMES, "reason" => "rate").increment(1);
    acknowledge(
        socket,
        ack,
        &wire::failure(Refusal::new("RATE_LIMITED").into()),
    );
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
struct Session {
    faces: SharedFaces,
    identity: Identity,
    user: Arc<User>,
    membership: Option<Membership>,
    /// Passes the room's events on.
    passing: Option<JoinHandle<()>>,
}

impl Session {
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
        let request = Request::parse(&event, payload.unwrap_or_default());
        // Events of plugins share one label: clients choose the names.
        let label = request::EVENTS
            .iter()
            .find(|one| **one == event)
            .map_or("plugin", |one| *one);
        let mut inbox = None;
        let result = match request {
            Ok((room, request)) => self.serve(&event, &room, request, &mut inbox).await,
            Err(invalid) => Err(Refusal::from(invalid).into()),
        };
        let outcome = match &result {
            Ok(_) => "ok",
            Err(Failure::Refused(refusal)) => {
                debug!(user = %self.user.id, event, code = refusal.code, "refused");
                "refused"
            }
            Err(Failure::Media(error)) => {
                error!(user = %self.user.id, event, %error, "request failed");
                "failed"
            }
        };
        acknowledge(
            socket,
            ack,
            &result.map_or_else(wire::failure, wire::success),
        );
        // A newcomer hears of the room after the answer that describes it.
        if let Some(inbox) = inbox {
            self.passing = Some(tokio::spawn(pass_on(socket.clone(), inbox)));
        }
        metrics::histogram!(telemetry::REQUEST_SECONDS, "event" => label, "outcome" => outcome)
            .record(started.elapsed().as_secs_f64());
    }

    async fn serve(
        &mut self,
        event: &str,
        room: &RoomId,
        request: Request,
        inbox: &mut Option<Inbox>,
    ) -> Result<Option<Value>, Failure> {
        let place = match request {
            Request::Join => {
                let (data, events) = self.join(room).await?;
                *inbox = Some(events);
                return Ok(Some(data));
            }
            Request::Leave => return self.leave(room).await.map(|()| None),
            _ => self.place(room),
        };
        match request {
            Request::Join | Request::Leave => Ok(None),
            Request::CreateTransport(direction) => self.create_transport(place?, direction).await,
            Request::ConnectTransport(id, dtls) => {
                let id = id.ok_or(Reason::TransportNotFound);
                place?.connect_transport(id?, *dtls).await?;
                Ok(None)
            }
            Request::RestartIce(id) => {
                let place = place?;
                let ice = place
                    .restart_ice(id.ok_or(Reason::TransportNotFound)?)
                    .await?;
                Ok(Some(json!({ "iceParameters": ice })))
            }
            Request::Produce(transport, source, rtp) => {
                let place = place?;
                let transport = transport.ok_or(Reason::TransportNotFound)?;
                let id = place.produce(transport, source, *rtp).await?;
                Ok(Some(json!({ "id": id })))
            }
            Request::Consume(transport, producer, rtp) => {
                let place = place?;
                let transport = transport.ok_or(Reason::TransportNotFound)?;
                let producer = producer.ok_or(Reason::ProducerNotFound)?;
                let consumed = place.consume(transport, producer, *rtp).await?;
                Ok(Some(json!({
                    "id": consumed.id,
                    "producerId": producer,
                    "kind": "audio",
                    "rtpParameters": consumed.rtp_parameters,
                    "producerPaused": consumed.producer_paused,
                })))
            }
            Request::PauseConsumer(id, paused) => {
                let place = place.map_err(|_| Reason::RoomNotFound)?;
                let flow = place
                    .pause_consumer(id.ok_or(Reason::ConsumerNotFound)?, paused)
                    .await?;
                Ok((flow == Flow::Deferred).then(|| json!({ "deferred": true })))
            }
            Request::CloseConsumer(id) => {
                let place = place.map_err(|_| Reason::RoomNotFound)?;
                place.close_consumer(id.ok_or(Reason::ConsumerNotFound)?)?;
                Ok(None)
            }
            Request::SelfMute(id, muted) => {
                let place = place.map_err(|_| Reason::ProducerNotFound)?;
                place.self_mute(id.ok_or(Reason::ProducerNotFound)?, muted)?;
                Ok(None)
            }
            Request::CloseProducer(id) => {
                let place = place.map_err(|_| Reason::ProducerNotFound)?;
                place.close_producer(id.ok_or(Reason::ProducerNotFound)?)?;
                Ok(None)
            }
            Request::Command(payload) => match place {
                Ok(place) => match place.command(event, &payload).await {
                    Some(answer) => answer,
                    None => Err(Refusal::new("Unknown event").into()),
                },
                Err(reason) if self.faces.rooms.has_command(event) => Err(reason.into()),
                Err(_) => Err(Refusal::new("Unknown event").into()),
            },
        }
    }

    /// The session's place, if the room that the request names is its room.
    fn place(&self, room: &RoomId) -> Result<&Membership, Reason> {
        match &self.membership {
            Some(membership) if membership.room() == room => Ok(membership),
            _ => Err(Reason::NotInRoom),
        }
    }

    async fn join(&mut self, room: &RoomId) -> Result<(Value, Inbox), Failure> {
        if !self.identity.may_enter(room) {
            return Err(Reason::RoomNotAllowed.into());
        }
        let before = &mut self.membership;
        let mut joined = self.faces.rooms.join(room, &self.user, before).await?;
        let data = wire::joined(&mut joined, &self.faces.ice_servers);
        self.membership = Some(joined.membership);
        self.hear_out().await;
        Ok((data, joined.inbox))
    }

    async fn leave(&mut self, room: &RoomId) -> Result<(), Failure> {
        self.place(room)?;
        let left = self
            .membership
            .take()
            .filter(|membership| !membership.is_over());
        left.ok_or(Reason::NotInRoom)?.leave();
        self.hear_out().await;
        Ok(())
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

    async fn create_transport(
        &self,
        place: &Membership,
        direction: Direction,
    ) -> Result<Option<Value>, Failure> {
        let mut transport = place.create_transport(direction).await?;
        if let Some(fields) = transport.as_object_mut() {
            fields.insert("iceServers".to_owned(), self.faces.ice_servers.clone());
        }
        Ok(Some(transport))
    }
}

/// Passes a room's events on until the room or the connection ends.
async fn pass_on(socket: SocketRef, mut inbox: Inbox) {
    while let Some(event) = inbox.next().await {
        let (name, payload) = wire::event(&event);
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

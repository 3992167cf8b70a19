//! The raw WebSocket face: JSON text frames `{type, data?, requestId?}`. A socket
//! is one participant of one room, with one transport for both directions.

mod wire;

use std::time::Instant;

use axum::{
    extract::{Query, State, ws::WebSocketUpgrade},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::{debug, error, warn};

use self::wire::Frame;
use super::{
    SharedFaces,
    auth::{self, AuthError, Identity},
    denial::Denial,
    fields::{Fields, Invalid},
    line::{self, Close, Line},
    request::{self, ConsumerChange, Request},
    session::{Reply, Session},
};
use crate::{
    model::{ProducerId, RoomId, Source, TransportId, UnixMs},
    room::{Departure, Direction, Event, Failure, Inbox, Reason},
};

/// The room of clients that name none.
const DEFAULT_ROOM: &str = "lobby";

/// What stands behind the address.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    token: Option<String>,
    room: Option<String>,
}

/// Opens a socket. Whoever has no good token is told so by its close.
pub(super) async fn open(
    State(faces): State<SharedFaces>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if !faces.origin_allowed(header("origin"), header("host")) {
        return (StatusCode::FORBIDDEN, "Origin not allowed").into_response();
    }
    let token = parameters
        .token
        .as_deref()
        .or_else(|| header("authorization").and_then(auth::bearer));
    let identity = identify(&faces, token.unwrap_or_default());
    let room = RoomId::new(parameters.room.as_deref().unwrap_or(DEFAULT_ROOM));
    let limits = &faces.config.sessions;
    line::bounded(upgrade, limits).on_upgrade(async move |socket| {
        let line = Line::new(socket, &faces.config.sessions);
        match identity {
            Ok(identity) => enter(faces, line, identity, room).await,
            Err(refused) => {
                line.close(Close::Unauthenticated, &refused.to_string())
                    .await
            }
        }
    })
}

fn identify(faces: &SharedFaces, token: &str) -> Result<Identity, AuthError> {
    match faces.auth.verify(token) {
        Err(AuthError::Missing) if faces.config.auth.anonymous => {
            Identity::anonymous().map_err(|error| {
                error!(%error, "no id for an anonymous client");
                AuthError::Missing
            })
        }
        result => result,
    }
}

async fn enter(faces: SharedFaces, mut line: Line, identity: Identity, room: Option<RoomId>) {
    let Some(room) = room else {
        let problem = format!("room has 1 to {} characters", RoomId::MAX_CHARS);
        return line.close(Close::Forbidden, &problem).await;
    };
    let mut session = Session::new(&faces, identity);
    let started = Instant::now();
    let joined = session.join(&room).await.map_err(Denial::from);
    session.record("socket:open", started, &joined);
    match joined {
        Ok(welcome) => {
            let hello = wire::hello(session.user().id, &room, &welcome.snapshot);
            if line.send(&hello).await {
                let socket = Socket {
                    session,
                    room,
                    transport: None,
                };
                socket.run(line, welcome.inbox).await;
            }
        }
        Err(denial) => {
            let why = match &denial {
                Denial::Failed(Failure::Room(Reason::Draining) | Failure::Media(_)) => {
                    Close::TryAgain
                }
                _ => Close::Forbidden,
            };
            let error = wire::error(denial, None);
            if line.send(&error).await {
                let reason = error.get("data").and_then(Value::as_str);
                line.close(why, reason.unwrap_or_default()).await;
            }
        }
    }
}

/// One client in its room.
struct Socket {
    session: Session,
    room: RoomId,
    transport: Option<TransportId>,
}

impl Socket {
    async fn run(mut self, mut line: Line, mut inbox: Inbox) {
        let mut stopping = self.session.faces().stopping();
        loop {
            let going = tokio::select! {
                frame = line.next() => match frame {
                    Some(line::Frame::Text(text)) => self.answer(&mut line, &text).await,
                    Some(line::Frame::Binary) => line.send(&wire::unreadable()).await,
                    Some(line::Frame::OverBudget) => {
                        line.send(&wire::error(Denial::OverBudget, None)).await
                    }
                    Some(line::Frame::Oversize(invalid)) => {
                        line.send(&wire::error(invalid.into(), None)).await;
                        return line.close(Close::TooBig, "the frame is too large").await;
                    }
                    None => false,
                },
                event = inbox.next() => match event {
                    Some(event) => tell(&mut line, &event).await,
                    None => return farewell(line, &inbox).await,
                },
                () = stopping.wait() => {
                    return line.close(Close::GoingAway, "the server is stopping").await;
                }
            };
            if !going {
                return;
            }
        }
    }

    /// Answers a frame; `false` when the connection is over.
    async fn answer(&mut self, line: &mut Line, text: &str) -> bool {
        let started = Instant::now();
        let frame = match Frame::read(text) {
            Ok(frame) => frame,
            Err(unread) => return line.send(&unread).await,
        };
        let result = self.serve(&frame).await;
        self.session.record(frame.label(), started, &result);
        let request_id = frame.request_id.as_ref();
        match result {
            Ok(Some(answer)) => line.send(&answer.with(request_id)).await,
            Ok(None) => true,
            Err(Denial::UnknownEvent) => line.send(&wire::unknown(&frame)).await,
            Err(denial) => line.send(&wire::error(denial, request_id)).await,
        }
    }

    /// Does what a frame asks for: the answer, if it has one.
    async fn serve(&mut self, frame: &Frame) -> Result<Option<wire::Answer>, Denial> {
        let data = || Fields::of(frame.data.clone().unwrap_or_else(|| json!({})));
        let answer = match frame.kind.as_str() {
            "ping" => wire::Answer::pong(UnixMs::now()),
            "broadcast" => {
                let data = frame.data.clone().unwrap_or_default();
                self.ask(Request::Broadcast(data)).await?;
                return Ok(None);
            }
            "get-rtp-capabilities" => {
                let place = self.session.membership().filter(|place| !place.is_over());
                let place = place.ok_or(Reason::RoomNotFound)?;
                wire::Answer::of("rtp-capabilities", place.rtp_capabilities())
            }
            "create-transport" => self.create_transport().await?,
            "connect-transport" => {
                let mut fields = data()?;
                let dtls = request::dtls_parameters(&mut fields).ok_or_else(|| fields.invalid())?;
                self.ask(Request::ConnectTransport(self.transport, dtls))
                    .await?;
                wire::Answer::bare("transport-connected")
            }
            "produce" => {
                let mut fields = data()?;
                request::audio(&mut fields);
                let rtp = request::rtp_parameters(&mut fields).filter(|_| fields.is_valid());
                let rtp = rtp.ok_or_else(|| fields.invalid())?;
                let produce = Request::Produce(self.transport, Source::Mic, rtp);
                match self.ask(produce).await? {
                    Reply::Produced(id) => wire::Answer::of("produced", json!({ "id": id })),
                    _ => return Ok(None),
                }
            }
            "consume" => self.consume(data()?).await?,
            event => self.command(event, frame.data.clone()).await?,
        };
        Ok(Some(answer))
    }

    async fn ask(&self, request: Request) -> Result<Reply, Denial> {
        self.session.serve(&self.room, request).await
    }

    /// Makes the socket's transport; one that it has goes, with all that ran over it.
    async fn create_transport(&mut self) -> Result<wire::Answer, Denial> {
        if self.transport.take().is_some() {
            self.ask(Request::Release).await?;
        }
        let Reply::Transport(made) = self.ask(Request::CreateTransport(Direction::Both)).await?
        else {
            return Err(Reason::TransportNotFound.into());
        };
        let id = made.get("id").and_then(Value::as_str);
        self.transport = id.and_then(|id| id.parse().ok());
        let ice_servers = &self.session.faces().ice_servers;
        let made = super::wire::with_ice_servers(made, ice_servers);
        Ok(wire::Answer::of("transport-created", made))
    }

    /// Receives a producer, at once: this face has no resume.
    async fn consume(&self, mut fields: Fields) -> Result<wire::Answer, Denial> {
        let named = fields.optional_text("producerId");
        let rtp = request::rtp_capabilities(&mut fields).filter(|_| fields.is_valid());
        let rtp = rtp.ok_or_else(|| fields.invalid())?;
        let producer: Option<ProducerId> = match named {
            Some(id) => id.parse().ok(),
            None => self
                .session
                .membership()
                .and_then(|place| place.first_of_others()),
        };
        let consume = Request::Consume(self.transport, producer, Some(rtp));
        let Reply::Consumed(producer, consumed) = self.ask(consume).await? else {
            return Err(Reason::ProducerNotFound.into());
        };
        let resume = Request::Consumer(Some(consumed.id), ConsumerChange::Resume);
        self.ask(resume).await?;
        let data = json!({
            "id": consumed.id,
            "producerId": producer,
            "kind": "audio",
            "rtpParameters": consumed.rtp_parameters,
        });
        Ok(wire::Answer::of("consumed", data))
    }

    /// An event that a plugin registered: its data and the room are the payload.
    async fn command(&self, event: &str, data: Option<Value>) -> Result<wire::Answer, Denial> {
        if !self.session.faces().rooms.has_command(event) {
            return Err(Denial::UnknownEvent);
        }
        let mut payload = match data {
            None => Map::new(),
            Some(Value::Object(payload)) => payload,
            Some(_) => return Err(Invalid::one("data", "must be an object").into()),
        };
        payload.insert("roomId".to_owned(), json!(self.room));
        let command = Request::Command(event.to_owned(), Value::Object(payload));
        match self.ask(command).await? {
            Reply::Plugin(Some(answer)) => Ok(wire::Answer::of(event, answer)),
            _ => Ok(wire::Answer::bare(event)),
        }
    }
}

async fn tell(line: &mut Line, event: &Event) -> bool {
    match wire::event(event) {
        Some(told) => line.send(&told).await,
        None => true,
    }
}

/// The room has let go of the client: says why.
async fn farewell(mut line: Line, inbox: &Inbox) {
    match inbox.end() {
        Some(Departure::Kicked(reason)) => {
            if line.send(&wire::removed(reason)).await {
                line.close(Close::Forbidden, reason).await;
            }
        }
        Some(Departure::TooSlow) => {
            warn!("client does not take its events: disconnected");
            line.close(Close::TooSlow, "events were not taken").await;
        }
        Some(Departure::Left | Departure::Disconnected) | None => {
            debug!("the room of a raw WebSocket client has ended");
            line.close(Close::GoingAway, "the room has ended").await;
        }
    }
}

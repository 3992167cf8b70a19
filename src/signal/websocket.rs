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
    resume::{self, Claim, Held, Tape, Ticket},
    session::{Reply, Resumed, Session},
};
use crate::{
    model::{ProducerId, RoomId, Source, TransportId, UnixMs, UserId},
    room::{Departure, Direction, Event, Failure, Reason},
};

/// The room of clients that name none.
const DEFAULT_ROOM: &str = "lobby";

/// What stands behind the address.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    token: Option<String>,
    room: Option<String>,
    /// `1` for a client that wants to be able to come back.
    #[serde(default)]
    resumable: String,
    /// The token of a client that comes back, to the room that it was in.
    resume: Option<String>,
    /// And the number of the last event that it has seen.
    #[serde(default, rename = "lastSeq")]
    last_seq: u64,
}

/// How a client comes in.
enum Way {
    Join(Option<RoomId>, bool),
    Resume { token: String, last_seq: u64 },
}

impl Parameters {
    /// `known`: whether the client has a name to come back by.
    fn way(self, known: bool) -> Way {
        match self.resume {
            Some(token) => Way::Resume {
                token,
                last_seq: self.last_seq,
            },
            None => Way::Join(
                RoomId::new(self.room.as_deref().unwrap_or(DEFAULT_ROOM)),
                known && self.resumable == "1",
            ),
        }
    }
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
        .or_else(|| header("authorization").and_then(auth::bearer))
        .unwrap_or_default();
    let identity = identify(&faces, token);
    // Without a token each connection is another user.
    let known = !token.is_empty();
    let way = parameters.way(known);
    let limits = &faces.config.sessions;
    line::bounded(upgrade, limits).on_upgrade(async move |socket| {
        let line = Line::new(socket, &faces.config.sessions);
        match identity {
            Ok(identity) => enter(faces, line, identity, way).await,
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

async fn enter(faces: SharedFaces, mut line: Line, identity: Identity, way: Way) {
    let started = Instant::now();
    let mut session = Session::new(&faces, identity);
    let (label, entered) = match way {
        Way::Join(None, _) => {
            let problem = format!("room has 1 to {} characters", RoomId::MAX_CHARS);
            return line.close(Close::Forbidden, &problem).await;
        }
        Way::Join(Some(room), resumable) => {
            let joined = join(&mut session, room, resumable).await;
            ("socket:open", joined)
        }
        Way::Resume { token, last_seq } => {
            let resumed = session.resume(&token, last_seq).await;
            let user = session.user().id;
            (
                "socket:resume",
                resumed.map(|one| Entered::again(user, one)),
            )
        }
    };
    session.record(label, started, &entered);
    match entered {
        Ok(Entered {
            hello,
            room,
            transport,
            tape,
            ticket,
        }) => {
            let socket = Socket {
                session,
                room,
                transport,
                tape,
                ticket,
            };
            socket.run(line, hello).await;
        }
        Err(denial) => {
            let why = match &denial {
                Denial::Failed(Failure::Room(Reason::Draining) | Failure::Media(_)) => {
                    Close::TryAgain
                }
                Denial::ResumeExpired | Denial::ResumeGap(_) => Close::Gone,
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

/// What a socket begins with.
struct Entered {
    /// The first frame.
    hello: Value,
    room: RoomId,
    transport: Option<TransportId>,
    tape: Tape,
    ticket: Option<Ticket>,
}

async fn join(session: &mut Session, room: RoomId, resumable: bool) -> Result<Entered, Denial> {
    let welcome = session.join(&room).await?;
    let ticket = resumable.then(|| session.ticket()).flatten();
    let user = session.user().id;
    let hello = wire::hello(user, &room, &welcome.snapshot, ticket.as_ref());
    let tape = match &ticket {
        Some(ticket) => Tape::numbered(welcome.inbox, ticket.max_events(), wire::tells),
        None => Tape::plain(welcome.inbox),
    };
    Ok(Entered {
        hello,
        room,
        transport: None,
        tape,
        ticket,
    })
}

impl Entered {
    fn again(user: UserId, resumed: Resumed) -> Self {
        Self {
            hello: wire::resumed(user, &resumed),
            transport: resumed.belongings.transports.first().copied(),
            room: resumed.room,
            tape: resumed.tape,
            ticket: resumed.ticket,
        }
    }
}

/// One client in its room.
struct Socket {
    session: Session,
    room: RoomId,
    transport: Option<TransportId>,
    tape: Tape,
    /// Lets another socket take the place over.
    ticket: Option<Ticket>,
}

impl Socket {
    async fn run(mut self, mut line: Line, hello: Value) {
        let mut stopping = self.session.faces().stopping();
        let mut going = line.send(&hello).await;
        while going {
            going = tokio::select! {
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
                    Some(line::Frame::Goodbye) => return,
                    None => false,
                },
                claim = resume::claimed(&mut self.ticket) => match self.hand_over(claim) {
                    Some(kept) => {
                        self = kept;
                        true
                    }
                    None => {
                        return line.close(Close::Gone, "another socket took the place").await;
                    }
                },
                event = self.tape.next() => match event {
                    Some((event, seq)) => {
                        let told = tell(&mut line, &event, seq).await;
                        if told {
                            self.tape.told();
                        }
                        told
                    }
                    None => {
                        // Where this does not arrive the client may come back to hear it.
                        farewell(line, self.tape.end()).await;
                        break;
                    }
                },
                () = stopping.wait() => {
                    return line.close(Close::GoingAway, "the server is stopping").await;
                }
            };
        }
        let Self {
            mut session,
            tape,
            ticket,
            ..
        } = self;
        if let (Some(ticket), Some(membership)) = (ticket, session.take_place()) {
            let held = Held {
                ticket,
                membership,
                tape,
            };
            tokio::spawn(resume::park(held, stopping));
        }
    }

    /// Another socket of the same client wants the place. The socket itself is what
    /// is left if the claim was not good.
    fn hand_over(mut self, claim: Claim) -> Option<Self> {
        let (ticket, membership) = (self.ticket.take()?, self.session.take_place()?);
        let held = Held {
            ticket,
            membership,
            tape: self.tape,
        };
        let held = held.give(claim)?;
        self.session.put_back(held.membership);
        Some(Self {
            tape: held.tape,
            ticket: Some(held.ticket),
            ..self
        })
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
            "restart-ice" => match self.ask(Request::RestartIce(self.transport)).await? {
                Reply::Ice(parameters) => {
                    let data = json!({ "iceParameters": parameters });
                    wire::Answer::of("ice-restarted", data)
                }
                _ => return Ok(None),
            },
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
        if let Err(denial) = self.ask(resume).await {
            // The client does not get to know its id, so that nobody could close it.
            let close = Request::Consumer(Some(consumed.id), ConsumerChange::Close);
            self.ask(close).await.ok();
            return Err(denial);
        }
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

async fn tell(line: &mut Line, event: &Event, seq: Option<u64>) -> bool {
    match wire::event(event) {
        Some(told) => line.send(&wire::numbered(told, seq)).await,
        None => true,
    }
}

/// The room has let go of the client: says why.
async fn farewell(mut line: Line, why: Option<&Departure>) {
    match why {
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

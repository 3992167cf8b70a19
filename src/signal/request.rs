//! What clients ask for, as typed requests, and how the Socket.IO face reads them.

use serde_json::Value;

use super::fields::{Fields, Invalid};
use crate::{
    media::{DtlsParameters, RtpCapabilities, RtpParameters, lenient},
    model::{ConnectedWhen, ConsumerId, ProducerId, RoomId, Source, TransportId},
    room::Direction,
};

/// What a client asks for in its room. An id that is no id at all is `None`: it
/// names nothing, like an unknown one.
#[derive(Debug)]
pub(super) enum Request {
    /// Nothing but to be there.
    Present,
    CreateTransport(Direction),
    /// The transport of this direction, made if it is not there yet; and when
    /// the call counts as connected, if the client says.
    OpenTransport(Direction, Option<ConnectedWhen>),
    ConnectTransport(Option<TransportId>, Box<DtlsParameters>),
    RestartIce(Option<TransportId>),
    Produce(Option<TransportId>, Source, Box<RtpParameters>),
    /// Without capabilities: with the router's.
    Consume(
        Option<TransportId>,
        Option<ProducerId>,
        Option<Box<RtpCapabilities>>,
    ),
    Consumer(Option<ConsumerId>, ConsumerChange),
    Producer(Option<ProducerId>, ProducerChange),
    /// What can be received.
    Producers,
    /// Everything that the client has goes; the client stays.
    Release,
    /// For all others, as it is.
    Broadcast(Value),
    /// For the plugin that registered the event, if one did.
    Command(String, Value),
}

/// What a client does to a stream that it receives.
#[derive(Clone, Copy, Debug)]
pub(super) enum ConsumerChange {
    Resume,
    Pause,
    Close,
}

/// What a client does to a stream that it sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProducerChange {
    Mute,
    Unmute,
    Close,
}

/// A Socket.IO client's event.
#[derive(Debug)]
pub(super) enum ClientEvent {
    Join {
        room: RoomId,
        /// Whether the client wants to be able to come back.
        resumable: bool,
    },
    Resume(Resume),
    Leave(RoomId),
    InRoom(RoomId, Request),
}

/// A client comes back.
#[derive(Debug)]
pub(super) struct Resume {
    /// As the join or the last resume answered it.
    pub(super) token: String,
    /// The number of the last event that the client has seen; 0: none.
    pub(super) last_seq: u64,
}

/// Events that the core answers itself.
pub(super) const EVENTS: [&str; 14] = [
    "room:join",
    "room:resume",
    "room:leave",
    "transport:create",
    "transport:connect",
    "transport:restartIce",
    "audio:produce",
    "audio:consume",
    "consumer:resume",
    "consumer:pause",
    "consumer:close",
    "audio:selfMute",
    "audio:selfUnmute",
    "producer:close",
];

impl ClientEvent {
    /// Reads an event's payload; every request names its room, or a token that does.
    pub(super) fn parse(event: &str, payload: Value) -> Result<Self, Invalid> {
        if !EVENTS.contains(&event) {
            return Self::command(event, payload);
        }
        let mut fields = Fields::of(payload)?;
        let read = match event {
            "room:resume" => resume(&mut fields).map(Self::Resume),
            _ => {
                let room = fields.room("roomId");
                Self::read(event, &mut fields, room)
            }
        };
        match read {
            Some(read) if fields.is_valid() => Ok(read),
            _ => Err(fields.invalid()),
        }
    }

    fn command(event: &str, payload: Value) -> Result<Self, Invalid> {
        // The plugin gets the payload whole; the core only needs to know the room.
        let mut fields = Fields::of(payload.clone())?;
        match fields.room("roomId") {
            Some(room) => {
                let request = Request::Command(event.to_owned(), payload);
                Ok(Self::InRoom(room, request))
            }
            None => Err(fields.invalid()),
        }
    }

    /// Reads everything but the room, so that all that is wrong is named.
    fn read(event: &str, fields: &mut Fields, room: Option<RoomId>) -> Option<Self> {
        let request = match event {
            "room:join" => {
                let resumable = fields.optional_flag("resumable");
                return Some(Self::Join {
                    room: room?,
                    resumable,
                });
            }
            "room:leave" => return Some(Self::Leave(room?)),
            "transport:create" => Request::CreateTransport(direction(fields)?),
            "transport:connect" => {
                let id = fields.id("transportId");
                let dtls = dtls_parameters(fields);
                Request::ConnectTransport(id?, dtls?)
            }
            "transport:restartIce" => Request::RestartIce(fields.id("transportId")?),
            "audio:produce" => {
                let id = fields.id("transportId");
                let source = source(fields);
                audio(fields);
                let rtp = rtp_parameters(fields);
                Request::Produce(id?, source?, rtp?)
            }
            "audio:consume" => {
                let transport = fields.id("transportId");
                let producer = fields.id("producerId");
                let rtp = rtp_capabilities(fields);
                Request::Consume(transport?, producer?, Some(rtp?))
            }
            "consumer:resume" => consumer(fields, ConsumerChange::Resume)?,
            "consumer:pause" => consumer(fields, ConsumerChange::Pause)?,
            "consumer:close" => consumer(fields, ConsumerChange::Close)?,
            "audio:selfMute" => producer(fields, ProducerChange::Mute)?,
            "audio:selfUnmute" => producer(fields, ProducerChange::Unmute)?,
            "producer:close" => producer(fields, ProducerChange::Close)?,
            _ => return None,
        };
        Some(Self::InRoom(room?, request))
    }
}

fn resume(fields: &mut Fields) -> Option<Resume> {
    let token = fields.text("token");
    let last_seq = fields.count("lastSeq");
    Some(Resume {
        token: token?,
        last_seq: last_seq?,
    })
}

fn consumer(fields: &mut Fields, change: ConsumerChange) -> Option<Request> {
    Some(Request::Consumer(fields.id("consumerId")?, change))
}

fn producer(fields: &mut Fields, change: ProducerChange) -> Option<Request> {
    Some(Request::Producer(fields.id("producerId")?, change))
}

fn direction(fields: &mut Fields) -> Option<Direction> {
    match fields.text("type")?.as_str() {
        "producer" => Some(Direction::Send),
        "consumer" => Some(Direction::Receive),
        _ => {
            fields.problem("type", "must be `producer` or `consumer`");
            None
        }
    }
}

fn source(fields: &mut Fields) -> Option<Source> {
    let Some(value) = fields.take("source") else {
        return Some(Source::default());
    };
    match value.as_str() {
        Some("mic") => Some(Source::Mic),
        Some("music") => Some(Source::Music),
        _ => {
            fields.problem("source", "must be `mic` or `music`");
            None
        }
    }
}

/// The required `kind`, which is `audio`.
pub(super) fn audio(fields: &mut Fields) {
    match fields.text("kind").as_deref() {
        None | Some("audio") => {}
        Some(_) => fields.problem("kind", "must be `audio`"),
    }
}

/// The required `dtlsParameters`.
pub(super) fn dtls_parameters(fields: &mut Fields) -> Option<Box<DtlsParameters>> {
    let value = fields.required("dtlsParameters")?;
    media(fields, lenient::dtls_parameters(&value))
}

/// The required `rtpParameters`.
pub(super) fn rtp_parameters(fields: &mut Fields) -> Option<Box<RtpParameters>> {
    let value = fields.required("rtpParameters")?;
    media(fields, lenient::rtp_parameters(&value))
}

/// The required `rtpCapabilities`.
pub(super) fn rtp_capabilities(fields: &mut Fields) -> Option<Box<RtpCapabilities>> {
    let value = fields.required("rtpCapabilities")?;
    media(fields, lenient::rtp_capabilities(&value))
}

fn media<T>(fields: &mut Fields, read: Result<T, lenient::Invalid>) -> Option<Box<T>> {
    read.map(Box::new)
        .map_err(|invalid| fields.problem(&invalid.path, invalid.problem))
        .ok()
}

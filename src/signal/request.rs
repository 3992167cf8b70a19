//! Client events of the Socket.IO face as typed requests.

use serde_json::Value;

use super::fields::{Fields, Invalid};
use crate::{
    media::{DtlsParameters, RtpCapabilities, RtpParameters, lenient},
    model::{ConsumerId, ProducerId, RoomId, Source, TransportId},
    room::Direction,
};

/// What a client asks for. An id that is no id at all is `None`: it names
/// nothing, like an unknown one.
#[derive(Debug)]
pub(super) enum Request {
    Join,
    Leave,
    CreateTransport(Direction),
    ConnectTransport(Option<TransportId>, Box<DtlsParameters>),
    RestartIce(Option<TransportId>),
    Produce(Option<TransportId>, Source, Box<RtpParameters>),
    Consume(
        Option<TransportId>,
        Option<ProducerId>,
        Box<RtpCapabilities>,
    ),
    PauseConsumer(Option<ConsumerId>, bool),
    CloseConsumer(Option<ConsumerId>),
    SelfMute(Option<ProducerId>, bool),
    CloseProducer(Option<ProducerId>),
    /// For a plugin, if one registered the event.
    Command(Value),
}

/// Events that the core answers itself.
pub(super) const EVENTS: [&str; 13] = [
    "room:join",
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

impl Request {
    /// Reads an event's payload; every request names its room.
    pub(super) fn parse(event: &str, payload: Value) -> Result<(RoomId, Self), Invalid> {
        if !EVENTS.contains(&event) {
            return Self::command(payload);
        }
        let mut fields = Fields::of(payload)?;
        let room = fields.room("roomId");
        let request = Self::read(event, &mut fields);
        match (room, request) {
            (Some(room), Some(request)) if fields.is_valid() => Ok((room, request)),
            _ => Err(fields.invalid()),
        }
    }

    fn command(payload: Value) -> Result<(RoomId, Self), Invalid> {
        // The plugin gets the payload whole; the core only needs to know the room.
        let mut fields = Fields::of(payload.clone())?;
        match fields.room("roomId") {
            Some(room) => Ok((room, Self::Command(payload))),
            None => Err(fields.invalid()),
        }
    }

    fn read(event: &str, fields: &mut Fields) -> Option<Self> {
        Some(match event {
            "room:join" => Self::Join,
            "room:leave" => Self::Leave,
            "transport:create" => Self::CreateTransport(direction(fields)?),
            "transport:connect" => {
                let id = fields.id("transportId");
                let dtls = media(fields, "dtlsParameters", lenient::dtls_parameters);
                Self::ConnectTransport(id?, Box::new(dtls?))
            }
            "transport:restartIce" => Self::RestartIce(fields.id("transportId")?),
            "audio:produce" => {
                let id = fields.id("transportId");
                let source = source(fields);
                match fields.text("kind").as_deref() {
                    None | Some("audio") => {}
                    Some(_) => fields.problem("kind", "must be `audio`"),
                }
                let rtp = media(fields, "rtpParameters", lenient::rtp_parameters);
                Self::Produce(id?, source?, Box::new(rtp?))
            }
            "audio:consume" => {
                let transport = fields.id("transportId");
                let producer = fields.id("producerId");
                let rtp = media(fields, "rtpCapabilities", lenient::rtp_capabilities);
                Self::Consume(transport?, producer?, Box::new(rtp?))
            }
            "consumer:resume" => Self::PauseConsumer(fields.id("consumerId")?, false),
            "consumer:pause" => Self::PauseConsumer(fields.id("consumerId")?, true),
            "consumer:close" => Self::CloseConsumer(fields.id("consumerId")?),
            "audio:selfMute" => Self::SelfMute(fields.id("producerId")?, true),
            "audio:selfUnmute" => Self::SelfMute(fields.id("producerId")?, false),
            "producer:close" => Self::CloseProducer(fields.id("producerId")?),
            _ => return None,
        })
    }
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

fn media<T>(
    fields: &mut Fields,
    field: &str,
    read: impl FnOnce(&Value) -> Result<T, lenient::Invalid>,
) -> Option<T> {
    let value = fields.required(field)?;
    read(&value)
        .map_err(|invalid| fields.problem(&invalid.path, invalid.problem))
        .ok()
}

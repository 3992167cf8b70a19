//! The JSON of the raw WebSocket face.

use serde_json::{Map, Value, json};

use crate::{
    model::{Refusal, RoomId, UnixMs, UserId},
    room::{Event, Failure, Reason, Snapshot},
    signal::{
        denial::Denial,
        resume::Ticket,
        session::Resumed,
        wire::{more_of, with_resume},
    },
};

/// What a client may say to the core, and the label under which it is measured.
const TYPES: [(&str, &str); 8] = [
    ("ping", "socket:ping"),
    ("broadcast", "socket:broadcast"),
    ("get-rtp-capabilities", "socket:get-rtp-capabilities"),
    ("create-transport", "socket:create-transport"),
    ("connect-transport", "socket:connect-transport"),
    ("restart-ice", "socket:restart-ice"),
    ("produce", "socket:produce"),
    ("consume", "socket:consume"),
];

/// Characters of a client's own text that are given back to it.
const SHOWN_CHARS: usize = 64;

/// A client's frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: String,
    pub(super) data: Option<Value>,
    /// Given back in the answer.
    pub(super) request_id: Option<Value>,
}

impl Frame {
    /// Reads a frame; the error is the answer.
    pub(super) fn read(text: &str) -> Result<Self, Value> {
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            return Err(unreadable());
        };
        let Value::Object(mut fields) = value else {
            return Err(no_type(None));
        };
        let request_id = fields.remove("requestId").filter(|id| !id.is_null());
        let Some(Value::String(kind)) = fields.remove("type") else {
            return Err(no_type(request_id.as_ref()));
        };
        Ok(Self {
            kind,
            data: fields.remove("data").filter(|data| !data.is_null()),
            request_id,
        })
    }

    /// One of few words: clients choose the types of plugins' events.
    pub(super) fn label(&self) -> &'static str {
        let known = TYPES.iter().find(|(kind, _)| *kind == self.kind);
        known.map_or("plugin", |(_, label)| label)
    }
}

/// An answer that is a success.
#[derive(Debug)]
pub(super) struct Answer(Map<String, Value>);

impl Answer {
    /// Of a type alone.
    pub(super) fn bare(kind: &str) -> Self {
        Self(Map::from_iter([("type".to_owned(), json!(kind))]))
    }

    /// Of a type, with data.
    pub(super) fn of(kind: &str, data: Value) -> Self {
        let mut answer = Self::bare(kind);
        answer.0.insert("data".to_owned(), data);
        answer
    }

    /// The answer to a ping.
    pub(super) fn pong(at: UnixMs) -> Self {
        let mut answer = Self::bare("pong");
        answer.0.insert("timestamp".to_owned(), json!(at));
        answer
    }

    /// The frame, with the id of the request that it answers.
    pub(super) fn with(self, request_id: Option<&Value>) -> Value {
        tagged(self.0, request_id)
    }
}

fn tagged(mut frame: Map<String, Value>, request_id: Option<&Value>) -> Value {
    if let Some(id) = request_id {
        frame.insert("requestId".to_owned(), id.clone());
    }
    Value::Object(frame)
}

fn said(error: &str, request_id: Option<&Value>) -> Value {
    tagged(Answer::of("error", json!(error)).0, request_id)
}

/// The first frame of a socket: who and where the client is, and what it can receive.
pub(super) fn hello(
    user: UserId,
    room: &RoomId,
    snapshot: &Snapshot,
    ticket: Option<&Ticket>,
) -> Value {
    let producers = snapshot.producers.iter();
    let producers = producers.map(|one| json!({ "producerId": one.id, "userId": one.user }));
    let mut data = json!({
        "message": "Connected to voice-room",
        "userId": user,
        "room": room,
        "producers": producers.collect::<Vec<_>>(),
    });
    with_resume(&mut data, ticket);
    json!({ "type": "test", "data": data })
}

/// The first frame of a socket whose client has come back.
pub(super) fn resumed(user: UserId, resumed: &Resumed) -> Value {
    let mine = &resumed.belongings;
    let mut data = json!({
        "userId": user,
        "room": resumed.room,
        "transports": mine.transports,
        "producers": mine.producers,
        "consumers": mine.consumers,
        "missed": resumed.missed,
    });
    with_resume(&mut data, resumed.ticket.as_ref());
    json!({ "type": "resumed", "data": data })
}

/// An event's frame with its number, where it has one.
pub(super) fn numbered(mut frame: Value, seq: Option<u64>) -> Value {
    if let (Some(fields), Some(seq)) = (frame.as_object_mut(), seq) {
        fields.insert("seq".to_owned(), json!(seq));
    }
    frame
}

/// Whether this face tells such events.
pub(super) fn tells(event: &Event) -> bool {
    match event {
        Event::NewProducer { .. }
        | Event::ProducerClosed { .. }
        | Event::Broadcast { .. }
        | Event::TransportClosed { .. }
        | Event::RoomClosed { .. }
        | Event::Plugin { .. } => true,
        Event::ProducerPaused { .. }
        | Event::FirstRtp { .. }
        | Event::Speaking { .. }
        | Event::UserJoined(_)
        | Event::UserLeft { .. }
        | Event::Connected { .. } => false,
    }
}

/// An event; `None` for what this face does not tell.
pub(super) fn event(event: &Event) -> Option<Value> {
    Some(match event {
        Event::NewProducer { producer, user, .. } => json!({
            "type": "new-producer",
            "data": { "producerId": producer, "userId": user },
        }),
        Event::ProducerClosed { producer, .. } => json!({
            "type": "producer-closed",
            "data": { "producerId": producer },
        }),
        Event::Broadcast { from, data } => {
            json!({ "type": "broadcast", "data": data, "from": from })
        }
        Event::TransportClosed { transport } => json!({
            "type": "transport-closed",
            "data": { "transportId": transport, "reason": "worker_died" },
        }),
        Event::RoomClosed { reason, .. } => json!({
            "type": "room-closed",
            "data": { "reason": reason.as_str() },
        }),
        Event::Plugin { name, payload } => json!({ "type": &**name, "data": payload }),
        Event::ProducerPaused { .. }
        | Event::FirstRtp { .. }
        | Event::Speaking { .. }
        | Event::UserJoined(_)
        | Event::UserLeft { .. }
        | Event::Connected { .. } => return None,
    })
}

/// The answer to what is no JSON text.
pub(super) fn unreadable() -> Value {
    said("Error parsing message", None)
}

/// A plugin has removed the client from the room.
pub(super) fn removed(reason: &str) -> Value {
    said(reason, None)
}

fn no_type(request_id: Option<&Value>) -> Value {
    said("Invalid message format: missing type", request_id)
}

/// The answer to a type that neither the core nor a plugin knows.
pub(super) fn unknown(frame: &Frame) -> Value {
    let kind: String = frame.kind.chars().take(SHOWN_CHARS).collect();
    let error = format!("Unknown message type: {kind}");
    said(&error, frame.request_id.as_ref())
}

/// The answer to a request that was not granted. What a plugin or the reader of a
/// payload has to say beside the message stands beside it.
pub(super) fn error(denial: Denial, request_id: Option<&Value>) -> Value {
    let words = match &denial {
        Denial::Failed(Failure::Room(reason)) => Some(match reason {
            Reason::NotInRoom | Reason::RoomNotFound => "Router not ready",
            Reason::ProducerNotFound => "No producer available",
            other => other.message(),
        }),
        Denial::Invalid(_) => Some("Invalid payload"),
        _ => None,
    };
    let refusal = Refusal::from(denial);
    let mut answer = Answer::of("error", json!(words.unwrap_or(&refusal.message)));
    if words.is_none() {
        answer.0.insert("code".to_owned(), json!(refusal.code));
    }
    more_of(&mut answer.0, refusal);
    tagged(answer.0, request_id)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", "Error parsing message")]
    #[case("{", "Error parsing message")]
    #[case("{\"type\":\"ping\"}x", "Error parsing message")]
    #[case("[]", "Invalid message format: missing type")]
    #[case("null", "Invalid message format: missing type")]
    #[case("{}", "Invalid message format: missing type")]
    #[case("{\"type\":7}", "Invalid message format: missing type")]
    fn what_is_no_frame_is_answered(#[case] text: &str, #[case] error: &str) {
        let answer = Frame::read(text).unwrap_err();
        assert_eq!(answer, json!({ "type": "error", "data": error }));
    }

    #[test]
    fn the_request_id_comes_back_whatever_it_is() {
        for id in [json!(7), json!("x"), json!({ "a": [1] }), json!(0)] {
            let text = json!({ "requestId": id, "type": "nothing" }).to_string();
            let frame = Frame::read(&text).unwrap();
            assert_eq!(
                unknown(&frame),
                json!({ "type": "error", "data": "Unknown message type: nothing", "requestId": id })
            );
        }
    }

    #[test]
    fn a_long_type_is_cut_between_characters() {
        let text = json!({ "type": "é".repeat(1000) }).to_string();
        let answer = unknown(&Frame::read(&text).unwrap());
        let shown = format!("Unknown message type: {}", "é".repeat(SHOWN_CHARS));
        assert_eq!(answer["data"], shown);
    }

    #[rstest]
    #[case(Reason::RoomNotFound, "Router not ready")]
    #[case(Reason::NotInRoom, "Router not ready")]
    #[case(Reason::TransportNotFound, "Transport not found")]
    #[case(Reason::ProducerNotFound, "No producer available")]
    #[case(Reason::CannotConsume("why".to_owned()), "Cannot consume")]
    fn each_reason_has_its_string(#[case] why: Reason, #[case] error_text: &str) {
        assert_eq!(error(why.into(), None)["data"], error_text);
    }

    #[test]
    fn a_plugin_is_named_with_its_code() {
        let denied = Refusal {
            plugin: Some("seats".into()),
            ..Refusal::new("Seat is locked")
        };
        assert_eq!(
            error(Denial::Failed(denied.into()), Some(&json!(1))),
            json!({
                "type": "error",
                "data": "Seat is locked",
                "code": "SEAT_IS_LOCKED",
                "plugin": "seats",
                "requestId": 1,
            })
        );
    }
}

//! How a client wants its answers: as the protocol has them, or, with
//! `auth.protocol` 1 in the handshake, in an older dialect. It has the same
//! events and payloads; its answers are not wrapped, and name few errors.

use serde_json::{Map, Value, json};

use crate::{
    model::Refusal,
    room::{Failure, Reason},
    signal::{denial::Denial, wire},
};

/// The form of a client's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `{success, data?}`, `{success, error, code, …}`.
    Current,
    /// The data itself, `{error, …}`.
    First,
}

impl Dialect {
    /// What the handshake's `auth` asks for.
    pub(super) fn of(auth: Option<&Value>) -> Self {
        match auth.and_then(|auth| auth.get("protocol")) {
            Some(version) if version == 1 => Self::First,
            _ => Self::Current,
        }
    }

    /// The acknowledgement of an event.
    pub(super) fn answer(self, event: &str, result: Result<Option<Value>, Denial>) -> Value {
        match (self, result) {
            (Self::Current, Ok(data)) => wire::success(data),
            (Self::Current, Err(denial)) => wire::failure(denial),
            (Self::First, Ok(Some(data))) => data,
            (Self::First, Ok(None)) => json!({ "success": true }),
            (Self::First, Err(denial)) => refused(event, denial),
        }
    }
}

/// The dialect's word for a denial, and beside it what the protocol says.
fn refused(event: &str, denial: Denial) -> Value {
    let error = word(event, &denial);
    let refusal = Refusal::from(denial);
    let mut answer = Map::new();
    answer.insert(
        "error".to_owned(),
        error.map_or_else(|| json!(refusal.message), Value::from),
    );
    answer.insert("code".to_owned(), json!(refusal.code));
    answer.insert("message".to_owned(), json!(refusal.message));
    wire::more_of(&mut answer, refusal);
    Value::Object(answer)
}

/// The dialect's word, where it has one; else the message serves.
fn word(event: &str, denial: &Denial) -> Option<&'static str> {
    let of_event = match event {
        "audio:produce" => Some("Produce failed"),
        "audio:consume" => Some("Consume failed"),
        "transport:connect" => Some("Connect failed"),
        "consumer:resume" => Some("Resume failed"),
        _ => None,
    };
    match denial {
        Denial::Invalid(_) => Some("Invalid payload"),
        // A transport is looked up in the room of the client: with neither, there is none.
        Denial::Failed(Failure::Room(
            Reason::TransportNotFound
            | Reason::WrongDirection
            | Reason::NotInRoom
            | Reason::RoomNotFound,
        )) if names_transport(event) => Some("Transport not found"),
        Denial::Failed(Failure::Media(_)) => of_event.or(Some("Server error")),
        _ => of_event,
    }
}

fn names_transport(event: &str) -> bool {
    matches!(
        event,
        "transport:connect" | "transport:restartIce" | "audio:produce" | "audio:consume"
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{media::MediaError, signal::fields::Invalid};

    fn error(event: &str, denial: impl Into<Denial>) -> Value {
        Dialect::First.answer(event, Err(denial.into()))["error"].clone()
    }

    #[test]
    fn only_the_number_1_asks_for_the_first_dialect() {
        assert_eq!(Dialect::of(Some(&json!({ "protocol": 1 }))), Dialect::First);
        for auth in [
            json!({}),
            json!({ "protocol": 2 }),
            json!({ "protocol": "1" }),
            json!([1]),
        ] {
            assert_eq!(Dialect::of(Some(&auth)), Dialect::Current);
        }
        assert_eq!(Dialect::of(None), Dialect::Current);
    }

    #[test]
    fn answers_of_the_first_dialect_are_not_wrapped() {
        let answer = |data| Dialect::First.answer("audio:produce", Ok(data));
        assert_eq!(answer(Some(json!({ "id": 1 }))), json!({ "id": 1 }));
        assert_eq!(answer(None), json!({ "success": true }));
    }

    #[rstest]
    #[case("audio:produce", Reason::TransportNotFound, "Transport not found")]
    #[case("audio:produce", Reason::NotInRoom, "Transport not found")]
    #[case("audio:produce", Reason::WrongDirection, "Transport not found")]
    #[case(
        "audio:produce",
        Reason::CannotProduce(String::new()),
        "Produce failed"
    )]
    #[case("audio:consume", Reason::ProducerNotFound, "Consume failed")]
    #[case("audio:consume", Reason::RoomNotFound, "Transport not found")]
    #[case("transport:connect", Reason::AlreadyConnected, "Connect failed")]
    #[case("consumer:resume", Reason::ConsumerNotFound, "Resume failed")]
    #[case("consumer:resume", Reason::RoomNotFound, "Resume failed")]
    #[case("room:leave", Reason::NotInRoom, "Not in room")]
    fn each_reason_has_its_word(#[case] event: &str, #[case] why: Reason, #[case] word: &str) {
        assert_eq!(error(event, why), word);
    }

    #[test]
    fn what_is_not_understood_is_an_invalid_payload_and_names_the_fields() {
        let invalid = Invalid::one("kind", "is required");
        let answer = Dialect::First.answer("audio:produce", Err(invalid.into()));
        assert_eq!(answer["error"], "Invalid payload");
        assert_eq!(answer["details"][0]["field"], "kind");
    }

    #[test]
    fn failures_of_the_server_are_not_explained() {
        let failed = || Failure::Media(MediaError::NoWorker);
        assert_eq!(error("room:join", failed()), "Server error");
        assert_eq!(error("audio:produce", failed()), "Produce failed");
    }

    #[test]
    fn a_plugin_that_denies_is_named_beside_the_word() {
        let denied = Refusal {
            code: "SEAT_REQUIRED".to_owned(),
            plugin: Some("seats".into()),
            ..Refusal::new("Take a seat first")
        };
        let answer = Dialect::First.answer("audio:produce", Err(Denial::Failed(denied.into())));
        assert_eq!(answer["error"], "Produce failed");
        assert_eq!(answer["code"], "SEAT_REQUIRED");
        assert_eq!(answer["plugin"], "seats");
    }
}

//! How a request is told no: `{error, message, …}` with a status.

use std::collections::BTreeMap;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{Content, RefOr, Response as Described, ResponseBuilder},
};

use crate::{
    model::Refusal,
    room::{Failure, Reason},
    signal::{auth::AuthError, denial::Denial, fields::Invalid},
};

/// The body of an answer that is no success.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// What went wrong, for programs: an identifier in upper snake case.
    #[schema(example = "ROOM_NOT_FOUND")]
    error: String,
    /// The same for people.
    message: String,
    /// The fields of an invalid request, or what a plugin adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    details: Option<Value>,
    /// The plugin that denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
    /// Names the denial in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_id: Option<String>,
}

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    body: Box<ProblemBody>,
}

/// Every status of a problem, and what it says.
const STATUSES: [(StatusCode, &str); 9] = [
    (
        StatusCode::BAD_REQUEST,
        "`INVALID_PAYLOAD` with `details` on each wrong field, or `UNSUPPORTED_KIND`",
    ),
    (
        StatusCode::UNAUTHORIZED,
        "`UNAUTHORIZED`: there is no good token",
    ),
    (
        StatusCode::FORBIDDEN,
        "`FORBIDDEN`: not this token in this call; `ROOM_IS_FULL`; `TOO_MANY_CALLS`; or a plugin's code",
    ),
    (
        StatusCode::NOT_FOUND,
        "`ROOM_NOT_FOUND`, `TRANSPORT_NOT_FOUND`, `PRODUCER_NOT_FOUND` or `CONSUMER_NOT_FOUND`",
    ),
    (
        StatusCode::CONFLICT,
        "`ALREADY_CONNECTED`, `TRANSPORT_DIRECTION_MISMATCH`, `CANNOT_PRODUCE` or `CANNOT_CONSUME`",
    ),
    (
        StatusCode::PAYLOAD_TOO_LARGE,
        "`PAYLOAD_TOO_LARGE`: the body is larger than a frame may be",
    ),
    (
        StatusCode::TOO_MANY_REQUESTS,
        "`RATE_LIMITED`: the caller's budget of events is spent",
    ),
    (StatusCode::INTERNAL_SERVER_ERROR, "`INTERNAL_ERROR`"),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "`SERVER_IS_DRAINING`: it takes nobody in any more",
    ),
];

impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let body = || Content::new(Some(ProblemBody::schema()));
        let describe = |(status, text): &(StatusCode, &str)| {
            let described = ResponseBuilder::new()
                .description(*text)
                .content("application/json", body())
                .build();
            (status.as_u16().to_string(), RefOr::T(described))
        };
        STATUSES.iter().map(describe).collect()
    }
}

impl Problem {
    fn new(status: StatusCode, code: &str, message: &str) -> Self {
        Self {
            status,
            body: Box::new(ProblemBody {
                error: code.to_owned(),
                message: message.to_owned(),
                details: None,
                plugin: None,
                decision_id: None,
            }),
        }
    }

    fn of(status: StatusCode, refusal: Refusal) -> Self {
        let Refusal {
            code,
            message,
            details,
            plugin,
            decision,
        } = refusal;
        Self {
            status,
            body: Box::new(ProblemBody {
                error: code,
                message,
                details,
                plugin: plugin.as_deref().map(str::to_owned),
                decision_id: decision.map(|id| id.to_string()),
            }),
        }
    }

    /// The producer would be of another kind than audio.
    pub(super) fn unsupported_kind() -> Self {
        let message = "kind must be `audio`";
        Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED_KIND", message)
    }

    /// The body is larger than a frame may be.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("the body must have at most {limit} bytes");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(status, "PAYLOAD_TOO_LARGE", &message)
    }

    /// A failure of the server, which is not explained.
    pub(super) fn internal() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::of(status, Refusal::new("INTERNAL_ERROR"))
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let status = StatusCode::UNAUTHORIZED;
        Self::new(status, "UNAUTHORIZED", &error.to_string())
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Denial::from(invalid).into()
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        let (status, code) = match &denial {
            Denial::Invalid(_) => (StatusCode::BAD_REQUEST, None),
            Denial::OverBudget => (StatusCode::TOO_MANY_REQUESTS, None),
            Denial::UnknownEvent => (StatusCode::NOT_FOUND, None),
            Denial::TooManyCalls | Denial::Failed(Failure::Refused(_)) => {
                (StatusCode::FORBIDDEN, None)
            }
            Denial::Failed(Failure::Room(reason)) => of_reason(reason),
            // No route resumes: its members outlive their connections.
            Denial::ResumeExpired | Denial::ResumeGap(_) => (StatusCode::GONE, None),
            Denial::Failed(Failure::Media(_)) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let mut problem = Self::of(status, Refusal::from(denial));
        if let Some(code) = code {
            problem.body.error = code.to_owned();
        }
        problem
    }
}

/// The status of a room's refusal, and its code where this face has another.
fn of_reason(reason: &Reason) -> (StatusCode, Option<&'static str>) {
    match reason {
        Reason::RoomNotAllowed => (StatusCode::FORBIDDEN, Some("FORBIDDEN")),
        Reason::RoomFull | Reason::Muted(_) => (StatusCode::FORBIDDEN, None),
        Reason::Draining | Reason::NotDurable => (StatusCode::SERVICE_UNAVAILABLE, None),
        Reason::NotInRoom | Reason::RoomNotFound => (StatusCode::NOT_FOUND, Some("ROOM_NOT_FOUND")),
        Reason::TransportNotFound | Reason::ProducerNotFound | Reason::ConsumerNotFound => {
            (StatusCode::NOT_FOUND, None)
        }
        Reason::WrongDirection => (StatusCode::CONFLICT, Some("TRANSPORT_DIRECTION_MISMATCH")),
        Reason::AlreadyConnected => (StatusCode::CONFLICT, Some("ALREADY_CONNECTED")),
        Reason::TransportLimit | Reason::CannotProduce(_) | Reason::CannotConsume(_) => {
            (StatusCode::CONFLICT, None)
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(*self.body)).into_response();
        let extra = match self.status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, "1")),
            // What is left of the body is not read.
            StatusCode::PAYLOAD_TOO_LARGE => Some((header::CONNECTION, "close")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

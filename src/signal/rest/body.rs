//! What requests and answers hold, and how it is described.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::request::Parts,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use crate::{
    media::{DtlsParameters, RtpCapabilities, RtpParameters},
    model::{ConnectedWhen, RoomId},
    room::{self, Consumed, Released, SnapshotProducer},
    signal::{
        fields::{Fields, Invalid},
        gate,
        http::HttpState,
        request, wire,
    },
};

/// A JSON body, bounded like a frame of the other faces.
pub(super) struct Payload(pub(super) Value);

impl FromRequest<HttpState> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &HttpState) -> Result<Self, Problem> {
        let limit = state.faces.config.sessions.max_frame_bytes;
        let bytes = Bytes::from_request(request, state).await;
        let bytes = match bytes {
            Ok(bytes) if bytes.len() <= limit => bytes,
            Ok(_) | Err(BytesRejection::FailedToBufferBody(_)) => {
                gate::count_oversize();
                return Err(Problem::too_large(limit));
            }
            Err(_) => return Err(Invalid::one("", "the body cannot be read").into()),
        };
        let json = serde_json::from_slice(&bytes);
        let value = json.map_err(|_| Invalid::one("", "the body must be JSON"))?;
        Ok(Self(value))
    }
}

/// What stands behind the path.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<HttpState> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &HttpState) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|query: axum::extract::Query<T>| Self(query.0))
            .map_err(|error| Invalid::one("", error.body_text()).into())
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct CallQuery {
    /// The call: a room id.
    pub(super) call_id: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CleanupQuery {
    /// Whether the caller leaves the call as well.
    #[serde(default)]
    #[param(default = false)]
    pub(super) leave: bool,
}

/// Which way a transport carries media, seen from the client.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Direction {
    /// The client sends.
    Send,
    /// The client receives.
    Recv,
}

impl From<Direction> for room::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Send => Self::Send,
            Direction::Recv => Self::Receive,
        }
    }
}

/// When a call counts as connected.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(
    dead_code,
    reason = "describes `model::ConnectedWhen`, which knows no OpenAPI"
)]
enum When {
    /// At the first RTP packet of anybody.
    First,
    /// Once RTP of every party has arrived; of two at least.
    Both,
}

#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct NewTransport {
    /// The call: a room id.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub(super) call_id: RoomId,
    pub(super) direction: Direction,
    /// When this call counts as connected; whoever says so first decides.
    #[schema(value_type = Option<When>)]
    pub(super) connected_when: Option<ConnectedWhen>,
}

impl NewTransport {
    pub(super) fn read(payload: Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(payload)?;
        let call_id = fields.room("callId");
        let direction = match fields.text("direction").as_deref() {
            Some("send") => Some(Direction::Send),
            Some("recv") => Some(Direction::Recv),
            Some(_) => {
                fields.problem("direction", "must be `send` or `recv`");
                None
            }
            None => None,
        };
        let connected_when = fields.take("connectedWhen").map(|when| {
            let read: Result<ConnectedWhen, _> = serde_json::from_value(when);
            read.map_err(|_| fields.problem("connectedWhen", "must be `first` or `both`"))
        });
        match (call_id, direction, connected_when.transpose()) {
            (Some(call_id), Some(direction), Ok(connected_when)) if fields.is_valid() => Ok(Self {
                call_id,
                direction,
                connected_when,
            }),
            _ => Err(fields.invalid()),
        }
    }
}

#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct TransportConnection {
    /// As mediasoup-client gives them.
    #[schema(value_type = Object)]
    pub(super) dtls_parameters: Box<DtlsParameters>,
}

impl TransportConnection {
    pub(super) fn read(payload: Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(payload)?;
        match request::dtls_parameters(&mut fields) {
            Some(dtls_parameters) => Ok(Self { dtls_parameters }),
            None => Err(fields.invalid()),
        }
    }
}

/// What a client sends.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Kind {
    Audio,
}

#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct NewProducer {
    /// The call: a room id.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub(super) call_id: RoomId,
    /// The caller's sending transport.
    pub(super) transport_id: String,
    #[allow(dead_code, reason = "part of the request; there is one kind")]
    kind: Kind,
    /// As mediasoup-client gives them.
    #[schema(value_type = Object)]
    pub(super) rtp_parameters: Box<RtpParameters>,
}

impl NewProducer {
    pub(super) fn read(payload: Value) -> Result<Self, Problem> {
        // Before the rest: parameters of another kind are read by other rules.
        let kind = payload.get("kind").and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "audio") {
            return Err(Problem::unsupported_kind());
        }
        let mut fields = Fields::of(payload)?;
        let call_id = fields.room("callId");
        let transport_id = fields.text("transportId");
        request::audio(&mut fields);
        let rtp = request::rtp_parameters(&mut fields);
        match (call_id, transport_id, rtp) {
            (Some(call_id), Some(transport_id), Some(rtp)) if fields.is_valid() => Ok(Self {
                call_id,
                transport_id,
                kind: Kind::Audio,
                rtp_parameters: rtp,
            }),
            _ => Err(fields.invalid().into()),
        }
    }
}

#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct NewConsumer {
    /// The call: a room id.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub(super) call_id: RoomId,
    /// The caller's receiving transport.
    pub(super) transport_id: String,
    /// What to receive.
    pub(super) producer_id: String,
    /// As mediasoup-client gives them. Without: the server's own.
    #[schema(value_type = Option<Object>)]
    pub(super) rtp_capabilities: Option<Box<RtpCapabilities>>,
}

impl NewConsumer {
    pub(super) fn read(payload: Value) -> Result<Self, Invalid> {
        let has_capabilities = payload
            .get("rtpCapabilities")
            .is_some_and(|value| !value.is_null());
        let mut fields = Fields::of(payload)?;
        let call_id = fields.room("callId");
        let transport_id = fields.text("transportId");
        let producer_id = fields.text("producerId");
        let rtp_capabilities = has_capabilities
            .then(|| request::rtp_capabilities(&mut fields))
            .flatten();
        match (call_id, transport_id, producer_id) {
            (Some(call_id), Some(transport_id), Some(producer_id)) if fields.is_valid() => {
                Ok(Self {
                    call_id,
                    transport_id,
                    producer_id,
                    rtp_capabilities,
                })
            }
            _ => Err(fields.invalid()),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Capabilities {
    /// For mediasoup-client's `Device`.
    #[schema(value_type = Object)]
    pub(super) rtp_capabilities: Value,
}

/// A transport as mediasoup-client wants it, but for the name of its id.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transport {
    #[schema(format = "uuid")]
    transport_id: String,
    #[schema(value_type = Object)]
    ice_parameters: Value,
    #[schema(value_type = Vec<Object>)]
    ice_candidates: Value,
    #[schema(value_type = Object)]
    dtls_parameters: Value,
    /// STUN and TURN servers, as a browser's `RTCIceServer`.
    #[schema(value_type = Vec<Object>)]
    ice_servers: Value,
}

impl Transport {
    /// From a transport's description; `None` if it is none.
    pub(super) fn of(described: Value, ice_servers: &Value) -> Option<Self> {
        let mut described = wire::with_ice_servers(described, ice_servers);
        let fields = described.as_object_mut()?;
        Some(Self {
            transport_id: fields.get("id")?.as_str()?.to_owned(),
            ice_parameters: fields.remove("iceParameters")?,
            ice_candidates: fields.remove("iceCandidates")?,
            dtls_parameters: fields.remove("dtlsParameters")?,
            ice_servers: fields.remove("iceServers")?,
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Connected {
    /// Always true.
    pub(super) connected: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Producer {
    #[schema(format = "uuid")]
    pub(super) producer_id: String,
}

/// Everything that can be received in a call.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Producers {
    producers: Vec<Party>,
}

/// A producer and who sends.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Party {
    #[schema(format = "uuid")]
    producer_id: String,
    user_id: u64,
}

impl Producers {
    pub(super) fn of(producers: &[SnapshotProducer]) -> Self {
        let party = |one: &SnapshotProducer| Party {
            producer_id: one.id.to_string(),
            user_id: one.user.0,
        };
        Self {
            producers: producers.iter().map(party).collect(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Consumer {
    #[schema(format = "uuid")]
    consumer_id: String,
    /// Always `audio`.
    #[schema(value_type = Kind)]
    kind: &'static str,
    /// For mediasoup-client's `consume`.
    #[schema(value_type = Object)]
    rtp_parameters: Value,
    /// Whether the producer is muted now.
    producer_paused: bool,
}

impl From<Consumed> for Consumer {
    fn from(consumed: Consumed) -> Self {
        Self {
            consumer_id: consumed.id.to_string(),
            kind: "audio",
            rtp_parameters: consumed.rtp_parameters,
            producer_paused: consumed.producer_paused,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Resumed {
    /// Whether it flows now.
    pub(super) resumed: bool,
    /// Only, and true, if it will flow by itself as soon as its producer speaks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub(super) deferred: bool,
}

impl Resumed {
    /// Of a consumer that flows, or waits for its producer to speak.
    pub(super) fn of(deferred: bool) -> Self {
        Self {
            resumed: !deferred,
            deferred,
        }
    }
}

/// What a cleanup has let go of.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cleaned {
    /// Always true.
    cleaned: bool,
    released: Counts,
}

/// How many there were.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Counts {
    transports: usize,
    producers: usize,
    consumers: usize,
}

impl Cleaned {
    /// There was nothing.
    pub(super) fn nothing() -> Self {
        Released::default().into()
    }
}

impl From<Released> for Cleaned {
    fn from(released: Released) -> Self {
        Self {
            cleaned: true,
            released: Counts {
                transports: released.transports,
                producers: released.producers,
                consumers: released.consumers,
            },
        }
    }
}

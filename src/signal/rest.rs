//! The REST face: `/rtc/…`. `callId` is the room id; a user's first request for a
//! call makes it a member. What happens in the call comes over `/ws/call`.

mod body;
mod caller;
mod problem;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    body::{
        CallQuery, Capabilities, Cleaned, CleanupQuery, Connected, Consumer, NewConsumer,
        NewProducer, NewTransport, Payload, Producer, Producers, Query, Resumed, Transport,
        TransportConnection,
    },
    caller::Caller,
    problem::Problem,
};
use super::{
    calls::{Entry, Manner},
    denial::Denial,
    fields::Invalid,
    http::HttpState,
    request::{ConsumerChange, Request},
    session::Reply,
};
use crate::{
    model::{RoomId, Source},
    room::{Direction, Failure, Flow, Reason},
};

/// The routes, with their description.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(capabilities))
        .routes(routes!(create_transport))
        .routes(routes!(connect_transport))
        .routes(routes!(create_producer, producers))
        .routes(routes!(create_consumer))
        .routes(routes!(resume_consumer))
        .routes(routes!(cleanup))
}

type Answer<T> = Result<(StatusCode, Json<T>), Problem>;

fn created<T>(body: T) -> Answer<T> {
    Ok((StatusCode::CREATED, Json(body)))
}

fn done<T>(body: T) -> Answer<T> {
    Ok((StatusCode::OK, Json(body)))
}

/// The reply was of another kind than the request asks for: a mistake of ours.
fn unexpected() -> Problem {
    Problem::internal()
}

/// What the server can receive and send.
#[utoipa::path(
    get,
    path = "/rtc/capabilities",
    tag = "rtc",
    operation_id = "RTC-01",
    security(("token" = [])),
    responses(
        (status = 200, description = "What mediasoup-client's `Device` loads", body = Capabilities),
        Problem
    )
)]
async fn capabilities(State(state): State<HttpState>, _caller: Caller) -> Answer<Capabilities> {
    let capabilities = state.media.rtp_capabilities().await;
    let capabilities = capabilities.map_err(|error| Denial::from(Failure::from(error)))?;
    done(Capabilities {
        rtp_capabilities: (*capabilities).clone(),
    })
}

/// Opens the caller's transport of a direction in a call, and the call itself if
/// it is not there. Asked again, the answer is the same transport.
#[utoipa::path(
    post,
    path = "/rtc/transports",
    tag = "rtc",
    operation_id = "RTC-02",
    security(("token" = [])),
    request_body = NewTransport,
    responses((status = 201, description = "The transport", body = Transport), Problem)
)]
async fn create_transport(
    State(state): State<HttpState>,
    caller: Caller,
    Payload(payload): Payload,
) -> Answer<Transport> {
    let NewTransport {
        call_id,
        direction,
        connected_when,
    } = NewTransport::read(payload)?;
    let direction = Direction::from(direction);
    let manner = Manner::rest("rtc:transport", Entry::Open);
    let request = || Request::OpenTransport(direction, connected_when);
    match caller.ask(&call_id, manner, request).await? {
        Reply::Transport(made) => {
            let made = Transport::of(made, &state.faces.ice_servers);
            created(made.ok_or_else(unexpected)?)
        }
        _ => Err(unexpected()),
    }
}

/// Connects one of the caller's transports to its DTLS.
#[utoipa::path(
    post,
    path = "/rtc/transports/{transportId}/connect",
    tag = "rtc",
    operation_id = "RTC-03",
    security(("token" = [])),
    params(("transportId" = String, Path, description = "A transport of the caller")),
    request_body = TransportConnection,
    responses((status = 200, description = "Connected", body = Connected), Problem)
)]
async fn connect_transport(
    caller: Caller,
    Path(transport): Path<String>,
    Payload(payload): Payload,
) -> Answer<Connected> {
    let TransportConnection { dtls_parameters } = TransportConnection::read(payload)?;
    let id = transport.parse().ok();
    let request = || Request::ConnectTransport(id, dtls_parameters.clone());
    let unknown = Reason::TransportNotFound;
    caller.ask_any("rtc:connect", unknown, request).await?;
    done(Connected { connected: true })
}

/// Starts sending audio to a call.
#[utoipa::path(
    post,
    path = "/rtc/producers",
    tag = "rtc",
    operation_id = "RTC-04",
    security(("token" = [])),
    request_body = NewProducer,
    responses((status = 201, description = "The producer", body = Producer), Problem)
)]
async fn create_producer(caller: Caller, Payload(payload): Payload) -> Answer<Producer> {
    let NewProducer {
        call_id,
        transport_id,
        rtp_parameters,
        ..
    } = NewProducer::read(payload)?;
    caller.in_call(&call_id)?;
    let transport = transport_id.parse().ok();
    let manner = Manner::rest("rtc:produce", Entry::Never);
    let request = || Request::Produce(transport, Source::Mic, rtp_parameters.clone());
    match caller.ask(&call_id, manner, request).await? {
        Reply::Produced(producer_id) => created(Producer {
            producer_id: producer_id.to_string(),
        }),
        _ => Err(unexpected()),
    }
}

/// What can be received in a call. Makes the caller a member.
#[utoipa::path(
    get,
    path = "/rtc/producers",
    tag = "rtc",
    operation_id = "RTC-producers",
    security(("token" = [])),
    params(CallQuery),
    responses((status = 200, description = "The producers of all parties", body = Producers), Problem)
)]
async fn producers(caller: Caller, Query(query): Query<CallQuery>) -> Answer<Producers> {
    let call_id = call_id(&query.call_id)?;
    let manner = Manner::rest("rtc:producers", Entry::Join);
    match caller.ask(&call_id, manner, || Request::Producers).await? {
        Reply::Producers(producers) => done(Producers::of(&producers)),
        _ => Err(unexpected()),
    }
}

/// Starts receiving a producer, paused.
#[utoipa::path(
    post,
    path = "/rtc/consumers",
    tag = "rtc",
    operation_id = "RTC-05",
    security(("token" = [])),
    request_body = NewConsumer,
    responses((status = 201, description = "The consumer, paused", body = Consumer), Problem)
)]
async fn create_consumer(caller: Caller, Payload(payload): Payload) -> Answer<Consumer> {
    let NewConsumer {
        call_id,
        transport_id,
        producer_id,
        rtp_capabilities,
    } = NewConsumer::read(payload)?;
    caller.in_call(&call_id)?;
    let (transport, producer) = (transport_id.parse().ok(), producer_id.parse().ok());
    let manner = Manner::rest("rtc:consume", Entry::Never);
    let request = || Request::Consume(transport, producer, rtp_capabilities.clone());
    match caller.ask(&call_id, manner, request).await? {
        Reply::Consumed(_, consumed) => created(Consumer::from(consumed)),
        _ => Err(unexpected()),
    }
}

/// Lets a consumer of the caller flow, at once or as soon as its producer is heard.
#[utoipa::path(
    post,
    path = "/rtc/consumers/{consumerId}/resume",
    tag = "rtc",
    operation_id = "RTC-06",
    security(("token" = [])),
    params(("consumerId" = String, Path, description = "A consumer of the caller")),
    responses((status = 200, description = "It flows, or will", body = Resumed), Problem)
)]
async fn resume_consumer(caller: Caller, Path(consumer): Path<String>) -> Answer<Resumed> {
    let id = consumer.parse().ok();
    let request = || Request::Consumer(id, ConsumerChange::Resume);
    let unknown = Reason::ConsumerNotFound;
    let reply = caller.ask_any("rtc:resume", unknown, request).await?;
    done(Resumed::of(matches!(reply, Reply::Flow(Flow::Deferred))))
}

/// Lets go of all the caller's media in a call. The caller stays a member, unless
/// it says that it leaves.
#[utoipa::path(
    delete,
    path = "/rtc/rooms/{callId}/cleanup",
    tag = "rtc",
    operation_id = "RTC-07",
    security(("token" = [])),
    params(("callId" = String, Path, description = "The call"), CleanupQuery),
    responses((status = 200, description = "What there was is gone", body = Cleaned), Problem)
)]
async fn cleanup(
    State(state): State<HttpState>,
    caller: Caller,
    Path(call): Path<String>,
    Query(query): Query<CleanupQuery>,
) -> Answer<Cleaned> {
    let call_id = call_id(&call)?;
    caller.may_enter(&call_id)?;
    let manner = Manner {
        leaves: query.leave,
        ..Manner::rest("rtc:cleanup", Entry::Never)
    };
    match caller.ask(&call_id, manner, || Request::Release).await {
        Ok(Reply::Released(released)) => done(released.into()),
        Ok(_) => Err(unexpected()),
        // Of somebody who is not in it, a call has nothing.
        Err(Denial::Failed(Failure::Room(Reason::RoomNotFound | Reason::NotInRoom)))
            if state.faces.rooms.participants(&call_id) > 0 =>
        {
            done(Cleaned::nothing())
        }
        Err(denial) => Err(denial.into()),
    }
}

fn call_id(text: &str) -> Result<RoomId, Invalid> {
    let problem = || {
        let problem = format!("must have 1 to {} characters", RoomId::MAX_CHARS);
        Invalid::one("callId", problem)
    };
    RoomId::new(text).ok_or_else(problem)
}

//! `/ws/call`: the events of a user's calls, beside REST.

use axum::{
    extract::{Query, State, ws::WebSocketUpgrade},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    SharedFaces,
    auth::{self, Identity},
    calls::{Entry, Listening, Manner},
    denial::Denial,
    fields::{Fields, Invalid},
    line::{self, Close, Frame, Line},
    request::Request,
    session::Reply,
    wire::more_of,
};
use crate::model::{Refusal, RoomId, UnixMs};

/// What stands behind the address.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parameters {
    token: Option<String>,
    /// A call to be in, as a request of REST would.
    call_id: Option<String>,
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
    let token = header("authorization")
        .and_then(auth::bearer)
        .or(parameters.token.as_deref());
    let identity = faces.auth.verify(token.unwrap_or_default());
    let upgrade = line::bounded(upgrade, &faces.config.sessions);
    upgrade.on_upgrade(async move |socket| {
        let line = Line::new(socket, &faces.config.sessions);
        match identity {
            Ok(identity) => attend(faces, line, identity, parameters.call_id).await,
            Err(refused) => {
                line.close(Close::Unauthenticated, &refused.to_string())
                    .await
            }
        }
    })
}

async fn attend(faces: SharedFaces, mut line: Line, identity: Identity, call: Option<String>) {
    let capacity = faces.config.sessions.outbox_capacity;
    let Some(events) = faces.calls.listen(identity.user.id, capacity) else {
        return line
            .close(Close::TooMany, "too many sockets of this user")
            .await;
    };
    let attendee = Attendee { faces, identity };
    if let Some(call) = call
        && let Err(denial) = attendee.enter(&call).await
        && !line.send(&error(denial, None)).await
    {
        return;
    }
    attendee.run(line, events).await;
}

/// A user at a socket.
struct Attendee {
    faces: SharedFaces,
    identity: Identity,
}

impl Attendee {
    async fn enter(&self, call: &str) -> Result<Reply, Denial> {
        let problem = || Invalid::one("callId", "must have 1 to 128 characters");
        let call = RoomId::new(call).ok_or_else(problem)?;
        self.ask(&call, "call:enter", Entry::Open, || Request::Present)
            .await
    }

    async fn ask(
        &self,
        call: &RoomId,
        label: &'static str,
        entry: Entry,
        request: impl Fn() -> Request,
    ) -> Result<Reply, Denial> {
        let Self { faces, identity } = self;
        let manner = Manner {
            label,
            entry,
            from_socket: true,
            leaves: false,
        };
        let calls = &faces.calls;
        calls.ask(faces, identity, call, manner, request).await
    }

    async fn run(self, mut line: Line, mut events: Listening) {
        let mut stopping = self.faces.stopping();
        loop {
            let going = tokio::select! {
                frame = line.next() => match frame {
                    Some(Frame::Text(text)) => match self.answer(&text).await {
                        Ok(answer) | Err(answer) => line.send(&answer).await,
                    },
                    Some(Frame::Binary) => line.send(&unreadable()).await,
                    Some(Frame::OverBudget) => line.send(&error(Denial::OverBudget, None)).await,
                    Some(Frame::Oversize(invalid)) => {
                        line.send(&error(invalid.into(), None)).await;
                        return line.close(Close::TooBig, "the frame is too large").await;
                    }
                    Some(Frame::Goodbye) | None => false,
                },
                event = events.next() => match event {
                    Some(event) => line.send_text((*event).into()).await,
                    None => {
                        return line.close(Close::TooSlow, "events were not taken").await;
                    }
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

    /// Answers a frame `{type, callId?, payload?, requestId?}`: a ping, or an event
    /// that a plugin registered.
    async fn answer(&self, text: &str) -> Result<Value, Value> {
        let frame: Value = serde_json::from_str(text).map_err(|_| unreadable())?;
        let mut fields = Fields::of(frame).map_err(|invalid| error(invalid.into(), None))?;
        let request_id = fields.take("requestId");
        let told = |denial: Denial| error(denial, request_id.as_ref());
        let Some(kind) = fields.text("type") else {
            return Err(told(fields.invalid().into()));
        };
        if kind == "ping" {
            let pong = json!({ "type": "pong", "timestamp": UnixMs::now() });
            return Ok(tagged(pong, request_id.as_ref()));
        }
        let data = self.command(&kind, fields).await.map_err(told)?;
        let answer = match data {
            Some(data) => json!({ "type": kind, "payload": data }),
            None => json!({ "type": kind }),
        };
        Ok(tagged(answer, request_id.as_ref()))
    }

    async fn command(&self, event: &str, mut fields: Fields) -> Result<Option<Value>, Denial> {
        if !self.faces.rooms.has_command(event) {
            return Err(Denial::UnknownEvent);
        }
        let Some(call) = fields.room("callId") else {
            return Err(fields.invalid().into());
        };
        let mut payload = match fields.take("payload") {
            None => Map::new(),
            Some(Value::Object(payload)) => payload,
            Some(_) => return Err(Invalid::one("payload", "must be an object").into()),
        };
        payload.insert("roomId".to_owned(), json!(call));
        let payload = Value::Object(payload);
        let request = || Request::Command(event.to_owned(), payload.clone());
        match self.ask(&call, "plugin", Entry::Join, request).await? {
            Reply::Plugin(answer) => Ok(answer),
            _ => Ok(None),
        }
    }
}

fn unreadable() -> Value {
    error(Invalid::one("", "must be JSON").into(), None)
}

/// `{type:"error", code, message, …}`.
fn error(denial: Denial, request_id: Option<&Value>) -> Value {
    let refusal = Refusal::from(denial);
    let mut answer = Map::from_iter([
        ("type".to_owned(), json!("error")),
        ("code".to_owned(), json!(refusal.code)),
        ("message".to_owned(), json!(refusal.message)),
    ]);
    more_of(&mut answer, refusal);
    tagged(Value::Object(answer), request_id)
}

fn tagged(mut frame: Value, request_id: Option<&Value>) -> Value {
    if let (Some(fields), Some(id)) = (frame.as_object_mut(), request_id) {
        fields.insert("requestId".to_owned(), id.clone());
    }
    frame
}

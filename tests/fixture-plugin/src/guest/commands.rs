//! The commands with which a test looks inside and makes the guest use the server.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Effect, FIXTURE,
    bindings::{
        exports::voice_room::plugin::on_command::Call,
        voice_room::plugin::{
            events, key_value, log, metrics, settings, timers,
            types::{
                Action, KickUser, Participant, Pin, Refusal, RoomEvent, SpeakerPin, Target,
                UserEvent,
            },
        },
    },
};
use crate::{Behaviour, Hook};

/// The command that behaves as `on-command` is told to.
pub(super) const RUN: &str = "fixture:run";

const NAMES: [&str; 22] = [
    RUN,
    "fixture:history",
    "fixture:facts",
    "fixture:calls",
    "fixture:echo",
    "fixture:settings",
    "fixture:behave",
    "fixture:do",
    "fixture:refuse",
    "fixture:kv-set",
    "fixture:kv-set-expiring",
    "fixture:kv-get",
    "fixture:kv-delete",
    "fixture:kv-list",
    "fixture:kv-cas",
    "fixture:kv-increment",
    "fixture:kv-set-then-trap",
    "fixture:timer-set",
    "fixture:timer-cancel",
    "fixture:publish",
    "fixture:log",
    "fixture:count",
];

pub(super) fn names() -> Vec<String> {
    NAMES.iter().map(|&name| name.to_owned()).collect()
}

pub(super) fn run(call: &Call) -> Effect {
    respond(call).unwrap_or_else(|(code, message)| Effect {
        refusal: Some(Refusal {
            code: code.to_owned(),
            message,
            details: None,
        }),
        ..Effect::default()
    })
}

type Response = Result<Effect, (&'static str, String)>;

fn respond(call: &Call) -> Response {
    match call.command.as_str() {
        "fixture:history" => {
            let history = FIXTURE
                .with_borrow(|fixture| fixture.history.get(&call.room.id).cloned())
                .unwrap_or_default();
            answer(&json!({ "history": history }))
        }
        "fixture:facts" => {
            let facts = FIXTURE
                .with_borrow(|fixture| fixture.facts.get(&call.room.id).cloned())
                .unwrap_or_default();
            answer(&json!({ "facts": facts }))
        }
        "fixture:calls" => answer(&json!({ "calls": FIXTURE.with_borrow(|it| it.calls) })),
        "fixture:echo" => echo(call),
        "fixture:settings" => Ok(Effect {
            answer: Some(settings::get()),
            ..Effect::default()
        }),
        "fixture:behave" => {
            let Behave { hook, behaviour } = payload(call)?;
            FIXTURE.with_borrow_mut(|fixture| fixture.settings.hooks.insert(hook, behaviour));
            Ok(Effect::default())
        }
        "fixture:do" => {
            let Do { actions } = payload(call)?;
            Ok(Effect {
                actions: actions.into_iter().map(Into::into).collect(),
                ..Effect::default()
            })
        }
        "fixture:refuse" => refuse(payload(call)?),
        "fixture:publish" => {
            let Publish { topic, payload } = payload(call)?;
            events::publish(&topic, &payload).map_err(|error| {
                import_error(match error {
                    events::Error::InvalidTopic => "invalid-topic",
                    events::Error::InvalidPayload(_) => "invalid-payload",
                    events::Error::QuotaExceeded(_) => "quota-exceeded",
                    events::Error::NotGranted => "not-granted",
                })
            })?;
            Ok(Effect::default())
        }
        "fixture:log" => {
            let Log { level, message } = payload(call)?;
            log::write(level.into(), &message);
            Ok(Effect::default())
        }
        "fixture:count" => {
            let Count { name, by } = payload(call)?;
            metrics::increment(&name, by);
            Ok(Effect::default())
        }
        _ => key_value_command(call),
    }
}

fn echo(call: &Call) -> Response {
    let mut echo = json!({
        "room": { "id": call.room.id, "participants": call.room.participants },
        "participant": described(&call.participant),
        "payload": payload::<Value>(call)?,
        "at": call.at,
    });
    if let (Some(fields), Some(target)) = (echo.as_object_mut(), &call.target) {
        fields.insert("target".to_owned(), described(target));
    }
    answer(&echo)
}

fn described(participant: &Participant) -> Value {
    let user = &participant.user;
    json!({
        "id": participant.id,
        "connections": participant.connections,
        "user": {
            "id": user.id,
            "name": user.name,
            "avatar": user.avatar,
            "roles": user.roles,
            "claims": serde_json::from_str::<Value>(&user.claims).ok(),
        },
    })
}

fn refuse(refuse: Refuse) -> Response {
    let refusal = Refusal {
        code: refuse.code,
        message: refuse.message,
        details: refuse.details.map(|details| details.to_string()),
    };
    let actions = refuse.actions.into_iter().map(Into::into).collect();
    Ok(Effect {
        refusal: Some(refusal),
        actions,
        ..Effect::default()
    })
}

fn key_value_command(call: &Call) -> Response {
    match call.command.as_str() {
        "fixture:kv-set" => {
            set(payload(call)?)?;
            Ok(Effect::default())
        }
        "fixture:kv-set-then-trap" => {
            set(payload(call)?)?;
            std::process::abort()
        }
        "fixture:kv-get" => {
            let Key { key } = payload(call)?;
            let value = key_value::get(&key).map_err(|error| key_value_error(&error))?;
            answer(&json!({ "value": value.map(|it| String::from_utf8_lossy(&it).into_owned()) }))
        }
        "fixture:kv-delete" => {
            let Key { key } = payload(call)?;
            key_value::delete(&key).map_err(|error| key_value_error(&error))?;
            Ok(Effect::default())
        }
        "fixture:kv-list" => {
            let List {
                prefix,
                after,
                limit,
            } = payload(call)?;
            let keys = key_value::list(&prefix, after.as_deref(), limit)
                .map_err(|error| key_value_error(&error))?;
            answer(&json!({ "keys": keys }))
        }
        "fixture:kv-set-expiring" => {
            let SetExpiring { key, value, ttl_ms } = payload(call)?;
            key_value::set_expiring(&key, value.as_bytes(), ttl_ms)
                .map_err(|error| key_value_error(&error))?;
            Ok(Effect::default())
        }
        "fixture:kv-cas" => {
            let CompareAndSet {
                key,
                expected,
                value,
            } = payload(call)?;
            let (expected, value) = (expected.as_deref(), value.as_deref());
            let done = key_value::compare_and_set(
                &key,
                expected.map(str::as_bytes),
                value.map(str::as_bytes),
            )
            .map_err(|error| key_value_error(&error))?;
            answer(&json!({ "done": done }))
        }
        "fixture:kv-increment" => {
            let Increment { key, by } = payload(call)?;
            let sum = key_value::increment(&key, by).map_err(|error| match error {
                key_value::IncrementError::Storage(error) => key_value_error(&error),
                key_value::IncrementError::NotANumber => import_error("not-a-number"),
                key_value::IncrementError::Overflow => import_error("overflow"),
            })?;
            answer(&json!({ "sum": sum }))
        }
        _ => timer_command(call),
    }
}

fn timer_command(call: &Call) -> Response {
    match call.command.as_str() {
        "fixture:timer-set" => {
            let SetTimer {
                key,
                after_ms,
                every_ms,
                number,
            } = payload(call)?;
            let keys: Vec<String> = match number {
                Some(number) => (0..number).map(|n| format!("{key}/{n}")).collect(),
                None => vec![key],
            };
            for key in keys {
                timers::set(&key, after_ms, every_ms).map_err(|error| timer_error(&error))?;
            }
            Ok(Effect::default())
        }
        "fixture:timer-cancel" => {
            let Key { key } = payload(call)?;
            timers::cancel(&key).map_err(|error| timer_error(&error))?;
            Ok(Effect::default())
        }
        unknown => Err(("UNKNOWN_COMMAND", unknown.to_owned())),
    }
}

fn set(Set { key, value }: Set) -> Result<(), (&'static str, String)> {
    key_value::set(&key, value.as_bytes()).map_err(|error| key_value_error(&error))
}

fn key_value_error(error: &key_value::Error) -> (&'static str, String) {
    import_error(match error {
        key_value::Error::InvalidKey(_) => "invalid-key",
        key_value::Error::ValueTooLarge(_) => "value-too-large",
        key_value::Error::QuotaExceeded(_) => "quota-exceeded",
    })
}

fn timer_error(error: &timers::Error) -> (&'static str, String) {
    import_error(match error {
        timers::Error::InvalidKey(_) => "invalid-key",
        timers::Error::InvalidDelay(_) => "invalid-delay",
        timers::Error::NoRoom => "no-room",
        timers::Error::QuotaExceeded(_) => "quota-exceeded",
    })
}

fn import_error(name: &str) -> (&'static str, String) {
    ("IMPORT_ERROR", name.to_owned())
}

fn answer(data: &Value) -> Response {
    Ok(Effect {
        answer: Some(data.to_string()),
        ..Effect::default()
    })
}

fn payload<T: DeserializeOwned>(call: &Call) -> Result<T, (&'static str, String)> {
    serde_json::from_str(&call.payload).map_err(|error| ("INVALID_PAYLOAD", error.to_string()))
}

#[derive(Deserialize)]
struct Behave {
    hook: Hook,
    behaviour: Behaviour,
}

#[derive(Deserialize)]
struct Do {
    actions: Vec<Wish>,
}

#[derive(Deserialize)]
struct Refuse {
    code: String,
    message: String,
    details: Option<Value>,
    #[serde(default)]
    actions: Vec<Wish>,
}

#[derive(Deserialize)]
struct Set {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetExpiring {
    key: String,
    value: String,
    ttl_ms: u64,
}

#[derive(Deserialize)]
struct CompareAndSet {
    key: String,
    expected: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct Increment {
    key: String,
    by: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetTimer {
    key: String,
    after_ms: u64,
    every_ms: Option<u64>,
    number: Option<u32>,
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

#[derive(Deserialize)]
struct List {
    prefix: String,
    after: Option<String>,
    limit: u32,
}

#[derive(Deserialize)]
struct Publish {
    topic: String,
    payload: String,
}

#[derive(Deserialize)]
struct Log {
    level: LogLevel,
    message: String,
}

#[derive(Deserialize)]
struct Count {
    name: String,
    by: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl From<LogLevel> for log::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::Trace,
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warn => Self::Warn,
            LogLevel::Error => Self::Error,
        }
    }
}

/// An action as a test writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Wish {
    EmitToUser {
        user_id: u64,
        event: String,
        payload: Value,
    },
    EmitToRoom {
        event: String,
        payload: Value,
        except: Option<u64>,
    },
    Mute(Whose),
    Unmute(Whose),
    Close(Whose),
    Kick {
        user_id: u64,
        reason: String,
    },
    PinSpeaker {
        user_id: u64,
        pin: Place,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Place {
    In,
    Out,
    Auto,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Whose {
    User(u64),
    Producer(String),
}

impl From<Whose> for Target {
    fn from(whose: Whose) -> Self {
        match whose {
            Whose::User(id) => Self::User(id),
            Whose::Producer(id) => Self::Producer(id),
        }
    }
}

impl From<Wish> for Action {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::EmitToUser {
                user_id,
                event,
                payload,
            } => Self::EmitToUser(UserEvent {
                user_id,
                event,
                payload: payload.to_string(),
            }),
            Wish::EmitToRoom {
                event,
                payload,
                except,
            } => Self::EmitToRoom(RoomEvent {
                event,
                payload: payload.to_string(),
                except,
            }),
            Wish::Mute(whose) => Self::Mute(whose.into()),
            Wish::Unmute(whose) => Self::Unmute(whose.into()),
            Wish::Close(whose) => Self::Close(whose.into()),
            Wish::Kick { user_id, reason } => Self::Kick(KickUser { user_id, reason }),
            Wish::PinSpeaker { user_id, pin } => {
                let pin = match pin {
                    Place::In => Pin::In,
                    Place::Out => Pin::Out,
                    Place::Auto => Pin::Auto,
                };
                Self::PinSpeaker(SpeakerPin { user_id, pin })
            }
        }
    }
}

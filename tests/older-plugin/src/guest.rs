//! The component.

mod bindings;

use std::{cell::RefCell, collections::HashMap};

use bindings::{
    exports::voice_room::plugin as exported,
    voice_room::plugin::{
        events, key_value, log, metrics, settings,
        types::{
            Action, Codec, Decision, Participant, Producer, Refusal, Room, RoomEvent, Source,
            UserEvent, Verdict,
        },
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(default)]
struct Settings {
    greeting: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            greeting: "hello".to_owned(),
        }
    }
}

thread_local! {
    static SETTINGS: RefCell<Settings> = RefCell::default();
    static HISTORY: RefCell<HashMap<String, Vec<Value>>> = RefCell::default();
}

/// Takes note of what a hook was told.
fn note(hook: &str, room: &Room, at: u64, mut told: Value) {
    if let Some(fields) = told.as_object_mut() {
        fields.insert("hook".to_owned(), hook.into());
        fields.insert("room".to_owned(), described_room(room));
        fields.insert("at".to_owned(), at.into());
    }
    HISTORY.with_borrow_mut(|history| history.entry(room.id.clone()).or_default().push(told));
}

fn described_room(room: &Room) -> Value {
    json!({ "id": room.id, "participants": room.participants })
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

fn described_source(source: Source) -> &'static str {
    match source {
        Source::Mic => "mic",
        Source::Music => "music",
    }
}

fn described_codec(codec: &Codec) -> Value {
    json!({ "mimeType": codec.mime_type, "clockRate": codec.clock_rate, "channels": codec.channels })
}

fn described_producer(producer: &Producer) -> Value {
    json!({
        "id": producer.id,
        "source": described_source(producer.source),
        "codec": described_codec(&producer.codec),
    })
}

fn allow() -> Decision {
    Decision {
        verdict: Verdict::Allow,
        actions: Vec::new(),
    }
}

struct Component;

impl exported::lifecycle::Guest for Component {
    fn init() -> Result<exported::lifecycle::Registration, String> {
        let settings: Settings =
            serde_json::from_str(&settings::get()).map_err(|error| error.to_string())?;
        log::write(log::Level::Info, &settings.greeting);
        SETTINGS.set(settings);
        Ok(exported::lifecycle::Registration {
            commands: vec!["older:history".to_owned()],
        })
    }
}

impl exported::before_join::Guest for Component {
    fn before_join(call: exported::before_join::Call) -> Decision {
        let told = json!({ "participant": described(&call.participant) });
        note("before-join", &call.room, call.at, told);
        if call.participant.user.id != 12 {
            return allow();
        }
        Decision {
            verdict: Verdict::Refuse(Refusal {
                code: "NOT_TWELVE".to_owned(),
                message: "Twelve may not enter".to_owned(),
                details: None,
            }),
            actions: Vec::new(),
        }
    }
}

impl exported::on_join::Guest for Component {
    fn on_join(call: exported::on_join::Call) -> Vec<Action> {
        let told = json!({ "participant": described(&call.participant) });
        note("on-join", &call.room, call.at, told);
        let greeting = SETTINGS.with_borrow(|settings| settings.greeting.clone());
        let payload = json!({ "userId": call.participant.user.id, "greeting": greeting });
        vec![Action::EmitToRoom(RoomEvent {
            event: "older:joined".to_owned(),
            payload: payload.to_string(),
            except: None,
        })]
    }
}

impl exported::describe_room::Guest for Component {
    fn describe_room(call: exported::describe_room::Call) -> Option<String> {
        let told = json!({ "participant": described(&call.participant) });
        note("describe-room", &call.room, call.at, told);
        let (participants, user) = (call.room.participants, call.participant.user.id);
        Some(json!({ "participants": participants, "userId": user }).to_string())
    }
}

impl exported::on_leave::Guest for Component {
    fn on_leave(call: exported::on_leave::Call) -> Vec<Action> {
        let told = json!({ "participant": described(&call.participant), "reason": call.reason });
        note("on-leave", &call.room, call.at, told);
        Vec::new()
    }
}

impl exported::before_produce::Guest for Component {
    fn before_produce(call: exported::before_produce::Call) -> Decision {
        let offered = json!({
            "source": described_source(call.source),
            "codec": described_codec(&call.codec),
        });
        let told = json!({ "participant": described(&call.participant), "offered": offered });
        note("before-produce", &call.room, call.at, told);
        let user = call.participant.user.id;
        if user != 13 {
            return allow();
        }
        Decision {
            verdict: Verdict::Refuse(Refusal {
                code: "UNLUCKY".to_owned(),
                message: "Thirteen may not speak".to_owned(),
                details: Some(offered.to_string()),
            }),
            actions: vec![Action::EmitToUser(UserEvent {
                user_id: user,
                event: "older:refused".to_owned(),
                payload: json!({ "userId": user }).to_string(),
            })],
        }
    }
}

impl exported::on_new_producer::Guest for Component {
    fn on_new_producer(call: exported::on_new_producer::Call) -> Vec<Action> {
        let told = json!({
            "participant": described(&call.participant),
            "producer": described_producer(&call.producer),
        });
        note("on-new-producer", &call.room, call.at, told);
        Vec::new()
    }
}

impl exported::on_first_rtp::Guest for Component {
    fn on_first_rtp(call: exported::on_first_rtp::Call) -> Vec<Action> {
        let told = json!({
            "participant": described(&call.participant),
            "producer": described_producer(&call.producer),
        });
        note("on-first-rtp", &call.room, call.at, told);
        let heard = json!({
            "producerId": call.producer.id,
            "userId": call.participant.user.id,
            "at": call.at,
        });
        let heard = heard.to_string();
        let key = format!("heard/{}", call.producer.id);
        if let Err(error) = key_value::set(&key, heard.as_bytes()) {
            log::write(log::Level::Error, &format!("{key}: {error}"));
        }
        if let Err(error) = events::publish("older.heard", &heard) {
            log::write(log::Level::Error, &format!("older.heard: {error}"));
        }
        metrics::increment("heard", 1);
        Vec::new()
    }
}

impl exported::on_producer_closed::Guest for Component {
    fn on_producer_closed(call: exported::on_producer_closed::Call) -> Vec<Action> {
        let told = json!({
            "participant": described(&call.participant),
            "producer": described_producer(&call.producer),
            "reason": call.reason,
            "firstRtpAt": call.first_rtp_at,
        });
        note("on-producer-closed", &call.room, call.at, told);
        Vec::new()
    }
}

impl exported::speaker_changed::Guest for Component {
    fn speaker_changed(call: exported::speaker_changed::Call) -> Vec<Action> {
        let speakers = call.speakers.iter().map(|speaker| {
            json!({
                "userId": speaker.user_id,
                "producerId": speaker.producer_id,
                "volume": speaker.volume,
            })
        });
        let told = json!({ "speakers": speakers.collect::<Vec<_>>() });
        note("speaker-changed", &call.room, call.at, told);
        Vec::new()
    }
}

impl exported::on_command::Guest for Component {
    fn on_command(call: exported::on_command::Call) -> exported::on_command::Reply {
        let history = HISTORY.with_borrow(|history| history.get(&call.room.id).cloned());
        let answer = match key_value::list("heard/", None, 100) {
            Ok(heard) => {
                let answer = json!({
                    "command": call.command,
                    "participant": described(&call.participant),
                    "payload": serde_json::from_str::<Value>(&call.payload).ok(),
                    "history": history.unwrap_or_default(),
                    "heard": heard,
                });
                exported::on_command::Answer::Done(Some(answer.to_string()))
            }
            Err(error) => exported::on_command::Answer::Refuse(Refusal {
                code: "IMPORT_ERROR".to_owned(),
                message: error.to_string(),
                details: None,
            }),
        };
        exported::on_command::Reply {
            answer,
            actions: Vec::new(),
        }
    }
}

#[allow(unsafe_code, reason = "the canonical ABI is pointers and lengths")]
mod export {
    use super::{Component, bindings};

    bindings::export!(Component with_types_in bindings);
}

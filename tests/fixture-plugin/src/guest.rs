//! The component itself.

mod bindings;
mod commands;
#[cfg(not(feature = "contract-0-2"))]
mod facts;
#[cfg(feature = "contract-0-2")]
mod facts_0_2;
mod misbehave;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque},
};

use bindings::{
    exports::voice_room::plugin as exported,
    voice_room::plugin::{
        self as imported,
        types::{Action, Amendment, Decision, Participant, Refusal, Room, Verdict},
    },
};
use serde::Deserialize;
use serde_json::Value;

use crate::{Behaviour, Hook};

/// How many entries of a room's history are kept.
const HISTORY: usize = 1_000;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    hooks: BTreeMap<Hook, Behaviour>,
    when: String,
    publish: bool,
    commands: Option<Vec<String>>,
}

#[derive(Default)]
struct Fixture {
    settings: Settings,
    calls: u64,
    history: HashMap<String, VecDeque<String>>,
    /// What came with recorded facts, by room.
    facts: HashMap<String, VecDeque<Value>>,
}

impl Fixture {
    fn behaviour(&self, hook: Hook, room: &Room) -> Behaviour {
        match self.settings.hooks.get(&hook) {
            Some(&behaviour) if room.id.starts_with(&self.settings.when) => behaviour,
            _ => Behaviour::Allow,
        }
    }

    fn record(&mut self, room: &Room, entry: String) {
        push(self.history.entry(room.id.clone()).or_default(), entry);
    }
}

fn push<T>(history: &mut VecDeque<T>, entry: T) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(entry);
}

thread_local! {
    static FIXTURE: RefCell<Fixture> = RefCell::default();
}

/// What a hook has to say, whichever it is.
#[derive(Default)]
struct Effect {
    refusal: Option<Refusal>,
    actions: Vec<Action>,
    /// For a producer.
    amendment: Option<Amendment>,
    /// JSON, or what passes for it, where the hook answers with some.
    answer: Option<String>,
}

/// Counts the call, records it if it informs, and behaves as the settings say.
fn call(hook: Hook, room: &Room, entry: Option<String>) -> Effect {
    let behaviour = FIXTURE.with_borrow_mut(|fixture| {
        fixture.calls += 1;
        if let Some(entry) = entry {
            let entry = format!("{} {entry}", hook.name());
            if fixture.settings.publish {
                let payload = serde_json::Value::from(&*entry).to_string();
                // A test that needs it misses it.
                drop(imported::events::publish("fixture.told", &payload));
            }
            fixture.record(room, entry);
        }
        fixture.behaviour(hook, room)
    });
    misbehave::run(hook, behaviour)
}

fn decide(hook: Hook, room: &Room, entry: Option<String>) -> Decision {
    let Effect {
        refusal, actions, ..
    } = call(hook, room, entry);
    Decision {
        verdict: refusal.map_or(Verdict::Allow, Verdict::Refuse),
        actions,
    }
}

fn inform(hook: Hook, room: &Room, entry: String) -> Vec<Action> {
    call(hook, room, Some(entry)).actions
}

#[cfg(not(feature = "contract-0-2"))]
fn remember(room: &Room, fact: Value) {
    FIXTURE.with_borrow_mut(|fixture| {
        push(fixture.facts.entry(room.id.clone()).or_default(), fact);
    });
}

struct Component;

impl exported::lifecycle::Guest for Component {
    fn init() -> Result<exported::lifecycle::Registration, String> {
        let settings: Settings = serde_json::from_str(&imported::settings::get())
            .map_err(|error| format!("settings: {error}"))?;
        let behaviour = settings.hooks.get(&Hook::Init).copied();
        let commands = settings.commands.clone();
        FIXTURE.with_borrow_mut(|fixture| fixture.settings = settings);
        match misbehave::run(Hook::Init, behaviour.unwrap_or(Behaviour::Allow)).refusal {
            Some(refusal) => Err(refusal.message),
            None => Ok(exported::lifecycle::Registration {
                commands: commands.unwrap_or_else(commands::names),
            }),
        }
    }
}

impl exported::before_join::Guest for Component {
    fn before_join(call: exported::before_join::Call) -> Decision {
        decide(Hook::BeforeJoin, &call.room, None)
    }
}

impl exported::on_room_opened::Guest for Component {
    fn on_room_opened(call: exported::on_room_opened::Call) -> Vec<Action> {
        inform(
            Hook::OnRoomOpened,
            &call.room,
            call.room.participants.to_string(),
        )
    }
}

impl exported::on_timer::Guest for Component {
    fn on_timer(call: exported::on_timer::Call) -> Vec<Action> {
        let entry = format!("{} {} {}", call.key, call.due, call.room.participants);
        inform(Hook::OnTimer, &call.room, entry)
    }
}

impl exported::on_join::Guest for Component {
    fn on_join(call: exported::on_join::Call) -> Vec<Action> {
        inform(Hook::OnJoin, &call.room, who(&call.participant))
    }
}

impl exported::describe_room::Guest for Component {
    fn describe_room(call: exported::describe_room::Call) -> Option<String> {
        let effect = self::call(Hook::DescribeRoom, &call.room, Some(who(&call.participant)));
        let described = || format!("{{\"participants\":{}}}", call.room.participants);
        Some(effect.answer.unwrap_or_else(described))
    }
}

impl exported::on_leave::Guest for Component {
    fn on_leave(call: exported::on_leave::Call) -> Vec<Action> {
        let entry = format!("{} {}", who(&call.participant), call.reason);
        inform(Hook::OnLeave, &call.room, entry)
    }
}

impl exported::before_produce::Guest for Component {
    fn before_produce(call: exported::before_produce::Call) -> exported::before_produce::Decision {
        let effect = self::call(Hook::BeforeProduce, &call.room, None);
        exported::before_produce::Decision {
            verdict: effect.refusal.map_or(Verdict::Allow, Verdict::Refuse),
            amendment: effect.amendment,
            actions: effect.actions,
        }
    }
}

impl exported::before_consume::Guest for Component {
    fn before_consume(call: exported::before_consume::Call) -> Decision {
        let entry = format!(
            "{} {} {}",
            who(&call.participant),
            call.producer.id,
            call.owner
        );
        decide(Hook::BeforeConsume, &call.room, Some(entry))
    }
}

impl exported::on_new_producer::Guest for Component {
    fn on_new_producer(call: exported::on_new_producer::Call) -> Vec<Action> {
        let entry = format!("{} {}", who(&call.participant), call.producer.id);
        inform(Hook::OnNewProducer, &call.room, entry)
    }
}

impl exported::speaker_changed::Guest for Component {
    fn speaker_changed(call: exported::speaker_changed::Call) -> Vec<Action> {
        let users: Vec<String> = call
            .speakers
            .iter()
            .map(|speaker| speaker.user_id.to_string())
            .collect();
        inform(Hook::SpeakerChanged, &call.room, users.join(","))
    }
}

impl exported::on_command::Guest for Component {
    fn on_command(call: exported::on_command::Call) -> exported::on_command::Reply {
        use exported::on_command::{Answer, Reply};

        let Effect {
            refusal,
            actions,
            answer,
            amendment: _,
        } = if call.command == commands::RUN {
            self::call(Hook::OnCommand, &call.room, None)
        } else {
            FIXTURE.with_borrow_mut(|fixture| fixture.calls += 1);
            commands::run(&call)
        };
        Reply {
            answer: refusal.map_or(Answer::Done(answer), Answer::Refuse),
            actions,
        }
    }
}

fn who(participant: &Participant) -> String {
    participant.user.id.to_string()
}

#[allow(unsafe_code, reason = "the canonical ABI is pointers and lengths")]
mod export {
    use super::{Component, bindings};

    bindings::export!(Component with_types_in bindings);
}

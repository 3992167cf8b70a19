//! Each behaviour, once.

use std::{
    hash::{BuildHasher, RandomState},
    hint::black_box,
    mem,
};

use super::{
    Effect,
    bindings::voice_room::plugin::{
        events, key_value, log, metrics, timers,
        types::{Action, Amendment, KickUser, Refusal, RoomEvent, Target},
    },
};
use crate::{Behaviour, Hook};

const MEGABYTE: usize = 1 << 20;
const MILLION: u32 = 1_000_000;
const NO_JSON: &str = "{\"this is\": no JSON";

/// Behaves; an import's error is never looked at, as a hostile guest would not.
pub(super) fn run(hook: Hook, behaviour: Behaviour) -> Effect {
    match behaviour {
        Behaviour::Allow => Effect::default(),
        Behaviour::Deny => refuse(
            "DENIED",
            "Denied by the fixture",
            &format!("{{\"hook\":\"{}\"}}", hook.name()),
        ),
        Behaviour::Loop => loop {
            black_box(());
        },
        Behaviour::Trap => std::process::abort(),
        Behaviour::Unwell => unwell(hook),
        Behaviour::Whim => whim(hook),
        Behaviour::Tell => Effect {
            actions: vec![emit("fixture:told", &format!("\"{}\"", hook.name()))],
            ..Effect::default()
        },
        Behaviour::Panic => panics(),
        Behaviour::StackOverflow => {
            black_box(descend(0));
            Effect::default()
        }
        Behaviour::ExhaustMemory => loop {
            mem::forget(black_box(vec![1_u8; MEGABYTE]));
        },
        Behaviour::Leak => {
            mem::forget(black_box(vec![1_u8; MEGABYTE]));
            Effect::default()
        }
        Behaviour::HugeRefusal => {
            let huge = huge(MEGABYTE);
            refuse(&huge, &huge, &format!("\"{huge}\""))
        }
        Behaviour::InvalidRefusalDetails => refuse("DENIED", "Denied by the fixture", NO_JSON),
        Behaviour::EmptyRefusal => refuse("", "", "{}"),
        Behaviour::HugeAnswer => Effect {
            answer: Some(format!("{{\"huge\":\"{}\"}}", huge(2 * MEGABYTE))),
            ..Effect::default()
        },
        Behaviour::InvalidJson => Effect {
            actions: vec![emit("fixture:invalid", NO_JSON)],
            answer: Some(NO_JSON.to_owned()),
            ..Effect::default()
        },
        Behaviour::FloodActions
        | Behaviour::HugeAction
        | Behaviour::BadAction
        | Behaviour::SpoofEvent => Effect {
            actions: actions(behaviour),
            ..Effect::default()
        },
        Behaviour::FloodLogs
        | Behaviour::FloodKv
        | Behaviour::FloodKvReads
        | Behaviour::FloodPublish
        | Behaviour::FloodMetrics
        | Behaviour::FloodKvCalls
        | Behaviour::LogGigabyte
        | Behaviour::HugeLog
        | Behaviour::HugeKv
        | Behaviour::HugePublish
        | Behaviour::FloodTimers
        | Behaviour::BadTimer => {
            strain_imports(behaviour);
            Effect::default()
        }
        Behaviour::AmendMuted
        | Behaviour::AmendPriority
        | Behaviour::AmendAttach
        | Behaviour::AmendBadly
        | Behaviour::AmendHuge => Effect {
            amendment: Some(amendment(behaviour)),
            ..Effect::default()
        },
    }
}

fn actions(behaviour: Behaviour) -> Vec<Action> {
    match behaviour {
        Behaviour::FloodActions => (0..20_000).map(|_| emit("fixture:flood", "{}")).collect(),
        Behaviour::HugeAction => {
            let huge = huge(MEGABYTE);
            vec![emit(&huge, &format!("\"{huge}\""))]
        }
        Behaviour::BadAction => vec![
            emit("", "{}"),
            Action::Mute(Target::Producer("no such producer".to_owned())),
            Action::Close(Target::Producer("no such producer".to_owned())),
            Action::Unmute(Target::User(u64::MAX)),
            Action::Kick(KickUser {
                user_id: u64::MAX,
                reason: String::new(),
            }),
        ],
        _ => vec![
            emit("room:closed", "{\"reason\":\"spoofed\"}"),
            emit("audio:newProducer", "{\"producerId\":\"spoofed\"}"),
        ],
    }
}

fn amendment(behaviour: Behaviour) -> Amendment {
    let attach = |json: String| (None, Some(json));
    let (priority, attach) = match behaviour {
        Behaviour::AmendPriority => (Some(200), None),
        Behaviour::AmendAttach => attach("{\"by\":\"fixture\"}".to_owned()),
        Behaviour::AmendBadly => (Some(0), Some(NO_JSON.to_owned())),
        Behaviour::AmendHuge => attach(format!("\"{}\"", huge(2 * MEGABYTE))),
        _ => (None, None),
    };
    Amendment {
        muted: behaviour == Behaviour::AmendMuted,
        priority,
        attach,
    }
}

fn strain_imports(behaviour: Behaviour) {
    match behaviour {
        Behaviour::FloodLogs => loop {
            log::write(log::Level::Info, "flood");
        },
        Behaviour::FloodKv => {
            for n in 0..MILLION {
                drop(black_box(key_value::set(&format!("flood/{n}"), b"flood")));
            }
        }
        Behaviour::FloodKvReads => {
            for _ in 0..MILLION {
                drop(black_box(key_value::get("flood")));
            }
        }
        Behaviour::FloodKvCalls => {
            for n in 0..5 * MILLION {
                drop(black_box(key_value::get("flood")));
                drop(black_box(key_value::set("flood", &n.to_le_bytes())));
            }
        }
        Behaviour::LogGigabyte => {
            let line = huge(MEGABYTE);
            for _ in 0..1024 {
                log::write(log::Level::Info, &line);
            }
        }
        Behaviour::FloodPublish => {
            for _ in 0..MILLION {
                drop(black_box(events::publish("fixture.flood", "{}")));
            }
        }
        Behaviour::FloodMetrics => {
            for n in 0..MILLION {
                metrics::increment(&format!("flood_{n}"), 1);
            }
        }
        Behaviour::FloodTimers => {
            for n in 0..MILLION {
                drop(black_box(timers::set(
                    &format!("flood/{n}"),
                    3_600_000,
                    None,
                )));
            }
        }
        Behaviour::BadTimer => {
            drop(black_box(timers::set("", 1_000, None)));
            drop(black_box(timers::set(&huge(MEGABYTE), 1_000, None)));
            drop(black_box(timers::set("late", u64::MAX, None)));
            drop(black_box(timers::set("often", 0, Some(0))));
            drop(black_box(timers::cancel("")));
        }
        Behaviour::HugeLog => log::write(log::Level::Info, &huge(2 * MEGABYTE)),
        Behaviour::HugeKv => {
            drop(black_box(key_value::set(
                "huge",
                huge(2 * MEGABYTE).as_bytes(),
            )));
            drop(black_box(key_value::set(&huge(MEGABYTE), b"huge")));
        }
        _ => {
            let payload = format!("\"{}\"", huge(2 * MEGABYTE));
            drop(black_box(events::publish("fixture.huge", &payload)));
        }
    }
}

fn unwell(hook: Hook) -> Effect {
    drop(black_box(key_value::increment(
        &format!("called/{}", hook.name()),
        1,
    )));
    if !matches!(key_value::get("well"), Ok(Some(_))) {
        std::process::abort();
    }
    Effect::default()
}

fn whim(hook: Hook) -> Effect {
    drop(black_box(key_value::increment(
        &format!("called/{}", hook.name()),
        1,
    )));
    // A hasher's keys are random numbers of the server.
    let chance = RandomState::new().hash_one(hook);
    if chance.is_multiple_of(4) {
        std::process::abort();
    }
    Effect::default()
}

#[allow(clippy::panic, reason = "this is what it is told to do")]
fn panics() -> ! {
    panic!("the fixture panics")
}

#[allow(unconditional_recursion, reason = "this is what it is told to do")]
fn descend(depth: u64) -> u64 {
    black_box(descend(black_box(depth + 1)) + 1)
}

fn huge(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn emit(event: &str, payload: &str) -> Action {
    Action::EmitToRoom(RoomEvent {
        event: event.to_owned(),
        payload: payload.to_owned(),
        except: None,
    })
}

fn refuse(code: &str, message: &str, details: &str) -> Effect {
    let refusal = Refusal {
        code: code.to_owned(),
        message: message.to_owned(),
        details: Some(details.to_owned()),
    };
    Effect {
        refusal: Some(refusal),
        ..Effect::default()
    }
}

//! What a guest returns, checked: nothing here is believed, and nothing can make the server
//! fail.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    call::{Action, Amendment, Pin, Target},
    host::{Identity, printable, wit::voice_room::plugin::types as wit},
    limits,
};
use crate::{
    config::Capability,
    model::{Refusal, UserId},
};

/// Namespaces of the server's own events, which no plugin may emit or answer.
const RESERVED: [&str; 11] = [
    "audio",
    "auth",
    "connect",
    "consumer",
    "disconnect",
    "error",
    "producer",
    "room",
    "server",
    "speaker",
    "transport",
];

/// Whether a plugin may emit an event of this name, or answer a command of this name.
///
/// It has a namespace (`seat:take`), so that it cannot be an event of a transport library
/// or of a face of the server, none of which have one; and the namespace is not the core's.
#[must_use]
pub fn is_plugin_event(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.');
    let Some((namespace, rest)) = name.split_once(':') else {
        return false;
    };
    name.len() <= limits::EVENT_NAME
        && name.bytes().all(allowed)
        && !namespace.is_empty()
        && !rest.is_empty()
        && !RESERVED
            .iter()
            .any(|reserved| namespace.eq_ignore_ascii_case(reserved))
}

/// What a deciding hook has decided.
pub(super) fn verdict(from: &Identity, verdict: wit::Verdict) -> Result<(), Refusal> {
    match verdict {
        wit::Verdict::Allow => Ok(()),
        wit::Verdict::Refuse(no) => Err(refusal(from, no)),
    }
}

/// How a producer is to begin; `None` if the plugin has no say in that.
pub(super) fn amendment(
    from: &Identity,
    amendment: wit::Amendment,
) -> Result<Option<Amendment>, String> {
    if !from.granted.has(Capability::Amend) {
        let why = || from.granted.denial(Capability::Amend);
        from.withhold(Capability::Amend, 1, why);
        return Ok(None);
    }
    let wit::Amendment {
        muted,
        priority,
        attach,
    } = amendment;
    let attach = attach
        .map(|text| json(&text, limits::ATTACHMENT).map_err(|why| format!("attach: {why}")))
        .transpose()?;
    Ok(Some(Amendment {
        muted,
        // 0 is no priority that the media core knows.
        priority: priority.map(|priority| priority.max(1)),
        attach,
    }))
}

/// The actions that can be handed on. The others are dropped, counted and, at a bounded
/// rate, logged.
pub(super) fn actions(from: &Identity, actions: Vec<wit::Action>) -> Vec<Action> {
    if actions.is_empty() {
        return Vec::new();
    }
    let asked = actions.len();
    let mut problem = None;
    let mut withheld = BTreeMap::new();
    let mut checked = Vec::with_capacity(asked.min(limits::ACTIONS));
    for wish in actions.into_iter().take(limits::ACTIONS) {
        let capability = needed(&wish);
        if !from.granted.has(capability) {
            *withheld.entry(capability).or_default() += 1;
            continue;
        }
        match action(wish) {
            Ok(action) => checked.push(action),
            Err(why) => problem = Some(why),
        }
    }
    for (capability, count) in &withheld {
        from.withhold(*capability, *count, || from.granted.denial(*capability));
    }
    if asked > limits::ACTIONS {
        problem = Some(format!(
            "one call asks for {asked}; {} are the limit",
            limits::ACTIONS
        ));
    }
    if let Some(problem) = problem {
        let withheld = withheld.values().sum::<u64>();
        let dropped = (asked - checked.len()) as u64 - withheld;
        let beyond = asked.saturating_sub(limits::ACTIONS) as u64;
        from.meters.actions_beyond.increment(beyond);
        from.meters.actions_invalid.increment(dropped - beyond);
        if from.complaints.allow() {
            let plugin = &*from.name;
            tracing::warn!(plugin, dropped, problem, "actions of a plugin are dropped");
        }
    }
    checked
}

/// What must be granted for an action.
fn needed(action: &wit::Action) -> Capability {
    match action {
        wit::Action::EmitToUser(_) | wit::Action::EmitToRoom(_) => Capability::Emit,
        wit::Action::Mute(_) | wit::Action::Unmute(_) => Capability::Mute,
        wit::Action::Close(_) => Capability::Close,
        wit::Action::Kick(_) => Capability::Kick,
        wit::Action::PinSpeaker(_) => Capability::PinSpeaker,
    }
}

fn action(action: wit::Action) -> Result<Action, String> {
    Ok(match action {
        wit::Action::EmitToUser(wit::UserEvent {
            user_id,
            event,
            payload,
        }) => {
            let (event, payload) = emitted(event, &payload)?;
            Action::EmitToUser {
                user: UserId(user_id),
                event,
                payload,
            }
        }
        wit::Action::EmitToRoom(wit::RoomEvent {
            event,
            payload,
            except,
        }) => {
            let (event, payload) = emitted(event, &payload)?;
            Action::EmitToRoom {
                event,
                payload,
                except: except.map(UserId),
            }
        }
        wit::Action::Mute(whose) => Action::Mute(target(&whose)?),
        wit::Action::Unmute(whose) => Action::Unmute(target(&whose)?),
        wit::Action::Close(whose) => Action::Close(target(&whose)?),
        wit::Action::Kick(wit::KickUser { user_id, reason }) => Action::Kick {
            user: UserId(user_id),
            reason: printable(&reason, limits::REASON).into_owned(),
        },
        wit::Action::PinSpeaker(wit::SpeakerPin { user_id, pin }) => Action::PinSpeaker {
            user: UserId(user_id),
            pin: match pin {
                wit::Pin::In => Pin::In,
                wit::Pin::Out => Pin::Out,
                wit::Pin::Auto => Pin::Auto,
            },
        },
    })
}

fn emitted(event: String, payload: &str) -> Result<(String, Value), String> {
    if !is_plugin_event(&event) {
        return Err(format!(
            "`{}` is no event name for plugins",
            printable(&event, limits::EVENT_NAME)
        ));
    }
    let payload = json(payload, limits::PAYLOAD).map_err(|why| format!("`{event}`: {why}"))?;
    Ok((event, payload))
}

fn target(whose: &wit::Target) -> Result<Target, String> {
    match whose {
        wit::Target::User(user) => Ok(Target::User(UserId(*user))),
        wit::Target::Producer(id) => match id.parse() {
            Ok(id) => Ok(Target::Producer(id)),
            Err(_) => Err(format!(
                "`{}` is no producer id",
                printable(id, limits::EVENT_NAME)
            )),
        },
    }
}

/// A JSON text within the limit.
pub(super) fn json(text: &str, limit: usize) -> Result<Value, String> {
    if text.len() > limit {
        return Err(format!(
            "{} bytes of JSON; {limit} are the limit",
            text.len()
        ));
    }
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))
}

/// A refusal stands even if parts of it are unusable: then those are cut or left out.
pub(super) fn refusal(from: &Identity, refusal: wit::Refusal) -> Refusal {
    let wit::Refusal {
        code,
        message,
        details,
    } = refusal;
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let code = if (1..=limits::CODE).contains(&code.len()) && code.bytes().all(allowed) {
        code
    } else {
        complain(from, "the code is not 1 to 64 characters of A-Z 0-9 _");
        "REFUSED".to_owned()
    };
    let message = if message.is_empty() {
        "Refused".to_owned()
    } else {
        printable(&message, limits::MESSAGE).into_owned()
    };
    let details = details.and_then(|text| match json(&text, limits::DETAILS) {
        Ok(details) if details.is_object() || details.is_array() => Some(details),
        Ok(_) => {
            complain(from, "the details are no JSON object or array");
            None
        }
        Err(why) => {
            complain(from, &format!("the details are {why}"));
            None
        }
    });
    Refusal {
        code,
        message,
        details,
        plugin: Some(Arc::clone(&from.name)),
        decision: None,
    }
}

fn complain(from: &Identity, problem: &str) {
    if from.complaints.allow() {
        let plugin = &*from.name;
        tracing::warn!(
            plugin,
            problem,
            "a refusal of a plugin is not as it should be"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_have_names_of_their_own() {
        for name in [
            "seat:take",
            "seat:invite:received",
            "moderation:notice",
            "a:b",
            "x-y.z_1:Q",
        ] {
            assert!(is_plugin_event(name), "{name}");
        }
    }

    #[test]
    fn a_plugin_cannot_pose_as_the_server() {
        for name in [
            "room:closed",
            "audio:newProducer",
            "auth:force_disconnect",
            "server:draining",
            "speaker:active",
            "transport:create",
            "consumer:close",
            "producer:close",
            "Room:closed",
            "ROOM:closed",
            "connect",
            "disconnect",
            "error",
            "connect_error",
            "produced",
            "",
            ":",
            "a:",
            ":a",
            "nonamespace",
            "with space:x",
            "new\nline:x",
            "ä:x",
        ] {
            assert!(!is_plugin_event(name), "{name:?}");
        }
        assert!(!is_plugin_event(&format!(
            "a:{}",
            "x".repeat(limits::EVENT_NAME)
        )));
    }

    #[test]
    fn json_has_a_size_and_a_depth() {
        assert_eq!(json("{\"a\":1}", 7), Ok(serde_json::json!({"a": 1})));
        assert!(json("{\"a\":1}", 6).is_err());
        assert!(json(&"[".repeat(10_000), 1 << 20).is_err());
        assert!(json("", 10).is_err());
    }

    #[test]
    fn a_kicks_reason_is_cut_to_one_printable_line() {
        let reason = "x\n".repeat(1000);
        let kick = wit::Action::Kick(wit::KickUser { user_id: 7, reason });
        let Ok(Action::Kick { reason, .. }) = action(kick) else {
            panic!("a kick")
        };
        assert_eq!(
            reason.chars().count(),
            limits::REASON + 1,
            "and an ellipsis"
        );
        assert!(!reason.contains('\n'));
    }

    #[test]
    fn a_target_is_an_id() {
        assert!(target(&wit::Target::Producer("nobody".to_owned())).is_err());
        assert_eq!(target(&wit::Target::User(7)), Ok(Target::User(UserId(7))));
    }
}

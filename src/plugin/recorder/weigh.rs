//! About how much memory a line takes while it waits.

use serde_json::Value;

use crate::plugin::{
    call::{Action, Amendment, Input, ParticipantView},
    record::{CallLine, ImportCall, InstanceLine, Outcome},
    trace::weight,
};

/// What a line takes besides its texts.
const LINE: usize = 1024;

/// Of an instance.
pub(super) fn instance(line: &InstanceLine) -> usize {
    LINE + weight(&line.settings) + imports(&line.imports) + outcome(&line.outcome)
}

/// Of a call.
pub(super) fn call(line: &CallLine) -> usize {
    let published = line.published.iter().map(|event| weight(&event.payload));
    LINE + input(&line.input)
        + imports(&line.imports)
        + outcome(&line.outcome)
        + line.amendment.as_ref().map_or(0, amendment)
        + line.actions.iter().map(action).sum::<usize>()
        + published.sum::<usize>()
}

fn imports(calls: &[ImportCall]) -> usize {
    let call = |call: &ImportCall| {
        call.arguments.iter().map(weight).sum::<usize>() + weight(&call.answer) + 64
    };
    calls.iter().map(call).sum()
}

fn input(input: &Input) -> usize {
    let command = match input {
        Input::Command(call) => call.payload.len() + call.target.as_ref().map_or(0, participant),
        _ => 0,
    };
    command + input.participant().map_or(0, participant)
}

fn participant(who: &ParticipantView) -> usize {
    who.user.claims.len()
        + who
            .user
            .roles
            .iter()
            .map(|role| role.len() + 32)
            .sum::<usize>()
}

fn outcome(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Refuse(refused) => refused.message.len() + value(refused.details.as_ref()),
        Outcome::Reply(answer) | Outcome::Shown(answer) => value(answer.as_ref()),
        Outcome::Failed(why) => why.len(),
        Outcome::Allow | Outcome::Noted => 0,
    }
}

fn amendment(amendment: &Amendment) -> usize {
    value(amendment.attach.as_ref())
}

fn action(action: &Action) -> usize {
    let payload = match action {
        Action::EmitToUser { payload, .. } | Action::EmitToRoom { payload, .. } => weight(payload),
        Action::Kick { reason, .. } => reason.len(),
        Action::Mute(_) | Action::Unmute(_) | Action::Close(_) | Action::PinSpeaker { .. } => 0,
    };
    256 + payload
}

fn value(value: Option<&Value>) -> usize {
    value.map_or(0, weight)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        model::{ParticipantId, RoomId, UnixMs, User, UserId},
        plugin::{
            call::{CommandCall, RoomView},
            record::{Published, Refused},
        },
    };

    const LONG: usize = 64 << 10;

    fn long() -> String {
        "x".repeat(LONG)
    }

    fn participant() -> ParticipantView {
        ParticipantView {
            id: ParticipantId::random(),
            user: Arc::new(User {
                id: UserId(1),
                name: None,
                avatar: None,
                roles: Vec::new(),
                claims: "{}".to_owned(),
            }),
            connections: 1,
        }
    }

    fn line() -> CallLine {
        let command = CommandCall {
            room: RoomView {
                id: RoomId::new("a").unwrap(),
                participants: 1,
            },
            participant: participant(),
            command: "a:b".to_owned(),
            payload: "{}".to_owned(),
            target: None,
            at: UnixMs(1),
        };
        CallLine {
            seq: 0,
            instance: 1,
            at: UnixMs(1),
            input: Arc::new(Input::Command(command)),
            imports: Vec::new(),
            truncated: false,
            outcome: Outcome::Noted,
            amendment: None,
            actions: Vec::new(),
            published: Vec::new(),
            undone: false,
            micros: 1,
        }
    }

    fn with_input(change: impl FnOnce(&mut CommandCall)) -> CallLine {
        let mut line = line();
        let Input::Command(call) = Arc::get_mut(&mut line.input).unwrap() else {
            panic!("a command")
        };
        change(call);
        line
    }

    #[test]
    fn every_long_part_of_a_call_counts() {
        let claims = |call: &mut CommandCall| {
            Arc::get_mut(&mut call.participant.user).unwrap().claims = long();
        };
        let refused = Refused {
            code: "NO".to_owned(),
            message: "No".to_owned(),
            details: Some(json!(long())),
        };
        let amendment = Amendment {
            attach: Some(json!(long())),
            ..Amendment::default()
        };
        let emit = Action::EmitToRoom {
            event: "a:b".to_owned(),
            payload: json!(long()),
            except: None,
        };
        let published = Published {
            topic: "t".to_owned(),
            payload: json!(long()),
        };
        let import = ImportCall {
            function: "key-value.get".into(),
            arguments: vec![json!("k")],
            answer: json!(long()),
        };
        let lines = [
            with_input(|call| call.payload = long()),
            with_input(claims),
            CallLine {
                outcome: Outcome::Reply(Some(json!(long()))),
                ..line()
            },
            CallLine {
                outcome: Outcome::Refuse(refused),
                ..line()
            },
            CallLine {
                amendment: Some(amendment),
                ..line()
            },
            CallLine {
                actions: vec![emit],
                ..line()
            },
            CallLine {
                published: vec![published],
                ..line()
            },
            CallLine {
                imports: vec![import],
                ..line()
            },
        ];
        for line in lines {
            let size = call(&line);
            assert!((LONG..2 * LONG).contains(&size), "{size}: {line:?}");
        }
        assert!(call(&line()) < 2 * LINE);
    }

    #[test]
    fn settings_and_what_init_asked_for_count() {
        let import = ImportCall {
            function: "key-value.get".into(),
            arguments: vec![json!("k")],
            answer: json!(long()),
        };
        let line = InstanceLine {
            instance: 1,
            run: UnixMs(1),
            at: UnixMs(1),
            plugin: "a".to_owned(),
            component: "sha256:00".to_owned(),
            contract: "0.3.0".to_owned(),
            settings: json!({ "text": long() }),
            random: 1,
            imports: vec![import],
            truncated: false,
            outcome: Outcome::Noted,
            continued: false,
        };
        let size = instance(&line);
        assert!((2 * LONG..3 * LONG).contains(&size), "{size}");
    }
}

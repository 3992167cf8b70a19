//! From what an older component returns to what the current version returns.

use wasmtime::component::Val;

use super::Unfit;
use crate::{
    model::Hook,
    plugin::{
        host::wit::{
            exports::voice_room::plugin::{before_produce, on_command},
            voice_room::plugin::types::{
                Action, Amendment, Decision, KickUser, Pin, Refusal, RoomEvent, SpeakerPin, Target,
                UserEvent, Verdict,
            },
        },
        instance::Raw,
    },
};

/// What `init` returns: commands, or a sentence.
pub(super) fn registered(result: Val) -> Result<Result<Vec<String>, String>, Unfit> {
    match result {
        Val::Result(Ok(Some(registration))) => {
            let mut fields = Fields::of(*registration)?;
            let commands = fields.take("commands").map_or(Ok(Vec::new()), list)?;
            commands
                .into_iter()
                .map(text)
                .collect::<Result<_, _>>()
                .map(Ok)
        }
        Val::Result(Err(Some(sentence))) => text(*sentence).map(Err),
        _ => Err(Unfit::new("`init` returns no registration")),
    }
}

/// What a hook returns.
pub(super) fn raw(hook: Hook, result: Option<Val>) -> Result<Raw, Unfit> {
    let result = || result.ok_or_else(|| Unfit::new(format!("`{hook}` returns nothing")));
    Ok(match hook {
        Hook::BeforeJoin | Hook::BeforeConsume => {
            let mut fields = Fields::of(result()?)?;
            Raw::Decision(Decision {
                verdict: verdict(fields.need("verdict")?)?,
                actions: fields.actions()?,
            })
        }
        Hook::BeforeProduce => {
            let mut fields = Fields::of(result()?)?;
            Raw::Produce(before_produce::Decision {
                verdict: verdict(fields.need("verdict")?)?,
                amendment: fields.optional("amendment", amendment)?,
                actions: fields.actions()?,
            })
        }
        Hook::DescribeRoom => Raw::Shown(option(result()?)?.map(text).transpose()?),
        Hook::OnCommand => {
            let mut fields = Fields::of(result()?)?;
            Raw::Reply(on_command::Reply {
                answer: answer(fields.need("answer")?)?,
                actions: fields.actions()?,
            })
        }
        // A hook that informs may return nothing at all.
        _ => Raw::Actions(result().map_or(Ok(Vec::new()), actions)?),
    })
}

fn answer(val: Val) -> Result<on_command::Answer, Unfit> {
    let (case, payload) = variant(val)?;
    match &*case {
        "done" => Ok(on_command::Answer::Done(
            option(payload.need()?)?.map(text).transpose()?,
        )),
        "refuse" => Ok(on_command::Answer::Refuse(refusal(payload.need()?)?)),
        _ => Err(unknown_case(&case)),
    }
}

fn verdict(val: Val) -> Result<Verdict, Unfit> {
    let (case, payload) = variant(val)?;
    match &*case {
        "allow" => Ok(Verdict::Allow),
        "refuse" => Ok(Verdict::Refuse(refusal(payload.need()?)?)),
        _ => Err(unknown_case(&case)),
    }
}

fn refusal(val: Val) -> Result<Refusal, Unfit> {
    let mut fields = Fields::of(val)?;
    Ok(Refusal {
        code: text(fields.need("code")?)?,
        message: text(fields.need("message")?)?,
        details: fields.optional("details", text)?,
    })
}

fn amendment(val: Val) -> Result<Amendment, Unfit> {
    let mut fields = Fields::of(val)?;
    Ok(Amendment {
        muted: matches!(fields.take("muted"), Some(Val::Bool(true))),
        priority: fields.optional("priority", |val| match val {
            Val::U8(priority) => Ok(priority),
            _ => Err(Unfit::new("`priority` is no u8")),
        })?,
        attach: fields.optional("attach", text)?,
    })
}

fn actions(val: Val) -> Result<Vec<Action>, Unfit> {
    list(val)?.into_iter().map(action).collect()
}

fn action(val: Val) -> Result<Action, Unfit> {
    let (case, payload) = variant(val)?;
    let payload = payload.need()?;
    Ok(match &*case {
        "emit-to-user" => {
            let mut fields = Fields::of(payload)?;
            Action::EmitToUser(UserEvent {
                user_id: id(&fields.need("user-id")?)?,
                event: text(fields.need("event")?)?,
                payload: text(fields.need("payload")?)?,
            })
        }
        "emit-to-room" => {
            let mut fields = Fields::of(payload)?;
            Action::EmitToRoom(RoomEvent {
                event: text(fields.need("event")?)?,
                payload: text(fields.need("payload")?)?,
                except: fields.optional("except", |val| id(&val))?,
            })
        }
        "mute" => Action::Mute(target(payload)?),
        "unmute" => Action::Unmute(target(payload)?),
        "close" => Action::Close(target(payload)?),
        "kick" => {
            let mut fields = Fields::of(payload)?;
            Action::Kick(KickUser {
                user_id: id(&fields.need("user-id")?)?,
                reason: text(fields.need("reason")?)?,
            })
        }
        "pin-speaker" => {
            let mut fields = Fields::of(payload)?;
            Action::PinSpeaker(SpeakerPin {
                user_id: id(&fields.need("user-id")?)?,
                pin: pin(fields.need("pin")?)?,
            })
        }
        _ => return Err(unknown_case(&case)),
    })
}

fn pin(val: Val) -> Result<Pin, Unfit> {
    let (case, _) = variant(val)?;
    match &*case {
        "in" => Ok(Pin::In),
        "out" => Ok(Pin::Out),
        "auto" => Ok(Pin::Auto),
        _ => Err(unknown_case(&case)),
    }
}

fn target(val: Val) -> Result<Target, Unfit> {
    let (case, payload) = variant(val)?;
    match &*case {
        "user" => Ok(Target::User(id(&payload.need()?)?)),
        "producer" => Ok(Target::Producer(text(payload.need()?)?)),
        _ => Err(unknown_case(&case)),
    }
}

/// The fields of a record, taken out by name.
struct Fields(Vec<(String, Val)>);

impl Fields {
    fn of(val: Val) -> Result<Self, Unfit> {
        match val {
            Val::Record(fields) => Ok(Self(fields)),
            _ => Err(Unfit::new("a record is wanted")),
        }
    }

    fn take(&mut self, name: &str) -> Option<Val> {
        let place = self.0.iter().position(|(field, _)| field == name)?;
        Some(self.0.swap_remove(place).1)
    }

    fn need(&mut self, name: &str) -> Result<Val, Unfit> {
        self.take(name)
            .ok_or_else(|| Unfit::new(format!("a result lacks `{name}`")))
    }

    /// A field that is an option, or that older versions do not have.
    fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Val) -> Result<T, Unfit>,
    ) -> Result<Option<T>, Unfit> {
        let some = self.take(name).map_or(Ok(None), option)?;
        some.map(read).transpose()
    }

    fn actions(&mut self) -> Result<Vec<Action>, Unfit> {
        actions(self.need("actions")?)
    }
}

/// What a case of a variant carries, if anything.
struct Payload(Option<Box<Val>>);

impl Payload {
    fn need(self) -> Result<Val, Unfit> {
        let val = self.0.ok_or_else(|| Unfit::new("a case lacks its value"))?;
        Ok(*val)
    }
}

fn variant(val: Val) -> Result<(String, Payload), Unfit> {
    match val {
        Val::Variant(case, payload) => Ok((case, Payload(payload))),
        Val::Enum(case) => Ok((case, Payload(None))),
        _ => Err(Unfit::new("a variant is wanted")),
    }
}

fn unknown_case(case: &str) -> Unfit {
    Unfit::new(format!("the case `{case}` is unknown"))
}

fn option(val: Val) -> Result<Option<Val>, Unfit> {
    match val {
        Val::Option(some) => Ok(some.map(|val| *val)),
        _ => Err(Unfit::new("an option is wanted")),
    }
}

fn list(val: Val) -> Result<Vec<Val>, Unfit> {
    match val {
        Val::List(list) => Ok(list),
        _ => Err(Unfit::new("a list is wanted")),
    }
}

fn text(val: Val) -> Result<String, Unfit> {
    match val {
        Val::String(text) => Ok(text),
        _ => Err(Unfit::new("a string is wanted")),
    }
}

fn id(val: &Val) -> Result<u64, Unfit> {
    match val {
        Val::U64(id) => Ok(*id),
        _ => Err(Unfit::new("a u64 is wanted")),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn string(text: &str) -> Val {
        Val::String(text.to_owned())
    }

    fn some(val: Val) -> Val {
        Val::Option(Some(Box::new(val)))
    }

    fn record<const N: usize>(fields: [(&str, Val); N]) -> Val {
        let fields = fields.map(|(name, val)| (name.to_owned(), val));
        Val::Record(fields.into())
    }

    fn case(name: &str, payload: Val) -> Val {
        Val::Variant(name.to_owned(), Some(Box::new(payload)))
    }

    fn allow() -> Val {
        Val::Variant("allow".to_owned(), None)
    }

    /// What a result's reading comes to, as text.
    fn read(hook: Hook, result: Val) -> Result<String, String> {
        match raw(hook, Some(result)) {
            Ok(Raw::Decision(decision)) => Ok(format!("{decision:?}")),
            Ok(Raw::Produce(decision)) => Ok(format!("{decision:?}")),
            Ok(Raw::Actions(actions)) => Ok(format!("{actions:?}")),
            Ok(Raw::Shown(shown)) => Ok(format!("{shown:?}")),
            Ok(Raw::Reply(reply)) => Ok(format!("{reply:?}")),
            Err(Unfit(why)) => Err(why),
        }
    }

    #[test]
    fn a_refusal_comes_with_its_details_and_actions() {
        let refusal = record([
            ("details", some(string("{}"))),
            ("code", string("NO")),
            ("message", string("No.")),
        ]);
        let kick = record([("user-id", Val::U64(7)), ("reason", string("out"))]);
        let decision = record([
            ("verdict", case("refuse", refusal)),
            ("actions", Val::List(vec![case("kick", kick)])),
        ]);
        let read = read(Hook::BeforeJoin, decision).unwrap();
        for part in ["\"NO\"", "\"No.\"", "Some(\"{}\")", "user-id: 7", "\"out\""] {
            assert!(read.contains(part), "{part} in {read}");
        }
    }

    #[test]
    fn a_decision_of_before_amendments_has_none() {
        let decision = record([("verdict", allow()), ("actions", Val::List(Vec::new()))]);
        let Ok(Raw::Produce(decision)) = raw(Hook::BeforeProduce, Some(decision)) else {
            panic!("a decision")
        };
        assert!(decision.amendment.is_none());
        assert!(matches!(decision.verdict, Verdict::Allow));
    }

    #[test]
    fn an_amendment_is_read_by_its_fields() {
        let amendment = record([("muted", Val::Bool(true)), ("priority", some(Val::U8(9)))]);
        let decision = record([
            ("amendment", some(amendment)),
            ("verdict", allow()),
            ("actions", Val::List(Vec::new())),
        ]);
        let Ok(Raw::Produce(decision)) = raw(Hook::BeforeProduce, Some(decision)) else {
            panic!("a decision")
        };
        let amendment = decision.amendment.unwrap();
        assert!(amendment.muted);
        assert_eq!((amendment.priority, amendment.attach), (Some(9), None));
    }

    #[rstest]
    #[case::emit_to_user(case("emit-to-user", record([
        ("user-id", Val::U64(7)), ("event", string("a:b")), ("payload", string("{}")),
    ])))]
    #[case::emit_to_room(case("emit-to-room", record([
        ("event", string("a:b")), ("payload", string("{}")), ("except", some(Val::U64(7))),
    ])))]
    #[case::mute(case("mute", case("user", Val::U64(7))))]
    #[case::unmute(case("unmute", case("user", Val::U64(7))))]
    #[case::close(case("close", case("user", Val::U64(7))))]
    #[case::pin(case("pin-speaker", record([
        ("user-id", Val::U64(7)), ("pin", Val::Enum("out".to_owned())),
    ])))]
    #[case::close_one(case("close", case("producer", string("id-7"))))]
    fn every_action_is_read(#[case] action: Val) {
        let read = read(Hook::OnJoin, Val::List(vec![action])).unwrap();
        assert!(read.contains('7'), "{read}");
    }

    #[test]
    fn answers_and_pictures_of_rooms_are_read() {
        let done = case("done", some(string("{}")));
        let reply = record([("answer", done), ("actions", Val::List(Vec::new()))]);
        assert!(
            read(Hook::OnCommand, reply)
                .unwrap()
                .contains("Some(\"{}\")")
        );
        assert_eq!(
            read(Hook::DescribeRoom, some(string("{}"))).unwrap(),
            "Some(\"{}\")"
        );
        assert_eq!(read(Hook::DescribeRoom, Val::Option(None)).unwrap(), "None");
    }

    #[test]
    fn a_hook_that_informs_may_return_nothing() {
        assert!(matches!(raw(Hook::OnRoomClosed, None), Ok(Raw::Actions(none)) if none.is_empty()));
    }

    #[rstest]
    #[case(Hook::BeforeJoin, Val::Bool(true), "a record is wanted")]
    #[case(Hook::BeforeJoin, record([("verdict", allow())]), "a result lacks `actions`")]
    #[case(Hook::OnJoin, Val::List(vec![allow()]), "a case lacks its value")]
    #[case(Hook::OnJoin, Val::List(vec![case("fly", Val::U64(1))]), "the case `fly` is unknown")]
    #[case(Hook::OnJoin, string("x"), "a list is wanted")]
    #[case(Hook::DescribeRoom, string("x"), "an option is wanted")]
    #[case(Hook::DescribeRoom, some(Val::U8(1)), "a string is wanted")]
    fn what_is_not_of_the_contract_is_named(
        #[case] hook: Hook,
        #[case] result: Val,
        #[case] expected: &str,
    ) {
        assert_eq!(read(hook, result).unwrap_err(), expected);
    }

    #[test]
    fn init_registers_commands_or_gives_a_sentence() {
        let commands = Val::List(vec![string("a:b")]);
        let registration = record([("commands", commands), ("added", Val::Bool(true))]);
        assert_eq!(
            registered(Val::Result(Ok(Some(Box::new(registration))))),
            Ok(Ok(vec!["a:b".to_owned()]))
        );
        assert_eq!(
            registered(Val::Result(Err(Some(Box::new(string("no")))))),
            Ok(Err("no".to_owned()))
        );
        assert!(registered(Val::U8(1)).is_err());
    }
}

//! The component: its exports call the registered plugin.

#![allow(
    unreachable_pub,
    reason = "reached through `__guest`, which hides it from the docs"
)]

pub mod bindings;
mod convert;
pub(crate) mod imports;

use std::{cell::RefCell, marker::PhantomData, thread::LocalKey};

use bindings::{
    before_produce::exports::voice_room::plugin::before_produce as produce,
    voice_room::plugin::types as wit,
};

use crate::{
    Amendment, BeforeConsume, BeforeJoin, BeforeProduce, Denial, DescribeRoom, Failure, OnCommand,
    OnFirstRtp, OnJoin, OnLeave, OnNewProducer, OnProducerClosed, OnProducerPaused,
    OnProducerResumed, OnRoomClosed, OnRoomOpened, OnTimer, Plugin, ProduceDecision, Settings,
    Speaker, SpeakerChanged, log,
};

/// A plugin that `register_plugin!` gave a place to live in.
pub trait Registered: Plugin + 'static {
    /// The place of the component's one instance.
    fn place() -> &'static LocalKey<RefCell<Option<Self>>>;
}

/// Implements the generated traits for a plugin.
pub struct Exports<P>(PhantomData<P>);

/// Ends the call as a trap does, after telling the log why.
fn fail(failure: &impl std::fmt::Display) -> ! {
    log::error!("the call failed: {failure}");
    std::process::abort()
}

fn call<P: Registered, T>(hook: impl FnOnce(&mut P) -> Result<T, Failure>) -> T {
    P::place().with_borrow_mut(|place| match place {
        Some(plugin) => hook(plugin).unwrap_or_else(|failure| fail(&failure)),
        None => fail(&"a hook was called before `init`"),
    })
}

impl<P: Registered> bindings::exports::voice_room::plugin::lifecycle::Guest for Exports<P> {
    fn init() -> Result<bindings::exports::voice_room::plugin::lifecycle::Registration, String> {
        // The default hook writes to standard error, which the server does not show.
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
        let plugin = P::init(Settings::current()).map_err(|error| error.to_string())?;
        let commands = plugin
            .commands()
            .iter()
            .map(|&command| command.to_owned())
            .collect();
        P::place().set(Some(plugin));
        Ok(bindings::exports::voice_room::plugin::lifecycle::Registration { commands })
    }
}

/// Implements one generated trait: which fields the call has, and what becomes of the result.
macro_rules! hooks {
    ($(
        $hook:ident($argument:ident { $($field:ident),* }) -> $result:ty, $finish:expr;
    )*) => {$(
        impl<P: Registered> bindings::$hook::exports::voice_room::plugin::$hook::Guest
            for Exports<P>
        {
            fn $hook(
                wit: bindings::$hook::exports::voice_room::plugin::$hook::Call,
            ) -> $result {
                let argument = $argument { $($field: wit.$field.into(),)* at: wit.at };
                call::<P, _>(|plugin| $finish(plugin.$hook(&argument)))
            }
        }
    )*};
}

hooks! {
    before_join(BeforeJoin { room, participant }) -> wit::Decision, convert::decision;
    on_room_opened(OnRoomOpened { room }) -> Vec<wit::Action>, informed;
    on_join(OnJoin { room, participant }) -> Vec<wit::Action>, informed;
    describe_room(DescribeRoom { room, participant }) -> Option<String>, described;
    on_leave(OnLeave { room, participant, reason }) -> Vec<wit::Action>, informed;
    before_produce(BeforeProduce { room, participant, source, codec })
        -> produce::Decision, produced;
    before_consume(BeforeConsume { room, participant, producer, owner }) -> wit::Decision,
        convert::decision;
    on_new_producer(OnNewProducer { room, participant, producer }) -> Vec<wit::Action>, informed;
    on_first_rtp(OnFirstRtp { room, participant, producer, packet, fact_id })
        -> Vec<wit::Action>, informed;
    on_producer_paused(OnProducerPaused { room, participant, producer, cause, media, fact_id })
        -> Vec<wit::Action>, informed;
    on_producer_resumed(OnProducerResumed { room, participant, producer, cause, media, fact_id })
        -> Vec<wit::Action>, informed;
    on_producer_closed(
        OnProducerClosed { room, participant, producer, reason, first_rtp_at, media, fact_id }
    ) -> Vec<wit::Action>, informed;
    on_timer(OnTimer { room, key, due }) -> Vec<wit::Action>, informed;
    on_room_closed(OnRoomClosed { room, reason, fact_id }) -> (), std::convert::identity;
}

fn produced(decision: ProduceDecision) -> Result<produce::Decision, Failure> {
    match decision {
        Ok(permit) => {
            let (amendment, actions) = permit.into_parts()?;
            Ok(produce::Decision {
                verdict: wit::Verdict::Allow,
                amendment: (amendment != Amendment::default()).then(|| amendment.into()),
                actions: convert::actions(actions)?,
            })
        }
        Err(denial) => {
            let wit::Decision { verdict, actions } = convert::decision(Err(denial))?;
            Ok(produce::Decision {
                verdict,
                amendment: None,
                actions,
            })
        }
    }
}

fn informed(outcome: crate::Outcome) -> Result<Vec<wit::Action>, Failure> {
    convert::actions(outcome?)
}

fn described(
    description: Result<Option<serde_json::Value>, Failure>,
) -> Result<Option<String>, Failure> {
    Ok(description?.map(|shown| shown.to_string()))
}

impl<P: Registered> bindings::speaker_changed::exports::voice_room::plugin::speaker_changed::Guest
    for Exports<P>
{
    fn speaker_changed(
        wit: bindings::speaker_changed::exports::voice_room::plugin::speaker_changed::Call,
    ) -> Vec<wit::Action> {
        let speakers = wit.speakers.into_iter().map(|speaker| Speaker {
            user_id: speaker.user_id,
            producer_id: speaker.producer_id,
            volume: speaker.volume,
        });
        let argument = SpeakerChanged {
            room: wit.room.into(),
            speakers: speakers.collect(),
            at: wit.at,
        };
        call::<P, _>(|plugin| informed(plugin.speaker_changed(&argument)))
    }
}

impl<P: Registered> bindings::on_command::exports::voice_room::plugin::on_command::Guest
    for Exports<P>
{
    fn on_command(
        wit: bindings::on_command::exports::voice_room::plugin::on_command::Call,
    ) -> bindings::on_command::exports::voice_room::plugin::on_command::Reply {
        use bindings::on_command::exports::voice_room::plugin::on_command::{Answer, Reply};

        let argument = OnCommand {
            room: wit.room.into(),
            participant: wit.participant.into(),
            command: wit.command,
            payload_json: wit.payload,
            target: wit.target.map(Into::into),
            at: wit.at,
        };
        call::<P, _>(|plugin| match plugin.on_command(&argument) {
            Ok(reply) => Ok(Reply {
                answer: Answer::Done(reply.data.map(|data| data.to_string())),
                actions: convert::actions(reply.actions)?,
            }),
            Err(Denial::Refused(refused)) => {
                let (refused, actions) = convert::refusal(refused)?;
                Ok(Reply {
                    answer: Answer::Refuse(refused),
                    actions,
                })
            }
            Err(Denial::Failed(failure)) => Err(failure),
        })
    }
}

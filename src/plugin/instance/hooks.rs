//! The hooks of an instance: which it has, how they are called, and what they return.

use wasmtime::{
    Store,
    component::{Instance as Exports, InstancePre},
};

use super::{Answer, Failure};
use crate::{
    model::Hook,
    plugin::{
        call::{Action, Fact, Input},
        compat,
        host::{
            Identity, State,
            wit::{
                self,
                exports::voice_room::plugin::{self as exports, before_produce, on_command},
                voice_room::plugin::types::Decision,
            },
        },
        lift, limits,
        load::{PACKAGE, WIT_VERSION},
        lower::{self, IdText},
    },
};

macro_rules! hooks {
    ($($hook:ident: $name:ident,)*) => {
        /// Where the exports are that the component has.
        pub(super) struct Found {
            lifecycle: Option<exports::lifecycle::GuestIndices>,
            $($hook: Option<exports::$hook::GuestIndices>,)*
            older: compat::Found,
        }

        impl Found {
            pub(super) fn new(pre: &InstancePre<State>) -> wasmtime::Result<Self> {
                let lifecycle = if is_exported(pre, "lifecycle") {
                    Some(exports::lifecycle::GuestIndices::new(pre)?)
                } else {
                    None
                };
                Ok(Self {
                    lifecycle,
                    older: compat::Found::new(pre.component())?,
                    $($hook: if is_exported(pre, Hook::$name.name()) {
                        Some(exports::$hook::GuestIndices::new(pre)?)
                    } else {
                        None
                    },)*
                })
            }

            pub(super) fn has(&self, hook: Hook) -> bool {
                match hook {
                    Hook::Init => true,
                    $(Hook::$name => self.$hook.is_some() || self.older.has(hook),)*
                }
            }

            pub(super) fn load(
                &self,
                store: &mut Store<State>,
                of: &Exports,
            ) -> wasmtime::Result<Hooks> {
                Ok(Hooks {
                    older: self.older.load(&mut *store, of)?,
                    $($hook: match &self.$hook {
                        Some(found) => Some(found.load(&mut *store, of)?),
                        None => None,
                    },)*
                })
            }
        }

        /// The hooks of one instance.
        pub(super) struct Hooks {
            $($hook: Option<exports::$hook::Guest>,)*
            older: compat::Hooks,
        }
    };
}

hooks! {
    before_join: BeforeJoin,
    on_room_opened: OnRoomOpened,
    on_join: OnJoin,
    describe_room: DescribeRoom,
    on_leave: OnLeave,
    before_produce: BeforeProduce,
    before_consume: BeforeConsume,
    on_new_producer: OnNewProducer,
    on_first_rtp: OnFirstRtp,
    on_producer_paused: OnProducerPaused,
    on_producer_resumed: OnProducerResumed,
    on_producer_closed: OnProducerClosed,
    speaker_changed: SpeakerChanged,
    on_timer: OnTimer,
    on_room_closed: OnRoomClosed,
    on_command: OnCommand,
}

fn is_exported(pre: &InstancePre<State>, interface: &str) -> bool {
    let interface = format!("{PACKAGE}{interface}@{WIT_VERSION}");
    pre.component().get_export_index(None, &interface).is_some()
}

impl Found {
    /// Initialises an instance. The commands that it registers, or its sentence.
    pub(super) async fn init(
        &self,
        store: &mut Store<State>,
        of: &Exports,
    ) -> wasmtime::Result<Result<Vec<String>, String>> {
        let Some(lifecycle) = &self.lifecycle else {
            return self.older.init(store, of).await;
        };
        let lifecycle = lifecycle.load(&mut *store, of)?;
        let registered = lifecycle.call_init(store).await?;
        Ok(registered.map(|registration| registration.commands))
    }
}

/// Calls a hook with the arguments of its record, where the component has it.
macro_rules! call {
    (
        $store:expr, $hooks:ident.$hook:ident.$method:ident, $raw:expr,
        { $($field:ident $(: $argument:expr)?,)* }
    ) => {
        match &$hooks.$hook {
            Some(guest) => {
                let call = exports::$hook::Call { $($field $(: $argument)?,)* };
                Ok(Some($raw(guest.$method($store, call).await?)))
            }
            None => Ok(None),
        }
    };
}

impl Hooks {
    /// Calls the one that the input is for; nothing where the component does not have it.
    pub(super) async fn call(
        &self,
        store: &mut Store<State>,
        input: &Input,
    ) -> wasmtime::Result<Option<Raw>> {
        if let Some(older) = self.older.of(input.hook()) {
            // Boxed, so that the calls of this version do not carry it about.
            return Box::pin(older.call(store, input)).await.map(Some);
        }
        match input {
            Input::BeforeJoin(it) => {
                let who = lower::Present::new(&it.participant);
                call!(store, self.before_join.call_before_join, Raw::Decision, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    at: it.at.0,
                })
            }
            Input::DescribeRoom(it) => {
                let who = lower::Present::new(&it.participant);
                call!(store, self.describe_room.call_describe_room, Raw::Shown, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    at: it.at.0,
                })
            }
            Input::BeforeProduce(it) => {
                let who = lower::Present::new(&it.participant);
                call!(store, self.before_produce.call_before_produce, Raw::Produce, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    source: lower::source(it.source),
                    codec: lower::codec(&it.codec),
                    at: it.at.0,
                })
            }
            Input::BeforeConsume(it) => {
                let who = lower::Present::new(&it.participant);
                let id = IdText::new(it.producer.id.0);
                call!(store, self.before_consume.call_before_consume, Raw::Decision, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    producer: lower::producer(&it.producer, &id),
                    owner: it.owner.0,
                    at: it.at.0,
                })
            }
            Input::Command(it) => {
                let who = lower::Present::new(&it.participant);
                let target = it.target.as_ref().map(lower::Present::new);
                call!(store, self.on_command.call_on_command, Raw::Reply, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    command: &it.command,
                    payload: &it.payload,
                    target: target.as_ref().map(lower::Present::lend),
                    at: it.at.0,
                })
            }
            Input::Fact(fact) => self.tell(store, fact).await,
        }
    }

    async fn tell(&self, store: &mut Store<State>, fact: &Fact) -> wasmtime::Result<Option<Raw>> {
        match fact {
            Fact::RoomOpened { room, at } => {
                call!(store, self.on_room_opened.call_on_room_opened, Raw::Actions, {
                    room: lower::room(room),
                    at: at.0,
                })
            }
            Fact::RoomClosed {
                room,
                reason,
                fact,
                at,
            } => {
                let (nothing, fact) = (|()| Raw::Actions(Vec::new()), IdText::new(fact.0));
                call!(store, self.on_room_closed.call_on_room_closed, nothing, {
                    room: lower::room(room),
                    reason,
                    fact_id: fact.as_str(),
                    at: at.0,
                })
            }
            Fact::Timer { room, key, due, at } => {
                call!(store, self.on_timer.call_on_timer, Raw::Actions, {
                    room: lower::room(room),
                    key,
                    due: due.0,
                    at: at.0,
                })
            }
            Fact::SpeakerChanged { room, speakers, at } => {
                let ids = lower::speaker_ids(speakers);
                call!(store, self.speaker_changed.call_speaker_changed, Raw::Actions, {
                    room: lower::room(room),
                    speakers: &lower::speakers(speakers, &ids),
                    at: at.0,
                })
            }
            _ => self.tell_of_someone(store, fact).await,
        }
    }

    async fn tell_of_someone(
        &self,
        store: &mut Store<State>,
        fact: &Fact,
    ) -> wasmtime::Result<Option<Raw>> {
        match fact {
            Fact::Joined(it) => {
                let who = lower::Present::new(&it.participant);
                call!(store, self.on_join.call_on_join, Raw::Actions, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    at: it.at.0,
                })
            }
            Fact::Left {
                room,
                participant,
                reason,
                at,
            } => {
                let who = lower::Present::new(participant);
                call!(store, self.on_leave.call_on_leave, Raw::Actions, {
                    room: lower::room(room),
                    participant: who.lend(),
                    reason,
                    at: at.0,
                })
            }
            Fact::NewProducer {
                room,
                participant,
                producer,
                at,
            } => {
                let (who, id) = (lower::Present::new(participant), IdText::new(producer.id.0));
                call!(store, self.on_new_producer.call_on_new_producer, Raw::Actions, {
                    room: lower::room(room),
                    participant: who.lend(),
                    producer: lower::producer(producer, &id),
                    at: at.0,
                })
            }
            _ => self.tell_of_media(store, fact).await,
        }
    }

    async fn tell_of_media(
        &self,
        store: &mut Store<State>,
        fact: &Fact,
    ) -> wasmtime::Result<Option<Raw>> {
        match fact {
            Fact::FirstRtp {
                room,
                participant,
                producer,
                packet,
                fact,
                at,
            } => {
                let (who, id) = (lower::Present::new(participant), IdText::new(producer.id.0));
                let fact = IdText::new(fact.0);
                call!(store, self.on_first_rtp.call_on_first_rtp, Raw::Actions, {
                    room: lower::room(room),
                    participant: who.lend(),
                    producer: lower::producer(producer, &id),
                    packet: lower::first_packet(*packet),
                    fact_id: fact.as_str(),
                    at: at.0,
                })
            }
            Fact::ProducerPaused {
                room,
                participant,
                producer,
                cause,
                media,
                fact,
                at,
            } => {
                let (who, id) = (lower::Present::new(participant), IdText::new(producer.id.0));
                let fact = IdText::new(fact.0);
                call!(store, self.on_producer_paused.call_on_producer_paused, Raw::Actions, {
                    room: lower::room(room),
                    participant: who.lend(),
                    producer: lower::producer(producer, &id),
                    cause: cause.as_str(),
                    media: lower::media(*media),
                    fact_id: fact.as_str(),
                    at: at.0,
                })
            }
            Fact::ProducerResumed {
                room,
                participant,
                producer,
                cause,
                media,
                fact,
                at,
            } => {
                let (who, id) = (lower::Present::new(participant), IdText::new(producer.id.0));
                let fact = IdText::new(fact.0);
                call!(store, self.on_producer_resumed.call_on_producer_resumed, Raw::Actions, {
                    room: lower::room(room),
                    participant: who.lend(),
                    producer: lower::producer(producer, &id),
                    cause: cause.as_str(),
                    media: lower::media(*media),
                    fact_id: fact.as_str(),
                    at: at.0,
                })
            }
            Fact::ProducerClosed {
                room,
                participant,
                producer,
                reason,
                first_rtp_at,
                media,
                fact,
                at,
            } => {
                let (who, id) = (lower::Present::new(participant), IdText::new(producer.id.0));
                let fact = IdText::new(fact.0);
                call!(store, self.on_producer_closed.call_on_producer_closed, Raw::Actions, {
                    room: lower::room(room),
                    participant: who.lend(),
                    producer: lower::producer(producer, &id),
                    reason,
                    first_rtp_at: first_rtp_at.map(|at| at.0),
                    media: lower::media(*media),
                    fact_id: fact.as_str(),
                    at: at.0,
                })
            }
            Fact::RoomOpened { .. }
            | Fact::RoomClosed { .. }
            | Fact::Timer { .. }
            | Fact::Joined(_)
            | Fact::Left { .. }
            | Fact::NewProducer { .. }
            | Fact::SpeakerChanged { .. } => Ok(None),
        }
    }
}

/// What a guest returned, unchecked.
pub(in crate::plugin) enum Raw {
    Decision(Decision),
    Produce(before_produce::Decision),
    Actions(Vec<wit::voice_room::plugin::types::Action>),
    Shown(Option<String>),
    Reply(on_command::Reply),
}

impl Raw {
    pub(super) fn check(self, from: &Identity) -> Result<(Answer, Vec<Action>), Failure> {
        let invalid = |why: String| Failure::Invalid(why);
        let json = |text: Option<String>| {
            text.map(|text| lift::json(&text, limits::PAYLOAD))
                .transpose()
                .map_err(invalid)
        };
        Ok(match self {
            Self::Decision(Decision { verdict, actions }) => {
                let verdict = lift::verdict(from, verdict).map(|()| None);
                (Answer::Verdict(verdict), lift::actions(from, actions))
            }
            Self::Produce(before_produce::Decision {
                verdict,
                amendment,
                actions,
            }) => {
                let amendment = amendment
                    .map(|amendment| lift::amendment(from, amendment))
                    .transpose()
                    .map_err(invalid)?
                    .flatten();
                let verdict = lift::verdict(from, verdict).map(|()| amendment);
                (Answer::Verdict(verdict), lift::actions(from, actions))
            }
            Self::Actions(actions) => (Answer::Noted, lift::actions(from, actions)),
            Self::Shown(text) => (Answer::Shown(json(text)?), Vec::new()),
            Self::Reply(on_command::Reply { answer, actions }) => {
                let reply = match answer {
                    on_command::Answer::Done(text) => Ok(json(text)?),
                    on_command::Answer::Refuse(refusal) => Err(lift::refusal(from, refusal)),
                };
                (Answer::Reply(reply), lift::actions(from, actions))
            }
        })
    }
}

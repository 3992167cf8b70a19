//! A plugin and rooms for it to rule, without a server.

use std::{collections::BTreeMap, fmt};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::host::{self, Timer};
use crate::{
    Actions, Amendment, Answer, BeforeConsume, BeforeJoin, BeforeProduce, Codec, Decision, Denial,
    DescribeRoom, Failure, InitError, OnCommand, OnFirstRtp, OnJoin, OnLeave, OnNewProducer,
    OnProducerClosed, OnRoomClosed, OnRoomOpened, OnTimer, Outcome, Participant, Plugin, Producer,
    Room, Settings, Source, Speaker, SpeakerChanged, UnixMs, User, UserId, kv,
};

/// A plugin and rooms for it to rule, without a server.
///
/// It calls the hooks that the server would call, in the same order and with the same
/// counts of participants and connections, and undoes what a failed hook has written. Time
/// moves only with [`Stage::advance`], which also fires timers. Actions are returned, not
/// carried out.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use voice_room_plugin_sdk::{
///     Actions, InitError, OnFirstRtp, OnTimer, Outcome, Permit, Plugin, BeforeProduce,
///     ProduceDecision, Settings, Source, Target, User, events, kv, testing::Stage, timers,
/// };
///
/// /// Everybody may speak for a minute, at low priority.
/// struct Minute;
///
/// impl Plugin for Minute {
///     fn init(_settings: Settings) -> Result<Self, InitError> {
///         Ok(Self)
///     }
///
///     fn before_produce(&mut self, _call: &BeforeProduce) -> ProduceDecision {
///         Ok(Permit::new().priority(10))
///     }
///
///     fn on_first_rtp(&mut self, call: &OnFirstRtp) -> Outcome {
///         events::publish("minute.started", call.participant.user.id)?;
///         kv::increment("speeches", 1)?;
///         timers::set(&call.producer.id, Duration::from_secs(60))?;
///         Ok(Actions::new())
///     }
///
///     fn on_timer(&mut self, call: &OnTimer) -> Outcome {
///         Ok(Actions::new().close(Target::Producer(call.key.clone())))
///     }
/// }
///
/// let mut stage = Stage::<Minute>::new(json!({})).unwrap();
/// let alice = stage.join("lobby", User::new(7)).unwrap();
/// let speech = stage.produce(&alice, Source::Mic).unwrap();
/// assert_eq!(speech.amendment.priority, Some(10));
///
/// stage.first_rtp(&alice, &speech.producer).unwrap();
/// assert_eq!(stage.published("minute.started"), [json!(7)]);
/// assert_eq!(stage.kv::<i64>("speeches"), Some(1));
///
/// assert_eq!(stage.advance(59_999).unwrap(), []);
/// let fired = stage.advance(1).unwrap();
/// assert_eq!(fired[0].actions, Actions::new().close(Target::Producer(speech.producer.id)));
/// ```
pub struct Stage<P> {
    /// The plugin, for calling its hooks directly.
    pub plugin: P,
    ids: u64,
    rooms: BTreeMap<String, Vec<Participant>>,
    first_rtp: BTreeMap<String, UnixMs>,
    twinned: bool,
}

/// Who has entered, and what the plugin did about it.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The newcomer.
    pub participant: Participant,
    /// The room that was entered.
    pub room_id: String,
    /// What `before_join`, `on_room_opened` and `on_join` asked for, in this order.
    pub actions: Actions,
    /// What `describe_room` shows.
    pub shown: Option<Value>,
}

/// What is sent, and what the plugin did about it.
#[derive(Clone, Debug)]
pub struct Produced {
    /// The new producer.
    pub producer: Producer,
    /// How it begins.
    pub amendment: Amendment,
    /// What `before_produce` and `on_new_producer` asked for, in this order.
    pub actions: Actions,
}

/// A timer that has fired, and what the plugin did about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fired {
    /// To which it belonged.
    pub room_id: String,
    /// Under which it was set.
    pub key: String,
    /// When it was due.
    pub due: UnixMs,
    /// What `on_timer` asked for.
    pub actions: Actions,
}

impl<P> fmt::Debug for Stage<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("now", &host::now())
            .field("rooms", &self.rooms)
            .finish_non_exhaustive()
    }
}

/// Starting, time, and looking inside.
impl<P: Plugin> Stage<P> {
    /// Starts a plugin with settings, on a host that knows nothing yet.
    ///
    /// # Errors
    ///
    /// What the plugin's `init` says.
    pub fn new(settings: impl Into<Value>) -> Result<Self, InitError> {
        host::reset();
        host::set_settings(&settings.into());
        Ok(Self {
            plugin: P::init(Settings::current())?,
            ids: 0,
            rooms: BTreeMap::new(),
            first_rtp: BTreeMap::new(),
            twinned: false,
        })
    }

    /// The same stage, which from now on makes every call twice: on a fresh instance, whose
    /// effects it then takes back, and on the one that lives. It panics where the two say
    /// anything different, or leave different keys, timers or published events behind. So a
    /// suite of tests that passes this way passes with `isolation = "fresh"` as well, and
    /// proves that nothing is lost with an instance.
    #[must_use]
    pub fn twinned(mut self) -> Self {
        self.twinned = true;
        self
    }

    /// Replaces the instance as the server does after a trap: its memory is gone, its
    /// storage and the rooms are not.
    ///
    /// # Errors
    ///
    /// What the plugin's `init` says.
    pub fn replace_instance(&mut self) -> Result<(), InitError> {
        host::set_room(None);
        self.plugin = P::init(Settings::current())?;
        Ok(())
    }

    /// Replaces the instance as a server that was killed and started again does: its memory
    /// and everybody in the rooms are gone, its storage and timers are not.
    ///
    /// # Errors
    ///
    /// What the plugin's `init` says.
    pub fn restart_server(&mut self) -> Result<(), InitError> {
        self.rooms.clear();
        self.first_rtp.clear();
        self.replace_instance()
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        host::now()
    }

    /// Lets milliseconds pass. Timers that become due fire at their time, in its order:
    /// `on_timer`, for each. A timer whose call fails stays due.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn advance(&mut self, ms: u64) -> Result<Vec<Fired>, Failure> {
        let until = host::now().saturating_add(ms);
        let mut fired = Vec::new();
        while let Some(timer) = host::next_timer(until) {
            host::set_now(host::now().max(timer.due));
            let actions = self.fire(&timer)?;
            let Timer {
                room_id, key, due, ..
            } = timer;
            fired.push(Fired {
                room_id,
                key,
                due,
                actions,
            });
        }
        host::set_now(until);
        Ok(fired)
    }

    fn fire(&mut self, timer: &Timer) -> Outcome {
        let call = OnTimer {
            room: self.room(&timer.room_id),
            key: timer.key.clone(),
            due: timer.due,
            at: self.now(),
        };
        let actions = self.inform(&timer.room_id, |plugin| plugin.on_timer(&call))?;
        host::timer_done(timer);
        Ok(actions)
    }

    /// The payloads that have been published under a topic so far; of everything, see
    /// [`published`](super::published).
    #[must_use]
    pub fn published(&self, topic: &str) -> Vec<Value> {
        let all = host::published().into_iter();
        let under = all.filter(|event| event.topic == topic);
        under.map(|event| event.payload).collect()
    }

    /// The value under a key, `None` if there is none or if it is no `T`.
    #[must_use]
    pub fn kv<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        kv::get(key).ok().flatten()
    }
}

/// What happens in rooms.
impl<P: Plugin> Stage<P> {
    /// A user enters a room: `before_join`, for the first one `on_room_opened`, `on_join`,
    /// `describe_room`.
    ///
    /// # Errors
    ///
    /// What the plugin's hooks say.
    pub fn join(&mut self, room_id: &str, user: User) -> Result<Joined, Denial> {
        let id = self.fresh_id("participant");
        let connections = self.connections(room_id, user.id).saturating_add(1);
        let participant = Participant {
            id,
            user,
            connections,
        };
        let (room, at) = (self.room(room_id), self.now());
        let call = BeforeJoin {
            room,
            participant: participant.clone(),
            at,
        };
        let mut actions = self.decide(room_id, |plugin| plugin.before_join(&call))?;

        let participants = self.rooms.entry(room_id.to_owned()).or_default();
        participants.push(participant.clone());
        let room = self.room(room_id);
        if room.participants == 1 {
            let call = OnRoomOpened {
                room: room.clone(),
                at,
            };
            actions = actions.then(self.inform(room_id, |plugin| plugin.on_room_opened(&call))?);
        }
        let call = OnJoin {
            room,
            participant,
            at,
        };
        actions = actions.then(self.inform(room_id, |plugin| plugin.on_join(&call))?);
        let OnJoin {
            room, participant, ..
        } = call;
        let call = DescribeRoom {
            room,
            participant,
            at,
        };
        let shown = self.inform(room_id, |plugin| plugin.describe_room(&call))?;
        Ok(Joined {
            participant: call.participant,
            room_id: room_id.to_owned(),
            actions,
            shown,
        })
    }

    /// A participant goes: `on_leave`, and after the last one `on_room_closed`. For a reason
    /// see [`OnLeave::reason`].
    ///
    /// # Errors
    ///
    /// What the plugin's hooks say.
    pub fn leave(&mut self, who: &Joined, reason: &str) -> Outcome {
        let room_id = &who.room_id;
        if let Some(participants) = self.rooms.get_mut(room_id) {
            participants.retain(|participant| participant.id != who.participant.id);
        }
        let (room, at) = (self.room(room_id), self.now());
        let call = OnLeave {
            room: room.clone(),
            participant: self.current(who),
            reason: reason.to_owned(),
            at,
        };
        let actions = self.inform(room_id, |plugin| plugin.on_leave(&call))?;
        if room.participants == 0 && self.rooms.remove(room_id).is_some() {
            let call = OnRoomClosed {
                room,
                reason: "empty".to_owned(),
                at,
            };
            self.inform(room_id, |plugin| plugin.on_room_closed(&call))?;
        }
        Ok(actions)
    }

    /// A participant sends a client event: `on_command`. The server adds `roomId` to the
    /// payload's fields, and so does the stage.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn command(&mut self, who: &Joined, command: &str, mut payload: Value) -> Answer {
        if let Some(fields) = payload.as_object_mut() {
            fields.insert("roomId".to_owned(), who.room_id.clone().into());
        }
        let target = payload.get("userId").and_then(Value::as_u64);
        let call = OnCommand {
            room: self.room(&who.room_id),
            participant: self.current(who),
            command: command.to_owned(),
            payload_json: payload.to_string(),
            target: target.and_then(|user| self.presence(&who.room_id, user)),
            at: self.now(),
        };
        self.decide(&who.room_id, |plugin| plugin.on_command(&call))
    }

    /// A participant starts to send: `before_produce`, `on_new_producer`.
    ///
    /// # Errors
    ///
    /// What the plugin's hooks say.
    pub fn produce(&mut self, who: &Joined, source: Source) -> Result<Produced, Denial> {
        let (room, participant, at) = (self.room(&who.room_id), self.current(who), self.now());
        let call = BeforeProduce {
            room,
            participant,
            source,
            codec: Codec::opus(),
            at,
        };
        let permit = self.decide(&who.room_id, |plugin| plugin.before_produce(&call))?;
        let (amendment, actions) = permit.into_parts()?;

        let producer = Producer {
            id: self.fresh_id("producer"),
            source,
            codec: Codec::opus(),
        };
        let BeforeProduce {
            room, participant, ..
        } = call;
        let call = OnNewProducer {
            room,
            participant,
            producer,
            at,
        };
        let told = self.inform(&who.room_id, |plugin| plugin.on_new_producer(&call))?;
        Ok(Produced {
            producer: call.producer,
            amendment,
            actions: actions.then(told),
        })
    }

    /// A participant asks to receive a producer of another's: `before_consume`.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn consume(&mut self, who: &Joined, owner: &Joined, producer: &Producer) -> Decision {
        let call = BeforeConsume {
            room: self.room(&who.room_id),
            participant: self.current(who),
            producer: producer.clone(),
            owner: owner.participant.user.id,
            at: self.now(),
        };
        self.decide(&who.room_id, |plugin| plugin.before_consume(&call))
    }

    /// The first packet of a producer arrives: `on_first_rtp`.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn first_rtp(&mut self, who: &Joined, producer: &Producer) -> Outcome {
        let at = self.now();
        self.first_rtp.insert(producer.id.clone(), at);
        let call = OnFirstRtp {
            room: self.room(&who.room_id),
            participant: self.current(who),
            producer: producer.clone(),
            at,
        };
        self.inform(&who.room_id, |plugin| plugin.on_first_rtp(&call))
    }

    /// A producer ends: `on_producer_closed`. For a reason see [`OnProducerClosed::reason`].
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn close(&mut self, who: &Joined, producer: &Producer, reason: &str) -> Outcome {
        let call = OnProducerClosed {
            room: self.room(&who.room_id),
            participant: self.current(who),
            producer: producer.clone(),
            reason: reason.to_owned(),
            first_rtp_at: self.first_rtp.remove(&producer.id),
            at: self.now(),
        };
        self.inform(&who.room_id, |plugin| plugin.on_producer_closed(&call))
    }

    /// These users speak, loudest first, each through a producer named after the user:
    /// `speaker_changed`.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn speakers(&mut self, room_id: &str, users: &[UserId]) -> Outcome {
        let speakers = users.iter().map(|&user_id| Speaker {
            user_id,
            producer_id: format!("producer of {user_id}"),
            volume: -30,
        });
        let call = SpeakerChanged {
            room: self.room(room_id),
            speakers: speakers.collect(),
            at: self.now(),
        };
        self.inform(room_id, |plugin| plugin.speaker_changed(&call))
    }

    fn decide<T: fmt::Debug + PartialEq>(
        &mut self,
        room_id: &str,
        hook: impl Fn(&mut P) -> Result<T, Denial>,
    ) -> Result<T, Denial> {
        self.call(room_id, hook, |denial| matches!(denial, Denial::Failed(_)))
    }

    fn inform<T: fmt::Debug + PartialEq>(
        &mut self,
        room_id: &str,
        hook: impl Fn(&mut P) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.call(room_id, hook, |_| true)
    }

    /// Calls a hook as the server does: if it fails, what it kept is undone.
    fn call<T: fmt::Debug + PartialEq, E: fmt::Debug + PartialEq>(
        &mut self,
        room_id: &str,
        hook: impl Fn(&mut P) -> Result<T, E>,
        failed: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let before = host::kept();
        let twin = self.twinned.then(|| {
            let everything = host::snapshot();
            let twin = P::init(Settings::current());
            assert!(twin.is_ok(), "a fresh instance does not start");
            let said = twin.ok().map(|mut twin| {
                host::set_room(Some(room_id));
                hook(&mut twin)
            });
            let after = host::kept();
            host::restore(everything);
            (said, after)
        });
        host::set_room(Some(room_id));
        let result = hook(&mut self.plugin);
        host::set_room(None);
        if let Some((said, after)) = twin {
            let live = Some(&result);
            assert_eq!(
                said.as_ref(),
                live,
                "fresh instance (left) and live one differ"
            );
            assert_eq!(
                after,
                host::kept(),
                "fresh instance (left) and live one differ"
            );
        }
        if result.as_ref().is_err_and(failed) {
            host::set_kept(before);
        }
        result
    }

    fn fresh_id(&mut self, noun: &str) -> String {
        self.ids += 1;
        format!("{noun}-{}", self.ids)
    }

    fn participants(&self, room_id: &str) -> &[Participant] {
        self.rooms.get(room_id).map_or(&[], Vec::as_slice)
    }

    fn room(&self, room_id: &str) -> Room {
        Room {
            id: room_id.to_owned(),
            participants: count(self.participants(room_id).iter()),
        }
    }

    fn connections(&self, room_id: &str, user: UserId) -> u32 {
        let participants = self.participants(room_id).iter();
        count(participants.filter(|participant| participant.user.id == user))
    }

    /// A user's presence in a room, if they are there.
    fn presence(&self, room_id: &str, user: UserId) -> Option<Participant> {
        let mut participants = self.participants(room_id).iter();
        let found = participants.find(|participant| participant.user.id == user)?;
        Some(Participant {
            connections: self.connections(room_id, user),
            ..found.clone()
        })
    }

    fn current(&self, who: &Joined) -> Participant {
        let connections = self.connections(&who.room_id, who.participant.user.id);
        Participant {
            connections,
            ..who.participant.clone()
        }
    }
}

fn count<'a>(participants: impl Iterator<Item = &'a Participant>) -> u32 {
    u32::try_from(participants.count()).unwrap_or(u32::MAX)
}

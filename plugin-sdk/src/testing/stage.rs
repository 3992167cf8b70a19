//! A plugin and rooms for it to rule, without a server.

use std::{collections::HashMap, fmt};

use serde_json::Value;

use super::host;
use crate::{
    Actions, Answer, BeforeJoin, BeforeProduce, Codec, Denial, DescribeRoom, Failure, InitError,
    OnCommand, OnFirstRtp, OnJoin, OnLeave, OnNewProducer, OnProducerClosed, Outcome, Participant,
    Plugin, Producer, Room, Settings, Source, Speaker, SpeakerChanged, UnixMs, User, UserId,
};

/// A plugin and rooms for it to rule, without a server.
///
/// It calls the hooks that the server would call, in the same order and with the same
/// counts of participants and connections, and undoes what a failed hook has written. Time
/// moves only with [`Stage::advance`]. Actions are returned, not carried out.
///
/// ```
/// use serde_json::json;
/// use voice_room_plugin_sdk::{
///     BeforeJoin, Decision, InitError, Plugin, Settings, User, allow, refuse, testing::Stage,
/// };
///
/// struct Doorman;
///
/// impl Plugin for Doorman {
///     fn init(_settings: Settings) -> Result<Self, InitError> {
///         Ok(Self)
///     }
///
///     fn before_join(&mut self, call: &BeforeJoin) -> Decision {
///         if call.participant.user.has_role("guest") {
///             return refuse("MEMBERS_ONLY", "This room is for members");
///         }
///         allow()
///     }
/// }
///
/// let mut stage = Stage::<Doorman>::new(json!({})).unwrap();
/// assert!(stage.join("lobby", User::new(1)).is_ok());
/// assert!(stage.join("lobby", User::new(2).with_role("guest")).is_err());
/// ```
pub struct Stage<P> {
    /// The plugin, for calling its hooks directly.
    pub plugin: P,
    now: UnixMs,
    ids: u64,
    rooms: HashMap<String, Vec<Participant>>,
    first_rtp: HashMap<String, UnixMs>,
}

/// Who has entered, and what the plugin did about it.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The newcomer.
    pub participant: Participant,
    /// The room that was entered.
    pub room_id: String,
    /// What `before_join` and `on_join` asked for, in this order.
    pub actions: Actions,
    /// What `describe_room` shows.
    pub shown: Option<Value>,
}

/// What is sent, and what the plugin did about it.
#[derive(Clone, Debug)]
pub struct Produced {
    /// The new producer.
    pub producer: Producer,
    /// What `before_produce` and `on_new_producer` asked for, in this order.
    pub actions: Actions,
}

impl<P> fmt::Debug for Stage<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("now", &self.now)
            .field("rooms", &self.rooms)
            .finish_non_exhaustive()
    }
}

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
            now: 1_700_000_000_000,
            ids: 0,
            rooms: HashMap::new(),
            first_rtp: HashMap::new(),
        })
    }

    /// Replaces the instance as the server does after a trap: its memory is gone, its
    /// storage and the rooms are not.
    ///
    /// # Errors
    ///
    /// What the plugin's `init` says.
    pub fn replace_instance(&mut self) -> Result<(), InitError> {
        self.plugin = P::init(Settings::current())?;
        Ok(())
    }

    /// Replaces the instance as a server that was killed and started again does: its memory
    /// and everybody in the rooms are gone, its storage is not.
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
    pub const fn now(&self) -> UnixMs {
        self.now
    }

    /// Lets time pass.
    pub const fn advance(&mut self, ms: u64) {
        self.now = self.now.saturating_add(ms);
    }

    /// A user enters a room: `before_join`, `on_join`, `describe_room`.
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
        let (room, at) = (self.room(room_id), self.now);
        let call = BeforeJoin {
            room,
            participant: participant.clone(),
            at,
        };
        let actions = decide(|| self.plugin.before_join(&call))?;

        self.rooms
            .entry(room_id.to_owned())
            .or_default()
            .push(participant.clone());
        let call = OnJoin {
            room: self.room(room_id),
            participant: participant.clone(),
            at,
        };
        let actions = actions.then(inform(|| self.plugin.on_join(&call))?);
        let call = DescribeRoom {
            room: self.room(room_id),
            participant,
            at,
        };
        let shown = inform(|| self.plugin.describe_room(&call))?;
        let participant = call.participant;
        Ok(Joined {
            participant,
            room_id: room_id.to_owned(),
            actions,
            shown,
        })
    }

    /// A participant goes: `on_leave`. For a reason see [`OnLeave::reason`].
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn leave(&mut self, who: &Joined, reason: &str) -> Outcome {
        if let Some(participants) = self.rooms.get_mut(&who.room_id) {
            participants.retain(|participant| participant.id != who.participant.id);
        }
        let mut participant = who.participant.clone();
        participant.connections = self.connections(&who.room_id, participant.user.id);
        let (room, at) = (self.room(&who.room_id), self.now);
        let call = OnLeave {
            room,
            participant,
            reason: reason.to_owned(),
            at,
        };
        inform(|| self.plugin.on_leave(&call))
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
        let call = OnCommand {
            room: self.room(&who.room_id),
            participant: self.current(who),
            command: command.to_owned(),
            payload_json: payload.to_string(),
            at: self.now,
        };
        decide(|| self.plugin.on_command(&call))
    }

    /// A participant starts to send: `before_produce`, `on_new_producer`.
    ///
    /// # Errors
    ///
    /// What the plugin's hooks say.
    pub fn produce(&mut self, who: &Joined, source: Source) -> Result<Produced, Denial> {
        let (room, participant, at) = (self.room(&who.room_id), self.current(who), self.now);
        let call = BeforeProduce {
            room,
            participant,
            source,
            codec: Codec::opus(),
            at,
        };
        let actions = decide(|| self.plugin.before_produce(&call))?;

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
        let actions = actions.then(inform(|| self.plugin.on_new_producer(&call))?);
        Ok(Produced {
            producer: call.producer,
            actions,
        })
    }

    /// The first packet of a producer arrives: `on_first_rtp`.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn first_rtp(&mut self, who: &Joined, producer: &Producer) -> Outcome {
        self.first_rtp.insert(producer.id.clone(), self.now);
        let call = OnFirstRtp {
            room: self.room(&who.room_id),
            participant: self.current(who),
            producer: producer.clone(),
            at: self.now,
        };
        inform(|| self.plugin.on_first_rtp(&call))
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
            at: self.now,
        };
        inform(|| self.plugin.on_producer_closed(&call))
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
        let (room, speakers) = (self.room(room_id), speakers.collect());
        let call = SpeakerChanged {
            room,
            speakers,
            at: self.now,
        };
        inform(|| self.plugin.speaker_changed(&call))
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
        count(
            self.participants(room_id)
                .iter()
                .filter(|participant| participant.user.id == user),
        )
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

fn decide<T>(hook: impl FnOnce() -> Result<T, Denial>) -> Result<T, Denial> {
    host::transaction(hook, |denial| matches!(denial, Denial::Failed(_)))
}

fn inform<T>(hook: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    host::transaction(hook, |_| true)
}

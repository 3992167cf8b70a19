//! A plugin and rooms for it to rule, without a server.

mod scene;
mod streams;

use std::{collections::BTreeMap, fmt};

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::streams::{LeftOpen, Stream};
use super::{
    host::{self, Timer},
    manifest::{self, Manifest, Trimmed},
    told::{Fired, Joined},
};
use crate::{
    Denial, Failure, InitError, OnTimer, Outcome, Participant, Plugin, Producer, Room, Settings,
    Source, UnixMs, UserId, kv,
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
    /// What runs, by its participant's id.
    sending: BTreeMap<String, BTreeMap<Source, Producer>>,
    /// Those whose first packet has arrived, by their producer's id.
    streams: BTreeMap<String, Stream>,
    left_open: LeftOpen,
    twinned: bool,
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
            sending: BTreeMap::new(),
            streams: BTreeMap::new(),
            left_open: LeftOpen::default(),
            twinned: false,
        })
    }

    /// The same stage, which from now on holds the plugin to its manifest as the server does
    /// that grants all that the manifest asks for: hooks that it does not name are not called,
    /// actions and amendments whose capability it lacks are dropped, topics that it does not
    /// list are not published. Using an import whose capability it lacks panics, for such a
    /// component would not be loaded.
    ///
    /// ```
    /// # use serde_json::json;
    /// # use voice_room_plugin_sdk::{InitError, Plugin, Settings, testing::Stage};
    /// # struct Doorman;
    /// # impl Plugin for Doorman {
    /// #     fn init(_: Settings) -> Result<Self, InitError> { Ok(Self) }
    /// # }
    /// let manifest = r#"
    ///     name = "doorman"
    ///     version = "1.0.0"
    ///     hooks = ["before-join"]
    /// "#; // or include_str!("../plugin.toml")
    /// let stage = Stage::<Doorman>::new(json!({})).unwrap().with_manifest(manifest).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// If the manifest cannot be read, or does not list a command that the plugin registers.
    pub fn with_manifest(self, manifest: &str) -> Result<Self, InitError> {
        let manifest = Manifest::read(manifest)?;
        manifest.check_commands(self.plugin.commands())?;
        manifest::set(Some(manifest));
        Ok(self)
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
    /// and everybody in the rooms are gone, its storage and timers are not. What the server
    /// then tells of them is [`Stage::recover`].
    ///
    /// # Errors
    ///
    /// What the plugin's `init` says.
    pub fn restart_server(&mut self) -> Result<(), InitError> {
        self.forget_everybody();
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
        let actions = self.inform(&timer.room_id, "on-timer", |plugin| plugin.on_timer(&call))?;
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

/// Calling hooks, and counting who is there.
impl<P: Plugin> Stage<P> {
    fn decide<T: Told>(
        &mut self,
        room_id: &str,
        name: &str,
        hook: impl Fn(&mut P) -> Result<T, Denial>,
    ) -> Result<T, Denial> {
        let failed = |denial: &Denial| matches!(denial, Denial::Failed(_));
        self.call(room_id, name, hook, failed)
    }

    fn inform<T: Told>(
        &mut self,
        room_id: &str,
        name: &str,
        hook: impl Fn(&mut P) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.call(room_id, name, hook, |_| true)
    }

    /// Calls a hook as the server does: if it fails, what it kept is undone.
    fn call<T: Told, E: Trimmed + fmt::Debug + PartialEq>(
        &mut self,
        room_id: &str,
        name: &str,
        hook: impl Fn(&mut P) -> Result<T, E>,
        failed: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        if !manifest::names_hook(name) {
            return Ok(T::default());
        }
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
        result.map(T::trimmed).map_err(E::trimmed)
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

/// What hooks return, nothing being the default.
trait Told: Trimmed + Default + fmt::Debug + PartialEq {}

impl<T: Trimmed + Default + fmt::Debug + PartialEq> Told for T {}

fn count<'a>(participants: impl Iterator<Item = &'a Participant>) -> u32 {
    u32::try_from(participants.count()).unwrap_or(u32::MAX)
}

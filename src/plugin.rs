//! The plugin host: rules are sandboxed WebAssembly components that decide, are told, and
//! ask for actions.
//!
//! A plugin never calls the room. A hook gets what it needs as arguments and returns a
//! verdict and actions; the room carries those out. So a guest, which may do anything, can
//! do nothing but answer badly, late, or not at all, and for each of these there is an
//! answer here:
//!
//! | the guest | then |
//! |---|---|
//! | runs too long, traps, takes too much memory | its call is undone, its instance replaced, and the plugin's failure policy answers |
//! | is busy with other rooms' calls | the question waits in its lane for a bounded time, then the policy answers |
//! | asks for what it may not have, or for too much | that is dropped, counted and logged, or told to the guest as an error |
//!
//! Only this module knows wasmtime. `call` is what goes in and out, `lane` the order of
//! calls, `instance` one call, `host` what a guest can reach, `lift` the checks of what it
//! returns, `limits` the numbers.
//!
//! `observe` hands calls to the `recorder` and to a `shadow`; `offline` runs a plugin without
//! a server, and `replay` recorded calls through another version.

mod breaker;
mod call;
mod clock;
mod compat;
mod engine;
mod files;
mod host;
mod inspect;
mod instance;
mod journal;
mod lane;
mod lift;
mod limits;
mod load;
mod lower;
mod manifest;
mod meters;
mod observe;
mod offline;
mod place;
mod queue;
mod record;
mod recorder;
mod replay;
mod shadow;
mod swap;
mod throttle;
mod trace;
mod wasi;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::Notify;

pub use breaker::BreakerState;
pub use call::{
    Action, Amendment, Amendments, CommandCall, ConsumeCall, Fact, FlowChange, Input, JoinCall,
    ParticipantView, Pin, ProduceCall, ProducerView, RoomView, SpeakerView, Target,
};
pub use inspect::{Import, Inspection, inspect};
pub use journal::{Counting, Journal, Progress, RECOVERED};
pub use manifest::Manifest;
pub use place::{CallFailure, PluginStatus, RefusedVersion, Stored};
pub use swap::{Reloaded, SwapError};
pub use watch::Watching;

use crate::{
    config::{OnFailure, PluginConfig, RecordingConfig},
    model::{DecisionId, Hook, Refusal, RoomId},
    store::{self, Store},
};
use engine::Engine;
use instance::{Answer, Failure};
use journal::Scribe;
use lane::{Lane, Told};
pub use lift::is_plugin_event;
use observe::Recording;
pub use offline::{Called, Offline, OfflineOptions};
use place::{LaneOf, Place};
use queue::Telling;
pub use record::{CallLine, ImportCall, InstanceLine, Line, Outcome, Published, Refused};
pub use replay::{
    Difference, Gaps, HookCount, Part, ReplayError, ReplayOptions, ReplayReport, Side, replay,
};
pub use shadow::ShadowStatus;
use swap::commands_of;

/// The code of a refusal that stands for a plugin which could not answer.
pub const PLUGIN_FAILED: &str = "PLUGIN_FAILED";

/// How long an answer waits for what its hook wrote to be durable.
const SAVE_LIMIT: Duration = Duration::from_secs(5);

/// Lines a second that the server logs about one plugin's misbehaviour.
const COMPLAINTS: u32 = 10;

/// Prepares a thread for calls of plugins, so that its first one does not pay for it. For a
/// runtime's `on_thread_start`.
pub fn prepare_thread() {
    engine::prepare_thread();
}

/// Why plugins cannot be loaded: every problem of every plugin.
#[derive(Debug)]
pub struct LoadError {
    /// One for each problem.
    pub problems: Vec<PluginProblem>,
}

/// What is wrong with one plugin.
#[derive(Debug)]
pub struct PluginProblem {
    /// Its name in the configuration.
    pub plugin: String,
    /// Its component.
    pub file: PathBuf,
    /// The rest of a sentence that begins with the plugin.
    pub problem: String,
}

impl fmt::Display for PluginProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            plugin,
            file,
            problem,
        } = self;
        write!(f, "plugin `{plugin}` ({}) {problem}", file.display())
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

type CarryOut = Box<dyn Fn(&RoomId, &Arc<str>, Vec<Action>) + Send + Sync>;
type Participants = Box<dyn Fn(&RoomId) -> u32 + Send + Sync>;

/// What surrounds all plugins: the rooms, as far as plugins reach them, and the recording.
struct Stage {
    rooms: OnceLock<(CarryOut, Participants)>,
    recording: Recording,
}

impl Stage {
    fn carry_out(&self, room: &RoomId, plugin: &Arc<str>, actions: Vec<Action>) {
        match self.rooms.get() {
            Some((carry_out, _)) => carry_out(room, plugin, actions),
            None => tracing::error!(%plugin, "actions are lost: nobody carries them out yet"),
        }
    }

    fn view(&self, room: &RoomId) -> RoomView {
        RoomView {
            id: room.clone(),
            participants: self
                .rooms
                .get()
                .map_or(0, |(_, participants)| participants(room)),
        }
    }
}

/// All plugins, in the configured order. Clones share them.
#[derive(Clone)]
pub struct PluginHost {
    shared: Arc<Shared>,
}

struct Shared {
    plugins: Vec<Arc<Place>>,
    /// Which plugin answers which command.
    commands: ArcSwap<BTreeMap<String, usize>>,
    stage: Arc<Stage>,
    /// Held while a version takes over, so that no two plugins come by the same command.
    installing: Mutex<()>,
    /// Whoever watches files is to look at them.
    look: Arc<Notify>,
    store: Store,
    scribe: Arc<Scribe>,
}

impl PluginHost {
    /// Compiles and starts every plugin, in this order.
    ///
    /// # Errors
    ///
    /// If any of them cannot be used; all that is wrong is reported at once.
    pub async fn load(plugins: &[PluginConfig], store: &Store) -> Result<Self, LoadError> {
        Self::load_recording(plugins, store, RecordingConfig::default()).await
    }

    /// As [`Self::load`], with a say in how recorded calls are kept.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub async fn load_recording(
        plugins: &[PluginConfig],
        store: &Store,
        recording: RecordingConfig,
    ) -> Result<Self, LoadError> {
        let stage = Arc::new(Stage {
            rooms: OnceLock::new(),
            recording: Recording::new(store.recordings_dir(), recording),
        });
        let Some(first) = plugins.first() else {
            return Ok(Self::new(Vec::new(), BTreeMap::new(), stage, store));
        };
        let instances = plugins.iter().map(instances_of).sum();
        let engine = Engine::new(instances, &store.cache_dir()).map_err(|error| LoadError {
            problems: vec![first.problem(format!("cannot be run on this machine: {error:#}"))],
        })?;
        let engine = Arc::new(engine);
        // Keyed at random, so that nobody can choose names of rooms that meet in one lane.
        let hasher = RandomState::new();
        let lane_of: LaneOf = Arc::new(move |room, lanes| {
            let hash = usize::try_from(hasher.hash_one(room) >> 32).unwrap_or(0);
            hash % lanes.max(1)
        });
        let mut loaded = Vec::with_capacity(plugins.len());
        let mut names = BTreeSet::new();
        let mut problems = Vec::new();
        for config in plugins {
            if !names.insert(&config.name) {
                problems.push(config.problem("has the name of another plugin".to_owned()));
                continue;
            }
            match Place::load(&engine, config, store, &stage, Arc::clone(&lane_of)).await {
                Ok(plugin) => loaded.push(plugin),
                Err(problem) => problems.push(config.problem(problem)),
            }
        }
        let versions: Vec<_> = loaded.iter().map(|plugin| plugin.version()).collect();
        let commands = commands_of(&versions).unwrap_or_else(|conflicts| {
            problems.extend(conflicts);
            BTreeMap::new()
        });
        if !problems.is_empty() {
            return Err(LoadError { problems });
        }
        let host = Self::new(loaded, commands, stage, store);
        host.supervise();
        Ok(host)
    }

    fn new(
        plugins: Vec<Arc<Place>>,
        commands: BTreeMap<String, usize>,
        stage: Arc<Stage>,
        store: &Store,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                plugins,
                commands: ArcSwap::from_pointee(commands),
                stage,
                installing: Mutex::new(()),
                look: Arc::default(),
                store: store.clone(),
                scribe: Arc::new(Scribe::new(store.clone())),
            }),
        }
    }

    /// Says how plugins reach the rooms, once, before the first call: where actions go, and
    /// how many participants a room has. The closures must not block: the next call of the
    /// same lane waits for them.
    ///
    /// Then plugins are told what an earlier run of the server has left untold, and what it
    /// has left open is ended; from then on timers are told. So it must be called within the
    /// runtime, before there are rooms.
    pub async fn connect(
        &self,
        carry_out: impl Fn(&RoomId, &Arc<str>, Vec<Action>) + Send + Sync + 'static,
        participants: impl Fn(&RoomId) -> u32 + Send + Sync + 'static,
    ) {
        let rooms: (CarryOut, Participants) = (Box::new(carry_out), Box::new(participants));
        if self.shared.stage.rooms.set(rooms).is_err() {
            tracing::error!("where actions go has been said before; that stands");
            return;
        }
        journal::recover(self).await;
        // Those that were due meanwhile know of the ends.
        for plugin in &self.shared.plugins {
            plugin.begin_timers();
        }
    }

    /// Asks every plugin in order whether the participant may enter.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub async fn before_join(&self, call: JoinCall) -> Result<(), Refusal> {
        self.decide(Input::BeforeJoin(call)).await.map(drop)
    }

    /// Asks every plugin in order whether the participant may receive.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub async fn before_consume(&self, call: ConsumeCall) -> Result<(), Refusal> {
        self.decide(Input::BeforeConsume(call)).await.map(drop)
    }

    /// Whether any plugin decides on this.
    #[must_use]
    pub fn has_hook(&self, hook: Hook) -> bool {
        self.with_hook(hook).next().is_some()
    }

    /// Asks every plugin in order whether the participant may send, and how that begins.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub async fn before_produce(&self, call: ProduceCall) -> Result<Amendments, Refusal> {
        self.decide(Input::BeforeProduce(call)).await
    }

    async fn decide(&self, input: Input) -> Result<Amendments, Refusal> {
        let input = Arc::new(input);
        let mut amendments = Amendments::default();
        for plugin in self.with_hook(input.hook()) {
            let verdict = match self.ask(plugin, &input).await {
                Ok(Answer::Verdict(verdict)) => verdict,
                Ok(_) => Ok(None),
                Err(_) => match plugin.on_failure(input.hook()) {
                    OnFailure::Allow => Ok(None),
                    _ => Err(plugin.failed()),
                },
            };
            match verdict {
                Ok(Some(wanted)) => amendments.add(plugin.name(), wanted),
                Ok(None) => {}
                Err(refusal) => return Err(decided(&input, refusal)),
            }
        }
        Ok(amendments)
    }

    /// What each plugin shows a newcomer, by the plugin's name. Plugins that show nothing,
    /// or fail, are left out.
    pub async fn describe_room(&self, call: JoinCall) -> Map<String, Value> {
        let input = Arc::new(Input::DescribeRoom(call));
        let mut shown = Map::new();
        for plugin in self.with_hook(Hook::DescribeRoom) {
            if let Ok(Answer::Shown(Some(value))) = self.ask(plugin, &input).await {
                shown.insert(plugin.name().to_string(), value);
            }
        }
        shown
    }

    /// Has a command answered by the plugin that registered it. `None` if none has.
    pub async fn command(&self, call: CommandCall) -> Option<Result<Option<Value>, Refusal>> {
        let plugin = *self.shared.commands.load().get(&call.command)?;
        let plugin = self.shared.plugins.get(plugin)?;
        let input = Arc::new(Input::Command(call));
        let reply = match self.ask(plugin, &input).await {
            Ok(Answer::Reply(reply)) => reply,
            Ok(_) => Ok(None),
            Err(_) => Err(plugin.failed()),
        };
        Some(reply.map_err(|refusal| decided(&input, refusal)))
    }

    /// A room's way into the ledger, and from there to the plugins. Must be called within the
    /// runtime.
    #[must_use]
    pub fn journal(&self) -> Journal {
        Journal::new(self.clone())
    }

    /// Whether plugins count on facts that must not be lost, and the disk does not take them.
    #[must_use]
    pub fn loses_facts(&self) -> bool {
        let owed = |plugin: &Arc<Place>| plugin.on_failure(Hook::OnFirstRtp) == OnFailure::Retry;
        self.with_hook(Hook::OnFirstRtp).any(owed) && !self.shared.store.health().is_durable()
    }

    /// Tells every plugin at once, and does not wait. Each learns of a room's facts in the
    /// order of these calls. What must not be lost is told by a [`Journal`] instead.
    pub fn notify(&self, fact: Fact) {
        let input = Arc::new(Input::Fact(fact));
        let mut begin = Vec::new();
        for plugin in self.with_hook(input.hook()) {
            if let Some(lane) = plugin.lane(input.room())
                && lane.tell(&Telling::new(&input)) == Told::Begins
            {
                begin.push(Arc::clone(lane));
            }
        }
        Lane::begin_all(begin);
    }

    /// Whether a plugin answers this event.
    #[must_use]
    pub fn has_command(&self, name: &str) -> bool {
        self.shared.commands.load().contains_key(name)
    }

    /// Facts that plugins did not take, oldest first, from a position on that an earlier page
    /// has given; 0 is the beginning.
    ///
    /// # Errors
    ///
    /// If their file cannot be read.
    pub async fn dead_letters(&self, after: u64, limit: usize) -> io::Result<store::Page> {
        let store = self.shared.store.clone();
        let reading = tokio::task::spawn_blocking(move || store.dead_letters(after, limit));
        reading.await.map_err(io::Error::other)?
    }

    /// Waits until all plugins have been told all facts, at most for the limit; then no
    /// plugin is called any more.
    pub async fn shutdown(&self, limit: Duration) {
        let lanes = || self.shared.plugins.iter().flat_map(|plugin| plugin.lanes());
        let drained = async {
            self.shared.scribe.written().await;
            for lane in lanes() {
                lane.drained().await;
            }
        };
        let in_time = tokio::time::timeout(limit, drained).await.is_ok();
        let lost: usize = lanes().map(|lane| lane.stop()).sum();
        if !in_time {
            tracing::error!(
                lost,
                ?limit,
                "plugins have not taken all facts before the stop"
            );
        }
        self.shared.stage.recording.flush(limit).await;
    }

    fn with_hook(&self, hook: Hook) -> impl Iterator<Item = &Arc<Place>> {
        self.shared
            .plugins
            .iter()
            .filter(move |plugin| plugin.has(hook))
    }

    /// The answer, once what the hook wrote is durable.
    async fn ask(&self, plugin: &Place, input: &Arc<Input>) -> Result<Answer, Failure> {
        let asked = match plugin.lane(input.room()) {
            Some(lane) => lane.ask(input).await,
            None => Err(Failure::Down),
        };
        let failure = match asked {
            Ok((answer, None)) => return Ok(answer),
            Ok((answer, Some(saved))) => match saved.wait(SAVE_LIMIT).await {
                Ok(()) => return Ok(answer),
                Err(_) => Failure::NotSaved,
            },
            Err(failure) => failure,
        };
        if failure.outcome() == meters::Outcome::Unanswered {
            let common = &plugin.common;
            common
                .meters
                .record(input.hook(), meters::Outcome::Unanswered, None);
            let left_alone = matches!(failure, Failure::Open(_));
            if !left_alone && common.complaints.allow() {
                let (plugin, hook, room) = (&*common.name, input.hook().name(), input.room());
                tracing::error!(plugin, hook, %room, %failure, "a plugin gave no answer");
            }
        }
        Err(failure)
    }
}

/// How many instances of a plugin may live at once.
fn instances_of(plugin: &PluginConfig) -> usize {
    plugin.instances.max(1) + usize::from(plugin.shadow.is_some())
}

/// Gives a refusal its number, by which the log and the client's answer name it.
fn decided(input: &Input, mut refusal: Refusal) -> Refusal {
    let decision = *refusal.decision.get_or_insert_with(DecisionId::random);
    let (hook, room) = (input.hook().name(), input.room());
    tracing::info!(
        %decision,
        plugin = refusal.plugin.as_deref(),
        hook,
        %room,
        user = input.user().map(|user| user.0),
        code = refusal.code,
        says = refusal.message,
        "refused"
    );
    refusal
}

impl Drop for Shared {
    fn drop(&mut self) {
        for lane in self.plugins.iter().flat_map(|plugin| plugin.lanes()) {
            lane.stop();
        }
    }
}

impl PluginConfig {
    pub(super) fn problem(&self, problem: String) -> PluginProblem {
        PluginProblem {
            plugin: self.name.clone(),
            file: self.path.clone(),
            problem,
        }
    }
}

//! One configured plugin: its lanes, the version that runs in them, and the one before.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::RwLockWriteGuard;

use super::{
    COMPLAINTS, PLUGIN_FAILED, Stage,
    breaker::{Breaker, BreakerState},
    call::{Fact, Input},
    engine::Engine,
    files::{self, Contents},
    instance::Template,
    lane::{Common, Held, Lane, Told},
    load,
    manifest::Manifest,
    meters::{Meters, Named},
    queue::Telling,
    shadow::ShadowStatus,
    throttle::Throttle,
};
use crate::{
    config::{Isolation, PluginConfig},
    model::{Hook, Refusal, RoomId, UnixMs},
    store::Store,
};

/// Failures of a version on probation after which the one before comes back.
const PROBATION_FAILURES: u32 = 3;

/// Timers that are handed out at once.
const TIMERS: usize = 256;

/// The wait before timers are told that found their lane full.
const TIMER_PAUSE: Duration = Duration::from_millis(250);

/// Which lane a room is served by, out of a number of them.
pub(super) type LaneOf = Arc<dyn Fn(&RoomId, usize) -> usize + Send + Sync>;

/// See the module.
pub(super) struct Place {
    pub(super) common: Arc<Common>,
    engine: Arc<Engine>,
    lanes: Vec<Arc<Lane>>,
    lane_of: LaneOf,
    current: ArcSwap<Version>,
    /// The last version that has passed its probation, for as long as the current one is on
    /// it. Where none has passed yet, the one that was there first.
    previous: Mutex<Option<Arc<Version>>>,
    counts: Mutex<Counts>,
    /// One swap at a time.
    pub(super) swapping: tokio::sync::Mutex<()>,
}

/// A component with the configuration that it runs under.
pub(super) struct Version {
    pub(super) template: Arc<Template>,
    pub(super) config: PluginConfig,
    pub(super) commands: Vec<String>,
    contents: Contents,
    pub(super) since: UnixMs,
    began: Instant,
}

#[derive(Default)]
struct Counts {
    swaps: u64,
    rollbacks: u64,
    /// The files of the version that was last taken back.
    rejected: Option<Contents>,
    refused: Option<RefusedVersion>,
}

/// What a running server tells about one of its plugins.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    /// In the configuration.
    pub name: String,
    /// Its own name, as its manifest says.
    pub manifest_name: String,
    /// Its own version, as its manifest says.
    pub version: String,
    /// What it is for, if its manifest says that.
    pub description: Option<String>,
    /// The component's content, as `sha256:…`.
    pub component: String,
    /// The version of the contract that the component was built against.
    pub contract: String,
    /// Whether calls share an instance: `live` or `fresh`.
    pub isolation: &'static str,
    /// Lanes, each with an instance where isolation is live.
    pub instances: usize,
    /// Whether it is being called.
    pub breaker: BreakerState,
    /// Hooks that it has.
    pub hooks: Vec<Hook>,
    /// Client events that it answers.
    pub commands: Vec<String>,
    /// Calls that wait.
    pub queued: usize,
    /// Keys that it has stored, their bytes, and timers that run.
    pub stored: Stored,
    /// When this version began.
    pub loaded_at: UnixMs,
    /// How often another version has taken over, and was taken back.
    pub swaps: u64,
    /// Of these, how many because the new version failed.
    pub rollbacks: u64,
    /// How the version beside it does, if there is one.
    pub shadow: Option<ShadowStatus>,
    /// Memory of its instances, in bytes.
    pub memory_bytes: u64,
    /// The last call that failed.
    pub last_failure: Option<CallFailure>,
    /// The last version that could not be used, if none has taken over since.
    pub last_refused: Option<RefusedVersion>,
}

/// A call that a plugin has failed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallFailure {
    /// When.
    pub at: UnixMs,
    /// The hook that was called.
    pub hook: Hook,
    /// What became of it, for people.
    pub failure: String,
}

/// A version that did not get to run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedVersion {
    /// When.
    pub at: UnixMs,
    /// What was wrong with it: the rest of a sentence that begins with the plugin.
    pub problem: String,
}

/// What a plugin keeps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stored {
    /// Keys.
    pub keys: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
    /// Timers.
    pub timers: usize,
}

impl Version {
    /// Compiles, checks and starts a component, aside from whatever runs.
    pub(super) async fn prepare(
        engine: &Arc<Engine>,
        config: &PluginConfig,
        common: &Common,
    ) -> Result<(Arc<Self>, Vec<Held>), String> {
        let reading = tokio::task::spawn_blocking({
            let config = config.clone();
            // First, so that a change in between is found later rather than never.
            move || files::of_manifest(&config)
        });
        let manifest = reading
            .await
            .map_err(|error| format!("has a manifest that cannot be read: {error}"))?;
        let (space, meters) = (Arc::clone(&common.space), Arc::clone(&common.meters));
        let complaints = Arc::clone(&common.complaints);
        let mut template = load::prepare(engine, config, space, meters, complaints).await?;
        template.observer = common.observer(engine, config, &template).await?;
        let template = Arc::new(template);
        let mut held = Vec::new();
        let mut commands = None;
        for _ in 0..config.instances.max(1) {
            if config.isolation == Isolation::Fresh && commands.is_some() {
                held.push(Held::Fresh);
                continue;
            }
            let (instance, registered) = template
                .instantiate()
                .await
                .map_err(|failure| format!("does not start: {failure}"))?;
            let granted = &template.identity.granted;
            load::check_commands(&registered, granted, template.has(Hook::OnCommand))?;
            commands = Some(registered);
            held.push(match config.isolation {
                Isolation::Live => Held::Live(instance),
                Isolation::Fresh => Held::Fresh,
            });
        }
        let contents = Contents {
            component: template.component.clone(),
            manifest,
        };
        let version = Self {
            template,
            config: config.clone(),
            commands: commands.unwrap_or_default(),
            contents,
            since: UnixMs::now(),
            began: Instant::now(),
        };
        Ok((Arc::new(version), held))
    }

    pub(super) fn component(&self) -> &str {
        &self.template.component
    }

    fn is_on_probation(&self) -> bool {
        self.began.elapsed() <= self.config.probation
    }

    fn named(&self) -> Named<'_> {
        (self.component(), &self.manifest().version)
    }

    fn manifest(&self) -> &Manifest {
        &self.template.identity.granted.manifest
    }
}

impl Place {
    pub(super) async fn load(
        engine: &Arc<Engine>,
        config: &PluginConfig,
        store: &Store,
        stage: &Arc<Stage>,
        lane_of: LaneOf,
    ) -> Result<Arc<Self>, String> {
        let began = Instant::now();
        let common = Arc::new(Common {
            name: config.name.as_str().into(),
            space: store.space(&config.name),
            meters: Arc::new(Meters::new(&config.name)),
            complaints: Arc::new(Throttle::new(COMPLAINTS)),
            breaker: Breaker::new(config.breaker),
            stage: Arc::clone(stage),
            store: store.clone(),
            failing: Arc::default(),
            last_failure: Mutex::default(),
            recovered: Arc::default(),
            contended: Arc::default(),
        });
        let (version, held) = Version::prepare(engine, config, &common).await?;
        common.meters.stored(&common.space);
        let number = version.template.number;
        common.breaker.reset(config.breaker, number);
        common.meters.breaker(BreakerState::Closed);
        common.meters.version(None, version.named());
        let lane = |held| Lane::new(Arc::clone(&common), Arc::clone(&version.template), held);
        let lanes: Vec<_> = held.into_iter().map(lane).collect();
        version.template.take_over(|| 0);
        tracing::info!(
            plugin = config.name,
            file = %config.path.display(),
            component = version.component(),
            instances = lanes.len(),
            commands = ?version.commands,
            took = ?began.elapsed(),
            "plugin loaded"
        );
        let place = Arc::new(Self {
            common,
            engine: Arc::clone(engine),
            lanes,
            lane_of,
            current: ArcSwap::new(version),
            previous: Mutex::new(None),
            counts: Mutex::default(),
            swapping: tokio::sync::Mutex::default(),
        });
        Ok(place)
    }

    /// Has timers told from now on, those that were due earlier at once.
    pub(super) fn begin_timers(self: &Arc<Self>) {
        tokio::spawn(run_timers(Arc::downgrade(self)));
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.common.name
    }

    pub(super) fn version(&self) -> Arc<Version> {
        self.current.load_full()
    }

    pub(super) fn has(&self, hook: Hook) -> bool {
        self.current.load().template.has(hook)
    }

    pub(super) fn on_failure(&self, hook: Hook) -> crate::config::OnFailure {
        self.current.load().template.hooks.of(hook).on_failure
    }

    pub(super) fn lanes(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    pub(super) fn lane(&self, room: &RoomId) -> Option<&Arc<Lane>> {
        self.lanes.get((self.lane_of)(room, self.lanes.len()))
    }

    /// The refusal that stands for an answer which did not come.
    pub(super) fn failed(&self) -> Refusal {
        Refusal {
            code: PLUGIN_FAILED.to_owned(),
            message: format!("The plugin {} could not answer", self.name()),
            details: None,
            plugin: Some(Arc::clone(self.name())),
            decision: None,
        }
    }

    /// Makes another version ready to take over.
    pub(super) async fn prepare(
        &self,
        config: &PluginConfig,
    ) -> Result<(Arc<Version>, Vec<Held>), String> {
        let lanes = self.lanes.len();
        let config = PluginConfig {
            instances: lanes,
            ..config.clone()
        };
        Version::prepare(&self.engine, &config, &self.common).await
    }

    /// Keeps calls from taking effect for as long as it is held, where the version needs that
    /// to take over: its shadow begins with a copy of the keys.
    pub(super) async fn quiet(&self, version: &Version) -> Option<RwLockWriteGuard<'_, ()>> {
        let observer = version.template.observer.as_ref()?;
        if !observer.has_shadow() {
            return None;
        }
        Some(self.common.contended.write().await)
    }

    /// Has another version take over, lane by lane: what runs ends on the old one.
    pub(super) fn install(&self, version: &Arc<Version>, held: Vec<Held>, rollback: bool) {
        let number = version.template.number;
        self.common.breaker.reset(version.config.breaker, number);
        let swap =
            |(lane, held): (&Arc<Lane>, Held)| lane.swap(Arc::clone(&version.template), held);
        let lanes = self.lanes.iter().zip(held);
        let swap_all = || lanes.map(swap).filter(|at_once| !at_once).count();
        version.template.take_over(swap_all);
        Lane::recovered(&self.common);
        let old = self.current.swap(Arc::clone(version));
        self.common
            .meters
            .version(Some(old.named()), version.named());
        let mut previous = self.previous.lock();
        let mut counts = self.counts.lock();
        counts.swaps += 1;
        counts.refused = None;
        self.common.meters.swapped.increment(1);
        if rollback {
            counts.rollbacks += 1;
            counts.rejected = Some(old.contents.clone());
            self.common.meters.rolled_back.increment(1);
            *previous = None;
        } else {
            counts.rejected = None;
            if previous.is_none() || !old.is_on_probation() {
                *previous = Some(old);
            }
        }
    }

    /// The version to go back to, if the current one is on probation and does not pass.
    pub(super) fn to_roll_back(&self) -> Option<Arc<Version>> {
        let current = self.current.load();
        let breaker = &self.common.breaker;
        let limit = PROBATION_FAILURES.min(current.config.breaker.failures);
        let failing =
            breaker.failures_of_version() >= limit || breaker.state() == BreakerState::Open;
        if !current.is_on_probation() {
            *self.previous.lock() = None;
            return None;
        }
        if failing {
            self.previous.lock().clone()
        } else {
            None
        }
    }

    /// Takes note of a version that cannot be used.
    pub(super) fn refused(&self, problem: &str) {
        self.common.meters.refused.increment(1);
        self.counts.lock().refused = Some(RefusedVersion {
            at: UnixMs::now(),
            problem: problem.to_owned(),
        });
    }

    /// Whether to load these files would only bring back what runs already, or what was taken
    /// back last.
    pub(super) fn knows(&self, files: &Contents) -> bool {
        self.current.load().contents == *files
            || self.counts.lock().rejected.as_ref() == Some(files)
    }

    pub(super) fn status(&self) -> PluginStatus {
        let version = self.version();
        let template = &version.template;
        let counts = self.counts.lock();
        let space = &self.common.space;
        PluginStatus {
            name: self.name().to_string(),
            manifest_name: version.manifest().name.clone(),
            version: version.manifest().version.clone(),
            description: version.manifest().description.clone(),
            component: version.component().to_owned(),
            contract: template.contract.clone(),
            isolation: match version.config.isolation {
                Isolation::Live => "live",
                Isolation::Fresh => "fresh",
            },
            instances: self.lanes.len(),
            breaker: self.common.breaker.state(),
            hooks: Hook::ALL
                .iter()
                .copied()
                .filter(|hook| *hook != Hook::Init && template.has(*hook))
                .collect(),
            commands: version.commands.clone(),
            queued: self.lanes.iter().map(|lane| lane.queued()).sum(),
            stored: Stored {
                keys: space.keys(),
                bytes: space.bytes(),
                timers: space.timers(),
            },
            loaded_at: version.since,
            swaps: counts.swaps,
            rollbacks: counts.rollbacks,
            shadow: template.observer.as_ref().and_then(|one| one.shadow()),
            memory_bytes: self.common.meters.memory(),
            last_failure: self.common.last_failure.lock().clone(),
            last_refused: counts.refused.clone(),
        }
    }

    /// Tells timers that are due, as many as there is place for; the others in a while.
    fn tell_due(&self) {
        let now = UnixMs::now();
        let (mut begin, mut refused) = (Vec::new(), Vec::new());
        for timer in self.common.space.due(now, TIMERS) {
            let fact = Fact::Timer {
                room: self.common.stage.view(&timer.room),
                key: timer.key.to_string(),
                due: timer.due,
                at: now,
            };
            let input = Arc::new(Input::Fact(fact));
            let lane = self.lane(&timer.room);
            match lane.map_or(Told::Refused, |lane| lane.tell(&Telling::new(&input))) {
                Told::Queued => {}
                Told::Begins => begin.extend(lane.map(Arc::clone)),
                Told::Refused | Told::Stopped => refused.push(timer),
            }
        }
        Lane::begin_all(begin);
        if !refused.is_empty() {
            let space = Arc::downgrade(&self.common.space);
            tokio::spawn(async move {
                tokio::time::sleep(TIMER_PAUSE).await;
                let Some(space) = space.upgrade() else { return };
                for timer in refused {
                    space.release_timer(&timer.room, &timer.key, timer.due);
                }
            });
        }
    }
}

/// Tells a plugin's timers when they are due, for as long as there is the plugin.
async fn run_timers(place: Weak<Place>) {
    let Some(mut next) = place
        .upgrade()
        .map(|place| place.common.space.timers_changed())
    else {
        return;
    };
    loop {
        let due = *next.borrow_and_update();
        let now = UnixMs::now();
        match due {
            Some(due) if due <= now => {
                let Some(place) = place.upgrade() else { return };
                place.tell_due();
                tokio::task::yield_now().await;
            }
            due => {
                let wait = due.map(|due| Duration::from_millis(due.0 - now.0));
                // The machine's clock may be set meanwhile.
                let wait = wait.unwrap_or(Duration::MAX).min(Duration::from_secs(60));
                if let Ok(Err(_)) = tokio::time::timeout(wait, next.changed()).await {
                    return;
                }
            }
        }
    }
}

//! A second version of a plugin that runs beside the first: it is given the same calls, once
//! the first has answered, and what it answers is compared, counted and discarded.
//!
//! It has a copy of the first one's keys and timers, taken when the first takes over, and
//! goes on with its own writes; nothing is published and no action carried out. What a call
//! has written stays if that is so on the live side. All rooms meet in one instance, in the
//! order of the live calls. It holds up nobody: calls for which there is no place are left
//! out, and after such a gap it begins anew with another copy.
//!
//! Copies are exact: they are taken with the lock that writing calls share held alone, when
//! no call is between its effect and its being handed over.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering},
    },
};

use metrics::{Counter, counter};
use serde::Serialize;
use tokio::sync::{
    Notify, RwLock,
    mpsc::{Receiver, Sender, channel},
};

use super::{
    COMPLAINTS,
    call::Input,
    engine::Engine,
    host::{Identity, printable},
    instance::{Failure, Instance, Output, Template},
    load,
    meters::{Meters, SHADOW_CALLS, SHADOW_LEFT_OUT},
    offline::Called,
    record::{CallLine, Outcome},
    replay::Side,
    throttle::Throttle,
};
use crate::{
    config::{Isolation, PluginConfig},
    model::Hook,
    store::Space,
};

/// Calls that may wait for the shadow.
const QUEUE: usize = 1024;

/// Disagreements of one version that are logged.
const LOGGED: u32 = 20;

/// Characters of each side of a disagreement in the log.
const LINE: usize = 1000;

/// How a shadow does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowStatus {
    /// Its component's content, as `sha256:…`.
    pub component: String,
    /// Calls that came out as those of the plugin.
    pub agreeing: u64,
    /// Calls that came out otherwise.
    pub differing: u64,
    /// Calls that were left out because the shadow did not keep up.
    pub left_out: u64,
}

/// Where live calls are handed to. Dropping it ends the shadow.
pub(super) struct Shadow {
    queue: Sender<Step>,
    live: Arc<Space>,
    score: Arc<Score>,
}

/// What the shadow is to do.
enum Step {
    /// Begin anew, with this copy.
    Begin(Arc<Space>),
    Call(Live),
}

/// A call as it came out.
struct Live {
    input: Arc<Input>,
    side: Side,
    /// Whether what it did stayed.
    took_effect: bool,
}

struct Score {
    component: String,
    hooks: Vec<HookScore>,
    agreeing: AtomicU64,
    differing: AtomicU64,
    left_out: AtomicU64,
    left_out_total: Counter,
    /// Calls are left out, until the shadow has begun anew. It [is told](Self::anew).
    gap: AtomicBool,
    /// Lanes in which a call of the version before may still take effect, unseen from here.
    /// For a moment negative, where a lane is quicker than the count.
    behind: AtomicIsize,
    anew: Notify,
}

struct HookScore {
    agreeing: Counter,
    differing: Counter,
}

impl Shadow {
    /// Loads the second version of a plugin and sees whether it starts; it begins when the
    /// first [takes over](Self::take_over). `contended` is what is held alone for a copy.
    /// Must be called within the runtime in which it is to work.
    pub(super) async fn load(
        engine: &Arc<Engine>,
        config: &PluginConfig,
        path: &Path,
        live: &Arc<Space>,
        contended: Arc<RwLock<()>>,
    ) -> Result<Self, String> {
        let problem = |why: String| format!("has a shadow ({}) that {why}", path.display());
        let manifest = path.with_extension("toml");
        let config = PluginConfig {
            path: path.to_owned(),
            // A version that asks for nothing new needs no manifest of its own.
            manifest: if manifest.exists() {
                manifest
            } else {
                config.manifest.clone()
            },
            ..config.clone()
        };
        let label = format!("{}:shadow", config.name);
        let meters = Arc::new(Meters::new(&label));
        let complaints = Arc::new(Throttle::new(COMPLAINTS));
        let space = Space::copy_of(live);
        let prepared = load::prepare(engine, &config, space, meters, complaints).await;
        let mut template = prepared.map_err(problem)?;
        // So that its lines in the log are known from those of the plugin.
        let mut identity = Identity::clone(&template.identity);
        identity.name = label.into();
        template.identity = Arc::new(identity);
        let (_, commands) = template
            .instantiate()
            .await
            .map_err(|failure| problem(format!("does not start: {failure}")))?;
        let granted = &template.identity.granted;
        load::check_commands(&commands, granted, template.has(Hook::OnCommand)).map_err(problem)?;
        let score = Arc::new(Score::new(&config.name, &template.component));
        let (queue, calls) = channel(QUEUE);
        let worker = Worker {
            instance: None,
            live: Arc::clone(live),
            contended,
            score: Arc::clone(&score),
            logged: 0,
            template,
            config,
        };
        tokio::spawn(worker.run(calls));
        Ok(Self {
            queue,
            live: Arc::clone(live),
            score,
        })
    }

    /// Has the shadow begin with what the plugin keeps now. Meanwhile no call may take effect.
    /// `swap` has the live version take over, and tells in how many lanes that is still to be
    /// done: their last calls are not seen here, so that the shadow waits for them.
    pub(super) fn take_over(&self, swap: impl FnOnce() -> usize) {
        let score = &self.score;
        score.behind.store(0, Ordering::SeqCst);
        score.gap.store(true, Ordering::SeqCst);
        let behind = isize::try_from(swap()).unwrap_or(isize::MAX);
        let before = score.behind.fetch_add(behind, Ordering::SeqCst);
        if before + behind > 0 {
            return;
        }
        match self.queue.try_reserve() {
            Ok(place) => {
                place.send(Step::Begin(Space::copy_of(&self.live)));
                score.gap.store(false, Ordering::SeqCst);
            }
            Err(_) => score.anew.notify_one(),
        }
    }

    /// One of the lanes that were behind is so no more.
    pub(super) fn gone_over(&self) {
        if self.score.behind.fetch_sub(1, Ordering::SeqCst) <= 1 {
            self.score.anew.notify_one();
        }
    }

    /// Hands a live call over, if there is a place for it.
    pub(super) fn give(&self, line: &CallLine) {
        let score = &self.score;
        let gap = score.gap.load(Ordering::SeqCst);
        let given = !gap
            && self
                .queue
                .try_reserve()
                .map(|place| place.send(Step::Call(Live::from(line))))
                .is_ok();
        if !given {
            score.gap.store(true, Ordering::SeqCst);
            score.anew.notify_one();
            score.left_out.fetch_add(1, Ordering::Relaxed);
            score.left_out_total.increment(1);
        }
    }

    pub(super) fn status(&self) -> ShadowStatus {
        let Score {
            component,
            agreeing,
            differing,
            left_out,
            ..
        } = &*self.score;
        ShadowStatus {
            component: component.clone(),
            agreeing: agreeing.load(Ordering::Relaxed),
            differing: differing.load(Ordering::Relaxed),
            left_out: left_out.load(Ordering::Relaxed),
        }
    }
}

impl From<&CallLine> for Live {
    fn from(line: &CallLine) -> Self {
        Self {
            input: Arc::clone(&line.input),
            took_effect: line.took_effect(),
            side: Side {
                outcome: line.outcome.clone(),
                amendment: line.amendment.clone(),
                actions: line.actions.clone(),
                published: line.published.clone(),
                timers: Vec::new(),
            },
        }
    }
}

impl Score {
    fn new(plugin: &str, component: &str) -> Self {
        let hook = |hook: &Hook| {
            let calls = |agrees: &'static str| {
                counter!(
                    SHADOW_CALLS,
                    "plugin" => plugin.to_owned(),
                    "hook" => hook.name(),
                    "agrees" => agrees
                )
            };
            HookScore {
                agreeing: calls("true"),
                differing: calls("false"),
            }
        };
        Self {
            component: component.to_owned(),
            hooks: Hook::ALL.iter().map(hook).collect(),
            agreeing: AtomicU64::new(0),
            differing: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            left_out_total: counter!(
                SHADOW_LEFT_OUT,
                "plugin" => plugin.to_owned()
            ),
            gap: AtomicBool::new(true),
            behind: AtomicIsize::new(0),
            anew: Notify::new(),
        }
    }

    fn note(&self, hook: Hook, agrees: bool) {
        let score = self.hooks.get(hook as usize);
        if agrees {
            self.agreeing.fetch_add(1, Ordering::Relaxed);
            if let Some(score) = score {
                score.agreeing.increment(1);
            }
        } else {
            self.differing.fetch_add(1, Ordering::Relaxed);
            if let Some(score) = score {
                score.differing.increment(1);
            }
        }
    }
}

/// The shadow's own side.
struct Worker {
    config: PluginConfig,
    template: Template,
    /// `None` after a failed call, and between the calls of instances that are not to live.
    instance: Option<Box<Instance>>,
    live: Arc<Space>,
    contended: Arc<RwLock<()>>,
    score: Arc<Score>,
    /// Disagreements so far, up to those that are logged.
    logged: u32,
}

impl Worker {
    /// Works until nobody can hand a call over any more.
    async fn run(mut self, mut steps: Receiver<Step>) {
        let score = Arc::clone(&self.score);
        loop {
            let step = tokio::select! {
                biased;
                step = steps.recv() => match step {
                    Some(step) => Some(step),
                    None => return,
                },
                () = score.anew.notified() => None,
            };
            match step {
                Some(Step::Begin(space)) => self.begin(space),
                Some(Step::Call(Live {
                    input,
                    side,
                    took_effect,
                })) => {
                    let called = self.call(&input, took_effect).await;
                    self.compare(&input, &side, called);
                }
                None => {}
            }
            if steps.is_empty() && score.gap.load(Ordering::SeqCst) {
                self.begin_anew().await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Makes the call. What it writes stays if that is so on the live side. A timer that it is
    /// for has fired there in any case.
    async fn call(&mut self, input: &Arc<Input>, took_effect: bool) -> Called {
        let hook = input.hook();
        let (called, written) = if self.template.has(hook) {
            let result = self.ask(input).await;
            (Called::of(&result), result.ok().map(|output| output.staged))
        } else {
            (Called::new(Outcome::without(hook)), None)
        };
        if !took_effect {
            // It may remember what has not happened.
            self.instance = None;
        }
        let written = written.filter(|_| took_effect);
        let staged = written.unwrap_or_else(|| input.staged(input.at()));
        // Nobody else writes into this space: there is no conflict.
        drop(self.template.identity.space.apply(staged));
        called
    }

    async fn ask(&mut self, input: &Arc<Input>) -> Result<Output, Failure> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.template.instantiate().await?.0,
        };
        let limit = self.template.patience(input.hook());
        let called = tokio::time::timeout(limit, instance.call(input)).await;
        let output = called.unwrap_or(Err(Failure::TimedOut))?;
        if self.config.isolation == Isolation::Live {
            self.instance = instance.kept();
        }
        Ok(output)
    }

    fn compare(&mut self, input: &Input, live: &Side, called: Called) {
        let shadow = Side {
            outcome: called.outcome,
            amendment: called.amendment,
            actions: called.actions,
            published: called.published,
            timers: Vec::new(),
        };
        let parts = live.compare(&shadow);
        let hook = input.hook();
        self.score.note(hook, parts.is_empty());
        if parts.is_empty() || self.logged >= LOGGED {
            return;
        }
        self.logged += 1;
        let text = |side: &Side| serde_json::to_string(side).unwrap_or_default();
        tracing::warn!(
            plugin = self.config.name,
            hook = hook.name(),
            room = %input.room(),
            ?parts,
            live = %printable(&text(live), LINE),
            shadow = %printable(&text(&shadow), LINE),
            "a plugin's shadow disagrees"
        );
    }

    /// After a gap, the shadow's keys and memory are not what they would be.
    async fn begin_anew(&mut self) {
        let contended = Arc::clone(&self.contended);
        let _alone = contended.write().await;
        let score = &self.score;
        let is_behind = score.behind.load(Ordering::SeqCst) > 0;
        if is_behind || !score.gap.load(Ordering::SeqCst) {
            return;
        }
        let space = Space::copy_of(&self.live);
        score.gap.store(false, Ordering::SeqCst);
        self.begin(space);
    }

    fn begin(&mut self, space: Arc<Space>) {
        let mut identity = Identity::clone(&self.template.identity);
        identity.space = space;
        self.template.identity = Arc::new(identity);
        self.instance = None;
    }
}

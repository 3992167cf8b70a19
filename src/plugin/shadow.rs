//! A second version of a plugin that runs beside the first: it is given the same calls, once
//! the first has answered, and what it answers is compared, counted and discarded.
//!
//! It has a copy of the first one's keys and timers and goes on with its own writes; nothing
//! is published and no action carried out. All rooms meet in one instance, in the order of
//! the live calls. It holds up nobody: calls for which there is no place are left out, and
//! after such a gap it begins anew with another copy.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use metrics::{Counter, counter};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{
    COMPLAINTS,
    call::{Fact, Input},
    engine::Engine,
    host::{Identity, printable},
    instance::{Failure, Instance, Template},
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
    queue: Sender<Live>,
    score: Arc<Score>,
}

/// A call as it came out.
struct Live {
    input: Arc<Input>,
    side: Side,
}

struct Score {
    component: String,
    hooks: Vec<HookScore>,
    agreeing: AtomicU64,
    differing: AtomicU64,
    left_out: AtomicU64,
    left_out_total: Counter,
    /// Calls have been left out, so that the shadow has to begin anew.
    gap: AtomicBool,
}

struct HookScore {
    agreeing: Counter,
    differing: Counter,
}

impl Shadow {
    /// Loads the second version of a plugin and starts it on a copy of its keys. Must be
    /// called within the runtime in which it is to work.
    pub(super) async fn load(
        engine: &Arc<Engine>,
        config: &PluginConfig,
        path: &Path,
        live: &Arc<Space>,
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
        let (instance, commands) = template
            .instantiate()
            .await
            .map_err(|failure| problem(format!("does not start: {failure}")))?;
        let granted = &template.identity.granted;
        load::check_commands(&commands, granted, template.has(Hook::OnCommand)).map_err(problem)?;
        let score = Arc::new(Score::new(&config.name, &template.component));
        let (queue, calls) = channel(QUEUE);
        let worker = Worker {
            instance: Some(instance),
            live: Arc::clone(live),
            score: Arc::clone(&score),
            logged: 0,
            template,
            config,
        };
        tokio::spawn(worker.run(calls));
        Ok(Self { queue, score })
    }

    /// Hands a live call over, if there is a place for it.
    pub(super) fn give(&self, line: &CallLine) {
        let score = &self.score;
        let behind = score.gap.load(Ordering::Relaxed);
        let given = !behind
            && self
                .queue
                .try_reserve()
                .map(|place| place.send(Live::from(line)))
                .is_ok();
        if !given {
            score.gap.store(true, Ordering::Relaxed);
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
            gap: AtomicBool::new(false),
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
    score: Arc<Score>,
    /// Disagreements so far, up to those that are logged.
    logged: u32,
}

impl Worker {
    /// Works until nobody can hand a call over any more.
    async fn run(mut self, mut calls: Receiver<Live>) {
        while let Some(Live { input, side }) = calls.recv().await {
            let called = self.call(&input).await;
            self.compare(&input, &side, called);
            if calls.is_empty() && self.score.gap.load(Ordering::Relaxed) {
                self.begin_anew();
            }
            tokio::task::yield_now().await;
        }
    }

    async fn call(&mut self, input: &Arc<Input>) -> Called {
        let hook = input.hook();
        if !self.template.has(hook) {
            return Called::new(Outcome::without(hook));
        }
        let instance = match self.instance.take() {
            Some(instance) => Ok(instance),
            None => self.template.instantiate().await.map(|(made, _)| made),
        };
        let mut instance = match instance {
            Ok(instance) => instance,
            Err(failure) => return Called::failed(&failure),
        };
        let limit = self.template.patience(hook);
        let result = match tokio::time::timeout(limit, instance.call(input)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::TimedOut),
        };
        let called = Called::of(&result);
        if let Ok(output) = result {
            let mut staged = output.staged;
            if let Input::Fact(Fact::Timer { room, key, due, .. }) = &**input {
                staged.fired(&room.id, key, *due);
            }
            // Nobody else writes into this space: there is no conflict.
            drop(self.template.identity.space.apply(staged));
            if self.config.isolation == Isolation::Live {
                self.instance = Some(instance);
            }
        }
        called
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
    fn begin_anew(&mut self) {
        let mut identity = Identity::clone(&self.template.identity);
        identity.space = Space::copy_of(&self.live);
        self.template.identity = Arc::new(identity);
        self.instance = None;
        self.score.gap.store(false, Ordering::Relaxed);
    }
}

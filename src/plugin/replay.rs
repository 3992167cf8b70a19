//! Recorded calls through another version of a plugin, exact and repeatable.
//!
//! What a guest sees is the same as in the recording: the inputs and their times, the seeds
//! of random numbers, and the keys, as far as the recording shows them: the first that it
//! learns of a key which no recorded call has written was so from the beginning, and what
//! changes later without a recorded call is changed at the same place. What the new version
//! writes, it finds again. Nothing is published and no action carried out.
//!
//! Time does not count: a call ends by the number of its instructions, so that a slow machine
//! comes to the same result. A call that had no effect in the recording has none here.

mod keys;
mod recorded;
mod report;

use std::{
    collections::BTreeSet,
    io::{self, BufRead},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use self::recorded::{Begin, Call, Recorded, Step, Unreadable, timers};
pub use self::report::{Difference, Gaps, HookCount, Part, ReplayReport, Side};
use super::{
    PluginProblem,
    engine::Engine,
    host::Conditions,
    instance::{Failure, Instance, Template},
    limits,
    offline::{self, Called},
    record::Outcome,
};
use crate::{
    config::PluginConfig,
    model::{Hook, UnixMs},
    store::{Space, Staged},
};

/// What one call may take by the clock: only the number of instructions ends it.
const TIME: Duration = Duration::from_secs(600);

/// Most instances that live at once.
const INSTANCES: usize = 1000;

/// How a recording is replayed.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// Where compiled code is kept; what lies there is trusted. `None` compiles each time.
    pub cache_dir: Option<PathBuf>,
    /// Differences that are kept for the report.
    pub differences: usize,
    /// Instructions after which a call counts as timed out.
    pub instruction_limit: u64,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            differences: 1000,
            instruction_limit: 500_000_000,
        }
    }
}

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("the recording cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Nothing of a plugin is in it.
    #[error("there is no instance of a plugin in the recording: is it a `calls.jsonl`?")]
    Empty,
    /// Several plugins are in it, and none of them has the name in question.
    #[error(
        "the recording has no calls of `{wanted}`, but of {}: name one of them",
        .plugins.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    )]
    OtherPlugins {
        /// The name in question.
        wanted: String,
        /// The plugins that were recorded.
        plugins: BTreeSet<String>,
    },
    /// It has too many instances that live at once.
    #[error("the recording has {0} instances at once; {INSTANCES} are the limit")]
    TooManyInstances(usize),
    /// The component cannot be used.
    #[error("{0}")]
    Plugin(PluginProblem),
}

/// Runs recorded calls through the component of a configuration. Of the configuration, name
/// (where the recording has several plugins), component, manifest, grants and limits of
/// memory and storage count; settings are those of the recording.
///
/// Reads `calls` to its end at once. Must be called within a Tokio runtime.
///
/// # Errors
///
/// If the recording cannot be read, has no calls of the plugin, or the component cannot be
/// loaded.
pub async fn replay(
    calls: impl BufRead,
    config: &PluginConfig,
    options: &ReplayOptions,
) -> Result<ReplayReport, ReplayError> {
    let recorded = Recorded::read(calls, &config.name).map_err(|why| match why {
        Unreadable::Io(error) => ReplayError::Read(error),
        Unreadable::Plugins(plugins) if plugins.is_empty() => ReplayError::Empty,
        Unreadable::Plugins(plugins) => ReplayError::OtherPlugins {
            wanted: config.name.clone(),
            plugins,
        },
    })?;
    if recorded.instances > INSTANCES {
        return Err(ReplayError::TooManyInstances(recorded.instances));
    }
    let config = PluginConfig {
        name: recorded.plugin.clone(),
        hooks: config.hooks.clone().time_budget(TIME),
        ..config.clone()
    };
    let problem = |why| ReplayError::Plugin(config.problem(why));
    let instances = recorded.instances.max(1);
    let engine = Engine::for_tools(instances, options.cache_dir.as_deref(), true)
        .map_err(|error| problem(format!("cannot be run on this machine: {error:#}")))?;
    let space = Space::detached(&config.name);
    offline::plant(&space, &recorded.seeds).map_err(problem)?;
    let mut player = Player {
        config: &config,
        options,
        engine: Arc::new(engine),
        space,
        templates: Vec::new(),
        instances: Vec::new(),
        report: ReplayReport {
            plugin: recorded.plugin,
            recorded: recorded.components,
            component: String::new(),
            calls: 0,
            differing: 0,
            hooks: std::collections::BTreeMap::new(),
            untried: Vec::new(),
            not_started: 0,
            differences: Vec::new(),
            instructions: 0,
            gaps: recorded.gaps,
        },
    };
    for step in recorded.steps {
        match step {
            Step::Begin(begin) => player.begin(begin).await?,
            Step::Call(call) => player.call(*call).await,
            Step::End(place) => player.end(place),
        }
    }
    Ok(player.finish())
}

struct Player<'a> {
    config: &'a PluginConfig,
    options: &'a ReplayOptions,
    engine: Arc<Engine>,
    space: Arc<Space>,
    /// One for each of the settings that the plugin had.
    templates: Vec<(serde_json::Value, Template)>,
    instances: Vec<Playing>,
    report: ReplayReport,
}

/// One of the recorded instances, and what stands for it.
struct Playing {
    /// Which template.
    template: usize,
    conditions: Conditions,
    /// `None` before it is made, after a failed call, and where it is worn.
    instance: Option<Box<Instance>>,
    /// Why none could be made.
    failure: Option<Failure>,
}

impl Player<'_> {
    async fn begin(&mut self, begin: Begin) -> Result<(), ReplayError> {
        self.correct(begin.at, begin.corrections);
        let conditions = Conditions {
            traced: true,
            instructions: Some(self.options.instruction_limit),
            random: Some(begin.random),
            at: Some(begin.at),
        };
        let template = self.template(begin.settings).await?;
        let mut playing = Playing {
            template,
            conditions,
            instance: None,
            failure: None,
        };
        let replayed = match self.make(template, conditions).await {
            Ok(instance) => {
                playing.instance = Some(instance);
                Outcome::Noted
            }
            Err(failure) => {
                let outcome = Outcome::from(&failure);
                playing.failure = Some(failure);
                outcome
            }
        };
        self.instances.push(playing);
        let (recorded, replayed) = (side(begin.outcome), side(replayed));
        let parts = recorded.compare(&replayed);
        self.note(Difference {
            seq: 0,
            instance: begin.instance,
            hook: Hook::Init,
            room: None,
            at: begin.at,
            parts,
            recorded,
            replayed,
        });
        Ok(())
    }

    /// Which template has these settings.
    async fn template(&mut self, settings: serde_json::Value) -> Result<usize, ReplayError> {
        let known = self.templates.iter().position(|(of, _)| *of == settings);
        if let Some(known) = known {
            return Ok(known);
        }
        let config = PluginConfig {
            settings: settings.clone(),
            ..self.config.clone()
        };
        let space = Arc::clone(&self.space);
        let template = offline::template(&self.engine, &config, space, Conditions::default())
            .await
            .map_err(ReplayError::Plugin)?;
        self.report.component.clone_from(&template.component);
        self.templates.push((settings, template));
        Ok(self.templates.len() - 1)
    }

    /// Makes an instance of that template.
    async fn make(
        &mut self,
        template: usize,
        conditions: Conditions,
    ) -> Result<Box<Instance>, Failure> {
        let Some((_, template)) = self.templates.get_mut(template) else {
            return Err(Failure::Down);
        };
        template.conditions = conditions;
        let made = template.instantiate().await;
        self.report.not_started += u64::from(made.is_err());
        made.map(|(instance, _)| instance)
    }

    async fn call(&mut self, call: Call) {
        let (hook, at) = (call.input.hook(), call.input.at());
        self.correct(at, call.corrections.clone());
        let has = self.templates.first();
        let called = if has.is_some_and(|(_, template)| !template.has(hook)) {
            Called::new(Outcome::without(hook))
        } else {
            self.played(&call).await
        };
        self.report.instructions += called.instructions.unwrap_or_default();
        let mut recorded = call.expected;
        let mut replayed = Side {
            outcome: called.outcome,
            amendment: called.amendment,
            actions: called.actions,
            published: called.published,
            timers: timers(called.imports),
        };
        if !call.complete {
            recorded.timers.clear();
            replayed.timers.clear();
        }
        let parts = recorded.compare(&replayed);
        self.report.calls += 1;
        let count = self.report.hooks.entry(hook).or_default();
        count.calls += 1;
        count.differing += u64::from(!parts.is_empty());
        self.note(Difference {
            seq: call.seq,
            instance: call.instance,
            hook,
            room: Some(call.input.room().clone()),
            at,
            parts,
            recorded,
            replayed,
        });
    }

    /// Makes the call. What it writes stays if that was so in the recording; a call that
    /// fails is undone, and its instance is gone.
    async fn played(&mut self, call: &Call) -> Called {
        let mut instance = match self.instance(call.place, call.input.at()).await {
            Ok(instance) => instance,
            Err(failure) => return Called::failed(&failure),
        };
        let result = instance.call(&call.input).await;
        let mut called = Called::of(&result);
        called.instructions = instance.instructions();
        called.imports = instance.take_trace().0;
        if let Ok(output) = result {
            if let Some(playing) = self.instances.get_mut(call.place) {
                playing.instance = instance.kept();
            }
            if call.took_effect {
                // There is nobody with whom it could conflict.
                drop(self.space.apply(output.staged));
            }
        }
        called
    }

    /// Takes the instance out of its place. One that is gone is made again only now: where
    /// the recording has replaced it too, it is not called any more.
    async fn instance(&mut self, place: usize, at: UnixMs) -> Result<Box<Instance>, Failure> {
        let Some(playing) = self.instances.get_mut(place) else {
            return Err(Failure::Down);
        };
        if let Some(failure) = &playing.failure {
            return Err(failure.clone());
        }
        if let Some(instance) = playing.instance.take() {
            return Ok(instance);
        }
        let (template, conditions) = (playing.template, playing.conditions);
        let conditions = Conditions {
            at: Some(at),
            ..conditions
        };
        let made = self.make(template, conditions).await;
        if let (Err(failure), Some(playing)) = (&made, self.instances.get_mut(place)) {
            playing.failure = Some(failure.clone());
        }
        made
    }

    fn end(&mut self, place: usize) {
        if let Some(playing) = self.instances.get_mut(place) {
            playing.instance = None;
        }
    }

    /// Makes a key what it was.
    fn correct(&self, at: UnixMs, corrections: Vec<keys::Correction>) {
        for (key, value) in corrections {
            let mut staged = Staged::new(at);
            let limits = &limits::STORE;
            // What the recording has was within these limits.
            drop(staged.set(&self.space, limits, &key, value.as_deref()));
            drop(self.space.apply(staged));
        }
    }

    fn note(&mut self, difference: Difference) {
        if difference.parts.is_empty() {
            return;
        }
        self.report.differing += 1;
        if self.report.differences.len() < self.options.differences {
            self.report.differences.push(difference);
        }
    }

    fn finish(self) -> ReplayReport {
        let mut report = self.report;
        if let Some((_, template)) = self.templates.first() {
            let untried = |hook: &&Hook| {
                **hook != Hook::Init && template.has(**hook) && !report.hooks.contains_key(hook)
            };
            report.untried = Hook::ALL.iter().filter(untried).copied().collect();
        }
        report
    }
}

fn side(outcome: Outcome) -> Side {
    Side {
        outcome,
        amendment: None,
        actions: Vec::new(),
        published: Vec::new(),
        timers: Vec::new(),
    }
}

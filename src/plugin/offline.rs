//! One plugin without rooms, media and a server: for tests, figures and replays.
//!
//! The calls are the server's own: same limits, same checks, and a call that fails is undone
//! and ends its instance. Keys and timers are kept in memory; events go nowhere, and actions
//! are returned.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    COMPLAINTS, PluginProblem,
    call::{Action, Amendment, Fact, Input, RoomView},
    engine::Engine,
    host::Conditions,
    instance::{Failure, Instance, Output, Template},
    limits, load,
    meters::Meters,
    record::{ImportCall, Outcome, Published},
    throttle::Throttle,
};
use crate::{
    config::{Isolation, PluginConfig},
    model::{Hook, UnixMs},
    store::{Space, Staged},
};

/// Keys that are written together where many are.
const SEEDED_AT_ONCE: usize = 500;

/// How a plugin is run offline.
#[derive(Clone, Debug, Default)]
pub struct OfflineOptions {
    /// Where compiled code is kept; what lies there is trusted. `None` compiles each time.
    pub cache_dir: Option<PathBuf>,
    /// Whether [`Called::imports`] are wanted.
    pub trace: bool,
    /// Whether [`Called::instructions`] are wanted. The guest runs more slowly then.
    pub count_instructions: bool,
    /// Most instructions of one call, where they are counted; `None` is no limit.
    pub instruction_limit: Option<u64>,
    /// Seed of the guest's random numbers, so that they are the same each time.
    pub random: Option<u64>,
    /// Keys and values that the plugin finds.
    pub seed: Vec<(String, Vec<u8>)>,
}

/// What a call has come to.
#[derive(Clone, Debug)]
pub struct Called {
    /// What the asker gets.
    pub outcome: Outcome,
    /// How a producer that is allowed begins.
    pub amendment: Option<Amendment>,
    /// What is to be done, in order.
    pub actions: Vec<Action>,
    /// Events that were published, in order.
    pub published: Vec<Published>,
    /// What the guest asked of the server, in order; empty unless traced.
    pub imports: Vec<ImportCall>,
    /// How long it took, with the making of its instance where each call has its own.
    pub took: Duration,
    /// How many instructions it took, where they are counted.
    pub instructions: Option<u64>,
}

/// A plugin, loaded.
pub struct Offline {
    config: PluginConfig,
    template: Template,
    /// `None` after a failed call, if no other could be made.
    instance: Option<Box<Instance>>,
    commands: Vec<String>,
    /// The time of the last call.
    at: UnixMs,
}

impl Offline {
    /// Compiles, links and starts the plugin, with one instance.
    ///
    /// # Errors
    ///
    /// If it cannot be used, as a server would say.
    pub async fn load(
        config: &PluginConfig,
        options: OfflineOptions,
    ) -> Result<Self, PluginProblem> {
        let OfflineOptions {
            cache_dir,
            trace,
            count_instructions,
            instruction_limit,
            random,
            seed,
        } = options;
        let engine = Engine::for_tools(1, cache_dir.as_deref(), count_instructions)
            .map_err(|error| config.problem(format!("cannot be run on this machine: {error:#}")))?;
        let space = Space::detached(&config.name);
        plant(&space, &seed).map_err(|why| config.problem(why))?;
        let conditions = Conditions {
            traced: trace,
            instructions: count_instructions.then(|| instruction_limit.unwrap_or(u64::MAX)),
            random,
            at: None,
        };
        let template = template(&Arc::new(engine), config, space, conditions).await?;
        let mut offline = Self {
            config: config.clone(),
            template,
            instance: None,
            commands: Vec::new(),
            at: UnixMs(0),
        };
        offline.replace_instance().await?;
        Ok(offline)
    }

    /// Calls the hook. What it writes is kept, unless it fails: then an instance takes its
    /// place that remembers nothing.
    pub async fn call(&mut self, input: &Input) -> Called {
        let input = Arc::new(input.clone());
        let began = Instant::now();
        let Some(mut instance) = self.running().await else {
            return Called::failed(&Failure::Down);
        };
        let limit = self.template.patience(input.hook());
        let result = match tokio::time::timeout(limit, instance.call(&input)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::TimedOut),
        };
        let took = began.elapsed();
        let mut called = Called::of(&result);
        called.took = took;
        called.instructions = instance.instructions();
        called.imports = instance.take_trace().0;
        self.at = input.at();
        let (staged, instance) = match result {
            Ok(output) => (output.staged, instance.kept()),
            Err(_) => (input.staged(self.at), None),
        };
        // Nobody else uses the space, so there is no conflict.
        drop(self.template.identity.space.apply(staged));
        // Before another is made, this one is gone: there may be no room for both.
        self.instance = instance.filter(|_| self.config.isolation == Isolation::Live);
        if self.config.isolation == Isolation::Live {
            self.instance = self.running().await;
        }
        called
    }

    /// The call for the timer that is due first, if one is due by then. Once it has been made,
    /// the timer is gone or, if it repeats, waits for its next time, also where the call fails.
    pub fn due_timer(&mut self, now: UnixMs) -> Option<Input> {
        let timer = self.template.identity.space.due(now, 1).pop()?;
        let room = RoomView {
            id: timer.room,
            participants: 0,
        };
        Some(Input::Fact(Fact::Timer {
            room,
            key: timer.key.to_string(),
            due: timer.due,
            at: now,
        }))
    }

    /// When the next timer is due for which [`Self::due_timer`] has returned no call yet.
    #[must_use]
    pub fn next_due(&self) -> Option<UnixMs> {
        self.template.identity.space.next_due()
    }

    async fn running(&mut self) -> Option<Box<Instance>> {
        match self.instance.take() {
            Some(instance) => Some(instance),
            None => self.template.instantiate().await.ok().map(|(made, _)| made),
        }
    }

    /// Gives the plugin a fresh instance, as after a failure or a restart: its memory is
    /// gone, its keys are not.
    ///
    /// # Errors
    ///
    /// If `init` fails.
    pub async fn replace_instance(&mut self) -> Result<(), PluginProblem> {
        // Before, since there may be no room for a second one.
        self.instance = None;
        let made = self.template.instantiate().await;
        let (instance, commands) =
            made.map_err(|failure| self.config.problem(format!("does not start: {failure}")))?;
        let granted = &self.template.identity.granted;
        load::check_commands(&commands, granted, self.template.has(Hook::OnCommand))
            .map_err(|why| self.config.problem(why))?;
        self.commands = commands;
        self.instance = Some(instance);
        Ok(())
    }

    /// The keys that the plugin keeps and their values at the time of the last call, in byte
    /// order.
    pub fn keys(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        kept(&self.template.identity.space, self.at).into_iter()
    }

    /// The keys that the plugin keeps and their values at a time, in byte order.
    pub fn keys_at(&self, now: UnixMs) -> impl Iterator<Item = (String, Vec<u8>)> {
        kept(&self.template.identity.space, now).into_iter()
    }

    /// Bytes of the instance's linear memories; 0 if it could not be started.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.instance.as_deref().map_or(0, Instance::memory_bytes)
    }

    /// The commands that the plugin answers.
    #[must_use]
    pub fn commands(&self) -> &[String] {
        &self.commands
    }

    /// The hooks that the component has, in order; `init` is the first.
    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        let has = |hook: &Hook| self.template.has(*hook);
        Hook::ALL.iter().copied().filter(has).collect()
    }
}

impl Called {
    pub(super) fn of(result: &Result<Output, Failure>) -> Self {
        let output = match result {
            Ok(output) => output,
            Err(failure) => return Self::failed(failure),
        };
        let (outcome, amendment) = Outcome::of(&output.answer);
        Self {
            amendment,
            actions: output.actions.clone(),
            published: published(&output.staged),
            ..Self::new(outcome)
        }
    }

    pub(super) fn failed(failure: &Failure) -> Self {
        Self::new(failure.into())
    }

    pub(super) fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            amendment: None,
            actions: Vec::new(),
            published: Vec::new(),
            imports: Vec::new(),
            took: Duration::ZERO,
            instructions: None,
        }
    }
}

/// The plugin on a space of its own.
pub(super) async fn template(
    engine: &Arc<Engine>,
    config: &PluginConfig,
    space: Arc<Space>,
    conditions: Conditions,
) -> Result<Template, PluginProblem> {
    let meters = Arc::new(Meters::new(&config.name));
    let complaints = Arc::new(Throttle::new(COMPLAINTS));
    let prepared = load::prepare(engine, config, space, meters, complaints).await;
    let mut template = prepared.map_err(|why| config.problem(why))?;
    template.conditions = conditions;
    Ok(template)
}

/// Writes keys into a space.
pub(super) fn plant(space: &Space, keys: &[(String, Vec<u8>)]) -> Result<(), String> {
    for keys in keys.chunks(SEEDED_AT_ONCE) {
        let mut staged = Staged::new(UnixMs(0));
        for (key, value) in keys {
            staged
                .set(space, &limits::STORE, key, Some(value))
                .map_err(|why| format!("cannot be given the key `{key}`: {why}"))?;
        }
        drop(space.apply(staged));
    }
    Ok(())
}

/// All keys of a space at that time.
fn kept(space: &Space, at: UnixMs) -> Vec<(String, Vec<u8>)> {
    let view = Staged::new(at);
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    loop {
        let after = found.last().map(|(key, _)| key.as_str());
        let listed = view.list(space, &limits::STORE, "", after, usize::MAX);
        let keys = listed.unwrap_or_default();
        if keys.is_empty() {
            return found;
        }
        for key in keys {
            let value = view.get(space, &limits::STORE, &key).unwrap_or_default();
            found.push((key, value.map_or_else(Vec::new, |value| value.to_vec())));
        }
    }
}

/// What a call has published.
pub(super) fn published(staged: &Staged) -> Vec<Published> {
    staged
        .events()
        .map(|(topic, payload)| Published {
            topic: topic.to_owned(),
            payload: payload.clone(),
        })
        .collect()
}

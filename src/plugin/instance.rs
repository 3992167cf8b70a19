//! One component, compiled, and its live instances: one call in, one checked output.

mod hooks;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use wasmtime::{
    Store, Trap, UpdateDeadline,
    component::{Component, InstancePre},
};

use super::{
    call::{Action, Amendment, Input},
    clock::{Clock, TICK},
    compat,
    engine::Engine,
    host::{Call, Conditions, Identity, State, printable},
    lane::Held,
    limits,
    meters::Outcome,
    observe::{Asked, Observation, Observer, Watched},
    trace::Trace,
};
pub(super) use hooks::Raw;
use hooks::{Found, Hooks};

use crate::{
    config::{HookPolicies, Isolation, PluginConfig},
    model::{Hook, Refusal, RoomId, UnixMs},
    store::Staged,
};

/// How long a call may take by the wall clock, in time budgets: a guest that waits, and not
/// runs, is ended by this.
pub(super) const WALL_BUDGETS: u32 = 4;

/// The most that a guest is charged between two pauses, which are a tick or two apart: also
/// where it is in the middle of filling its memory, which cannot be interrupted.
const LONGEST_SLICE: Duration = TICK.saturating_mul(4);

/// How often an instance is made anew whose `init` another one has interfered with.
const STARTS: usize = 8;

/// Most characters of a trap's description in the log.
const TRAP_TEXT: usize = 2000;

/// What a call has come to.
pub(super) struct Output {
    pub(super) answer: Answer,
    pub(super) actions: Vec<Action>,
    pub(super) staged: Staged,
    /// Where somebody watches.
    pub(super) observation: Option<Observation>,
}

/// What the asker gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// To a deciding hook.
    Verdict(Result<Option<Amendment>, Refusal>),
    /// To a command.
    Reply(Result<Option<Value>, Refusal>),
    /// To `describe-room`.
    Shown(Option<Value>),
    /// To a fact: nothing.
    Noted,
}

/// Why there is no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("it trapped: {0}")]
    Trapped(String),
    #[error("it was over its time budget")]
    TimedOut,
    #[error("it was over its memory limit")]
    OutOfMemory,
    #[error("its output is unusable: {0}")]
    Invalid(String),
    #[error("it could not answer in time")]
    Late,
    #[error("its queue is full")]
    Overloaded,
    #[error("it is being restarted after failures")]
    Down,
    #[error("what it wrote could not be saved in time")]
    NotSaved,
    #[error("it has failed too often and is left alone for a while")]
    Open(Instant),
    #[error("other instances keep changing the keys that it compares")]
    Conflict,
    #[error("its new version does not answer this any more")]
    Gone,
    #[error("the server stops")]
    Stopped,
}

impl Failure {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Trapped(_) => Outcome::Trapped,
            Self::TimedOut => Outcome::TimedOut,
            Self::OutOfMemory => Outcome::OutOfMemory,
            Self::Invalid(_) => Outcome::Invalid,
            Self::Late
            | Self::Overloaded
            | Self::Down
            | Self::NotSaved
            | Self::Open(_)
            | Self::Conflict
            | Self::Gone
            | Self::Stopped => Outcome::Unanswered,
        }
    }
}

/// What identifies a component.
pub(super) struct About {
    /// The content, as `sha256:…`.
    pub(super) component: String,
    /// The version of the contract that it was built against.
    pub(super) contract: String,
}

/// A compiled component with its limits: what instances are made from.
pub(super) struct Template {
    /// Tells it from all others.
    pub(super) number: u64,
    pub(super) identity: Arc<Identity>,
    /// The component's content, as `sha256:…`.
    pub(super) component: String,
    /// The version of the contract that it was built against.
    pub(super) contract: String,
    pub(super) hooks: Arc<HookPolicies>,
    pub(super) retry_limit: u32,
    /// What is special about its instances.
    pub(super) conditions: Conditions,
    /// Who watches its calls.
    pub(super) observer: Option<Arc<Observer>>,
    /// Whether `init` has asked for something that other calls can change, or has changed it.
    init_uses_store: AtomicBool,
    isolation: Isolation,
    memory_limit: usize,
    engine: Arc<Engine>,
    pre: InstancePre<State>,
    found: Found,
}

impl Template {
    pub(super) fn new(
        engine: Arc<Engine>,
        component: &Component,
        about: About,
        identity: Arc<Identity>,
        config: &PluginConfig,
    ) -> wasmtime::Result<Self> {
        let pre = engine.linker.instantiate_pre(component)?;
        let found = Found::new(&pre)?;
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Ok(Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            identity,
            component: about.component,
            contract: about.contract,
            hooks: Arc::new(config.hooks.clone()),
            retry_limit: config.retry_limit,
            conditions: Conditions::default(),
            observer: None,
            init_uses_store: AtomicBool::new(false),
            isolation: config.isolation,
            memory_limit: config.memory_limit,
            engine,
            pre,
            found,
        })
    }

    /// Whether an instance is the same whenever it is made, so that it can be made ahead.
    pub(super) fn is_made_ahead(&self) -> bool {
        !self.init_uses_store.load(Ordering::Relaxed)
    }

    /// Whether the component has the hook.
    pub(super) fn has(&self, hook: Hook) -> bool {
        self.found.has(hook)
    }

    /// The version takes over. `swap` has the lanes go over to it, and tells how many of them
    /// cannot do so at once.
    pub(super) fn take_over(&self, swap: impl FnOnce() -> usize) {
        match &self.observer {
            Some(observer) => observer.take_over(swap),
            None => {
                swap();
            }
        }
    }

    /// A lane that could not go over to this version at once has done so: no call of the one
    /// before is left in it.
    pub(super) fn gone_over(&self) {
        if let Some(observer) = &self.observer {
            observer.gone_over();
        }
    }

    /// The longest that a caller waits for a call, its time in the queue included.
    pub(super) fn patience(&self, hook: Hook) -> Duration {
        self.hooks.of(hook).time_budget.saturating_mul(WALL_BUDGETS)
    }

    /// What calls are to be made on.
    pub(super) async fn hold(&self) -> Result<Held, Failure> {
        match self.isolation {
            Isolation::Live => Ok(Held::Live(self.instantiate().await?.0)),
            Isolation::Fresh => Ok(Held::Fresh),
        }
    }

    /// A fresh instance that has been initialised, and the commands that it answers.
    pub(super) async fn instantiate(&self) -> Result<(Box<Instance>, Vec<String>), Failure> {
        let making = async {
            for _ in 1..STARTS {
                match self.make().await {
                    Err(Failure::Conflict) => {}
                    made => return made,
                }
            }
            self.make().await
        };
        match tokio::time::timeout(self.patience(Hook::Init), making).await {
            Ok(made) => made,
            Err(_) => Err(Failure::TimedOut),
        }
    }

    async fn make(&self) -> Result<(Box<Instance>, Vec<String>), Failure> {
        let observer = self.observer.as_ref();
        let conditions = observer.map_or(self.conditions, |one| one.conditions(self.conditions));
        let state = State::new(Arc::clone(&self.identity), self.memory_limit, conditions);
        let mut store = Store::new(&self.engine.wasmtime, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits::COPIED_OUT);
        meter_time(&mut store);
        let budget = self.hooks.of(Hook::Init).time_budget;
        let at = conditions.at.unwrap_or_else(UnixMs::now);
        let running = self.engine.clock.running();
        begin(&mut store, None, Staged::new(at), budget);
        let started = self.start(&mut store).await;
        drop(running);
        let failed = started.as_ref().err();
        let watched = observer.map(|one| one.began(conditions, take_trace(&mut store), failed));
        let (hooks, commands) = started?;
        let instance = Instance {
            store,
            hooks,
            policies: Arc::clone(&self.hooks),
            clock: Arc::clone(&self.engine.clock),
            watched,
        };
        Ok((Box::new(instance), commands))
    }

    /// Calls `init`.
    async fn start(&self, store: &mut Store<State>) -> Result<(Hooks, Vec<String>), Failure> {
        let made = async {
            let exports = self.pre.instantiate_async(&mut *store).await?;
            let registered = self.found.init(&mut *store, &exports).await?;
            Ok((registered, self.found.load(&mut *store, &exports)?))
        }
        .await;
        let (registered, hooks) = match made {
            Ok(made) => made,
            Err(error) => return Err(failure(store, &error)),
        };
        let commands = match registered {
            Ok(commands) => commands,
            Err(sentence) => {
                return Err(Failure::Invalid(format!(
                    "init: {}",
                    printable(&sentence, limits::MESSAGE)
                )));
            }
        };
        log_printed(store);
        if store.data().call.used_store {
            self.init_uses_store.store(true, Ordering::Relaxed);
        }
        store.data_mut().memory.begin();
        let staged = store.data_mut().call.take_staged();
        if self.identity.space.apply(staged).is_err() {
            return Err(Failure::Conflict);
        }
        Ok((hooks, commands))
    }
}

/// Lets other tasks run at each tick, and ends the guest when it has run for its budget.
fn meter_time(store: &mut Store<State>) {
    store.epoch_deadline_callback(move |mut context| {
        let State { call, resumed, .. } = context.data_mut();
        let slice = nanos_since(call.began).saturating_sub(resumed.load(Ordering::Relaxed));
        // A longer one means that the machine had others run in between.
        call.spent += Duration::from_nanos(slice).min(LONGEST_SLICE);
        if call.spent >= call.budget {
            return Ok(UpdateDeadline::Interrupt);
        }
        let (began, resumed) = (call.began, Arc::clone(resumed));
        let pause = async move {
            tokio::task::yield_now().await;
            resumed.store(nanos_since(began), Ordering::Relaxed);
        };
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(pause)))
    });
}

fn nanos_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Prepares the store for one call.
fn begin(store: &mut Store<State>, room: Option<RoomId>, staged: Staged, budget: Duration) {
    let state = store.data_mut();
    state.call = Call::new(room, staged, budget);
    state.resumed.store(0, Ordering::Relaxed);
    let Conditions {
        traced,
        instructions,
        ..
    } = state.conditions;
    state.call.trace = traced.then(Trace::default);
    if let Some(limit) = instructions {
        // Without it, the engine does not count, and there is no limit to set.
        drop(store.set_fuel(limit));
    }
    // Two, because the first may be over at once: a short call then never has to yield.
    store.set_epoch_deadline(2);
}

fn failure(store: &Store<State>, error: &wasmtime::Error) -> Failure {
    if store.data().memory.refused {
        return Failure::OutOfMemory;
    }
    if matches!(
        error.downcast_ref::<Trap>(),
        Some(Trap::Interrupt | Trap::OutOfFuel)
    ) {
        return Failure::TimedOut;
    }
    if let Some(unfit) = error.downcast_ref::<compat::Unfit>() {
        let why = unfit.to_string();
        return Failure::Invalid(printable(&why, TRAP_TEXT).into_owned());
    }
    let mut text = format!("{error:#}");
    if let Some(printed) = store.data().printed.take() {
        text = format!("{printed} ({text})");
    }
    Failure::Trapped(printable(&text, TRAP_TEXT).into_owned())
}

/// Guests print what has no better place.
fn log_printed(store: &Store<State>) {
    if let Some(printed) = store.data().printed.take()
        && store.data().identity.lines.allow()
    {
        let plugin = &*store.data().identity.name;
        let message = printable(&printed, limits::LOG_LINE);
        tracing::info!(target: "plugin", plugin, "{message}");
    }
}

/// A live instance. After a failed call it must not be called again.
pub(super) struct Instance {
    store: Store<State>,
    hooks: Hooks,
    policies: Arc<HookPolicies>,
    clock: Arc<Clock>,
    watched: Option<Watched>,
}

/// What the last call has asked for.
fn take_trace(store: &mut Store<State>) -> Asked {
    let trace = store.data_mut().call.trace.take();
    trace.unwrap_or_default().into_calls()
}

impl Instance {
    /// What the last call has asked for.
    pub(super) fn take_trace(&mut self) -> Asked {
        take_trace(&mut self.store)
    }

    /// Instructions of the last call, where they are counted.
    pub(super) fn instructions(&self) -> Option<u64> {
        let limit = self.store.data().conditions.instructions?;
        Some(limit.saturating_sub(self.store.get_fuel().ok()?))
    }

    /// Bytes of its linear memories.
    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().memory.used
    }

    /// The instance for the next call, after one that has succeeded. `None` if it has grown so
    /// near to its memory limit that it had better be replaced than fail that call: some
    /// languages collect their garbage later than the limit allows.
    pub(super) fn kept(self: Box<Self>) -> Option<Box<Self>> {
        let worn = self.store.data().memory.is_nearly_full();
        (!worn).then_some(self)
    }

    /// Calls the hook. The room hears of nothing yet: keys, events and actions are in the
    /// output.
    pub(super) async fn call(&mut self, input: &Arc<Input>) -> Result<Output, Failure> {
        let Some(watched) = &self.watched else {
            return self.run(input).await;
        };
        let mut observation = watched.begin(input);
        let mut result = self.run(input).await;
        let took = self.store.data().call.began.elapsed();
        observation.end(result.as_ref(), self.take_trace(), took);
        if let Ok(output) = &mut result {
            output.observation = Some(observation);
        }
        result
    }

    async fn run(&mut self, input: &Input) -> Result<Output, Failure> {
        let budget = self.policies.of(input.hook()).time_budget;
        let (room, staged) = (input.room().clone(), input.staged(input.at()));
        let running = self.clock.running();
        begin(&mut self.store, Some(room), staged, budget);
        let called = self.hooks.call(&mut self.store, input).await;
        drop(running);
        let state = self.store.data();
        let identity = &state.identity;
        let result = match called {
            Ok(Some(raw)) => raw.check(identity),
            Ok(None) => Err(Failure::Invalid("the hook is not exported".to_owned())),
            Err(error) => Err(failure(&self.store, &error)),
        };
        let outcome = match &result {
            Ok((Answer::Verdict(Err(_)) | Answer::Reply(Err(_)), _)) => Outcome::Refused,
            Ok(_) => Outcome::Done,
            Err(failure) => failure.outcome(),
        };
        identity
            .meters
            .record(input.hook(), outcome, Some(state.call.began.elapsed()));
        let (answer, actions) = result?;
        log_printed(&self.store);
        let staged = self.store.data_mut().call.take_staged();
        Ok(Output {
            answer,
            actions,
            staged,
            observation: None,
        })
    }
}

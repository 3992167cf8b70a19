//! One component, compiled, and its live instances: one call in, one checked output.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use wasmtime::{
    Store, Trap, UpdateDeadline,
    component::{Component, Instance as Exports, InstancePre},
};

use super::{
    call::{Action, Amendment, Fact, Input},
    compat,
    engine::{Engine, TICK},
    host::{
        Call, Conditions, Identity, State, printable,
        wit::{
            self,
            exports::voice_room::plugin::{self as exports, before_produce, on_command},
            voice_room::plugin::types::Decision,
        },
    },
    lane::Held,
    lift, limits,
    load::{PACKAGE, WIT_VERSION},
    lower::{self, IdText},
    meters::Outcome,
    observe::{Asked, Observation, Observer, Watched},
    trace::Trace,
};
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

macro_rules! hooks {
    ($($hook:ident: $name:ident,)*) => {
        /// Where the exports are that the component has.
        struct Found {
            lifecycle: Option<exports::lifecycle::GuestIndices>,
            $($hook: Option<exports::$hook::GuestIndices>,)*
            older: compat::Found,
        }

        impl Found {
            fn new(pre: &InstancePre<State>) -> wasmtime::Result<Self> {
                let lifecycle = if is_exported(pre, "lifecycle") {
                    Some(exports::lifecycle::GuestIndices::new(pre)?)
                } else {
                    None
                };
                Ok(Self {
                    lifecycle,
                    older: compat::Found::new(pre.component())?,
                    $($hook: if is_exported(pre, Hook::$name.name()) {
                        Some(exports::$hook::GuestIndices::new(pre)?)
                    } else {
                        None
                    },)*
                })
            }

            fn has(&self, hook: Hook) -> bool {
                match hook {
                    Hook::Init => true,
                    $(Hook::$name => self.$hook.is_some() || self.older.has(hook),)*
                }
            }

            fn load(&self, store: &mut Store<State>, of: &Exports) -> wasmtime::Result<Hooks> {
                Ok(Hooks {
                    older: self.older.load(&mut *store, of)?,
                    $($hook: match &self.$hook {
                        Some(found) => Some(found.load(&mut *store, of)?),
                        None => None,
                    },)*
                })
            }
        }

        /// The hooks of one instance.
        struct Hooks {
            $($hook: Option<exports::$hook::Guest>,)*
            older: compat::Hooks,
        }
    };
}

hooks! {
    before_join: BeforeJoin,
    on_room_opened: OnRoomOpened,
    on_join: OnJoin,
    describe_room: DescribeRoom,
    on_leave: OnLeave,
    before_produce: BeforeProduce,
    before_consume: BeforeConsume,
    on_new_producer: OnNewProducer,
    on_first_rtp: OnFirstRtp,
    on_producer_closed: OnProducerClosed,
    speaker_changed: SpeakerChanged,
    on_timer: OnTimer,
    on_room_closed: OnRoomClosed,
    on_command: OnCommand,
}

fn is_exported(pre: &InstancePre<State>, interface: &str) -> bool {
    let interface = format!("{PACKAGE}{interface}@{WIT_VERSION}");
    pre.component().get_export_index(None, &interface).is_some()
}

impl Found {
    /// Initialises an instance. The commands that it registers, or its sentence.
    async fn init(
        &self,
        store: &mut Store<State>,
        of: &Exports,
    ) -> wasmtime::Result<Result<Vec<String>, String>> {
        let Some(lifecycle) = &self.lifecycle else {
            return self.older.init(store, of).await;
        };
        let lifecycle = lifecycle.load(&mut *store, of)?;
        let registered = lifecycle.call_init(store).await?;
        Ok(registered.map(|registration| registration.commands))
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
    pub(super) hooks: HookPolicies,
    pub(super) retry_limit: u32,
    /// What is special about its instances.
    pub(super) conditions: Conditions,
    /// Who watches its calls.
    pub(super) observer: Option<Arc<Observer>>,
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
            hooks: config.hooks.clone(),
            retry_limit: config.retry_limit,
            conditions: Conditions::default(),
            observer: None,
            isolation: config.isolation,
            memory_limit: config.memory_limit,
            engine,
            pre,
            found,
        })
    }

    /// Whether the component has the hook.
    pub(super) fn has(&self, hook: Hook) -> bool {
        self.found.has(hook)
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
        begin(&mut store, None, at, budget);
        let started = self.start(&mut store).await;
        let failed = started.as_ref().err();
        let watched = observer.map(|one| one.began(conditions, take_trace(&mut store), failed));
        let (hooks, commands) = started?;
        let instance = Instance {
            store,
            hooks,
            policies: self.hooks.clone(),
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
fn begin(store: &mut Store<State>, room: Option<RoomId>, at: UnixMs, budget: Duration) {
    let state = store.data_mut();
    state.call = Call::new(room, at, budget);
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

/// Calls a hook with the arguments of its record, where the component has it.
macro_rules! call {
    (
        $store:expr, $hooks:ident.$hook:ident.$method:ident, $raw:expr,
        { $($field:ident $(: $argument:expr)?,)* }
    ) => {
        match &$hooks.$hook {
            Some(guest) => {
                let call = exports::$hook::Call { $($field $(: $argument)?,)* };
                Ok(Some($raw(guest.$method($store, call).await?)))
            }
            None => Ok(None),
        }
    };
}

/// A live instance. After a failed call it must not be called again.
pub(super) struct Instance {
    store: Store<State>,
    hooks: Hooks,
    policies: HookPolicies,
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
        let (room, at) = (input.room().clone(), input.at());
        begin(&mut self.store, Some(room), at, budget);
        let called = self.dispatch(input).await;
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

    async fn dispatch(&mut self, input: &Input) -> wasmtime::Result<Option<Raw>> {
        let Self { store, hooks, .. } = self;
        if let Some(older) = hooks.older.of(input.hook()) {
            // Boxed, so that the calls of this version do not carry it about.
            return Box::pin(older.call(store, input)).await.map(Some);
        }
        match input {
            Input::BeforeJoin(it) => {
                let who = lower::Present::new(&it.participant);
                call!(store, hooks.before_join.call_before_join, Raw::Decision, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    at: it.at.0,
                })
            }
            Input::DescribeRoom(it) => {
                let who = lower::Present::new(&it.participant);
                call!(store, hooks.describe_room.call_describe_room, Raw::Shown, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    at: it.at.0,
                })
            }
            Input::BeforeProduce(it) => {
                let who = lower::Present::new(&it.participant);
                call!(store, hooks.before_produce.call_before_produce, Raw::Produce, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    source: lower::source(it.source),
                    codec: lower::codec(&it.codec),
                    at: it.at.0,
                })
            }
            Input::BeforeConsume(it) => {
                let who = lower::Present::new(&it.participant);
                let id = IdText::new(it.producer.id.0);
                call!(store, hooks.before_consume.call_before_consume, Raw::Decision, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    producer: lower::producer(&it.producer, &id),
                    owner: it.owner.0,
                    at: it.at.0,
                })
            }
            Input::Command(it) => {
                let who = lower::Present::new(&it.participant);
                let target = it.target.as_ref().map(lower::Present::new);
                call!(store, hooks.on_command.call_on_command, Raw::Reply, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    command: &it.command,
                    payload: &it.payload,
                    target: target.as_ref().map(lower::Present::lend),
                    at: it.at.0,
                })
            }
            Input::Fact(fact) => hooks.tell(store, fact).await,
        }
    }
}

impl Hooks {
    async fn tell(&self, store: &mut Store<State>, fact: &Fact) -> wasmtime::Result<Option<Raw>> {
        match fact {
            Fact::RoomOpened { room, at } => {
                call!(store, self.on_room_opened.call_on_room_opened, Raw::Actions, {
                    room: lower::room(room),
                    at: at.0,
                })
            }
            Fact::RoomClosed { room, reason, at } => {
                let nothing = |()| Raw::Actions(Vec::new());
                call!(store, self.on_room_closed.call_on_room_closed, nothing, {
                    room: lower::room(room),
                    reason,
                    at: at.0,
                })
            }
            Fact::Timer { room, key, due, at } => {
                call!(store, self.on_timer.call_on_timer, Raw::Actions, {
                    room: lower::room(room),
                    key,
                    due: due.0,
                    at: at.0,
                })
            }
            Fact::SpeakerChanged { room, speakers, at } => {
                let ids = lower::speaker_ids(speakers);
                call!(store, self.speaker_changed.call_speaker_changed, Raw::Actions, {
                    room: lower::room(room),
                    speakers: &lower::speakers(speakers, &ids),
                    at: at.0,
                })
            }
            _ => self.tell_of_someone(store, fact).await,
        }
    }

    async fn tell_of_someone(
        &self,
        store: &mut Store<State>,
        fact: &Fact,
    ) -> wasmtime::Result<Option<Raw>> {
        match fact {
            Fact::Joined(it) => {
                let who = lower::Present::new(&it.participant);
                call!(store, self.on_join.call_on_join, Raw::Actions, {
                    room: lower::room(&it.room),
                    participant: who.lend(),
                    at: it.at.0,
                })
            }
            Fact::Left {
                room,
                participant,
                reason,
                at,
            } => {
                let who = lower::Present::new(participant);
                call!(store, self.on_leave.call_on_leave, Raw::Actions, {
                    room: lower::room(room),
                    participant: who.lend(),
                    reason,
                    at: at.0,
                })
            }
            Fact::NewProducer {
                room,
                participant,
                producer,
                at,
            } => {
                let (who, id) = (lower::Present::new(participant), IdText::new(producer.id.0));
                call!(store, self.on_new_producer.call_on_new_producer, Raw::Actions, {
                    room: lower::room(room),
                    participant: who.lend(),
                    producer: lower::producer(producer, &id),
                    at: at.0,
                })
            }
            Fact::FirstRtp {
                room,
                participant,
                producer,
                at,
            } => {
                let (who, id) = (lower::Present::new(participant), IdText::new(producer.id.0));
                call!(store, self.on_first_rtp.call_on_first_rtp, Raw::Actions, {
                    room: lower::room(room),
                    participant: who.lend(),
                    producer: lower::producer(producer, &id),
                    at: at.0,
                })
            }
            Fact::ProducerClosed {
                room,
                participant,
                producer,
                reason,
                first_rtp_at,
                at,
            } => {
                let (who, id) = (lower::Present::new(participant), IdText::new(producer.id.0));
                call!(store, self.on_producer_closed.call_on_producer_closed, Raw::Actions, {
                    room: lower::room(room),
                    participant: who.lend(),
                    producer: lower::producer(producer, &id),
                    reason,
                    first_rtp_at: first_rtp_at.map(|at| at.0),
                    at: at.0,
                })
            }
            Fact::RoomOpened { .. }
            | Fact::RoomClosed { .. }
            | Fact::Timer { .. }
            | Fact::SpeakerChanged { .. } => Ok(None),
        }
    }
}

/// What a guest returned, unchecked.
pub(super) enum Raw {
    Decision(Decision),
    Produce(before_produce::Decision),
    Actions(Vec<wit::voice_room::plugin::types::Action>),
    Shown(Option<String>),
    Reply(on_command::Reply),
}

impl Raw {
    fn check(self, from: &Identity) -> Result<(Answer, Vec<Action>), Failure> {
        let invalid = |why: String| Failure::Invalid(why);
        let json = |text: Option<String>| {
            text.map(|text| lift::json(&text, limits::PAYLOAD))
                .transpose()
                .map_err(invalid)
        };
        Ok(match self {
            Self::Decision(Decision { verdict, actions }) => {
                let verdict = lift::verdict(from, verdict).map(|()| None);
                (Answer::Verdict(verdict), lift::actions(from, actions))
            }
            Self::Produce(before_produce::Decision {
                verdict,
                amendment,
                actions,
            }) => {
                let amendment = amendment
                    .map(|amendment| lift::amendment(from, amendment))
                    .transpose()
                    .map_err(invalid)?
                    .flatten();
                let verdict = lift::verdict(from, verdict).map(|()| amendment);
                (Answer::Verdict(verdict), lift::actions(from, actions))
            }
            Self::Actions(actions) => (Answer::Noted, lift::actions(from, actions)),
            Self::Shown(text) => (Answer::Shown(json(text)?), Vec::new()),
            Self::Reply(on_command::Reply { answer, actions }) => {
                let reply = match answer {
                    on_command::Answer::Done(text) => Ok(json(text)?),
                    on_command::Answer::Refuse(refusal) => Err(lift::refusal(from, refusal)),
                };
                (Answer::Reply(reply), lift::actions(from, actions))
            }
        })
    }
}

//! A lane: one instance and what waits for it, first in, first out.
//!
//! A room is served by one lane of each plugin, so a plugin learns of a room's events in
//! their order, and rooms of different lanes run side by side. Where nothing is running, a
//! question is answered within the asker's own task, without a hop. A guest that takes
//! longer than a tick goes on in a task of its own, so that a caller who goes away, or does
//! not look, holds up nobody.
//!
//! The lane outlives the versions of its plugin: a swap replaces the instance between two
//! calls, and what waits does not notice.

mod ahead;
mod facts;
mod turn;

use std::{
    future::{Future, poll_fn, ready},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, RwLock, oneshot},
};

use super::{
    Stage,
    breaker::{Breaker, BreakerState, Effect, Past},
    call::Input,
    instance::{Failure, Instance, Output, Template},
    meters::{Meters, Outcome},
    place::CallFailure,
    queue::{Claim, Queue, Reply, Telling},
    throttle::Throttle,
};
use crate::{
    model::{Hook, UnixMs},
    store::{Space, Store},
};
use ahead::Ahead;
use turn::Turn;

/// How long a lane works through its queue before other tasks have a turn.
const TURN: Duration = Duration::from_micros(500);

/// The wait before a plugin that cannot be started is tried again doubles from the first to
/// the second.
const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What all lanes and all versions of a plugin share.
pub(super) struct Common {
    pub(super) name: Arc<str>,
    pub(super) space: Arc<Space>,
    pub(super) meters: Arc<Meters>,
    /// Limits lines that the server logs about the plugin.
    pub(super) complaints: Arc<Throttle>,
    pub(super) breaker: Breaker,
    pub(super) stage: Arc<Stage>,
    pub(super) store: Store,
    /// Told of each failure: somebody may want the version before back.
    pub(super) failing: Arc<Notify>,
    pub(super) last_failure: Mutex<Option<CallFailure>>,
    /// Told when the plugin is called again after it was left alone.
    pub(super) recovered: Arc<Notify>,
    /// Shared to write keys. Taken alone for a call that is made again because another lane's
    /// has changed what it compares, so that the second time it succeeds, and for a copy of
    /// the keys that has all of every call or nothing.
    pub(super) contended: Arc<RwLock<()>>,
}

/// See the module.
pub(super) struct Lane {
    common: Arc<Common>,
    /// Callers may be outside of it.
    runtime: Handle,
    state: Mutex<LaneState>,
    /// Told when nothing waits and nothing runs, if somebody awaits it.
    idle: Notify,
    /// Told of another version, and of the end.
    swapped: Notify,
}

struct LaneState {
    /// What is called, from the next call on.
    version: Arc<Template>,
    slot: Slot,
    queue: Queue,
    /// The fact that is being told. Who takes it decides what becomes of it: the turn, that
    /// it counts, or a stop, that it is lost.
    telling: Option<Telling>,
    /// An instance of a newer version than the one that runs.
    successor: Option<Held>,
    ahead: Ahead,
    /// Whether somebody waits until nothing waits and nothing runs.
    awaited: bool,
    stopped: bool,
}

/// What calls are made on.
pub(super) enum Held {
    /// This instance, until it fails.
    Live(Box<Instance>),
    /// An instance for each call.
    Fresh,
}

/// Where the instance is.
enum Slot {
    /// Here. If the queue is not idle, a task is on its way to begin with it.
    Ready(Held),
    /// It has failed, and a task is on its way to make another.
    Empty,
    /// A [`Turn`] has it.
    Running,
    /// A [`Turn`] waits before it tries again to make one.
    Down,
}

/// What becomes of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The lane will come to it by itself.
    Queued,
    /// The lane rests: it is to be begun.
    Begins,
    /// There is no place for it.
    Refused,
    /// Nothing is told any more. What is recorded is owed, and told after the next start.
    Stopped,
}

/// What a question comes upon.
enum Entrance {
    /// Nothing waits: it can be asked now.
    Now(Turn),
    /// Facts wait, but nobody tells them yet: the asker does, and has its answer sooner.
    Next(Turn, Claim, oneshot::Receiver<Reply>),
    /// It has to wait.
    Queued(Claim, oneshot::Receiver<Reply>),
}

/// A call, up to its output; without one if that could not be applied.
type Run = Pin<Box<dyn Future<Output = (Turn, Result<Option<Output>, Failure>)> + Send>>;

impl Lane {
    /// Must be called within the runtime in which the lane is to work.
    pub(super) fn new(common: Arc<Common>, version: Arc<Template>, held: Held) -> Arc<Self> {
        let state = Mutex::new(LaneState {
            version,
            slot: Slot::Ready(held),
            queue: Queue::default(),
            telling: None,
            successor: None,
            ahead: Ahead::default(),
            awaited: false,
            stopped: false,
        });
        Arc::new(Self {
            common,
            runtime: Handle::current(),
            state,
            idle: Notify::new(),
            swapped: Notify::new(),
        })
    }

    /// Goes over to another version: a call that runs ends on the old one, the next begins on
    /// the new one. Whether nothing runs on the old one any more; if not, the new one is told
    /// [when that is so](Template::gone_over).
    pub(super) fn swap(&self, version: Arc<Template>, held: Held) -> bool {
        let mut state = self.state.lock();
        let old_version = std::mem::replace(&mut state.version, version);
        let ahead = state.ahead.forget();
        if matches!(state.slot, Slot::Down) && !state.stopped {
            // The turn that waits is about to wake: questions may wait for it.
            state.slot = Slot::Running;
        }
        let old = match &mut state.slot {
            Slot::Ready(ready) => Some(std::mem::replace(ready, held)),
            Slot::Empty | Slot::Running | Slot::Down => state.successor.replace(held),
        };
        let at_once = matches!(state.slot, Slot::Ready(_));
        drop(state);
        self.swapped.notify_waiters();
        drop((old, ahead, old_version));
        at_once
    }

    /// Asks, and waits for the answer for a bounded time.
    pub(super) async fn ask(self: &Arc<Self>, input: &Arc<Input>) -> Reply {
        match self.enter(input)? {
            Entrance::Now(turn) => self.ask_now(turn, input).await,
            Entrance::Next(turn, claim, reply) => {
                let mut work = Box::pin(turn.work());
                if poll_once(work.as_mut()).await.is_pending() {
                    self.runtime.spawn(work);
                }
                self.wait(input.hook(), claim, reply).await
            }
            Entrance::Queued(claim, reply) => self.wait(input.hook(), claim, reply).await,
        }
    }

    async fn ask_now(self: &Arc<Self>, turn: Turn, input: &Arc<Input>) -> Reply {
        if let Some(reply) = turn.silence(input) {
            return reply;
        }
        let version = Arc::clone(turn.version());
        let mut run: Run = Box::pin(turn.run_owned(Arc::clone(input)));
        if let Poll::Ready((mut turn, result)) = poll_once(run.as_mut()).await {
            match turn.try_apply(input, result?) {
                Ok(applied) => return Ok(applied),
                Err(unapplied) => run = Box::pin(ready((turn, Ok(unapplied)))),
            }
        }
        let (answered, reply) = oneshot::channel();
        let claim = Claim::default();
        let (lane, claimed, input) = (Arc::clone(self), claim.clone(), Arc::clone(input));
        let hook = input.hook();
        self.runtime.spawn(async move {
            match tokio::time::timeout(version.patience(hook), run).await {
                Ok((mut turn, result)) => turn.answer(&input, result, &claimed, answered).await,
                Err(_) => drop(answered.send(Err(lane.overdue(&input, &version, Past::New)))),
            }
        });
        self.wait(hook, claim, reply).await
    }

    fn enter(self: &Arc<Self>, input: &Arc<Input>) -> Result<Entrance, Failure> {
        let mut state = self.state.lock();
        if state.stopped {
            return Err(Failure::Stopped);
        }
        if matches!(state.slot, Slot::Down) {
            return Err(Failure::Down);
        }
        let idle = matches!(state.slot, Slot::Ready(_)) && state.queue.is_idle();
        let queued = if idle {
            None
        } else {
            let queued = state.queue.ask(input).ok_or(Failure::Overloaded)?;
            self.common.meters.queued.increment(1);
            Some(queued)
        };
        let turn = match std::mem::replace(&mut state.slot, Slot::Running) {
            Slot::Ready(held) => Some(Turn::new(self, &state, Some(held))),
            slot => {
                state.slot = slot;
                None
            }
        };
        drop(state);
        match (turn, queued) {
            (Some(turn), None) => Ok(Entrance::Now(turn)),
            (Some(turn), Some((claim, reply))) => Ok(Entrance::Next(turn, claim, reply)),
            (None, Some((claim, reply))) => Ok(Entrance::Queued(claim, reply)),
            (None, None) => Err(Failure::Down),
        }
    }

    async fn wait(&self, hook: Hook, claim: Claim, mut reply: oneshot::Receiver<Reply>) -> Reply {
        let lost = || Failure::Trapped("its lane was lost".to_owned());
        let patience = self.version().patience(hook);
        match tokio::time::timeout(patience, &mut reply).await {
            Ok(reply) => reply.unwrap_or_else(|_| Err(lost())),
            // Whoever has claimed it is about to send.
            Err(_) if !claim.take() => reply.await.unwrap_or_else(|_| Err(lost())),
            Err(_) => Err(Failure::Late),
        }
    }

    /// A call has been ended by the wall clock, and its instance with it.
    fn overdue(&self, input: &Input, version: &Template, past: Past) -> Failure {
        let failure = Failure::TimedOut;
        let meters = &self.common.meters;
        meters.record(input.hook(), failure.outcome(), None);
        self.report(input, &failure, version, past);
        failure
    }

    /// Counts a call that did not reach the guest, since its instance did not start. What is
    /// unanswered is counted where it was asked.
    fn not_started(&self, input: &Input, failure: &Failure) {
        let outcome = failure.outcome();
        if outcome != Outcome::Unanswered {
            self.common.meters.record(input.hook(), outcome, None);
        }
    }

    /// Takes note of a call that the guest has failed.
    fn report(&self, input: &Input, failure: &Failure, version: &Template, past: Past) {
        let common = &self.common;
        common.meters.replaced.increment(1);
        *common.last_failure.lock() = Some(CallFailure {
            at: UnixMs::now(),
            hook: input.hook(),
            failure: failure.to_string(),
        });
        let (plugin, hook, room) = (&*common.name, input.hook().name(), input.room());
        if common.complaints.allow() {
            tracing::error!(
                plugin, hook, %room, %failure,
                "a plugin's hook failed; its instance is replaced"
            );
        }
        self.count_failure(version, past);
    }

    fn count_failure(&self, version: &Template, past: Past) {
        let common = &self.common;
        let effect = common.breaker.failed(Instant::now(), version.number, past);
        if let Effect::Opened(wait) = effect {
            let plugin = &*common.name;
            tracing::error!(
                plugin,
                ?wait,
                "a plugin keeps failing: it is left alone, and its policies answer"
            );
        }
        common.meters.breaker(common.breaker.state());
        common.failing.notify_one();
    }

    /// Has a task look after the lane, unless somebody else does so first.
    fn schedule(self: &Arc<Self>) {
        let lane = Arc::clone(self);
        self.runtime.spawn(async move {
            if let Some(turn) = lane.begin() {
                turn.work().await;
            }
        });
    }

    fn begin(self: &Arc<Self>) -> Option<Turn> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.slot, Slot::Running) {
            Slot::Ready(held) if !state.queue.is_idle() => {
                Some(Turn::new(self, &state, Some(held)))
            }
            Slot::Empty => Some(Turn::new(self, &state, None)),
            slot => {
                state.slot = slot;
                None
            }
        }
    }

    /// Makes an instance in place of a failed one, however often it takes. Questions are
    /// refused after the first failure; facts wait. `None` if the lane is stopped meanwhile.
    async fn restart(&self) -> Option<(Arc<Template>, Held)> {
        let mut pause = RESTART.0;
        loop {
            // Made first, so that it tells of all that happens from here on.
            let changed = self.swapped.notified();
            if self.state.lock().stopped {
                return None;
            }
            if let Some(successor) = self.succeed() {
                return Some(successor);
            }
            let version = self.version();
            match version.hold().await {
                Ok(held) => {
                    // A newer version may have come meanwhile.
                    return Some(self.succeed().unwrap_or((version, held)));
                }
                Err(failure) => {
                    let plugin = &*self.common.name;
                    tracing::error!(
                        plugin, %failure, ?pause,
                        "a plugin cannot be restarted, trying again"
                    );
                    self.count_failure(&version, Past::New);
                    self.go_down();
                    // Either way it is tried again.
                    drop(tokio::time::timeout(pause, changed).await);
                    pause = RESTART.1.min(pause * 2);
                }
            }
        }
    }

    /// The instance of a newer version, if there is one.
    fn succeed(&self) -> Option<(Arc<Template>, Held)> {
        let mut state = self.state.lock();
        if matches!(state.slot, Slot::Down) {
            state.slot = Slot::Running;
        }
        let held = Self::take_successor(&mut state)?;
        Some((Arc::clone(&state.version), held))
    }

    /// The instance of a newer version, whose calls are all that follow in this lane.
    fn take_successor(state: &mut LaneState) -> Option<Held> {
        let held = state.successor.take()?;
        state.version.gone_over();
        Some(held)
    }

    fn go_down(&self) {
        let mut state = self.state.lock();
        state.slot = Slot::Down;
        let refused = state.queue.refuse_questions(&Failure::Down);
        drop(state);
        self.unqueue(refused);
    }

    /// Waits until nothing waits and nothing runs; what was to be told later is told now, or,
    /// where it is kept, after the next start.
    pub(super) async fn drained(self: &Arc<Self>) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            {
                let mut state = self.state.lock();
                let ready = matches!(state.slot, Slot::Ready(_));
                let left_alone = self.common.breaker.state() != BreakerState::Closed;
                if ready && (state.queue.is_drained() || left_alone) {
                    return;
                }
                state.queue.release_all();
                state.awaited = true;
            }
            self.schedule();
            idle.await;
        }
    }

    /// Lets nothing further in, and forgets what waits, after writing down what must not be
    /// lost. How many facts there were.
    pub(super) fn stop(&self) -> usize {
        let mut state = self.state.lock();
        state.stopped = true;
        let refused = state.queue.refuse_questions(&Failure::Stopped);
        let told = state.telling.take();
        let ahead = state.ahead.forget();
        let facts = std::mem::take(&mut state.queue).into_facts();
        drop(state);
        drop(ahead);
        self.swapped.notify_waiters();
        self.unqueue(refused + facts.len());
        for telling in told.iter().chain(&facts) {
            self.lose(telling, &Failure::Stopped);
        }
        facts.len() + usize::from(told.is_some())
    }

    fn version(&self) -> Arc<Template> {
        Arc::clone(&self.state.lock().version)
    }

    /// Jobs that wait.
    pub(super) fn queued(&self) -> usize {
        self.state.lock().queue.len()
    }

    fn unqueue(&self, jobs: usize) {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        self.common.meters.queued.decrement(jobs);
    }
}

async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

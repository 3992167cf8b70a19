//! A lane: one instance and what waits for it, first in, first out.
//!
//! A room is served by one lane of each plugin, so a plugin learns of a room's events in
//! their order, and rooms of different lanes run side by side. Where nothing is running, a
//! question is answered within the asker's own task, without a hop. A guest that takes
//! longer than a tick goes on in a task of its own, so that a caller who goes away, or does
//! not look, holds up nobody.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};

use super::{
    CarryOut,
    call::Input,
    instance::{Failure, Instance, Output, Template},
    queue::{Claim, Job, Pushed, Queue, Reply},
};
use crate::model::Hook;

/// How long a lane works through its queue before other tasks have a turn.
const TURN: Duration = Duration::from_micros(500);

/// The wait before a plugin that cannot be started is tried again doubles from the first to
/// the second.
const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// See the module.
pub(super) struct Lane {
    template: Arc<Template>,
    carry_out: Arc<CarryOut>,
    /// Callers may be outside of it.
    runtime: Handle,
    state: Mutex<LaneState>,
    /// Told whenever nothing waits and nothing runs.
    idle: Notify,
}

struct LaneState {
    slot: Slot,
    queue: Queue,
    stopped: bool,
}

/// Where the instance is.
enum Slot {
    /// Here. If the queue is not empty, a task is on its way to begin with it.
    Ready(Box<Instance>),
    /// It has failed, and a task is on its way to make another.
    Empty,
    /// A [`Turn`] has it.
    Running,
    /// A [`Turn`] waits before it tries again to make one.
    Down,
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

impl Lane {
    /// Must be called within the runtime in which the lane is to work.
    pub(super) fn new(
        template: Arc<Template>,
        carry_out: Arc<CarryOut>,
        instance: Box<Instance>,
    ) -> Arc<Self> {
        let slot = Slot::Ready(instance);
        let state = Mutex::new(LaneState {
            slot,
            queue: Queue::default(),
            stopped: false,
        });
        let (runtime, idle) = (Handle::current(), Notify::new());
        Arc::new(Self {
            template,
            carry_out,
            runtime,
            state,
            idle,
        })
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
        let mut run = Box::pin(turn.run(Arc::clone(input)));
        if let Poll::Ready((mut turn, result)) = poll_once(run.as_mut()).await {
            return result.and_then(|output| turn.apply(input, output));
        }
        let (answered, reply) = oneshot::channel();
        let claim = Claim::default();
        let (lane, claimed, input) = (Arc::clone(self), claim.clone(), Arc::clone(input));
        let hook = input.hook();
        self.runtime.spawn(async move {
            match lane.bounded(&input, run).await {
                Ok((turn, result)) => drop(turn.answer(&input, result, &claimed, answered)),
                Err(failure) => drop(answered.send(Err(failure))),
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
        let idle = matches!(state.slot, Slot::Ready(_)) && state.queue.is_empty();
        let queued = if idle {
            None
        } else {
            let queued = state.queue.ask(input).ok_or(Failure::Overloaded)?;
            self.template.identity.meters.queued.increment(1);
            Some(queued)
        };
        let turn = match std::mem::replace(&mut state.slot, Slot::Running) {
            Slot::Ready(instance) => Some(Turn::new(self, Some(instance))),
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
        match tokio::time::timeout(self.template.patience(hook), &mut reply).await {
            Ok(reply) => reply.unwrap_or_else(|_| Err(lost())),
            // Whoever has claimed it is about to send.
            Err(_) if !claim.take() => reply.await.unwrap_or_else(|_| Err(lost())),
            Err(_) => Err(Failure::Late),
        }
    }

    /// Runs a call that may wait, and not only compute. Dropping it drops its instance.
    async fn bounded(
        &self,
        input: &Input,
        run: impl Future<Output = (Turn, Result<Output, Failure>)>,
    ) -> Result<(Turn, Result<Output, Failure>), Failure> {
        match tokio::time::timeout(self.template.patience(input.hook()), run).await {
            Ok(done) => Ok(done),
            Err(_) => {
                let failure = Failure::TimedOut;
                let meters = &self.template.identity.meters;
                meters.record(input.hook(), failure.outcome(), None);
                self.report(input, &failure);
                Err(failure)
            }
        }
    }

    fn report(&self, input: &Input, failure: &Failure) {
        let identity = &self.template.identity;
        identity.meters.replaced.increment(1);
        if identity.complaints.allow() {
            let (plugin, hook, room) = (&*identity.name, input.hook().name(), input.room());
            tracing::error!(
                plugin, hook, %room, %failure,
                "a plugin's hook failed; its instance is replaced"
            );
        }
    }

    /// Tells, and does not wait.
    pub(super) fn tell(self: &Arc<Self>, input: &Arc<Input>) {
        let identity = &self.template.identity;
        let mut state = self.state.lock();
        if state.stopped {
            identity.meters.dropped.increment(1);
            return;
        }
        let begins = matches!(state.slot, Slot::Ready(_)) && state.queue.is_empty();
        let pushed = state.queue.tell(input);
        drop(state);
        match pushed {
            Pushed::Whole => identity.meters.queued.increment(1),
            Pushed::Forgot => identity.meters.dropped.increment(1),
            Pushed::Refused => {
                identity.meters.dropped.increment(1);
                if input.hook() != Hook::SpeakerChanged && identity.complaints.allow() {
                    let (plugin, hook, room) = (&*identity.name, input.hook().name(), input.room());
                    tracing::error!(
                        plugin, hook, %room,
                        "the plugin's queue is full: it will not learn of this"
                    );
                }
            }
        }
        if begins {
            self.schedule();
        }
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
            Slot::Ready(instance) if !state.queue.is_empty() => {
                Some(Turn::new(self, Some(instance)))
            }
            Slot::Empty => Some(Turn::new(self, None)),
            slot => {
                state.slot = slot;
                None
            }
        }
    }

    /// Makes an instance in place of a failed one, however often it takes. Questions are
    /// refused after the first failure; facts wait. `None` if the lane is stopped meanwhile.
    async fn restart(&self) -> Option<Box<Instance>> {
        let mut pause = RESTART.0;
        loop {
            match self.template.instantiate().await {
                Ok((instance, _)) => {
                    self.state.lock().slot = Slot::Running;
                    return Some(instance);
                }
                Err(failure) => {
                    let plugin = &*self.template.identity.name;
                    tracing::error!(
                        plugin, %failure, ?pause,
                        "a plugin cannot be restarted, trying again"
                    );
                    if !self.go_down() {
                        return None;
                    }
                    tokio::time::sleep(pause).await;
                    pause = RESTART.1.min(pause * 2);
                }
            }
        }
    }

    /// Whether there is a reason to come up again.
    fn go_down(&self) -> bool {
        let mut state = self.state.lock();
        if state.stopped {
            return false;
        }
        state.slot = Slot::Down;
        let refused = state.queue.refuse_questions(&Failure::Down);
        drop(state);
        self.unqueue(refused);
        true
    }

    /// Waits until nothing waits and nothing runs.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            {
                let state = self.state.lock();
                if matches!(state.slot, Slot::Ready(_)) && state.queue.is_empty() {
                    return;
                }
            }
            idle.await;
        }
    }

    /// Lets nothing further in, and forgets what waits. How many facts are lost by it.
    pub(super) fn stop(&self) -> usize {
        let mut state = self.state.lock();
        state.stopped = true;
        let refused = state.queue.refuse_questions(&Failure::Stopped);
        let lost = std::mem::take(&mut state.queue).len();
        drop(state);
        self.unqueue(refused + lost);
        self.template.identity.meters.dropped.increment(lost as u64);
        lost
    }

    fn unqueue(&self, jobs: usize) {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        self.template.identity.meters.queued.decrement(jobs);
    }
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// The right to use a lane's instance, which is `None` while a call is in it and after it
/// has failed. When a turn is dropped, in whatever way, the lane goes on.
struct Turn {
    lane: Arc<Lane>,
    instance: Option<Box<Instance>>,
}

impl Turn {
    fn new(lane: &Arc<Lane>, instance: Option<Box<Instance>>) -> Self {
        Self {
            lane: Arc::clone(lane),
            instance,
        }
    }

    /// One call. If this future is dropped, the instance goes with it.
    async fn run(mut self, input: Arc<Input>) -> (Self, Result<Output, Failure>) {
        let Some(mut instance) = self.instance.take() else {
            return (self, Err(Failure::Down));
        };
        let result = instance.call(&input).await;
        match &result {
            Ok(_) => self.instance = Some(instance),
            Err(failure) => self.lane.report(&input, failure),
        }
        (self, result)
    }

    /// Makes a call's effects real: keys and events first, then actions. A conflict makes
    /// none, and ends the instance, which may remember otherwise.
    fn apply(&mut self, input: &Input, output: Output) -> Reply {
        let identity = &self.lane.template.identity;
        let Ok(saved) = identity.space.apply(output.staged) else {
            self.instance = None;
            return Err(Failure::NotSaved);
        };
        if saved.is_some() {
            identity.meters.stored.set(identity.space.bytes() as f64);
        }
        if !output.actions.is_empty() {
            self.lane
                .carry_out
                .call(input.room(), &identity.name, output.actions);
        }
        Ok((output.answer, saved))
    }

    /// Applies and answers, unless the asker has given up: then nothing has happened, and
    /// since the guest may remember otherwise, its instance goes too.
    fn answer(
        mut self,
        input: &Input,
        result: Result<Output, Failure>,
        claim: &Claim,
        reply: oneshot::Sender<Reply>,
    ) -> Self {
        if claim.take() {
            let answer = result.and_then(|output| self.apply(input, output));
            // An asker who is gone has no use for it.
            drop(reply.send(answer));
        } else {
            self.instance = None;
        }
        self
    }

    /// Works through the queue.
    async fn work(mut self) {
        let lane = Arc::clone(&self.lane);
        let mut began = Instant::now();
        loop {
            if self.instance.is_none() {
                self.instance = lane.restart().await;
                if self.instance.is_none() {
                    return;
                }
            }
            let Some(job) = lane.state.lock().queue.pop() else {
                return;
            };
            lane.unqueue(1);
            let Some(turn) = self.job(job).await else {
                return;
            };
            self = turn;
            if began.elapsed() > TURN {
                tokio::task::yield_now().await;
                began = Instant::now();
            }
        }
    }

    /// One job; `None` if the wall clock has ended it, and another turn has taken over.
    async fn job(self, job: Job) -> Option<Self> {
        let lane = Arc::clone(&self.lane);
        match job {
            Job::Fact(input) => {
                let run = self.run(Arc::clone(&input));
                let (mut turn, result) = lane.bounded(&input, run).await.ok()?;
                if let Ok(output) = result {
                    // Nobody waits for it to be on the disk.
                    drop(turn.apply(&input, output));
                }
                Some(turn)
            }
            Job::Question { reply, .. } if reply.is_closed() => Some(self),
            Job::Question {
                input,
                claim,
                reply,
            } => {
                let run = self.run(Arc::clone(&input));
                match lane.bounded(&input, run).await {
                    Ok((turn, result)) => Some(turn.answer(&input, result, &claim, reply)),
                    Err(failure) => {
                        drop(reply.send(Err(failure)));
                        None
                    }
                }
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.lane.state.lock();
        state.slot = match self.instance.take() {
            Some(instance) => Slot::Ready(instance),
            None if state.stopped => Slot::Down,
            None => Slot::Empty,
        };
        let ready = matches!(state.slot, Slot::Ready(_));
        let work = matches!(state.slot, Slot::Empty) || (ready && !state.queue.is_empty());
        drop(state);
        if work {
            self.lane.schedule();
        } else if ready {
            self.lane.idle.notify_waiters();
        }
    }
}

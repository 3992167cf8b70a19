//! A lane: one instance and what waits for it, first in, first out.
//!
//! A room is served by one lane of each plugin, so a plugin learns of a room's events in
//! their order, and rooms of different lanes run side by side. Where nothing waits, a
//! question is answered within the asker's own task, without a hop. A guest that takes
//! longer than a tick goes on in a task of its own, so that a caller who goes away, or does
//! not look, holds up nobody.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    call::{Hook, Input},
    instance::{Answer, Failure, Instance, Output, Template},
    limits,
};
use crate::store::Saved;

/// How long a lane works through its queue before other tasks have a turn.
const TURN: Duration = Duration::from_micros(500);

/// The wait before a plugin that cannot be started is tried again doubles from the first to
/// the second.
const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// An answer, and when what the hook wrote is durable.
pub(super) type Reply = Result<(Answer, Option<Saved>), Failure>;

/// See the module.
pub(super) struct Lane {
    template: Arc<Template>,
    carry_out: Arc<CarryOut>,
    /// Callers may be outside of it.
    runtime: Handle,
    state: Mutex<LaneState>,
    idle: Notify,
}

struct LaneState {
    slot: Slot,
    queue: VecDeque<Job>,
    /// How many of the queue are questions, and `speaker-changed`.
    questions: usize,
    speaker_changes: usize,
    stopped: bool,
}

/// Where the instance is. While it is `Ready`, the queue is empty.
enum Slot {
    Ready(Box<Instance>),
    /// A [`Turn`] has it, or makes a new one.
    Running,
    /// As `Running`, but making one has failed, and the next attempt is not due yet.
    Down,
}

enum Job {
    Fact(Arc<Input>),
    Question {
        input: Arc<Input>,
        claim: Claim,
        reply: oneshot::Sender<Reply>,
    },
}

/// Decides whether a call counts: the lane claims it to carry it out, or the asker, out of
/// patience, to have it undone.
#[derive(Clone, Default)]
struct Claim(Arc<AtomicBool>);

impl Claim {
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

impl Lane {
    /// Must be called within the runtime in which the lane is to work.
    pub(super) fn new(
        template: Arc<Template>,
        carry_out: Arc<CarryOut>,
        instance: Box<Instance>,
    ) -> Arc<Self> {
        let state = LaneState {
            slot: Slot::Ready(instance),
            queue: VecDeque::new(),
            questions: 0,
            speaker_changes: 0,
            stopped: false,
        };
        let runtime = Handle::current();
        let (state, idle) = (Mutex::new(state), Notify::new());
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
        let turn = match self.enter(input)? {
            Entrance::Now(turn) => turn,
            Entrance::Queued(claim, reply) => return self.wait(claim, reply).await,
        };
        let mut run = Box::pin(turn.run(Arc::clone(input)));
        match poll_fn(|context| Poll::Ready(run.as_mut().poll(context))).await {
            Poll::Ready((turn, result)) => result.map(|output| turn.apply(input, output)),
            Poll::Pending => {
                let (answered, reply) = oneshot::channel();
                let claim = Claim::default();
                let (lane, claimed, input) = (Arc::clone(self), claim.clone(), Arc::clone(input));
                self.runtime.spawn(async move {
                    match lane.bounded(&input, run).await {
                        Ok((turn, result)) => drop(turn.answer(&input, result, &claimed, answered)),
                        Err(failure) => drop(answered.send(Err(failure))),
                    }
                });
                self.wait(claim, reply).await
            }
        }
    }

    fn enter(self: &Arc<Self>, input: &Arc<Input>) -> Result<Entrance, Failure> {
        let mut state = self.state.lock();
        if state.stopped {
            return Err(Failure::Stopped);
        }
        match std::mem::replace(&mut state.slot, Slot::Running) {
            Slot::Ready(instance) => {
                drop(state);
                Ok(Entrance::Now(Turn::new(self, Some(instance))))
            }
            Slot::Down => {
                state.slot = Slot::Down;
                Err(Failure::Down)
            }
            Slot::Running => {
                if state.questions >= limits::QUEUED_QUESTIONS || state.queue.len() >= limits::QUEUE
                {
                    return Err(Failure::Overloaded);
                }
                let (reply, answered) = oneshot::channel();
                let claim = Claim::default();
                let input = Arc::clone(input);
                state.push(Job::Question {
                    input,
                    claim: claim.clone(),
                    reply,
                });
                self.template.identity.meters.queued.increment(1);
                Ok(Entrance::Queued(claim, answered))
            }
        }
    }

    async fn wait(&self, claim: Claim, mut reply: oneshot::Receiver<Reply>) -> Reply {
        let lost = || Failure::Trapped("its lane was lost".to_owned());
        match tokio::time::timeout(self.template.patience(), &mut reply).await {
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
        match tokio::time::timeout(self.template.patience(), run).await {
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
        let meters = &self.template.identity.meters;
        let mut state = self.state.lock();
        if state.stopped {
            meters.dropped.increment(1);
            return;
        }
        if state.queue.len() >= limits::QUEUE {
            meters.dropped.increment(1);
            if state.drop_speaker_change() {
                meters.queued.decrement(1);
            } else {
                drop(state);
                if input.hook() != Hook::SpeakerChanged && self.template.identity.complaints.allow()
                {
                    let plugin = &*self.template.identity.name;
                    let (hook, room) = (input.hook().name(), input.room());
                    tracing::error!(plugin, hook, %room, "the plugin's queue is full: it will not learn of this");
                }
                return;
            }
        }
        state.push(Job::Fact(Arc::clone(input)));
        meters.queued.increment(1);
        let instance = match std::mem::replace(&mut state.slot, Slot::Running) {
            Slot::Ready(instance) => Some(instance),
            slot => {
                state.slot = slot;
                None
            }
        };
        drop(state);
        if instance.is_some() {
            Turn::new(self, instance).go_on();
        }
    }

    /// Waits until nothing waits.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if matches!(self.state.lock().slot, Slot::Ready(_)) {
                return;
            }
            idle.await;
        }
    }

    /// Lets nothing further in, and forgets what waits. How many facts are lost by it.
    pub(super) fn stop(&self) -> usize {
        let mut state = self.state.lock();
        state.stopped = true;
        let queue = std::mem::take(&mut state.queue);
        state.questions = 0;
        state.speaker_changes = 0;
        drop(state);
        let meters = &self.template.identity.meters;
        meters
            .queued
            .decrement(u32::try_from(queue.len()).unwrap_or(u32::MAX));
        let mut lost = 0;
        for job in queue {
            match job {
                Job::Fact(_) => lost += 1,
                Job::Question { reply, .. } => drop(reply.send(Err(Failure::Stopped))),
            }
        }
        meters.dropped.increment(lost as u64);
        lost
    }
}

impl LaneState {
    fn push(&mut self, job: Job) {
        match &job {
            Job::Question { .. } => self.questions += 1,
            Job::Fact(input) if input.hook() == Hook::SpeakerChanged => self.speaker_changes += 1,
            Job::Fact(_) => {}
        }
        self.queue.push_back(job);
    }

    fn pop(&mut self) -> Option<Job> {
        let job = self.queue.pop_front()?;
        match &job {
            Job::Question { .. } => self.questions -= 1,
            Job::Fact(input) if input.hook() == Hook::SpeakerChanged => self.speaker_changes -= 1,
            Job::Fact(_) => {}
        }
        Some(job)
    }

    /// Makes room by forgetting the oldest change of speakers: a later one replaces it.
    fn drop_speaker_change(&mut self) -> bool {
        if self.speaker_changes == 0 {
            return false;
        }
        let is_change =
            |job: &Job| matches!(job, Job::Fact(input) if input.hook() == Hook::SpeakerChanged);
        let Some(place) = self.queue.iter().position(is_change) else {
            return false;
        };
        self.queue.remove(place);
        self.speaker_changes -= 1;
        true
    }
}

enum Entrance {
    Now(Turn),
    Queued(Claim, oneshot::Receiver<Reply>),
}

/// The right to use a lane's instance, which is `None` while a call is in it and after it
/// has failed. When a turn is dropped, in whatever way, the lane goes on.
struct Turn {
    lane: Arc<Lane>,
    instance: Option<Box<Instance>>,
    /// Whether the lane may end with this turn: its task has not been polled yet, so that if
    /// it is dropped now, the runtime is gone.
    last: bool,
}

impl Turn {
    fn new(lane: &Arc<Lane>, instance: Option<Box<Instance>>) -> Self {
        Self {
            lane: Arc::clone(lane),
            instance,
            last: false,
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

    /// Makes a call's effects real: keys and events first, then actions.
    fn apply(&self, input: &Input, output: Output) -> (Answer, Option<Saved>) {
        let identity = &self.lane.template.identity;
        let saved = identity.space.apply(output.staged);
        if !output.actions.is_empty() {
            self.lane
                .carry_out
                .call(input.room(), &identity.name, output.actions);
        }
        (output.answer, saved)
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
            let answer = result.map(|output| self.apply(input, output));
            // An asker who is gone has no use for it.
            drop(reply.send(answer));
        } else {
            self.instance = None;
        }
        self
    }

    /// Works on in a task of its own.
    fn go_on(mut self) {
        self.last = true;
        let runtime = self.lane.runtime.clone();
        runtime.spawn(self.work());
    }

    /// Works through the queue.
    async fn work(mut self) {
        self.last = false;
        let lane = Arc::clone(&self.lane);
        let mut began = Instant::now();
        loop {
            if self.instance.is_none() {
                self.instance = lane.restart().await;
                self.last = self.instance.is_none();
                if self.last {
                    return;
                }
            }
            let Some(job) = lane.state.lock().pop() else {
                return;
            };
            lane.template.identity.meters.queued.decrement(1);
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
                let (turn, result) = lane.bounded(&input, run).await.ok()?;
                if let Ok(output) = result {
                    turn.apply(&input, output);
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

impl Lane {
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
                    if self.state.lock().stopped {
                        return None;
                    }
                    let plugin = &*self.template.identity.name;
                    tracing::error!(
                        plugin, %failure, ?pause,
                        "a plugin cannot be restarted, trying again"
                    );
                    self.refuse_questions();
                    tokio::time::sleep(pause).await;
                    pause = RESTART.1.min(pause * 2);
                }
            }
        }
    }

    fn refuse_questions(&self) {
        let mut state = self.state.lock();
        state.slot = Slot::Down;
        let mut refused = Vec::new();
        let jobs = std::mem::take(&mut state.queue);
        for job in jobs {
            match job {
                Job::Question { reply, .. } => refused.push(reply),
                fact @ Job::Fact(_) => state.queue.push_back(fact),
            }
        }
        state.questions = 0;
        drop(state);
        let count = u32::try_from(refused.len()).unwrap_or(u32::MAX);
        self.template.identity.meters.queued.decrement(count);
        for reply in refused {
            drop(reply.send(Err(Failure::Down)));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.lane.state.lock();
        if self.last {
            state.slot = Slot::Down;
            return;
        }
        match self.instance.take() {
            Some(instance) if state.queue.is_empty() => {
                state.slot = Slot::Ready(instance);
                drop(state);
                self.lane.idle.notify_waiters();
            }
            instance => {
                drop(state);
                Self::new(&self.lane, instance).go_on();
            }
        }
    }
}

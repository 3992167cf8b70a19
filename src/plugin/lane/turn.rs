//! The right to use a lane's instance.

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::{Held, Lane, LaneState, Slot, TURN};
use crate::{
    plugin::{
        breaker::{Admission, BreakerState, Past},
        call::{Fact, Input},
        instance::{Answer, Failure, Instance, Output, Template},
        queue::{Applied, Claim, Job, Reply},
    },
    store::Conflict,
};

/// How often a call is undone because another instance changed what it had compared, and
/// made again, before it counts as failed. From the first time on, other lanes do not write.
const RERUNS: usize = 3;

/// The right to use a lane's instance, which is not there while a call is in it and after it
/// has failed. When a turn is dropped, in whatever way, the lane goes on.
pub(super) struct Turn {
    lane: Arc<Lane>,
    version: Arc<Template>,
    held: Option<Held>,
    /// A fresh instance that has had its call.
    used: Option<Box<Instance>>,
}

impl Turn {
    /// Under the lock of the lane's state, so that version and instance belong together.
    pub(super) fn new(lane: &Arc<Lane>, state: &LaneState, held: Option<Held>) -> Self {
        Self {
            lane: Arc::clone(lane),
            version: Arc::clone(&state.version),
            held,
            used: None,
        }
    }

    pub(super) fn version(&self) -> &Arc<Template> {
        &self.version
    }

    /// What stands for the answer where the version has no such hook, as it may happen to
    /// what has waited during a swap.
    pub(super) fn silence(&self, input: &Input) -> Option<Reply> {
        if self.version.has(input.hook()) {
            return None;
        }
        let answer = match input {
            Input::BeforeJoin(_) | Input::BeforeProduce(_) | Input::BeforeConsume(_) => {
                Answer::Verdict(Ok(None))
            }
            Input::DescribeRoom(_) => Answer::Shown(None),
            Input::Fact(_) => Answer::Noted,
            Input::Command(_) => return Some(Err(Failure::Gone)),
        };
        Some(Ok((answer, None)))
    }

    /// As [`Self::run`], for who goes elsewhere with it. If this future is dropped, the turn
    /// goes with it.
    pub(super) async fn run_owned(
        mut self,
        input: Arc<Input>,
    ) -> (Self, Result<Option<Output>, Failure>) {
        let result = self.run(&input, Past::New).await;
        (self, result.map(Some))
    }

    /// One call, on a new instance where there is none. If this future is dropped, the
    /// instance goes with it.
    async fn run(&mut self, input: &Arc<Input>, past: Past) -> Result<Output, Failure> {
        let breaker = &self.lane.common.breaker;
        if breaker.state() != BreakerState::Closed {
            if let Admission::Refused(until) = breaker.admit(Instant::now(), past) {
                return Err(Failure::Open(until));
            }
            self.lane.common.meters.breaker(breaker.state());
        }
        let held = self.held.take();
        let is_live = !matches!(held, Some(Held::Fresh));
        if !is_live {
            self.held = Some(Held::Fresh);
            self.used = None;
        }
        let instance = match held {
            Some(Held::Live(instance)) => Some(instance),
            Some(Held::Fresh) => self.lane.take_ahead(&self.version),
            None => None,
        };
        let instance = match instance {
            Some(instance) => Ok(instance),
            None => self.version.instantiate().await.map(|made| made.0),
        };
        let result = match instance {
            Ok(mut instance) => {
                let result = instance.call(input).await;
                if !is_live {
                    self.used = Some(instance);
                } else if result.is_ok() {
                    self.held = instance.kept().map(Held::Live);
                }
                result
            }
            Err(failure) => {
                self.lane.not_started(input, &failure);
                Err(failure)
            }
        };
        match &result {
            Ok(_) => self.recovered(),
            Err(failure) => self.lane.report(input, failure, &self.version, past),
        }
        result
    }

    /// One call that may wait, and not only compute.
    async fn run_in_time(&mut self, input: &Arc<Input>, past: Past) -> Result<Output, Failure> {
        let patience = self.version.patience(input.hook());
        match tokio::time::timeout(patience, self.run(input, past)).await {
            Ok(result) => result,
            Err(_) => Err(self.lane.overdue(input, &self.version, past)),
        }
    }

    fn recovered(&self) {
        let common = &self.lane.common;
        if common.breaker.succeeded() {
            Lane::recovered(common);
            let plugin = &*common.name;
            tracing::info!(plugin, "a plugin works again: it is called as before");
        }
    }

    /// Has the instance go, where it may remember what has not happened.
    fn forget(&mut self) {
        if matches!(self.held, Some(Held::Live(_))) {
            self.held = None;
        }
    }

    /// Makes a call's effects real: keys, timers and events first, then actions.
    ///
    /// # Errors
    ///
    /// If another instance has changed what the call compared: then nothing has happened.
    fn apply(&self, input: &Input, output: Output) -> Result<Applied, Conflict> {
        let common = &self.lane.common;
        let saved = common.space.apply(output.staged)?;
        if saved.is_some() {
            common.meters.stored(&common.space);
        }
        if !output.actions.is_empty() {
            common
                .stage
                .carry_out(input.room(), &common.name, output.actions);
        }
        if let Some(observation) = output.observation {
            observation.took_effect();
        }
        Ok((output.answer, saved))
    }

    /// Applies, without waiting for anybody.
    ///
    /// # Errors
    ///
    /// If another lane's call is being made again, and so this one has to wait, with the
    /// output; if it has to be made again itself, with nothing.
    #[allow(
        clippy::result_large_err,
        reason = "seldom, and moved no further than to the caller, who needs it whole"
    )]
    pub(super) fn try_apply(
        &mut self,
        input: &Input,
        output: Option<Output>,
    ) -> Result<Applied, Option<Output>> {
        let output = output.ok_or(None)?;
        let shared = if output.staged.is_empty() {
            None
        } else {
            match self.lane.common.contended.try_read() {
                Ok(shared) => Some(shared),
                Err(_) => return Err(Some(output)),
            }
        };
        let applied = self.apply(input, output);
        drop(shared);
        applied.map_err(|_| None)
    }

    /// Applies, and where that conflicts, calls again, while no other lane writes.
    async fn settle(&mut self, input: &Arc<Input>, output: Option<Output>) -> Reply {
        let unapplied = match self.try_apply(input, output) {
            Ok(applied) => return Ok(applied),
            Err(unapplied) => unapplied,
        };
        let common = Arc::clone(&self.lane.common);
        let _alone = common.contended.write().await;
        if let Some(output) = unapplied
            && let Ok(applied) = self.apply(input, output)
        {
            return Ok(applied);
        }
        for _ in 0..RERUNS {
            self.forget();
            let output = self.run_in_time(input, Past::New).await?;
            if let Ok(applied) = self.apply(input, output) {
                return Ok(applied);
            }
        }
        self.forget();
        Err(Failure::Conflict)
    }

    /// Applies and answers, unless the asker has given up: then nothing has happened.
    pub(super) async fn answer(
        &mut self,
        input: &Arc<Input>,
        result: Result<Option<Output>, Failure>,
        claim: &Claim,
        reply: oneshot::Sender<Reply>,
    ) {
        if !claim.take() {
            self.forget();
            return;
        }
        let answer = match result {
            Ok(output) => self.settle(input, output).await,
            Err(failure) => Err(failure),
        };
        // An asker who is gone has no use for it.
        drop(reply.send(answer));
    }

    /// Works through the queue.
    pub(super) async fn work(mut self) {
        let lane = Arc::clone(&self.lane);
        let mut began = Instant::now();
        loop {
            match self.next() {
                Next::Nothing => return,
                Next::Restart => {
                    let Some((version, held)) = lane.restart().await else {
                        return;
                    };
                    (self.version, self.held) = (version, Some(held));
                }
                Next::Fact(input, tries) => self.tell(&input, tries).await,
                Next::Question(input, claim, reply) => self.reply(&input, &claim, reply).await,
            }
            if began.elapsed() > TURN {
                tokio::task::yield_now().await;
                began = Instant::now();
            }
        }
    }

    /// What is to be done, on the newest version.
    fn next(&mut self) -> Next {
        let mut replaced = None;
        let mut state = self.lane.state.lock();
        if let Some(successor) = Lane::take_successor(&mut state) {
            replaced = self.held.replace(successor);
            self.version = Arc::clone(&state.version);
        }
        let next = if self.held.is_none() {
            Next::Restart
        } else {
            match state.queue.pop() {
                Some(Job::Fact(telling)) => {
                    let next = Next::Fact(Arc::clone(telling.input()), telling.tries);
                    state.telling = Some(telling);
                    next
                }
                Some(Job::Question {
                    input,
                    claim,
                    reply,
                }) => Next::Question(input, claim, reply),
                None => Next::Nothing,
            }
        };
        drop(state);
        drop(replaced);
        if matches!(next, Next::Fact(..) | Next::Question(..)) {
            self.lane.unqueue(1);
        }
        next
    }

    async fn reply(&mut self, input: &Arc<Input>, claim: &Claim, reply: oneshot::Sender<Reply>) {
        if reply.is_closed() {
            return;
        }
        if let Some(silence) = self.silence(input) {
            drop(reply.send(silence));
            return;
        }
        let result = self.run_in_time(input, Past::New).await;
        self.answer(input, result.map(Some), claim, reply).await;
    }

    /// Tells a fact, which has failed so often before.
    async fn tell(&mut self, input: &Arc<Input>, tries: u32) {
        let lane = Arc::clone(&self.lane);
        if self.silence(input).is_some() {
            lane.pass(input);
            lane.passed(input);
            return;
        }
        if let Input::Fact(Fact::Timer { room, key, due, .. }) = &**input
            && !lane.common.space.is_timer_due(&room.id, key, *due)
        {
            // Cancelled, or set anew, since it was due.
            lane.passed(input);
            return;
        }
        let past = match tries {
            0 => Past::New,
            tries if tries < self.version.retry_limit => Past::Failed,
            _ => Past::Stuck,
        };
        let result = self.run_in_time(input, past).await;
        let Some(telling) = lane.state.lock().telling.take() else {
            // It has been written down as lost: so it has not happened.
            self.forget();
            return;
        };
        let told = match result {
            // Nobody waits for it to be on the disk.
            Ok(output) => self.settle(input, Some(output)).await,
            Err(failure) => Err(failure),
        };
        match told {
            Ok(_) => lane.passed(input),
            Err(failure) => lane.failed(telling, &failure),
        }
    }
}

/// What a turn has to do.
enum Next {
    Nothing,
    /// There is no instance.
    Restart,
    /// A fact, and how often it has failed.
    Fact(Arc<Input>, u32),
    Question(Arc<Input>, Claim, oneshot::Sender<Reply>),
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.lane.state.lock();
        let successor = Lane::take_successor(&mut state);
        let held = successor.or_else(|| self.held.take());
        state.slot = match held {
            Some(held) => Slot::Ready(held),
            None if state.stopped => Slot::Down,
            None => Slot::Empty,
        };
        let ready = matches!(state.slot, Slot::Ready(_));
        let work = matches!(state.slot, Slot::Empty) || (ready && !state.queue.is_idle());
        let awaited = ready && !work && std::mem::take(&mut state.awaited);
        drop(state);
        if work {
            self.lane.schedule();
        } else if let Some(used) = self.used.take() {
            self.lane.make_ahead(used, &self.version);
        }
        if awaited {
            self.lane.idle.notify_waiters();
        }
    }
}

//! The right to use a lane's instance.

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::{Held, Lane, Slot, TURN, room_of};
use crate::{
    plugin::{
        breaker::{Admission, BreakerState},
        call::{Fact, Input},
        instance::{Failure, Output, Template},
        queue::{Applied, Claim, Job, Reply, Telling},
    },
    store::Conflict,
};

/// How often a call is undone because another instance changed what it had compared, and
/// made again, before it counts as failed.
const CONFLICTS: usize = 8;

/// The right to use a lane's instance, which is not there while a call is in it and after it
/// has failed. When a turn is dropped, in whatever way, the lane goes on.
pub(super) struct Turn {
    lane: Arc<Lane>,
    version: Arc<Template>,
    held: Option<Held>,
}

impl Turn {
    /// With the lane's state locked, so that version and instance belong together.
    pub(super) fn new(lane: &Arc<Lane>, held: Option<Held>) -> Self {
        Self {
            lane: Arc::clone(lane),
            version: lane.version.load_full(),
            held,
        }
    }

    /// One call, on a new instance where there is none. If this future is dropped, the
    /// instance goes with it.
    pub(super) async fn run(mut self, input: Arc<Input>) -> (Self, Result<Output, Failure>) {
        let breaker = &self.lane.common.breaker;
        if breaker.state() != BreakerState::Closed
            && let Admission::Refused(until) = breaker.admit(Instant::now())
        {
            return (self, Err(Failure::Open(until)));
        }
        let result = match self.held.take() {
            Some(Held::Live(mut instance)) => {
                let result = instance.call(&input).await;
                if result.is_ok() {
                    self.held = Some(Held::Live(instance));
                }
                result
            }
            Some(Held::Fresh) => {
                self.held = Some(Held::Fresh);
                match self.version.instantiate().await {
                    Ok((mut instance, _)) => instance.call(&input).await,
                    Err(failure) => Err(failure),
                }
            }
            None => match self.version.instantiate().await {
                Ok((mut instance, _)) => {
                    let result = instance.call(&input).await;
                    if result.is_ok() {
                        self.held = Some(Held::Live(instance));
                    }
                    result
                }
                Err(failure) => Err(failure),
            },
        };
        match &result {
            Ok(_) => self.recovered(),
            Err(failure) => self.lane.report(&input, failure),
        }
        (self, result)
    }

    fn recovered(&self) {
        let common = &self.lane.common;
        if common.breaker.succeeded() {
            common.meters.breaker(common.breaker.state());
            let plugin = &*common.name;
            tracing::info!(plugin, "a plugin works again: it is called as before");
        }
    }

    /// Makes a call's effects real: keys, timers and events first, then actions.
    ///
    /// # Errors
    ///
    /// If another instance has changed what the call compared: then nothing has happened,
    /// and since the guest may remember otherwise, its instance goes too.
    pub(super) fn apply(&mut self, input: &Input, output: Output) -> Result<Applied, Conflict> {
        let common = &self.lane.common;
        let mut staged = output.staged;
        if let Input::Fact(Fact::Timer { room, key, due, .. }) = input {
            staged.fired(&room.id, key, *due);
        }
        let saved = match common.space.apply(staged) {
            Ok(saved) => saved,
            Err(conflict) => {
                if matches!(self.held, Some(Held::Live(_))) {
                    self.held = None;
                }
                return Err(conflict);
            }
        };
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

    /// Applies, and where that conflicts, calls again. The turn is gone if the wall clock
    /// has ended it.
    async fn settle(
        mut self,
        input: &Arc<Input>,
        mut result: Result<Output, Failure>,
    ) -> (Option<Self>, Reply) {
        for _ in 0..CONFLICTS {
            let output = match result {
                Ok(output) => output,
                Err(failure) => return (Some(self), Err(failure)),
            };
            if let Ok(applied) = self.apply(input, output) {
                return (Some(self), Ok(applied));
            }
            let lane = Arc::clone(&self.lane);
            match lane.bounded(input, self.run(Arc::clone(input))).await {
                Ok(again) => (self, result) = again,
                Err(failure) => return (None, Err(failure)),
            }
        }
        (Some(self), Err(Failure::Conflict))
    }

    /// Applies and answers, unless the asker has given up: then nothing has happened, and
    /// since the guest may remember otherwise, its instance goes too.
    pub(super) async fn answer(
        mut self,
        input: &Arc<Input>,
        result: Result<Output, Failure>,
        claim: &Claim,
        reply: oneshot::Sender<Reply>,
    ) -> Option<Self> {
        if !claim.take() {
            if matches!(self.held, Some(Held::Live(_))) {
                self.held = None;
            }
            return Some(self);
        }
        let (turn, answer) = self.settle(input, result).await;
        // An asker who is gone has no use for it.
        drop(reply.send(answer));
        turn
    }

    /// Works through the queue.
    pub(super) async fn work(mut self) {
        let lane = Arc::clone(&self.lane);
        let mut began = Instant::now();
        loop {
            let job = {
                let mut state = lane.state.lock();
                if let Some(successor) = state.successor.take() {
                    self.held = Some(successor);
                    self.version = lane.version.load_full();
                }
                if self.held.is_some() {
                    state.queue.pop()
                } else {
                    None
                }
            };
            if self.held.is_none() {
                let Some((version, held)) = lane.restart().await else {
                    return;
                };
                (self.version, self.held) = (version, Some(held));
                continue;
            }
            let Some(job) = job else {
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
        match job {
            Job::Fact(telling) => self.tell(telling).await,
            Job::Question { reply, .. } if reply.is_closed() => Some(self),
            Job::Question {
                input,
                claim,
                reply,
            } => {
                let lane = Arc::clone(&self.lane);
                let run = self.run(Arc::clone(&input));
                match lane.bounded(&input, run).await {
                    Ok((turn, result)) => turn.answer(&input, result, &claim, reply).await,
                    Err(failure) => {
                        drop(reply.send(Err(failure)));
                        None
                    }
                }
            }
        }
    }

    async fn tell(self, telling: Telling) -> Option<Self> {
        let lane = Arc::clone(&self.lane);
        let input = Arc::clone(&telling.input);
        if let Input::Fact(Fact::Timer { room, key, due, .. }) = &*input
            && !lane.common.space.is_timer_due(&room.id, key, *due)
        {
            // Cancelled, or set anew, since it was due.
            lane.state.lock().queue.passed(&room.id);
            return Some(self);
        }
        let run = self.run(Arc::clone(&input));
        let (turn, reply) = match lane.bounded(&input, run).await {
            Ok((turn, result)) => turn.settle(&input, result).await,
            Err(failure) => (None, Err(failure)),
        };
        match reply {
            // Nobody waits for it to be on the disk.
            Ok(_) => lane.state.lock().queue.passed(room_of(&telling)),
            Err(failure) => lane.failed(telling, &failure),
        }
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.lane.state.lock();
        let held = state.successor.take().or_else(|| self.held.take());
        state.slot = match held {
            Some(held) => Slot::Ready(held),
            None if state.stopped => Slot::Down,
            None => Slot::Empty,
        };
        let ready = matches!(state.slot, Slot::Ready(_));
        let work = matches!(state.slot, Slot::Empty) || (ready && !state.queue.is_idle());
        drop(state);
        if work {
            self.lane.schedule();
        } else if ready {
            self.lane.idle.notify_waiters();
        }
    }
}

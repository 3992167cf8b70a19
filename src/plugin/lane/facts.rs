//! What a lane does with facts: it is told them, tells them again, or writes them down.

use std::{
    future::ready,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Common, Lane, Slot, Told};
use crate::{
    config::OnFailure,
    model::{Hook, UnixMs},
    plugin::{
        breaker::BreakerState,
        call::Input,
        instance::Failure,
        queue::{Pushed, Telling},
    },
};

/// The wait before a fact is told again doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

impl Lane {
    /// Tells, and does not wait.
    pub(in crate::plugin) fn tell(&self, input: &Arc<Input>) -> Told {
        let common = &self.common;
        let mut state = self.state.lock();
        if state.stopped {
            drop(state);
            self.lose(input, 0, &Failure::Stopped);
            return Told::Refused;
        }
        let begins = matches!(state.slot, Slot::Ready(_)) && state.queue.is_idle();
        let pushed = state.queue.tell(input);
        let work = begins && !state.queue.is_idle();
        drop(state);
        match pushed {
            Pushed::Whole => common.meters.queued.increment(1),
            Pushed::Forgot => common.meters.dropped.increment(1),
            Pushed::Refused => {
                self.lose(input, 0, &Failure::Overloaded);
                return Told::Refused;
            }
        }
        if work { Told::Begins } else { Told::Queued }
    }

    /// Has lanes begin that [`Told::Begins`] was said of. Waking a task is most of what
    /// telling costs, so the caller, whom a client may wait for, wakes only one.
    pub(in crate::plugin) fn begin_all(mut lanes: Vec<Arc<Self>>) {
        let Some(first) = lanes.pop() else {
            return;
        };
        let runtime = first.runtime.clone();
        runtime.spawn(async move {
            for lane in lanes {
                lane.schedule();
            }
            if let Some(turn) = first.begin() {
                turn.work().await;
            }
        });
    }

    /// A fact has failed for now, or for good.
    pub(super) fn failed(self: &Arc<Self>, mut telling: Telling, failure: &Failure) {
        let version = self.version();
        let policy = version.hooks.of(telling.input.hook());
        let now = Instant::now();
        let again = match failure {
            _ if policy.on_failure != OnFailure::Retry => None,
            Failure::Open(until) => Some(*until),
            _ => {
                telling.tries += 1;
                let pause = RETRY.0.saturating_mul(1 << telling.tries.min(16));
                (telling.tries < version.retry_limit).then(|| now + pause.min(RETRY.1))
            }
        };
        let room = telling.input.room().clone();
        let lost = match again {
            Some(until) => {
                let left_alone = matches!(failure, Failure::Open(_));
                self.park(telling, until, left_alone)
                    .map(|telling| (telling, &Failure::Stopped))
            }
            None => Some((telling, failure)),
        };
        if let Some((telling, failure)) = lost {
            self.lose(&telling.input, telling.tries, failure);
            self.state.lock().queue.passed(&room);
        }
    }

    /// Keeps a fact, and what follows in its room, until then, or, if the plugin is left
    /// alone, until it is called again. Given back if the lane is stopped.
    fn park(
        self: &Arc<Self>,
        telling: Telling,
        until: Instant,
        left_alone: bool,
    ) -> Option<Telling> {
        let room = telling.input.room().clone();
        let common = &self.common;
        {
            let mut state = self.state.lock();
            if state.stopped {
                return Some(telling);
            }
            state.queue.park(telling);
        }
        common.meters.queued.increment(1);
        common.meters.retried.increment(1);
        // Without what the lane has, so that a host that is gone is gone.
        let (lane, recovered) = (Arc::downgrade(self), Arc::clone(&common.recovered));
        self.runtime.spawn(async move {
            let mut recovered = pin!(recovered.notified());
            recovered.as_mut().enable();
            let breaker = |lane: Arc<Self>| lane.common.breaker.state();
            let closed = lane.upgrade().map(breaker) == Some(BreakerState::Closed);
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = recovered, if left_alone && !closed => {}
                () = ready(()), if left_alone && closed => {}
            }
            if let Some(lane) = lane.upgrade() {
                lane.state.lock().queue.release(&room);
                lane.schedule();
            }
        });
        None
    }

    /// A fact has been dealt with.
    pub(super) fn passed(&self, input: &Input) {
        let mut state = self.state.lock();
        state.telling = None;
        state.queue.passed(input.room());
    }

    /// What was parked because the plugin was left alone is to be told now.
    pub(in crate::plugin) fn recovered(common: &Common) {
        common.meters.breaker(common.breaker.state());
        common.recovered.notify_waiters();
    }

    /// The timer of a fact that is not told, or not told again, is over; a repeating one
    /// moves on.
    pub(super) fn pass_timer(&self, input: &Input) {
        // It depends on no key, so that there is no conflict.
        drop(self.common.space.apply(input.staged(UnixMs::now())));
    }

    /// A fact that the plugin will not learn of: where that matters, it is written down.
    pub(super) fn lose(&self, input: &Input, tries: u32, failure: &Failure) {
        let common = &self.common;
        let (plugin, hook, room) = (&*common.name, input.hook(), input.room());
        if hook == Hook::OnTimer {
            if matches!(failure, Failure::Overloaded | Failure::Stopped) {
                // The timer stays, to be told another time.
                return;
            }
            self.pass_timer(input);
        }
        common.meters.dropped.increment(1);
        if self.version().hooks.of(hook).on_failure != OnFailure::Retry {
            if hook != Hook::SpeakerChanged && common.complaints.allow() {
                tracing::error!(plugin, %hook, %room, %failure, "a plugin will not learn of this");
            }
            return;
        }
        let letter = json!({
            "at": UnixMs::now(),
            "plugin": plugin,
            "hook": hook.name(),
            "room": room,
            "tries": tries,
            "failure": failure.to_string(),
            "call": input,
        });
        common.meters.dead_letters.increment(1);
        let lost = common.store.dead_letter(letter).err();
        tracing::error!(
            plugin, %hook, %room, tries, %failure, error = lost.map(tracing::field::display),
            "a fact is a dead letter: the plugin has not taken it"
        );
    }
}

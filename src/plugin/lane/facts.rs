//! What a lane does with facts: it is told them, tells them again, or writes them down.

use std::{
    future::ready,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use uuid::Uuid;

use super::{Common, Lane, Slot, Told};
use crate::{
    config::OnFailure,
    model::{Hook, RoomId, UnixMs},
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
    pub(in crate::plugin) fn tell(&self, telling: &Telling) -> Told {
        let common = &self.common;
        let mut state = self.state.lock();
        if state.stopped {
            drop(state);
            self.lose(telling, &Failure::Stopped);
            return Told::Stopped;
        }
        let begins = matches!(state.slot, Slot::Ready(_)) && state.queue.is_idle();
        let pushed = state.queue.tell(telling.clone());
        let work = begins && !state.queue.is_idle();
        drop(state);
        match pushed {
            Pushed::Whole => common.meters.queued.increment(1),
            Pushed::Forgot => common.meters.dropped.increment(1),
            Pushed::Refused => {
                self.lose(telling, &Failure::Overloaded);
                return Told::Refused;
            }
        }
        if work { Told::Begins } else { Told::Queued }
    }

    /// A fact of the room has its receipt.
    pub(in crate::plugin) fn recorded(self: &Arc<Self>, room: &RoomId) {
        self.state.lock().queue.received(room);
        self.schedule();
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
        let policy = version.hooks.of(telling.input().hook());
        let now = Instant::now();
        let again = match failure {
            _ if policy.on_failure != OnFailure::Retry => None,
            Failure::Open(until) => Some(*until),
            _ => {
                telling.tries += 1;
                let pause = RETRY.0.saturating_mul(1 << telling.tries.min(16));
                let tired = telling.tries >= version.retry_limit;
                if telling.tries == version.retry_limit && telling.is_recorded() {
                    self.insist(&telling, failure);
                }
                // That it is given up could not be noted while the disk is behind.
                let goes_on = !tired || telling.is_recorded() || self.common.space.is_behind();
                goes_on.then(|| now + pause.min(RETRY.1))
            }
        };
        let room = telling.input().room().clone();
        let lost = match again {
            Some(until) => {
                let left_alone = matches!(failure, Failure::Open(_));
                self.park(telling, until, left_alone)
                    .map(|telling| (telling, &Failure::Stopped))
            }
            None => Some((telling, failure)),
        };
        if let Some((telling, failure)) = lost {
            self.lose(&telling, failure);
            self.state.lock().queue.passed(&room);
        }
    }

    /// What is in the ledger is told until it is taken, with what follows in its room: who looks
    /// after the plugin has to know.
    fn insist(&self, telling: &Telling, failure: &Failure) {
        let (plugin, hook, room) = (
            &*self.common.name,
            telling.input().hook(),
            telling.input().room(),
        );
        tracing::error!(
            plugin, %hook, %room, tries = telling.tries, %failure,
            "a fact is in the ledger and the plugin does not take it: it is told again until a \
             version does, or the configuration says on_failure = \"drop\" of this hook"
        );
    }

    /// Keeps a fact, and what follows in its room, until then, or, if the plugin is left
    /// alone, until it is called again. Given back if the lane is stopped.
    fn park(
        self: &Arc<Self>,
        telling: Telling,
        until: Instant,
        left_alone: bool,
    ) -> Option<Telling> {
        let room = telling.input().room().clone();
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

    /// A fact that is not told, or not told again, is no longer owed; its timer is over, a
    /// repeating one moves on.
    pub(super) fn pass(&self, input: &Input) {
        // It depends on no key, so that there is no conflict.
        drop(self.common.space.apply(input.staged(UnixMs::now())));
    }

    /// A fact that the plugin will not learn of: where that matters, it is written down.
    pub(super) fn lose(&self, telling: &Telling, failure: &Failure) {
        let common = &self.common;
        let (input, tries) = (telling.input(), telling.tries);
        let (plugin, hook, room) = (&*common.name, input.hook(), input.room());
        if telling.is_recorded() && matches!(failure, Failure::Stopped) {
            // It stays owed, to be told after the next start.
            return;
        }
        if hook == Hook::OnTimer {
            if matches!(failure, Failure::Overloaded | Failure::Stopped) {
                // The timer stays, to be told another time.
                return;
            }
            self.pass(input);
        }
        common.meters.dropped.increment(1);
        if self.version().hooks.of(hook).on_failure != OnFailure::Retry {
            if hook != Hook::SpeakerChanged && common.complaints.allow() {
                tracing::error!(plugin, %hook, %room, %failure, "a plugin will not learn of this");
            }
            if telling.is_recorded() {
                // It may be owed from before a reload.
                self.pass(input);
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
        let lost = match recorded_as(input) {
            Some(fact) if telling.is_recorded() => common.store.forgive(plugin, fact, letter),
            _ => common.store.dead_letter(letter),
        };
        let lost = lost.err();
        tracing::error!(
            plugin, %hook, %room, tries, %failure, error = lost.map(tracing::field::display),
            "a fact is a dead letter: the plugin has not taken it"
        );
    }
}

/// By which id a fact is in the ledger.
fn recorded_as(input: &Input) -> Option<Uuid> {
    match input {
        Input::Fact(fact) => fact.id().map(|id| id.0),
        _ => None,
    }
}

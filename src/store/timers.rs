//! One owner's timers, in the order in which they are due.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::model::{RoomId, UnixMs};

/// A timer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The room of the call that set it.
    pub room: RoomId,
    /// Its name within the room.
    pub key: Arc<str>,
    /// When it is due.
    pub due: UnixMs,
    /// After how many milliseconds it is due again; `None` if it fires once.
    pub every: Option<u64>,
}

/// What tells an owner's timers apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerName {
    pub(super) room: RoomId,
    pub(super) key: Arc<str>,
}

impl TimerName {
    pub(super) fn new(room: &RoomId, key: &str) -> Self {
        Self {
            room: room.clone(),
            key: key.into(),
        }
    }
}

/// When a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) due: UnixMs,
    /// In milliseconds, at least 1.
    pub(super) every: Option<u64>,
}

impl Timing {
    /// What becomes of the timer when it has fired: `None` if it is over. Times that have
    /// passed by `now` are skipped.
    fn after_firing(self, now: UnixMs) -> Option<Self> {
        let every = self.every?.max(1);
        let missed = now.0.saturating_sub(self.due.0) / every;
        let ahead = every.saturating_mul(missed.saturating_add(1));
        Some(Self {
            due: UnixMs(self.due.0.saturating_add(ahead)),
            ..self
        })
    }
}

/// A timer's new timing, or `None` where it is over or cancelled.
pub(super) type TimerChange = Option<Timing>;

#[derive(Clone)]
struct Slot {
    timing: Timing,
    /// Given out, so no longer among those that wait.
    in_flight: bool,
}

#[derive(Clone, Default)]
pub(super) struct Timers {
    slots: BTreeMap<TimerName, Slot>,
    waiting: BTreeSet<(UnixMs, TimerName)>,
}

impl Timers {
    pub(super) fn new(timings: BTreeMap<TimerName, Timing>) -> Self {
        let mut timers = Self::default();
        for (name, timing) in timings {
            timers.set(&name, Some(timing));
        }
        timers
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, name: &TimerName) -> Option<Timing> {
        self.slots.get(name).map(|slot| slot.timing)
    }

    /// The timers without regard to which of them are in flight.
    pub(super) fn all_waiting(&self) -> Self {
        let timings = |(name, slot): (&TimerName, &Slot)| (name.clone(), slot.timing);
        Self::new(self.slots.iter().map(timings).collect())
    }

    /// Sets or removes a timer. One that was in flight no longer is.
    pub(super) fn set(&mut self, name: &TimerName, change: TimerChange) {
        let before = match change {
            Some(timing) => {
                self.waiting.insert((timing.due, name.clone()));
                let slot = Slot {
                    timing,
                    in_flight: false,
                };
                self.slots.insert(name.clone(), slot)
            }
            None => self.slots.remove(name),
        };
        if let Some(before) = before
            && change.is_none_or(|timing| timing.due != before.timing.due)
        {
            self.waiting.remove(&(before.timing.due, name.clone()));
        }
    }

    /// What firing at `due` makes of the timer; `None` if that is no longer its time.
    pub(super) fn after_firing(
        &self,
        name: &TimerName,
        due: UnixMs,
        now: UnixMs,
    ) -> Option<TimerChange> {
        let timing = self.get(name).filter(|timing| timing.due == due)?;
        Some(timing.after_firing(now))
    }

    /// The earliest time of those not in flight.
    pub(super) fn next_due(&self) -> Option<UnixMs> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// Those due by `now` and not in flight, the earliest first. They are in flight then.
    pub(super) fn take_due(&mut self, now: UnixMs, at_most: usize) -> Vec<Timer> {
        let mut taken = Vec::new();
        while taken.len() < at_most
            && self.waiting.first().is_some_and(|(due, _)| *due <= now)
            && let Some((due, name)) = self.waiting.pop_first()
        {
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.in_flight = true;
                taken.push(Timer {
                    room: name.room,
                    key: name.key,
                    due,
                    every: slot.timing.every,
                });
            }
        }
        taken
    }

    /// Ends a flight without a firing. Nothing happens if the timer has changed since.
    pub(super) fn release(&mut self, name: TimerName, due: UnixMs) {
        if let Some(slot) = self.slots.get_mut(&name)
            && slot.in_flight
            && slot.timing.due == due
        {
            slot.in_flight = false;
            self.waiting.insert((due, name));
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let waiting = self.slots.iter().filter(|(_, slot)| !slot.in_flight);
        let waiting = waiting.map(|(name, slot)| (slot.timing.due, name.clone()));
        assert_eq!(self.waiting, waiting.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(due: u64, every: Option<u64>, now: u64) -> Option<u64> {
        let timing = Timing {
            due: UnixMs(due),
            every,
        };
        timing.after_firing(UnixMs(now)).map(|timing| timing.due.0)
    }

    #[test]
    fn a_repeating_timer_moves_past_now_and_keeps_its_beat() {
        assert_eq!(next(1000, None, 1000), None);
        assert_eq!(next(1000, Some(100), 1000), Some(1100));
        assert_eq!(next(1000, Some(100), 1099), Some(1100));
        assert_eq!(next(1000, Some(100), 1100), Some(1200));
        assert_eq!(next(1000, Some(100), 987_654), Some(987_700));
        assert_eq!(next(1000, Some(100), 0), Some(1100), "a clock set back");
        assert_eq!(next(u64::MAX - 1, Some(100), u64::MAX), Some(u64::MAX));
    }
}

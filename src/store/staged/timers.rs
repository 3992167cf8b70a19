//! Timers that a call sets, cancels, or has been made for.

use super::{Staged, signed};
use crate::{
    model::{RoomId, UnixMs},
    store::{
        Limits, Space, TimerError,
        limits::BEHIND,
        timers::{TimerChange, TimerName, Timers, Timing},
    },
};

const DAY: u64 = 24 * 60 * 60 * 1000;

/// The longest delay and period, in milliseconds.
const LONGEST: u64 = 400 * DAY;

/// The shortest period, in milliseconds.
const SHORTEST_PERIOD: u64 = 100;

impl Staged {
    /// Sets a room's timer: it is due `after_ms` milliseconds after the call's time and then
    /// every `every_ms` where given. Replaces the room's timer of this key.
    ///
    /// # Errors
    ///
    /// If the key is empty or too long, a time is out of bounds (`after_ms` is at most 400
    /// days, `every_ms` 100 ms to 400 days), or there are too many timers.
    pub fn set_timer(
        &mut self,
        space: &Space,
        limits: &Limits,
        room: &RoomId,
        key: &str,
        after_ms: u64,
        every_ms: Option<u64>,
    ) -> Result<(), TimerError> {
        if after_ms > LONGEST {
            return Err(TimerError::InvalidDelay(format!(
                "a timer is due within 400 days, which is {LONGEST} ms, not after {after_ms} ms"
            )));
        }
        if let Some(every) = every_ms
            && !(SHORTEST_PERIOD..=LONGEST).contains(&every)
        {
            return Err(TimerError::InvalidDelay(format!(
                "a timer repeats every {SHORTEST_PERIOD} ms to 400 days, which is {LONGEST} ms, \
                 not every {every} ms"
            )));
        }
        let timing = Timing {
            due: UnixMs(self.now.0.saturating_add(after_ms)),
            every: every_ms,
        };
        self.change_timer(space, limits, room, key, Some(timing))
    }

    /// Cancels a room's timer. That it is not there is no error.
    ///
    /// # Errors
    ///
    /// If the key is empty or too long, or the call changes too many timers.
    pub fn cancel_timer(
        &mut self,
        space: &Space,
        limits: &Limits,
        room: &RoomId,
        key: &str,
    ) -> Result<(), TimerError> {
        self.change_timer(space, limits, room, key, None)
    }

    /// Says that this is the call for a timer that was due then. When the set is applied, a
    /// one-shot timer is over, and a repeating one moves to its next time after the call's:
    /// what was missed is skipped. Nothing happens to the timer if this set, or another one
    /// meanwhile, has set it anew or cancelled it.
    pub fn fired(&mut self, room: &RoomId, key: &str, due: UnixMs) {
        self.fired = Some((TimerName::new(room, key), due));
    }

    /// The timer that is over because it fired, unless this set changes it anyway.
    fn over(&self, timers: &Timers) -> Option<&TimerName> {
        let (name, due) = self.fired.as_ref()?;
        let over = !self.timers.contains_key(name)
            && timers.after_firing(name, *due, self.now) == Some(None);
        over.then_some(name)
    }

    fn change_timer(
        &mut self,
        space: &Space,
        limits: &Limits,
        room: &RoomId,
        key: &str,
        change: TimerChange,
    ) -> Result<(), TimerError> {
        if limits.check_key(key).is_err() {
            return Err(TimerError::InvalidKey(limits.key));
        }
        let name = TimerName::new(room, key);
        if self.timers.len() >= limits.changes && !self.timers.contains_key(&name) {
            return quota(format!("a call may change {} timers", limits.changes));
        }
        if space.is_behind() {
            return quota(BEHIND.to_owned());
        }
        let more = {
            let kept = space.kept();
            let timers = &kept.timers;
            let staged = self.timers.get(&name);
            let exists = match staged {
                Some(staged) => staged.is_some(),
                None => timers.get(&name).is_some(),
            };
            if change.is_none() && staged.is_none() && !exists {
                return Ok(());
            }
            let more = isize::from(change.is_some()) - isize::from(exists);
            let over = self.over(timers);
            let number = signed(timers.len()) + self.more_timers;
            let before = number - isize::from(over.is_some());
            let after = number + more - isize::from(over.is_some_and(|over| *over != name));
            if after > before && after > signed(limits.timers) {
                return quota(format!("the plugin may have {} timers", limits.timers));
            }
            more
        };
        self.more_timers += more;
        self.timers.insert(name, change);
        Ok(())
    }
}

fn quota<T>(sentence: String) -> Result<T, TimerError> {
    Err(TimerError::QuotaExceeded(sentence))
}

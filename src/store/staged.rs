//! Changes of one call that are not applied yet.

mod events;
mod timers;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use uuid::Uuid;

use self::events::{About, Event};
use super::{
    kept::{Change, Entry, Kept},
    limits::{BEHIND, IncrementError, KeyError, Limits},
    space::Space,
    timers::{TimerChange, TimerName},
};
use crate::model::UnixMs;

/// One call's transaction: changes and events that [`Space::apply`] will apply, and a view
/// of the keys as they will then be. Dropping it leaves no trace.
///
/// All its operations take the space that it will be applied to.
pub struct Staged {
    /// The call's time, by which expiry is judged.
    pub(super) now: UnixMs,
    pub(super) changes: BTreeMap<Arc<str>, Change>,
    /// What keys were, before any change, on whose value the call depends.
    pub(super) bases: BTreeMap<Arc<str>, Option<Entry>>,
    pub(super) timers: BTreeMap<TimerName, TimerChange>,
    /// The timer because of which there is this call, and when it was due.
    pub(super) fired: Option<(TimerName, UnixMs)>,
    /// The fact that the call has told.
    pub(super) settled: Option<Uuid>,
    changed: usize,
    more: More,
    /// Timers that there will be more (or, negative, fewer).
    more_timers: isize,
    events: Vec<Event>,
    about: About,
}

/// How many keys and bytes there will be more (or, negative, fewer).
#[derive(Clone, Copy, Default)]
struct More {
    keys: isize,
    bytes: isize,
}

impl More {
    fn change(&mut self, key: &str, before: Option<&[u8]>, after: Option<&[u8]>) {
        let size = |value: Option<&[u8]>| value.map_or(0, |value| signed(key.len() + value.len()));
        self.keys += isize::from(after.is_some()) - isize::from(before.is_some());
        self.bytes += size(after) - size(before);
    }
}

impl Default for Staged {
    fn default() -> Self {
        Self::new(UnixMs::now())
    }
}

impl Staged {
    /// An empty set for a call at that time: keys that have expired by then are not there,
    /// delays and times to live count from it.
    #[must_use]
    pub fn new(now: UnixMs) -> Self {
        Self {
            now,
            changes: BTreeMap::new(),
            bases: BTreeMap::new(),
            timers: BTreeMap::new(),
            fired: None,
            settled: None,
            changed: 0,
            more: More::default(),
            more_timers: 0,
            events: Vec::new(),
            about: About::default(),
        }
    }

    /// Says that this is the call that tells the owner a fact which was
    /// [noted](super::Note): when the set is applied the fact is no longer owed, in the
    /// transaction of whatever else the set does. A set that only settles is empty all the
    /// same, and has to be applied.
    pub fn settles(&mut self, fact: Uuid) {
        self.settled = Some(fact);
    }

    /// Whether there is nothing to apply but what is [settled](Self::settles). It may depend on a key all the same, so that
    /// [`Space::apply`] tells of a conflict.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.timers.is_empty()
            && self.fired.is_none()
            && self.events.is_empty()
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// If the key is empty or too long.
    pub fn get(
        &self,
        space: &Space,
        limits: &Limits,
        key: &str,
    ) -> Result<Option<Arc<[u8]>>, KeyError> {
        limits.check_key(key)?;
        Ok(match self.seen(key) {
            Some(seen) => seen.as_ref().map(|entry| Arc::clone(&entry.value)),
            None => {
                let kept = space.kept();
                kept.live(key, self.now)
                    .map(|entry| Arc::clone(&entry.value))
            }
        })
    }

    /// The key as this set has made it or depends on it.
    fn seen(&self, key: &str) -> Option<&Option<Entry>> {
        self.changes.get(key).or_else(|| self.bases.get(key))
    }

    /// Sets a key, for good (`None` deletes it).
    ///
    /// # Errors
    ///
    /// If key or value is too long, or a limit on number or size would be passed. Nothing is
    /// changed then.
    pub fn set(
        &mut self,
        space: &Space,
        limits: &Limits,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), KeyError> {
        self.write(space, limits, key, value, None)
    }

    /// Sets a key that is gone `ttl_ms` milliseconds after the call's time.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    pub fn set_expiring(
        &mut self,
        space: &Space,
        limits: &Limits,
        key: &str,
        value: &[u8],
        ttl_ms: u64,
    ) -> Result<(), KeyError> {
        check_value(limits, value)?;
        // What is gone at once need not come.
        let value = (ttl_ms > 0).then_some(value);
        let until = UnixMs(self.now.0.saturating_add(ttl_ms));
        self.write(space, limits, key, value, Some(until))
    }

    /// Sets the key for good (`None` deletes it) if its value is `expected` (`None`: if it
    /// is not there). Whether it was. From now on the set depends on the key: it is applied
    /// only if nobody else changes the key until then.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    pub fn compare_and_set(
        &mut self,
        space: &Space,
        limits: &Limits,
        key: &str,
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<bool, KeyError> {
        let current = self.depend_on(space, limits, key)?;
        if current.as_ref().map(|entry| &*entry.value) != expected {
            return Ok(false);
        }
        self.write(space, limits, key, value, None)?;
        Ok(true)
    }

    /// Adds to a whole number, kept as decimal ASCII text; a key that is not there counts
    /// as 0. The sum. The key keeps its time to live. The set depends on the key as in
    /// [`Self::compare_and_set`].
    ///
    /// # Errors
    ///
    /// As [`Self::set`]; if the value is no number, or the sum does not fit.
    pub fn increment(
        &mut self,
        space: &Space,
        limits: &Limits,
        key: &str,
        by: i64,
    ) -> Result<i64, IncrementError> {
        let current = self.depend_on(space, limits, key)?;
        let number = match &current {
            Some(entry) => parse(&entry.value)?,
            None => 0,
        };
        let sum = number
            .checked_add(i128::from(by))
            .and_then(|sum| i64::try_from(sum).ok())
            .ok_or(IncrementError::Overflow)?;
        let until = current.and_then(|entry| entry.until);
        let text = sum.to_string();
        self.write(space, limits, key, Some(text.as_bytes()), until)?;
        Ok(sum)
    }

    /// The key as the call sees it. What it is in the space is not to change any more.
    fn depend_on(
        &mut self,
        space: &Space,
        limits: &Limits,
        key: &str,
    ) -> Result<Option<Entry>, KeyError> {
        limits.check_key(key)?;
        if let Some(seen) = self.seen(key) {
            return Ok(seen.clone());
        }
        if self.bases.len() >= limits.changes {
            return quota(format!("a call may depend on {} keys", limits.changes));
        }
        let base = space.kept().live(key, self.now).cloned();
        self.bases.insert(key.into(), base.clone());
        Ok(base)
    }

    fn write(
        &mut self,
        space: &Space,
        limits: &Limits,
        key: &str,
        value: Option<&[u8]>,
        until: Option<UnixMs>,
    ) -> Result<(), KeyError> {
        limits.check_key(key)?;
        if let Some(value) = value {
            check_value(limits, value)?;
        }
        let size = key.len() + value.map_or(0, <[u8]>::len);
        if self.changed + size > limits.changed {
            return quota(format!("a call may write {} bytes", limits.changed));
        }
        let staged = self.changes.contains_key(key);
        if self.changes.len() >= limits.changes && !staged {
            return quota(format!("a call may change {} keys", limits.changes));
        }
        if space.is_behind() {
            return quota(BEHIND.to_owned());
        }
        if !staged && self.is_as(space, key, value, until) {
            // Nothing to bring to the disk, so nothing for an answer to wait for.
            return Ok(());
        }
        self.more = self.admit(space, limits, key, value)?;
        self.changed += size;
        let entry = value.map(|value| Entry {
            value: value.into(),
            until,
        });
        self.changes.insert(key.into(), entry);
        Ok(())
    }

    fn is_as(&self, space: &Space, key: &str, value: Option<&[u8]>, until: Option<UnixMs>) -> bool {
        match (space.kept().live(key, self.now), value) {
            (Some(entry), Some(value)) => *entry.value == *value && entry.until == until,
            (None, None) => true,
            _ => false,
        }
    }

    /// What there will be more with this change too, if the owner may keep so much. Expired
    /// keys give way to it.
    fn admit(
        &self,
        space: &Space,
        limits: &Limits,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<More, KeyError> {
        let mut before = self.more;
        loop {
            let refused = {
                let kept = space.kept();
                let mut more = before;
                more.change(key, self.before(&kept, key), value);
                match exceeded(limits, &kept, before, more) {
                    Some(sentence) => sentence,
                    None => return Ok(more),
                }
            };
            if space.sweep(self.now) == 0 {
                return quota(refused);
            }
            before = self.count(&space.kept());
        }
    }

    /// What the change of a key takes the place of.
    fn before<'a>(&'a self, kept: &'a Kept, key: &str) -> Option<&'a [u8]> {
        let entry = match self.changes.get(key) {
            Some(change) => change.as_ref(),
            None => kept.entries().get(key),
        };
        entry.map(Entry::bytes)
    }

    fn count(&self, kept: &Kept) -> More {
        let mut more = More::default();
        for (key, change) in &self.changes {
            let before = kept.entries().get(key).map(Entry::bytes);
            more.change(key, before, change.as_ref().map(Entry::bytes));
        }
        more
    }

    /// Keys that start with the prefix, in byte order, those after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// If prefix or `after` is longer than a key can be.
    pub fn list(
        &self,
        space: &Space,
        limits: &Limits,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, KeyError> {
        if prefix.len() > limits.key || after.is_some_and(|after| after.len() > limits.key) {
            return Err(KeyError::InvalidKey(limits.key));
        }
        let limit = limit.min(limits.listed);
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = (start, Bound::Unbounded);
        let kept = space.kept();
        let mut kept = kept
            .entries()
            .range::<str, _>(range)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, entry)| entry.is_live(self.now) && !self.changes.contains_key(*key))
            .map(|(key, _)| key)
            .peekable();
        let mut staged = self
            .changes
            .range::<str, _>(range)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, change)| change.is_some().then_some(key))
            .peekable();
        let mut keys = Vec::new();
        while keys.len() < limit {
            let next = match (kept.peek(), staged.peek()) {
                (Some(left), Some(right)) if left < right => kept.next(),
                (_, Some(_)) => staged.next(),
                (_, None) => kept.next(),
            };
            match next {
                Some(key) => keys.push(key.to_string()),
                None => break,
            }
        }
        Ok(keys)
    }
}

fn check_value(limits: &Limits, value: &[u8]) -> Result<(), KeyError> {
    if value.len() > limits.value {
        return Err(KeyError::ValueTooLarge(limits.value));
    }
    Ok(())
}

/// The sentence about the limit that is passed, if the owner grows.
fn exceeded(limits: &Limits, kept: &Kept, before: More, more: More) -> Option<String> {
    let keys = signed(kept.keys()) + more.keys;
    if more.keys > before.keys && keys > signed(limits.keys) {
        return Some(format!("the plugin may keep {} keys", limits.keys));
    }
    let bytes = signed(kept.bytes()) + more.bytes;
    if more.bytes > before.bytes && bytes > signed(limits.total) {
        return Some(format!("the plugin may keep {} bytes", limits.total));
    }
    None
}

/// A whole number in decimal digits. Wide, so that only the sum has to fit 64 bits.
fn parse(value: &[u8]) -> Result<i128, IncrementError> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(IncrementError::NotANumber);
    }
    let text = std::str::from_utf8(value).map_err(|_| IncrementError::NotANumber)?;
    text.parse().map_err(|_| IncrementError::Overflow)
}

fn quota<T>(sentence: String) -> Result<T, KeyError> {
    Err(KeyError::QuotaExceeded(sentence))
}

fn signed(number: usize) -> isize {
    isize::try_from(number).unwrap_or(isize::MAX)
}

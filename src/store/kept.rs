//! What a space keeps, as plain data.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    space::Conflict,
    staged::Staged,
    timers::{TimerChange, TimerName, Timers, Timing},
};
use crate::model::UnixMs;

/// A key's value, and when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: Arc<[u8]>,
    /// The first millisecond at which it is gone.
    pub(super) until: Option<UnixMs>,
}

impl Entry {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.value
    }

    pub(super) fn is_live(&self, now: UnixMs) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A key's new value, or `None` where it is deleted.
pub(super) type Change = Option<Entry>;

/// What the disk has of one owner.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) entries: BTreeMap<Arc<str>, Entry>,
    pub(super) timers: BTreeMap<TimerName, Timing>,
}

impl Contents {
    /// Of keys and values together.
    pub(super) fn bytes(&self) -> usize {
        let entries = self.entries.iter();
        entries
            .map(|(key, entry)| key.len() + entry.value.len())
            .sum()
    }
}

#[derive(Clone, Default)]
pub(super) struct Kept {
    /// With those that have expired and are not swept yet.
    entries: BTreeMap<Arc<str>, Entry>,
    /// Every entry that has an end, by its end.
    expiries: BTreeSet<(UnixMs, Arc<str>)>,
    bytes: usize,
    pub(super) timers: Timers,
}

impl Kept {
    pub(super) fn new(contents: Contents) -> Self {
        let mut kept = Self {
            timers: Timers::new(contents.timers),
            ..Self::default()
        };
        for (key, entry) in contents.entries {
            kept.set(&key, Some(entry));
        }
        kept
    }

    /// Number of keys.
    pub(super) fn keys(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of keys and values together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn entries(&self) -> &BTreeMap<Arc<str>, Entry> {
        &self.entries
    }

    /// The key's entry, if it has not expired.
    pub(super) fn live(&self, key: &str, now: UnixMs) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.is_live(now))
    }

    /// Whether what the set depends on is as it was.
    pub(super) fn verify(&self, staged: &Staged) -> Result<(), Conflict> {
        for (key, base) in &staged.bases {
            if self.live(key, staged.now) != base.as_ref() {
                return Err(Conflict {
                    key: Arc::clone(key),
                });
            }
        }
        Ok(())
    }

    pub(super) fn set(&mut self, key: &Arc<str>, change: Change) {
        let before = match change {
            Some(entry) => {
                self.bytes += key.len() + entry.value.len();
                if let Some(until) = entry.until {
                    self.expiries.insert((until, Arc::clone(key)));
                }
                let until = entry.until;
                self.entries
                    .insert(Arc::clone(key), entry)
                    .map(|before| (before, until))
            }
            None => self.entries.remove(key).map(|before| (before, None)),
        };
        if let Some((before, until)) = before {
            self.bytes = self.bytes.saturating_sub(key.len() + before.value.len());
            if let Some(expiry) = before.until
                && before.until != until
            {
                self.expiries.remove(&(expiry, Arc::clone(key)));
            }
        }
    }

    /// What the set makes of the owner's timers, firing included.
    pub(super) fn timer_changes(&self, staged: &Staged) -> BTreeMap<TimerName, TimerChange> {
        let mut changes = staged.timers.clone();
        if let Some((name, due)) = &staged.fired
            && !changes.contains_key(name)
            && let Some(change) = self.timers.after_firing(name, *due, staged.now)
        {
            changes.insert(name.clone(), change);
        }
        changes
    }

    /// Removes keys that had expired by then, those that expired first, and says which.
    pub(super) fn sweep(&mut self, by: UnixMs, at_most: usize) -> Vec<Arc<str>> {
        let mut swept = Vec::new();
        while swept.len() < at_most
            && self.has_expired(by)
            && let Some((_, key)) = self.expiries.pop_first()
        {
            self.set(&key, None);
            swept.push(key);
        }
        swept
    }

    pub(super) fn has_expired(&self, by: UnixMs) -> bool {
        self.expiries.first().is_some_and(|(until, _)| *until <= by)
    }

    /// Holds the sums and indexes against what they are made from.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let bytes = self
            .entries
            .iter()
            .map(|(key, e)| key.len() + e.value.len());
        assert_eq!(self.bytes, bytes.sum::<usize>());
        let expiries = self.entries.iter();
        let expiries = expiries.filter_map(|(key, e)| Some((e.until?, Arc::clone(key))));
        assert_eq!(self.expiries, expiries.collect());
        self.timers.check();
    }
}

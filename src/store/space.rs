//! One owner's keys and timers in memory.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;

use super::{
    NotSaved,
    backlog::{Backlog, Progress},
    kept::{Contents, Kept},
    staged::Staged,
    timers::{Timer, TimerChange, TimerName},
};
use crate::model::{RoomId, UnixMs};

/// How long an expired key stays in memory, in milliseconds, unless its place is needed. A
/// call that has waited for less than this is answered by its own time, whatever later
/// calls have done.
const GRACE: u64 = 10_000;

/// Expired keys that one set removes besides what it does itself.
const SWEPT_BY_A_SET: usize = 32;

/// Expired keys that are removed under one lock.
const SWEPT_AT_ONCE: usize = 256;

/// Another set has changed a key that this one depends on. Nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key {key:?} was changed by another call: run this one again")]
pub struct Conflict {
    /// The key; there may be more.
    pub key: Arc<str>,
}

/// One owner's keys and timers.
pub struct Space {
    owner: Arc<str>,
    kept: RwLock<Kept>,
    /// `None` if nothing of it is durable.
    disk: Option<Link>,
    /// The earliest time of a timer that waits.
    next_due: watch::Sender<Option<UnixMs>>,
}

/// A space's way to the disk.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) backlog: Arc<Backlog>,
    pub(super) progress: watch::Receiver<Progress>,
}

impl Space {
    pub(super) fn new(owner: &str, contents: Contents, disk: Link) -> Self {
        Self::from_parts(owner.into(), Kept::new(contents), Some(disk))
    }

    /// An empty space in memory only, for tools and trials. Nothing of it is durable, it is
    /// known to no [`Store`](super::Store), and events of a set that is applied to it go
    /// nowhere: see [`Staged::events`].
    #[must_use]
    pub fn detached(owner: &str) -> Arc<Self> {
        Arc::new(Self::from_parts(owner.into(), Kept::default(), None))
    }

    /// A [detached](Self::detached) space with the keys, expiries and timers that this one
    /// has now. All its timers wait: none is in flight.
    #[must_use]
    pub fn copy_of(space: &Self) -> Arc<Self> {
        let mut kept = space.kept.read().clone();
        kept.timers = kept.timers.all_waiting();
        Arc::new(Self::from_parts(Arc::clone(&space.owner), kept, None))
    }

    fn from_parts(owner: Arc<str>, kept: Kept, disk: Option<Link>) -> Self {
        Self {
            owner,
            next_due: watch::Sender::new(kept.timers.next_due()),
            kept: RwLock::new(kept),
            disk,
        }
    }

    /// Bytes of keys and values together. Keys that expired seconds ago may be among them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept.read().bytes()
    }

    /// Number of keys. Those that expired seconds ago may be among them.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.kept.read().keys()
    }

    /// Number of timers.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.kept.read().timers.len()
    }

    /// Applies the set as a whole. `None` if it changes neither keys nor timers, or the
    /// space is detached: there is nothing that an answer would wait for.
    ///
    /// Every reader sees the changes when this returns; [`Saved::wait`] tells when they are
    /// on disk.
    ///
    /// # Errors
    ///
    /// If a key that the set has compared or incremented is no longer what it was based on.
    /// Nothing is applied then, and the call has to be run again, on a fresh instance.
    pub fn apply(&self, staged: Staged) -> Result<Option<Saved>, Conflict> {
        if staged.is_empty() && staged.settled.is_none() {
            if staged.bases.is_empty() {
                return Ok(None);
            }
            return self.kept.read().verify(&staged).map(|()| None);
        }
        let on_timers = !staged.timers.is_empty() || staged.fired.is_some();
        let saved = self.apply_changes(staged)?;
        if on_timers {
            self.tell_next_due();
        }
        Ok(saved)
    }

    fn apply_changes(&self, staged: Staged) -> Result<Option<Saved>, Conflict> {
        let Some(disk) = &self.disk else {
            self.commit(staged)?;
            return Ok(None);
        };
        let drafts = staged.drafts(&self.owner);
        let mut durable = false;
        // Under the backlog's lock, so that the disk sees the sets in the order of memory.
        let sequence = disk.backlog.add(|batch| {
            let Written {
                staged,
                timers,
                swept,
            } = self.commit(staged)?;
            if let Some(fact) = staged.settled {
                batch.put_owed(&self.owner, fact, None);
            }
            durable = !staged.changes.is_empty() || !timers.is_empty();
            for (key, change) in staged.changes {
                batch.add_key(&self.owner, key, change);
            }
            for (name, change) in timers {
                batch.add_timer(&self.owner, name, change);
            }
            for key in swept {
                batch.add_key(&self.owner, key, None);
            }
            batch.add_drafts(drafts);
            Ok(())
        })?;
        Ok(durable.then(|| Saved::new(sequence, disk)))
    }

    /// Applies the set in memory.
    fn commit(&self, staged: Staged) -> Result<Written, Conflict> {
        let mut kept = self.kept.write();
        kept.verify(&staged)?;
        let timers = kept.timer_changes(&staged);
        for (key, change) in &staged.changes {
            kept.set(key, change.clone());
        }
        for (name, change) in &timers {
            kept.timers.set(name, *change);
        }
        let swept = kept.sweep(long_before(staged.now), SWEPT_BY_A_SET);
        Ok(Written {
            staged,
            timers,
            swept,
        })
    }

    /// Whether so much waits for the disk that changes are to be refused.
    pub(crate) fn is_behind(&self) -> bool {
        self.disk
            .as_ref()
            .is_some_and(|disk| disk.backlog.is_full())
    }

    pub(super) fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read()
    }

    /// Removes keys, not many at once, that had expired by then. How many.
    pub(super) fn sweep(&self, by: UnixMs) -> usize {
        if !self.kept.read().has_expired(by) {
            return 0;
        }
        let mut number = 0;
        let sweep = || self.kept.write().sweep(by, SWEPT_AT_ONCE);
        match &self.disk {
            Some(disk) => {
                let added: Result<u64, Infallible> = disk.backlog.add(|batch| {
                    for key in sweep() {
                        number += 1;
                        batch.add_key(&self.owner, key, None);
                    }
                    Ok(())
                });
                let Ok(_) = added;
            }
            None => number = sweep().len(),
        }
        number
    }

    /// Removes all keys that expired long ago.
    pub(super) fn sweep_old(&self, now: UnixMs) {
        while self.sweep(long_before(now)) > 0 {}
    }

    /// When the next timer is due that is not in flight.
    #[must_use]
    pub fn next_due(&self) -> Option<UnixMs> {
        self.kept.read().timers.next_due()
    }

    /// Tells when [`Self::next_due`] changes, and is it.
    #[must_use]
    pub fn timers_changed(&self) -> watch::Receiver<Option<UnixMs>> {
        self.next_due.subscribe()
    }

    /// Timers that are due, the earliest first. They are in flight, and not returned again,
    /// until a set in which the timer has [`fired`](Staged::fired) or is set anew is
    /// applied, or until [`Self::release_timer`]. A restart ends all flights.
    #[must_use]
    pub fn due(&self, now: UnixMs, at_most: usize) -> Vec<Timer> {
        let due = self.kept.write().timers.take_due(now, at_most);
        self.tell_next_due();
        due
    }

    /// Whether the timer is still due at that time. Where it is not, a call that was queued
    /// for it has nothing to tell: the plugin has cancelled the timer or set it anew.
    #[must_use]
    pub fn is_timer_due(&self, room: &RoomId, key: &str, due: UnixMs) -> bool {
        let timing = self.kept.read().timers.get(&TimerName::new(room, key));
        timing.is_some_and(|timing| timing.due == due)
    }

    /// Ends a timer's flight without a firing: [`Self::due`] returns it again. Nothing
    /// happens if it was cancelled or set anew meanwhile.
    pub fn release_timer(&self, room: &RoomId, key: &str, due: UnixMs) {
        let name = TimerName::new(room, key);
        self.kept.write().timers.release(name, due);
        self.tell_next_due();
    }

    /// Looked up under the lock of what is told, so that the last word is the latest.
    fn tell_next_due(&self) {
        self.next_due.send_if_modified(|told| {
            let next = self.next_due();
            std::mem::replace(told, next) != next
        });
    }
}

/// What applying a set has changed.
struct Written {
    staged: Staged,
    timers: BTreeMap<TimerName, TimerChange>,
    swept: Vec<Arc<str>>,
}

fn long_before(now: UnixMs) -> UnixMs {
    UnixMs(now.0.saturating_sub(GRACE))
}

/// A claim to be told when a set of changes is on the disk.
#[derive(Clone, Debug)]
pub struct Saved {
    sequence: u64,
    progress: watch::Receiver<Progress>,
}

impl Saved {
    pub(super) fn new(sequence: u64, disk: &Link) -> Self {
        Self {
            sequence,
            progress: disk.progress.clone(),
        }
    }

    /// Waits for the disk.
    ///
    /// # Errors
    ///
    /// If that takes longer than the limit. The changes remain applied and are still tried.
    pub async fn wait(mut self, limit: Duration) -> Result<(), NotSaved> {
        let reached = self.progress.wait_for(|now| now.saved >= self.sequence);
        match tokio::time::timeout(limit, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotSaved),
        }
    }

    /// Waits for the disk, however long. Whether it has them: it has not if the store was
    /// closed before.
    pub async fn eventually(mut self) -> bool {
        let reached = self.progress.wait_for(|now| now.saved >= self.sequence);
        reached.await.is_ok()
    }
}

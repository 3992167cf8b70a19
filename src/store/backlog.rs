//! What waits for the disk.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use super::{
    kept::Change,
    ledger::Draft,
    sinks::Position,
    timers::{TimerChange, TimerName},
};

/// Bytes that may wait for the disk before further changes are refused.
const BACKLOG_BYTES: usize = 256 << 20;

/// What an owed or settled fact counts besides its call: its owner and its id.
const OWED_BYTES: usize = 32;

/// How far the disk is, as sequence numbers of [`Backlog::add`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Up to here all is in the database.
    pub(super) saved: u64,
    /// Up to here all is in the files that take it.
    pub(super) delivered: u64,
}

#[derive(Default)]
pub(super) struct Backlog {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    full: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    batch: Batch,
    sequence: u64,
    stopped: bool,
}

/// A dead letter as it is on the disk, or `None` where it is delivered or dropped.
pub(super) type LetterChange = Option<Box<[u8]>>;

/// What an owner has yet to be told, with its place in the order, or `None` where it was told.
pub(super) type OwedChange = Option<(u64, Box<[u8]>)>;

/// An open row's value, or `None` where it is over.
pub(super) type OpenChange = Option<Box<[u8]>>;

/// Changes that belong into one transaction. The first part of a name is the owner.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) keys: BTreeMap<(Arc<str>, Arc<str>), Change>,
    pub(super) timers: BTreeMap<(Arc<str>, TimerName), TimerChange>,
    /// Entries for the ledger.
    pub(super) drafts: Vec<Draft>,
    /// Lines for the file of dead letters.
    pub(super) dead_letters: Vec<Box<[u8]>>,
    /// How far sinks are.
    pub(super) positions: BTreeMap<Arc<str>, Position>,
    /// What sinks could not deliver, by sink and entry; `None` where that is over.
    pub(super) letters: BTreeMap<(Arc<str>, u64), LetterChange>,
    /// What owners are owed, by owner and fact.
    pub(super) owed: BTreeMap<(Arc<str>, Uuid), OwedChange>,
    /// What is open, by its key.
    pub(super) open: BTreeMap<Box<str>, OpenChange>,
    bytes: usize,
    /// Of the last set in it; 0 if there is none.
    pub(super) sequence: u64,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.sequence == 0
    }

    pub(super) fn add_key(&mut self, owner: &Arc<str>, key: Arc<str>, change: Change) {
        self.put_key((Arc::clone(owner), key), change, true);
    }

    pub(super) fn add_timer(&mut self, owner: &Arc<str>, name: TimerName, change: TimerChange) {
        self.put_timer((Arc::clone(owner), name), change, true);
    }

    pub(super) fn add_drafts(&mut self, drafts: Vec<Draft>) {
        self.bytes += drafts.iter().map(Draft::len).sum::<usize>();
        self.drafts.extend(drafts);
    }

    pub(super) fn add_letter(&mut self, sink: &Arc<str>, seq: u64, letter: LetterChange) {
        let size = |letter: &LetterChange| letter.as_ref().map_or(0, |letter| letter.len());
        self.bytes += size(&letter);
        let before = self.letters.insert((Arc::clone(sink), seq), letter);
        self.bytes = self.bytes.saturating_sub(before.as_ref().map_or(0, size));
    }

    pub(super) fn put_owed(&mut self, owner: &Arc<str>, fact: Uuid, change: OwedChange) {
        let size = |change: &OwedChange| OWED_BYTES + change.as_ref().map_or(0, |row| row.1.len());
        self.bytes += size(&change);
        let before = self.owed.insert((Arc::clone(owner), fact), change);
        self.bytes = self.bytes.saturating_sub(before.as_ref().map_or(0, size));
    }

    pub(super) fn put_open(&mut self, key: &str, change: OpenChange) {
        let size = |change: &OpenChange| key.len() + change.as_ref().map_or(0, |row| row.len());
        self.bytes += size(&change);
        // Not `insert`, which wants a key of its own also where there is one.
        let before = match self.open.get_mut(key) {
            Some(place) => Some(std::mem::replace(place, change)),
            None => self.open.insert(key.into(), change),
        };
        self.bytes = self.bytes.saturating_sub(before.as_ref().map_or(0, size));
    }

    pub(super) fn add_dead_letter(&mut self, line: Box<[u8]>) {
        self.bytes += line.len();
        self.dead_letters.push(line);
    }

    fn put_key(&mut self, name: (Arc<str>, Arc<str>), change: Change, newer: bool) {
        let size = |change: &Change| change.as_ref().map_or(0, |entry| entry.value.len());
        match self.keys.entry(name) {
            Entry::Vacant(place) => {
                self.bytes += place.key().1.len() + size(&change);
                place.insert(change);
            }
            Entry::Occupied(mut place) if newer => {
                self.bytes = (self.bytes + size(&change)).saturating_sub(size(place.get()));
                place.insert(change);
            }
            Entry::Occupied(_) => {}
        }
    }

    fn put_timer(&mut self, name: (Arc<str>, TimerName), change: TimerChange, newer: bool) {
        match self.timers.entry(name) {
            Entry::Vacant(place) => {
                let name = &place.key().1;
                self.bytes += name.room.as_str().len() + name.key.len();
                place.insert(change);
            }
            Entry::Occupied(mut place) if newer => {
                place.insert(change);
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Takes in what is older than all that is here.
    fn take_in(&mut self, older: Self) {
        self.sequence = self.sequence.max(older.sequence);
        for (name, change) in older.keys {
            self.put_key(name, change, false);
        }
        for (name, change) in older.timers {
            self.put_timer(name, change, false);
        }
        for (sink, position) in older.positions {
            self.positions.entry(sink).or_insert(position);
        }
        for ((sink, seq), letter) in older.letters {
            if !self.letters.contains_key(&(Arc::clone(&sink), seq)) {
                self.add_letter(&sink, seq, letter);
            }
        }
        for ((owner, fact), change) in older.owed {
            if !self.owed.contains_key(&(Arc::clone(&owner), fact)) {
                self.put_owed(&owner, fact, change);
            }
        }
        for (key, change) in older.open {
            if !self.open.contains_key(&key) {
                self.put_open(&key, change);
            }
        }
        let drafts = older.drafts.iter().map(Draft::len);
        let lines = older.dead_letters.iter().map(|line| line.len());
        self.bytes += drafts.chain(lines).sum::<usize>();
        put_before(&mut self.drafts, older.drafts);
        put_before(&mut self.dead_letters, older.dead_letters);
    }
}

fn put_before<T>(lines: &mut Vec<T>, older: Vec<T>) {
    let newer = std::mem::replace(lines, older);
    lines.extend(newer);
}

impl Backlog {
    /// Adds what `write` puts into the batch before any other set can be added. If it
    /// refuses, it must have put nothing.
    pub(super) fn add<E>(&self, write: impl FnOnce(&mut Batch) -> Result<(), E>) -> Result<u64, E> {
        let mut waiting = self.waiting.lock();
        let Waiting {
            batch, sequence, ..
        } = &mut *waiting;
        write(batch)?;
        *sequence += 1;
        batch.sequence = *sequence;
        let sequence = *sequence;
        if batch.bytes > BACKLOG_BYTES {
            self.full.store(true, Ordering::Relaxed);
        }
        drop(waiting);
        self.arrived.notify_one();
        Ok(sequence)
    }

    /// The sequence number of the last set.
    pub(super) fn applied(&self) -> u64 {
        self.waiting.lock().sequence
    }

    /// Whether so much waits that nothing may be added.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Lets the writer end when all is written, or at the next error.
    pub(super) fn stop(&self) {
        self.waiting.lock().stopped = true;
        self.arrived.notify_one();
    }

    /// Waits for work, the stop, or that time. Whether it is the stop.
    pub(super) fn wait(&self, until: Instant) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.batch.is_empty()
            && !waiting.stopped
            && !self.arrived.wait_until(&mut waiting, until).timed_out()
        {}
        waiting.stopped
    }

    /// Sleeps, unless the store is stopped meanwhile. Whether it is.
    pub(super) fn pause(&self, length: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        let end = Instant::now() + length;
        while !waiting.stopped && !self.arrived.wait_until(&mut waiting, end).timed_out() {}
        waiting.stopped
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().batch.is_empty()
    }

    /// All that waits now. A backlog that is full stays so until this is [written](Self::written):
    /// a disk that fails again and again would have to be waited for with ever more.
    pub(super) fn take(&self) -> Batch {
        std::mem::take(&mut self.waiting.lock().batch)
    }

    /// What was taken is on the disk.
    pub(super) fn written(&self) {
        let waiting = self.waiting.lock();
        let full = waiting.batch.bytes > BACKLOG_BYTES;
        self.full.store(full, Ordering::Relaxed);
    }

    /// Gives back what could not be written; what was added since is newer.
    pub(super) fn give_back(&self, failed: Batch) {
        let mut waiting = self.waiting.lock();
        waiting.batch.take_in(failed);
        if waiting.batch.bytes > BACKLOG_BYTES {
            self.full.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::{
        model::{RoomId, UnixMs},
        store::{kept, ledger::Said, timers::Timing},
    };

    fn draft(topic: &str) -> Draft {
        Draft::new(&Said {
            at: UnixMs(0),
            id: uuid::Uuid::nil(),
            plugin: None,
            room: "",
            user: None,
            producer: None,
            topic,
            payload: &serde_json::Value::Null,
        })
    }

    fn entry(value: &str) -> Change {
        Some(kept::Entry {
            value: value.as_bytes().into(),
            until: None,
        })
    }

    fn add(backlog: &Backlog, key: &str, value: &str, due: u64) -> u64 {
        let owner = "seats".into();
        let name = TimerName::new(&RoomId::new("r").unwrap(), key);
        let timing = Timing {
            due: UnixMs(due),
            every: None,
        };
        let added: Result<u64, Infallible> = backlog.add(|batch| {
            batch.add_key(&owner, key.into(), entry(value));
            batch.add_timer(&owner, name, Some(timing));
            batch.add_drafts(vec![draft(value)]);
            batch.add_letter(&"hook".into(), due, Some(value.as_bytes().into()));
            let position = Position {
                cursor: due,
                ahead: Vec::new(),
            };
            batch.positions.insert("hook".into(), position);
            batch.add_dead_letter(value.as_bytes().into());
            Ok(())
        });
        let Ok(sequence) = added;
        sequence
    }

    #[test]
    fn what_could_not_be_written_does_not_replace_what_came_since() {
        let backlog = Backlog::default();
        add(&backlog, "a", "1", 1);
        add(&backlog, "b", "2", 2);
        let failed = backlog.take();
        assert!(backlog.take().is_empty());
        let last = add(&backlog, "a", "3", 3);
        backlog.give_back(failed);
        let batch = backlog.take();
        assert_eq!(batch.sequence, last);
        let values: Vec<_> = batch.keys.values().cloned().collect();
        assert_eq!(values, [entry("3"), entry("2")]);
        let due: Vec<_> = batch.timers.values().flatten().map(|t| t.due.0).collect();
        assert_eq!(due, [3, 2]);
        let lines = ["1", "2", "3"].map(|line| line.as_bytes().into());
        assert_eq!(batch.dead_letters, lines);
        assert_eq!(batch.drafts, ["1", "2", "3"].map(draft));
        assert_eq!(batch.positions.values().next().map(|p| p.cursor), Some(3));
        assert_eq!(batch.letters.len(), 3);
    }

    #[test]
    fn of_what_is_owed_and_open_the_latest_counts_also_after_a_failure() {
        let backlog = Backlog::default();
        let owner = "billing".into();
        let put = |facts: &[(u128, Option<u64>)], rows: &[(&str, Option<&str>)]| {
            let added: Result<u64, Infallible> = backlog.add(|batch| {
                for (fact, place) in facts {
                    let owed = place.map(|place| (place, [0; 100].into()));
                    batch.put_owed(&owner, Uuid::from_u128(*fact), owed);
                }
                for (key, value) in rows {
                    batch.put_open(key, value.map(|value| value.as_bytes().into()));
                }
                Ok(())
            });
            assert!(added.is_ok());
        };
        let (long, longer) = ("x".repeat(1000), "y".repeat(1100));
        put(&[(1, Some(1)), (2, Some(2))], &[("a", Some(&long))]);
        put(&[(3, Some(3))], &[("a", Some(&longer)), ("b", Some("1"))]);
        let failed = backlog.take();
        let owed = 3 * (OWED_BYTES + 100);
        assert_eq!(failed.bytes, owed + 1 + 1100 + 2, "one value of each row");
        // Told, over and begun anew while it was tried.
        put(&[(2, None), (4, Some(4))], &[("a", None), ("c", Some("1"))]);
        backlog.give_back(failed);
        let batch = backlog.take();
        let places = batch.owed.values();
        let places: Vec<_> = places
            .map(|owed| owed.as_ref().map(|owed| owed.0))
            .collect();
        assert_eq!(places, [Some(1), None, Some(3), Some(4)]);
        let open: Vec<_> = batch.open.iter().collect();
        let one: OpenChange = Some(b"1".as_slice().into());
        let expected = [("a", None), ("b", one.clone()), ("c", one)];
        let expected = expected.map(|(key, value)| (Box::from(key), value));
        assert_eq!(open, expected.each_ref().map(|(key, value)| (key, value)));
        assert_eq!(batch.bytes, 4 * OWED_BYTES + 3 * 100 + 1 + 2 + 2);
    }

    #[test]
    fn a_set_that_is_refused_has_no_number() {
        let backlog = Backlog::default();
        assert_eq!(backlog.add(|_| Err("conflict")), Err("conflict"));
        assert_eq!((backlog.applied(), backlog.take().is_empty()), (0, true));
        assert_eq!(add(&backlog, "a", "1", 1), 1);
    }

    #[test]
    fn a_backlog_is_full_until_its_batch_is_written() {
        let backlog = Backlog::default();
        let large = "x".repeat(BACKLOG_BYTES / 2);
        add(&backlog, "a", &large, 1);
        assert!(
            backlog.is_full(),
            "an event and a dead letter of half the size each"
        );
        let batch = backlog.take();
        assert!(backlog.is_full());
        backlog.give_back(batch);
        drop(backlog.take());
        assert!(backlog.is_full());
        backlog.written();
        assert!(!backlog.is_full());
    }
}

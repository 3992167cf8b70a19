//! How far each sink is, and what it could not deliver.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use parking_lot::Mutex;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    Saved,
    access::Access,
    backlog::Batch,
    ledger::{Extent, Ledger, LedgerError},
    space::Link,
};
use crate::{
    model::UnixMs,
    telemetry::{SINK_DEAD_LETTERS, SINK_LAG, approximate},
};

/// First and last entry of a run without a gap.
pub type Run = (u64, u64);

/// By sink: up to where it has taken all, and what it has taken after that.
pub(super) const POSITIONS: TableDefinition<'_, &str, (u64, Vec<Run>)> =
    TableDefinition::new("sinks");
/// What was given up, by sink and entry: a [`DeadLetter`] as JSON.
pub(super) const LETTERS: TableDefinition<'_, (&str, u64), &[u8]> =
    TableDefinition::new("sink_letters");

/// How far a sink is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// It has taken everything up to this entry.
    pub cursor: u64,
    /// What it has taken after that, in order: it went ahead of entries that wait.
    pub ahead: Vec<Run>,
}

/// An entry that a sink could not deliver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// When it was given up.
    pub at: UnixMs,
    /// How often it was tried.
    pub tries: u32,
    /// Why it was given up.
    pub problem: String,
    /// Whether it is to be tried again.
    pub retry: bool,
    /// The entry as it is given out, a line of JSON: it outlives that of the ledger.
    pub entry: String,
}

/// Dead letters of a sink, in order.
#[derive(Debug)]
pub struct Letters {
    /// With the entry's number.
    pub letters: Vec<(u64, DeadLetter)>,
    /// After which number there may be more; `None` if there are no more.
    pub next: Option<u64>,
}

/// A sink's trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// Of the first failure in a row.
    pub since: UnixMs,
    /// Failures since then.
    pub failures: u64,
    /// The latest.
    pub problem: String,
}

impl Failing {
    /// One more failure, the first where there was none.
    pub(crate) fn again(failing: &mut Option<Self>, problem: String) {
        let failures = failing.as_ref().map_or(0, |before| before.failures) + 1;
        let since = failing
            .as_ref()
            .map_or_else(UnixMs::now, |before| before.since);
        *failing = Some(Self {
            since,
            failures,
            problem,
        });
    }
}

/// What is known of sinks without asking the disk.
#[derive(Default)]
pub(super) struct Counts {
    letters: Mutex<BTreeMap<Arc<str>, u64>>,
    cursors: Mutex<BTreeMap<Arc<str>, u64>>,
    /// Of files.
    failing: Mutex<BTreeMap<Arc<str>, Failing>>,
}

impl Counts {
    pub(super) fn load(transaction: &ReadTransaction) -> Result<Self, redb::Error> {
        let counts = Self::default();
        let table = transaction.open_table(LETTERS)?;
        for row in table.iter()? {
            let (name, _) = row?;
            *counts
                .letters
                .lock()
                .entry(name.value().0.into())
                .or_default() += 1;
        }
        Ok(counts)
    }

    /// A sink has taken everything up to there.
    pub(super) fn reached(&self, sink: &Arc<str>, cursor: u64) {
        self.cursors.lock().insert(Arc::clone(sink), cursor);
    }

    /// A file cannot be brought up to date.
    pub(super) fn fails(&self, sink: &Arc<str>, problem: String) {
        let mut all = self.failing.lock();
        let mut failing = all.remove(sink);
        Failing::again(&mut failing, problem);
        all.extend(failing.map(|failing| (Arc::clone(sink), failing)));
    }

    /// A file is brought up to date.
    pub(super) fn works(&self, sink: &Arc<str>) {
        self.failing.lock().remove(sink);
    }

    /// Sinks that have dead letters, configured or not.
    pub(super) fn with_letters(&self) -> Vec<Arc<str>> {
        let letters = self.letters.lock();
        let some = letters.iter().filter(|(_, number)| **number > 0);
        some.map(|(sink, _)| Arc::clone(sink)).collect()
    }

    /// By sink, how far it is and how many dead letters it has.
    pub(super) fn measure(&self, last: u64) {
        let letters = self.letters.lock().clone();
        for (sink, cursor) in &*self.cursors.lock() {
            let name = || sink.to_string();
            let lag = approximate(last.saturating_sub(*cursor));
            metrics::gauge!(SINK_LAG, "sink" => name()).set(lag);
            let letters = approximate(letters.get(sink).copied().unwrap_or_default());
            metrics::gauge!(SINK_DEAD_LETTERS, "sink" => name()).set(letters);
        }
    }

    pub(super) fn change(&self, changes: &BTreeMap<Arc<str>, i64>) {
        let mut letters = self.letters.lock();
        for (sink, change) in changes {
            let count = letters.entry(Arc::clone(sink)).or_default();
            *count = count.saturating_add_signed(*change);
        }
    }
}

/// The position that is on the disk; `None` for a sink that is new.
pub(super) fn position(
    transaction: &ReadTransaction,
    sink: &str,
) -> Result<Option<Position>, redb::Error> {
    let table = transaction.open_table(POSITIONS)?;
    Ok(table.get(sink)?.map(|row| {
        let (cursor, ahead) = row.value();
        Position { cursor, ahead }
    }))
}

pub(super) fn save_position(
    transaction: &WriteTransaction,
    sink: &str,
    position: &Position,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(POSITIONS)?;
    table.insert(sink, (position.cursor, position.ahead.clone()))?;
    Ok(())
}

/// Writes the letters of a batch. By how much the number of each sink's changes.
pub(super) fn save_letters(
    transaction: &WriteTransaction,
    batch: &Batch,
) -> Result<BTreeMap<Arc<str>, i64>, redb::Error> {
    let mut changes = BTreeMap::new();
    if batch.letters.is_empty() {
        return Ok(changes);
    }
    let mut table = transaction.open_table(LETTERS)?;
    for ((sink, seq), letter) in &batch.letters {
        let name = (&**sink, *seq);
        let change: &mut i64 = changes.entry(Arc::clone(sink)).or_default();
        match letter {
            Some(letter) => *change += i64::from(table.insert(name, &**letter)?.is_none()),
            None => *change -= i64::from(table.remove(name)?.is_some()),
        }
    }
    Ok(changes)
}

/// One sink's place in the store.
#[derive(Clone)]
pub struct SinkState {
    pub(super) name: Arc<str>,
    pub(super) access: Arc<Access>,
    pub(super) disk: Link,
    pub(super) ledger: Ledger,
    pub(super) counts: Arc<Counts>,
}

impl SinkState {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How far it was when that was last written; a new sink begins with the first entry that
    /// is kept. Blocks.
    ///
    /// # Errors
    ///
    /// If the database cannot be read.
    pub fn position(&self) -> Result<Position, LedgerError> {
        let position = self
            .access
            .read(|transaction| position(transaction, &self.name))?;
        Ok(position.unwrap_or_else(|| Position {
            cursor: self.ledger.extent().anchor.seq,
            ahead: Vec::new(),
        }))
    }

    /// Notes how far the sink is, without waiting for the disk. After a crash it may be
    /// somewhat less far.
    pub fn reached(&self, position: Position) {
        self.counts.reached(&self.name, position.cursor);
        let added: Result<u64, Infallible> = self.disk.backlog.add(|batch| {
            batch.positions.insert(Arc::clone(&self.name), position);
            Ok(())
        });
        let Ok(_) = added;
    }

    /// Entries that it has not taken yet, or that follow one which it has not taken.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let Extent { anchor, head, .. } = self.ledger.extent();
        let cursor = self.counts.cursors.lock().get(&self.name).copied();
        head.seq.saturating_sub(cursor.unwrap_or(anchor.seq))
    }

    /// Number of dead letters on the disk.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        let letters = self.counts.letters.lock();
        letters.get(&self.name).copied().unwrap_or_default()
    }

    /// What is wrong, if it is a file that cannot be brought up to date.
    #[must_use]
    pub fn failing(&self) -> Option<Failing> {
        self.counts.failing.lock().get(&self.name).cloned()
    }

    /// Dead letters, those after an entry's number. Blocks.
    ///
    /// # Errors
    ///
    /// If the database cannot be read.
    pub fn letters(&self, after: Option<u64>, limit: usize) -> Result<Letters, LedgerError> {
        let read = self.access.read(|transaction| {
            let table = transaction.open_table(LETTERS)?;
            let first = after.map_or(0, |after| after.saturating_add(1));
            let mut letters = Vec::new();
            let mut next = None;
            for row in table.range((&*self.name, first)..=(&*self.name, u64::MAX))? {
                if letters.len() == limit {
                    next = letters.last().map(|(seq, _)| *seq);
                    break;
                }
                let (name, letter) = row?;
                // One that somebody has spoilt by hand is left out.
                if let Ok(letter) = serde_json::from_slice(letter.value()) {
                    letters.push((name.value().1, letter));
                }
            }
            Ok(Letters { letters, next })
        });
        Ok(read?)
    }

    /// One dead letter. Blocks.
    ///
    /// # Errors
    ///
    /// If the database cannot be read.
    pub fn letter(&self, seq: u64) -> Result<Option<DeadLetter>, LedgerError> {
        let after = seq.checked_sub(1);
        let found = self.letters(after, 1)?.letters.pop();
        Ok(found
            .filter(|(found, _)| *found == seq)
            .map(|(_, letter)| letter))
    }

    /// Writes dead letters, or removes them where they are `None`, together.
    #[must_use = "the letters are on the disk when this says so"]
    pub fn put_letters(
        &self,
        letters: impl IntoIterator<Item = (u64, Option<DeadLetter>)>,
    ) -> Saved {
        let letters = letters.into_iter().map(|(seq, letter)| {
            // A letter has no keys but texts.
            let letter = letter.map(|letter| serde_json::to_vec(&letter).unwrap_or_default());
            (seq, letter.map(Vec::into_boxed_slice))
        });
        let letters: Vec<_> = letters.collect();
        let added: Result<u64, Infallible> = self.disk.backlog.add(|batch| {
            for (seq, letter) in letters {
                batch.add_letter(&self.name, seq, letter);
            }
            Ok(())
        });
        let Ok(sequence) = added;
        Saved::new(sequence, &self.disk)
    }
}

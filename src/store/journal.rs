//! What the server itself notes, before anybody is told of it.
//!
//! A [`Note`] is an entry of the [ledger](super::ledger) and, in the same transaction, what
//! follows from it: which owners are *owed* the fact, that is have yet to be told, and what
//! is *open* with it, that is what a crash would leave unfinished. So after a crash there is
//! all of a note or nothing.
//!
//! Who has been told says so by [`Staged::settles`](super::Staged::settles), in the
//! transaction of whatever being told has led to. What is owed or open when the store is
//! opened is what an earlier run has left: [`Store::owed`], [`Store::open_rows`].

use std::{
    collections::{BTreeMap, HashSet},
    convert::Infallible,
    sync::Arc,
};

use parking_lot::Mutex;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde_json::Value;
use uuid::Uuid;

use super::{
    DiskBehind, Saved, Store,
    backlog::{Batch, OpenChange},
    ledger::{Draft, Said},
};
use crate::model::{ProducerId, UnixMs, UserId};

type FactName = (&'static str, &'static [u8; 16]);
type Call = (u64, &'static [u8]);

/// What owners have yet to be told, by owner and fact: its place in the order, and the call.
const OWED: TableDefinition<'_, FactName, Call> = TableDefinition::new("owed");
/// What a crash would leave unfinished, by a key of whoever keeps it.
const OPEN: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("open");

/// Something that has happened and is to be on the disk before anybody is told.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// Unique for good: the entry's `id`, and what the fact is settled by.
    pub id: Uuid,
    /// When it happened.
    pub at: UnixMs,
    /// What the entry is about.
    pub topic: &'a str,
    /// The room; empty if it belongs to none.
    pub room: &'a str,
    /// Whom it is about.
    pub user: Option<UserId>,
    /// Which stream it is about.
    pub producer: Option<ProducerId>,
    /// What the entry says besides.
    pub payload: &'a Value,
    /// The owners that have yet to be told, each with its call.
    pub owed: &'a [(Arc<str>, Box<[u8]>)],
    /// New values of open rows; `None` where one is over.
    pub open: &'a [(String, Option<Box<[u8]>>)],
}

/// A fact that an owner has yet to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The note's id.
    pub fact: Uuid,
    /// The call, as the note had it.
    pub call: Box<[u8]>,
}

/// What the database has from an earlier run.
#[derive(Default)]
pub(super) struct Found {
    /// By owner, oldest first.
    owed: BTreeMap<String, Vec<Owed>>,
    open: Vec<(String, Box<[u8]>)>,
    /// Above all places in the order that were given.
    next_place: u64,
}

impl Found {
    pub(super) fn load(transaction: &ReadTransaction) -> Result<Self, redb::Error> {
        let mut found = Self::default();
        let mut placed: BTreeMap<String, BTreeMap<u64, Owed>> = BTreeMap::new();
        for row in transaction.open_table(OWED)?.iter()? {
            let (name, value) = row?;
            let ((owner, fact), (place, call)) = (name.value(), value.value());
            let owed = Owed {
                fact: Uuid::from_bytes(*fact),
                call: call.into(),
            };
            let of_owner = placed.entry(owner.to_owned()).or_default();
            of_owner.insert(place, owed);
            found.next_place = found.next_place.max(place.saturating_add(1));
        }
        let in_order = |(owner, owed): (String, BTreeMap<u64, Owed>)| {
            let owed: Vec<_> = owed.into_values().collect();
            (owner, owed)
        };
        found.owed = placed.into_iter().map(in_order).collect();
        for row in transaction.open_table(OPEN)?.iter()? {
            let (key, value) = row?;
            let row = (key.value().to_owned(), value.value().into());
            found.open.push(row);
        }
        Ok(found)
    }
}

/// Makes the tables. Nothing happens where they are.
pub(super) fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(OWED)?;
    transaction.open_table(OPEN)?;
    Ok(())
}

/// Writes what of the batch is owed, settled, open and over.
pub(super) fn save(transaction: &WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    if !batch.owed.is_empty() {
        let mut table = transaction.open_table(OWED)?;
        for ((owner, fact), change) in &batch.owed {
            let name = (&**owner, fact.as_bytes());
            match change {
                Some((place, call)) => table.insert(name, (*place, &**call))?,
                None => table.remove(name)?,
            };
        }
    }
    if !batch.open.is_empty() {
        let mut table = transaction.open_table(OPEN)?;
        for (key, change) in &batch.open {
            match change {
                Some(value) => table.insert(&**key, &**value)?,
                None => table.remove(&**key)?,
            };
        }
    }
    Ok(())
}

/// The journal's side in memory.
pub(super) struct Journal {
    state: Mutex<State>,
    found_owed: Mutex<BTreeMap<String, Vec<Owed>>>,
    found_open: Mutex<Vec<(String, Box<[u8]>)>>,
}

/// As the backlog will leave it. Changed under the backlog's lock.
struct State {
    next_place: u64,
    /// The keys of the open rows.
    open: HashSet<Box<str>>,
}

impl Journal {
    pub(super) fn new(found: Found) -> Self {
        for (owner, owed) in &found.owed {
            let facts = owed.len();
            tracing::info!(owner, facts, "facts of an earlier run have yet to be told");
        }
        let open = found.open.iter().map(|(key, _)| key.as_str().into());
        Self {
            state: Mutex::new(State {
                next_place: found.next_place,
                open: open.collect(),
            }),
            found_owed: Mutex::new(found.owed),
            found_open: Mutex::new(found.open),
        }
    }
}

impl State {
    fn change(&mut self, batch: &mut Batch, key: &str, change: OpenChange) {
        match &change {
            Some(_) if self.open.contains(key) => {}
            Some(_) => drop(self.open.insert(key.into())),
            None => drop(self.open.remove(key)),
        }
        batch.put_open(key, change);
    }
}

impl Store {
    /// Notes a fact: its entry, what is owed because of it, and what is open or over with it
    /// go to the disk together. [`Saved::wait`] tells when they are there.
    ///
    /// # Errors
    ///
    /// If so much waits for the disk already that nothing can be added. Nothing is noted then.
    pub fn note(&self, note: &Note<'_>) -> Result<Saved, DiskBehind> {
        let draft = Draft::new(&Said {
            at: note.at,
            id: note.id,
            plugin: None,
            room: note.room,
            user: note.user,
            producer: note.producer,
            topic: note.topic,
            payload: note.payload,
        });
        let sequence = self.write(|state, batch| {
            batch.add_drafts(vec![draft]);
            for (owner, call) in note.owed {
                let owed = (state.next_place, call.clone());
                batch.put_owed(owner, note.id, Some(owed));
            }
            state.next_place += 1;
            for (key, change) in note.open {
                state.change(batch, key, change.clone());
            }
        })?;
        Ok(Saved::new(sequence, &self.open.disk))
    }

    /// Sets open rows, or removes them where they are `None`, without an entry and without
    /// waiting for the disk: of several values of a row, the disk may get the latest only.
    ///
    /// # Errors
    ///
    /// If so much waits for the disk already that nothing can be added. Nothing is changed then.
    pub fn keep_open(&self, rows: Vec<(String, Option<Box<[u8]>>)>) -> Result<(), DiskBehind> {
        self.write(|state, batch| {
            for (key, change) in rows {
                state.change(batch, &key, change);
            }
        })?;
        Ok(())
    }

    /// As [`Self::keep_open`], for rows that are open: one that is over, perhaps since the
    /// value was asked for, stays so.
    ///
    /// # Errors
    ///
    /// As [`Self::keep_open`].
    pub fn refresh_open(&self, rows: Vec<(String, Box<[u8]>)>) -> Result<(), DiskBehind> {
        self.write(|state, batch| {
            for (key, value) in rows {
                if state.open.contains(key.as_str()) {
                    batch.put_open(&key, Some(value));
                }
            }
        })?;
        Ok(())
    }

    /// The rows that were open when the store was opened, in the order of their keys. They
    /// are given out once, and stay open until somebody says otherwise.
    #[must_use]
    pub fn open_rows(&self) -> Vec<(String, Box<[u8]>)> {
        std::mem::take(&mut *self.open.journal.found_open.lock())
    }

    /// What the owner was owed when the store was opened, oldest first. It is given out once,
    /// and stays owed until it is settled or forgiven.
    #[must_use]
    pub fn owed(&self, owner: &str) -> Vec<Owed> {
        let mut found = self.open.journal.found_owed.lock();
        found.remove(owner).unwrap_or_default()
    }

    /// Gives up telling a fact: it is a [dead letter](Self::dead_letter) and no longer owed,
    /// both or neither.
    ///
    /// # Errors
    ///
    /// If so much waits for the disk already that nothing can be added. It is still owed then.
    pub fn forgive(&self, owner: &str, fact: Uuid, letter: Value) -> Result<(), DiskBehind> {
        self.write(|_, batch| {
            batch.add_dead_letter(super::letter_line(letter));
            batch.put_owed(&owner.into(), fact, None);
        })?;
        Ok(())
    }

    fn write(&self, write: impl FnOnce(&mut State, &mut Batch)) -> Result<u64, DiskBehind> {
        let backlog = &self.open.disk.backlog;
        if backlog.is_full() {
            return Err(DiskBehind);
        }
        let added: Result<u64, Infallible> = backlog.add(|batch| {
            write(&mut self.open.journal.state.lock(), batch);
            Ok(())
        });
        let Ok(sequence) = added;
        Ok(sequence)
    }
}

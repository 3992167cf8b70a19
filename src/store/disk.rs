//! The database and the files beside it.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::Instant,
};

use redb::{DatabaseError, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::{
    StoreError,
    access::{Access, Opener},
    backlog::Batch,
    compact::compact,
    files::FileSink,
    format,
    journal::{self, Found},
    kept::{Contents, Entry},
    ledger::{Extent, oldest},
    lines::{Lines, sync_directory_of},
    outbox::{Outbox, Rows},
    sinks::{self, Counts},
    timers::{TimerName, Timing},
};
use crate::{
    config::{LedgerConfig, SinkConfig, SinkKind},
    model::{RoomId, UnixMs},
    telemetry::STORE_WRITE_ERRORS,
};

/// Values by owner and key.
pub(super) const KEYS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("keys");
/// When keys are gone, by owner and key, for those that have an end: Unix milliseconds.
pub(super) const EXPIRIES: TableDefinition<'_, (&str, &str), u64> =
    TableDefinition::new("expiries");
/// Timers by owner, room and key: when they are due, in Unix milliseconds, and after how
/// many milliseconds again.
pub(super) const TIMERS: TableDefinition<'_, (&str, &str, &str), (u64, Option<u64>)> =
    TableDefinition::new("timers");
/// Dead letters.
pub(super) const DEAD_LETTERS: Rows = TableDefinition::new("dead_letters");

/// In the data directory.
pub(super) const DATABASE_FILE: &str = "plugins.redb";

/// What the database has.
pub(super) struct Loaded {
    /// By owner.
    pub(super) spaces: HashMap<String, Contents>,
    pub(super) journal: Found,
}

pub(super) struct Disk {
    access: Arc<Access>,
    keep: LedgerConfig,
    extent: Extent,
    /// When the first entry of the ledger was made.
    oldest: Option<UnixMs>,
    files: Vec<FileSink>,
    /// How far the other sinks are, as far as that is on the disk.
    cursors: HashMap<Arc<str>, u64>,
    counts: Arc<Counts>,
    dead_letters: Outbox,
}

/// What a transaction comes to, once it is committed.
#[must_use]
pub(super) struct Written {
    extent: Extent,
    letters: BTreeMap<Arc<str>, i64>,
}

impl Disk {
    pub(super) fn open(
        data_dir: &Path,
        opener: Opener,
        ledger: &LedgerConfig,
        sinks: &[SinkConfig],
    ) -> Result<(Self, Loaded), StoreError> {
        let path = data_dir.join(DATABASE_FILE);
        let access = Access::open(path.clone(), opener).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.clone() },
            error => database_error(&path, error),
        })?;
        format::bring(&access, data_dir)?;
        sync_directory_of(&path).map_err(|source| file_error(data_dir, source))?;
        let dead_letters = open_lines(&data_dir.join(super::DEAD_LETTERS_FILE))?;
        let mut cursors = HashMap::new();
        let read = access.read(|transaction| {
            let extent = Extent::load(transaction)?;
            for sink in sinks {
                let position = sinks::position(transaction, &sink.name)?;
                let cursor = position.map_or(0, |position| position.cursor);
                // What a sink has missed while it was not configured is gone; and what it has
                // taken of a ledger of which this is an older copy will not come again.
                let cursor = cursor.clamp(extent.anchor.seq, extent.head.seq);
                cursors.insert(Arc::from(sink.name.as_str()), cursor);
            }
            Ok((
                extent,
                oldest(transaction)?,
                load(transaction)?,
                Counts::load(transaction)?,
                Outbox::load(DEAD_LETTERS, transaction, dead_letters)?,
            ))
        });
        let (extent, oldest, loaded, counts, dead_letters) =
            read.map_err(|error| database_error(&path, error))?;
        let keys: usize = loaded.spaces.values().map(Contents::bytes).sum();
        compact(&access, extent.bytes + keys as u64)
            .map_err(|error| database_error(&path, error))?;
        let mut files = Vec::new();
        for sink in sinks {
            if let SinkKind::File { file } = &sink.kind {
                let lines = open_lines(&data_dir.join(file))?;
                let cursor = cursors.remove(sink.name.as_str()).unwrap_or_default();
                files.push(FileSink::new(
                    &sink.name,
                    sink.topics.clone(),
                    lines,
                    cursor,
                ));
            }
        }
        // Of files, which the store looks after, and of the others until they say more.
        for (sink, cursor) in &cursors {
            counts.reached(sink, *cursor);
        }
        let disk = Self {
            access: Arc::new(access),
            keep: ledger.clone(),
            extent,
            oldest,
            files,
            cursors,
            counts: Arc::new(counts),
            dead_letters,
        };
        Ok((disk, loaded))
    }

    pub(super) fn path(&self) -> &Path {
        self.access.path()
    }

    pub(super) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    pub(super) fn extent(&self) -> Extent {
        self.extent
    }

    /// Lines of dead letters that are in the database and not in their file yet.
    pub(super) fn undelivered(&self) -> usize {
        self.dead_letters.undelivered()
    }

    /// Entries that are not in a file that takes them yet.
    pub(super) fn file_lag(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let last = self.extent.head.seq;
        let lag = move |file: &FileSink| last.saturating_sub(file.cursor());
        self.files.iter().map(move |file| (file.name(), lag(file)))
    }

    fn is_delivered(&self) -> bool {
        self.undelivered() == 0 && self.file_lag().all(|(_, lag)| lag == 0)
    }

    /// One transaction: the batch, how far the files are, delivered lines out of the outbox.
    pub(super) fn save(&self, batch: &Batch) -> Result<Written, redb::Error> {
        self.access.write(|database| {
            let transaction = database.begin_write()?;
            save_keys(&transaction, batch)?;
            save_timers(&transaction, batch)?;
            let extent = self.extent.append(&transaction, &batch.drafts)?;
            for (sink, position) in &batch.positions {
                sinks::save_position(&transaction, sink, position)?;
            }
            journal::save(&transaction, batch)?;
            for file in &self.files {
                file.save(&transaction)?;
            }
            let letters = sinks::save_letters(&transaction, batch)?;
            self.dead_letters.save(&transaction, &batch.dead_letters)?;
            transaction.commit()?;
            Ok(Written { extent, letters })
        })
    }

    /// Takes over what [`Self::save`] has written.
    pub(super) fn saved(&mut self, batch: Batch, written: &Written) {
        self.extent = written.extent;
        if self.oldest.is_none() && !batch.drafts.is_empty() {
            self.oldest = Some(UnixMs::now());
        }
        for (sink, position) in batch.positions {
            if let Some(cursor) = self.cursors.get_mut(&sink) {
                *cursor = position.cursor;
            }
        }
        for file in &mut self.files {
            file.saved();
        }
        self.counts.change(&written.letters);
        self.dead_letters.saved(batch.dead_letters);
    }

    /// Whether the ledger has something at its front that need not be kept and every sink has
    /// taken.
    pub(super) fn may_cut(&self, now: UnixMs) -> bool {
        let floor = self.floor();
        self.extent.may_cut(&self.keep, floor, self.oldest, now)
    }

    /// The last entry that every sink has taken.
    fn floor(&self) -> u64 {
        let files = self.files.iter().map(FileSink::cursor);
        let floor = self.cursors.values().copied().chain(files).min();
        floor.unwrap_or(u64::MAX).min(self.extent.head.seq)
    }

    /// Cuts that off. Not more than one transaction's worth; whether there may be more.
    pub(super) fn cut(&mut self, now: UnixMs) -> Result<bool, redb::Error> {
        let floor = self.floor();
        let (extent, oldest) = self.access.write(|database| {
            let transaction = database.begin_write()?;
            let cut = self.extent.cut(&transaction, &self.keep, floor, now)?;
            for file in &self.files {
                file.save(&transaction)?;
            }
            transaction.commit()?;
            Ok(cut)
        })?;
        for file in &mut self.files {
            file.saved();
        }
        let progress = extent != self.extent;
        (self.extent, self.oldest) = (extent, oldest);
        Ok(progress)
    }

    /// Appends to the files what is not there yet; a file that has failed lately is left
    /// for later unless `at_once`. Whether nothing is left.
    pub(super) fn deliver(&mut self, at_once: bool) -> bool {
        if let Err(error) = self.dead_letters.deliver(at_once) {
            report(self.dead_letters.path(), &error);
        }
        let last = self.extent.head.seq;
        for file in &mut self.files {
            match file.deliver(&self.access, last, at_once) {
                // Else it is not to be tried yet.
                Ok(()) if file.next_try().is_none() => self.counts.works(file.name()),
                Ok(()) => {}
                Err(error) => {
                    let problem = format!("{}: {error}", file.path().display());
                    self.counts.fails(file.name(), problem);
                    report(file.path(), &error);
                }
            }
        }
        self.is_delivered()
    }

    /// Whether a file has taken a portion and is to take another: its cursor is to be saved
    /// in between.
    pub(super) fn has_more(&self) -> bool {
        let last = self.extent.head.seq;
        let more = |file: &FileSink| file.cursor() < last && file.next_try().is_none();
        self.files.iter().any(more)
    }

    /// When a file that has failed is to be tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        let files = self.files.iter().map(FileSink::next_try);
        files.chain([self.dead_letters.next_try()]).flatten().min()
    }
}

fn save_keys(transaction: &WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    if batch.keys.is_empty() {
        return Ok(());
    }
    let mut keys = transaction.open_table(KEYS)?;
    let mut expiries = transaction.open_table(EXPIRIES)?;
    for ((owner, key), change) in &batch.keys {
        let name = (&**owner, &**key);
        match change {
            Some(entry) => keys.insert(name, &*entry.value)?,
            None => keys.remove(name)?,
        };
        match change.as_ref().and_then(|entry| entry.until) {
            Some(until) => expiries.insert(name, until.0)?,
            None => expiries.remove(name)?,
        };
    }
    Ok(())
}

fn save_timers(transaction: &WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    if batch.timers.is_empty() {
        return Ok(());
    }
    let mut timers = transaction.open_table(TIMERS)?;
    for ((owner, name), change) in &batch.timers {
        let name = (&**owner, name.room.as_str(), &*name.key);
        match change {
            Some(timing) => timers.insert(name, (timing.due.0, timing.every))?,
            None => timers.remove(name)?,
        };
    }
    Ok(())
}

fn load(transaction: &ReadTransaction) -> Result<Loaded, redb::Error> {
    let mut spaces: HashMap<String, Contents> = HashMap::new();
    let expiries = transaction.open_table(EXPIRIES)?;
    for row in transaction.open_table(KEYS)?.iter()? {
        let (name, value) = row?;
        let (owner, key) = name.value();
        let until = expiries.get((owner, key))?;
        let entry = Entry {
            value: value.value().into(),
            until: until.map(|until| UnixMs(until.value())),
        };
        let contents = spaces.entry(owner.to_owned()).or_default();
        contents.entries.insert(Arc::from(key), entry);
    }
    for row in transaction.open_table(TIMERS)?.iter()? {
        let (name, timing) = row?;
        let (owner, room, key) = name.value();
        let (due, every) = timing.value();
        // No other kind of room id was ever written.
        if let Some(room) = RoomId::new(room) {
            let timing = Timing {
                due: UnixMs(due),
                every,
            };
            let contents = spaces.entry(owner.to_owned()).or_default();
            contents.timers.insert(TimerName::new(&room, key), timing);
        }
    }
    Ok(Loaded {
        spaces,
        journal: Found::load(transaction)?,
    })
}

fn open_lines(path: &Path) -> Result<Lines, StoreError> {
    Lines::open(path.to_owned()).map_err(|source| file_error(path, source))
}

pub(super) fn file_error(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::File {
        path: path.to_owned(),
        source,
    }
}

pub(super) fn database_error(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database {
        path: path.to_owned(),
        source: Box::new(error.into()),
    }
}

pub(super) fn report(path: &Path, error: &(dyn std::error::Error + 'static)) {
    metrics::counter!(STORE_WRITE_ERRORS).increment(1);
    tracing::error!(file = %path.display(), error, "cannot write, trying again");
}

//! The database and the files beside it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use super::{
    StoreError,
    backlog::Batch,
    kept::{Contents, Entry},
    lines::{Lines, sync_directory_of},
    outbox::{Outbox, Rows},
    timers::{TimerName, Timing},
};
use crate::{
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
/// Published events.
pub(super) const OUTBOX: Rows = TableDefinition::new("outbox");
/// Dead letters.
pub(super) const DEAD_LETTERS: Rows = TableDefinition::new("dead_letters");
/// Facts about the file itself.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

pub(super) const FORMAT_KEY: &str = "format";
/// Format 1 had no expiries, timers and dead letters: it becomes 2 when they get tables.
pub(super) const FORMAT: u64 = 2;
const OLDEST_FORMAT: u64 = 1;

/// Pages that the database may cache, in bytes. All reads are served from our own memory.
const PAGE_CACHE: usize = 16 << 20;

/// What the database has, by owner.
pub(super) type Loaded = HashMap<String, Contents>;

pub(super) struct Disk {
    path: PathBuf,
    /// `None` after an error, until it could be opened anew.
    database: Option<Database>,
    events: Outbox,
    dead_letters: Outbox,
}

impl Disk {
    pub(super) fn open(data_dir: &Path) -> Result<(Self, Loaded), StoreError> {
        let path = data_dir.join("plugins.redb");
        let database = open_database(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.clone() },
            error => database_error(&path, error),
        })?;
        bring_to_format(&database, &path)?;
        sync_directory_of(&path).map_err(|source| file_error(data_dir, source))?;
        let events = open_lines(&data_dir.join("published.jsonl"))?;
        let dead_letters = open_lines(&data_dir.join(super::DEAD_LETTERS_FILE))?;
        let load = || -> Result<_, redb::Error> {
            let transaction = database.begin_read()?;
            Ok((
                load(&transaction)?,
                Outbox::load(OUTBOX, &transaction, events)?,
                Outbox::load(DEAD_LETTERS, &transaction, dead_letters)?,
            ))
        };
        let (loaded, events, dead_letters) =
            load().map_err(|error| database_error(&path, error))?;
        let disk = Self {
            path,
            database: Some(database),
            events,
            dead_letters,
        };
        Ok((disk, loaded))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lines that are in the database and not in their file yet.
    pub(super) fn undelivered(&self) -> usize {
        self.events.undelivered() + self.dead_letters.undelivered()
    }

    /// One transaction: the batch, its lines into the outboxes, delivered ones out of them.
    pub(super) fn save(&mut self, batch: &Batch) -> Result<(), redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path)?,
        };
        let transaction = database.begin_write()?;
        save_keys(&transaction, batch)?;
        save_timers(&transaction, batch)?;
        self.events.save(&transaction, &batch.events)?;
        self.dead_letters.save(&transaction, &batch.dead_letters)?;
        transaction.commit()?;
        // After an error the database refuses all further work, so it is kept only now.
        self.database = Some(database);
        Ok(())
    }

    /// Takes over the lines that [`Self::save`] has put into the outboxes.
    pub(super) fn saved(&mut self, batch: Batch) {
        self.events.saved(batch.events);
        self.dead_letters.saved(batch.dead_letters);
    }

    /// Appends to the files what is not there yet; a file that has failed lately is left
    /// for later unless `at_once`. Whether nothing is left.
    pub(super) fn deliver(&mut self, at_once: bool) -> bool {
        for outbox in [&mut self.events, &mut self.dead_letters] {
            if let Err(error) = outbox.deliver(at_once) {
                report(outbox.path(), &error);
            }
        }
        self.undelivered() == 0
    }

    /// When a file that has failed is to be tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        let tries = [self.events.next_try(), self.dead_letters.next_try()];
        tries.into_iter().flatten().min()
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

fn open_database(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(PAGE_CACHE).create(path)
}

fn open_lines(path: &Path) -> Result<Lines, StoreError> {
    Lines::open(path.to_owned()).map_err(|source| file_error(path, source))
}

/// Makes the tables of a new database, and those that one of an earlier format lacks.
fn bring_to_format(database: &Database, path: &Path) -> Result<(), StoreError> {
    let bring = || -> Result<Option<u64>, redb::Error> {
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let found = meta.get(FORMAT_KEY)?.map(|value| value.value());
            match found {
                Some(FORMAT) => return Ok(found),
                Some(found) if !(OLDEST_FORMAT..FORMAT).contains(&found) => {
                    return Ok(Some(found));
                }
                Some(_) | None => meta.insert(FORMAT_KEY, FORMAT)?,
            };
            transaction.open_table(KEYS)?;
            transaction.open_table(EXPIRIES)?;
            transaction.open_table(TIMERS)?;
            transaction.open_table(OUTBOX)?;
            transaction.open_table(DEAD_LETTERS)?;
        }
        transaction.commit()?;
        Ok(Some(FORMAT))
    };
    match bring() {
        Ok(Some(FORMAT)) => Ok(()),
        Ok(found) => Err(StoreError::Format {
            path: path.to_owned(),
            found: found.unwrap_or_default(),
            known: FORMAT,
        }),
        Err(error) => Err(database_error(path, error)),
    }
}

fn load(transaction: &ReadTransaction) -> Result<Loaded, redb::Error> {
    let mut loaded = Loaded::new();
    let expiries = transaction.open_table(EXPIRIES)?;
    for row in transaction.open_table(KEYS)?.iter()? {
        let (name, value) = row?;
        let (owner, key) = name.value();
        let until = expiries.get((owner, key))?;
        let entry = Entry {
            value: value.value().into(),
            until: until.map(|until| UnixMs(until.value())),
        };
        let contents = loaded.entry(owner.to_owned()).or_default();
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
            let contents = loaded.entry(owner.to_owned()).or_default();
            contents.timers.insert(TimerName::new(&room, key), timing);
        }
    }
    Ok(loaded)
}

fn file_error(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::File {
        path: path.to_owned(),
        source,
    }
}

fn database_error(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database {
        path: path.to_owned(),
        source: Box::new(error.into()),
    }
}

pub(super) fn report(path: &Path, error: &(dyn std::error::Error + 'static)) {
    metrics::counter!(STORE_WRITE_ERRORS).increment(1);
    tracing::error!(file = %path.display(), error, "cannot write, trying again");
}

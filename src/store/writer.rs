//! The thread that brings changes to the disk: one transaction for all that waits.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::watch;

use super::{
    StoreError,
    published::{Published, sync_directory_of},
    space::Change,
};

/// Keys by owner and name.
const KEYS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("keys");
/// Events that may not be in the file yet, in order: each the line as it will be there.
const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox");
/// Facts about the file itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const FORMAT_KEY: &str = "format";
const FORMAT: u64 = 1;

/// Pages that the database may cache, in bytes. All reads are served from our own memory.
const PAGE_CACHE: usize = 16 << 20;

/// Bytes that may wait for the disk before further changes are refused.
const BACKLOG_BYTES: usize = 256 << 20;

/// The wait after a failed write doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How far the disk is, as sequence numbers of [`Backlog::add`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Up to here all is in the database.
    pub(super) saved: u64,
    /// Up to here all events are in their file.
    pub(super) delivered: u64,
}

/// What waits for the disk.
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

#[derive(Default)]
struct Batch {
    changes: BTreeMap<(Arc<str>, String), Change>,
    lines: Vec<Box<[u8]>>,
    bytes: usize,
    sequence: u64,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.lines.is_empty()
    }

    /// Adds a change of a key. A newer one replaces what is there, an older one does not.
    fn add(&mut self, key: (Arc<str>, String), change: Change, newer: bool) {
        let size = |change: &Change| change.as_ref().map_or(0, |value| value.len());
        match self.changes.entry(key) {
            Entry::Vacant(entry) => {
                self.bytes += entry.key().1.len() + size(&change);
                entry.insert(change);
            }
            Entry::Occupied(mut entry) if newer => {
                self.bytes = (self.bytes + size(&change)).saturating_sub(size(entry.get()));
                entry.insert(change);
            }
            Entry::Occupied(_) => {}
        }
    }
}

impl Backlog {
    /// Adds a set of changes and runs `apply` before any other set can be added.
    pub(super) fn add(
        &self,
        owner: &Arc<str>,
        changes: BTreeMap<String, Change>,
        lines: Vec<Box<[u8]>>,
        apply: impl FnOnce(&BTreeMap<String, Change>),
    ) -> u64 {
        let mut waiting = self.waiting.lock();
        apply(&changes);
        let Waiting {
            batch, sequence, ..
        } = &mut *waiting;
        *sequence += 1;
        batch.sequence = *sequence;
        for (key, change) in changes {
            batch.add((Arc::clone(owner), key), change, true);
        }
        batch.bytes += lines.iter().map(|line| line.len()).sum::<usize>();
        batch.lines.extend(lines);
        self.full
            .store(batch.bytes > BACKLOG_BYTES, Ordering::Relaxed);
        let sequence = *sequence;
        drop(waiting);
        self.arrived.notify_one();
        sequence
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

    /// Waits for work or the stop. Whether it is the stop.
    fn wait(&self) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.batch.is_empty() && !waiting.stopped {
            self.arrived.wait(&mut waiting);
        }
        waiting.stopped
    }

    /// All that waits now.
    fn take(&self) -> Batch {
        let mut waiting = self.waiting.lock();
        self.full.store(false, Ordering::Relaxed);
        std::mem::take(&mut waiting.batch)
    }

    /// Gives back what could not be written; what was added since is newer.
    fn give_back(&self, failed: Batch) {
        let mut waiting = self.waiting.lock();
        let batch = &mut waiting.batch;
        batch.sequence = batch.sequence.max(failed.sequence);
        for (key, change) in failed.changes {
            batch.add(key, change, false);
        }
        batch.bytes += failed.lines.iter().map(|line| line.len()).sum::<usize>();
        let newer = std::mem::replace(&mut batch.lines, failed.lines);
        batch.lines.extend(newer);
        self.full
            .store(batch.bytes > BACKLOG_BYTES, Ordering::Relaxed);
    }

    /// Sleeps, unless the store is stopped meanwhile. Whether it is.
    fn pause(&self, length: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        let end = Instant::now() + length;
        while !waiting.stopped && !self.arrived.wait_until(&mut waiting, end).timed_out() {}
        waiting.stopped
    }
}

/// The two files.
pub(super) struct Disk {
    path: PathBuf,
    /// `None` after an error, until it could be opened anew.
    database: Option<Database>,
    published: Published,
    /// Outbox rows that are not in the file yet.
    undelivered: Vec<(u64, Box<[u8]>)>,
    /// Outbox rows that are, and can go with the next transaction.
    delivered: Vec<u64>,
    /// Whether the file may have some of `undelivered` all the same.
    doubtful: bool,
    next_row: u64,
}

type Loaded = HashMap<String, BTreeMap<String, Arc<[u8]>>>;

impl Disk {
    pub(super) fn open(data_dir: &Path) -> Result<(Self, Loaded), StoreError> {
        let path = data_dir.join("plugins.redb");
        let database = open_database(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.clone() },
            error => database_error(&path, error),
        })?;
        check_format(&database, &path)?;
        let (loaded, undelivered) =
            load(&database).map_err(|error| database_error(&path, error))?;
        let published_path = data_dir.join("published.jsonl");
        let published = Published::open(published_path.clone())
            .and_then(|published| sync_directory_of(&path).map(|()| published))
            .map_err(|source| StoreError::File {
                path: published_path,
                source,
            })?;
        let next_row = undelivered.last().map_or(0, |(row, _)| row + 1);
        let disk = Self {
            path,
            database: Some(database),
            published,
            doubtful: !undelivered.is_empty(),
            undelivered,
            delivered: Vec::new(),
            next_row,
        };
        Ok((disk, loaded))
    }

    /// One transaction: the batch, its events into the outbox, delivered ones out of it.
    fn save(&mut self, batch: &Batch) -> Result<(), redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path)?,
        };
        let transaction = database.begin_write()?;
        {
            let mut keys = transaction.open_table(KEYS)?;
            for ((owner, key), change) in &batch.changes {
                let key = (&**owner, key.as_str());
                match change {
                    Some(value) => keys.insert(key, &**value)?,
                    None => keys.remove(key)?,
                };
            }
            let mut outbox = transaction.open_table(OUTBOX)?;
            for row in &self.delivered {
                outbox.remove(row)?;
            }
            for (row, line) in (self.next_row..).zip(&batch.lines) {
                outbox.insert(row, &**line)?;
            }
        }
        transaction.commit()?;
        // After an error the database refuses all further work, so it is kept only now.
        self.database = Some(database);
        self.delivered.clear();
        Ok(())
    }

    /// Takes over the lines that [`Self::save`] has put into the outbox.
    fn saved(&mut self, lines: Vec<Box<[u8]>>) {
        for line in lines {
            self.undelivered.push((self.next_row, line));
            self.next_row += 1;
        }
    }

    /// Appends to the file what is not there yet.
    fn deliver(&mut self) -> std::io::Result<()> {
        if self.undelivered.is_empty() {
            return Ok(());
        }
        let rows: Vec<u64> = self.undelivered.iter().map(|(row, _)| *row).collect();
        if self.doubtful {
            let lines = self.undelivered.iter().map(|(_, line)| &**line).collect();
            let missing = self.published.without_present(lines)?;
            self.published.append(missing.into_iter())?;
        } else {
            self.doubtful = true;
            self.published
                .append(self.undelivered.iter().map(|(_, line)| &**line))?;
        }
        self.doubtful = false;
        self.undelivered.clear();
        self.delivered.extend(rows);
        Ok(())
    }
}

/// Runs until the backlog is stopped and empty.
pub(super) fn run(mut disk: Disk, backlog: &Backlog, progress: &watch::Sender<Progress>) {
    let mut retry = RETRY.0;
    if let Err(error) = disk.deliver() {
        report(disk.published.path(), &error);
    }
    loop {
        let stopped = if disk.undelivered.is_empty() {
            backlog.wait()
        } else {
            // Tried again even if nothing new arrives.
            let stopped = backlog.pause(retry);
            retry = RETRY.1.min(retry * 2);
            stopped
        };
        let batch = backlog.take();
        if stopped && batch.is_empty() && disk.undelivered.is_empty() {
            break;
        }
        if !batch.is_empty() {
            let began = Instant::now();
            if let Err(error) = disk.save(&batch) {
                report(&disk.path, &error);
                backlog.give_back(batch);
                if backlog.pause(retry) {
                    break;
                }
                retry = RETRY.1.min(retry * 2);
                continue;
            }
            metrics::histogram!("voice_room_store_commit_seconds").record(began.elapsed());
            let sequence = batch.sequence;
            disk.saved(batch.lines);
            progress.send_modify(|progress| progress.saved = sequence);
        }
        match disk.deliver() {
            Ok(()) => {
                retry = RETRY.0;
                progress.send_modify(|progress| progress.delivered = progress.saved);
            }
            Err(error) => {
                report(disk.published.path(), &error);
                if stopped {
                    break;
                }
            }
        }
    }
    let lost = backlog.take();
    if !lost.is_empty() || !disk.undelivered.is_empty() {
        tracing::error!(
            keys = lost.changes.len(),
            events = lost.lines.len(),
            in_outbox = disk.undelivered.len(),
            "the server stops before all could be written: keys and events are lost, \
             events in the outbox are delivered at the next start"
        );
    }
}

fn report(path: &Path, error: &(dyn std::error::Error + 'static)) {
    metrics::counter!("voice_room_store_write_errors_total").increment(1);
    tracing::error!(file = %path.display(), error, "cannot write, trying again");
}

fn open_database(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(PAGE_CACHE).create(path)
}

fn check_format(database: &Database, path: &Path) -> Result<(), StoreError> {
    let read = || -> Result<u64, redb::Error> {
        let transaction = database.begin_write()?;
        let found = {
            let mut meta = transaction.open_table(META)?;
            let found = meta.get(FORMAT_KEY)?.map(|value| value.value());
            match found {
                Some(found) => found,
                None => {
                    meta.insert(FORMAT_KEY, FORMAT)?;
                    transaction.open_table(KEYS)?;
                    transaction.open_table(OUTBOX)?;
                    FORMAT
                }
            }
        };
        transaction.commit()?;
        Ok(found)
    };
    match read() {
        Ok(FORMAT) => Ok(()),
        Ok(found) => Err(StoreError::Format {
            path: path.to_owned(),
            found,
            known: FORMAT,
        }),
        Err(error) => Err(database_error(path, error)),
    }
}

type Rows = Vec<(u64, Box<[u8]>)>;

fn load(database: &Database) -> Result<(Loaded, Rows), redb::Error> {
    let transaction = database.begin_read()?;
    let mut loaded = Loaded::new();
    for row in transaction.open_table(KEYS)?.iter()? {
        let (name, value) = row?;
        let (owner, key) = name.value();
        let values = loaded.entry(owner.to_owned()).or_default();
        values.insert(key.to_owned(), value.value().into());
    }
    let mut rows = Rows::new();
    for row in transaction.open_table(OUTBOX)?.iter()? {
        let (number, line) = row?;
        rows.push((number.value(), line.value().into()));
    }
    Ok((loaded, rows))
}

fn database_error(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database {
        path: path.to_owned(),
        source: Box::new(error.into()),
    }
}

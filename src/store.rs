//! What must survive a restart: each owner's keys and timers, the events that were
//! published, the facts that the server has noted, and dead letters.
//!
//! Keys and timers live in memory, where reads come from, and in `plugins.redb`, which one
//! writer thread brings up to date. Published events are entries of the [`ledger`], in the
//! same database; files among the sinks, such as `published.jsonl`, take them from there as
//! lines of JSON, and so does whoever else reads the ledger. What plugins could not be told
//! are lines of `dead-letters.jsonl`.
//!
//! A [`Staged`] set of changes is one call's transaction. It is applied as a whole: to
//! memory at once, to the disk in one transaction, together with whatever else was waiting
//! (group commit). Plain writes of two calls overwrite each other; a key that a call has
//! compared or incremented must still be what it was, or nothing is applied and the call is
//! run again ([`Conflict`]).
//!
//! The events of a set are entries of the ledger by its transaction, before they are appended
//! to a file, so that a crash neither loses an event nor separates it from the keys written
//! beside it, and what was appended already is found in the file and not appended again.
//!
//! What the server itself notes is in the ledger too, before anybody is told of it, with who
//! is to be told and what a crash would leave unfinished: a [`Note`] is on the disk as a
//! whole or not at all.
//!
//! Whether the disk takes what it is given is the store's [`Health`].

mod access;
mod backlog;
mod backoff;
mod canonical;
mod compact;
mod disk;
mod files;
mod format;
mod health;
mod journal;
mod kept;
pub mod ledger;
mod limits;
mod lines;
mod outbox;
mod overlay;
mod sinks;
mod space;
mod staged;
mod timers;
mod writer;

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use self::{
    access::{Access, Opener},
    backlog::{Backlog, Progress},
    disk::Disk,
    health::Pulse,
    journal::Journal,
    kept::Contents,
    ledger::Ledger,
    sinks::Counts,
    space::Link,
    writer::Told,
};
pub use self::{
    files::takes,
    health::Health,
    journal::{Note, Owed},
    limits::{IncrementError, KeyError, Limits, PublishError, TimerError},
    lines::Page,
    sinks::{DeadLetter, Failing, Letters, Position, Run, SinkState},
    space::{Conflict, Saved, Space},
    staged::Staged,
    timers::Timer,
};
use crate::{
    config::{LedgerConfig, SinkConfig},
    model::UnixMs,
};

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory in question.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another server runs on the same directory.
    #[error("{} is in use by another server: give each its own data directory", path.display())]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// The database cannot be read.
    #[error("{}: {source}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What the database says.
        source: Box<redb::Error>,
    },
    /// The database was written by a later version of the server.
    #[error("{} has format {found}; this server knows formats up to {known}", path.display())]
    Format {
        /// The database file.
        path: PathBuf,
        /// The format's number in the file.
        found: u64,
        /// The newest format that this server reads.
        known: u64,
    },
    /// No thread could be started.
    #[error("cannot start the writer thread: {0}")]
    Thread(std::io::Error),
}

/// The data did not reach the disk within the limit; writing goes on being tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data could not be saved in time")]
pub struct NotSaved;

/// So much waits for the disk that nothing can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk does not keep up: nothing more can be kept for it")]
pub struct DiskBehind;

/// In the data directory.
const DEAD_LETTERS_FILE: &str = "dead-letters.jsonl";

/// The open data directory. Clones share it; the last one to go writes what is left.
#[derive(Clone)]
pub struct Store {
    open: Arc<Open>,
}

struct Open {
    data_dir: PathBuf,
    node: String,
    spaces: Arc<Mutex<Spaces>>,
    disk: Link,
    ledger: Ledger,
    journal: Journal,
    counts: Arc<Counts>,
    pulse: Arc<Pulse>,
    writer: Option<JoinHandle<()>>,
}

type Spaces = HashMap<String, Arc<Space>>;

impl Store {
    /// Opens the directory with the ledger's defaults, and `published.jsonl` as the only sink.
    ///
    /// # Errors
    ///
    /// As [`Self::open_with`].
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(
            data_dir,
            &LedgerConfig::default(),
            &[SinkConfig::published()],
        )
    }

    /// Opens the directory, creates it where it is missing, repairs what a crash left, and
    /// starts the writer thread. It brings the files among the sinks up to date; of the
    /// others it keeps, by [`Self::sink`], how far they are, and for them what they have not
    /// taken.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used, or another server uses it.
    pub fn open_with(
        data_dir: &Path,
        ledger: &LedgerConfig,
        sinks: &[SinkConfig],
    ) -> Result<Self, StoreError> {
        Self::open_on(data_dir, Box::new(Access::file), ledger, sinks)
    }

    fn open_on(
        data_dir: &Path,
        opener: Opener,
        ledger: &LedgerConfig,
        sinks: &[SinkConfig],
    ) -> Result<Self, StoreError> {
        std::fs::create_dir_all(data_dir).map_err(|source| StoreError::File {
            path: data_dir.to_owned(),
            source,
        })?;
        let (disk, loaded) = Disk::open(data_dir, opener, ledger, sinks)?;
        let (progress_in, progress) = watch::channel(Progress::default());
        let (extent_in, extent) = watch::channel(disk.extent());
        let link = Link {
            backlog: Arc::new(Backlog::default()),
            progress,
        };
        let spaces = loaded.spaces.into_iter().map(|(owner, contents)| {
            let space = Space::new(&owner, contents, link.clone());
            (owner, Arc::new(space))
        });
        let spaces: Arc<Mutex<Spaces>> = Arc::new(Mutex::new(spaces.collect()));
        let keep = ledger;
        let ledger = Ledger {
            access: Arc::clone(disk.access()),
            extent,
        };
        let counts = Arc::clone(disk.counts());
        let pulse = Arc::new(Pulse::default());
        let told = Told {
            progress: progress_in,
            extent: extent_in,
            pulse: Arc::clone(&pulse),
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn({
                let backlog = Arc::clone(&link.backlog);
                let spaces = Arc::clone(&spaces);
                move || writer::run(disk, &backlog, &told, || sweep(&spaces))
            })
            .map_err(StoreError::Thread)?;
        let open = Open {
            data_dir: data_dir.to_owned(),
            node: node_name(&keep.node),
            spaces,
            disk: link,
            ledger,
            journal: Journal::new(loaded.journal),
            counts,
            pulse,
            writer: Some(writer),
        };
        Ok(Self {
            open: Arc::new(open),
        })
    }

    /// What this server is called in the ledger.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.open.node
    }

    /// Whether what is applied reaches the disk.
    #[must_use]
    pub fn health(&self) -> Health {
        self.open.pulse.health()
    }

    /// Brings [`STORE_DURABLE`](crate::telemetry::STORE_DURABLE) up to date: a transaction
    /// that does not come to an end cannot.
    pub fn measure(&self) {
        self.open.pulse.measure();
    }

    /// Everything that was published.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.open.ledger.clone()
    }

    /// A sink's place in the store: how far it is, and its dead letters.
    #[must_use]
    pub fn sink(&self, name: &str) -> SinkState {
        SinkState {
            name: name.into(),
            access: Arc::clone(&self.open.ledger.access),
            disk: self.open.disk.clone(),
            ledger: self.open.ledger.clone(),
            counts: Arc::clone(&self.open.counts),
        }
    }

    /// Sinks that have dead letters, whether or not they are configured.
    #[must_use]
    pub fn sinks_with_letters(&self) -> Vec<Arc<str>> {
        self.open.counts.with_letters()
    }

    /// The keys and timers of one owner, and its voice in the published events.
    ///
    /// Keys that have expired by the machine's clock are removed from time to time, so calls
    /// of this space need times of that clock.
    #[must_use]
    pub fn space(&self, owner: &str) -> Arc<Space> {
        let mut spaces = self.open.spaces.lock();
        if let Some(space) = spaces.get(owner) {
            return Arc::clone(space);
        }
        let space = Space::new(owner, Contents::default(), self.open.disk.clone());
        let space = Arc::new(space);
        spaces.insert(owner.to_owned(), Arc::clone(&space));
        space
    }

    /// Keeps what could not be delivered, as a line of `dead-letters.jsonl`: durably, and
    /// without waiting for the disk. An object that has no `id` gets a unique one; anything
    /// else becomes the `letter` of an object with an `id`. If the caller gives an `id`, it
    /// has to be unique too: two equal lines may be taken for one after a crash.
    ///
    /// # Errors
    ///
    /// If so much waits for the disk already that nothing can be added.
    pub fn dead_letter(&self, line: serde_json::Value) -> Result<(), DiskBehind> {
        let backlog = &self.open.disk.backlog;
        if backlog.is_full() {
            return Err(DiskBehind);
        }
        let line = letter_line(line);
        let added: Result<u64, Infallible> = backlog.add(|batch| {
            batch.add_dead_letter(line);
            Ok(())
        });
        let Ok(_) = added;
        Ok(())
    }

    /// Where recorded calls go.
    #[must_use]
    pub fn recordings_dir(&self) -> PathBuf {
        self.open.data_dir.join("recordings")
    }

    /// Reads dead letters that are in their file, oldest first, from a position on that an
    /// earlier page has given (0 is the beginning). Blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn dead_letters(&self, after: u64, limit: usize) -> io::Result<Page> {
        lines::page(&self.open.data_dir.join(DEAD_LETTERS_FILE), after, limit)
    }

    /// Where the server may keep what it can make again, such as compiled code.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.open.data_dir.join("cache")
    }

    /// Waits until all that was applied so far is on the disk and all that was published or
    /// is a dead letter is in the files that take it.
    ///
    /// # Errors
    ///
    /// If that takes longer than the limit.
    pub async fn flush(&self, limit: Duration) -> Result<(), NotSaved> {
        let goal = self.open.disk.backlog.applied();
        let mut progress = self.open.disk.progress.clone();
        let reached = progress.wait_for(|now| now.saved >= goal && now.delivered >= goal);
        match tokio::time::timeout(limit, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotSaved),
        }
    }
}

/// A dead letter as its file has it.
fn letter_line(letter: serde_json::Value) -> Box<[u8]> {
    let mut object = match letter {
        serde_json::Value::Object(object) => object,
        letter => serde_json::Map::from_iter([("letter".to_owned(), letter)]),
    };
    object
        .entry("id")
        .or_insert_with(|| Uuid::now_v7().to_string().into());
    let line = serde_json::Value::Object(object).to_string();
    line.into_bytes().into_boxed_slice()
}

/// What this server is called, where it is configured so.
fn node_name(configured: &str) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    let name = hostname::get().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Removes what has expired, a space at a time.
fn sweep(spaces: &Mutex<Spaces>) {
    let spaces: Vec<Arc<Space>> = spaces.lock().values().map(Arc::clone).collect();
    for space in spaces {
        space.sweep_old(UnixMs::now());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.disk.backlog.stop();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
        // Readers may live longer, and another store may want the file.
        self.ledger.access.close();
    }
}

#[cfg(test)]
mod tests;

//! What must survive a restart: each owner's keys, and the events that were published.
//!
//! Keys live in memory, where reads come from, and in `plugins.redb`, which one writer
//! thread brings up to date. Published events are lines of JSON in `published.jsonl`.
//!
//! A [`Staged`] set of changes is applied as a whole: to memory at once, to the disk in one
//! transaction, together with whatever else was waiting (group commit). Its events are part
//! of that transaction (an outbox) before they are appended to the file, so that a crash
//! neither loses an event nor separates it from the keys written beside it, and what was
//! appended already is found in the file and not appended again.

mod published;
mod space;
mod writer;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;

pub use space::{KeyError, Limits, PublishError, Saved, Space, Staged};
use writer::{Backlog, Disk, Progress};

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

/// The open data directory. Clones share it; the last one to go writes what is left.
#[derive(Clone)]
pub struct Store {
    open: Arc<Open>,
}

struct Open {
    data_dir: PathBuf,
    spaces: Mutex<HashMap<String, Arc<Space>>>,
    backlog: Arc<Backlog>,
    progress: watch::Receiver<Progress>,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the directory, creates it where it is missing, repairs what a crash left, and
    /// starts the writer thread.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used, or another server uses it.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(data_dir).map_err(|source| StoreError::File {
            path: data_dir.to_owned(),
            source,
        })?;
        let (disk, loaded) = Disk::open(data_dir)?;
        let backlog = Arc::new(Backlog::default());
        let (progress_in, progress) = watch::channel(Progress::default());
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn({
                let backlog = Arc::clone(&backlog);
                move || writer::run(disk, &backlog, &progress_in)
            })
            .map_err(StoreError::Thread)?;
        let spaces = loaded
            .into_iter()
            .map(|(owner, keys)| {
                let space = Space::new(&owner, keys, Arc::clone(&backlog), progress.clone());
                (owner, Arc::new(space))
            })
            .collect();
        let open = Open {
            data_dir: data_dir.to_owned(),
            spaces: Mutex::new(spaces),
            backlog,
            progress,
            writer: Some(writer),
        };
        Ok(Self {
            open: Arc::new(open),
        })
    }

    /// The keys of one owner, and its voice in the published events.
    #[must_use]
    pub fn space(&self, owner: &str) -> Arc<Space> {
        let mut spaces = self.open.spaces.lock();
        if let Some(space) = spaces.get(owner) {
            return Arc::clone(space);
        }
        let space = Arc::new(Space::new(
            owner,
            std::collections::BTreeMap::new(),
            Arc::clone(&self.open.backlog),
            self.open.progress.clone(),
        ));
        spaces.insert(owner.to_owned(), Arc::clone(&space));
        space
    }

    /// Where the server may keep what it can make again, such as compiled code.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.open.data_dir.join("cache")
    }

    /// Waits until all that was applied so far is on the disk and all that was published is
    /// in its file.
    ///
    /// # Errors
    ///
    /// If that takes longer than the limit.
    pub async fn flush(&self, limit: Duration) -> Result<(), NotSaved> {
        let goal = self.open.backlog.applied();
        let mut progress = self.open.progress.clone();
        let reached = progress.wait_for(|now| now.saved >= goal && now.delivered >= goal);
        match tokio::time::timeout(limit, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotSaved),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.backlog.stop();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

#[cfg(test)]
mod tests;

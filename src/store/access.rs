//! The database, as the writer and the readers share it.

use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase};

/// Opens or creates the database.
pub(super) type Opener = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send + Sync>;

/// Pages that the database may cache, in bytes. Keys are served from our own memory.
const PAGE_CACHE: usize = 16 << 20;

pub(super) struct Access {
    path: PathBuf,
    opener: Opener,
    /// `None` after an error, until it could be opened anew. Shared while it is used: only
    /// opening and closing are exclusive.
    database: RwLock<Option<Database>>,
}

impl Access {
    pub(super) fn open(path: PathBuf, opener: Opener) -> Result<Self, DatabaseError> {
        let database = opener(&path)?;
        Ok(Self {
            path,
            opener,
            database: RwLock::new(Some(database)),
        })
    }

    /// As the file system has it.
    pub(super) fn file(path: &Path) -> Result<Database, DatabaseError> {
        Database::builder().set_cache_size(PAGE_CACHE).create(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes. After an error the database refuses all further work, so it is opened anew the
    /// next time.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        if self.database.read().is_none() {
            // Only the writer opens and closes, so nobody has opened it meanwhile.
            let opened = (self.opener)(&self.path)?;
            *self.database.write() = Some(opened);
        }
        let result = match &*self.database.read() {
            Some(database) => work(database),
            None => Err(redb::Error::DatabaseClosed),
        };
        if result.is_err() {
            *self.database.write() = None;
        }
        result
    }

    /// Makes the file as short as it can be. Nobody reads or writes meanwhile. If that fails,
    /// the database is opened anew.
    ///
    /// # Errors
    ///
    /// The outer one, if it could not be opened.
    pub(super) fn compact(&self) -> Result<Result<(), redb::Error>, redb::Error> {
        let mut database = self.database.write();
        let compacted = match &mut *database {
            Some(database) => database.compact(),
            None => return Err(redb::Error::DatabaseClosed),
        };
        if let Err(error) = compacted {
            *database = None;
            *database = Some((self.opener)(&self.path)?);
            return Ok(Err(error.into()));
        }
        Ok(Ok(()))
    }

    /// For good: whoever reads later is told so. Only when nobody writes any more.
    pub(super) fn close(&self) {
        *self.database.write() = None;
    }

    /// Reads what was committed last. Blocks.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        match &*self.database.read() {
            Some(database) => work(&database.begin_read()?),
            None => Err(redb::Error::DatabaseClosed),
        }
    }
}

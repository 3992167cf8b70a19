//! Does a data directory's ledger hold? For auditors, without a server.

use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase, ReadableTable};
use serde::Serialize;

use super::{Broken, Extent, Hash, LEDGER, Seal};
use crate::store::{disk::DATABASE_FILE, overlay::Overlay};

/// What was found in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Number of entries.
    pub entries: u64,
    /// Behind what the first one follows.
    pub anchor: Seal,
    /// The last one. Whoever has noted an earlier one can tell that nothing was rewritten.
    pub head: Seal,
}

/// Why a ledger does not verify, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A server has the database open.
    #[error(
        "{} is in use by a running server: verify through it, with --url, or a copy of it",
        path.display()
    )]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// There is none, or it cannot be read.
    #[error("{}: {source}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What the database says.
        source: Box<redb::Error>,
    },
    /// It does not hold.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Reads all entries of the data directory's ledger and holds them against their hashes.
/// Blocks, and changes nothing, also where a crash has left something to repair.
///
/// # Errors
///
/// If it does not hold or cannot be read.
pub fn verify(data_dir: &Path) -> Result<Verified, VerifyError> {
    let path = data_dir.join(DATABASE_FILE);
    let found = match ReadOnlyDatabase::open(&path) {
        Ok(database) => check(&database),
        // Nobody else has it open, and it was not closed in order.
        Err(DatabaseError::RepairAborted) => {
            let repaired = Overlay::open(&path)
                .and_then(|overlay| Database::builder().create_with_backend(overlay));
            match repaired {
                Ok(database) => check(&database),
                Err(error) => Err(error.into()),
            }
        }
        Err(DatabaseError::DatabaseAlreadyOpen) => return Err(VerifyError::InUse { path }),
        Err(error) => Err(error.into()),
    };
    let found = found.map_err(|source| VerifyError::Database {
        path,
        source: Box::new(source),
    })?;
    Ok(found?)
}

fn check(database: &impl ReadableDatabase) -> Result<Result<Verified, Broken>, redb::Error> {
    let transaction = database.begin_read()?;
    let extent = Extent::load(&transaction)?;
    let mut seal = extent.anchor;
    if extent != Extent::EMPTY {
        let table = transaction.open_table(LEDGER)?;
        for row in table.iter()? {
            let (seq, value) = row?;
            let (hash, text) = value.value();
            seal = match seal.check_text(seq.value(), Hash(*hash), text) {
                Ok(next) => next,
                Err(broken) => return Ok(Err(broken)),
            };
            // The row's number and the text's are to be the same.
            let said: Option<Numbered> = serde_json::from_str(text).ok();
            if said.is_none_or(|said| said.seq != seal.seq) {
                return Ok(Err(Broken::NotAnEntry {
                    expected: seal.seq,
                    problem: "its text has another number".to_owned(),
                }));
            }
        }
    }
    if seal.seq != extent.head.seq {
        let (expected, found) = (extent.head.seq, seal.seq);
        return Ok(Err(Broken::End { expected, found }));
    }
    if seal != extent.head {
        let Seal { seq, hash } = extent.head;
        return Ok(Err(Broken::Changed { seq, hash }));
    }
    Ok(Ok(Verified {
        entries: extent.entries(),
        anchor: extent.anchor,
        head: extent.head,
    }))
}

#[derive(serde::Deserialize)]
struct Numbered {
    seq: u64,
}

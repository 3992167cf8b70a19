//! Does a data directory's ledger hold? For auditors, without a server.

use std::path::{Path, PathBuf};

use redb::{DatabaseError, ReadOnlyDatabase, ReadableDatabase, ReadableTable};
use serde::Serialize;

use super::{Broken, Extent, Hash, LEDGER, Seal};
use crate::store::disk::DATABASE_FILE;

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
/// Blocks, and reads without changing anything.
///
/// # Errors
///
/// If it does not hold or cannot be read.
pub fn verify(data_dir: &Path) -> Result<Verified, VerifyError> {
    let path = data_dir.join(DATABASE_FILE);
    let failed = |source: redb::Error| VerifyError::Database {
        path: path.clone(),
        source: Box::new(source),
    };
    let database = ReadOnlyDatabase::open(&path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => VerifyError::InUse { path: path.clone() },
        error => failed(error.into()),
    })?;
    let transaction = database
        .begin_read()
        .map_err(|error| failed(error.into()))?;
    let extent = Extent::load(&transaction).map_err(failed)?;
    let mut seal = extent.anchor;
    if extent != Extent::EMPTY {
        let table = transaction
            .open_table(LEDGER)
            .map_err(|error| failed(error.into()))?;
        for row in table.iter().map_err(|error| failed(error.into()))? {
            let (seq, value) = row.map_err(|error| failed(error.into()))?;
            let (hash, text) = value.value();
            // The row's number and the text's are to be the same.
            seal = seal.check_text(seq.value(), Hash(*hash), text)?;
            let said: Option<Numbered> = serde_json::from_str(text).ok();
            if said.is_none_or(|said| said.seq != seal.seq) {
                return Err(VerifyError::Broken(Broken::NotAnEntry {
                    expected: seal.seq,
                    problem: "its text has another number".to_owned(),
                }));
            }
        }
    }
    if seal.seq != extent.head.seq {
        let (expected, found) = (extent.head.seq, seal.seq);
        return Err(VerifyError::Broken(Broken::End { expected, found }));
    }
    if seal != extent.head {
        let Seal { seq, hash } = extent.head;
        return Err(VerifyError::Broken(Broken::Changed { seq, hash }));
    }
    Ok(Verified {
        entries: extent.entries(),
        anchor: extent.anchor,
        head: extent.head,
    })
}

#[derive(serde::Deserialize)]
struct Numbered {
    seq: u64,
}

//! The ledger: everything that was published, in one sequence without a gap, each entry tied
//! to all before it by its hash.
//!
//! An entry gets its number in the transaction that writes it, together with the keys that
//! were written beside it: so a number is never given twice and never missing. What the
//! server itself may have to note belongs into the same sequence: an entry's `plugin` is
//! `null` then.
//!
//! An entry is kept as its canonical text (RFC 8785, but whole numbers of 64 bits keep all
//! digits), the members `at`, `id`, `payload`, `plugin`, `producer`, `room`, `seq`, `topic` and
//! `user`. Its hash is the SHA-256 of the 32 bytes of its predecessor's hash and then that
//! text in UTF-8; before the first entry there are 32 zero bytes. Whoever gets an entry gets
//! the text with one more member at its end, `hash`: without it, that is what was hashed.
//!
//! What is cut off the front leaves an [anchor](Extent::anchor), number and hash, so that
//! the rest still verifies.

mod book;
mod chain;
mod draft;
mod verify;

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::sync::watch;

pub use self::{
    book::Extent,
    chain::{Broken, Hash, NotAHash, Seal},
    verify::{Verified, VerifyError, verify},
};
pub(super) use self::{
    book::{LEDGER, oldest},
    draft::{Draft, Said},
};
use super::access::Access;

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the sequence.
    pub seq: u64,
    /// Of it and all before it.
    pub hash: Hash,
    text: Box<str>,
}

/// What an entry says of itself, without its payload.
#[derive(Debug, Deserialize)]
pub struct Outline<'a> {
    /// Unique for good: what a receiver knows the entry by.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// What it is about.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// Which plugin has published it; `None` if the server itself has noted it.
    #[serde(borrow)]
    pub plugin: Option<Cow<'a, str>>,
    /// The room; empty if it belongs to none.
    #[serde(borrow)]
    pub room: Cow<'a, str>,
}

impl Entry {
    /// As it is given out: a JSON object in one line.
    #[must_use]
    pub fn json(&self) -> String {
        let open = self.text.strip_suffix('}').unwrap_or(&self.text);
        format!("{open},\"hash\":\"{}\"}}", self.hash)
    }

    /// What it is about. `None` if somebody has spoilt the entry by hand.
    #[must_use]
    pub fn outline(&self) -> Option<Outline<'_>> {
        serde_json::from_str(&self.text).ok()
    }

    /// In bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len()
    }
}

/// Entries that follow each other.
#[derive(Debug)]
pub struct Span {
    /// What they follow: verification begins with it.
    pub after: Seal,
    /// The entries.
    pub entries: Vec<Entry>,
}

impl Span {
    /// The number after which the next span begins.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.entries
            .last()
            .map_or(self.after.seq, |entry| entry.seq)
    }
}

/// Why entries cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// They were kept for as long as configured, and are gone.
    #[error("what follows {after} is no longer there: the first entry is {first}")]
    Gone {
        /// What was asked for.
        after: u64,
        /// The first that is there, or will be.
        first: u64,
    },
    /// There never was such an entry. Whoever has seen it has seen another ledger.
    #[error("there is no entry {after} yet: the last one is {last}. Is this the same ledger?")]
    Ahead {
        /// What was asked for.
        after: u64,
        /// The last that is there.
        last: u64,
    },
    /// The database cannot be read now.
    #[error("the ledger cannot be read: {0}")]
    Database(Box<redb::Error>),
    /// Reading did not come to its end.
    #[error("the ledger was not read: {0}")]
    Interrupted(String),
}

impl From<redb::Error> for LedgerError {
    fn from(error: redb::Error) -> Self {
        Self::Database(Box::new(error))
    }
}

/// How much of the ledger is read at once.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    /// Entries, at most.
    pub entries: usize,
    /// Bytes, at most, but for the first entry.
    pub bytes: usize,
}

/// Reads the ledger. Clones read the same.
#[derive(Clone)]
pub struct Ledger {
    pub(super) access: Arc<Access>,
    pub(super) extent: watch::Receiver<Extent>,
}

impl Ledger {
    /// Where it begins and ends.
    #[must_use]
    pub fn extent(&self) -> Extent {
        *self.extent.borrow()
    }

    /// Tells when it grows or is cut.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Extent> {
        self.extent.clone()
    }

    /// Waits until there is an entry after this number. Whether there is, within the limit.
    pub async fn grown(&self, after: u64, limit: Duration) -> bool {
        let mut extent = self.extent.clone();
        let grown = extent.wait_for(|extent| extent.head.seq > after);
        matches!(tokio::time::timeout(limit, grown).await, Ok(Ok(_)))
    }

    /// The entries that follow this number. Blocks.
    ///
    /// # Errors
    ///
    /// If the first of them is gone, the number has not been given yet, or the database
    /// cannot be read.
    pub fn read(&self, after: u64, portion: Portion) -> Result<Span, LedgerError> {
        self.access
            .read(|transaction| Ok(span(transaction, after, portion)))?
    }

    /// One entry. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn entry(&self, seq: u64) -> Result<Entry, LedgerError> {
        let after = seq.saturating_sub(1);
        let one = Portion {
            entries: 1,
            bytes: 0,
        };
        let mut span = self.read(after, one)?;
        let last = self.extent().head.seq;
        span.entries.pop().ok_or(LedgerError::Ahead { after, last })
    }
}

/// As [`Ledger::read`].
pub(super) fn span(
    transaction: &redb::ReadTransaction,
    after: u64,
    portion: Portion,
) -> Result<Span, LedgerError> {
    let extent = Extent::load(transaction)?;
    let first = extent.anchor.seq + 1;
    let last = extent.head.seq;
    if after < extent.anchor.seq {
        return Err(LedgerError::Gone { after, first });
    }
    if after > last {
        return Err(LedgerError::Ahead { after, last });
    }
    let table = transaction.open_table(LEDGER).map_err(redb::Error::from)?;
    let before = if after == extent.anchor.seq {
        extent.anchor
    } else {
        let row = table.get(after).map_err(redb::Error::from)?;
        let hash = row.map(|row| Hash(*row.value().0));
        Seal {
            seq: after,
            hash: hash.ok_or(LedgerError::Gone { after, first })?,
        }
    };
    let mut entries = Vec::new();
    let mut bytes = 0;
    for row in table.range(after + 1..).map_err(redb::Error::from)? {
        let (seq, value) = row.map_err(redb::Error::from)?;
        let (hash, text) = value.value();
        bytes += text.len();
        if entries.len() >= portion.entries || (bytes > portion.bytes && !entries.is_empty()) {
            break;
        }
        entries.push(Entry {
            seq: seq.value(),
            hash: Hash(*hash),
            text: text.into(),
        });
    }
    Ok(Span {
        after: before,
        entries,
    })
}

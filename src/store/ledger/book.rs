//! The writer's side of the ledger: its rows, its end, and what is cut off its front.

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::{Draft, Hash, Seal};
use crate::{config::LedgerConfig, model::UnixMs};

/// Entries by number: hash and canonical text.
pub(in crate::store) const LEDGER: TableDefinition<'_, u64, (&[u8; Hash::BYTES], &str)> =
    TableDefinition::new("ledger");
/// Places in the chain that must be known without the entries: number and hash.
pub(in crate::store) const SEALS: TableDefinition<'_, &str, (u64, &[u8; Hash::BYTES])> =
    TableDefinition::new("ledger_seals");
/// Sums over the entries.
const SUMS: TableDefinition<'_, &str, u64> = TableDefinition::new("ledger_sums");

/// Of the last entry.
pub(in crate::store) const HEAD: &str = "head";
/// Of the last entry that was cut off: the chain of those that are left begins behind it.
pub(in crate::store) const ANCHOR: &str = "anchor";
const BYTES: &str = "bytes";

/// Entries that one transaction cuts off.
const CUT_AT_ONCE: usize = 10_000;

/// Where the ledger begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The last entry that is no longer there.
    pub anchor: Seal,
    /// The last entry.
    pub head: Seal,
    /// Of all entries' texts, in bytes.
    pub bytes: u64,
}

impl Extent {
    pub(in crate::store) const EMPTY: Self = Self {
        anchor: Seal::START,
        head: Seal::START,
        bytes: 0,
    };

    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.head.seq - self.anchor.seq
    }

    /// Makes the tables. Nothing happens where they are.
    pub(in crate::store) fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
        transaction.open_table(LEDGER)?;
        transaction.open_table(SEALS)?;
        transaction.open_table(SUMS)?;
        Ok(())
    }

    pub(in crate::store) fn load(transaction: &ReadTransaction) -> Result<Self, redb::Error> {
        let seals = match transaction.open_table(SEALS) {
            Ok(seals) => seals,
            // As earlier formats were.
            Err(TableError::TableDoesNotExist(_)) => return Ok(Self::EMPTY),
            Err(error) => return Err(error.into()),
        };
        let seal = |name| -> Result<Seal, redb::Error> {
            Ok(seals.get(name)?.map_or(Seal::START, |row| {
                let (seq, hash) = row.value();
                Seal {
                    seq,
                    hash: Hash(*hash),
                }
            }))
        };
        let bytes = transaction.open_table(SUMS)?.get(BYTES)?;
        Ok(Self {
            anchor: seal(ANCHOR)?,
            head: seal(HEAD)?,
            bytes: bytes.map_or(0, |bytes| bytes.value()),
        })
    }

    /// Puts the drafts at the end. What the extent is once the transaction is committed.
    pub(in crate::store) fn append(
        mut self,
        transaction: &WriteTransaction,
        drafts: &[Draft],
    ) -> Result<Self, redb::Error> {
        if drafts.is_empty() {
            return Ok(self);
        }
        let mut table = transaction.open_table(LEDGER)?;
        for draft in drafts {
            let text = draft.numbered(self.head.seq + 1);
            self.head = self.head.then(&text);
            self.bytes += text.len() as u64;
            table.insert(self.head.seq, (&self.head.hash.0, text.as_str()))?;
        }
        drop(table);
        self.note(transaction)?;
        Ok(self)
    }

    /// Whether there may be something to cut off, if all up to `floor` may go. `oldest` is
    /// when the first entry was made.
    pub(in crate::store) fn may_cut(
        &self,
        keep: &LedgerConfig,
        floor: u64,
        oldest: Option<UnixMs>,
        now: UnixMs,
    ) -> bool {
        let over = self.entries() > keep.entries || self.bytes > keep.bytes;
        let old = oldest.is_some_and(|at| is_old(at, keep, now));
        floor > self.anchor.seq && (over || old)
    }

    /// Takes off the front what need not be kept and is not after `floor`. What the extent is
    /// once the transaction is committed, and when the first entry left was made.
    pub(in crate::store) fn cut(
        mut self,
        transaction: &WriteTransaction,
        keep: &LedgerConfig,
        floor: u64,
        now: UnixMs,
    ) -> Result<(Self, Option<UnixMs>), redb::Error> {
        let mut table = transaction.open_table(LEDGER)?;
        let mut cut = 0;
        let oldest = loop {
            let Some((row, value)) = table.first()? else {
                break None;
            };
            let (seq, (hash, text)) = (row.value(), value.value());
            let at = time_of(text);
            let over = self.entries() > keep.entries || self.bytes > keep.bytes;
            let unwanted = over || is_old(at, keep, now);
            if !unwanted || seq > floor || cut == CUT_AT_ONCE {
                break Some(at);
            }
            self.anchor = Seal {
                seq,
                hash: Hash(*hash),
            };
            self.bytes = self.bytes.saturating_sub(text.len() as u64);
            cut += 1;
            drop((row, value));
            table.remove(seq)?;
        };
        drop(table);
        self.note(transaction)?;
        Ok((self, oldest))
    }

    fn note(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut seals = transaction.open_table(SEALS)?;
        for (name, seal) in [(ANCHOR, self.anchor), (HEAD, self.head)] {
            seals.insert(name, (seal.seq, &seal.hash.0))?;
        }
        transaction.open_table(SUMS)?.insert(BYTES, self.bytes)?;
        Ok(())
    }
}

/// When the first entry was made.
pub(in crate::store) fn oldest(
    transaction: &ReadTransaction,
) -> Result<Option<UnixMs>, redb::Error> {
    let table = transaction.open_table(LEDGER)?;
    Ok(table.first()?.map(|(_, value)| time_of(value.value().1)))
}

fn is_old(at: UnixMs, keep: &LedgerConfig, now: UnixMs) -> bool {
    let age = now.0.saturating_sub(at.0);
    u128::from(age) > keep.age.as_millis()
}

/// The time with which an entry's canonical text begins; now if it is none of ours.
fn time_of(text: &str) -> UnixMs {
    let digits = text.strip_prefix("{\"at\":").unwrap_or_default();
    let end = digits.find(|c: char| !c.is_ascii_digit());
    let digits = digits.get(..end.unwrap_or(digits.len()));
    let time = digits.and_then(|digits| digits.parse().ok());
    time.map_or_else(UnixMs::now, UnixMs)
}

//! Sinks that are files: entries of the ledger on their way into one, as lines.
//!
//! A file's cursor is written with the transaction that comes next, or at once where there is
//! more to append. So after a crash at most one portion may be in the file already; that is
//! looked for there, and what is missing is appended.

use std::{path::Path, sync::Arc, time::Instant};

use redb::WriteTransaction;

use super::{
    access::Access,
    backoff::Backoff,
    ledger::{self, LedgerError, Outline, Portion},
    lines::Lines,
    sinks::{self, Position},
};

const PORTION: Portion = Portion {
    entries: 4096,
    bytes: 4 << 20,
};

/// Why a file could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

pub(super) struct FileSink {
    name: Arc<str>,
    /// What topics begin with that it takes; none is all that plugins publish.
    topics: Vec<String>,
    file: Lines,
    /// The file has all up to here.
    cursor: u64,
    /// What of that is on the disk.
    saved: u64,
    /// Whether the file may have some of what follows all the same.
    doubtful: bool,
    backoff: Backoff,
    /// Set after an error.
    next_try: Option<Instant>,
}

impl FileSink {
    pub(super) fn new(name: &str, topics: Vec<String>, file: Lines, cursor: u64) -> Self {
        Self {
            name: name.into(),
            topics,
            file,
            cursor,
            saved: cursor,
            doubtful: true,
            backoff: Backoff::default(),
            next_try: None,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) fn next_try(&self) -> Option<Instant> {
        self.next_try
    }

    /// Writes how far the file is.
    pub(super) fn save(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        if self.cursor == self.saved {
            return Ok(());
        }
        let position = Position {
            cursor: self.cursor,
            ahead: Vec::new(),
        };
        sinks::save_position(transaction, &self.name, &position)
    }

    /// The transaction of [`Self::save`] is committed.
    pub(super) fn saved(&mut self) {
        self.saved = self.cursor;
    }

    /// Appends one portion, up to `last`, unless that is to be tried later and not `at_once`.
    pub(super) fn deliver(
        &mut self,
        access: &Access,
        last: u64,
        at_once: bool,
    ) -> Result<(), FileError> {
        let now = Instant::now();
        let early = self.next_try.is_some_and(|at| now < at);
        if self.cursor >= last || (early && !at_once) {
            return Ok(());
        }
        if let Err(error) = self.append(access) {
            self.next_try = Some(now + self.backoff.wait());
            return Err(error);
        }
        self.next_try = None;
        self.backoff = Backoff::default();
        Ok(())
    }

    fn append(&mut self, access: &Access) -> Result<(), FileError> {
        let span = access.read(|transaction| Ok(ledger::span(transaction, self.cursor, PORTION)));
        let span = span.map_err(LedgerError::from)??;
        let next = span.next();
        let wanted = span.entries.iter().filter(|entry| {
            let outline = entry.outline();
            outline.is_some_and(|outline| takes(&self.topics, &outline))
        });
        let lines: Vec<String> = wanted.map(ledger::Entry::json).collect();
        // Until it has succeeded.
        let lines = if std::mem::replace(&mut self.doubtful, true) {
            self.file.without_present(lines)?
        } else {
            lines
        };
        if !lines.is_empty() {
            self.file.append(lines.iter().map(String::as_bytes))?;
        }
        self.doubtful = false;
        self.cursor = next;
        Ok(())
    }
}

/// Whether a sink that wants topics which begin with these wants this entry. Without any it
/// wants what plugins publish, and not what the server notes.
#[must_use]
pub fn takes(topics: &[String], entry: &Outline<'_>) -> bool {
    if topics.is_empty() {
        return entry.plugin.is_some();
    }
    topics.iter().any(|start| entry.topic.starts_with(start))
}

//! Lines on their way through the database into a file.
//!
//! A line is first a row of a table, written in one transaction with what it belongs to,
//! then at the end of its file, and only then no longer a row. After a crash the rows that
//! are left are looked for in the file, and those that are missing are appended.

use std::{path::Path, time::Instant};

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::{backoff::Backoff, lines::Lines};

/// Lines that may not be in the file yet, in order: each as it will be there.
pub(super) type Rows = TableDefinition<'static, u64, &'static [u8]>;

pub(super) struct Outbox {
    rows: Rows,
    file: Lines,
    /// Rows that are not in the file yet.
    undelivered: Vec<(u64, Box<[u8]>)>,
    /// Rows that are, and can go with the next transaction.
    delivered: Vec<u64>,
    /// Whether the file may have some of `undelivered` all the same.
    doubtful: bool,
    next_row: u64,
    backoff: Backoff,
    /// Set after an error.
    next_try: Option<Instant>,
}

impl Outbox {
    /// Reads the rows that are left.
    pub(super) fn load(
        rows: Rows,
        transaction: &ReadTransaction,
        file: Lines,
    ) -> Result<Self, redb::Error> {
        let mut undelivered = Vec::new();
        for row in transaction.open_table(rows)?.iter()? {
            let (number, line) = row?;
            undelivered.push((number.value(), line.value().into()));
        }
        Ok(Self {
            rows,
            file,
            doubtful: !undelivered.is_empty(),
            next_row: undelivered.last().map_or(0, |(row, _)| row + 1),
            undelivered,
            delivered: Vec::new(),
            backoff: Backoff::default(),
            next_try: None,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(super) fn undelivered(&self) -> usize {
        self.undelivered.len()
    }

    /// Puts the lines into the transaction, and takes delivered ones out.
    pub(super) fn save(
        &self,
        transaction: &WriteTransaction,
        lines: &[Box<[u8]>],
    ) -> Result<(), redb::Error> {
        if self.delivered.is_empty() && lines.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(self.rows)?;
        for row in &self.delivered {
            table.remove(row)?;
        }
        for (row, line) in (self.next_row..).zip(lines) {
            table.insert(row, &**line)?;
        }
        Ok(())
    }

    /// Takes over the lines of [`Self::save`], whose transaction is committed.
    pub(super) fn saved(&mut self, lines: Vec<Box<[u8]>>) {
        self.delivered.clear();
        for line in lines {
            self.undelivered.push((self.next_row, line));
            self.next_row += 1;
        }
    }

    /// When delivery is to be tried again after an error.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.next_try
    }

    /// Appends to the file what is not there yet, unless that is to be tried later and not
    /// `at_once`.
    pub(super) fn deliver(&mut self, at_once: bool) -> std::io::Result<()> {
        let now = Instant::now();
        let early = self.next_try.is_some_and(|at| now < at);
        if self.undelivered.is_empty() || (early && !at_once) {
            return Ok(());
        }
        if let Err(error) = self.append() {
            self.next_try = Some(now + self.backoff.wait());
            return Err(error);
        }
        self.next_try = None;
        self.backoff = Backoff::default();
        let rows = self.undelivered.drain(..).map(|(row, _)| row);
        self.delivered.extend(rows);
        Ok(())
    }

    fn append(&mut self) -> std::io::Result<()> {
        let lines = self.undelivered.iter().map(|(_, line)| &**line);
        // Until it has succeeded.
        if std::mem::replace(&mut self.doubtful, true) {
            let missing = self.file.without_present(lines.collect())?;
            self.file.append(missing.into_iter())?;
        } else {
            self.file.append(lines)?;
        }
        self.doubtful = false;
        Ok(())
    }
}

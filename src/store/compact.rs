//! Giving back to the file system what the database's file no longer needs.
//!
//! Pages that are freed, of entries that were cut off the ledger for example, are used again,
//! and the file keeps its length. Where that has become much more than what is in it, after a
//! receiver was down for long or limits were lowered, it is made shorter when the store is
//! opened: nobody waits for the disk then.

use std::{fs, time::Instant};

use super::{access::Access, disk::report};

/// A shorter file is left as it is, in bytes.
const SHORT: u64 = 64 << 20;

/// Makes the file shorter if less than half of it is used. `kept` is what is known to be in
/// it, in bytes; there may be more.
pub(super) fn compact(access: &Access, kept: u64) -> Result<(), redb::Error> {
    let length = || fs::metadata(access.path()).map(|file| file.len());
    let before = length()?;
    // To count what is used, all of it has to be read.
    if before < SHORT || kept > before / 4 {
        return Ok(());
    }
    let used = access.write(|database| {
        let transaction = database.begin_write()?;
        let stats = transaction.stats()?;
        transaction.abort()?;
        Ok(stats.allocated_pages() * stats.page_size() as u64)
    })?;
    if used > before / 2 {
        return Ok(());
    }
    let began = Instant::now();
    match access.compact()? {
        Ok(()) => tracing::info!(
            file = %access.path().display(),
            before,
            after = length()?,
            seconds = began.elapsed().as_secs_f64(),
            "the database's file was made shorter"
        ),
        // It is as long as before, and as good.
        Err(error) => report(access.path(), &error),
    }
    Ok(())
}

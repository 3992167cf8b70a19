//! The thread that brings changes to the disk: one transaction for all that waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    backlog::{Backlog, Batch, Progress},
    backoff::Backoff,
    disk::{Disk, report},
    health::Pulse,
    ledger::Extent,
};
use crate::{
    model::UnixMs,
    telemetry::{LEDGER_ENTRIES, LEDGER_LAST_SEQ, STORE_COMMIT_SECONDS, approximate},
};

/// How often expired keys are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Where the writer tells how far it is.
pub(super) struct Told {
    pub(super) progress: watch::Sender<Progress>,
    pub(super) extent: watch::Sender<Extent>,
    pub(super) pulse: Arc<Pulse>,
}

/// Runs until the backlog is stopped and empty. `sweep` adds the removal of expired keys to
/// the backlog.
pub(super) fn run(mut disk: Disk, backlog: &Backlog, told: &Told, sweep: impl Fn()) {
    let mut backoff = Backoff::default();
    let mut next_sweep = Instant::now();
    disk.deliver(true);
    measure(&disk);
    loop {
        let next_try = disk.next_try();
        let until = next_try.map_or(next_sweep, |at| at.min(next_sweep));
        // A file that takes more waits for nothing.
        let until = if disk.has_more() {
            Instant::now()
        } else {
            until
        };
        let stopped = backlog.wait(until);
        if !stopped && Instant::now() >= next_sweep {
            sweep();
            cut(&mut disk, backlog, told);
            next_sweep = Instant::now() + SWEEP_EVERY;
        }
        let batch = backlog.take();
        let more = disk.has_more();
        if stopped && batch.is_empty() && !more && disk.undelivered() == 0 {
            break;
        }
        if !batch.is_empty() || more {
            if let Some(failed) = save(&mut disk, batch, told) {
                backlog.give_back(failed);
                if backlog.pause(backoff.wait()) {
                    break;
                }
                continue;
            }
            backlog.written();
            backoff = Backoff::default();
        }
        if disk.deliver(stopped) {
            told.progress.send_if_modified(|progress| {
                let before = std::mem::replace(&mut progress.delivered, progress.saved);
                before != progress.delivered
            });
        } else if stopped && !disk.has_more() {
            break;
        }
        measure(&disk);
    }
    last_words(&disk, &backlog.take());
}

/// One transaction; the batch comes back if it fails.
fn save(disk: &mut Disk, batch: Batch, told: &Told) -> Option<Batch> {
    let began = Instant::now();
    told.pulse.begins();
    let written = match disk.save(&batch) {
        Ok(written) => written,
        Err(error) => {
            failed(disk, &error, told);
            return Some(batch);
        }
    };
    told.pulse.succeeded();
    metrics::histogram!(STORE_COMMIT_SECONDS).record(began.elapsed());
    let sequence = batch.sequence;
    disk.saved(batch, &written);
    // Whoever is told that its set is saved finds its entries.
    told.extent.send_if_modified(|extent| {
        let before = std::mem::replace(extent, disk.extent());
        before != *extent
    });
    if sequence > 0 {
        told.progress
            .send_modify(|progress| progress.saved = sequence);
    }
    None
}

/// Cuts off the ledger's front what need not be kept; what is left for later is not much.
fn cut(disk: &mut Disk, backlog: &Backlog, told: &Told) {
    let now = UnixMs::now();
    if !disk.may_cut(now) {
        return;
    }
    told.pulse.begins();
    match disk.cut(now) {
        Ok(progress) => {
            if progress {
                told.extent.send_replace(disk.extent());
            }
            // What waits may find no space where cutting needs none.
            if backlog.is_empty() {
                told.pulse.succeeded();
            } else {
                told.pulse.ended();
            }
        }
        Err(error) => failed(disk, &error, told),
    }
}

fn failed(disk: &Disk, error: &redb::Error, told: &Told) {
    report(disk.path(), error);
    let problem = format!("{}: {error}", disk.path().display());
    told.pulse.failed(problem);
}

fn measure(disk: &Disk) {
    let extent = disk.extent();
    gauge(LEDGER_ENTRIES, extent.entries());
    gauge(LEDGER_LAST_SEQ, extent.head.seq);
    for (sink, lag) in disk.file_lag() {
        disk.counts().reached(sink, extent.head.seq - lag);
    }
    disk.counts().measure(extent.head.seq);
}

fn gauge(name: &'static str, value: u64) {
    metrics::gauge!(name).set(approximate(value));
}

fn last_words(disk: &Disk, lost: &Batch) {
    if lost.is_empty() && disk.undelivered() == 0 {
        return;
    }
    tracing::error!(
        keys = lost.keys.len(),
        timers = lost.timers.len(),
        events = lost.drafts.len(),
        dead_letters = lost.dead_letters.len(),
        settled = lost.owed.values().filter(|owed| owed.is_none()).count(),
        open = lost.open.len(),
        in_outbox = disk.undelivered(),
        "the server stops before all could be written: all but what is in the outbox \
         is lost, that is delivered at the next start"
    );
}

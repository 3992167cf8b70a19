//! The thread that brings changes to the disk: one transaction for all that waits.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{
    backlog::{Backlog, Progress},
    backoff::Backoff,
    disk::{Disk, report},
};
use crate::telemetry::STORE_COMMIT_SECONDS;

/// How often expired keys are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Runs until the backlog is stopped and empty. `sweep` adds the removal of expired keys to
/// the backlog.
pub(super) fn run(
    mut disk: Disk,
    backlog: &Backlog,
    progress: &watch::Sender<Progress>,
    sweep: impl Fn(),
) {
    let mut backoff = Backoff::default();
    let mut next_sweep = Instant::now();
    disk.deliver(true);
    loop {
        let next_try = disk.next_try();
        let stopped = backlog.wait(next_try.map_or(next_sweep, |at| at.min(next_sweep)));
        if !stopped && Instant::now() >= next_sweep {
            sweep();
            next_sweep = Instant::now() + SWEEP_EVERY;
        }
        let batch = backlog.take();
        if stopped && batch.is_empty() && disk.undelivered() == 0 {
            break;
        }
        if !batch.is_empty() {
            let began = Instant::now();
            if let Err(error) = disk.save(&batch) {
                report(disk.path(), &error);
                backlog.give_back(batch);
                if backlog.pause(backoff.wait()) {
                    break;
                }
                continue;
            }
            metrics::histogram!(STORE_COMMIT_SECONDS).record(began.elapsed());
            backoff = Backoff::default();
            let sequence = batch.sequence;
            disk.saved(batch);
            progress.send_modify(|progress| progress.saved = sequence);
        }
        if disk.deliver(stopped) {
            progress.send_if_modified(|progress| {
                let before = std::mem::replace(&mut progress.delivered, progress.saved);
                before != progress.delivered
            });
        } else if stopped {
            break;
        }
    }
    let lost = backlog.take();
    if !lost.is_empty() || disk.undelivered() > 0 {
        tracing::error!(
            keys = lost.keys.len(),
            timers = lost.timers.len(),
            events = lost.events.len(),
            dead_letters = lost.dead_letters.len(),
            in_outbox = disk.undelivered(),
            "the server stops before all could be written: all but what is in the outbox \
             is lost, that is delivered at the next start"
        );
    }
}

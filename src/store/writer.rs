//! The thread that brings changes to the disk: one transaction for all that waits.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    backlog::{Backlog, Progress},
    disk::Disk,
};

/// The wait after a failed write doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

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
    let mut retry = RETRY.0;
    let mut next_sweep = Instant::now();
    if let Err((path, error)) = disk.deliver() {
        report(path, &error);
    }
    loop {
        let stopped = if disk.undelivered() == 0 {
            backlog.wait(next_sweep)
        } else {
            // Tried again even if nothing new arrives.
            let stopped = backlog.pause(retry);
            retry = RETRY.1.min(retry * 2);
            stopped
        };
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
                if backlog.pause(retry) {
                    break;
                }
                retry = RETRY.1.min(retry * 2);
                continue;
            }
            metrics::histogram!("voice_room_store_commit_seconds").record(began.elapsed());
            let sequence = batch.sequence;
            disk.saved(batch);
            progress.send_modify(|progress| progress.saved = sequence);
        }
        match disk.deliver() {
            Ok(()) => {
                retry = RETRY.0;
                progress.send_if_modified(|progress| {
                    let before = std::mem::replace(&mut progress.delivered, progress.saved);
                    before != progress.delivered
                });
            }
            Err((path, error)) => {
                report(path, &error);
                if stopped {
                    break;
                }
            }
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

fn report(path: &Path, error: &(dyn std::error::Error + 'static)) {
    metrics::counter!("voice_room_store_write_errors_total").increment(1);
    tracing::error!(file = %path.display(), error, "cannot write, trying again");
}

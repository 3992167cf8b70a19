//! Writes recorded calls into files, on a thread of its own. A call never waits for it: what
//! the disk cannot take in time is dropped and counted, and the gap in the numbers tells.

mod files;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::files::Files;
use super::{
    call::Action,
    meters::RECORDING_DROPPED,
    record::{CallLine, InstanceLine, Line},
    throttle::Throttle,
    trace::weight,
};
use crate::{config::RecordingConfig, model::UnixMs};

/// Lines that may wait for the disk.
const QUEUE: usize = 8192;

/// Their size together, in bytes, about.
const QUEUE_BYTES: usize = 64 << 20;

/// Bytes that are written at once, where so much waits.
const BATCH: usize = 256 << 10;

/// Lines a second that are logged about a disk that does not take what it is given.
const COMPLAINTS: u32 = 1;

/// Records calls of all plugins that are to be recorded.
pub(super) struct Recorder {
    /// `None` once it ends. Under a lock together with the next number, so that the numbers
    /// are those of the order.
    queue: Mutex<(Option<SyncSender<Waiting>>, u64)>,
    shared: Arc<Shared>,
    /// When this run began.
    run: UnixMs,
    instances: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Bytes that wait, about.
    waiting: AtomicUsize,
    /// Instances that live, for the beginning of each file.
    living: Mutex<BTreeMap<u64, Arc<InstanceLine>>>,
    dropped: Counter,
    complaints: Throttle,
}

enum Waiting {
    Instance(Arc<InstanceLine>),
    Call(Box<CallLine>, usize),
    Flush(oneshot::Sender<()>),
}

impl Recorder {
    /// Opens the current file of the directory and starts the thread.
    pub(super) fn open(dir: &Path, config: RecordingConfig) -> io::Result<Self> {
        let files = Files::open(dir, config)?;
        let shared = Arc::new(Shared {
            waiting: AtomicUsize::new(0),
            living: Mutex::default(),
            dropped: counter!(RECORDING_DROPPED),
            complaints: Throttle::new(COMPLAINTS),
        });
        let (sender, queue) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("call-recorder".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || Writer::new(files, &shared).run(&queue)
            })?;
        Ok(Self {
            queue: Mutex::new((Some(sender), 0)),
            shared,
            run: UnixMs::now(),
            instances: AtomicU64::new(0),
            thread: Some(thread),
        })
    }

    /// Records the beginning of an instance, and gives it its number.
    pub(super) fn began(&self, mut line: InstanceLine) -> u64 {
        let number = self.instances.fetch_add(1, Ordering::Relaxed) + 1;
        (line.instance, line.run) = (number, self.run);
        let line = Arc::new(line);
        self.shared.living.lock().insert(number, Arc::clone(&line));
        self.send(|_| Waiting::Instance(line), 0);
        number
    }

    /// Forgets an instance: no call of it will follow.
    pub(super) fn ended(&self, instance: u64) {
        self.shared.living.lock().remove(&instance);
    }

    /// Records a call, and gives it its number.
    pub(super) fn called(&self, mut line: Box<CallLine>) {
        let size = size(&line);
        let numbered = |last: &mut u64| {
            *last += 1;
            line.seq = *last;
            Waiting::Call(line, size)
        };
        if !self.send(numbered, size) {
            self.shared.drop_lines(1, "the disk does not keep up");
        }
    }

    /// Whether there was a place in the queue.
    fn send(&self, line: impl FnOnce(&mut u64) -> Waiting, size: usize) -> bool {
        let waiting = &self.shared.waiting;
        let mut queue = self.queue.lock();
        let line = line(&mut queue.1);
        let full = waiting.load(Ordering::Relaxed) > QUEUE_BYTES;
        let Some(sender) = queue.0.as_ref().filter(|_| !full) else {
            return false;
        };
        waiting.fetch_add(size, Ordering::Relaxed);
        match sender.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                waiting.fetch_sub(size, Ordering::Relaxed);
                false
            }
        }
    }

    /// Waits until all that was recorded so far is in the files, for a bounded time.
    pub(super) async fn flush(&self, limit: Duration) {
        let (done, written) = oneshot::channel();
        self.send(|_| Waiting::Flush(done), 0);
        if tokio::time::timeout(limit, written).await.is_err() {
            tracing::error!(?limit, "recorded calls could not be written in time");
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue.lock().0 = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that records calls panicked");
        }
    }
}

/// About how much memory a line takes while it waits.
fn size(line: &CallLine) -> usize {
    let imports = line
        .imports
        .iter()
        .map(|call| call.arguments.iter().map(weight).sum::<usize>() + weight(&call.answer) + 64);
    let published = line.published.iter().map(|event| weight(&event.payload));
    let actions = line.actions.iter().map(|action| match action {
        Action::EmitToUser { payload, .. } | Action::EmitToRoom { payload, .. } => weight(payload),
        _ => 256,
    });
    1024 + imports.sum::<usize>() + published.sum::<usize>() + actions.sum::<usize>()
}

impl Shared {
    fn drop_lines(&self, lines: u64, why: impl std::fmt::Display) {
        self.dropped.increment(lines);
        if self.complaints.allow() {
            tracing::error!(lines, %why, "calls could not be recorded");
        }
    }
}

/// The thread's side.
struct Writer<'a> {
    files: Files,
    shared: &'a Shared,
    /// Lines that are written together, and how many of them are calls.
    batch: Vec<u8>,
    calls: u64,
    /// The file may lack instances whose calls it will have.
    incomplete: bool,
}

impl<'a> Writer<'a> {
    fn new(files: Files, shared: &'a Shared) -> Self {
        Self {
            files,
            shared,
            batch: Vec::new(),
            calls: 0,
            incomplete: false,
        }
    }

    /// Works until the recorder is gone.
    fn run(mut self, queue: &Receiver<Waiting>) {
        while let Ok(first) = queue.recv() {
            self.take(first);
            while self.batch.len() < BATCH
                && let Ok(next) = queue.try_recv()
            {
                self.take(next);
            }
            self.write();
        }
    }

    fn take(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Instance(line) => self.add(&Line::Instance((*line).clone())),
            Waiting::Call(line, size) => {
                self.add(&Line::Call(*line));
                self.calls += 1;
                self.shared.waiting.fetch_sub(size, Ordering::Relaxed);
            }
            Waiting::Flush(done) => {
                self.write();
                // Whoever waited for it may have gone.
                done.send(()).unwrap_or_default();
            }
        }
    }

    fn add(&mut self, line: &Line) {
        let before = self.batch.len();
        match serde_json::to_writer(&mut self.batch, line) {
            Ok(()) => self.batch.push(b'\n'),
            // Strings, numbers and JSON values always serialise.
            Err(_) => self.batch.truncate(before),
        }
    }

    fn write(&mut self) {
        let lines = std::mem::take(&mut self.batch);
        let calls = std::mem::take(&mut self.calls);
        if lines.is_empty() {
            return;
        }
        if let Err(error) = self.append(&lines) {
            self.incomplete = true;
            let path = self.files.path();
            self.shared
                .drop_lines(calls, format_args!("{}: {error}", path.display()));
        }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.files.is_full_for(lines.len()) {
            self.files.rotate()?;
            self.incomplete = true;
        }
        if self.incomplete {
            self.files.append(&self.living())?;
            self.incomplete = false;
        }
        self.files.append(lines)
    }

    /// The lines of the instances that live.
    fn living(&self) -> Vec<u8> {
        let living: Vec<_> = self.shared.living.lock().values().cloned().collect();
        let mut lines = Vec::new();
        for line in living {
            let line = Line::Instance(InstanceLine {
                continued: true,
                ..(*line).clone()
            });
            if serde_json::to_writer(&mut lines, &line).is_ok() {
                lines.push(b'\n');
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests;

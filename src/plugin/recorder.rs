//! Writes recorded calls into files, on a thread of its own. A call never waits for it: what
//! the disk cannot take in time is dropped and counted, and the gap in the numbers tells.

mod files;
mod weigh;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::files::Files;
use super::{
    meters::RECORDING_DROPPED,
    record::{CallLine, InstanceLine, Line},
    throttle::Throttle,
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
    queue: Mutex<Queue>,
    shared: Arc<Shared>,
    /// When this run began.
    run: UnixMs,
    instances: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

/// Under one lock, so that the numbers are those of the order.
struct Queue {
    /// `None` once it ends.
    sender: Option<SyncSender<Waiting>>,
    /// The number of the last call.
    last: u64,
    /// Lines that were given to the thread.
    given: u64,
}

struct Shared {
    /// Bytes that wait, about.
    waiting: AtomicUsize,
    /// Lines that the thread has done with: they are in the files, or the disk has refused
    /// them.
    done: watch::Sender<u64>,
    /// The line of an instance was lost, so that it has to be written anew.
    incomplete: AtomicBool,
    /// Instances that live, for the beginning of each file.
    living: Mutex<BTreeMap<u64, Arc<InstanceLine>>>,
    dropped: Counter,
    complaints: Throttle,
}

/// A line, and about how much memory it takes.
struct Waiting {
    line: Given,
    size: usize,
}

enum Given {
    Instance(Arc<InstanceLine>),
    Call(Box<CallLine>),
    /// No call of the instance follows.
    End(u64),
}

impl Recorder {
    /// Opens the current file of the directory and starts the thread.
    pub(super) fn open(dir: &Path, config: RecordingConfig) -> io::Result<Self> {
        let files = Files::open(dir, config)?;
        let shared = Arc::new(Shared {
            waiting: AtomicUsize::new(0),
            done: watch::Sender::new(0),
            incomplete: AtomicBool::new(false),
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
            queue: Mutex::new(Queue {
                sender: Some(sender),
                last: 0,
                given: 0,
            }),
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
        let size = weigh::instance(&line);
        if !self.send(|_| Given::Instance(line), size) {
            // Before any call of it is given to the thread.
            self.shared.incomplete.store(true, Ordering::Release);
        }
        number
    }

    /// Forgets an instance, once its calls are written: none will follow.
    pub(super) fn ended(&self, instance: u64) {
        if !self.send(|_| Given::End(instance), 0) {
            self.shared.living.lock().remove(&instance);
        }
    }

    /// Records a call, and gives it its number.
    pub(super) fn called(&self, mut line: Box<CallLine>) {
        let size = weigh::call(&line);
        let numbered = |last: &mut u64| {
            *last += 1;
            line.seq = *last;
            Given::Call(line)
        };
        if !self.send(numbered, size) {
            self.shared.drop_lines(1, "the disk does not keep up");
        }
    }

    /// Whether there was a place in the queue.
    fn send(&self, line: impl FnOnce(&mut u64) -> Given, size: usize) -> bool {
        let waiting = &self.shared.waiting;
        let mut queue = self.queue.lock();
        let line = line(&mut queue.last);
        let full = waiting.load(Ordering::Relaxed) > QUEUE_BYTES;
        let Some(sender) = queue.sender.as_ref().filter(|_| !full) else {
            return false;
        };
        waiting.fetch_add(size, Ordering::Relaxed);
        match sender.try_send(Waiting { line, size }) {
            Ok(()) => {
                queue.given += 1;
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                waiting.fetch_sub(size, Ordering::Relaxed);
                false
            }
        }
    }

    /// Waits until all that was recorded so far is in the files, for a bounded time.
    pub(super) async fn flush(&self, limit: Duration) {
        let given = self.queue.lock().given;
        let mut done = self.shared.done.subscribe();
        let written = done.wait_for(|done| *done >= given);
        if !matches!(tokio::time::timeout(limit, written).await, Ok(Ok(_))) {
            tracing::error!(?limit, "recorded calls could not be written in time");
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue.lock().sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that records calls panicked");
        }
    }
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
    /// Instances whose last call is among them or was before.
    ended: Vec<u64>,
    /// Lines that were taken from the queue.
    taken: u64,
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
            ended: Vec::new(),
            taken: 0,
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

    fn take(&mut self, Waiting { line, size }: Waiting) {
        match line {
            Given::Instance(line) => self.add(&Line::Instance((*line).clone())),
            Given::Call(line) => {
                self.add(&Line::Call(*line));
                self.calls += 1;
            }
            Given::End(instance) => self.ended.push(instance),
        }
        self.taken += 1;
        self.shared.waiting.fetch_sub(size, Ordering::Relaxed);
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
        if !lines.is_empty()
            && let Err(error) = self.append(&lines)
        {
            self.incomplete = true;
            let path = self.files.path();
            self.shared
                .drop_lines(calls, format_args!("{}: {error}", path.display()));
        }
        let mut living = self.shared.living.lock();
        for instance in self.ended.drain(..) {
            living.remove(&instance);
        }
        drop(living);
        self.shared.done.send_replace(self.taken);
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.incomplete |= self.shared.incomplete.swap(false, Ordering::Acquire);
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

//! mediasoup alone: what a server made of it can reach at most.
//!
//! A process of its own (`examples/bare_router.rs` of the server) runs routers and nothing else: no rooms, no rules, no plugins, no
//! Socket.IO. It answers the requests of Face 1 on one TCP connection, so that the same
//! participants load it with the same media. A line there is a number, the participant
//! and the request, `7⇥1⇥["room:join",{…}]`; an answer is the number and a
//! list with the acknowledgement. Zero wants no answer.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout},
};

use crate::{
    error::{LoadError, StepError},
    socketio::Answer,
};

/// How long the process may take to start its workers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Requests that may wait to be sent.
const QUEUE: usize = 4096;

/// The process, and the connection to it. Dropping it ends the process.
#[derive(Debug)]
pub struct Bare {
    process: Child,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    lines: mpsc::Sender<String>,
    waiting: Mutex<HashMap<u64, (Instant, oneshot::Sender<Answer>)>>,
    next: AtomicU64,
}

/// One participant's way to the router. Dropping it leaves.
#[derive(Debug)]
pub struct Line {
    participant: u64,
    shared: Arc<Shared>,
}

impl Bare {
    /// Starts `program WORKERS` and connects to it.
    ///
    /// # Errors
    /// If it does not start within 20 s.
    pub async fn start(program: &Path, workers: usize) -> Result<Self, LoadError> {
        let failed = |why: &dyn std::fmt::Display| LoadError::Start {
            what: "the bare router",
            why: why.to_string(),
        };
        let mut process = Command::new(program)
            .arg(workers.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|why| failed(&missing(program, &why)))?;
        let opening = open(process.stdout.take());
        match timeout(START_LIMIT, opening).await {
            Ok(Ok(stream)) => Ok(Self::talk(process, stream)),
            Ok(Err(why)) => Err(failed(&end(process, &why))),
            Err(_) => Err(failed(&end(process, &"it is not ready in time"))),
        }
    }

    fn talk(process: Child, stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        let (lines, waiting) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            lines,
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
        });
        let tasks = [
            tokio::spawn(write_lines(write, waiting)),
            tokio::spawn(read_answers(read, Arc::clone(&shared))),
        ];
        Self {
            process,
            shared,
            tasks,
        }
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn line(&self, participant: u64) -> Line {
        Line {
            participant,
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // It ends by itself when the connection does; this is for one that hangs.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Why it cannot be run, and what to do about it.
fn missing(program: &Path, why: &io::Error) -> String {
    let program = program.display();
    format!(
        "{program}: {why}. Has it been built? `cargo build --release --example bare_router` does"
    )
}

/// Ends a process that is of no use, and passes on why.
fn end(mut process: Child, why: &dyn std::fmt::Display) -> String {
    drop(process.kill());
    drop(process.wait());
    why.to_string()
}

/// Its first line says where it listens.
async fn open(output: Option<std::process::ChildStdout>) -> io::Result<TcpStream> {
    let reading = spawn_blocking(move || {
        let mut line = String::new();
        let output = output.ok_or(io::ErrorKind::BrokenPipe)?;
        BufReader::new(output).read_line(&mut line)?;
        Ok::<_, io::Error>(line)
    });
    let line = reading.await.map_err(io::Error::other)??;
    let address: SocketAddr = line.trim().parse().map_err(|_| {
        let why = format!("it says {line:?} instead of its address");
        io::Error::new(io::ErrorKind::InvalidData, why)
    })?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn write_lines(mut write: OwnedWriteHalf, mut lines: mpsc::Receiver<String>) {
    while let Some(mut all) = lines.recv().await {
        // What has come together goes together.
        while let Ok(line) = lines.try_recv() {
            all.push_str(&line);
        }
        if write.write_all(all.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_answers(read: OwnedReadHalf, shared: Arc<Shared>) {
    let mut lines = tokio::io::BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((id, text)) = line.split_once('\t') else {
            continue;
        };
        let waiting = id
            .parse()
            .ok()
            .and_then(|id| shared.waiting.lock().remove(&id));
        if let Some((sent, answer)) = waiting {
            // Who asked may have stopped waiting.
            drop(answer.send(Answer {
                text: text.to_owned(),
                took: sent.elapsed(),
            }));
        }
    }
    // Those who wait learn that there will be no answer.
    shared.waiting.lock().clear();
}

impl Line {
    /// Asks for something. `body` is the event's name and its argument, as a JSON list.
    pub(crate) async fn call(
        &self,
        event: &'static str,
        body: String,
        limit: Duration,
    ) -> Result<Answer, StepError> {
        let ended = || StepError::Connection(format!("{event}: the bare router has ended"));
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let waiting = (Instant::now(), answer);
        self.shared.waiting.lock().insert(id, waiting);
        let line = format!("{id}\t{}\t{body}\n", self.participant);
        let exchange = async {
            self.shared.lines.send(line).await.map_err(|_| ended())?;
            answered.await.map_err(|_| ended())
        };
        let done = timeout(limit, exchange).await;
        done.unwrap_or_else(|_| {
            self.shared.waiting.lock().remove(&id);
            Err(StepError::TimedOut { event, limit })
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = format!("0\t{}\t[\"leave\",{{}}]\n", self.participant);
        // Where the queue is full the process ends soon, and all of it with it.
        drop(self.shared.lines.try_send(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_router_that_is_not_there_is_named_with_what_makes_it() {
        let error = Bare::start(Path::new("no/such/router"), 1)
            .await
            .unwrap_err();
        let error = error.to_string();
        for words in [
            "no/such/router",
            "cargo build --release --example bare_router",
        ] {
            assert!(error.contains(words), "{error}");
        }
    }
}

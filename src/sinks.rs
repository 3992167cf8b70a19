//! Delivery of published events to the outside.
//!
//! The [ledger](crate::store::ledger) has them; each webhook has a courier that
//! reads it by a cursor of its own and posts entry after entry: at least once, those of one
//! room in order, each known to the receiver by its id, signed. A receiver that is down costs
//! a request now and then and nothing else: no other room's events wait for one room's, no
//! other sink and nothing in the server for a receiver. What is tried too often, or refused
//! for good, becomes a dead letter, which an operator has delivered again or drops.
//!
//! Files among the sinks are brought up to date by the store itself.

mod again;
mod courier;
mod receiver;
mod sign;
mod window;

use std::{path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinHandle},
};

use self::{
    courier::{Courier, blocking},
    receiver::Receiver,
};
use crate::{
    config::{SinkConfig, SinkKind},
    store::{
        DeadLetter, Failing, Letters, NotSaved, Position, SinkState, Store, ledger::LedgerError,
    },
    telemetry::{SINK_DELIVERIES, SINK_FAILURES},
};

/// How long an operator's change of dead letters may take to the disk.
const SAVE_LIMIT: Duration = Duration::from_secs(10);

/// Dead letters that are changed together.
const TOGETHER: usize = 1000;

/// Why sinks cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// No HTTP client can be made.
    #[error("sink `{sink}`: no connections can be made on this machine: {source}")]
    Client {
        /// The sink's name.
        sink: String,
        /// What the HTTP client says.
        source: reqwest::Error,
    },
    /// The authorities that it is to trust are not known.
    #[error(
        "sink `{sink}`: ca_file {}: {problem}; it has to hold certificates in PEM, each from \
         -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
        path.display()
    )]
    Authorities {
        /// The sink's name.
        sink: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Why an operator's wish cannot be fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// No such sink.
    #[error("there is no sink `{0}`")]
    UnknownSink(String),
    /// No such dead letter. Nothing was changed.
    #[error("sink `{sink}` has no dead letter {seq}")]
    UnknownLetter {
        /// The sink.
        sink: String,
        /// The entry's number.
        seq: u64,
    },
    /// Nobody would deliver them.
    #[error("sink `{0}` is no webhook, or not configured: its dead letters can only be dropped")]
    NoWebhook(String),
    /// The letters cannot be read.
    #[error(transparent)]
    Unreadable(#[from] LedgerError),
    /// The change is not on the disk yet.
    #[error(transparent)]
    NotSaved(#[from] NotSaved),
}

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that there are.
    All,
    /// Those of these entries.
    These(Vec<u64>),
}

/// What a sink last had to tell.
#[derive(Default)]
struct Shown {
    state: Mutex<Words>,
}

#[derive(Clone, Default)]
struct Words {
    /// What has been delivered beyond the cursor.
    ahead: u64,
    failing: Option<Failing>,
}

impl Shown {
    fn reached(&self, position: &Position) {
        let ahead = position.ahead.iter().map(|(first, last)| last - first + 1);
        self.state.lock().ahead = ahead.sum();
    }

    /// Whether that is news.
    fn works(&self) -> bool {
        self.state.lock().failing.take().is_some()
    }

    /// Whether that is news.
    fn fails(&self, problem: &str) -> bool {
        let mut state = self.state.lock();
        let news = state.failing.is_none();
        Failing::again(&mut state.failing, problem.to_owned());
        news
    }
}

/// How a sink does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `file` or `webhook`; `removed` if it is not configured any more and has left dead
    /// letters behind.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Entries of the ledger after the last one up to which it has taken all.
    pub lag: u64,
    /// Those of them that it has taken or does not want.
    pub ahead: u64,
    /// What it has given up.
    pub dead_letters: u64,
    /// What is wrong, if something is.
    pub failing: Option<Failing>,
}

const WEBHOOK: &str = "webhook";
/// The kind of a sink that is not configured any more.
const REMOVED: &str = "removed";

struct Sink {
    name: String,
    kind: &'static str,
    state: SinkState,
    shown: Arc<Shown>,
    /// Has dead letters delivered again.
    again: Arc<Notify>,
    /// Held by whoever reads dead letters to change them.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl Sink {
    fn new(name: &str, kind: &'static str, store: &Store) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            state: store.sink(name),
            shown: Arc::default(),
            again: Arc::default(),
            changing: Arc::default(),
        }
    }
}

/// All sinks. Clones are the same.
#[derive(Clone)]
pub struct Sinks {
    running: Arc<Running>,
}

struct Running {
    sinks: Vec<Sink>,
    stopping: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Sinks {
    /// Begins to deliver, where each sink was. Must be called within the runtime; `configs`
    /// are those with which the store was opened.
    ///
    /// # Errors
    ///
    /// If no HTTP client can be made, or a file of authorities cannot be used.
    pub fn start(configs: &[SinkConfig], store: &Store) -> Result<Self, SinkError> {
        let (stopping, _) = watch::channel(false);
        let (mut sinks, mut couriers) = (Vec::new(), Vec::new());
        for config in configs {
            let kind = match config.kind {
                SinkKind::File { .. } => "file",
                SinkKind::Webhook(_) => WEBHOOK,
            };
            let sink = Sink::new(&config.name, kind, store);
            if let SinkKind::Webhook(webhook) = &config.kind {
                let receiver = Receiver::new(&config.name, webhook.clone())?;
                let courier = Courier {
                    receiver,
                    topics: config.topics.clone(),
                    state: sink.state.clone(),
                    ledger: store.ledger(),
                    shown: Arc::clone(&sink.shown),
                    changing: Arc::clone(&sink.changing),
                };
                couriers.push((Arc::new(courier), Arc::clone(&sink.again)));
                show(&sink);
            }
            sinks.push(sink);
        }
        for name in store.sinks_with_letters() {
            if sinks.iter().all(|sink| *sink.name != *name) {
                sinks.push(Sink::new(&name, REMOVED, store));
            }
        }
        let mut tasks = Vec::new();
        for (courier, again) in couriers {
            let marked = Arc::clone(&courier).deliver_again(again, stopping.subscribe());
            tasks.push(tokio::spawn(marked));
            tasks.push(tokio::spawn(courier.run(stopping.subscribe())));
        }
        Ok(Self {
            running: Arc::new(Running {
                sinks,
                stopping,
                tasks: Mutex::new(tasks),
            }),
        })
    }

    /// Begins no more delivery, waits for what is under way, and tells the store how far each
    /// sink is. What is not done within the limit is delivered again after the next start.
    pub async fn stop(&self, limit: Duration) {
        self.running.stopping.send_replace(true);
        let tasks = std::mem::take(&mut *self.running.tasks.lock());
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let ended = futures_util::future::join_all(tasks);
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::warn!("requests to receivers take too long: they will be made again");
            aborts.iter().for_each(AbortHandle::abort);
        }
    }

    /// Completes when the sinks are stopped.
    pub async fn stopped(&self) {
        let mut stopping = self.running.stopping.subscribe();
        // The sender lives as long as `self`.
        drop(stopping.wait_for(|stopping| *stopping).await);
    }

    /// How all sinks do, in the configured order; then those that are not configured any more
    /// and have dead letters.
    #[must_use]
    pub fn status(&self) -> Vec<SinkStatus> {
        let status = |sink: &Sink| {
            let Words { ahead, failing } = sink.shown.state.lock().clone();
            let removed = sink.kind == REMOVED;
            let dead_letters = sink.state.dead_letters();
            (!removed || dead_letters > 0).then(|| SinkStatus {
                name: sink.name.clone(),
                kind: sink.kind,
                // One that is removed waits for nothing.
                lag: if removed { 0 } else { sink.state.lag() },
                ahead,
                dead_letters,
                failing: failing.or_else(|| sink.state.failing()),
            })
        };
        self.running.sinks.iter().filter_map(status).collect()
    }

    fn sink(&self, name: &str) -> Result<&Sink, OutboxError> {
        let found = self.running.sinks.iter().find(|sink| sink.name == name);
        found.ok_or_else(|| OutboxError::UnknownSink(name.to_owned()))
    }

    /// Dead letters of a sink, those after an entry's number.
    ///
    /// # Errors
    ///
    /// If there is no such sink, or they cannot be read.
    pub async fn letters(
        &self,
        sink: &str,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Letters, OutboxError> {
        let state = self.sink(sink)?.state.clone();
        Ok(blocking(move || state.letters(after, limit)).await?)
    }

    /// Has dead letters delivered again, soon. How many.
    ///
    /// # Errors
    ///
    /// If there are no such letters, or they cannot be read or written, or the sink is no
    /// webhook any more.
    pub async fn retry(&self, sink: &str, which: &Which) -> Result<usize, OutboxError> {
        let again = match self.sink(sink)? {
            Sink { kind, again, .. } if *kind == WEBHOOK => again,
            _ => return Err(OutboxError::NoWebhook(sink.to_owned())),
        };
        let marked = |letter: DeadLetter| {
            Some(DeadLetter {
                retry: true,
                ..letter
            })
        };
        let number = self.change(sink, which, marked).await?;
        again.notify_one();
        Ok(number)
    }

    /// Drops dead letters for good. How many.
    ///
    /// # Errors
    ///
    /// If there are no such letters, or they cannot be read or written.
    pub async fn drop_letters(&self, sink: &str, which: &Which) -> Result<usize, OutboxError> {
        let number = self.change(sink, which, |_| None).await?;
        tracing::warn!(sink, number, "dead letters were dropped");
        Ok(number)
    }

    async fn change(
        &self,
        name: &str,
        which: &Which,
        change: impl Fn(DeadLetter) -> Option<DeadLetter>,
    ) -> Result<usize, OutboxError> {
        let sink = self.sink(name)?;
        let state = &sink.state;
        let _alone = sink.changing.lock().await;
        let mut number = 0;
        match which {
            Which::These(seqs) => {
                let mut letters = Vec::new();
                for &seq in seqs {
                    let state = state.clone();
                    let letter = blocking(move || state.letter(seq)).await?;
                    let letter = letter.ok_or_else(|| OutboxError::UnknownLetter {
                        sink: name.to_owned(),
                        seq,
                    })?;
                    letters.push((seq, change(letter)));
                }
                number += letters.len();
                state.put_letters(letters).wait(SAVE_LIMIT).await?;
            }
            Which::All => {
                let mut after = None;
                loop {
                    let page = self.letters(name, after, TOGETHER).await?;
                    let letters = page.letters.into_iter();
                    let letters: Vec<_> =
                        letters.map(|(seq, letter)| (seq, change(letter))).collect();
                    number += letters.len();
                    state.put_letters(letters).wait(SAVE_LIMIT).await?;
                    match page.next {
                        Some(next) => after = Some(next),
                        None => break,
                    }
                }
            }
        }
        Ok(number)
    }
}

/// Has metrics there before anything happens.
fn show(sink: &Sink) {
    for counter in [SINK_DELIVERIES, SINK_FAILURES] {
        metrics::counter!(counter, "sink" => sink.name.clone()).absolute(0);
    }
}

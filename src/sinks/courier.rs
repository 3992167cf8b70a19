//! The task that brings the ledger to one webhook.
//!
//! It reads ahead by cursor, as far as its window goes; queues nothing but numbers, and
//! texts up to a limit; and notes how far it is in the store, a few times a second at most.
//! What happens between two notes is delivered again after a crash.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{
    Shown,
    receiver::{Outcome, Receiver},
    window::{Due, Window},
};
use crate::{
    model::UnixMs,
    store::{
        DeadLetter, Position, SinkState,
        ledger::{Entry, Ledger, LedgerError, Portion},
        takes,
    },
    telemetry::{SINK_DELIVERIES, SINK_FAILURES, SINK_REQUEST_SECONDS},
};

/// Entries that are read at once.
const PORTION: Portion = Portion {
    entries: 512,
    bytes: 1 << 20,
};

/// Bytes of entries that are kept between reading and the first try.
const KEPT: usize = 8 << 20;

/// How often it is noted how far the sink is.
const NOTE_EVERY: Duration = Duration::from_millis(250);

/// The pause after the ledger could not be read.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(1);

/// Dead letters of one sink. With more, nothing is given up any more.
const MOST_LETTERS: u64 = 100_000;

/// A webhook, as its tasks share it.
pub(super) struct Courier {
    pub(super) receiver: Receiver,
    pub(super) topics: Vec<String>,
    pub(super) state: SinkState,
    pub(super) ledger: Ledger,
    pub(super) shown: Arc<Shown>,
    /// Held by whoever reads dead letters to change them.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
}

/// A try that has come to its end.
struct Landed {
    due: Due,
    entry: Option<Entry>,
    outcome: Outcome,
}

/// What the task of a courier keeps.
struct Route {
    window: Window,
    /// Entries that were read and not tried yet.
    kept: HashMap<u64, Entry>,
    kept_bytes: usize,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// Whether the store has not been told how far it is.
    unnoted: bool,
    next_note: Instant,
    read_again: Instant,
}

impl Courier {
    /// Delivers until it is told to stop; then waits for what is under way.
    pub(super) async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let Some(position) = self.begin(&mut stopping).await else {
            return;
        };
        let mut extent = self.ledger.watch();
        let now = Instant::now();
        let mut route = Route {
            window: Window::new(position),
            kept: HashMap::new(),
            kept_bytes: 0,
            flights: FuturesUnordered::new(),
            unnoted: true,
            next_note: now,
            read_again: now,
        };
        loop {
            extent.mark_unchanged();
            let more = self.read_ahead(&mut route).await;
            self.launch(&mut route);
            let wake = self.note(&mut route, more);
            tokio::select! {
                Some(landed) = route.flights.next() => self.landed(&mut route, landed),
                changed = extent.changed(), if !more => {
                    if changed.is_err() {
                        break;
                    }
                }
                () = sleep_until(wake) => {}
                _ = stopping.wait_for(|stopping| *stopping) => break,
            }
        }
        // There may be no time for more.
        self.state.reached(route.window.position());
        while let Some(landed) = route.flights.next().await {
            self.landed(&mut route, landed);
        }
        self.state.reached(route.window.position());
    }

    /// Where to go on from. `None` if it is stopped before that is known.
    async fn begin(&self, stopping: &mut watch::Receiver<bool>) -> Option<Position> {
        loop {
            let state = self.state.clone();
            match blocking(move || state.position()).await {
                Ok(position) => return Some(position),
                Err(error) => {
                    tracing::error!(sink = %self.state.name(), %error, "a sink waits");
                }
            }
            let stopped = stopping.wait_for(|stopping| *stopping);
            if tokio::time::timeout(READ_AGAIN, stopped).await.is_ok() {
                return None;
            }
        }
    }

    /// Reads what fits the window. Whether there is more to read at once.
    async fn read_ahead(&self, route: &mut Route) -> bool {
        let seen = route.window.seen();
        let behind = self.ledger.extent().head.seq > seen;
        let full = route.window.space() < PORTION.entries;
        if !behind || full || Instant::now() < route.read_again {
            return false;
        }
        let ledger = self.ledger.clone();
        let span = match blocking(move || ledger.read(seen, PORTION)).await {
            Ok(span) => span,
            Err(LedgerError::Gone { first, .. }) => {
                tracing::error!(
                    sink = %self.state.name(),
                    missed = first - 1 - seen,
                    "the ledger does not go back to where the sink was: it has missed entries"
                );
                route.window.pass_to(first - 1);
                route.unnoted = true;
                return true;
            }
            Err(error) => {
                tracing::error!(sink = %self.state.name(), %error, "a sink waits");
                route.read_again = Instant::now() + READ_AGAIN;
                return false;
            }
        };
        for entry in span.entries {
            // What somebody has spoilt by hand has no topic that anybody wants.
            let outline = entry.outline();
            let outline = outline.filter(|outline| takes(&self.topics, outline));
            let room = outline.as_ref().map(|outline| &*outline.room);
            let due = route.window.offer(entry.seq, room);
            // What is not kept is read again when it is due.
            if due && route.kept_bytes + entry.size() <= KEPT {
                route.kept_bytes += entry.size();
                route.kept.insert(entry.seq, entry);
            }
        }
        route.unnoted = true;
        self.ledger.extent().head.seq > route.window.seen()
    }

    /// Starts as many tries as may be under way.
    fn launch(self: &Arc<Self>, route: &mut Route) {
        while route.flights.len() < self.receiver.config().concurrency
            && let Some(due) = route.window.next(Instant::now())
        {
            let entry = route.kept.remove(&due.seq);
            let size = entry.as_ref().map_or(0, Entry::size);
            route.kept_bytes = route.kept_bytes.saturating_sub(size);
            let flight = Arc::clone(self).fly(due, entry);
            route.flights.push(Box::pin(flight));
        }
    }

    async fn fly(self: Arc<Self>, due: Due, entry: Option<Entry>) -> Landed {
        let entry = match entry {
            Some(entry) => entry,
            None => {
                let (ledger, seq) = (self.ledger.clone(), due.seq);
                match blocking(move || ledger.entry(seq)).await {
                    Ok(entry) => entry,
                    Err(error) => {
                        let outcome = Outcome::Later {
                            problem: error.to_string(),
                            wait: None,
                        };
                        return Landed {
                            due,
                            entry: None,
                            outcome,
                        };
                    }
                }
            }
        };
        let id = entry.outline().map(|outline| outline.id.into_owned());
        let outcome = self.try_once(&id.unwrap_or_default(), entry.json()).await;
        Landed {
            due,
            entry: Some(entry),
            outcome,
        }
    }

    /// One request, counted.
    pub(super) async fn try_once(&self, id: &str, line: String) -> Outcome {
        let began = Instant::now();
        let outcome = self.receiver.post(id, line).await;
        let sink = || self.state.name().to_string();
        metrics::histogram!(SINK_REQUEST_SECONDS, "sink" => sink()).record(began.elapsed());
        match &outcome {
            Outcome::Taken => {
                metrics::counter!(SINK_DELIVERIES, "sink" => sink()).increment(1);
                if self.shown.works() {
                    tracing::info!(sink = sink(), "a receiver takes events again");
                }
            }
            Outcome::Later { problem, .. } | Outcome::Never { problem } => {
                metrics::counter!(SINK_FAILURES, "sink" => sink()).increment(1);
                if self.shown.fails(problem) {
                    tracing::warn!(sink = sink(), problem, "a receiver does not take an event");
                }
            }
        }
        outcome
    }

    fn landed(&self, route: &mut Route, landed: Landed) {
        let Landed {
            due,
            entry,
            outcome,
        } = landed;
        let config = self.receiver.config();
        let failures = route.window.failures(&due);
        route.unnoted = true;
        match outcome {
            Outcome::Taken => route.window.done(&due),
            Outcome::Later { problem, wait } => {
                let last = failures >= config.tries;
                if last && self.give_up(&due, failures, problem, entry.as_ref()) {
                    return route.window.done(&due);
                }
                let growing = pause(failures, config.first_wait, config.longest_wait);
                let wait = at_least(wait, growing, config.longest_wait);
                route.window.later(due, Instant::now() + wait);
            }
            Outcome::Never { problem } => {
                if self.give_up(&due, failures, problem, entry.as_ref()) {
                    route.window.done(&due);
                } else {
                    route
                        .window
                        .later(due, Instant::now() + config.longest_wait);
                }
            }
        }
    }

    /// Makes a dead letter of it. Whether there was a place for it.
    fn give_up(&self, due: &Due, tries: u32, problem: String, entry: Option<&Entry>) -> bool {
        let Some(entry) = entry else { return false };
        let sink = self.state.name();
        if self.state.dead_letters() >= MOST_LETTERS {
            tracing::error!(
                %sink,
                most = MOST_LETTERS,
                "the sink has too many dead letters and gives up no more: see `voice-room outbox`"
            );
            return false;
        }
        tracing::error!(%sink, seq = due.seq, tries, problem, "an event becomes a dead letter");
        let letter = DeadLetter {
            at: UnixMs::now(),
            tries,
            problem,
            retry: false,
            entry: entry.json(),
        };
        // The position that passes over it is written no sooner.
        drop(self.state.put_letters([(due.seq, Some(letter))]));
        true
    }

    /// Notes how far the sink is, if it is time to. When there is next something to do.
    fn note(&self, route: &mut Route, more: bool) -> Option<Instant> {
        let now = Instant::now();
        let mut times = Vec::new();
        if route.unnoted && now >= route.next_note {
            let position = route.window.position();
            self.shown.reached(&position);
            self.state.reached(position);
            route.unnoted = false;
            route.next_note = now + NOTE_EVERY;
        } else if route.unnoted {
            times.push(route.next_note);
        }
        if route.read_again > now {
            times.push(route.read_again);
        }
        // While there is no place for another try, it is a landing that brings something.
        if route.flights.len() < self.receiver.config().concurrency {
            times.extend(route.window.next_time());
            times.extend(more.then_some(now));
        }
        times.into_iter().min()
    }
}

/// How long to wait after so many failures in a row: doubled each time, and cut at random by
/// up to a half, so that rooms which have failed together do not come back together.
fn pause(failures: u32, first: Duration, longest: Duration) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(31));
    let whole = first.saturating_mul(doubled).min(longest);
    let random = getrandom::u32().unwrap_or(u32::MAX);
    whole.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

/// The wait before the next try, where a receiver may have said how long it should be at least.
/// It does not make it shorter: a proxy that says one second for every try, while what is behind
/// it is down for an hour, would use them all up.
fn at_least(wanted: Option<Duration>, growing: Duration, longest: Duration) -> Duration {
    growing.max(wanted.unwrap_or_default()).min(longest)
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Reads the database where that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(LedgerError::Interrupted(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_cut_by_at_most_a_half() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(3));
        for (failures, whole) in [(1, 100), (2, 200), (5, 1600), (6, 3000), (u32::MAX, 3000)] {
            for _ in 0..50 {
                let wait = pause(failures, first, longest).as_millis();
                assert!((whole / 2..=whole).contains(&wait), "{failures}: {wait}");
            }
        }
    }

    #[test]
    fn a_receiver_can_make_a_wait_longer_up_to_the_longest_and_never_shorter() {
        let (growing, longest) = (Duration::from_secs(2), Duration::from_secs(60));
        for (wanted, wait) in [(None, 2), (Some(0), 2), (Some(7), 7), (Some(3600), 60)] {
            let wanted = wanted.map(Duration::from_secs);
            let wait = Duration::from_secs(wait);
            assert_eq!(at_least(wanted, growing, longest), wait, "{wanted:?}");
        }
    }
}

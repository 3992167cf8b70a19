//! Whether what is applied reaches the disk.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::{model::UnixMs, telemetry::STORE_DURABLE};

/// A transaction that takes longer is as bad as one that fails.
const STALLED: Duration = Duration::from_secs(5);

/// Whether the store keeps what it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Health {
    /// Yes.
    Durable,
    /// Writing fails, on a full disk for example. What is applied waits in memory and is
    /// tried again; a crash would lose it.
    Failing {
        /// Of the first failure in a row.
        since: UnixMs,
        /// What the system says of the latest, and of which file.
        problem: String,
    },
    /// A transaction does not come to an end. What is applied waits in memory.
    Stalled {
        /// When it began.
        since: UnixMs,
    },
}

impl Health {
    /// Whether new things of value may be begun.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        *self == Self::Durable
    }
}

/// What the writer notes of itself.
#[derive(Default)]
pub(super) struct Pulse {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failing: Option<(UnixMs, String)>,
    /// Of the transaction that is being written.
    began: Option<(Instant, UnixMs)>,
}

impl Pulse {
    pub(super) fn begins(&self) {
        self.state.lock().began = Some((Instant::now(), UnixMs::now()));
    }

    /// A transaction is written, and says nothing about what waits.
    pub(super) fn ended(&self) {
        self.state.lock().began = None;
    }

    /// All that waited when the transaction began is written.
    pub(super) fn succeeded(&self) {
        let mut state = self.state.lock();
        state.began = None;
        if let Some((since, _)) = state.failing.take() {
            let seconds = UnixMs::now().0.saturating_sub(since.0) / 1000;
            tracing::warn!(
                seconds,
                "the store is durable again: what waited is written"
            );
        }
    }

    pub(super) fn failed(&self, problem: String) {
        let mut state = self.state.lock();
        state.began = None;
        let since = match state.failing.take() {
            Some((since, _)) => since,
            None => {
                tracing::error!(
                    problem,
                    "THE STORE IS NOT DURABLE: a crash would lose what is applied from now on"
                );
                UnixMs::now()
            }
        };
        state.failing = Some((since, problem));
    }

    pub(super) fn health(&self) -> Health {
        let state = self.state.lock();
        if let Some((since, problem)) = &state.failing {
            return Health::Failing {
                since: *since,
                problem: problem.clone(),
            };
        }
        match state.began {
            Some((began, since)) if began.elapsed() > STALLED => Health::Stalled { since },
            _ => Health::Durable,
        }
    }

    /// Tells the metrics.
    pub(super) fn measure(&self) {
        let durable = self.health().is_durable();
        metrics::gauge!(STORE_DURABLE).set(f64::from(u8::from(durable)));
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn the_first_failure_in_a_row_says_since_when_and_the_latest_why() {
        let pulse = Pulse::default();
        assert_eq!(pulse.health(), Health::Durable);
        pulse.begins();
        assert!(pulse.health().is_durable(), "a transaction takes its time");
        pulse.failed("full".to_owned());
        let Health::Failing { since, .. } = pulse.health() else {
            panic!("{:?}", pulse.health());
        };
        pulse.begins();
        pulse.failed("still full".to_owned());
        let problem = "still full".to_owned();
        assert_eq!(pulse.health(), Health::Failing { since, problem });
        assert!(!pulse.health().is_durable());
        pulse.succeeded();
        assert_eq!(pulse.health(), Health::Durable);
    }

    #[test]
    fn a_transaction_without_end_is_as_bad_as_one_that_fails() {
        let pulse = Pulse::default();
        let since = UnixMs(7);
        let began = Instant::now().checked_sub(STALLED * 2).unwrap();
        pulse.state.lock().began = Some((began, since));
        assert_eq!(pulse.health(), Health::Stalled { since });
    }

    #[test]
    fn the_metric_is_0_for_one_that_fails_and_for_one_without_end() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let pulse = Pulse::default();
        let measured = || {
            metrics::with_local_recorder(&recorder, || pulse.measure());
            let text = recorder.handle().render();
            let value = |line: &str| line.strip_prefix(STORE_DURABLE).map(str::to_owned);
            text.lines().find_map(value)
        };
        pulse.begins();
        assert_eq!(measured().as_deref(), Some(" 1"));
        pulse.state.lock().began = Instant::now()
            .checked_sub(STALLED * 2)
            .map(|at| (at, UnixMs(7)));
        assert_eq!(measured().as_deref(), Some(" 0"));
        pulse.succeeded();
        assert_eq!(measured().as_deref(), Some(" 1"));
        pulse.failed("full".to_owned());
        assert_eq!(measured().as_deref(), Some(" 0"));
    }

    #[test]
    fn what_was_written_beside_what_waits_does_not_make_a_failing_store_durable() {
        let pulse = Pulse::default();
        pulse.failed("full".to_owned());
        let failing = pulse.health();
        pulse.begins();
        pulse.ended();
        assert_eq!(pulse.health(), failing);
        pulse.succeeded();
        assert!(pulse.health().is_durable());
    }
}

//! Latencies per event, and errors by message.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

/// Different messages that are kept; the rest is counted together.
const MAX_MESSAGES: usize = 64;

/// Durations, in microseconds, to three digits.
#[derive(Debug, Clone)]
pub struct Durations(Histogram<u64>);

/// Quantiles of durations, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quantiles {
    /// How many durations there are.
    pub count: u64,
    /// Half of them are not longer.
    pub p50: f64,
    /// 99 of 100 are not longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Durations {
    #[allow(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "these bounds are valid"
    )]
    pub(crate) fn new() -> Self {
        // Ten minutes is longer than anything here may take.
        Self(Histogram::new_with_bounds(1, 600_000_000, 3).expect("valid bounds"))
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        self.record_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn record_us(&mut self, micros: u64) {
        self.0.saturating_record(micros);
    }

    pub(crate) fn add(&mut self, others: &Self) {
        // Both have the same bounds, so that all of the others fit.
        for bucket in others.0.iter_recorded() {
            self.0
                .saturating_record_n(bucket.value_iterated_to(), bucket.count_at_value());
        }
    }

    /// None of nothing.
    #[must_use]
    pub fn quantiles(&self) -> Option<Quantiles> {
        let millis = |micros: u64| micros as f64 / 1_000.0;
        (!self.0.is_empty()).then(|| Quantiles {
            count: self.0.len(),
            p50: millis(self.0.value_at_quantile(0.5)),
            p99: millis(self.0.value_at_quantile(0.99)),
            max: millis(self.0.max()),
        })
    }
}

/// What all participants measure together.
#[derive(Debug, Default)]
pub struct Meter {
    events: Mutex<BTreeMap<&'static str, Durations>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Meter {
    pub(crate) fn record(&self, event: &'static str, duration: Duration) {
        let mut events = self.events.lock();
        events
            .entry(event)
            .or_insert_with(Durations::new)
            .record(duration);
    }

    pub(crate) fn fail(&self, message: &impl Display) {
        self.fail_times(message, 1);
    }

    pub(crate) fn fail_times(&self, message: &impl Display, times: u64) {
        let mut errors = self.errors.lock();
        let mut message = message.to_string();
        if errors.len() >= MAX_MESSAGES && !errors.contains_key(&message) {
            message = "other errors".to_owned();
        }
        *errors.entry(message).or_default() += times;
    }

    /// Operations of one event that succeeded.
    pub(crate) fn count(&self, event: &str) -> u64 {
        let events = self.events.lock();
        events.get(event).map_or(0, |one| one.0.len())
    }

    /// Quantiles per event.
    #[must_use]
    pub fn events(&self) -> BTreeMap<&'static str, Quantiles> {
        let events = self.events.lock();
        let quantiles = events
            .iter()
            .filter_map(|(event, all)| Some((*event, all.quantiles()?)));
        quantiles.collect()
    }

    /// How often each error happened.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_several_threads_are_those_of_all_durations() {
        let (mut one, mut other) = (Durations::new(), Durations::new());
        assert!(one.quantiles().is_none());
        for millis in 1..=50 {
            one.record(Duration::from_millis(millis));
            other.record(Duration::from_millis(50 + millis));
        }
        one.add(&other);
        let all = one.quantiles().unwrap();
        assert_eq!(all.count, 100);
        assert!((all.p50 - 50.0).abs() < 0.1, "{all:?}");
        assert!((all.p99 - 99.0).abs() < 0.2, "{all:?}");
        assert!((all.max - 100.0).abs() < 0.2, "{all:?}");
    }

    #[test]
    fn errors_are_counted_by_message_and_never_fill_the_memory() {
        let meter = Meter::default();
        for number in 0..2 * MAX_MESSAGES {
            meter.fail(&format!("error {number}"));
        }
        meter.fail(&"error 0");
        let errors = meter.errors();
        assert_eq!(errors["error 0"], 2);
        assert_eq!(errors["other errors"], MAX_MESSAGES as u64);
    }
}

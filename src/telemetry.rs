//! What the server tells its operators: the log, and the metrics of `GET /metrics`.
//!
//! Every metric of the core is named here; those of plugins start with
//! `voice_room_plugin_` and are named in `plugin/meters.rs`. Labels have few values,
//! known beforehand: never an id, never a text of a client.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use thiserror::Error;
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, prelude::*, util::TryInitError};

use crate::config::{LogConfig, LogFormat};

/// Gauge: open rooms.
pub const ROOMS: &str = "voice_room_rooms";
/// Gauge: participants in all rooms.
pub const PARTICIPANTS: &str = "voice_room_participants";
/// Gauge: audio streams that participants send.
pub const PRODUCERS: &str = "voice_room_producers";
/// Gauge: audio streams that participants receive.
pub const CONSUMERS: &str = "voice_room_consumers";
/// Histogram: seconds from a request to its answer; its count is the number of
/// requests. By `event`, a name of the protocol (`rtc:…` for REST, `call:…` for
/// `/ws/call`, `socket:…` for the raw WebSocket, `plugin` for events that plugins
/// answer and for unknown ones: clients choose those), and by `outcome`: `ok`,
/// `refused` (a typed refusal), `failed` (an error of ours).
pub const REQUEST_SECONDS: &str = "voice_room_request_seconds";
/// Counter: frames that were refused unread, by `reason`, one of
/// [`REFUSED_FRAME_REASONS`].
pub const REFUSED_FRAMES: &str = "voice_room_refused_frames_total";
/// `oversize`: larger than a session's limit; `rate`: over its budget of events.
pub const REFUSED_FRAME_REASONS: [&str; 2] = ["oversize", "rate"];
/// Gauge: participants whose connection was lost and who may still come back.
pub const PARKED_SESSIONS: &str = "voice_room_parked_sessions";
/// Counter: attempts to come back, by `outcome`, one of [`RESUME_OUTCOMES`].
pub const RESUMES: &str = "voice_room_resumes_total";
/// `ok`; `expired`: the token is not, or no longer, good; `gap`: events that the
/// client missed are no longer kept; `refused`: its token does not allow the room.
pub const RESUME_OUTCOMES: [&str; 4] = ["ok", "expired", "gap", "refused"];
/// Gauge: media routers; more than rooms where rooms have outgrown one.
pub const ROUTERS: &str = "voice_room_routers";
/// Gauge: media workers that run.
pub const WORKERS: &str = "voice_room_workers";
/// Counter: media workers that died.
pub const WORKER_DEATHS: &str = "voice_room_worker_deaths_total";
/// Histogram: seconds that the store takes to bring changes to the disk.
pub const STORE_COMMIT_SECONDS: &str = "voice_room_store_commit_seconds";
/// Counter: writes to the data directory that failed; they are tried again.
pub const STORE_WRITE_ERRORS: &str = "voice_room_store_write_errors_total";
/// Gauge: 1 while what is applied reaches the disk, 0 while writing the database fails or
/// does not come to an end. Measured when metrics are asked for.
pub const STORE_DURABLE: &str = "voice_room_store_durable";
/// Gauge: entries of the ledger.
pub const LEDGER_ENTRIES: &str = "voice_room_ledger_entries";
/// Gauge: number of the ledger's last entry. Gauges are doubles: exact up to 2^53.
pub const LEDGER_LAST_SEQ: &str = "voice_room_ledger_last_seq";
/// Gauge: entries of the ledger that a sink has not taken yet, by `sink`.
pub const SINK_LAG: &str = "voice_room_sink_lag_entries";
/// Counter: entries that a receiver has taken, by `sink`.
pub const SINK_DELIVERIES: &str = "voice_room_sink_deliveries_total";
/// Counter: tries at a receiver that failed, by `sink`.
pub const SINK_FAILURES: &str = "voice_room_sink_failures_total";
/// Gauge: entries that a sink has given up and that nobody has dropped yet, by `sink`.
pub const SINK_DEAD_LETTERS: &str = "voice_room_sink_dead_letters";
/// Histogram: seconds from a request to a receiver to its answer, by `sink`.
pub const SINK_REQUEST_SECONDS: &str = "voice_room_sink_request_seconds";

const GAUGES: [&str; 7] = [
    ROOMS,
    PARTICIPANTS,
    PRODUCERS,
    CONSUMERS,
    PARKED_SESSIONS,
    ROUTERS,
    WORKERS,
];

/// Upper bounds of the buckets for answers to clients, in seconds.
const REQUEST_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Upper bounds of the buckets for every other duration, in seconds: a plugin's
/// decision takes about a microsecond.
const DURATION_BUCKETS: [f64; 18] = [
    0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5,
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0, 10.0,
];

/// How often samples of histograms are put into their buckets. Until then each
/// one is kept in memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why the log could not be started.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter is not one; [`crate::config`] lets none such pass.
    #[error("log filter: {0}")]
    Filter(#[from] ParseError),
    /// There is a log already.
    #[error("cannot start the log: {0}")]
    Start(#[from] TryInitError),
}

/// Starts the log of the process, on standard error.
///
/// # Errors
///
/// The process has one already.
pub fn start_log(config: &LogConfig) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&config.filter)?;
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    Ok(())
}

/// The metrics of the process.
#[derive(Clone, Debug)]
pub struct Metrics {
    recorder: PrometheusHandle,
}

/// Why metrics could not be recorded.
#[derive(Debug, Error)]
#[error("cannot record metrics: {0}")]
pub struct MetricsError(#[from] BuildError);

impl Metrics {
    /// Records metrics from now on. There is one recorder in a process: whoever
    /// asks again gets the same one.
    ///
    /// # Errors
    ///
    /// Another library's recorder is installed.
    pub fn install() -> Result<Self, MetricsError> {
        static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);
        let mut installed = INSTALLED.lock();
        if let Some(metrics) = &*installed {
            return Ok(metrics.clone());
        }
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(REQUEST_SECONDS.to_owned()), &REQUEST_BUCKETS)?
            .set_buckets_for_metric(
                Matcher::Full(SINK_REQUEST_SECONDS.to_owned()),
                &REQUEST_BUCKETS,
            )?
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)?
            .install_recorder()?;
        describe();
        Ok(installed.insert(Self { recorder }).clone())
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.recorder.render()
    }

    /// Keeps the memory of histograms bounded while nobody calls
    /// [`Metrics::render`]. Never returns: spawn it, and abort it in the end.
    pub async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            self.recorder.run_upkeep();
        }
    }
}

/// Says what each metric is, and shows those at 0 that have not happened yet: an
/// alarm on a metric that does not exist never rings.
fn describe() {
    describe_gauge!(ROOMS, "Open rooms");
    describe_gauge!(PARTICIPANTS, "Participants in all rooms");
    describe_gauge!(PRODUCERS, "Audio streams that participants send");
    describe_gauge!(CONSUMERS, "Audio streams that participants receive");
    describe_gauge!(ROUTERS, "Media routers");
    describe_gauge!(WORKERS, "Media workers that run");
    describe_gauge!(PARKED_SESSIONS, "Lost connections that may come back");
    for name in GAUGES {
        gauge!(name).set(0.0);
    }
    describe_counter!(RESUMES, "Attempts to come back, by outcome");
    for outcome in RESUME_OUTCOMES {
        counter!(RESUMES, "outcome" => outcome).absolute(0);
    }
    describe_counter!(WORKER_DEATHS, "Media workers that died");
    counter!(WORKER_DEATHS).absolute(0);
    describe_counter!(REFUSED_FRAMES, "Frames that were refused unread, by reason");
    for reason in REFUSED_FRAME_REASONS {
        counter!(REFUSED_FRAMES, "reason" => reason).absolute(0);
    }
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "Time from a request to its answer, by event and outcome"
    );
    describe_histogram!(
        STORE_COMMIT_SECONDS,
        Unit::Seconds,
        "Time that changes take to the disk"
    );
    describe_counter!(
        STORE_WRITE_ERRORS,
        "Writes to the data directory that failed"
    );
    counter!(STORE_WRITE_ERRORS).absolute(0);
    describe_ledger();
}

fn describe_ledger() {
    describe_gauge!(
        STORE_DURABLE,
        "1 while what is applied reaches the disk, 0 while writing fails or does not end"
    );
    gauge!(STORE_DURABLE).set(1.0);
    describe_gauge!(LEDGER_ENTRIES, "Entries of the ledger");
    describe_gauge!(LEDGER_LAST_SEQ, "Number of the ledger's last entry");
    for name in [LEDGER_ENTRIES, LEDGER_LAST_SEQ] {
        gauge!(name).set(0.0);
    }
    describe_gauge!(
        SINK_LAG,
        "Entries of the ledger that a sink has not taken yet"
    );
    describe_counter!(SINK_DELIVERIES, "Entries that a receiver has taken");
    describe_counter!(SINK_FAILURES, "Tries at a receiver that failed");
    describe_gauge!(
        SINK_DEAD_LETTERS,
        "Entries that a sink has given up and that nobody has dropped yet"
    );
    describe_histogram!(
        SINK_REQUEST_SECONDS,
        Unit::Seconds,
        "Time from a request to a receiver to its answer"
    );
}

#[cfg(test)]
mod tests {
    use metrics::histogram;

    use super::*;

    /// The value of the one line that starts with `name` and a space.
    fn value(text: &str, name: &str) -> Option<f64> {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    // The recorder is the whole process's: other tests may count too.

    #[test]
    fn metrics_are_described_and_shown_before_anything_happens() {
        let text = Metrics::install().unwrap().render();

        let shown = [
            WORKER_DEATHS,
            STORE_DURABLE,
            LEDGER_ENTRIES,
            LEDGER_LAST_SEQ,
        ];
        for name in GAUGES.into_iter().chain(shown) {
            assert!(value(&text, name).is_some(), "{name} in\n{text}");
            assert!(
                text.contains(&format!("# HELP {name} ")),
                "{name} in\n{text}"
            );
        }
    }

    #[test]
    fn counters_by_label_are_shown_before_anything_happens() {
        let text = Metrics::install().unwrap().render();

        let refused =
            REFUSED_FRAME_REASONS.map(|one| format!("{REFUSED_FRAMES}{{reason=\"{one}\"}}"));
        let resumes = RESUME_OUTCOMES.map(|one| format!("{RESUMES}{{outcome=\"{one}\"}}"));
        for name in refused.into_iter().chain(resumes) {
            assert!(value(&text, &name).is_some(), "{name} in\n{text}");
        }
    }

    #[test]
    fn requests_have_buckets_of_milliseconds_and_plugins_of_microseconds() {
        let metrics = Metrics::install().unwrap();

        histogram!(REQUEST_SECONDS, "event" => "test").record(Duration::from_millis(2));
        histogram!("voice_room_plugin_test_seconds").record(Duration::from_nanos(1500));

        let text = metrics.render();
        let request = |le| {
            let name = format!("{REQUEST_SECONDS}_bucket{{event=\"test\",le=\"{le}\"}}");
            value(&text, &name)
        };
        let plugin = |le| {
            let name = format!("voice_room_plugin_test_seconds_bucket{{le=\"{le}\"}}");
            value(&text, &name)
        };
        assert_eq!(request("0.001"), Some(0.0), "{text}");
        assert_eq!(request("0.0025"), Some(1.0), "{text}");
        assert_eq!(plugin("0.000001"), Some(0.0), "{text}");
        assert_eq!(plugin("0.000002"), Some(1.0), "{text}");
    }

    #[test]
    fn the_recorder_is_the_same_for_all_who_ask() {
        let (one, other) = (Metrics::install().unwrap(), Metrics::install().unwrap());

        counter!("voice_room_test_total").increment(3);

        for metrics in [one, other] {
            assert_eq!(value(&metrics.render(), "voice_room_test_total"), Some(3.0));
        }
    }

    #[test]
    fn a_filter_that_is_none_is_an_error() {
        let config = LogConfig {
            format: LogFormat::Json,
            filter: "voice_room=loud".to_owned(),
        };

        assert!(matches!(start_log(&config), Err(LogError::Filter(_))));
    }
}

/// A number as metrics have it.
#[allow(
    clippy::cast_precision_loss,
    reason = "metrics are doubles: exact up to 2^53"
)]
#[must_use]
pub const fn approximate(number: u64) -> f64 {
    number as f64
}

/// Counts one thing in a gauge for as long as it lives.
#[derive(Debug)]
pub struct Counted(&'static str);

impl Counted {
    /// One more of what the gauge of this name counts.
    #[must_use]
    pub fn one(gauge: &'static str) -> Self {
        metrics::gauge!(gauge).increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(self.0).decrement(1.0);
    }
}

//! A circuit breaker: a plugin that keeps failing is left alone for a while, so that its
//! callers have their answer at once and nothing is spent on it.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Serialize;

use crate::config::BreakerConfig;

/// How often the wait doubles while probes fail.
const MAX_DOUBLINGS: u32 = 4;

/// Whether a plugin is being called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum BreakerState {
    /// It is.
    Closed,
    /// One call tries whether it works again.
    Probing,
    /// It is not.
    Open,
}

/// What has become of a call before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Nothing: it is new.
    New,
    /// It has failed.
    Failed,
    /// It has failed so often that it says nothing of the version that runs.
    Stuck,
}

/// May the plugin be called now?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes.
    Call,
    /// Not before then.
    Refused(Instant),
}

/// What a failure has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// The plugin is not called for so long.
    Opened(Duration),
}

/// See the module. Shared by all instances and versions of a plugin.
pub(super) struct Breaker {
    /// A copy of the state's kind, so that a healthy plugin costs no lock.
    state: AtomicU8,
    inner: Mutex<Inner>,
}

struct Inner {
    config: BreakerConfig,
    circuit: Circuit,
    /// The version that runs, by its number.
    version: u64,
    /// Failures since the version was swapped in.
    failures_of_version: u32,
}

enum Circuit {
    Closed {
        /// When calls have failed, within the window.
        failures: VecDeque<Instant>,
    },
    Open {
        until: Instant,
        doublings: u32,
    },
    Probing {
        /// A probe that has not come back by then is given up.
        until: Instant,
        doublings: u32,
    },
}

impl Circuit {
    const fn closed() -> Self {
        Self::Closed {
            failures: VecDeque::new(),
        }
    }
}

impl Breaker {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self {
            state: AtomicU8::new(BreakerState::Closed as u8),
            inner: Mutex::new(Inner {
                config,
                circuit: Circuit::closed(),
                version: 0,
                failures_of_version: 0,
            }),
        }
    }

    /// Begins anew with another version, of this number.
    pub(super) fn reset(&self, config: BreakerConfig, version: u64) {
        let mut inner = self.inner.lock();
        inner.config = config;
        inner.version = version;
        inner.failures_of_version = 0;
        self.enter(&mut inner, Circuit::closed());
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state.load(Ordering::Acquire) {
            state if state == BreakerState::Open as u8 => BreakerState::Open,
            state if state == BreakerState::Probing as u8 => BreakerState::Probing,
            _ => BreakerState::Closed,
        }
    }

    /// Failures since the version was swapped in.
    pub(super) fn failures_of_version(&self) -> u32 {
        self.inner.lock().failures_of_version
    }

    /// Whether the plugin may be called; if so, the call must report how it went. What is stuck
    /// lets others try first.
    pub(super) fn admit(&self, now: Instant, past: Past) -> Admission {
        if self.state() == BreakerState::Closed {
            return Admission::Call;
        }
        let mut inner = self.inner.lock();
        let (until, doublings) = match inner.circuit {
            Circuit::Closed { .. } => return Admission::Call,
            Circuit::Open { until, doublings } | Circuit::Probing { until, doublings } => {
                (until, doublings)
            }
        };
        let later = match past {
            Past::Stuck => inner.config.probe_after,
            Past::New | Past::Failed => Duration::ZERO,
        };
        if now < until + later {
            return Admission::Refused(until + later);
        }
        let until = now + inner.config.wait(doublings);
        self.enter(&mut inner, Circuit::Probing { until, doublings });
        Admission::Call
    }

    /// A call has succeeded. Whether that has closed the circuit.
    pub(super) fn succeeded(&self) -> bool {
        if self.state() != BreakerState::Probing {
            return false;
        }
        let mut inner = self.inner.lock();
        let probing = matches!(inner.circuit, Circuit::Probing { .. });
        if probing {
            self.enter(&mut inner, Circuit::closed());
        }
        probing
    }

    /// A call of this version has failed. What ends on a version that has been replaced says
    /// nothing of the one that runs, and one fact that is tried again and again does not close
    /// the plugin to everybody else.
    pub(super) fn failed(&self, now: Instant, version: u64, past: Past) -> Effect {
        let mut inner = self.inner.lock();
        let Inner {
            config,
            circuit,
            version: current,
            failures_of_version,
        } = &mut *inner;
        if version != *current {
            return Effect::None;
        }
        let stuck = past == Past::Stuck;
        *failures_of_version = failures_of_version.saturating_add(u32::from(!stuck));
        let doublings = match circuit {
            Circuit::Closed { .. } if past != Past::New => return Effect::None,
            Circuit::Closed { failures } => {
                failures.push_back(now);
                while failures
                    .front()
                    .is_some_and(|first| now.duration_since(*first) > config.window)
                {
                    failures.pop_front();
                }
                if failures.len() < config.failures as usize {
                    return Effect::None;
                }
                0
            }
            Circuit::Probing { doublings, .. } if stuck => *doublings,
            Circuit::Probing { doublings, .. } => (*doublings + 1).min(MAX_DOUBLINGS),
            // A call that began before it opened.
            Circuit::Open { .. } => return Effect::None,
        };
        let wait = config.wait(doublings);
        let until = now + wait;
        self.enter(&mut inner, Circuit::Open { until, doublings });
        Effect::Opened(wait)
    }

    fn enter(&self, inner: &mut Inner, circuit: Circuit) {
        let state = match circuit {
            Circuit::Closed { .. } => BreakerState::Closed,
            Circuit::Open { .. } => BreakerState::Open,
            Circuit::Probing { .. } => BreakerState::Probing,
        };
        inner.circuit = circuit;
        self.state.store(state as u8, Ordering::Release);
    }
}

impl BreakerConfig {
    fn wait(&self, doublings: u32) -> Duration {
        self.probe_after
            .saturating_mul(1 << doublings.min(MAX_DOUBLINGS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig {
        failures: 3,
        window: Duration::from_secs(10),
        probe_after: Duration::from_secs(5),
    };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn failures_within_the_window_open_it_and_older_ones_do_not_count() {
        let (breaker, start) = (Breaker::new(CONFIG), Instant::now());
        assert_eq!(breaker.failed(start, 0, Past::New), Effect::None);
        assert_eq!(
            breaker.failed(start + seconds(9), 0, Past::New),
            Effect::None
        );
        assert_eq!(
            breaker.failed(start + seconds(12), 0, Past::New),
            Effect::None
        );
        assert_eq!(breaker.state(), BreakerState::Closed);
        let opened = breaker.failed(start + seconds(13), 0, Past::New);
        assert_eq!(opened, Effect::Opened(seconds(5)));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.failures_of_version(), 4);
    }

    fn opened(at: Instant) -> Breaker {
        let breaker = Breaker::new(CONFIG);
        for _ in 0..3 {
            breaker.failed(at, 0, Past::New);
        }
        breaker
    }

    #[test]
    fn one_call_tries_and_a_success_closes_it() {
        let start = Instant::now();
        let breaker = opened(start);
        let until = start + seconds(5);
        assert_eq!(breaker.admit(start, Past::New), Admission::Refused(until));
        assert_eq!(breaker.admit(until, Past::New), Admission::Call);
        assert_eq!(breaker.state(), BreakerState::Probing);
        let next = Admission::Refused(until + seconds(5));
        assert_eq!(breaker.admit(until, Past::New), next, "one call at a time");
        assert!(breaker.succeeded());
        assert_eq!(breaker.admit(until, Past::New), Admission::Call);
        assert!(!breaker.succeeded(), "it is closed already");
    }

    #[test]
    fn a_probe_that_fails_doubles_the_wait_and_one_that_is_lost_is_given_up() {
        let start = Instant::now();
        let breaker = opened(start);
        let mut now = start + seconds(5);
        for wait in [10, 20, 40, 80, 80] {
            assert_eq!(breaker.admit(now, Past::New), Admission::Call);
            assert_eq!(
                breaker.failed(now, 0, Past::New),
                Effect::Opened(seconds(wait))
            );
            now += seconds(wait);
        }
        assert_eq!(breaker.admit(now, Past::New), Admission::Call);
        assert_eq!(breaker.admit(now + seconds(80), Past::New), Admission::Call);
    }

    #[test]
    fn another_version_begins_anew_and_does_not_answer_for_the_one_before() {
        let start = Instant::now();
        let breaker = opened(start);
        breaker.reset(CONFIG, 1);
        assert_eq!(breaker.admit(start, Past::New), Admission::Call);
        for _ in 0..10 {
            assert_eq!(breaker.failed(start, 0, Past::New), Effect::None);
        }
        assert_eq!(breaker.failures_of_version(), 0);
        assert_eq!(breaker.failed(start, 1, Past::New), Effect::None);
        assert_eq!(breaker.failures_of_version(), 1);
    }

    #[test]
    fn tries_of_the_same_call_do_not_open_it_but_fail_a_probe() {
        let start = Instant::now();
        let breaker = Breaker::new(CONFIG);
        for _ in 0..10 {
            assert_eq!(breaker.failed(start, 0, Past::Failed), Effect::None);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert_eq!(breaker.failures_of_version(), 10);
        let breaker = opened(start);
        let until = start + seconds(5);
        assert_eq!(breaker.admit(until, Past::New), Admission::Call);
        let effect = breaker.failed(until, 0, Past::Failed);
        assert_eq!(effect, Effect::Opened(seconds(10)));
    }

    #[test]
    fn what_is_stuck_lets_others_try_first_and_says_nothing_of_a_version() {
        let start = Instant::now();
        let breaker = opened(start);
        let (until, later) = (start + seconds(5), start + seconds(10));
        assert_eq!(breaker.admit(until, Past::Stuck), Admission::Refused(later));
        assert_eq!(breaker.admit(later, Past::Stuck), Admission::Call);
        let effect = breaker.failed(later, 0, Past::Stuck);
        assert_eq!(effect, Effect::Opened(seconds(5)), "no longer than before");
        assert_eq!(
            breaker.admit(later + seconds(5), Past::New),
            Admission::Call
        );
        assert!(breaker.succeeded());
        assert_eq!(breaker.failures_of_version(), 3);
    }
}

//! What every connection is held to: the size of a frame and its budget of events.

use governor::{
    Quota, RateLimiter,
    clock::MonotonicClock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::fields::Invalid;
use crate::{config::SessionsConfig, telemetry};

/// Frames up to this many times the limit are read, so that they can be counted
/// and explained; larger ones are cut off below, unread.
const READABLE_FRAMES: usize = 32;

/// The bounds of one connection.
#[derive(Debug)]
pub(super) struct Gate {
    max_frame: usize,
    budget:
        RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>,
}

/// Why a frame goes no further. Counted already.
#[derive(Debug)]
pub(super) enum Turned {
    /// The connection ends for it.
    Oversize(Invalid),
    /// The client may try again later.
    OverBudget,
}

impl Gate {
    pub(super) fn new(limits: &SessionsConfig) -> Self {
        Self {
            max_frame: limits.max_frame_bytes,
            // The default clock asks the processor what it can do each time it is made, which
            // in a virtual machine costs as much as everything else at a connection's start.
            budget: RateLimiter::direct_with_clock(quota(limits), MonotonicClock),
        }
    }

    /// Lets a frame of this size pass, or counts it as refused.
    pub(super) fn admit(&self, bytes: usize) -> Result<(), Turned> {
        if bytes > self.max_frame {
            count("oversize");
            let limit = self.max_frame;
            let problem = format!("a frame has at most {limit} bytes, this one {bytes}");
            return Err(Turned::Oversize(Invalid::one("", problem)));
        }
        self.budget.check().map_err(|_| over_budget())
    }
}

/// The largest frame that is read at all.
pub(super) fn readable(limits: &SessionsConfig) -> usize {
    limits.max_frame_bytes.saturating_mul(READABLE_FRAMES)
}

/// The budget of events of one client.
pub(super) fn quota(limits: &SessionsConfig) -> Quota {
    Quota::per_second(limits.event_budget_refill_per_second)
        .allow_burst(limits.event_budget_capacity)
}

/// Counts a request that its client had no budget for.
pub(super) fn over_budget() -> Turned {
    count("rate");
    Turned::OverBudget
}

/// Counts a body that was too large to be read.
pub(super) fn count_oversize() {
    count("oversize");
}

fn count(reason: &'static str) {
    metrics::counter!(telemetry::REFUSED_FRAMES, "reason" => reason).increment(1);
}

//! What is printed.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::Serialize;

use crate::{
    audit::{Counts, Violation},
    receiver::Behaved,
};

/// What a run has come to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What all that is random was drawn from.
    pub seed: u64,
    /// Lives of the server that ended with SIGKILL.
    pub kills: u32,
    /// All of it.
    pub seconds: f64,
    /// From the start of a server until it was ready, the first one apart: it compiles the
    /// plugins.
    pub restart_ms: Spread,
    /// How long the end took until all that was late had come.
    pub drained_ms: u64,
    /// How much there was.
    pub counts: Counts,
    /// What the receiver did.
    pub receiver: Behaved,
    /// Number and hash of the ledger's last entry.
    pub head: (u64, String),
    /// How often each rule was broken.
    pub broken: BTreeMap<&'static str, usize>,
    /// What must not be, at most some of each rule.
    pub violations: Vec<Violation>,
    /// Steps of participants that failed, by why: servers die here.
    pub failed_steps: BTreeMap<String, u64>,
    /// Where the data and the log are, if they were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// From the least to the most, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Spread {
    /// The least.
    pub least: u64,
    /// The one in the middle.
    pub median: u64,
    /// The most.
    pub most: u64,
}

impl Spread {
    pub(crate) fn of(durations: &[Duration]) -> Self {
        let mut all: Vec<u64> = durations
            .iter()
            .map(|one| u64::try_from(one.as_millis()).unwrap_or(u64::MAX))
            .collect();
        all.sort_unstable();
        let at = |place: usize| all.get(place).copied().unwrap_or_default();
        Self {
            least: at(0),
            median: at(all.len() / 2),
            most: at(all.len().saturating_sub(1)),
        }
    }
}

impl Report {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.violations.is_empty()
    }
}

pub(crate) fn sorted(all: HashMap<String, u64>) -> BTreeMap<String, u64> {
    all.into_iter().collect()
}

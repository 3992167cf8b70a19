//! Holds what clients have seen against what the server has written and sent: pure.

mod books;
mod rules;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{ledger::Pages, receiver::Book, witness::Take};
use books::Books;

/// Findings of one rule that are shown with all they concern; the others are counted.
const SHOWN: usize = 20;

/// What is audited.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What clients know.
    pub takes: &'a [Take],
    /// The ledger.
    pub pages: &'a Pages,
    /// The receiver's.
    pub book: &'a Book,
    /// See [`crate::Options::window`].
    pub window: Duration,
    /// How often the server writes how far open sessions are.
    pub heartbeat: Duration,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// What is wrong.
    pub why: String,
    /// The ledger's entries concerned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<String>,
}

/// How much there was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Producers.
    pub producers: u64,
    /// Those of which packets were sent.
    pub sent: u64,
    /// Those of which a packet reached a listener.
    pub heard: u64,
    /// Those of which a client was told the first packet.
    pub announced: u64,
    /// Those of which either is true.
    pub observed: u64,
    /// Those of which a packet was heard although its client had muted them before they sent.
    pub heard_while_muted: u64,
    /// `billing.started`.
    pub started: u64,
    /// `billing.stopped`.
    pub stopped: u64,
    /// Those of them that a kill cut off.
    pub recovered: u64,
    /// Heard less than the window before a kill, announced to nobody, and forgotten.
    pub forgotten: u64,
    /// For how long at most one of them was observed before the kill.
    pub forgotten_for_ms: u64,
    /// Packets that were sent of producers that began.
    pub packets_sent: u64,
    /// Packets that their closed facts count.
    pub packets_counted: u64,
    /// Producers whose packets had to be equal to the packet.
    pub counted_exactly: u64,
    /// What was billed, in milliseconds.
    pub billed_ms: u64,
    /// Sessions that clients have timed as well, from the first packet to the end.
    pub timed: u64,
    /// What these were billed.
    pub timed_billed_ms: u64,
    /// How long they were by the clients' clocks, without mutes.
    pub timed_ms: u64,
    /// Entries of the ledger.
    pub entries: u64,
    /// Those of them that the receiver should have.
    pub billing_entries: u64,
    /// Recorded facts, by topic.
    pub facts: BTreeMap<String, u64>,
    /// What the guest that traps says it was told.
    pub told_to_guest: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// How much there was.
    pub counts: Counts,
    /// What must not be.
    pub violations: Vec<Violation>,
    shown: BTreeMap<&'static str, usize>,
}

impl Audit {
    /// Audits.
    #[must_use]
    pub fn of(evidence: &Evidence<'_>) -> Self {
        let mut audit = Self::default();
        let books = Books::read(&evidence.pages.lines, &mut audit);
        audit.count(evidence, &books);
        rules::heard_is_billed(evidence, &books, &mut audit);
        rules::billed_was_sent(evidence, &books, &mut audit);
        rules::one_end(evidence, &books, &mut audit);
        rules::one_book(evidence, &books, &mut audit);
        rules::facts_once(&books, &mut audit);
        rules::sums_agree(evidence, &books, &mut audit);
        rules::time_agrees(evidence, &books, &mut audit);
        audit
    }

    fn found(&mut self, rule: &'static str, why: String, entries: &[&books::Entry<'_>]) {
        let shown = self.shown.entry(rule).or_default();
        *shown += 1;
        if *shown > SHOWN {
            return;
        }
        let entries = entries.iter().map(|entry| entry.line.to_owned()).collect();
        self.violations.push(Violation { rule, why, entries });
    }

    /// How often each rule was broken.
    #[must_use]
    pub fn broken(&self) -> BTreeMap<&'static str, usize> {
        self.shown.clone()
    }

    fn count(&mut self, evidence: &Evidence<'_>, books: &Books<'_>) {
        let takes = evidence.takes;
        let of = |is: fn(&Take) -> bool| takes.iter().filter(|take| is(take)).count() as u64;
        let counts = &mut self.counts;
        counts.producers = takes.len() as u64;
        counts.sent = of(|take| take.sent > 0);
        counts.heard = of(|take| take.heard_at.is_some());
        counts.announced = of(|take| take.announced_at.is_some());
        counts.observed = of(|take| take.observed_at().is_some());
        counts.heard_while_muted = of(|take| {
            let before = |heard| take.unmuted_at.is_none_or(|unmuted| heard < unmuted);
            take.muted_first && take.heard_at.is_some_and(before)
        });
        counts.started = books.number("billing.started");
        counts.stopped = books.number("billing.stopped");
        counts.entries = books.entries.len() as u64;
        let billing = books.entries.iter().filter(|entry| entry.is_billing());
        counts.billing_entries = billing.count() as u64;
        let told = books
            .entries
            .iter()
            .filter(|entry| entry.topic == "fixture.told");
        counts.told_to_guest = told.count() as u64;
        for entry in books.entries.iter().filter(|entry| entry.plugin.is_none()) {
            *counts.facts.entry(entry.topic.clone()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests;

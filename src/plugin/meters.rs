//! What is counted about one plugin.

use std::{collections::HashMap, time::Duration};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::Mutex;

use super::{breaker::BreakerState, limits};
use crate::{config::Capability, model::Hook, store::Space};

/// One plugin's metrics, looked up once: counting costs an atomic addition.
pub(super) struct Meters {
    plugin: String,
    hooks: Vec<HookMeters>,
    /// Facts that no plugin will see.
    pub(super) dropped: Counter,
    /// Actions that were invalid or too many.
    pub(super) actions_dropped: Counter,
    not_granted: Vec<Counter>,
    /// Log lines that were too many.
    pub(super) log_dropped: Counter,
    /// Jobs that wait.
    pub(super) queued: Gauge,
    stored_bytes: Gauge,
    stored_keys: Gauge,
    timers: Gauge,
    breaker: Gauge,
    /// Facts that are to be told again.
    pub(super) retried: Counter,
    /// Facts that were written down instead of told.
    pub(super) dead_letters: Counter,
    /// Versions that came after the first.
    pub(super) swapped: Counter,
    /// Versions that were taken back.
    pub(super) rolled_back: Counter,
    /// Instances that had to be replaced.
    pub(super) replaced: Counter,
    own: Mutex<HashMap<String, Counter>>,
}

struct HookMeters {
    done: Counter,
    refused: Counter,
    trapped: Counter,
    timed_out: Counter,
    out_of_memory: Counter,
    invalid: Counter,
    unanswered: Counter,
    duration: Histogram,
}

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It allowed, answered or took note.
    Done,
    /// It said no.
    Refused,
    /// The guest trapped.
    Trapped,
    /// The guest was over its time.
    TimedOut,
    /// The guest was over its memory.
    OutOfMemory,
    /// What it returned cannot be used.
    Invalid,
    /// There was no instance, no place in the queue, or no patience left.
    Unanswered,
}

impl Meters {
    pub(super) fn new(plugin: &str) -> Self {
        let name = || plugin.to_owned();
        Self {
            plugin: name(),
            hooks: Hook::ALL
                .iter()
                .map(|hook| HookMeters::new(plugin, *hook))
                .collect(),
            dropped: counter!("voice_room_plugin_facts_dropped_total", "plugin" => name()),
            actions_dropped: counter!("voice_room_plugin_actions_dropped_total", "plugin" => name()),
            not_granted: Capability::ALL
                .iter()
                .map(|capability| not_granted(plugin, *capability))
                .collect(),
            log_dropped: counter!("voice_room_plugin_log_lines_dropped_total", "plugin" => name()),
            queued: gauge!("voice_room_plugin_queued_calls", "plugin" => name()),
            stored_bytes: gauge!("voice_room_plugin_stored_bytes", "plugin" => name()),
            stored_keys: gauge!("voice_room_plugin_stored_keys", "plugin" => name()),
            timers: gauge!("voice_room_plugin_timers", "plugin" => name()),
            breaker: gauge!("voice_room_plugin_breaker_state", "plugin" => name()),
            retried: counter!("voice_room_plugin_facts_retried_total", "plugin" => name()),
            dead_letters: counter!("voice_room_plugin_dead_letters_total", "plugin" => name()),
            swapped: counter!("voice_room_plugin_swaps_total", "plugin" => name()),
            rolled_back: counter!("voice_room_plugin_rollbacks_total", "plugin" => name()),
            replaced: counter!("voice_room_plugin_instances_replaced_total", "plugin" => name()),
            own: Mutex::new(HashMap::new()),
        }
    }

    /// What the plugin keeps.
    pub(super) fn stored(&self, space: &Space) {
        self.stored_bytes.set(space.bytes() as f64);
        self.stored_keys.set(space.keys() as f64);
        self.timers.set(space.timers() as f64);
    }

    /// 0: it is called; 1: one call tries; 2: it is left alone.
    pub(super) fn breaker(&self, state: BreakerState) {
        self.breaker.set(f64::from(state as u8));
    }

    /// The version that runs.
    pub(super) fn version(&self, old: Option<&str>, new: &str) {
        let gauge = |component: &str| {
            gauge!(
                "voice_room_plugin_version",
                "plugin" => self.plugin.clone(),
                "component" => component.to_owned()
            )
        };
        if let Some(old) = old {
            gauge(old).set(0.0);
        }
        gauge(new).set(1.0);
    }

    pub(super) fn record(&self, hook: Hook, outcome: Outcome, duration: Option<Duration>) {
        let Some(meters) = self.hooks.get(hook as usize) else {
            return;
        };
        match outcome {
            Outcome::Done => &meters.done,
            Outcome::Refused => &meters.refused,
            Outcome::Trapped => &meters.trapped,
            Outcome::TimedOut => &meters.timed_out,
            Outcome::OutOfMemory => &meters.out_of_memory,
            Outcome::Invalid => &meters.invalid,
            Outcome::Unanswered => &meters.unanswered,
        }
        .increment(1);
        if let Some(duration) = duration {
            meters.duration.record(duration);
        }
    }

    /// Counts actions, amendments and topics that the plugin lacks a grant for.
    pub(super) fn not_granted(&self, capability: Capability, count: u64) {
        if let Some(counter) = self.not_granted.get(capability as usize) {
            counter.increment(count);
        }
    }

    /// Increments a counter of the plugin's own. Whether it has it.
    pub(super) fn count(&self, name: &str, by: u64) -> bool {
        let mut own = self.own.lock();
        if let Some(counter) = own.get(name) {
            counter.increment(by);
            return true;
        }
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        let valid = (1..=limits::METRIC_NAME).contains(&name.len()) && name.bytes().all(allowed);
        if !valid || own.len() >= limits::METRICS {
            return false;
        }
        let counter = counter!(
            "voice_room_plugin_custom_total",
            "plugin" => self.plugin.clone(),
            "name" => name.to_owned()
        );
        counter.increment(by);
        own.insert(name.to_owned(), counter);
        true
    }
}

fn not_granted(plugin: &str, capability: Capability) -> Counter {
    counter!(
        "voice_room_plugin_not_granted_total",
        "plugin" => plugin.to_owned(),
        "capability" => capability.name()
    )
}

impl HookMeters {
    fn new(plugin: &str, hook: Hook) -> Self {
        let calls = |outcome: &'static str| {
            counter!(
                "voice_room_plugin_calls_total",
                "plugin" => plugin.to_owned(),
                "hook" => hook.name(),
                "outcome" => outcome
            )
        };
        Self {
            done: calls("done"),
            refused: calls("refused"),
            trapped: calls("trapped"),
            timed_out: calls("timed_out"),
            out_of_memory: calls("out_of_memory"),
            invalid: calls("invalid"),
            unanswered: calls("unanswered"),
            duration: histogram!(
                "voice_room_plugin_call_seconds",
                "plugin" => plugin.to_owned(),
                "hook" => hook.name()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_cannot_fill_the_metrics_page_with_names() {
        let meters = Meters::new("flood");
        for n in 0..limits::METRICS {
            assert!(meters.count(&format!("counter_{n}"), 1));
        }
        assert!(!meters.count("one_more", 1));
        assert!(meters.count("counter_0", 1));
    }

    #[test]
    fn names_of_counters_are_checked() {
        let meters = Meters::new("names");
        assert!(meters.count("warned_2", 1));
        for name in [
            "",
            "Upper",
            "with space",
            "with\"quote",
            "ä",
            &"x".repeat(65),
        ] {
            assert!(!meters.count(name, 1), "{name}");
        }
    }
}

//! What is counted about one plugin.
//!
//! Labels are names of the configuration and of the contract, and content hashes of
//! components: never an id, never a text of a client or a guest. The one exception are the
//! guest's own counters, whose names are limited in number and in form.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use parking_lot::Mutex;

use super::{breaker::BreakerState, limits};
use crate::{config::Capability, model::Hook, store::Space};

/// By hook and outcome: `done`, `refused`, and the failures `trapped`, `timed_out`,
/// `out_of_memory`, `invalid`, `unanswered`.
const CALLS: &str = "voice_room_plugin_calls_total";
/// By hook: of calls that reached the guest.
const CALL_SECONDS: &str = "voice_room_plugin_call_seconds";
const QUEUED: &str = "voice_room_plugin_queued_calls";
const MEMORY: &str = "voice_room_plugin_memory_bytes";
const STORED_BYTES: &str = "voice_room_plugin_stored_bytes";
const STORED_KEYS: &str = "voice_room_plugin_stored_keys";
const TIMERS: &str = "voice_room_plugin_timers";
/// 0 is closed, 1 probing, 2 open.
const BREAKER: &str = "voice_room_plugin_breaker_state";
/// By component and by the version that its manifest says: 1 is the one that runs.
const VERSION: &str = "voice_room_plugin_version";
const SWAPS: &str = "voice_room_plugin_swaps_total";
const ROLLBACKS: &str = "voice_room_plugin_rollbacks_total";
const VERSIONS_REFUSED: &str = "voice_room_plugin_versions_refused_total";
const REPLACED: &str = "voice_room_plugin_instances_replaced_total";
const FACTS_RETRIED: &str = "voice_room_plugin_facts_retried_total";
const FACTS_DROPPED: &str = "voice_room_plugin_facts_dropped_total";
const DEAD_LETTERS: &str = "voice_room_plugin_dead_letters_total";
/// By reason: `invalid`, `too_many`.
const ACTIONS_DROPPED: &str = "voice_room_plugin_actions_dropped_total";
/// By capability: actions, amendments and topics.
const NOT_GRANTED: &str = "voice_room_plugin_not_granted_total";
const LOG_LINES_DROPPED: &str = "voice_room_plugin_log_lines_dropped_total";
/// By hook, and whether it `agrees`: calls that were given to a plugin's shadow.
pub(super) const SHADOW_CALLS: &str = "voice_room_plugin_shadow_calls_total";
pub(super) const SHADOW_LEFT_OUT: &str = "voice_room_plugin_shadow_calls_left_out_total";
pub(super) const RECORDING_DROPPED: &str = "voice_room_plugin_recording_dropped_total";
/// By name: what the plugin counts itself.
const CUSTOM: &str = "voice_room_plugin_custom_total";

/// Says what each metric is. To say it again changes nothing.
fn describe() {
    describe_counter!(CALLS, "Calls of plugins, by hook and outcome");
    let time = "Time of calls within plugins, by hook";
    describe_histogram!(CALL_SECONDS, Unit::Seconds, time);
    describe_gauge!(QUEUED, "Calls that wait for a plugin's instances");
    let memory = "Linear memory of a plugin's instances";
    describe_gauge!(MEMORY, Unit::Bytes, memory);
    let stored = "Keys and values that a plugin keeps";
    describe_gauge!(STORED_BYTES, Unit::Bytes, stored);
    describe_gauge!(STORED_KEYS, "Keys that a plugin keeps");
    describe_gauge!(TIMERS, "Timers that a plugin has set");
    let breaker = "Whether a plugin is called: 0 yes, 1 one call tries, 2 it is left alone";
    describe_gauge!(BREAKER, breaker);
    let version = "1 for the component that runs, 0 for those that ran before";
    describe_gauge!(VERSION, version);
    describe_counter!(
        SWAPS,
        "Versions that took over from another, also back again"
    );
    let rollbacks = "Versions that failed right after a swap and were taken back";
    describe_counter!(ROLLBACKS, rollbacks);
    let refused = "Versions that could not be used; what ran went on";
    describe_counter!(VERSIONS_REFUSED, refused);
    let replaced = "Instances that were replaced after a failed call";
    describe_counter!(REPLACED, replaced);
    let retried = "Facts that a plugin failed to take and is told again";
    describe_counter!(FACTS_RETRIED, retried);
    describe_counter!(FACTS_DROPPED, "Facts that a plugin was not told");
    let letters = "Facts that were written down because a plugin did not take them";
    describe_counter!(DEAD_LETTERS, letters);
    let actions = "Actions of plugins that were not carried out, by reason";
    describe_counter!(ACTIONS_DROPPED, actions);
    let grants = "What plugins wanted to do without a grant, by capability";
    describe_counter!(NOT_GRANTED, grants);
    describe_counter!(
        LOG_LINES_DROPPED,
        "Log lines of a plugin that were too many"
    );
    let shadow = "Calls of a plugin's shadow, by hook and whether it agrees";
    describe_counter!(SHADOW_CALLS, shadow);
    let left_out = "Calls that a plugin's shadow did not keep up with";
    describe_counter!(SHADOW_LEFT_OUT, left_out);
    let dropped = "Calls that were to be recorded and were not";
    describe_counter!(RECORDING_DROPPED, dropped);
    describe_counter!(CUSTOM, "What plugins count themselves, by name");
}

/// One plugin's metrics, looked up once: counting costs an atomic addition.
pub(super) struct Meters {
    plugin: String,
    hooks: Vec<HookMeters>,
    /// Facts that no plugin will see.
    pub(super) dropped: Counter,
    /// Actions that cannot be carried out by anybody.
    pub(super) actions_invalid: Counter,
    /// Actions beyond what one call may ask for.
    pub(super) actions_beyond: Counter,
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
    /// Versions that could not be used.
    pub(super) refused: Counter,
    /// Instances that had to be replaced.
    pub(super) replaced: Counter,
    memory: Gauge,
    memory_bytes: AtomicU64,
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

/// A component, and its version in the words of its manifest.
pub(super) type Named<'a> = (&'a str, &'a str);

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
        describe();
        let name = || plugin.to_owned();
        let actions = |reason: &'static str| counter!(ACTIONS_DROPPED, "plugin" => name(), "reason" => reason);
        Self {
            plugin: name(),
            hooks: Hook::ALL
                .iter()
                .map(|hook| HookMeters::new(plugin, *hook))
                .collect(),
            dropped: counter!(FACTS_DROPPED, "plugin" => name()),
            actions_invalid: actions("invalid"),
            actions_beyond: actions("too_many"),
            not_granted: Capability::ALL
                .iter()
                .map(|capability| not_granted(plugin, *capability))
                .collect(),
            log_dropped: counter!(LOG_LINES_DROPPED, "plugin" => name()),
            queued: gauge!(QUEUED, "plugin" => name()),
            stored_bytes: gauge!(STORED_BYTES, "plugin" => name()),
            stored_keys: gauge!(STORED_KEYS, "plugin" => name()),
            timers: gauge!(TIMERS, "plugin" => name()),
            breaker: gauge!(BREAKER, "plugin" => name()),
            retried: counter!(FACTS_RETRIED, "plugin" => name()),
            dead_letters: counter!(DEAD_LETTERS, "plugin" => name()),
            swapped: counter!(SWAPS, "plugin" => name()),
            rolled_back: counter!(ROLLBACKS, "plugin" => name()),
            refused: counter!(VERSIONS_REFUSED, "plugin" => name()),
            replaced: counter!(REPLACED, "plugin" => name()),
            memory: gauge!(MEMORY, "plugin" => name()),
            memory_bytes: AtomicU64::new(0),
            own: Mutex::new(HashMap::new()),
        }
    }

    /// An instance has grown by so many bytes.
    pub(super) fn grown(&self, bytes: usize) {
        self.memory.increment(bytes as f64);
        self.memory_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Instances have given back so many bytes.
    pub(super) fn shrunk(&self, bytes: usize) {
        self.memory.decrement(bytes as f64);
        self.memory_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of all instances.
    pub(super) fn memory(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
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
    pub(super) fn version(&self, old: Option<Named<'_>>, new: Named<'_>) {
        let gauge = |(component, version): Named<'_>| {
            gauge!(
                VERSION,
                "plugin" => self.plugin.clone(),
                "component" => component.to_owned(),
                "version" => version.to_owned()
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
            CUSTOM,
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
        NOT_GRANTED,
        "plugin" => plugin.to_owned(),
        "capability" => capability.name()
    )
}

impl HookMeters {
    fn new(plugin: &str, hook: Hook) -> Self {
        let calls = |outcome: &'static str| {
            counter!(
                CALLS,
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
                CALL_SECONDS,
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

//! What a plugin may ask for. A guest's output is hostile until it is within these.
//!
//! Sizes are in bytes unless they say otherwise.

use crate::store;

/// Largest component file.
pub(super) const COMPONENT: u64 = 64 << 20;

/// Code of one function of a component. The largest that compilers make of language engines
/// are a third of it.
pub(super) const FUNCTION: u64 = 512 << 10;

/// Code of all functions of a component.
pub(super) const FUNCTIONS_CODE: u64 = 32 << 20;

/// Functions of a component, in number.
pub(super) const FUNCTIONS: u64 = 100_000;

/// Largest manifest.
pub(super) const MANIFEST: u64 = 64 << 10;

/// Topics of one manifest.
pub(super) const TOPICS: usize = 256;

/// What one call may copy out of the guest, all strings and lists together. Without it, a
/// list whose million elements are the same megabyte would cost the server a terabyte.
/// A guest that passes it traps.
pub(super) const COPIED_OUT: usize = 8 << 20;

/// Resources (streams, pollables) that an instance may hold at once.
pub(super) const RESOURCES: usize = 256;

/// Actions of one call; those beyond are dropped.
pub(super) const ACTIONS: usize = 256;

/// Length of an event's name, in characters.
pub(super) const EVENT_NAME: usize = 64;

/// JSON text of one emitted payload, of a command's answer, and of what a newcomer is shown.
pub(super) const PAYLOAD: usize = 64 << 10;

/// JSON text of what is attached to one producer: every newcomer gets it.
pub(super) const ATTACHMENT: usize = 4 << 10;

/// A kick's reason, in characters; the rest is cut off.
pub(super) const REASON: usize = 256;

/// A refusal's code, in characters.
pub(super) const CODE: usize = 64;

/// A refusal's sentence, in characters; the rest is cut off.
pub(super) const MESSAGE: usize = 512;

/// JSON text of a refusal's details.
pub(super) const DETAILS: usize = 16 << 10;

/// Commands of one plugin.
pub(super) const COMMANDS: usize = 64;

/// Log lines of one call; those beyond are dropped.
pub(super) const LOG_LINES: u32 = 64;

/// Log lines of one plugin in a second; those beyond are dropped.
pub(super) const LINES: u32 = 1000;

/// One log line, in characters; the rest is cut off.
pub(super) const LOG_LINE: usize = 1024;

/// What is kept of a guest's standard output and error, for the log.
pub(super) const STDIO: usize = 4 << 10;

/// Counters of one plugin; those beyond are dropped.
pub(super) const METRICS: usize = 64;

/// Length of a counter's name, in characters.
pub(super) const METRIC_NAME: usize = 64;

/// Jobs that may wait for one instance.
pub(super) const QUEUE: usize = 4096;

/// Of those, how many may be questions, whose askers wait.
pub(super) const QUEUED_QUESTIONS: usize = 1024;

/// Jobs beside which one instance still takes facts that are in the ledger.
pub(super) const RECORDED_QUEUE: usize = 65_536;

/// Jobs of a room that waits for a fact which the plugin does not take, beside which there is a
/// place for another one that is not in the ledger.
pub(super) const STUCK_ROOM: usize = 256;

/// How many jobs may wait for a timer to find a place among them. So a plugin all of whose
/// timers are due at once goes on answering questions, and loses no facts.
pub(super) const QUEUED_TIMERS: usize = 1024;

/// Key-value storage and publishing.
pub(super) const STORE: store::Limits = store::Limits {
    // A room id may have 512 bytes, and plugins make keys of it.
    key: 1024,
    value: 64 << 10,
    keys: 100_000,
    total: 64 << 20,
    timers: 100_000,
    changes: 1024,
    changed: 1 << 20,
    listed: 1000,
    events: 64,
    payload: 64 << 10,
    topic: 128,
};

/// Elements of one table of a guest.
pub(super) const TABLE_ELEMENTS: usize = 100_000;

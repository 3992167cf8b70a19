//! The guest's side of the contract as Rust types, and what a guest can call.
//!
//! Everything that a guest can reach is its own: log, settings, keys, events, counters.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use serde_json::Value;
use wasmtime::{
    ResourceLimiter,
    component::{Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    compat, limits,
    manifest::{self, Granted},
    meters::Meters,
    throttle::Throttle,
    trace::{HasTraced, Trace, traced},
    wasi::{self, Printed},
};
use crate::{
    config::{Capability, PluginConfig},
    model::{RoomId, UnixMs},
    store::{self, IncrementError, KeyError, PublishError, Space, Staged, TimerError},
};

/// The one place where the WIT becomes Rust.
pub(super) mod wit {
    #![allow(
        missing_docs,
        unreachable_pub,
        unsafe_code,
        reason = "generated from the WIT, which has the documentation"
    )]

    wasmtime::component::bindgen!({
        path: "plugin-sdk/wit",
        world: "plugin",
        // Arguments are lent to the guest, so a call copies them once, into its memory.
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
    });
}

use wit::voice_room::plugin::{events, key_value, log, metrics, settings, timers, types};

/// What all instances of one version of a plugin share.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) name: Arc<str>,
    /// What it may do.
    pub(super) granted: Arc<Granted>,
    /// The settings as JSON text.
    pub(super) settings: String,
    pub(super) space: Arc<Space>,
    /// Of its keys, timers and events.
    pub(super) limits: store::Limits,
    pub(super) meters: Arc<Meters>,
    /// Limits lines that the server logs about the plugin.
    pub(super) complaints: Arc<Throttle>,
    /// Limits lines that the plugin logs.
    pub(super) lines: Arc<Throttle>,
}

impl Identity {
    /// Of the version that this configuration describes.
    pub(super) fn new(
        config: &PluginConfig,
        granted: Granted,
        space: Arc<Space>,
        meters: Arc<Meters>,
        complaints: Arc<Throttle>,
    ) -> Self {
        Self {
            name: config.name.as_str().into(),
            granted: Arc::new(granted),
            settings: match &config.settings {
                Value::Null => "{}".to_owned(),
                settings => settings.to_string(),
            },
            space,
            limits: store::Limits {
                keys: config.max_keys,
                timers: config.max_timers,
                total: config.storage_limit,
                ..limits::STORE
            },
            meters,
            complaints,
            lines: Arc::new(Throttle::new(limits::LINES)),
        }
    }

    /// Counts what the plugin has asked for in vain and, at a bounded rate, says why.
    pub(super) fn withhold(
        &self,
        capability: Capability,
        count: u64,
        why: impl FnOnce() -> String,
    ) {
        self.meters.not_granted(capability, count);
        if self.complaints.allow() {
            let (plugin, capability, why) = (&*self.name, capability.name(), why());
            tracing::warn!(
                plugin,
                capability,
                why,
                "a plugin asks for what it is not granted: dropped"
            );
        }
    }
}

/// What is special about an instance that is watched or repeated.
#[derive(Clone, Copy, Default)]
pub(super) struct Conditions {
    /// Whether its import calls are written down.
    pub(super) traced: bool,
    /// Instructions that one call may take, where the engine counts them.
    pub(super) instructions: Option<u64>,
    /// The seed of its random numbers, which are real where there is none.
    pub(super) random: Option<u64>,
    /// The time of `init`, if not the present.
    pub(super) at: Option<UnixMs>,
}

/// What an instance holds on the server's side.
pub(super) struct State {
    pub(super) identity: Arc<Identity>,
    pub(super) memory: Memory,
    pub(super) call: Call,
    pub(super) printed: Printed,
    /// When the guest was last let run, in nanoseconds since the call began.
    pub(super) resumed: Arc<AtomicU64>,
    pub(super) conditions: Conditions,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl State {
    pub(super) fn new(
        identity: Arc<Identity>,
        memory_limit: usize,
        conditions: Conditions,
    ) -> Self {
        let printed = Printed::default();
        let meters = Arc::clone(&identity.meters);
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(limits::RESOURCES);
        Self {
            identity,
            memory: Memory {
                used: 0,
                limit: memory_limit,
                at_start: 0,
                refused: false,
                meters,
            },
            call: Call::new(None, Staged::new(UnixMs(0)), Duration::ZERO),
            wasi: wasi::empty(&printed, conditions.random),
            printed,
            resumed: Arc::default(),
            conditions,
            resources,
        }
    }
}

/// What belongs to the call that runs.
pub(super) struct Call {
    pub(super) staged: Staged,
    pub(super) began: Instant,
    /// How long the guest has run, up to its last pause.
    pub(super) spent: Duration,
    pub(super) budget: Duration,
    /// What the guest has asked for, where somebody wants to know.
    pub(super) trace: Option<Trace>,
    /// Whether the guest has used keys, timers or events.
    pub(super) used_store: bool,
    room: Option<RoomId>,
    lines: u32,
}

impl Call {
    /// What the call wants kept; the next call begins with its own.
    pub(super) fn take_staged(&mut self) -> Staged {
        std::mem::replace(&mut self.staged, Staged::new(UnixMs(0)))
    }

    pub(super) fn new(room: Option<RoomId>, staged: Staged, budget: Duration) -> Self {
        Self {
            staged,
            began: Instant::now(),
            spent: Duration::ZERO,
            budget,
            trace: None,
            used_store: false,
            room,
            lines: 0,
        }
    }
}

/// Counts the linear memories of an instance.
pub(super) struct Memory {
    /// Their bytes.
    pub(super) used: usize,
    limit: usize,
    /// What they had when the instance had been initialised.
    at_start: usize,
    /// Whether the guest has asked for more than it gets.
    pub(super) refused: bool,
    meters: Arc<Meters>,
}

impl Memory {
    /// The instance has been initialised.
    pub(super) fn begin(&mut self) {
        self.at_start = self.used;
    }

    /// Whether the instance has grown, and there is little left.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.used > self.at_start && self.used > self.limit - self.limit / 8
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.meters.shrunk(self.used);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.refused = true;
            return Ok(false);
        }
        self.meters.grown(used - self.used);
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= limits::TABLE_ELEMENTS)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.resources,
        }
    }
}

/// Makes everything that a guest may import available to it.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::Plugin::add_to_linker::<State, HasTraced>(linker, traced)?;
    compat::link(linker)?;
    wasi::link(linker)
}

impl types::Host for State {}

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) {
        if self.call.lines >= limits::LOG_LINES || !self.identity.lines.allow() {
            self.identity.meters.log_dropped.increment(1);
            return;
        }
        self.call.lines += 1;
        let plugin = &*self.identity.name;
        let room = self.call.room.as_ref().map(RoomId::as_str);
        let message = printable(&message, limits::LOG_LINE);
        match level {
            log::Level::Trace => tracing::trace!(target: "plugin", plugin, room, "{message}"),
            log::Level::Debug => tracing::debug!(target: "plugin", plugin, room, "{message}"),
            log::Level::Info => tracing::info!(target: "plugin", plugin, room, "{message}"),
            log::Level::Warn => tracing::warn!(target: "plugin", plugin, room, "{message}"),
            log::Level::Error => tracing::error!(target: "plugin", plugin, room, "{message}"),
        }
    }
}

/// A guest's text on one line of the log: at most `limit` characters, none of them control
/// characters, which could forge further lines.
pub(super) fn printable(text: &str, limit: usize) -> Cow<'_, str> {
    let end = text.char_indices().nth(limit).map(|(end, _)| end);
    if end.is_none() && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let kept = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
    let mut line: String = kept
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if end.is_some() {
        line.push('…');
    }
    Cow::Owned(line)
}

impl settings::Host for State {
    fn get(&mut self) -> String {
        self.identity.settings.clone()
    }
}

impl key_value::Host for State {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, key_value::Error> {
        let Self { identity, call, .. } = self;
        let value = call.staged.get(&identity.space, &identity.limits, &key)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), key_value::Error> {
        let Self { identity, call, .. } = self;
        let (space, limits) = (&identity.space, &identity.limits);
        Ok(call.staged.set(space, limits, &key, Some(&value))?)
    }

    fn delete(&mut self, key: String) -> Result<(), key_value::Error> {
        let Self { identity, call, .. } = self;
        let (space, limits) = (&identity.space, &identity.limits);
        Ok(call.staged.set(space, limits, &key, None)?)
    }

    fn list(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<String>, key_value::Error> {
        let Self { identity, call, .. } = self;
        let (space, limits) = (&identity.space, &identity.limits);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let after = after.as_deref();
        Ok(call.staged.list(space, limits, &prefix, after, limit)?)
    }

    fn set_expiring(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: u64,
    ) -> Result<(), key_value::Error> {
        let Self { identity, call, .. } = self;
        let (space, limits) = (&identity.space, &identity.limits);
        let staged = &mut call.staged;
        Ok(staged.set_expiring(space, limits, &key, &value, ttl_ms)?)
    }

    fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
    ) -> Result<bool, key_value::Error> {
        let Self { identity, call, .. } = self;
        let (space, limits) = (&identity.space, &identity.limits);
        let (expected, value) = (expected.as_deref(), value.as_deref());
        let staged = &mut call.staged;
        Ok(staged.compare_and_set(space, limits, &key, expected, value)?)
    }

    fn increment(&mut self, key: String, by: i64) -> Result<i64, key_value::IncrementError> {
        let Self { identity, call, .. } = self;
        let (space, limits) = (&identity.space, &identity.limits);
        Ok(call.staged.increment(space, limits, &key, by)?)
    }
}

impl timers::Host for State {
    fn set(
        &mut self,
        key: String,
        after_ms: u64,
        every_ms: Option<u64>,
    ) -> Result<(), timers::Error> {
        let Self { identity, call, .. } = self;
        let (space, limits) = (&identity.space, &identity.limits);
        let room = call.room.as_ref().ok_or(timers::Error::NoRoom)?;
        let staged = &mut call.staged;
        Ok(staged.set_timer(space, limits, room, &key, after_ms, every_ms)?)
    }

    fn cancel(&mut self, key: String) -> Result<(), timers::Error> {
        let Self { identity, call, .. } = self;
        let (space, limits) = (&identity.space, &identity.limits);
        let room = call.room.as_ref().ok_or(timers::Error::NoRoom)?;
        Ok(call.staged.cancel_timer(space, limits, room, &key)?)
    }
}

impl From<TimerError> for timers::Error {
    fn from(error: TimerError) -> Self {
        match error {
            TimerError::InvalidKey(limit) => Self::InvalidKey(number(limit)),
            TimerError::InvalidDelay(text) => Self::InvalidDelay(text),
            TimerError::QuotaExceeded(text) => Self::QuotaExceeded(text),
        }
    }
}

impl From<IncrementError> for key_value::IncrementError {
    fn from(error: IncrementError) -> Self {
        match error {
            IncrementError::Storage(error) => Self::Storage(error.into()),
            IncrementError::NotANumber => Self::NotANumber,
            IncrementError::Overflow => Self::Overflow,
        }
    }
}

impl From<KeyError> for key_value::Error {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::InvalidKey(limit) => Self::InvalidKey(number(limit)),
            KeyError::ValueTooLarge(limit) => Self::ValueTooLarge(number(limit)),
            KeyError::QuotaExceeded(text) => Self::QuotaExceeded(text),
        }
    }
}

impl events::Host for State {
    fn publish(&mut self, topic: String, payload: String) -> Result<(), events::Error> {
        let Self { identity, call, .. } = self;
        if manifest::is_topic(&topic) && !identity.granted.has_topic(&topic) {
            identity.withhold(Capability::Publish, 1, || {
                format!("the topic `{topic}` is not among the `topics` of its manifest")
            });
            return Err(events::Error::NotGranted);
        }
        let room = call.room.as_ref().map_or("", RoomId::as_str);
        Ok(call
            .staged
            .publish(&identity.space, &identity.limits, room, &topic, &payload)?)
    }
}

impl From<PublishError> for events::Error {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::InvalidTopic => Self::InvalidTopic,
            PublishError::InvalidPayload(text) => Self::InvalidPayload(text),
            PublishError::QuotaExceeded(limit) => Self::QuotaExceeded(number(limit)),
        }
    }
}

impl metrics::Host for State {
    fn increment(&mut self, name: String, by: u64) {
        if !self.identity.meters.count(&name, by) && self.identity.complaints.allow() {
            let plugin = &*self.identity.name;
            let name = printable(&name, limits::METRIC_NAME);
            tracing::warn!(plugin, %name, "a counter is dropped: its name is invalid, or there are too many");
        }
    }
}

fn number(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_forge_log_lines_or_write_gigabytes() {
        assert_eq!(printable("hello", 10), "hello");
        assert_eq!(
            printable("a\nERROR forged\u{1b}[2J", 100),
            "a ERROR forged [2J"
        );
        assert_eq!(printable("ääää", 3), "äää…");
        assert_eq!(printable("", 3), "");
    }

    #[test]
    fn memories_are_counted_together_and_refused_over_the_limit() {
        let meters = Arc::new(Meters::new("test"));
        let mut memory = Memory {
            used: 0,
            limit: 100,
            at_start: 0,
            refused: false,
            meters: Arc::clone(&meters),
        };
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(!memory.is_nearly_full());
        assert!(memory.memory_growing(0, 40, None).unwrap());
        assert!(memory.is_nearly_full());
        memory.begin();
        assert!(!memory.is_nearly_full(), "it has not grown since");
        assert!(!memory.refused);
        assert!(!memory.memory_growing(60, 61, None).unwrap());
        assert!(memory.refused);
        assert_eq!(meters.memory(), 100);
        drop(memory);
        assert_eq!(meters.memory(), 0, "an instance gives all of it back");
    }
}

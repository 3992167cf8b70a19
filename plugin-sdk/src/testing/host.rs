//! The in-memory host of native builds: what the server's imports do, on this thread.

use std::{cell::RefCell, collections::BTreeMap};

use serde_json::Value;

use super::manifest::{self, Capability};
use crate::{UnixMs, events, kv, log::Level, timers};

/// Longest key, in bytes: long enough for the id of any room.
const KEY_BYTES: u32 = 1024;
/// Longest value, in bytes.
const VALUE_BYTES: u32 = 64 * 1024;
/// Longest delay and period of a timer: 400 days.
const LONGEST_MS: u64 = 400 * 24 * 3_600_000;
/// Shortest period of a timer.
const SHORTEST_PERIOD_MS: u64 = 100;
/// When time begins, until a test lets it pass.
const START: UnixMs = 1_700_000_000_000;

/// An event that a plugin has published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// For example `billing.started`.
    pub topic: String,
    /// What it says.
    pub payload: Value,
}

/// A line that a plugin has logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
}

/// A timer that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// To which it belongs.
    pub room_id: String,
    /// Under which it was set.
    pub key: String,
    /// When it is due.
    pub due: UnixMs,
    /// Its period in milliseconds, if it repeats.
    pub every_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    value: Vec<u8>,
    expires_at: Option<UnixMs>,
}

/// What a call changes and, if it fails, has not changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    stored: BTreeMap<String, Stored>,
    timers: BTreeMap<(String, String), Timer>,
    published: Vec<Published>,
}

#[derive(Clone)]
pub(super) struct Host {
    now: UnixMs,
    /// Of the call that runs, if one does.
    room_id: Option<String>,
    settings: Option<String>,
    timer_limit: usize,
    kept: Kept,
    log: Vec<LogLine>,
    counters: BTreeMap<String, u64>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            now: START,
            room_id: None,
            settings: None,
            timer_limit: usize::MAX,
            kept: Kept::default(),
            log: Vec::new(),
            counters: BTreeMap::new(),
        }
    }
}

impl Host {
    fn get(&self, key: &str) -> Option<&Stored> {
        let stored = self.kept.stored.get(key);
        stored.filter(|stored| stored.expires_at.is_none_or(|end| end > self.now))
    }

    fn put(&mut self, key: &str, value: &[u8], expires_at: Option<UnixMs>) {
        let value = value.to_owned();
        let stored = Stored { value, expires_at };
        self.kept.stored.insert(key.to_owned(), stored);
    }
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

fn with<T>(use_host: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(use_host)
}

/// Forgets everything that this thread's host knows. [`Stage::new`](super::Stage::new) does it.
pub fn reset() {
    with(|host| *host = Host::default());
    manifest::set(None);
}

/// Sets what [`Settings::current`](crate::Settings::current) says.
pub fn set_settings(settings: &Value) {
    with(|host| host.settings = Some(settings.to_string()));
}

/// Lets the plugin have so many timers, and no more: as `max_timers` of its configuration does.
pub fn set_timer_limit(timers: usize) {
    with(|host| host.timer_limit = timers);
}

/// Every key of the plugin's storage that has not expired; read values with [`kv::get`].
#[must_use]
pub fn keys() -> Vec<String> {
    with(|host| {
        let keys = host.kept.stored.keys();
        keys.filter(|key| host.get(key).is_some())
            .cloned()
            .collect()
    })
}

/// The timers that are set, by room and key.
#[must_use]
pub fn timers() -> Vec<Timer> {
    with(|host| host.kept.timers.values().cloned().collect())
}

/// What has been published so far.
#[must_use]
pub fn published() -> Vec<Published> {
    with(|host| host.kept.published.clone())
}

/// What has been logged so far.
#[must_use]
pub fn log_lines() -> Vec<LogLine> {
    with(|host| host.log.clone())
}

/// The value of one of the plugin's counters; 0 if it was never incremented.
#[must_use]
pub fn counter(name: &str) -> u64 {
    with(|host| host.counters.get(name).copied().unwrap_or(0))
}

pub(super) fn now() -> UnixMs {
    with(|host| host.now)
}

pub(super) fn set_now(now: UnixMs) {
    with(|host| host.now = now);
}

pub(super) fn set_room(room_id: Option<&str>) {
    with(|host| host.room_id = room_id.map(str::to_owned));
}

pub(super) fn kept() -> Kept {
    with(|host| host.kept.clone())
}

/// All that the host knows, for taking back what a call has done.
pub(super) fn snapshot() -> Host {
    with(|host| host.clone())
}

pub(super) fn restore(snapshot: Host) {
    with(|host| *host = snapshot);
}

pub(super) fn set_kept(kept: Kept) {
    with(|host| host.kept = kept);
}

/// The timer that is due next, if one is due by then.
pub(super) fn next_timer(by: UnixMs) -> Option<Timer> {
    with(|host| {
        let due = host.kept.timers.values().filter(|timer| timer.due <= by);
        due.min_by_key(|timer| timer.due).cloned()
    })
}

/// Ends a timer's turn: it is gone, or waits for its next period after now, unless the call
/// that it brought about has set it anew.
pub(super) fn timer_done(done: &Timer) {
    with(|host| {
        let id = (done.room_id.clone(), done.key.clone());
        if host.kept.timers.get(&id) != Some(done) {
            return;
        }
        match done.every_ms {
            Some(every) => {
                let missed = host.now.saturating_sub(done.due) / every.max(1);
                let due = done.due.saturating_add(every.saturating_mul(missed + 1));
                host.kept.timers.insert(
                    id,
                    Timer {
                        due,
                        ..done.clone()
                    },
                );
            }
            None => {
                host.kept.timers.remove(&id);
            }
        }
    });
}

pub(crate) fn settings() -> String {
    with(|host| host.settings.clone()).unwrap_or_else(|| "{}".to_owned())
}

pub(crate) fn log(level: Level, message: &str) {
    with(|host| {
        host.log.push(LogLine {
            level,
            message: message.to_owned(),
        })
    });
}

fn check_key(key: &str) -> Result<(), kv::Error> {
    manifest::require(Capability::KeyValue);
    if key.is_empty() || key.len() > KEY_BYTES as usize {
        return Err(kv::Error::InvalidKey(KEY_BYTES));
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), kv::Error> {
    if value.len() > VALUE_BYTES as usize {
        return Err(kv::Error::ValueTooLarge(VALUE_BYTES));
    }
    Ok(())
}

pub(crate) fn kv_get(key: &str) -> Result<Option<Vec<u8>>, kv::Error> {
    check_key(key)?;
    Ok(with(|host| {
        host.get(key).map(|stored| stored.value.clone())
    }))
}

pub(crate) fn kv_set(key: &str, value: &[u8]) -> Result<(), kv::Error> {
    check_key(key)?;
    check_value(value)?;
    with(|host| host.put(key, value, None));
    Ok(())
}

pub(crate) fn kv_set_expiring(key: &str, value: &[u8], ttl_ms: u64) -> Result<(), kv::Error> {
    check_key(key)?;
    check_value(value)?;
    with(|host| host.put(key, value, Some(host.now.saturating_add(ttl_ms))));
    Ok(())
}

pub(crate) fn kv_compare_and_set(
    key: &str,
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<bool, kv::Error> {
    check_key(key)?;
    value.map_or(Ok(()), check_value)?;
    Ok(with(|host| {
        if host.get(key).map(|stored| stored.value.as_slice()) != expected {
            return false;
        }
        match value {
            Some(value) => host.put(key, value, None),
            None => {
                host.kept.stored.remove(key);
            }
        }
        true
    }))
}

pub(crate) fn kv_increment(key: &str, by: i64) -> Result<i64, kv::Error> {
    check_key(key)?;
    with(|host| {
        let (number, expires_at) = match host.get(key) {
            Some(stored) => {
                let text = str::from_utf8(&stored.value).ok();
                let number = text.and_then(|text| text.parse::<i64>().ok());
                let not_a_number = || kv::Error::NotANumber(key.to_owned());
                (number.ok_or_else(not_a_number)?, stored.expires_at)
            }
            None => (0, None),
        };
        let sum = number.checked_add(by);
        let sum = sum.ok_or_else(|| kv::Error::Overflow(key.to_owned()))?;
        host.put(key, sum.to_string().as_bytes(), expires_at);
        Ok(sum)
    })
}

pub(crate) fn kv_delete(key: &str) -> Result<(), kv::Error> {
    check_key(key)?;
    with(|host| host.kept.stored.remove(key));
    Ok(())
}

pub(crate) fn kv_list(
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<String>, kv::Error> {
    manifest::require(Capability::KeyValue);
    let keys = keys().into_iter().filter(|key| key.starts_with(prefix));
    let keys = keys.filter(|key| after.is_none_or(|after| key.as_str() > after));
    Ok(keys.take(limit as usize).collect())
}

pub(crate) fn timer_set(
    key: &str,
    after_ms: u64,
    every_ms: Option<u64>,
) -> Result<(), timers::Error> {
    manifest::require(Capability::Timers);
    if key.is_empty() || key.len() > KEY_BYTES as usize {
        return Err(timers::Error::InvalidKey(KEY_BYTES));
    }
    if after_ms > LONGEST_MS {
        let problem = format!("a delay of {after_ms} ms is longer than {LONGEST_MS} ms");
        return Err(timers::Error::InvalidDelay(problem));
    }
    if let Some(every_ms) =
        every_ms.filter(|every| !(SHORTEST_PERIOD_MS..=LONGEST_MS).contains(every))
    {
        let problem =
            format!("a period of {every_ms} ms is not {SHORTEST_PERIOD_MS} to {LONGEST_MS} ms");
        return Err(timers::Error::InvalidDelay(problem));
    }
    with(|host| {
        let room_id = host.room_id.clone().ok_or(timers::Error::NoRoom)?;
        let id = (room_id.clone(), key.to_owned());
        let (timers, limit) = (&host.kept.timers, host.timer_limit);
        if timers.len() >= limit && !timers.contains_key(&id) {
            let problem = format!("the plugin may have {limit} timers");
            return Err(timers::Error::QuotaExceeded(problem));
        }
        let timer = Timer {
            room_id,
            key: key.to_owned(),
            due: host.now.saturating_add(after_ms),
            every_ms,
        };
        host.kept.timers.insert(id, timer);
        Ok(())
    })
}

pub(crate) fn timer_cancel(key: &str) -> Result<(), timers::Error> {
    manifest::require(Capability::Timers);
    with(|host| {
        let room_id = host.room_id.clone().ok_or(timers::Error::NoRoom)?;
        host.kept.timers.remove(&(room_id, key.to_owned()));
        Ok(())
    })
}

pub(crate) fn publish(topic: &str, payload: &str) -> Result<(), events::Error> {
    manifest::require(Capability::Publish);
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 128 || !topic.chars().all(allowed) {
        return Err(events::Error::InvalidTopic);
    }
    if !manifest::lists_topic(topic) {
        return Err(events::Error::NotGranted);
    }
    let payload = serde_json::from_str(payload)
        .map_err(|error| events::Error::InvalidPayload(error.to_string()))?;
    with(|host| {
        host.kept.published.push(Published {
            topic: topic.to_owned(),
            payload,
        })
    });
    Ok(())
}

pub(crate) fn increment(name: &str, by: u64) {
    manifest::require(Capability::Metrics);
    with(|host| {
        let counter = host.counters.entry(name.to_owned()).or_default();
        *counter = counter.saturating_add(by);
    });
}

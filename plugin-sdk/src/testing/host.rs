//! The in-memory host of native builds: what the server's imports do, on this thread.

use std::{cell::RefCell, collections::BTreeMap};

use serde_json::Value;

use crate::{events, kv, log::Level};

/// Longest key, in bytes: long enough for the id of any room.
const KEY_BYTES: u32 = 1024;
/// Longest value, in bytes.
const VALUE_BYTES: u32 = 64 * 1024;

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

#[derive(Default)]
struct Host {
    settings: Option<String>,
    stored: BTreeMap<String, Vec<u8>>,
    published: Vec<Published>,
    log: Vec<LogLine>,
    counters: BTreeMap<String, u64>,
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
}

/// Sets what [`Settings::current`](crate::Settings::current) says.
pub fn set_settings(settings: &Value) {
    with(|host| host.settings = Some(settings.to_string()));
}

/// Every key of the plugin's storage; read values with [`kv::get`].
#[must_use]
pub fn keys() -> Vec<String> {
    with(|host| host.stored.keys().cloned().collect())
}

/// What has been published so far.
#[must_use]
pub fn published() -> Vec<Published> {
    with(|host| host.published.clone())
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

/// Calls a hook as the server does: if it fails, what it wrote and published is undone.
pub(super) fn transaction<T, E>(
    hook: impl FnOnce() -> Result<T, E>,
    failed: impl FnOnce(&E) -> bool,
) -> Result<T, E> {
    let (stored, published) = with(|host| (host.stored.clone(), host.published.len()));
    let result = hook();
    if result.as_ref().is_err_and(failed) {
        with(|host| {
            host.stored = stored;
            host.published.truncate(published);
        });
    }
    result
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
    if key.is_empty() || key.len() > KEY_BYTES as usize {
        return Err(kv::Error::InvalidKey(KEY_BYTES));
    }
    Ok(())
}

pub(crate) fn kv_get(key: &str) -> Result<Option<Vec<u8>>, kv::Error> {
    check_key(key)?;
    Ok(with(|host| host.stored.get(key).cloned()))
}

pub(crate) fn kv_set(key: &str, value: &[u8]) -> Result<(), kv::Error> {
    check_key(key)?;
    if value.len() > VALUE_BYTES as usize {
        return Err(kv::Error::ValueTooLarge(VALUE_BYTES));
    }
    with(|host| host.stored.insert(key.to_owned(), value.to_owned()));
    Ok(())
}

pub(crate) fn kv_delete(key: &str) -> Result<(), kv::Error> {
    check_key(key)?;
    with(|host| host.stored.remove(key));
    Ok(())
}

pub(crate) fn kv_list(
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<String>, kv::Error> {
    Ok(with(|host| {
        let keys = host.stored.keys().filter(|key| key.starts_with(prefix));
        let keys = keys.filter(|key| after.is_none_or(|after| key.as_str() > after));
        keys.take(limit as usize).cloned().collect()
    }))
}

pub(crate) fn publish(topic: &str, payload: &str) -> Result<(), events::Error> {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 128 || !topic.chars().all(allowed) {
        return Err(events::Error::InvalidTopic);
    }
    let payload = serde_json::from_str(payload)
        .map_err(|error| events::Error::InvalidPayload(error.to_string()))?;
    with(|host| {
        host.published.push(Published {
            topic: topic.to_owned(),
            payload,
        })
    });
    Ok(())
}

pub(crate) fn increment(name: &str, by: u64) {
    with(|host| {
        let counter = host.counters.entry(name.to_owned()).or_default();
        *counter = counter.saturating_add(by);
    });
}

//! The component's imports in the SDK's own types.

use super::bindings::voice_room::plugin as wit;
use crate::{events, kv, log::Level, timers};

pub(crate) fn settings() -> String {
    wit::settings::get()
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => wit::log::Level::Trace,
        Level::Debug => wit::log::Level::Debug,
        Level::Info => wit::log::Level::Info,
        Level::Warn => wit::log::Level::Warn,
        Level::Error => wit::log::Level::Error,
    };
    wit::log::write(level, message);
}

pub(crate) fn kv_get(key: &str) -> Result<Option<Vec<u8>>, kv::Error> {
    wit::key_value::get(key).map_err(kv_error)
}

pub(crate) fn kv_set(key: &str, value: &[u8]) -> Result<(), kv::Error> {
    wit::key_value::set(key, value).map_err(kv_error)
}

pub(crate) fn kv_delete(key: &str) -> Result<(), kv::Error> {
    wit::key_value::delete(key).map_err(kv_error)
}

pub(crate) fn kv_list(
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<String>, kv::Error> {
    wit::key_value::list(prefix, after, limit).map_err(kv_error)
}

pub(crate) fn kv_set_expiring(key: &str, value: &[u8], ttl_ms: u64) -> Result<(), kv::Error> {
    wit::key_value::set_expiring(key, value, ttl_ms).map_err(kv_error)
}

pub(crate) fn kv_compare_and_set(
    key: &str,
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<bool, kv::Error> {
    wit::key_value::compare_and_set(key, expected, value).map_err(kv_error)
}

pub(crate) fn kv_increment(key: &str, by: i64) -> Result<i64, kv::Error> {
    wit::key_value::increment(key, by).map_err(|error| match error {
        wit::key_value::IncrementError::Storage(error) => kv_error(error),
        wit::key_value::IncrementError::NotANumber => kv::Error::NotANumber(key.to_owned()),
        wit::key_value::IncrementError::Overflow => kv::Error::Overflow(key.to_owned()),
    })
}

fn kv_error(error: wit::key_value::Error) -> kv::Error {
    match error {
        wit::key_value::Error::InvalidKey(limit) => kv::Error::InvalidKey(limit),
        wit::key_value::Error::ValueTooLarge(limit) => kv::Error::ValueTooLarge(limit),
        wit::key_value::Error::QuotaExceeded(problem) => kv::Error::QuotaExceeded(problem),
    }
}

pub(crate) fn publish(topic: &str, payload: &str) -> Result<(), events::Error> {
    wit::events::publish(topic, payload).map_err(|error| match error {
        wit::events::Error::InvalidTopic => events::Error::InvalidTopic,
        wit::events::Error::InvalidPayload(problem) => events::Error::InvalidPayload(problem),
        wit::events::Error::QuotaExceeded(limit) => events::Error::QuotaExceeded(limit),
        wit::events::Error::NotGranted => events::Error::NotGranted,
    })
}

pub(crate) fn increment(name: &str, by: u64) {
    wit::metrics::increment(name, by);
}

pub(crate) fn timer_set(
    key: &str,
    after_ms: u64,
    every_ms: Option<u64>,
) -> Result<(), timers::Error> {
    wit::timers::set(key, after_ms, every_ms).map_err(timer_error)
}

pub(crate) fn timer_cancel(key: &str) -> Result<(), timers::Error> {
    wit::timers::cancel(key).map_err(timer_error)
}

fn timer_error(error: wit::timers::Error) -> timers::Error {
    match error {
        wit::timers::Error::InvalidKey(limit) => timers::Error::InvalidKey(limit),
        wit::timers::Error::InvalidDelay(problem) => timers::Error::InvalidDelay(problem),
        wit::timers::Error::NoRoom => timers::Error::NoRoom,
        wit::timers::Error::QuotaExceeded(problem) => timers::Error::QuotaExceeded(problem),
    }
}

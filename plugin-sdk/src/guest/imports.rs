//! The component's imports in the SDK's own types.

use super::bindings::voice_room::plugin as wit;
use crate::{events, kv, log::Level};

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
    })
}

pub(crate) fn increment(name: &str, by: u64) {
    wit::metrics::increment(name, by);
}

//! Durable storage of the plugin's own: what must survive goes here.
//!
//! No other plugin sees it, and all instances of the plugin share it. A hook sees its own
//! writes at once. Everybody else sees them when the hook returns: all of them or, if the
//! hook fails, none.
//!
//! Calls about one room come one after another, so a key that carries the room's id has one
//! writer at a time. A key that several rooms share may be written by two instances at
//! once; the last one to return wins.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use voice_room_plugin_sdk::kv;
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Ban {
//!     until: Option<u64>,
//! }
//!
//! # fn main() -> Result<(), kv::Error> {
//! kv::set("ban/7", &Ban { until: None })?;
//! assert_eq!(kv::get::<Ban>("ban/7")?, Some(Ban { until: None }));
//! kv::delete("ban/7")?;
//! # Ok(())
//! # }
//! ```

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::{host, outcome::Failure};

/// Why a key or a value was not taken or not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The key is empty, or longer than this many bytes.
    InvalidKey(u32),
    /// The value is longer than this many bytes.
    ValueTooLarge(u32),
    /// The call or the plugin is over its number of keys or bytes.
    QuotaExceeded(String),
    /// The value under this key is not JSON of the type asked for.
    Unreadable {
        /// Under which key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The value for this key cannot be written as JSON.
    Unwritable {
        /// For which key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidKey(limit) => {
                write!(f, "key-value: a key is empty or longer than {limit} bytes")
            }
            Self::ValueTooLarge(limit) => {
                write!(f, "key-value: a value is longer than {limit} bytes")
            }
            Self::QuotaExceeded(problem) => write!(f, "key-value: {problem}"),
            Self::Unreadable { key, problem } => {
                write!(
                    f,
                    "key-value: the value of `{key}` is unreadable: {problem}"
                )
            }
            Self::Unwritable { key, problem } => {
                write!(
                    f,
                    "key-value: the value for `{key}` is unwritable: {problem}"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.to_string())
    }
}

/// The value under a key, read from JSON; `None` if there is none.
///
/// # Errors
///
/// [`Error::InvalidKey`]; [`Error::Unreadable`] if the value is not JSON of type `T`;
/// [`Error::QuotaExceeded`] if the call has asked for too much.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let Some(bytes) = host::kv_get(key)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::Unreadable {
            key: key.to_owned(),
            problem: error.to_string(),
        })
}

/// Puts a value under a key, as JSON, in place of what was there.
///
/// # Errors
///
/// [`Error::InvalidKey`], [`Error::ValueTooLarge`], [`Error::QuotaExceeded`];
/// [`Error::Unwritable`] if the value cannot be written as JSON.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::Unwritable {
        key: key.to_owned(),
        problem: error.to_string(),
    })?;
    host::kv_set(key, &bytes)
}

/// The value under a key as it is stored; `None` if there is none.
///
/// # Errors
///
/// [`Error::InvalidKey`]; [`Error::QuotaExceeded`] if the call has asked for too much.
pub fn get_bytes(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::kv_get(key)
}

/// Puts bytes under a key, in place of what was there.
///
/// # Errors
///
/// [`Error::InvalidKey`], [`Error::ValueTooLarge`], [`Error::QuotaExceeded`].
pub fn set_bytes(key: &str, value: &[u8]) -> Result<(), Error> {
    host::kv_set(key, value)
}

/// Removes a key. Removing what is not there is no error.
///
/// # Errors
///
/// [`Error::InvalidKey`], [`Error::QuotaExceeded`].
pub fn delete(key: &str) -> Result<(), Error> {
    host::kv_delete(key)
}

/// Keys that start with `prefix`, in byte order, at most `limit`: the first ones or, to
/// page on, those after the key `after`.
///
/// # Errors
///
/// [`Error::InvalidKey`], [`Error::QuotaExceeded`].
pub fn list(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Error> {
    host::kv_list(prefix, after, limit)
}

/// A key of one room's: `kind/length/room/rest`. The length keeps the keys of room `a` apart
/// from those of room `a/b`, so that `list(&room_key("ban", room, ""), …)` gives exactly the
/// room's own.
#[must_use]
pub fn room_key(kind: &str, room_id: &str, rest: impl fmt::Display) -> String {
    format!("{kind}/{}/{room_id}/{rest}", room_id.len())
}

//! Durable storage of the plugin's own: what must survive goes here.
//!
//! No other plugin sees it, and all instances of the plugin share it. It needs the
//! capability `key-value` in the plugin's manifest.
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
//!
//! # Transactions
//!
//! A hook sees its own writes at once. Everybody else sees them when the hook returns: all
//! of them or, if the hook fails, none. Calls about one room come one after another, so a
//! key that carries the room's id has one writer at a time, and [`get`] and [`set`] suffice.
//!
//! A key that several rooms share may be changed by two instances at once. With [`set`] the
//! last one to return wins; with [`update`], [`insert`], [`increment`] and
//! [`compare_and_set`] none is lost: if another instance has changed the key before the hook
//! returns, the whole hook is undone and called again.
//!
//! ```
//! use voice_room_plugin_sdk::kv;
//!
//! # fn main() -> Result<(), kv::Error> {
//! // The rooms in which user 7 speaks, whichever room says so first.
//! let rooms = kv::update("speaking/7", |rooms: Option<Vec<String>>| {
//!     let mut rooms = rooms.unwrap_or_default();
//!     rooms.push("lobby".to_owned());
//!     Some(rooms)
//! })?;
//! assert_eq!(rooms, Some(vec!["lobby".to_owned()]));
//! assert_eq!(kv::increment("joins", 1)?, 1);
//! assert!(kv::insert("first-room", "lobby")?, "it was not there");
//! assert!(!kv::insert("first-room", "parlour")?);
//! # Ok(())
//! # }
//! ```

use std::{fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{host, outcome::Failure, timers::millis};

/// How often [`update`] tries again within one call, when the value moves under it.
const UPDATE_TRIES: usize = 8;

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
    /// The value under this key is not a whole number, so it cannot be incremented.
    NotANumber(String),
    /// The sum for this key does not fit 64 bits.
    Overflow(String),
    /// Others change the value under this key all the time.
    Contended(String),
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
            Self::NotANumber(key) => {
                write!(f, "key-value: the value of `{key}` is not a whole number")
            }
            Self::Overflow(key) => {
                write!(f, "key-value: the sum for `{key}` does not fit 64 bits")
            }
            Self::Contended(key) => {
                write!(f, "key-value: others change `{key}` all the time")
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
    host::kv_get(key)?
        .map(|bytes| read(key, &bytes))
        .transpose()
}

/// Puts a value under a key, as JSON, in place of what was there.
///
/// # Errors
///
/// [`Error::InvalidKey`], [`Error::ValueTooLarge`], [`Error::QuotaExceeded`];
/// [`Error::Unwritable`] if the value cannot be written as JSON.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    host::kv_set(key, &write(key, value)?)
}

/// As [`set`], and the key is gone once `ttl` has passed since the call's `at`.
///
/// # Errors
///
/// As [`set`].
pub fn set_expiring<T: Serialize + ?Sized>(
    key: &str,
    value: &T,
    ttl: Duration,
) -> Result<(), Error> {
    host::kv_set_expiring(key, &write(key, value)?, millis(ttl))
}

/// Puts a value under a key that is not there; whether it was put. Of several instances
/// that try, one succeeds.
///
/// # Errors
///
/// As [`set`].
pub fn insert<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<bool, Error> {
    host::kv_compare_and_set(key, None, Some(&write(key, value)?))
}

/// Changes the value under a key, from whatever it is to what `change` makes of it; `None`
/// is no key at all. Gives what is now there. No change by another instance is lost.
///
/// # Errors
///
/// As [`get`] and [`set`]; [`Error::Contended`] if the value keeps changing meanwhile.
pub fn update<T: Serialize + DeserializeOwned>(
    key: &str,
    mut change: impl FnMut(Option<T>) -> Option<T>,
) -> Result<Option<T>, Error> {
    for _ in 0..UPDATE_TRIES {
        let before = host::kv_get(key)?;
        let value = before
            .as_deref()
            .map(|bytes| read(key, bytes))
            .transpose()?;
        let value = change(value);
        let after = value.as_ref().map(|value| write(key, value)).transpose()?;
        if host::kv_compare_and_set(key, before.as_deref(), after.as_deref())? {
            return Ok(value);
        }
    }
    Err(Error::Contended(key.to_owned()))
}

/// Puts `value` under a key (with `None`: deletes it) if what is there is `expected` (`None`:
/// if nothing is there); whether it was. Values are compared as the JSON that [`set`] writes.
/// [`update`] and [`insert`] are often shorter.
///
/// # Errors
///
/// As [`set`].
pub fn compare_and_set<T: Serialize + ?Sized>(
    key: &str,
    expected: Option<&T>,
    value: Option<&T>,
) -> Result<bool, Error> {
    let expected = expected.map(|value| write(key, value)).transpose()?;
    let value = value.map(|value| write(key, value)).transpose()?;
    host::kv_compare_and_set(key, expected.as_deref(), value.as_deref())
}

/// Adds to the whole number under a key, 0 where there is none, and gives the sum. Keeps the
/// key's time to live. No change by another instance is lost. [`get`] reads it as an `i64`.
///
/// # Errors
///
/// [`Error::InvalidKey`], [`Error::QuotaExceeded`]; [`Error::NotANumber`] and
/// [`Error::Overflow`], and then nothing has changed.
pub fn increment(key: &str, by: i64) -> Result<i64, Error> {
    host::kv_increment(key, by)
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

fn read<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Unreadable {
        key: key.to_owned(),
        problem: error.to_string(),
    })
}

fn write<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Unwritable {
        key: key.to_owned(),
        problem: error.to_string(),
    })
}

//! Timers of the plugin's own: a call in a while, also if the server is restarted meanwhile.
//!
//! A timer belongs to the room of the call that sets it and has a key: setting the room's
//! timer of the same key again replaces it. When it is due, the server calls
//! [`on_timer`](crate::Plugin::on_timer), also if the room has closed in the meantime
//! (`call.room.participants` is then 0). Like keys of [`kv`](crate::kv), timers are set when
//! the hook returns, or, if it fails, not at all. They need the capability `timers` in the
//! plugin's manifest.
//!
//! ```
//! use std::time::Duration;
//! use voice_room_plugin_sdk::{Actions, OnLeave, OnTimer, Outcome, kv, timers};
//!
//! /// Who has left may come back within 45 seconds…
//! fn on_leave(call: &OnLeave) -> Outcome {
//!     let user = call.participant.user.id;
//!     timers::set(&format!("gone/{user}"), Duration::from_secs(45))?;
//!     Ok(Actions::new())
//! }
//!
//! /// …and is then announced as gone.
//! fn on_timer(call: &OnTimer) -> Outcome {
//!     Ok(match call.key.strip_prefix("gone/") {
//!         Some(user) => Actions::new().emit_to_room("stage:gone", user),
//!         None => Actions::new(),
//!     })
//! }
//! ```
//!
//! By default a timer whose call fails comes again, so a timer may come twice: do in
//! `on_timer` what is right to do twice, or note in `kv`, within the same call, that it is done.

use std::{fmt, time::Duration};

use crate::{host, outcome::Failure};

/// Why a timer was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The key is empty, or longer than this many bytes.
    InvalidKey(u32),
    /// The delay or the period is not between the limits that the sentence names.
    InvalidDelay(String),
    /// `init` has no room for a timer to belong to.
    NoRoom,
    /// The plugin has too many.
    QuotaExceeded(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidKey(limit) => {
                write!(f, "timers: a key is empty or longer than {limit} bytes")
            }
            Self::InvalidDelay(problem) | Self::QuotaExceeded(problem) => {
                write!(f, "timers: {problem}")
            }
            Self::NoRoom => f.write_str("timers: there is no room for a timer to belong to"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Calls [`on_timer`](crate::Plugin::on_timer) with this key once, `after` the call's `at`.
///
/// # Errors
///
/// [`Error::InvalidKey`], [`Error::InvalidDelay`], [`Error::NoRoom`], [`Error::QuotaExceeded`].
pub fn set(key: &str, after: Duration) -> Result<(), Error> {
    host::timer_set(key, millis(after), None)
}

/// Calls [`on_timer`](crate::Plugin::on_timer) with this key `after` the call's `at`, and from
/// then on once every period, until it is cancelled: also when the room is long closed.
///
/// # Errors
///
/// [`Error::InvalidKey`], [`Error::InvalidDelay`], [`Error::NoRoom`], [`Error::QuotaExceeded`].
pub fn set_repeating(key: &str, after: Duration, every: Duration) -> Result<(), Error> {
    host::timer_set(key, millis(after), Some(millis(every)))
}

/// Cancels the room's timer of this key. Cancelling what is not there is no error.
///
/// # Errors
///
/// [`Error::InvalidKey`], [`Error::NoRoom`].
pub fn cancel(key: &str) -> Result<(), Error> {
    host::timer_cancel(key)
}

/// The contract counts in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

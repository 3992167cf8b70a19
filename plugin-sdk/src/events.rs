//! Publishing events to the outside: billing, analytics, a back end.

use std::fmt;

use serde::Serialize;

use crate::{host, outcome::Failure};

/// Why an event was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The topic is not 1 to 128 characters of `a-z 0-9 . _ -`.
    InvalidTopic,
    /// The payload is not JSON, or longer than the limit in bytes.
    InvalidPayload(String),
    /// The call is over its number of events, which is this.
    QuotaExceeded(u32),
    /// The plugin's manifest does not list the topic, or the server does not grant it.
    NotGranted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidTopic => {
                f.write_str("events: a topic is not 1 to 128 characters of `a-z 0-9 . _ -`")
            }
            Self::InvalidPayload(problem) => write!(f, "events: {problem}"),
            Self::QuotaExceeded(limit) => {
                write!(f, "events: one call may publish {limit} events")
            }
            Self::NotGranted => f.write_str(
                "events: the topic is not among `topics` of the plugin's manifest, or not granted",
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Publishes an event when the hook returns; not at all if the hook fails.
///
/// Topics are 1 to 128 characters of `a-z 0-9 . _ -`, for example `billing.started`, and
/// must be among `topics` of the plugin's manifest.
///
/// # Errors
///
/// [`Error::InvalidTopic`], [`Error::InvalidPayload`], [`Error::QuotaExceeded`],
/// [`Error::NotGranted`].
pub fn publish(topic: &str, payload: impl Serialize) -> Result<(), Error> {
    let payload = serde_json::to_string(&payload)
        .map_err(|error| Error::InvalidPayload(error.to_string()))?;
    host::publish(topic, &payload)
}

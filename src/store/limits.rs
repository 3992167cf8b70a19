//! How much an owner may keep and a call may change, and what it is told beyond that.

/// How much one owner may keep, and how much one [`Staged`] set may change. Sizes in bytes.
///
/// They are an argument of every operation, so that each plugin can have its own.
///
/// [`Staged`]: super::Staged
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest key, of a value or of a timer.
    pub key: usize,
    /// Longest value.
    pub value: usize,
    /// Keys of one owner.
    pub keys: usize,
    /// Keys and values of one owner together.
    pub total: usize,
    /// Timers of one owner.
    pub timers: usize,
    /// Keys that one set may change or depend on, and also timers that it may change.
    pub changes: usize,
    /// Bytes that one set may write.
    pub changed: usize,
    /// Keys in one listing.
    pub listed: usize,
    /// Events that one set may publish.
    pub events: usize,
    /// Longest payload of an event.
    pub payload: usize,
    /// Longest topic, in characters.
    pub topic: usize,
}

impl Limits {
    pub(super) fn check_key(&self, key: &str) -> Result<(), KeyError> {
        if key.is_empty() || key.len() > self.key {
            return Err(KeyError::InvalidKey(self.key));
        }
        Ok(())
    }
}

/// What is said where [`Space::is_behind`](super::Space) refuses a change.
pub(super) const BEHIND: &str = "the disk does not keep up";

/// Why a key cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is empty or longer than this many bytes.
    #[error("a key has 1 to {0} bytes")]
    InvalidKey(usize),
    /// The value is longer than this many bytes.
    #[error("a value has at most {0} bytes")]
    ValueTooLarge(usize),
    /// A limit on number or size is reached; the sentence says which.
    #[error("{0}")]
    QuotaExceeded(String),
}

/// Why a number cannot be added to a key's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IncrementError {
    /// The key cannot be read or written.
    #[error(transparent)]
    Storage(#[from] KeyError),
    /// The value is not a whole number in decimal ASCII digits, with `-` before it or not.
    #[error("the key's value is not a whole number in decimal digits")]
    NotANumber,
    /// The sum does not fit 64 bits.
    #[error("the sum does not fit a signed number of 64 bits")]
    Overflow,
}

/// Why a timer cannot be set or cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimerError {
    /// The key is empty or longer than this many bytes.
    #[error("a timer's key has 1 to {0} bytes")]
    InvalidKey(usize),
    /// The delay or the period is out of bounds; the sentence names them.
    #[error("{0}")]
    InvalidDelay(String),
    /// A limit on number is reached; the sentence says which.
    #[error("{0}")]
    QuotaExceeded(String),
}

/// Why an event cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The topic is empty, too long, or has other characters than `a-z 0-9 . _ -`.
    #[error("a topic has 1 to 128 characters of a-z 0-9 . _ -")]
    InvalidTopic,
    /// The payload is no JSON, or too long.
    #[error("{0}")]
    InvalidPayload(String),
    /// The set is over this number of events, or the disk does not keep up.
    #[error("at most {0} events can be published at once")]
    QuotaExceeded(usize),
}

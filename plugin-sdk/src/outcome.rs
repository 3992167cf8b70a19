//! How hooks end: with actions, a refusal, an answer or a failure.

use std::{borrow::Cow, fmt};

use serde::Serialize;
use serde_json::{Value, json};

use crate::action::Actions;

/// What a deciding hook returns: `Ok` allows, [`Denial::Refused`] refuses,
/// [`Denial::Failed`] leaves the decision to the server's failure policy.
///
/// `before_produce` has more to say than [`Actions`] when it allows: see
/// [`ProduceDecision`](crate::ProduceDecision).
pub type Decision<T = Actions> = Result<T, Denial>;

/// What an informing hook returns.
pub type Outcome = Result<Actions, Failure>;

/// What `on_command` returns.
pub type Answer = Result<Reply, Denial>;

/// Allows, and asks for nothing.
///
/// # Errors
///
/// None: it is a [`Decision`] so that hooks can end with `allow()`.
pub fn allow<T: Default>() -> Decision<T> {
    Ok(T::default())
}

/// Refuses with a code and a sentence; see [`Refusal`] for refusals that say more.
///
/// # Errors
///
/// Always, with the refusal.
pub fn refuse<T>(
    code: impl Into<Cow<'static, str>>,
    message: impl Into<String>,
) -> Result<T, Denial> {
    Err(Refusal::new(code, message).into())
}

/// A typed "no". Not an error: the plugin works, and the answer is no.
///
/// The client sees `{success: false, error: message, code, details, plugin}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Stable identifier in upper snake case, for example `SEAT_REQUIRED`.
    pub code: Cow<'static, str>,
    /// A sentence for people.
    pub message: String,
    /// Further fields for programs: a JSON object.
    pub details: Option<Value>,
    /// What the server is to do although the answer is no.
    pub actions: Actions,
}

impl Refusal {
    /// A refusal without details or actions.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            details: None,
            actions: Actions::new(),
        }
    }

    /// A refusal whose code is its message in upper snake case: `Seat is locked` has the
    /// code `SEAT_IS_LOCKED`.
    pub fn from_message(message: &str) -> Self {
        let code: String = message
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect();
        Self::new(code, message)
    }

    /// The refusal of a payload that has the right shape and a value that will not do.
    pub fn invalid_payload(field: &str, problem: &str) -> Self {
        Self::new("INVALID_PAYLOAD", "INVALID_PAYLOAD")
            .details(json!([{ "field": field, "problem": problem }]))
    }

    /// The same refusal with further details for programs: a JSON object or array, for example
    /// `json!({"until": 1_700_000_000_000_u64})`.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// The same refusal with actions that the server carries out although it refuses.
    #[must_use]
    pub fn actions(mut self, actions: Actions) -> Self {
        self.actions = actions;
        self
    }
}

/// Something that should not happen did: the hook could not do its work.
///
/// The call ends as a trap does. Nothing that it wrote or published is kept, the server
/// answers by its policy for the hook (deciding hooks deny by default), logs the sentence,
/// and replaces the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A failure with a sentence for the server's log.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// Why a deciding hook or a command did not say yes. `?` makes one of a [`Refusal`], a
/// [`Failure`] and of the errors of [`kv`](crate::kv) and [`events`](crate::events).
#[derive(Clone, Debug, PartialEq)]
pub enum Denial {
    /// The answer is no.
    Refused(Refusal),
    /// There is no answer.
    Failed(Failure),
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<E: Into<Failure>> From<E> for Denial {
    fn from(failure: E) -> Self {
        Self::Failed(failure.into())
    }
}

/// The answer to a command: the client gets `{success: true}`, with `data` where given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The answer's `data`.
    pub data: Option<Value>,
    /// What the server is to do before it answers.
    pub actions: Actions,
}

impl Reply {
    /// An answer without data or actions.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            data: None,
            actions: Actions::new(),
        }
    }

    /// The same answer with data for the client.
    ///
    /// # Errors
    ///
    /// If the data cannot be written as JSON, which only maps whose keys are not strings
    /// and hand-written `Serialize` implementations bring about.
    pub fn data(mut self, data: impl Serialize) -> Result<Self, Failure> {
        self.data = Some(serde_json::to_value(data)?);
        Ok(self)
    }
}

impl From<Actions> for Reply {
    fn from(actions: Actions) -> Self {
        Self {
            data: None,
            actions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_can_be_taken_from_the_message() {
        assert_eq!(
            Refusal::from_message("Seat is already taken").code,
            "SEAT_IS_ALREADY_TAKEN"
        );
    }

    #[test]
    fn the_question_mark_tells_refusals_from_failures() {
        fn refused() -> Decision {
            Err(Refusal::new("NO", "No"))?
        }
        fn failed() -> Decision {
            Err(Failure::new("broken"))?
        }
        assert_eq!(refused(), Err(Denial::Refused(Refusal::new("NO", "No"))));
        assert_eq!(failed(), Err(Denial::Failed(Failure::new("broken"))));
    }
}

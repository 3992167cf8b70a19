//! Every way in which a client is told no.

use serde_json::json;

use super::{fields::Invalid, gate::Turned, resume::Reach};
use crate::{
    model::Refusal,
    room::{Failure, Reason},
};

/// Why a client does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denial {
    /// The payload cannot be understood.
    #[error("the payload is invalid")]
    Invalid(Invalid),
    /// The client has no budget left.
    #[error("over the budget of events")]
    OverBudget,
    /// Neither the core nor a plugin answers it.
    #[error("unknown event")]
    UnknownEvent,
    /// Too many calls at once for one user.
    #[error("in too many calls")]
    TooManyCalls,
    /// Nobody can come back with this token any more.
    #[error("there is nothing to come back to with this token")]
    ResumeExpired,
    /// The client has missed more than is kept; these numbers would do.
    #[error("the events after this number are not there any more")]
    ResumeGap(Reach),
    /// The room or a plugin says no, or the server failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<Invalid> for Denial {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        Self::Failed(reason.into())
    }
}

impl From<Turned> for Denial {
    fn from(turned: Turned) -> Self {
        match turned {
            Turned::Oversize(invalid) => Self::Invalid(invalid),
            Turned::OverBudget => Self::OverBudget,
        }
    }
}

impl From<Denial> for Refusal {
    /// What the client is told: failures of the server are not explained.
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Invalid(invalid) => invalid.into(),
            Denial::OverBudget => Self::new("RATE_LIMITED"),
            Denial::UnknownEvent => Self::new("Unknown event"),
            Denial::TooManyCalls => Self::new("Too many calls"),
            Denial::ResumeExpired => Self::new("Resume expired"),
            Denial::ResumeGap(Reach { lowest, highest }) => {
                let mut refusal = Self::new("Resume gap");
                refusal.details = Some(json!({ "lowest": lowest, "highest": highest }));
                refusal
            }
            Denial::Failed(Failure::Room(reason)) => reason.into(),
            Denial::Failed(Failure::Refused(refusal)) => refusal,
            Denial::Failed(Failure::Media(_)) => Self::new("INTERNAL_ERROR"),
        }
    }
}

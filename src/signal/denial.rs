//! Every way in which a client is told no.

use super::{fields::Invalid, gate::Turned};
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
            Denial::Failed(Failure::Room(reason)) => reason.into(),
            Denial::Failed(Failure::Refused(refusal)) => refusal,
            Denial::Failed(Failure::Media(_)) => Self::new("INTERNAL_ERROR"),
        }
    }
}

//! How a producer that is allowed begins.

use serde::Serialize;
use serde_json::Value;

use crate::{
    action::Actions,
    outcome::{Decision, Failure},
};

/// What `before_produce` returns.
pub type ProduceDecision = Decision<Permit>;

/// A yes to `before_produce`, and how the producer begins.
///
/// [`allow`](crate::allow) is a permit that amends nothing. Amending needs the capability
/// `amend` in the plugin's manifest.
///
/// ```
/// use serde_json::json;
/// use voice_room_plugin_sdk::{BeforeProduce, Permit, ProduceDecision, Source, allow};
///
/// /// Music starts muted, in the background, and players are told that it is music.
/// fn before_produce(call: &BeforeProduce) -> ProduceDecision {
///     if call.source == Source::Mic {
///         return allow();
///     }
///     Ok(Permit::new().start_muted().priority(50).attach(json!({ "duck": true })))
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Permit {
    amendment: Amendment,
    actions: Actions,
    /// Why the attachment could not be written as JSON: the hook fails for it.
    failure: Option<Failure>,
}

/// What a [`Permit`] changes about the producer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amendment {
    /// It starts muted by this plugin.
    pub muted: bool,
    /// How its consumers fare when bandwidth is short; see [`Permit::priority`].
    pub priority: Option<u8>,
    /// Travels with `audio:newProducer`.
    pub attach: Option<Value>,
}

impl Permit {
    /// It may begin, as it was asked for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The producer starts muted by this plugin, which may unmute it by its id. No listener
    /// hears a word in between.
    #[must_use]
    pub fn start_muted(mut self) -> Self {
        self.amendment.muted = true;
        self
    }

    /// How the producer's consumers fare when a listener's bandwidth is short: 1 is the lowest
    /// (and what 0 is taken for), 255 the highest. Of several plugins' wishes the highest
    /// counts.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.amendment.priority = Some(priority.max(1));
        self
    }

    /// Something that everybody is told with the producer: `data.<plugin>` in
    /// `audio:newProducer` and in the list that newcomers get. A value that cannot be
    /// written as JSON makes the hook fail.
    #[must_use]
    pub fn attach(mut self, attachment: impl Serialize) -> Self {
        match serde_json::to_value(attachment) {
            Ok(attachment) => self.amendment.attach = Some(attachment),
            Err(error) => self.failure = Some(error.into()),
        }
        self
    }

    /// What the server is to do besides.
    #[must_use]
    pub fn actions(mut self, actions: Actions) -> Self {
        self.actions = self.actions.then(actions);
        self
    }

    /// What it changes about the producer, and what the server is to do besides.
    ///
    /// # Errors
    ///
    /// If the attachment could not be written as JSON.
    pub fn into_parts(self) -> Result<(Amendment, Actions), Failure> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok((self.amendment, self.actions)),
        }
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn map(
        mut self,
        amendment: impl FnOnce(Amendment) -> Amendment,
        actions: impl FnOnce(Actions) -> Actions,
    ) -> Self {
        self.amendment = amendment(self.amendment);
        self.actions = actions(self.actions);
        self
    }
}

impl From<Actions> for Permit {
    fn from(actions: Actions) -> Self {
        Self::new().actions(actions)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn amendments_and_actions_go_together() {
        let permit = Permit::new()
            .start_muted()
            .priority(0)
            .attach(json!({ "a": 1 }))
            .actions(Actions::new().kick(1, "out"));
        let (amendment, actions) = permit.into_parts().unwrap();
        let expected = Amendment {
            muted: true,
            priority: Some(1),
            attach: Some(json!({ "a": 1 })),
        };
        assert_eq!(amendment, expected);
        assert_eq!(actions, Actions::new().kick(1, "out"));
    }

    #[test]
    fn an_attachment_that_is_no_json_fails_the_hook() {
        let not_json = BTreeMap::from([(vec![1_u8], 1)]);
        assert!(Permit::new().attach(not_json).into_parts().is_err());
    }
}

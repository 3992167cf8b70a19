//! What a plugin asks the server to do.

use serde::Serialize;
use serde_json::Value;

use crate::{nouns::UserId, outcome::Failure};

/// Whose producers an action is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every producer of the user in this room. For mute and unmute also those that the
    /// user starts later.
    User(UserId),
    /// One producer by id.
    Producer(String),
}

/// One thing that the server is asked to do, in the room of the call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// An event for one user's connections in this room.
    EmitToUser {
        /// Who gets it.
        user_id: UserId,
        /// Event name, for example `moderation:notice`.
        event: String,
        /// What the client receives.
        payload: Value,
    },
    /// An event for everyone in this room.
    EmitToRoom {
        /// Event name, for example `seat:updated`.
        event: String,
        /// What the clients receive.
        payload: Value,
        /// A user who does not get it.
        except: Option<UserId>,
    },
    /// The server pauses the target; its user cannot resume it. Several plugins may hold a
    /// mute, each lifts only its own.
    Mute(Target),
    /// Lifts the plugin's own mute.
    Unmute(Target),
    /// Closes the target's producers.
    Close(Target),
    /// Removes a user from the room and ends their connection.
    Kick {
        /// Who.
        user_id: UserId,
        /// Told to the user and, in `room:userLeft`, to the room.
        reason: String,
    },
    /// Puts a user among the active speakers of the room, or keeps them out; holds for as
    /// long as the room is open.
    PinSpeaker {
        /// Who, present or not.
        user_id: UserId,
        /// Where.
        pin: Pin,
    },
}

/// Whether a user is heard where a room forwards only those who spoke last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Always, as far as the room's limit allows.
    In,
    /// Never, however small the room; goes before every other plugin's pin.
    Out,
    /// As the user speaks: takes the plugin's own pin back.
    Auto,
}

/// What the server is asked to do, in this order, in the room of the call.
///
/// ```
/// use serde::Serialize;
/// use voice_room_plugin_sdk::{Actions, Target};
///
/// #[derive(Serialize)]
/// struct HandRaised {
///     user_id: u64,
/// }
///
/// let actions = Actions::new()
///     .emit_to_room("hand:raised", &HandRaised { user_id: 7 })
///     .mute(Target::User(7));
/// assert_eq!(actions.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Actions {
    /// Or why a payload could not be written as JSON: the hook fails for it.
    list: Result<Vec<Action>, Failure>,
}

impl Default for Actions {
    fn default() -> Self {
        Self::new()
    }
}

impl Actions {
    /// Nothing to do.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            list: Ok(Vec::new()),
        }
    }

    /// Sends an event to one user's connections in this room. A payload that cannot be
    /// written as JSON makes the hook fail.
    #[must_use]
    pub fn emit_to_user(
        self,
        user_id: UserId,
        event: impl Into<String>,
        payload: impl Serialize,
    ) -> Self {
        let event = event.into();
        self.push_with(payload, |payload| Action::EmitToUser {
            user_id,
            event,
            payload,
        })
    }

    /// Sends an event to everyone in this room. A payload that cannot be written as JSON
    /// makes the hook fail.
    #[must_use]
    pub fn emit_to_room(self, event: impl Into<String>, payload: impl Serialize) -> Self {
        let event = event.into();
        self.push_with(payload, |payload| Action::EmitToRoom {
            event,
            payload,
            except: None,
        })
    }

    /// Sends an event to everyone in this room but one user.
    #[must_use]
    pub fn emit_to_others(
        self,
        except: UserId,
        event: impl Into<String>,
        payload: impl Serialize,
    ) -> Self {
        let (event, except) = (event.into(), Some(except));
        self.push_with(payload, |payload| Action::EmitToRoom {
            event,
            payload,
            except,
        })
    }

    /// Pauses producers so that their user cannot resume them.
    #[must_use]
    pub fn mute(self, target: Target) -> Self {
        self.push(Action::Mute(target))
    }

    /// Lifts the plugin's own mute.
    #[must_use]
    pub fn unmute(self, target: Target) -> Self {
        self.push(Action::Unmute(target))
    }

    /// Closes producers.
    #[must_use]
    pub fn close(self, target: Target) -> Self {
        self.push(Action::Close(target))
    }

    /// Removes a user from the room and ends their connection.
    #[must_use]
    pub fn kick(self, user_id: UserId, reason: impl Into<String>) -> Self {
        self.push(Action::Kick {
            user_id,
            reason: reason.into(),
        })
    }

    /// Puts a user among the active speakers of the room, keeps them out, or leaves it to
    /// their voice again.
    #[must_use]
    pub fn pin_speaker(self, user_id: UserId, pin: Pin) -> Self {
        self.push(Action::PinSpeaker { user_id, pin })
    }

    /// Adds one action.
    #[must_use]
    pub fn push(mut self, action: Action) -> Self {
        if let Ok(list) = &mut self.list {
            list.push(action);
        }
        self
    }

    /// Adds all actions of another list.
    #[must_use]
    pub fn then(mut self, more: Self) -> Self {
        match (&mut self.list, more.list) {
            (Ok(list), Ok(more)) => list.extend(more),
            (Ok(_), Err(failure)) => self.list = Err(failure),
            (Err(_), _) => {}
        }
        self
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The actions, in order; none if a payload could not be written as JSON.
    pub fn iter(&self) -> std::slice::Iter<'_, Action> {
        self.list.as_deref().unwrap_or_default().iter()
    }

    /// The actions, in order.
    ///
    /// # Errors
    ///
    /// If a payload could not be written as JSON.
    pub fn into_vec(self) -> Result<Vec<Action>, Failure> {
        self.list
    }

    fn push_with(mut self, payload: impl Serialize, action: impl FnOnce(Value) -> Action) -> Self {
        match serde_json::to_value(payload) {
            Ok(payload) => self.push(action(payload)),
            Err(error) => {
                self.list = Err(error.into());
                self
            }
        }
    }
}

/// Actions that fail their hook.
impl From<Failure> for Actions {
    fn from(failure: Failure) -> Self {
        Self { list: Err(failure) }
    }
}

impl<'a> IntoIterator for &'a Actions {
    type Item = &'a Action;
    type IntoIter = std::slice::Iter<'a, Action>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self {
            list: Ok(actions.into_iter().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn actions_keep_their_order() {
        let actions = Actions::new()
            .kick(1, "out")
            .then(Actions::new().mute(Target::User(2)));
        assert_eq!(
            actions.into_vec().unwrap(),
            [
                Action::Kick {
                    user_id: 1,
                    reason: "out".into()
                },
                Action::Mute(Target::User(2)),
            ]
        );
    }

    #[test]
    fn a_payload_that_is_no_json_fails_the_hook_and_not_the_builder() {
        let not_json = BTreeMap::from([(vec![1_u8], 1)]);
        let actions = Actions::new().emit_to_room("x", not_json).kick(1, "out");
        assert!(actions.into_vec().is_err());
    }
}

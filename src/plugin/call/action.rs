//! What plugins may want: how a producer begins, and what is to be done besides.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{ProducerId, UserId};

/// How an allowed producer begins, by all plugins together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amendments {
    /// Plugins that start it muted.
    pub muted_by: Vec<Arc<str>>,
    /// Of its consumers: 1 is the lowest, 255 the highest.
    pub priority: Option<u8>,
    /// What travels with its announcement, by plugin.
    pub attached: Map<String, Value>,
}

/// How an allowed producer begins, by one plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amendment {
    /// It starts muted.
    #[serde(default)]
    pub muted: bool,
    /// Of its consumers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Travels with its announcement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<Value>,
}

impl Amendments {
    /// Adds what a plugin wants.
    pub(in crate::plugin) fn add(&mut self, plugin: &Arc<str>, wanted: Amendment) {
        if wanted.muted {
            self.muted_by.push(Arc::clone(plugin));
        }
        self.priority = self.priority.max(wanted.priority);
        if let Some(attach) = wanted.attach {
            self.attached.insert(plugin.to_string(), attach);
        }
    }
}

/// What a plugin wants done in the room of the call. Names and sizes have been checked;
/// whether users and producers exist is the room's to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// An event for one user's connections in this room.
    EmitToUser {
        /// Who.
        user: UserId,
        /// The event's name.
        event: String,
        /// Its payload.
        payload: Value,
    },
    /// An event for everyone in this room.
    EmitToRoom {
        /// The event's name.
        event: String,
        /// Its payload.
        payload: Value,
        /// A user who does not get it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        except: Option<UserId>,
    },
    /// Pause, so that the user cannot resume. Each plugin's mute is its own.
    Mute(Target),
    /// Lift the plugin's own mute.
    Unmute(Target),
    /// Close producers.
    Close(Target),
    /// Remove a user and end their connection.
    Kick {
        /// Who.
        user: UserId,
        /// Told to the user and to the room.
        reason: String,
    },
    /// Put a user among those who are heard, or keep them out.
    PinSpeaker {
        /// Who.
        user: UserId,
        /// Where.
        pin: Pin,
    },
}

/// What a plugin has decided of a user's place among those who are heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pin {
    /// Always heard, as far as the limit allows.
    In,
    /// Never heard, however small the room; goes before every other pin.
    Out,
    /// As the user speaks.
    Auto,
}

/// Whose producers an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Every producer of the user in this room.
    User(UserId),
    /// One producer.
    Producer(ProducerId),
}

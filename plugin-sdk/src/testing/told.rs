//! What a stage tells of what has happened on it.

use serde_json::Value;

use crate::{Actions, Amendment, Participant, Producer, UnixMs};

/// Who has entered, and what the plugin did about it.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The newcomer.
    pub participant: Participant,
    /// The room that was entered.
    pub room_id: String,
    /// What `before_join`, `on_room_opened` and `on_join` asked for, in this order.
    pub actions: Actions,
    /// What `describe_room` shows.
    pub shown: Option<Value>,
}

/// What is sent, and what the plugin did about it.
#[derive(Clone, Debug)]
pub struct Produced {
    /// The new producer.
    pub producer: Producer,
    /// How it begins.
    pub amendment: Amendment,
    /// What `before_produce`, `on_new_producer` and, for what it replaces, `on_producer_closed`
    /// asked for, in this order.
    pub actions: Actions,
}

/// A timer that has fired, and what the plugin did about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fired {
    /// To which it belonged.
    pub room_id: String,
    /// Under which it was set.
    pub key: String,
    /// When it was due.
    pub due: UnixMs,
    /// What `on_timer` asked for.
    pub actions: Actions,
}

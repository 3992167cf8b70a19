//! Whoever entered an empty room first, where the setting makes them its owner.

use serde::{Deserialize, Serialize};
use voice_room_plugin_sdk::{UserId, kv};

/// A room's owner, in key-value, until the room empties.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Ownership {
    Held(UserId),
    /// The owner has left, and others are still there.
    Lapsed,
}

/// Gives the room to a newcomer, if they are the first.
pub(crate) fn offer(room_id: &str, user: UserId) -> Result<(), kv::Error> {
    match load(room_id)? {
        None => kv::set(&key(room_id), &Ownership::Held(user)),
        Some(_) => Ok(()),
    }
}

/// Ends a user's ownership, if they hold it.
pub(crate) fn end(room_id: &str, user: UserId) -> Result<(), kv::Error> {
    if is(room_id, user)? {
        kv::set(&key(room_id), &Ownership::Lapsed)?;
    }
    Ok(())
}

/// Whether the user owns the room.
pub(crate) fn is(room_id: &str, user: UserId) -> Result<bool, kv::Error> {
    Ok(load(room_id)? == Some(Ownership::Held(user)))
}

/// The room is empty: the next one in may own it.
pub(crate) fn forget(room_id: &str) -> Result<(), kv::Error> {
    if load(room_id)?.is_some() {
        kv::delete(&key(room_id))?;
    }
    Ok(())
}

fn load(room_id: &str) -> Result<Option<Ownership>, kv::Error> {
    kv::get(&key(room_id))
}

fn key(room_id: &str) -> String {
    format!("owner/{room_id}")
}

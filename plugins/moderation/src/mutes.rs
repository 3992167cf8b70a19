//! Who is muted in a room, in key-value; when a mute ends is in its timer alone.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use voice_room_plugin_sdk::{UserId, kv, timers};

use crate::Rank;

/// Why somebody is muted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// By a manager of this rank.
    Manager(Rank),
    /// For holding the floor too long.
    Monologue,
}

/// Who is muted in one room.
pub(crate) struct Mutes {
    key: String,
    muted: BTreeMap<UserId, Origin>,
    changed: bool,
}

impl Mutes {
    pub(crate) fn load(room_id: &str) -> Result<Self, kv::Error> {
        let key = key(room_id);
        let muted = kv::get(&key)?.unwrap_or_default();
        Ok(Self {
            key,
            muted,
            changed: false,
        })
    }

    /// Writes what has changed.
    pub(crate) fn save(&self) -> Result<(), kv::Error> {
        if !self.changed {
            Ok(())
        } else if self.muted.is_empty() {
            kv::delete(&self.key)
        } else {
            kv::set(&self.key, &self.muted)
        }
    }

    /// Forgets a room's mutes.
    pub(crate) fn forget(room_id: &str) -> Result<(), kv::Error> {
        let key = key(room_id);
        if kv::get_bytes(&key)?.is_some() {
            kv::delete(&key)?;
        }
        Ok(())
    }

    pub(crate) fn origin(&self, user: UserId) -> Option<Origin> {
        self.muted.get(&user).copied()
    }

    /// Who is muted for a monologue.
    pub(crate) fn monologues(&self) -> Vec<UserId> {
        let monologues = self
            .muted
            .iter()
            .filter(|&(_, &origin)| origin == Origin::Monologue);
        monologues.map(|(&user, _)| user).collect()
    }

    pub(crate) fn impose(&mut self, user: UserId, origin: Origin) {
        self.changed |= self.muted.insert(user, origin) != Some(origin);
    }

    pub(crate) fn lift(&mut self, user: UserId) {
        self.changed |= self.muted.remove(&user).is_some();
    }
}

/// The longest mute that is given an end: no room lives longer.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The timer that ends a mute.
pub(crate) fn timer(user: UserId) -> String {
    format!("mute/{user}")
}

/// Has a mute end after a while, or not by itself.
pub(crate) fn end_after(user: UserId, wait: Option<Duration>) -> Result<(), timers::Error> {
    match wait.filter(|&wait| wait <= LONGEST) {
        Some(wait) => timers::set(&timer(user), wait),
        None => timers::cancel(&timer(user)),
    }
}

fn key(room_id: &str) -> String {
    format!("muted/{room_id}")
}

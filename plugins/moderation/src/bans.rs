//! Bans, in key-value.

use serde::{Deserialize, Serialize};
use voice_room_plugin_sdk::{Room, UnixMs, UserId, kv};

use crate::{Moderation, Rank, settings::Scope};

/// How many bans of a room are looked through for expired ones when another is added.
const SWEPT_PER_BAN: u32 = 32;

/// A user who is kept out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ban {
    /// For ever, if absent.
    pub(crate) until: Option<UnixMs>,
    pub(crate) reason: Option<String>,
    /// Who imposed it.
    pub(crate) by: UserId,
    /// The rank of who imposed it.
    pub(crate) rank: Rank,
}

impl Ban {
    /// The ban under a key, unless it has expired: then it is removed.
    pub(crate) fn in_force(key: &str, at: UnixMs) -> Result<Option<Self>, kv::Error> {
        let ban = kv::get::<Self>(key)?;
        if ban
            .as_ref()
            .is_some_and(|ban| ban.until.is_some_and(|until| until <= at))
        {
            kv::delete(key)?;
            return Ok(None);
        }
        Ok(ban)
    }
}

impl Moderation {
    pub(crate) fn ban_key(&self, room_id: &str, user: UserId) -> String {
        match self.configuration.scope {
            Scope::Room => kv::room_key("ban", room_id, user),
            Scope::Server => format!("ban-everywhere/{user}"),
        }
    }

    /// Removes some expired bans of a room, starting at a user who varies, so that bans of
    /// people who never come back do not pile up.
    pub(crate) fn sweep_bans(
        &self,
        room: &Room,
        from: UserId,
        at: UnixMs,
    ) -> Result<(), kv::Error> {
        if self.configuration.scope == Scope::Server {
            // Other rooms write there at the same time, and a ban must not be lost.
            return Ok(());
        }
        let prefix = kv::room_key("ban", &room.id, "");
        let from = kv::room_key("ban", &room.id, from);
        for key in kv::list(&prefix, Some(&from), SWEPT_PER_BAN)? {
            Ban::in_force(&key, at)?;
        }
        Ok(())
    }
}

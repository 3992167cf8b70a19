//! Bans, in key-value.
//!
//! Several rooms may write the same key: those of bans on the whole server, and the number
//! of rooms in which a user is banned. So all changes are transactions.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use voice_room_plugin_sdk::{Denial, Failure, Refusal, UnixMs, User, UserId, kv, timers};

use crate::{Moderation, Rank, commands, settings::Scope};

/// The longest that a timer waits: a longer ban is looked at again then.
const LONGEST_WAIT_MS: UnixMs = 30 * 24 * 3_600_000;

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
    fn holds(&self, at: UnixMs) -> bool {
        self.until.is_none_or(|until| until > at)
    }

    fn refusal(&self) -> Refusal {
        refusal(self.until, self.reason.as_deref())
    }
}

fn refusal(until: Option<UnixMs>, reason: Option<&str>) -> Refusal {
    let details = serde_json::json!({ "until": until, "reason": reason });
    Refusal::new("BANNED", "You are banned from this room").details(details)
}

/// The timer that ends a ban.
pub(crate) fn timer(user: UserId) -> String {
    format!("ban/{user}")
}

impl Moderation {
    /// Whether a user is kept out of a room: by a ban there, or by too many elsewhere.
    pub(crate) fn check_ban(&self, room_id: &str, user: &User, at: UnixMs) -> Result<(), Denial> {
        let ban = kv::get::<Ban>(&self.ban_key(room_id, user.id))?;
        if let Some(ban) = ban.filter(|ban| ban.holds(at))
            && !self.ranks_at_least(user, ban.rank)
        {
            return Err(ban.refusal().into());
        }
        let enough = i64::from(self.configuration.ban_everywhere_after);
        if enough > 0 && self.rank(user).is_none() {
            let rooms = kv::get::<i64>(&count_key(user.id))?.unwrap_or(0);
            if rooms >= enough {
                return Err(refusal(None, Some("Banned in too many rooms")).into());
            }
        }
        Ok(())
    }

    /// Bans a user, in place of a ban that there may be.
    pub(crate) fn impose_ban(
        &self,
        room_id: &str,
        user: UserId,
        ban: &Ban,
        at: UnixMs,
    ) -> Result<(), Denial> {
        let (mut checked, mut is_new) = (Ok(()), false);
        kv::update(&self.ban_key(room_id, user), |before: Option<Ban>| {
            is_new = before.is_none();
            let in_force = before.as_ref().filter(|before| before.holds(at));
            checked = in_force.map_or(Ok(()), |before| {
                commands::check_may_lift(ban.rank, before.rank)
            });
            if checked.is_ok() {
                Some(ban.clone())
            } else {
                before
            }
        })?;
        checked?;
        if is_new {
            self.count(user, 1)?;
        }
        match ban.until {
            Some(until) => wait(user, at, until),
            None => timers::cancel(&timer(user)),
        }?;
        Ok(())
    }

    /// Lifts a ban.
    pub(crate) fn lift_ban(
        &self,
        room_id: &str,
        user: UserId,
        rank: Rank,
        at: UnixMs,
    ) -> Result<(), Denial> {
        let mut checked = Ok(());
        kv::update(&self.ban_key(room_id, user), |before: Option<Ban>| {
            checked = match before.as_ref().filter(|before| before.holds(at)) {
                Some(ban) => commands::check_may_lift(rank, ban.rank),
                None => Err(Refusal::from_message("User is not banned")),
            };
            before.filter(|_| checked.is_err())
        })?;
        checked?;
        self.count(user, -1)?;
        Ok(timers::cancel(&timer(user))?)
    }

    /// A ban's timer is due; whether the ban has ended.
    pub(crate) fn expire_ban(
        &self,
        room_id: &str,
        user: UserId,
        at: UnixMs,
    ) -> Result<bool, Failure> {
        let mut was = None;
        let now = kv::update(&self.ban_key(room_id, user), |before: Option<Ban>| {
            was = before.clone();
            before.filter(|ban| ban.holds(at))
        })?;
        if let Some(until) = now.as_ref().and_then(|ban| ban.until) {
            wait(user, at, until)?;
        }
        let ended = was.is_some() && now.is_none();
        if ended {
            self.count(user, -1)?;
        }
        Ok(ended)
    }

    /// Counts the rooms in which a user is banned.
    fn count(&self, user: UserId, by: i64) -> Result<(), kv::Error> {
        if self.configuration.scope == Scope::Room && kv::increment(&count_key(user), by)? <= 0 {
            kv::delete(&count_key(user))?;
        }
        Ok(())
    }

    fn ban_key(&self, room_id: &str, user: UserId) -> String {
        match self.configuration.scope {
            Scope::Room => kv::room_key("ban", room_id, user),
            Scope::Server => format!("ban-everywhere/{user}"),
        }
    }
}

fn wait(user: UserId, at: UnixMs, until: UnixMs) -> Result<(), timers::Error> {
    let wait = until.saturating_sub(at).min(LONGEST_WAIT_MS);
    timers::set(&timer(user), Duration::from_millis(wait))
}

fn count_key(user: UserId) -> String {
    format!("banned-rooms/{user}")
}

//! Bans, kicks, mutes, and a limit to monologues.
//!
//! Managers are users with one of the roles of `manager_roles` in their token, the highest
//! first. They send `moderation:ban {userId, seconds?, reason?}`, `moderation:unban {userId}`,
//! `moderation:mute {userId, seconds?, reason?}`, `moderation:unmute {userId}` and
//! `moderation:kick {userId, reason?}`, and the target gets
//! `moderation:notice {action, reason, until?}`.
//!
//! * Nobody acts on a manager of the same or a higher rank, nor on themselves, and nobody
//!   lifts or replaces what a higher rank has imposed.
//! * A ban also kicks. A banned user's join is refused with code `BANNED` and
//!   `details {until, reason}`; `until` is Unix milliseconds, or null for ever. Bans are in
//!   key-value and so hold over a restart. Who is not in the room can be banned as well; if
//!   they turn out to be of the same or a higher rank than the banner, they are let in.
//! * A mute holds until its time is up, it is lifted, or the room empties, also if the user
//!   leaves and comes back.
//! * A ban or a mute whose time is up is lifted by a timer, with the same notice as by a
//!   manager, also if the server has been restarted in the meantime.
//! * With `max_solo_seconds`, who holds the floor alone for longer is warned and,
//!   `warn_seconds` later, muted until somebody else has spoken or a manager lifts it. A
//!   pause of up to `pause_seconds` does not give up the floor.
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | `manager_roles` | `["owner", "admin", "moderator"]` | roles that make managers, highest first |
//! | `first_is_owner` | false | whether whoever enters an empty room is a manager there until they leave, of the lowest rank |
//! | `scope` | `"room"` | whether a ban holds in its `"room"` or on the whole `"server"`; in other rooms it takes effect at the next join |
//! | `ban_everywhere_after` | 0 | in how many rooms at once one must be banned to be kept out of every room, as are no managers; 0 is never. For the scope `"room"` |
//! | `max_solo_seconds` | 0 | how long one may hold the floor alone; 0 is without limit |
//! | `warn_seconds` | 10 | time between the warning and the mute |
//! | `pause_seconds` | 3 | silence that does not give up the floor |

mod bans;
mod commands;
mod floor;
mod mutes;
mod owner;
mod settings;

use std::collections::BTreeSet;

use serde_json::json;
use voice_room_plugin_sdk::{
    Actions, Answer, BeforeJoin, Decision, Denial, Failure, InitError, OnCommand, OnJoin, OnLeave,
    OnRoomClosed, OnRoomOpened, OnTimer, Outcome, Plugin, Settings, SpeakerChanged, Target, UnixMs,
    User, UserId, allow, kv, metrics, register_plugin,
};

use floor::{Floor, Judgement};
use mutes::{Mutes, Origin};
use settings::Configuration;

/// A manager's rank: 0 is the highest.
type Rank = u32;

struct Moderation {
    configuration: Configuration,
}

impl Plugin for Moderation {
    fn init(settings: Settings) -> Result<Self, InitError> {
        Ok(Self {
            configuration: settings.parse()?,
        })
    }

    fn commands(&self) -> &[&str] {
        commands::NAMES
    }

    fn before_join(&mut self, call: &BeforeJoin) -> Decision {
        let user = &call.participant.user;
        match self.check_ban(&call.room.id, user, call.at) {
            Ok(()) => allow(),
            Err(denial) => {
                if matches!(denial, Denial::Refused(_)) {
                    metrics::increment("banned_joins_refused", 1);
                }
                Err(denial)
            }
        }
    }

    fn on_room_opened(&mut self, call: &OnRoomOpened) -> Outcome {
        forget(&call.room.id)?;
        Ok(Actions::new())
    }

    fn on_join(&mut self, call: &OnJoin) -> Outcome {
        let user = call.participant.user.id;
        if self.configuration.first_is_owner {
            owner::offer(&call.room.id, user)?;
        }
        if Mutes::load(&call.room.id)?.origin(user).is_some() {
            return Ok(Actions::new().mute(Target::User(user)));
        }
        Ok(Actions::new())
    }

    fn on_leave(&mut self, call: &OnLeave) -> Outcome {
        if call.participant.connections == 0 {
            owner::end(&call.room.id, call.participant.user.id)?;
        }
        Ok(Actions::new())
    }

    fn speaker_changed(&mut self, call: &SpeakerChanged) -> Outcome {
        let speaking: BTreeSet<UserId> = call.speakers.iter().map(|it| it.user_id).collect();
        if self.configuration.max_solo_seconds == 0 || speaking.is_empty() {
            return Ok(Actions::new());
        }
        let mut mutes = Mutes::load(&call.room.id)?;
        let mut actions = Actions::new();
        for user in mutes.monologues() {
            if speaking.iter().any(|&speaker| speaker != user) {
                mutes.lift(user);
                actions = actions.then(unmuted(user, "Somebody else has spoken"));
            }
        }
        match speaking.first() {
            Some(&user) if speaking.len() == 1 && mutes.origin(user).is_none() => {
                actions = actions.then(self.hold_floor(call, user, &mut mutes)?);
            }
            _ => Floor::forget(&call.room.id)?,
        }
        mutes.save()?;
        Ok(actions)
    }

    fn on_timer(&mut self, call: &OnTimer) -> Outcome {
        let (measure, user) = call.key.split_once('/').unwrap_or_default();
        let Ok(user) = user.parse::<UserId>() else {
            return Ok(Actions::new());
        };
        match measure {
            "ban" if self.expire_ban(&call.room.id, user, call.at)? => {
                let notice = notice("unban", Some("The ban has ended"), None);
                Ok(Actions::new().emit_to_user(user, "moderation:notice", notice))
            }
            "mute" => {
                let mut mutes = Mutes::load(&call.room.id)?;
                if !matches!(mutes.origin(user), Some(Origin::Manager(_))) {
                    return Ok(Actions::new());
                }
                mutes.lift(user);
                mutes.save()?;
                Ok(unmuted(user, "The mute has ended"))
            }
            _ => Ok(Actions::new()),
        }
    }

    fn on_room_closed(&mut self, call: &OnRoomClosed) -> Result<(), Failure> {
        Ok(forget(&call.room.id)?)
    }

    fn on_command(&mut self, call: &OnCommand) -> Answer {
        self.answer(call)
    }
}

impl Moderation {
    fn rank(&self, user: &User) -> Option<Rank> {
        let roles = &self.configuration.manager_roles;
        let position = roles.iter().position(|role| user.has_role(role))?;
        Rank::try_from(position).ok()
    }

    /// The rank in a room: by the token's roles, else as the room's owner.
    fn rank_in(&self, room_id: &str, user: &User) -> Result<Option<Rank>, kv::Error> {
        if let Some(rank) = self.rank(user) {
            return Ok(Some(rank));
        }
        let lowest = Rank::try_from(self.configuration.manager_roles.len()).ok();
        let owns = self.configuration.first_is_owner && owner::is(room_id, user.id)?;
        Ok(lowest.filter(|_| owns))
    }

    fn ranks_at_least(&self, user: &User, rank: Rank) -> bool {
        self.rank(user).is_some_and(|own| own <= rank)
    }

    /// One user speaks and nobody else.
    fn hold_floor(
        &self,
        call: &SpeakerChanged,
        user: UserId,
        mutes: &mut Mutes,
    ) -> Result<Actions, kv::Error> {
        let limits = self.configuration.floor_limits();
        let floor = Floor::load(&call.room.id)?;
        let mut floor = floor.unwrap_or_else(|| Floor::taken(user, call.at));
        let told = |notice| Actions::new().emit_to_user(user, "moderation:notice", notice);
        let actions = match floor.heard(user, call.at, &limits) {
            Judgement::Fine => Actions::new(),
            Judgement::Warn { until } => {
                metrics::increment("monologues_warned", 1);
                let reason = "Others want to speak too: you will be muted";
                told(notice("warn", Some(reason), Some(until)))
            }
            Judgement::Mute => {
                metrics::increment("monologues_muted", 1);
                mutes.impose(user, Origin::Monologue);
                Floor::forget(&call.room.id)?;
                let reason = "You have held the floor for too long";
                let mute = Actions::new().mute(Target::User(user));
                return Ok(mute.then(told(notice("mute", Some(reason), None))));
            }
        };
        floor.save(&call.room.id)?;
        Ok(actions)
    }
}

/// What is known of a room ends with the room, except for bans.
fn forget(room_id: &str) -> Result<(), kv::Error> {
    Mutes::forget(room_id)?;
    Floor::forget(room_id)?;
    owner::forget(room_id)
}

/// A mute ends by itself.
fn unmuted(user: UserId, reason: &str) -> Actions {
    let notice = notice("unmute", Some(reason), None);
    let unmute = Actions::new().unmute(Target::User(user));
    unmute.emit_to_user(user, "moderation:notice", notice)
}

/// What the target of a measure is told.
fn notice(action: &str, reason: Option<&str>, until: Option<UnixMs>) -> serde_json::Value {
    let mut notice = json!({ "action": action, "reason": reason });
    if let (Some(fields), Some(until)) = (notice.as_object_mut(), until) {
        fields.insert("until".to_owned(), until.into());
    }
    notice
}

register_plugin!(
    Moderation: before_join, on_room_opened, on_join, on_leave, speaker_changed, on_timer,
    on_room_closed, on_command
);

#[cfg(test)]
mod tests;

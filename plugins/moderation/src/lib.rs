//! Bans, kicks, mutes, and a limit to monologues.
//!
//! Managers are users with one of the roles of `manager_roles` in their token, the highest
//! first. They send `moderation:ban {userId, seconds?, reason?}`, `moderation:unban {userId}`,
//! `moderation:mute {userId, reason?}`, `moderation:unmute {userId}` and
//! `moderation:kick {userId, reason?}`, and the target gets
//! `moderation:notice {action, reason, until?}`.
//!
//! * Nobody acts on a manager of the same or a higher rank, nor on themselves, and nobody
//!   lifts or replaces what a higher rank has imposed.
//! * A ban also kicks. A banned user's join is refused with code `BANNED` and
//!   `details {until, reason}`; `until` is Unix milliseconds, or null for ever. Bans are in
//!   key-value and so hold over a restart. Who is not in the room can be banned as well; if
//!   they turn out to be of the same or a higher rank than the banner, they are let in.
//! * A mute holds until it is lifted or the room empties, also if the user leaves and comes
//!   back.
//! * With `max_solo_seconds`, who holds the floor alone for longer is warned and,
//!   `warn_seconds` later, muted until somebody else has spoken or a manager lifts it. A
//!   pause of up to `pause_seconds` does not give up the floor. Time on the floor is in
//!   memory: if the instance is lost, it starts anew.
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | `manager_roles` | `["owner", "admin", "moderator"]` | roles that make managers, highest first |
//! | `first_is_owner` | false | whether whoever enters an empty room is a manager there until they leave, of the lowest rank |
//! | `scope` | `"room"` | whether a ban holds in its `"room"` or on the whole `"server"`; in other rooms it takes effect at the next join |
//! | `max_solo_seconds` | 0 | how long one may hold the floor alone; 0 is without limit |
//! | `warn_seconds` | 10 | time between the warning and the mute |
//! | `pause_seconds` | 3 | silence that does not give up the floor |

mod bans;
mod commands;
mod floor;
mod mutes;
mod owner;
mod settings;

use std::collections::{BTreeSet, HashMap};

use serde_json::json;
use voice_room_plugin_sdk::{
    Actions, Answer, BeforeJoin, Decision, InitError, OnCommand, OnJoin, OnLeave, Outcome, Plugin,
    Refusal, Settings, SpeakerChanged, Target, UnixMs, User, UserId, allow, kv, metrics,
    register_plugin,
};

use bans::Ban;
use floor::{Floor, Judgement};
use mutes::{Mutes, Origin};
use settings::Configuration;

/// A manager's rank: 0 is the highest.
type Rank = u32;

struct Moderation {
    configuration: Configuration,
    /// Who holds the floor alone, by room.
    floors: HashMap<String, Floor>,
}

impl Plugin for Moderation {
    fn init(settings: Settings) -> Result<Self, InitError> {
        Ok(Self {
            configuration: settings.parse()?,
            floors: HashMap::new(),
        })
    }

    fn commands(&self) -> &[&str] {
        commands::NAMES
    }

    fn before_join(&mut self, call: &BeforeJoin) -> Decision {
        if call.room.participants == 0 {
            Mutes::forget(&call.room.id)?;
            owner::forget(&call.room.id)?;
        }
        let user = &call.participant.user;
        let key = self.ban_key(&call.room.id, user.id);
        match Ban::in_force(&key, call.at)? {
            Some(ban) if !self.ranks_at_least(user, ban.rank) => {
                metrics::increment("banned_joins_refused", 1);
                let refusal = Refusal::new("BANNED", "You are banned from this room");
                let details = json!({ "until": ban.until, "reason": ban.reason });
                Err(refusal.details(details).into())
            }
            _ => allow(),
        }
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
        if call.room.participants == 0 {
            self.floors.remove(&call.room.id);
            Mutes::forget(&call.room.id)?;
            owner::forget(&call.room.id)?;
        } else if call.participant.connections == 0 {
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
                let notice = notice("unmute", Some("Somebody else has spoken"), None);
                actions = actions.unmute(Target::User(user)).emit_to_user(
                    user,
                    "moderation:notice",
                    notice,
                );
            }
        }
        match speaking.first() {
            Some(&user) if speaking.len() == 1 && mutes.origin(user).is_none() => {
                actions = actions.then(self.hold_floor(call, user, &mut mutes));
            }
            _ => {
                self.floors.remove(&call.room.id);
            }
        }
        mutes.save()?;
        Ok(actions)
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
    fn hold_floor(&mut self, call: &SpeakerChanged, user: UserId, mutes: &mut Mutes) -> Actions {
        let limits = self.configuration.floor_limits();
        let floor = self
            .floors
            .entry(call.room.id.clone())
            .or_insert_with(|| Floor::taken(user, call.at));
        match floor.heard(user, call.at, &limits) {
            Judgement::Fine => Actions::new(),
            Judgement::Warn { until } => {
                metrics::increment("monologues_warned", 1);
                let reason = "Others want to speak too: you will be muted";
                let notice = notice("warn", Some(reason), Some(until));
                Actions::new().emit_to_user(user, "moderation:notice", notice)
            }
            Judgement::Mute => {
                metrics::increment("monologues_muted", 1);
                self.floors.remove(&call.room.id);
                mutes.impose(user, Origin::Monologue);
                let reason = "You have held the floor for too long";
                let notice = notice("mute", Some(reason), None);
                Actions::new().mute(Target::User(user)).emit_to_user(
                    user,
                    "moderation:notice",
                    notice,
                )
            }
        }
    }
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
    Moderation: before_join, on_join, on_leave, speaker_changed, on_command
);

#[cfg(test)]
mod tests;

//! The client events.
//!
//! Each checks in the same order: the payload's shape, the right to ask, the rank of the
//! target, the state of the room.

use std::{num::NonZeroU32, time::Duration};

use serde::Deserialize;
use voice_room_plugin_sdk::{
    Actions, Answer, Denial, OnCommand, Refusal, Target, UnixMs, UserId, log, metrics,
};

use crate::{Moderation, Mutes, Origin, Rank, bans::Ban, mutes, notice};

pub(crate) const NAMES: &[&str] = &[
    "moderation:ban",
    "moderation:unban",
    "moderation:mute",
    "moderation:unmute",
    "moderation:kick",
];

/// The longest reason, in characters: what the server shows of a kick's.
const REASON_CHARS: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    user_id: UserId,
    seconds: Option<NonZeroU32>,
    reason: Option<String>,
}

/// A command whose shape, right to ask and target's rank have been checked.
struct Measure<'a> {
    call: &'a OnCommand,
    /// The rank of who takes it.
    rank: Rank,
    target: UserId,
    reason: Option<String>,
    /// How long a ban or a mute lasts, if it ends by itself.
    wait: Option<Duration>,
}

impl Measure<'_> {
    fn until(&self) -> Option<UnixMs> {
        let wait = u64::try_from(self.wait?.as_millis()).ok()?;
        Some(self.call.at.saturating_add(wait))
    }

    fn notice(&self, action: &str) -> Actions {
        let notice = notice(action, self.reason.as_deref(), self.until());
        Actions::new().emit_to_user(self.target, "moderation:notice", notice)
    }

    fn kick(&self, default_reason: &str) -> Actions {
        Actions::new().kick(
            self.target,
            self.reason.as_deref().unwrap_or(default_reason),
        )
    }
}

impl Moderation {
    pub(crate) fn answer(&self, call: &OnCommand) -> Answer {
        let measure = self.check(call)?;
        let answer = match call.command.as_str() {
            "moderation:ban" => self.ban(&measure),
            "moderation:unban" => self.unban(&measure),
            "moderation:mute" => mute(&measure),
            "moderation:unmute" => unmute(&measure),
            "moderation:kick" => kick(&measure),
            _ => Err(Refusal::from_message("Unknown event").into()),
        };
        if answer.is_ok() {
            metrics::increment("measures", 1);
            let (by, target) = (call.participant.user.id, measure.target);
            log::info!(
                "{} of user {target} by user {by} in room {}",
                call.command,
                call.room.id
            );
        }
        answer
    }

    fn check<'a>(&self, call: &'a OnCommand) -> Result<Measure<'a>, Denial> {
        let Payload {
            user_id,
            seconds,
            reason,
        } = call.payload()?;
        if reason
            .as_ref()
            .is_some_and(|reason| reason.chars().count() > REASON_CHARS)
        {
            let problem = format!("is longer than {REASON_CHARS} characters");
            return Err(Refusal::invalid_payload("reason", &problem).into());
        }
        let asking = &call.participant.user;
        let Some(rank) = self.rank_in(&call.room.id, asking)? else {
            return Err(Refusal::from_message("Not authorized").into());
        };
        let target = call.target.as_ref();
        let untouchable = target.is_some_and(|target| self.ranks_at_least(&target.user, rank));
        if user_id == asking.id || untouchable {
            return Err(Refusal::from_message("User cannot be moderated").into());
        }
        let lasting = matches!(&*call.command, "moderation:ban" | "moderation:mute");
        let seconds = seconds.filter(|_| lasting);
        let wait = seconds.map(|seconds| Duration::from_secs(seconds.get().into()));
        Ok(Measure {
            call,
            rank,
            target: user_id,
            reason,
            wait,
        })
    }

    fn ban(&self, measure: &Measure<'_>) -> Answer {
        let Measure {
            call, rank, target, ..
        } = *measure;
        let ban = Ban {
            until: measure.until(),
            reason: measure.reason.clone(),
            by: call.participant.user.id,
            rank,
        };
        self.impose_ban(&call.room.id, target, &ban, call.at)?;
        if call.target.is_none() {
            return Ok(Actions::new().into());
        }
        Ok(measure.notice("ban").then(measure.kick("Banned")).into())
    }

    fn unban(&self, measure: &Measure<'_>) -> Answer {
        let Measure {
            call, rank, target, ..
        } = *measure;
        self.lift_ban(&call.room.id, target, rank, call.at)?;
        Ok(measure.notice("unban").into())
    }
}

fn mute(measure: &Measure<'_>) -> Answer {
    check_present(measure)?;
    let mut mutes = Mutes::load(&measure.call.room.id)?;
    if let Some(Origin::Manager(rank)) = mutes.origin(measure.target) {
        check_may_lift(measure.rank, rank)?;
    }
    mutes.impose(measure.target, Origin::Manager(measure.rank));
    mutes.save()?;
    mutes::end_after(measure.target, measure.wait)?;
    let mute = Actions::new().mute(Target::User(measure.target));
    Ok(mute.then(measure.notice("mute")).into())
}

fn kick(measure: &Measure<'_>) -> Answer {
    check_present(measure)?;
    Ok(measure.notice("kick").then(measure.kick("Kicked")).into())
}

fn check_present(measure: &Measure<'_>) -> Result<(), Refusal> {
    match measure.call.target {
        Some(_) => Ok(()),
        None => Err(Refusal::from_message("User not in room")),
    }
}

fn unmute(measure: &Measure<'_>) -> Answer {
    let mut mutes = Mutes::load(&measure.call.room.id)?;
    match mutes.origin(measure.target) {
        Some(Origin::Manager(rank)) => check_may_lift(measure.rank, rank)?,
        Some(Origin::Monologue) => {}
        None => return Err(Refusal::from_message("User is not muted").into()),
    }
    mutes.lift(measure.target);
    mutes.save()?;
    mutes::end_after(measure.target, None)?;
    let unmute = Actions::new().unmute(Target::User(measure.target));
    Ok(unmute.then(measure.notice("unmute")).into())
}

/// What a higher rank has imposed is not for a lower one to lift.
pub(crate) fn check_may_lift(rank: Rank, imposed_by: Rank) -> Result<(), Refusal> {
    if rank <= imposed_by {
        Ok(())
    } else {
        Err(Refusal::from_message("Not authorized"))
    }
}

//! Seats, and who may speak from them.
//!
//! A room has seats `0 … seat_count - 1`; a user holds at most one, and only who is seated
//! may produce audio. Managers seat, unseat, mute, lock and invite. The events are described
//! in the table "seats" of the server's protocol.
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | `seat_count` | 8 | number of seats, 1 to 100 |
//! | `require_seat` | true | whether only seated users may produce; false lets everybody speak |
//! | `first_is_owner` | false | whether whoever enters an empty room is a manager there until they leave |
//! | `manager_roles` | `["owner", "admin", "moderator"]` | roles in the token that make managers |
//! | `grace_seconds` | 45 | how long who is disconnected keeps the right to their seat; 0 is not at all |
//! | `invite_seconds` | 30 | how long an invite holds |
//!
//! Where the protocol leaves room:
//!
//! * A mute holds for the user until a manager lifts it or the room empties, also while they
//!   are not seated or not there, so that leaving and coming back is no way around it.
//! * A lock holds for `seat:assign` too: the seat must be unlocked first. Taking the seat that
//!   one already has succeeds and changes nothing.
//! * A lock outlives the room by 30 days; who opens the room within them finds it locked.
//! * Where everybody may speak (`require_seat` is false), losing the seat does not close
//!   producers.
//! * Who comes back within the grace period sits on their seat at once, and the room is told
//!   so by `seat:updated`, unless somebody else has taken the seat in the meantime, it has
//!   been locked, or a smaller `seat_count` has taken it away. The right outlives the room.
//! * An invite keeps nobody from taking the seat. It ends, with `seat:invite:pending
//!   {isPending: false}` to the room, when it is accepted or declined, when its time is up,
//!   when the seat is taken, and when the invited user leaves.
//!
//! Everything lives in key-value and timers: occupancy survives the loss of an instance;
//! locks and the right to a seat survive a restart of the server. What a dead server left of
//! a room is cleared when the room is next opened.

mod commands;
mod invites;
mod room;
mod settings;

use std::time::Duration;

use serde_json::Value;
use voice_room_plugin_sdk::{
    Actions, Answer, BeforeProduce, DescribeRoom, Failure, InitError, OnCommand, OnJoin, OnLeave,
    OnRoomClosed, OnRoomOpened, OnTimer, Outcome, Plugin, ProduceDecision, Settings, Target,
    UnixMs, User, UserId, allow, refuse, register_plugin, timers,
};

use room::{LOCKS_TIMER, People, SeatedRoom, keep_locks};
use settings::Configuration;

struct Seats {
    configuration: Configuration,
}

impl Plugin for Seats {
    fn init(settings: Settings) -> Result<Self, InitError> {
        let configuration = Configuration::read(&settings)?;
        Ok(Self { configuration })
    }

    fn commands(&self) -> &[&str] {
        commands::NAMES
    }

    fn on_room_opened(&mut self, call: &OnRoomOpened) -> Outcome {
        forget(&call.room.id)?;
        keep_locks(&call.room.id, true)?;
        Ok(Actions::new())
    }

    fn on_join(&mut self, call: &OnJoin) -> Outcome {
        let user = call.participant.user.id;
        let mut room = SeatedRoom::load(&call.room.id)?;
        if self.configuration.first_is_owner {
            room.people.offer_ownership(user);
        }
        let mut actions = Actions::new();
        if room.people.is_muted(user) {
            actions = actions.mute(Target::User(user));
        }
        if let Some(seat) = room.people.end_claim(user, call.at) {
            timers::cancel(&grace_timer(user))?;
            let exists = seat < self.configuration.seat_count;
            if exists && room.people.occupant(seat).is_none() && !room.locks.contains(&seat) {
                actions = actions.then(commands::seat(&mut room, seat, user)?);
            }
        }
        room.save()?;
        Ok(actions)
    }

    fn describe_room(&mut self, call: &DescribeRoom) -> Result<Option<Value>, Failure> {
        let room = SeatedRoom::load(&call.room.id)?;
        Ok(Some(room.describe(self.configuration.seat_count)))
    }

    fn on_leave(&mut self, call: &OnLeave) -> Outcome {
        if call.participant.connections > 0 {
            return Ok(Actions::new());
        }
        let mut people = People::load(&call.room.id)?;
        let user = call.participant.user.id;
        people.end_ownership(user);
        let mut actions = invites::end_all_of(&mut people, user)?;
        if let Some(seat) = people.vacate(user) {
            actions = actions.then(commands::cleared(seat, user, None));
            let lost = matches!(&*call.reason, "disconnected" | "too_slow");
            if lost && self.configuration.grace_seconds > 0 {
                let grace = self.configuration.grace();
                timers::set(&grace_timer(user), grace)?;
                people.claim(user, seat, later(call.at, grace));
            }
        }
        people.save()?;
        Ok(actions)
    }

    fn before_produce(&mut self, call: &BeforeProduce) -> ProduceDecision {
        if !self.configuration.require_seat {
            return allow();
        }
        match People::read(&call.room.id)?.seat_of(call.participant.user.id) {
            Some(_) => allow(),
            None => refuse("SEAT_REQUIRED", "Take a seat before you speak"),
        }
    }

    fn on_timer(&mut self, call: &OnTimer) -> Outcome {
        if call.key == LOCKS_TIMER {
            // Nobody may have told that the room has closed.
            keep_locks(&call.room.id, call.room.participants > 0)?;
            return Ok(Actions::new());
        }
        let mut people = People::load(&call.room.id)?;
        let actions = match call.key.split_once('/') {
            Some(("grace", user)) => {
                if let Ok(user) = user.parse() {
                    people.end_claim(user, call.at);
                }
                Actions::new()
            }
            Some(("invite", seat)) => match seat.parse() {
                Ok(seat) if people.invited(seat, call.at).is_none() => {
                    invites::end(&mut people, seat)?
                }
                _ => Actions::new(),
            },
            _ => Actions::new(),
        };
        people.save()?;
        Ok(actions)
    }

    fn on_room_closed(&mut self, call: &OnRoomClosed) -> Result<(), Failure> {
        forget(&call.room.id)?;
        keep_locks(&call.room.id, false)
    }

    fn on_command(&mut self, call: &OnCommand) -> Answer {
        self.answer(call)
    }
}

/// What is known of a room's people ends with the room.
fn forget(room_id: &str) -> Result<(), Failure> {
    let mut people = People::load(room_id)?;
    people.forget();
    Ok(people.save()?)
}

fn grace_timer(user: UserId) -> String {
    format!("grace/{user}")
}

fn later(at: UnixMs, wait: Duration) -> UnixMs {
    at.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

impl Seats {
    fn is_manager(&self, user: &User, people: &People) -> bool {
        self.configuration
            .manager_roles
            .iter()
            .any(|role| user.has_role(role))
            || (self.configuration.first_is_owner && people.is_owner(user.id))
    }
}

register_plugin!(
    Seats: on_room_opened, on_join, describe_room, on_leave, before_produce, on_timer,
    on_room_closed, on_command
);

#[cfg(test)]
mod tests;

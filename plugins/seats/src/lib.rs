//! Seats, and who may speak from them.
//!
//! A room has seats `0 … seat_count - 1`; a user holds at most one, and only who is seated
//! may produce audio. Managers seat, unseat, mute and lock. The events are described in the
//! table "seats" of the server's protocol; invites and a grace period for disconnected
//! users are not part of this version.
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | `seat_count` | 8 | number of seats, 1 to 100 |
//! | `require_seat` | true | whether only seated users may produce; false lets everybody speak |
//! | `first_is_owner` | false | whether whoever enters an empty room is a manager there until they leave |
//! | `manager_roles` | `["owner", "admin", "moderator"]` | roles in the token that make managers |
//!
//! Where the protocol leaves room: a mute holds for the user until a manager lifts it or the
//! room empties, also while they are not seated or not there, so that leaving and coming
//! back is no way around it. A lock holds for `seat:assign` too: the seat must be unlocked
//! first. Taking the seat that one already has succeeds and changes nothing. Where everybody
//! may speak (`require_seat` is false), losing the seat does not close producers.
//!
//! Everything lives in key-value: occupancy survives the loss of an instance, locks survive
//! a restart of the server. What a dead server left of a room is cleared when the room is
//! next entered.

mod commands;
mod room;
mod settings;

use serde_json::Value;
use voice_room_plugin_sdk::{
    Actions, Answer, BeforeJoin, BeforeProduce, Decision, DescribeRoom, Failure, InitError,
    OnCommand, OnJoin, OnLeave, Outcome, Plugin, ProduceDecision, Settings, Target, User, allow,
    refuse, register_plugin,
};

use room::{People, SeatedRoom};
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

    fn before_join(&mut self, call: &BeforeJoin) -> Decision {
        if call.room.participants == 0 {
            let mut people = People::load(&call.room.id)?;
            people.forget();
            people.save()?;
        }
        allow()
    }

    fn on_join(&mut self, call: &OnJoin) -> Outcome {
        let user = call.participant.user.id;
        let mut people = People::load(&call.room.id)?;
        if self.configuration.first_is_owner {
            people.offer_ownership(user);
            people.save()?;
        }
        if people.is_muted(user) {
            return Ok(Actions::new().mute(Target::User(user)));
        }
        Ok(Actions::new())
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
        let vacated = people.vacate(user);
        people.end_ownership(user);
        if call.room.participants == 0 {
            people.forget();
        }
        people.save()?;
        Ok(vacated.map_or_else(Actions::new, |seat| commands::cleared(seat, user, None)))
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

    fn on_command(&mut self, call: &OnCommand) -> Answer {
        self.answer(call)
    }
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
    Seats: before_join, on_join, describe_room, on_leave, before_produce, on_command
);

#[cfg(test)]
mod tests;

//! Invites to a seat.

use serde_json::json;
use voice_room_plugin_sdk::{Actions, Answer, Failure, OnCommand, Refusal, Reply, UserId, timers};

use crate::{
    Seats,
    commands::{self, AssignPayload, SeatPayload},
    later,
    room::{Invite, People, SeatedRoom, keep_locks},
};

impl Seats {
    pub(crate) fn invite(&self, call: &OnCommand, mut room: SeatedRoom) -> Answer {
        let AssignPayload {
            user_id,
            seat_index,
        } = call.payload()?;
        self.check_manager(call, &room)?;
        let seat = self.check_index(seat_index)?;
        let by = call.participant.user.id;
        let no = |sentence| Err(Refusal::from_message(sentence).into());
        if user_id == by {
            return no("Cannot invite yourself");
        }
        if call.target.is_none() {
            return no("User not in room");
        }
        if room.people.occupant(seat).is_some() {
            return no("Seat is already occupied");
        }
        if room.people.invited(seat, call.at).is_some() {
            return no("Invite already pending for this seat");
        }
        // One whose timer is late.
        let ended = end(&mut room.people, seat)?;

        let until = later(call.at, self.configuration.invite());
        timers::set(&timer(seat), self.configuration.invite())?;
        let invite = Invite {
            user: user_id,
            until,
        };
        room.people.invite(seat, invite);
        room.save()?;
        let received = json!({ "seatIndex": seat, "invitedById": by, "expiresAt": until });
        let actions = ended.emit_to_user(user_id, "seat:invite:received", received);
        Ok(actions.then(pending(seat, user_id, true)).into())
    }

    pub(crate) fn accept(&self, call: &OnCommand, mut room: SeatedRoom) -> Answer {
        let seat = self.check_invited(call, &room)?;
        let mut unlocked = Actions::new();
        if room.locks.remove(&seat) {
            unlocked = commands::lock_changed(seat, false);
        }
        let seated = commands::seat(&mut room, seat, call.participant.user.id)?;
        room.save()?;
        keep_locks(&call.room.id, true)?;
        Ok(unlocked.then(seated).into())
    }

    pub(crate) fn decline(&self, call: &OnCommand, mut room: SeatedRoom) -> Answer {
        let seat = self.check_invited(call, &room)?;
        let actions = end(&mut room.people, seat)?;
        room.save()?;
        Ok(Reply::from(actions))
    }

    /// The seat that the payload names, if its sender is invited to it.
    fn check_invited(&self, call: &OnCommand, room: &SeatedRoom) -> Result<u32, Refusal> {
        let SeatPayload { seat_index } = call.payload()?;
        let seat = self.check_index(seat_index)?;
        if room.people.invited(seat, call.at) == Some(call.participant.user.id) {
            Ok(seat)
        } else {
            Err(Refusal::from_message("No pending invite found"))
        }
    }
}

/// Ends the invite to a seat, if there is one, and tells the room.
pub(crate) fn end(people: &mut People, seat: u32) -> Result<Actions, Failure> {
    let Some(user) = people.end_invite(seat) else {
        return Ok(Actions::new());
    };
    timers::cancel(&timer(seat))?;
    Ok(pending(seat, user, false))
}

/// Ends all invites of a user who is gone.
pub(crate) fn end_all_of(people: &mut People, user: UserId) -> Result<Actions, Failure> {
    let mut actions = Actions::new();
    for seat in people.invites_of(user) {
        actions = actions.then(end(people, seat)?);
    }
    Ok(actions)
}

fn pending(seat: u32, user: UserId, is_pending: bool) -> Actions {
    let payload = json!({ "seatIndex": seat, "isPending": is_pending, "invitedUserId": user });
    Actions::new().emit_to_room("seat:invite:pending", payload)
}

fn timer(seat: u32) -> String {
    format!("invite/{seat}")
}

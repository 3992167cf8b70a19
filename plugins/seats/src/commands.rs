//! The client events.
//!
//! Each checks in the same order: the payload's shape, the right to ask, the seat's number,
//! the state of the room.

use serde::Deserialize;
use serde_json::json;
use voice_room_plugin_sdk::{Actions, Answer, Failure, OnCommand, Refusal, Reply, Target, UserId};

use crate::{
    Seats, invites,
    room::{SeatedRoom, keep_locks},
};

pub(crate) const NAMES: &[&str] = &[
    "seat:take",
    "seat:leave",
    "seat:assign",
    "seat:remove",
    "seat:mute",
    "seat:unmute",
    "seat:lock",
    "seat:unlock",
    "seat:invite",
    "seat:invite:accept",
    "seat:invite:decline",
];

/// A seat as a client names it: whether there is such a seat is checked later.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SeatPayload {
    pub(crate) seat_index: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserPayload {
    user_id: UserId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AssignPayload {
    pub(crate) user_id: UserId,
    pub(crate) seat_index: i64,
}

impl Seats {
    pub(crate) fn answer(&self, call: &OnCommand) -> Answer {
        let room = SeatedRoom::load(&call.room.id)?;
        match call.command.as_str() {
            "seat:take" => self.take(call, room),
            "seat:leave" => self.leave(call, room),
            "seat:assign" => self.assign(call, room),
            "seat:remove" => self.remove(call, room),
            "seat:mute" => self.set_muted(call, room, true),
            "seat:unmute" => self.set_muted(call, room, false),
            "seat:lock" => self.lock(call, room),
            "seat:unlock" => self.unlock(call, room),
            "seat:invite" => self.invite(call, room),
            "seat:invite:accept" => self.accept(call, room),
            "seat:invite:decline" => self.decline(call, room),
            _ => Err(Refusal::from_message("Unknown event").into()),
        }
    }

    fn take(&self, call: &OnCommand, mut room: SeatedRoom) -> Answer {
        let payload: SeatPayload = call.payload()?;
        let seat = self.check_index(payload.seat_index)?;
        check_unlocked(&room, seat)?;
        let user = call.participant.user.id;
        match room.people.occupant(seat) {
            Some(occupant) if occupant == user => return Ok(Reply::new()),
            Some(_) => return Err(Refusal::from_message("Seat is already taken").into()),
            None => {}
        }
        let actions = self::seat(&mut room, seat, user)?;
        room.save()?;
        Ok(actions.into())
    }

    fn leave(&self, call: &OnCommand, mut room: SeatedRoom) -> Answer {
        let user = call.participant.user.id;
        let Some(seat) = room.people.vacate(user) else {
            return Err(Refusal::from_message("You are not seated").into());
        };
        room.save()?;
        Ok(self.silence(user).then(cleared(seat, user, None)).into())
    }

    fn assign(&self, call: &OnCommand, mut room: SeatedRoom) -> Answer {
        let AssignPayload {
            user_id,
            seat_index,
        } = call.payload()?;
        self.check_manager(call, &room)?;
        let seat = self.check_index(seat_index)?;
        check_unlocked(&room, seat)?;
        if room.people.occupant(seat) == Some(user_id) {
            return Ok(Reply::new());
        }
        if call.target.is_none() {
            return Err(Refusal::from_message("User not in room").into());
        }
        let displaced = self.clear_seat(&mut room, seat);
        let actions = displaced.then(self::seat(&mut room, seat, user_id)?);
        room.save()?;
        Ok(actions.into())
    }

    fn remove(&self, call: &OnCommand, mut room: SeatedRoom) -> Answer {
        let UserPayload { user_id } = call.payload()?;
        self.check_manager(call, &room)?;
        let seat = check_seated(&room, user_id)?;
        let actions = self.clear_seat(&mut room, seat);
        room.save()?;
        Ok(actions.into())
    }

    fn set_muted(&self, call: &OnCommand, mut room: SeatedRoom, muted: bool) -> Answer {
        let UserPayload { user_id } = call.payload()?;
        self.check_manager(call, &room)?;
        check_seated(&room, user_id)?;
        let target = Target::User(user_id);
        let actions = if muted {
            Actions::new().mute(target)
        } else {
            Actions::new().unmute(target)
        };
        if room.people.is_muted(user_id) == muted {
            return Ok(actions.into());
        }
        room.people.set_muted(user_id, muted);
        room.save()?;
        let payload = json!({ "userId": user_id, "isMuted": muted });
        Ok(actions.emit_to_room("seat:userMuted", payload).into())
    }

    fn lock(&self, call: &OnCommand, mut room: SeatedRoom) -> Answer {
        let payload: SeatPayload = call.payload()?;
        self.check_manager(call, &room)?;
        let seat = self.check_index(payload.seat_index)?;
        if room.locks.contains(&seat) {
            return Err(Refusal::from_message("Seat is already locked").into());
        }
        let removed = self.clear_seat(&mut room, seat);
        room.locks.insert(seat);
        room.save()?;
        keep_locks(&call.room.id, true)?;
        Ok(removed.then(lock_changed(seat, true)).into())
    }

    fn unlock(&self, call: &OnCommand, mut room: SeatedRoom) -> Answer {
        let payload: SeatPayload = call.payload()?;
        self.check_manager(call, &room)?;
        let seat = self.check_index(payload.seat_index)?;
        if !room.locks.contains(&seat) {
            return Err(Refusal::from_message("Seat is not locked").into());
        }
        room.locks.remove(&seat);
        room.save()?;
        keep_locks(&call.room.id, true)?;
        Ok(lock_changed(seat, false).into())
    }

    pub(crate) fn check_manager(&self, call: &OnCommand, room: &SeatedRoom) -> Result<(), Refusal> {
        if self.is_manager(&call.participant.user, &room.people) {
            Ok(())
        } else {
            Err(Refusal::from_message("Not authorized"))
        }
    }

    pub(crate) fn check_index(&self, index: i64) -> Result<u32, Refusal> {
        u32::try_from(index)
            .ok()
            .filter(|&seat| seat < self.configuration.seat_count)
            .ok_or_else(|| Refusal::from_message("Invalid seat index"))
    }

    /// Removes the occupant of a seat, if it has one.
    fn clear_seat(&self, room: &mut SeatedRoom, seat: u32) -> Actions {
        let Some(occupant) = room.people.occupant(seat) else {
            return Actions::new();
        };
        room.people.vacate(occupant);
        self.silence(occupant)
            .then(cleared(seat, occupant, Some("removed")))
    }

    /// What losing the seat means for a user's producers.
    fn silence(&self, user: UserId) -> Actions {
        if self.configuration.require_seat {
            Actions::new().close(Target::User(user))
        } else {
            Actions::new()
        }
    }
}

fn check_unlocked(room: &SeatedRoom, seat: u32) -> Result<(), Refusal> {
    if room.locks.contains(&seat) {
        Err(Refusal::from_message("Seat is locked"))
    } else {
        Ok(())
    }
}

fn check_seated(room: &SeatedRoom, user: UserId) -> Result<u32, Refusal> {
    room.people
        .seat_of(user)
        .ok_or_else(|| Refusal::from_message("User is not seated"))
}

/// Seats a user, which ends an invite to the seat. Their producers go on, for who leaves
/// another seat for it is still seated.
pub(crate) fn seat(room: &mut SeatedRoom, seat: u32, user: UserId) -> Result<Actions, Failure> {
    let mut actions = invites::end(&mut room.people, seat)?;
    if let Some(left) = room.people.occupy(seat, user) {
        actions = actions.then(cleared(left, user, None));
    }
    let payload =
        json!({ "seatIndex": seat, "userId": user, "isMuted": room.people.is_muted(user) });
    Ok(actions.emit_to_room("seat:updated", payload))
}

/// Tells the room that a seat is free.
pub(crate) fn cleared(seat: u32, user: UserId, reason: Option<&str>) -> Actions {
    let mut payload = json!({ "seatIndex": seat, "userId": user });
    if let (Some(fields), Some(reason)) = (payload.as_object_mut(), reason) {
        fields.insert("reason".to_owned(), reason.into());
    }
    Actions::new().emit_to_room("seat:cleared", payload)
}

pub(crate) fn lock_changed(seat: u32, locked: bool) -> Actions {
    let payload = json!({ "seatIndex": seat, "isLocked": locked });
    Actions::new().emit_to_room("seat:locked", payload)
}

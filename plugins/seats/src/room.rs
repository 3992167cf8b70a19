//! What is known of one room's seats.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use voice_room_plugin_sdk::{UserId, kv};

/// Who owns a room that belongs to whoever entered it first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Ownership {
    /// Nobody has entered yet.
    #[default]
    Open,
    Held(UserId),
    /// The owner has left, and others are still there.
    Lapsed,
}

/// The people of one room: forgotten when it empties.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct People {
    ownership: Ownership,
    seats: BTreeMap<u32, UserId>,
    muted: BTreeSet<UserId>,
}

/// One room's seats, read from key-value and written back if changed.
pub(crate) struct SeatedRoom {
    room_id: String,
    people: People,
    locked: BTreeSet<u32>,
    stored_people: People,
    stored_locked: BTreeSet<u32>,
}

impl SeatedRoom {
    pub(crate) fn load(room_id: &str) -> Result<Self, kv::Error> {
        let people: People = kv::get(&people_key(room_id))?.unwrap_or_default();
        let locked: BTreeSet<u32> = kv::get(&locks_key(room_id))?.unwrap_or_default();
        Ok(Self {
            room_id: room_id.to_owned(),
            stored_people: people.clone(),
            stored_locked: locked.clone(),
            people,
            locked,
        })
    }

    /// Writes what has changed.
    pub(crate) fn save(&self) -> Result<(), kv::Error> {
        save(
            &people_key(&self.room_id),
            &self.people,
            &self.stored_people,
        )?;
        save(&locks_key(&self.room_id), &self.locked, &self.stored_locked)
    }

    pub(crate) fn is_owner(&self, user: UserId) -> bool {
        self.people.ownership == Ownership::Held(user)
    }

    /// Gives the room to a newcomer, if they are the first.
    pub(crate) fn offer_ownership(&mut self, user: UserId) {
        if self.people.ownership == Ownership::Open {
            self.people.ownership = Ownership::Held(user);
        }
    }

    /// Ends a user's ownership, if they hold it.
    pub(crate) fn end_ownership(&mut self, user: UserId) {
        if self.is_owner(user) {
            self.people.ownership = Ownership::Lapsed;
        }
    }

    pub(crate) fn forget_people(&mut self) {
        self.people = People::default();
    }

    pub(crate) fn seat_of(&self, user: UserId) -> Option<u32> {
        self.people
            .seats
            .iter()
            .find(|&(_, &occupant)| occupant == user)
            .map(|(&seat, _)| seat)
    }

    pub(crate) fn occupant(&self, seat: u32) -> Option<UserId> {
        self.people.seats.get(&seat).copied()
    }

    /// Seats a user, who leaves any other seat for it; gives that seat.
    pub(crate) fn occupy(&mut self, seat: u32, user: UserId) -> Option<u32> {
        let left = self.vacate(user);
        self.people.seats.insert(seat, user);
        left
    }

    /// Takes a user from their seat; gives it.
    pub(crate) fn vacate(&mut self, user: UserId) -> Option<u32> {
        let seat = self.seat_of(user)?;
        self.people.seats.remove(&seat);
        Some(seat)
    }

    pub(crate) fn is_muted(&self, user: UserId) -> bool {
        self.people.muted.contains(&user)
    }

    pub(crate) fn set_muted(&mut self, user: UserId, muted: bool) {
        if muted {
            self.people.muted.insert(user);
        } else {
            self.people.muted.remove(&user);
        }
    }

    pub(crate) fn is_locked(&self, seat: u32) -> bool {
        self.locked.contains(&seat)
    }

    pub(crate) fn set_locked(&mut self, seat: u32, locked: bool) {
        if locked {
            self.locked.insert(seat);
        } else {
            self.locked.remove(&seat);
        }
    }

    /// What a newcomer is shown. Locks of seats that a smaller `seat_count` has taken away
    /// are not.
    pub(crate) fn describe(&self, seat_count: u32) -> Value {
        let seats: Vec<Value> = self
            .people
            .seats
            .iter()
            .map(|(&seat, &user)| {
                json!({ "seatIndex": seat, "userId": user, "isMuted": self.is_muted(user) })
            })
            .collect();
        let locked: Vec<u32> = self.locked.range(..seat_count).copied().collect();
        json!({ "seatCount": seat_count, "seats": seats, "lockedSeats": locked })
    }
}

fn people_key(room_id: &str) -> String {
    format!("people/{room_id}")
}

fn locks_key(room_id: &str) -> String {
    format!("locks/{room_id}")
}

fn save<T: Default + PartialEq + Serialize>(
    key: &str,
    value: &T,
    stored: &T,
) -> Result<(), kv::Error> {
    if value == stored {
        Ok(())
    } else if *value == T::default() {
        kv::delete(key)
    } else {
        kv::set(key, value)
    }
}

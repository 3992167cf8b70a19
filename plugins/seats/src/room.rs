//! What is known of one room's seats.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Deref, DerefMut},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use voice_room_plugin_sdk::{Failure, UnixMs, UserId, kv, timers};

/// How long locks outlive their room, so that rooms of one evening leave nothing for good.
const LOCKS_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often the locks of an open room are kept for longer.
const LOCKS_RENEWED: Duration = Duration::from_secs(24 * 60 * 60);

/// The timer that does it.
pub(crate) const LOCKS_TIMER: &str = "locks";

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

/// The right of a disconnected user to the seat that they had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Claim {
    seat: u32,
    until: UnixMs,
}

/// A seat that a user is invited to take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Invite {
    pub(crate) user: UserId,
    pub(crate) until: UnixMs,
}

/// The people of one room: all but the claims is forgotten when it empties.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct People {
    ownership: Ownership,
    seats: BTreeMap<u32, UserId>,
    muted: BTreeSet<UserId>,
    invites: BTreeMap<u32, Invite>,
    /// Of users who are not there, until their timers end them.
    claims: BTreeMap<UserId, Claim>,
}

impl People {
    /// To look at.
    pub(crate) fn read(room_id: &str) -> Result<Self, kv::Error> {
        Ok(kv::get(&people_key(room_id))?.unwrap_or_default())
    }

    /// To change.
    pub(crate) fn load(room_id: &str) -> Result<Stored<Self>, kv::Error> {
        Stored::load(people_key(room_id), None)
    }

    /// The room has ended, or was left behind by a server that has.
    pub(crate) fn forget(&mut self) {
        let claims = std::mem::take(&mut self.claims);
        *self = Self {
            claims,
            ..Self::default()
        };
    }

    /// A disconnected user may come back to their seat.
    pub(crate) fn claim(&mut self, user: UserId, seat: u32, until: UnixMs) {
        self.claims.insert(user, Claim { seat, until });
    }

    /// Takes back a user's right to the seat that they had; gives that seat, if the right
    /// still held.
    pub(crate) fn end_claim(&mut self, user: UserId, at: UnixMs) -> Option<u32> {
        let claim = self.claims.remove(&user)?;
        (claim.until > at).then_some(claim.seat)
    }

    pub(crate) fn invite(&mut self, seat: u32, invite: Invite) {
        self.invites.insert(seat, invite);
    }

    /// Who is invited to a seat at that time.
    pub(crate) fn invited(&self, seat: u32, at: UnixMs) -> Option<UserId> {
        let invite = self.invites.get(&seat).filter(|invite| invite.until > at);
        invite.map(|invite| invite.user)
    }

    /// The seats to which a user is invited, be it in time or not.
    pub(crate) fn invites_of(&self, user: UserId) -> Vec<u32> {
        let invites = self
            .invites
            .iter()
            .filter(|(_, invite)| invite.user == user);
        invites.map(|(&seat, _)| seat).collect()
    }

    /// Takes back the invite to a seat; gives who was invited.
    pub(crate) fn end_invite(&mut self, seat: u32) -> Option<UserId> {
        self.invites.remove(&seat).map(|invite| invite.user)
    }

    pub(crate) fn is_owner(&self, user: UserId) -> bool {
        self.ownership == Ownership::Held(user)
    }

    /// Gives the room to a newcomer, if they are the first.
    pub(crate) fn offer_ownership(&mut self, user: UserId) {
        if self.ownership == Ownership::Open {
            self.ownership = Ownership::Held(user);
        }
    }

    /// Ends a user's ownership, if they hold it.
    pub(crate) fn end_ownership(&mut self, user: UserId) {
        if self.is_owner(user) {
            self.ownership = Ownership::Lapsed;
        }
    }

    pub(crate) fn seat_of(&self, user: UserId) -> Option<u32> {
        let mut seats = self.seats.iter();
        seats
            .find(|&(_, &occupant)| occupant == user)
            .map(|(&seat, _)| seat)
    }

    pub(crate) fn occupant(&self, seat: u32) -> Option<UserId> {
        self.seats.get(&seat).copied()
    }

    /// Seats a user, who leaves any other seat for it; gives that seat.
    pub(crate) fn occupy(&mut self, seat: u32, user: UserId) -> Option<u32> {
        let left = self.vacate(user);
        self.seats.insert(seat, user);
        left
    }

    /// Takes a user from their seat; gives it.
    pub(crate) fn vacate(&mut self, user: UserId) -> Option<u32> {
        let seat = self.seat_of(user)?;
        self.seats.remove(&seat);
        Some(seat)
    }

    pub(crate) fn is_muted(&self, user: UserId) -> bool {
        self.muted.contains(&user)
    }

    pub(crate) fn set_muted(&mut self, user: UserId, muted: bool) {
        if muted {
            self.muted.insert(user);
        } else {
            self.muted.remove(&user);
        }
    }
}

/// One room's people and locks.
pub(crate) struct SeatedRoom {
    pub(crate) people: Stored<People>,
    pub(crate) locks: Locks,
}

/// Survive a restart of the server and, for a time, their room.
type Locks = Stored<BTreeSet<u32>>;

fn load_locks(room_id: &str) -> Result<Locks, kv::Error> {
    Stored::load(format!("locks/{room_id}"), Some(LOCKS_KEPT))
}

/// Keeps the locks of a room, if it has any, for their time from now on, and sees to it that
/// this is done again for as long as the room is open.
pub(crate) fn keep_locks(room_id: &str, is_open: bool) -> Result<(), Failure> {
    let locks = load_locks(room_id)?;
    if !locks.is_empty() {
        locks.write()?;
    }
    if locks.is_empty() || !is_open {
        return Ok(timers::cancel(LOCKS_TIMER)?);
    }
    Ok(timers::set_repeating(
        LOCKS_TIMER,
        LOCKS_RENEWED,
        LOCKS_RENEWED,
    )?)
}

impl SeatedRoom {
    pub(crate) fn load(room_id: &str) -> Result<Self, kv::Error> {
        Ok(Self {
            people: People::load(room_id)?,
            locks: load_locks(room_id)?,
        })
    }

    /// Writes what has changed.
    pub(crate) fn save(&self) -> Result<(), kv::Error> {
        self.people.save()?;
        self.locks.save()
    }

    /// What a newcomer is shown. Locks of seats that a smaller `seat_count` has taken away
    /// are not.
    pub(crate) fn describe(&self, seat_count: u32) -> Value {
        let seats = self.people.seats.iter().map(|(&seat, &user)| {
            let is_muted = self.people.is_muted(user);
            json!({ "seatIndex": seat, "userId": user, "isMuted": is_muted })
        });
        let seats: Vec<Value> = seats.collect();
        let locked: Vec<u32> = self.locks.range(..seat_count).copied().collect();
        json!({ "seatCount": seat_count, "seats": seats, "lockedSeats": locked })
    }
}

/// A value under a key, written back only if it has changed; the default is no key at all.
pub(crate) struct Stored<T> {
    key: String,
    /// How long it is kept; for good, where it is not said.
    ttl: Option<Duration>,
    value: T,
    stored: T,
}

impl<T: Clone + Default + PartialEq + Serialize + DeserializeOwned> Stored<T> {
    fn load(key: String, ttl: Option<Duration>) -> Result<Self, kv::Error> {
        let value: T = kv::get(&key)?.unwrap_or_default();
        Ok(Self {
            key,
            ttl,
            stored: value.clone(),
            value,
        })
    }

    /// Writes the value if it has changed.
    pub(crate) fn save(&self) -> Result<(), kv::Error> {
        if self.value == self.stored {
            Ok(())
        } else {
            self.write()
        }
    }

    fn write(&self) -> Result<(), kv::Error> {
        if self.value == T::default() {
            return kv::delete(&self.key);
        }
        match self.ttl {
            Some(ttl) => kv::set_expiring(&self.key, &self.value, ttl),
            None => kv::set(&self.key, &self.value),
        }
    }
}

impl<T> Deref for Stored<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Stored<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

fn people_key(room_id: &str) -> String {
    format!("people/{room_id}")
}

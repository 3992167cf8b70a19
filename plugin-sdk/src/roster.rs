//! Who is in each room, as far as this instance has seen.

use std::collections::HashMap;

use crate::{
    call::{OnCommand, OnJoin, OnLeave},
    nouns::{Participant, Room, User, UserId},
};

/// Who is in each room, as far as this instance has seen: tells whether a user whom a
/// command names is there, and with which roles.
///
/// It lives in memory, which may vanish, so it counts: only if it knows as many
/// participants as the server says the room has, does it call a user absent.
///
/// Feed it from `on_join` and `on_leave`, and, so that it recovers sooner after the instance
/// was replaced, from `on_command`.
#[derive(Debug, Default)]
pub struct Roster {
    rooms: HashMap<String, HashMap<String, User>>,
}

/// What a [`Roster`] knows about a user.
#[derive(Debug, PartialEq, Eq)]
pub enum Presence<'a> {
    /// In the room.
    Present(&'a User),
    /// Not in the room.
    Absent,
    /// Not seen, but neither have been all participants of the room.
    Unknown,
}

impl Roster {
    /// Nobody anywhere.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a newcomer.
    pub fn joined(&mut self, call: &OnJoin) {
        self.note(&call.room, &call.participant);
    }

    /// Takes note of who sent a command.
    pub fn seen(&mut self, call: &OnCommand) {
        self.note(&call.room, &call.participant);
    }

    /// Takes note of a departure.
    pub fn left(&mut self, call: &OnLeave) {
        if let Some(participants) = self.rooms.get_mut(&call.room.id) {
            participants.remove(&call.participant.id);
            if participants.is_empty() || call.room.participants == 0 {
                self.rooms.remove(&call.room.id);
            }
        }
    }

    /// Whether a user is in a room.
    #[must_use]
    pub fn find(&self, room: &Room, user: UserId) -> Presence<'_> {
        let participants = self.rooms.get(&room.id);
        let found = participants.and_then(|known| known.values().find(|known| known.id == user));
        match found {
            Some(user) => Presence::Present(user),
            None if participants.map_or(0, HashMap::len) == room.participants as usize => {
                Presence::Absent
            }
            None => Presence::Unknown,
        }
    }

    fn note(&mut self, room: &Room, participant: &Participant) {
        let participants = self.rooms.entry(room.id.clone()).or_default();
        participants.insert(participant.id.clone(), participant.user.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(participants: u32) -> Room {
        Room {
            id: "lobby".into(),
            participants,
        }
    }

    fn participant(id: &str, user: UserId) -> Participant {
        Participant {
            id: id.into(),
            user: User::new(user),
            connections: 1,
        }
    }

    fn join(roster: &mut Roster, participants: u32, id: &str, user: UserId) {
        let (room, participant) = (room(participants), participant(id, user));
        roster.joined(&OnJoin {
            room,
            participant,
            at: 0,
        });
    }

    fn leave(roster: &mut Roster, participants: u32, id: &str, user: UserId) {
        let (room, participant) = (room(participants), participant(id, user));
        roster.left(&OnLeave {
            room,
            participant,
            reason: "left".into(),
            at: 0,
        });
    }

    #[test]
    fn a_user_is_present_until_the_last_of_their_connections_has_gone() {
        let mut roster = Roster::new();
        join(&mut roster, 1, "a", 7);
        join(&mut roster, 2, "b", 7);
        leave(&mut roster, 1, "a", 7);
        assert_eq!(roster.find(&room(1), 7), Presence::Present(&User::new(7)));
        leave(&mut roster, 0, "b", 7);
        assert_eq!(roster.find(&room(0), 7), Presence::Absent);
    }

    #[test]
    fn a_roster_that_has_missed_somebody_calls_nobody_absent() {
        let mut roster = Roster::new();
        join(&mut roster, 3, "c", 9);
        assert_eq!(roster.find(&room(3), 7), Presence::Unknown);
        assert_eq!(roster.find(&room(1), 7), Presence::Absent);
    }

    #[test]
    fn an_empty_room_takes_no_memory() {
        let mut roster = Roster::new();
        join(&mut roster, 1, "a", 7);
        leave(&mut roster, 0, "a", 7);
        assert!(roster.rooms.is_empty());
    }
}

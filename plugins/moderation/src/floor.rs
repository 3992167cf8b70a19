//! Who holds the floor alone, and for how long, in key-value.

use serde::{Deserialize, Serialize};
use voice_room_plugin_sdk::{UnixMs, UserId, kv};

/// In milliseconds.
pub(crate) struct Limits {
    /// How long one may hold the floor alone.
    pub(crate) solo: u64,
    /// From the warning to the mute.
    pub(crate) warning: u64,
    /// Silence that does not give up the floor.
    pub(crate) pause: u64,
}

/// One user alone on the floor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Floor {
    user: UserId,
    since: UnixMs,
    last_heard: UnixMs,
    warned_at: Option<UnixMs>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    Fine,
    /// Time to warn; when the mute is due.
    Warn {
        until: UnixMs,
    },
    Mute,
}

impl Floor {
    pub(crate) fn load(room_id: &str) -> Result<Option<Self>, kv::Error> {
        kv::get(&key(room_id))
    }

    pub(crate) fn save(&self, room_id: &str) -> Result<(), kv::Error> {
        kv::set(&key(room_id), self)
    }

    /// Nobody holds the floor alone any more.
    pub(crate) fn forget(room_id: &str) -> Result<(), kv::Error> {
        match Self::load(room_id)? {
            Some(_) => kv::delete(&key(room_id)),
            None => Ok(()),
        }
    }

    /// Somebody begins to speak, alone.
    pub(crate) fn taken(user: UserId, at: UnixMs) -> Self {
        Self {
            user,
            since: at,
            last_heard: at,
            warned_at: None,
        }
    }

    /// Somebody is heard, alone: perhaps another user, perhaps after a pause.
    pub(crate) fn heard(&mut self, user: UserId, at: UnixMs, limits: &Limits) -> Judgement {
        if user != self.user || at.saturating_sub(self.last_heard) > limits.pause {
            *self = Self::taken(user, at);
            return Judgement::Fine;
        }
        self.last_heard = at;
        match self.warned_at {
            Some(warned_at) if at.saturating_sub(warned_at) >= limits.warning => Judgement::Mute,
            None if at.saturating_sub(self.since) > limits.solo => {
                self.warned_at = Some(at);
                Judgement::Warn {
                    until: at.saturating_add(limits.warning),
                }
            }
            _ => Judgement::Fine,
        }
    }
}

fn key(room_id: &str) -> String {
    format!("floor/{room_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        solo: 5_000,
        warning: 2_000,
        pause: 1_500,
    };

    /// Judgements of a user who is heard once a second from 0 to `seconds`.
    fn monologue(floor: &mut Floor, seconds: u64) -> Vec<(u64, Judgement)> {
        (0..=seconds)
            .map(|second| (second, floor.heard(7, second * 1_000, &LIMITS)))
            .filter(|(_, judgement)| *judgement != Judgement::Fine)
            .collect()
    }

    #[test]
    fn a_monologue_is_warned_of_once_and_then_muted() {
        let mut floor = Floor::taken(7, 0);
        let expected = [(6, Judgement::Warn { until: 8_000 }), (8, Judgement::Mute)];
        assert_eq!(monologue(&mut floor, 8), expected);
    }

    #[test]
    fn another_speaker_starts_anew() {
        let mut floor = Floor::taken(7, 0);
        monologue(&mut floor, 5);
        assert_eq!(floor.heard(8, 5_500, &LIMITS), Judgement::Fine);
        assert_eq!(floor.heard(7, 6_000, &LIMITS), Judgement::Fine);
        assert_eq!(floor, Floor::taken(7, 6_000));
    }

    #[test]
    fn a_short_pause_keeps_the_floor_and_a_long_one_gives_it_up() {
        let mut floor = Floor::taken(7, 0);
        monologue(&mut floor, 5);
        assert_eq!(
            floor.heard(7, 6_500, &LIMITS),
            Judgement::Warn { until: 8_500 }
        );
        assert_eq!(floor.heard(7, 8_001, &LIMITS), Judgement::Fine);
        assert_eq!(floor, Floor::taken(7, 8_001));
    }

    #[test]
    fn a_clock_that_goes_back_harms_nobody() {
        let mut floor = Floor::taken(7, 10_000);
        assert_eq!(floor.heard(7, 0, &LIMITS), Judgement::Fine);
    }
}

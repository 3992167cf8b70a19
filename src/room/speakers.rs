//! Who is speaking: turns level reports into changes worth telling. Pure.

use std::collections::HashMap;

use crate::model::{ProducerId, UnixMs, UserId};

/// One level report about one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The producer.
    pub producer: ProducerId,
    /// Who sends.
    pub user: UserId,
    /// Average level in dBov.
    pub volume: i8,
}

/// What came of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nobody need be told.
    None,
    /// Somebody has spoken for another [`Speakers::REPEAT_MS`]: rules that
    /// measure time want to know, clients need not.
    Repeat,
    /// The dominant speaker or the set is another.
    Changed,
}

/// The speakers of one room.
#[derive(Debug)]
pub(crate) struct Speakers {
    /// A speaker stays one through pauses up to this long.
    hold_ms: u64,
    heard: HashMap<ProducerId, (Heard, UnixMs)>,
    order: Vec<Heard>,
    told_at: UnixMs,
}

impl Speakers {
    /// While anybody speaks, [`Change::Repeat`] comes at least this often.
    pub(crate) const REPEAT_MS: u64 = 1_000;
    /// Another speaker takes the lead only when louder by this many dB, so that
    /// two equal voices do not make it flicker.
    const LEAD_DB: i8 = 3;

    /// Speakers stay listed through pauses of up to `hold_ms` milliseconds.
    #[must_use]
    pub(crate) fn new(hold_ms: u64) -> Self {
        Self {
            hold_ms,
            heard: HashMap::new(),
            order: Vec::new(),
            told_at: UnixMs(0),
        }
    }

    /// The speakers now: the dominant one first, then loudest first.
    #[must_use]
    pub(crate) fn current(&self) -> &[Heard] {
        &self.order
    }

    /// The users who speak now, each once, in the same order.
    #[must_use]
    pub(crate) fn users(&self) -> Vec<(UserId, i8)> {
        let mut users: Vec<(UserId, i8)> = Vec::with_capacity(self.order.len());
        for one in &self.order {
            if users.iter().all(|(user, _)| *user != one.user) {
                users.push((one.user, one.volume));
            }
        }
        users
    }

    /// Takes a report (empty: silence) and tells what it changes.
    pub(crate) fn report(&mut self, levels: &[Heard], at: UnixMs) -> Change {
        for one in levels {
            self.heard.insert(one.producer, (*one, at));
        }
        self.settle(at)
    }

    /// Forgets a producer that has ended or fallen mute.
    pub(crate) fn forget(&mut self, producer: ProducerId, at: UnixMs) -> Change {
        if self.heard.remove(&producer).is_none() {
            return Change::None;
        }
        self.settle(at)
    }

    /// When [`Speakers::report`] should be called even if no report comes.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<UnixMs> {
        let oldest = self.heard.values().map(|(_, at)| at.0).min()?;
        Some(UnixMs(
            (oldest + self.hold_ms).min(self.told_at.0 + Self::REPEAT_MS),
        ))
    }

    fn settle(&mut self, at: UnixMs) -> Change {
        let hold = self.hold_ms;
        self.heard
            .retain(|_, (_, last)| at.0.saturating_sub(last.0) < hold);
        let mut order: Vec<Heard> = self.heard.values().map(|(one, _)| *one).collect();
        let leader = self.order.first().map(|one| one.producer);
        // Ids break ties, so that equal levels keep their order.
        order.sort_by_key(|one| {
            let lead = if leader == Some(one.producer) {
                Self::LEAD_DB
            } else {
                0
            };
            (
                std::cmp::Reverse(one.volume.saturating_add(lead)),
                one.producer,
            )
        });
        let before: Vec<UserId> = self.users().into_iter().map(|(user, _)| user).collect();
        self.order = order;
        let after: Vec<UserId> = self.users().into_iter().map(|(user, _)| user).collect();
        let same_set =
            before.len() == after.len() && before.iter().all(|user| after.contains(user));
        if !same_set || before.first() != after.first() {
            self.told_at = at;
            Change::Changed
        } else if !after.is_empty() && at.0.saturating_sub(self.told_at.0) >= Self::REPEAT_MS {
            self.told_at = at;
            Change::Repeat
        } else {
            Change::None
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn heard(id: u128, volume: i8) -> Heard {
        Heard {
            producer: ProducerId(Uuid::from_u128(id)),
            user: UserId(u64::try_from(id).unwrap()),
            volume,
        }
    }

    fn users(speakers: &Speakers) -> Vec<u64> {
        speakers
            .users()
            .into_iter()
            .map(|(user, _)| user.0)
            .collect()
    }

    #[test]
    fn the_loudest_comes_first() {
        let mut speakers = Speakers::new(600);
        let change = speakers.report(&[heard(1, -40), heard(2, -20)], UnixMs(0));
        assert_eq!(change, Change::Changed);
        assert_eq!(users(&speakers), [2, 1]);
    }

    #[test]
    fn a_pause_shorter_than_the_hold_is_not_told() {
        let mut speakers = Speakers::new(600);
        speakers.report(&[heard(1, -20)], UnixMs(0));
        assert_eq!(speakers.report(&[], UnixMs(300)), Change::None);
        assert_eq!(users(&speakers), [1]);
        assert_eq!(speakers.deadline(), Some(UnixMs(600)));
        assert_eq!(speakers.report(&[], UnixMs(600)), Change::Changed);
        assert!(speakers.current().is_empty());
        assert_eq!(speakers.deadline(), None);
    }

    #[test]
    fn levels_that_wobble_do_not_change_the_lead() {
        let mut speakers = Speakers::new(600);
        speakers.report(&[heard(1, -20), heard(2, -21)], UnixMs(0));
        assert_eq!(
            speakers.report(&[heard(1, -21), heard(2, -20)], UnixMs(250)),
            Change::None
        );
        assert_eq!(
            speakers.report(&[heard(1, -30), heard(2, -20)], UnixMs(500)),
            Change::Changed
        );
        assert_eq!(users(&speakers), [2, 1]);
    }

    #[test]
    fn one_who_speaks_on_is_repeated_every_second() {
        let mut speakers = Speakers::new(600);
        let told: Vec<u64> = (0..14)
            .map(|step| step * 250)
            .filter(|at| speakers.report(&[heard(1, -20)], UnixMs(*at)) != Change::None)
            .collect();
        assert_eq!(told, [0, 1000, 2000, 3000]);
    }

    #[test]
    fn a_producer_that_ends_is_forgotten_at_once() {
        let mut speakers = Speakers::new(600);
        speakers.report(&[heard(1, -20)], UnixMs(0));
        assert_eq!(
            speakers.forget(heard(1, 0).producer, UnixMs(10)),
            Change::Changed
        );
        assert_eq!(
            speakers.forget(heard(1, 0).producer, UnixMs(20)),
            Change::None
        );
    }

    #[test]
    fn two_streams_of_one_user_are_one_speaker() {
        let mut speakers = Speakers::new(600);
        let music = Heard {
            user: UserId(1),
            ..heard(2, -10)
        };
        speakers.report(&[heard(1, -20), music], UnixMs(0));
        assert_eq!(speakers.users(), [(UserId(1), -10)]);
    }
}

//! Which producers are heard. A large room forwards the few who speak: a set of
//! at most so many producers, which one enters by speaking and leaves by a long
//! silence or to make room. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::model::{ProducerId, UnixMs, UserId};

/// What a plugin has decided of a user's place in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Always in the set, as far as its limit allows.
    In,
    /// Never in the set, however small the room; goes before every other pin.
    Out,
    /// As the user speaks.
    Auto,
}

/// A producer whose part has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The producer.
    pub producer: ProducerId,
    /// Whether it has entered or left the set, and not only whether its first
    /// words are waited for.
    pub moved: bool,
}

/// Whom plugins want in (`true`) or out, and which plugins.
type Pins = HashMap<UserId, BTreeMap<Arc<str>, bool>>;

/// The set of one room.
#[derive(Debug)]
pub(crate) struct ActiveSet {
    /// 0: no limit.
    limit: usize,
    hold_ms: u64,
    entries: HashMap<ProducerId, Entry>,
    pins: Pins,
    /// Counts producers, so that of equals the oldest comes first.
    added: u64,
    /// Whether the room has more producers than the limit.
    crowded: bool,
}

#[derive(Debug)]
struct Entry {
    user: UserId,
    nth: u64,
    muted: bool,
    /// When last heard; while the room is small too, so that those who speak stay
    /// heard when it grows.
    heard: Option<UnixMs>,
    member: bool,
    part: Part,
}

/// What was made known of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    active: bool,
    probed: bool,
}

impl ActiveSet {
    /// A member who was heard within this time keeps its place against all others:
    /// longer than the pause between two level reports.
    const SETTLED_MS: u64 = 600;
    /// How many users plugins may pin in one room, present or not.
    const MAX_PINS: usize = 10_000;

    /// A set of at most `limit` producers (0: no limit), each of which is let go
    /// after `hold_ms` milliseconds of silence.
    #[must_use]
    pub(crate) fn new(limit: usize, hold_ms: u64) -> Self {
        Self {
            limit,
            hold_ms,
            entries: HashMap::new(),
            pins: HashMap::new(),
            added: 0,
            crowded: false,
        }
    }

    /// Whether the producer is heard.
    #[must_use]
    pub(crate) fn is_active(&self, id: ProducerId) -> bool {
        self.entries.get(&id).is_some_and(|one| one.part.active)
    }

    /// Whether its first words are waited for.
    #[must_use]
    pub(crate) fn wants_probe(&self, id: ProducerId) -> bool {
        self.entries.get(&id).is_some_and(|one| one.part.probed)
    }

    /// When [`ActiveSet::settle`] should be called even if nothing happens.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<UnixMs> {
        if !self.crowded {
            return None;
        }
        let members = self.entries.values().filter(|one| one.member);
        let timed = members.filter(|one| self.pin_of(one.user) != Pin::In);
        let heard = timed.map(|one| one.heard.map_or(0, |at| at.0));
        heard.min().map(|at| UnixMs(at + self.hold_ms))
    }

    /// A new producer.
    pub(crate) fn add(
        &mut self,
        id: ProducerId,
        user: UserId,
        muted: bool,
        at: UnixMs,
    ) -> Vec<Turn> {
        self.added += 1;
        let entry = Entry {
            user,
            nth: self.added,
            muted,
            heard: None,
            member: false,
            part: Part {
                active: true,
                probed: false,
            },
        };
        self.entries.insert(id, entry);
        self.settle(at)
    }

    /// A producer has ended.
    pub(crate) fn remove(&mut self, id: ProducerId, at: UnixMs) -> Vec<Turn> {
        match self.entries.remove(&id) {
            Some(_) => self.settle(at),
            None => Vec::new(),
        }
    }

    /// A producer has fallen mute, or is so no more.
    pub(crate) fn mute(&mut self, id: ProducerId, muted: bool, at: UnixMs) -> Vec<Turn> {
        match self.entries.get_mut(&id) {
            Some(entry) if entry.muted != muted => {
                entry.muted = muted;
                self.settle(at)
            }
            _ => Vec::new(),
        }
    }

    /// Producers were heard, the loudest first.
    pub(crate) fn hear(
        &mut self,
        heard: impl IntoIterator<Item = ProducerId>,
        at: UnixMs,
    ) -> Vec<Turn> {
        let mut outside = Vec::new();
        for id in heard {
            if let Some(entry) = self.entries.get_mut(&id)
                && !entry.muted
            {
                entry.heard = Some(at);
                if !entry.member {
                    outside.push(id);
                }
            }
        }
        // Whoever is heard now is no place to be had.
        for id in outside {
            self.enter(id, at);
        }
        self.settle(at)
    }

    /// A plugin decides on a user's place, present or not. Beyond
    /// [`ActiveSet::MAX_PINS`] users, no further one is pinned.
    pub(crate) fn pin(
        &mut self,
        plugin: &Arc<str>,
        user: UserId,
        pin: Pin,
        at: UnixMs,
    ) -> Vec<Turn> {
        if pin == Pin::Auto {
            if let Some(pins) = self.pins.get_mut(&user) {
                pins.remove(plugin);
            }
            self.pins.retain(|_, pins| !pins.is_empty());
        } else if self.pins.len() < Self::MAX_PINS || self.pins.contains_key(&user) {
            let pins = self.pins.entry(user).or_default();
            pins.insert(Arc::clone(plugin), pin == Pin::In);
        }
        self.settle(at)
    }

    fn pin_of(&self, user: UserId) -> Pin {
        pin_of(&self.pins, user)
    }

    /// Lets a producer in, in place of whoever has been silent longest if need be.
    fn enter(&mut self, id: ProducerId, at: UnixMs) {
        if !self.crowded {
            return;
        }
        let entry = self.entries.get(&id);
        let Some(pin) = entry.map(|one| self.pin_of(one.user)) else {
            return;
        };
        if pin == Pin::Out {
            return;
        }
        let members = self.entries.values().filter(|one| one.member).count();
        if members >= self.limit {
            let Some(silent) = self.longest_silent(at, pin == Pin::In) else {
                return;
            };
            self.set_member(silent, false);
        }
        self.set_member(id, true);
    }

    /// The member to be displaced; one who speaks only if it must be.
    fn longest_silent(&self, at: UnixMs, must: bool) -> Option<ProducerId> {
        let members = self.entries.iter().filter(|(_, one)| one.member);
        members
            .filter(|(_, one)| self.pin_of(one.user) != Pin::In)
            .map(|(id, one)| (one.heard.map_or(0, |heard| heard.0), Reverse(one.nth), *id))
            .filter(|(heard, ..)| must || at.0.saturating_sub(*heard) >= Self::SETTLED_MS)
            .min()
            .map(|(.., id)| id)
    }

    fn set_member(&mut self, id: ProducerId, member: bool) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.member = member;
        }
    }

    /// Lets go of those who have been silent too long, and answers whose part is
    /// another now.
    pub(crate) fn settle(&mut self, at: UnixMs) -> Vec<Turn> {
        let mut inside = Vec::new();
        let mut candidates = Vec::new();
        for (id, entry) in &self.entries {
            match self.pin_of(entry.user) {
                Pin::Out => continue,
                Pin::In => inside.push((entry.nth, *id)),
                Pin::Auto => {}
            }
            candidates.push((Reverse(entry.heard.map(|at| at.0)), entry.nth, *id));
        }
        let was_crowded = self.crowded;
        self.crowded = self.limit > 0 && candidates.len() > self.limit;
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            if !self.may_stay(id, at) {
                self.set_member(id, false);
            }
        }
        if self.crowded {
            inside.sort_unstable();
            for (_, id) in inside {
                if !self.entries.get(&id).is_some_and(|one| one.member) {
                    self.enter(id, at);
                }
            }
            if !was_crowded {
                // Those who spoke last are heard on.
                candidates.sort_unstable();
                for (_, _, id) in candidates {
                    let members = self.entries.values().filter(|one| one.member).count();
                    if members < self.limit && self.was_heard(id, at) {
                        self.set_member(id, true);
                    }
                }
            }
        }
        self.turns()
    }

    fn was_heard(&self, id: ProducerId, at: UnixMs) -> bool {
        self.entries.get(&id).is_some_and(|one| {
            let heard = one.heard.map(|heard| at.0.saturating_sub(heard.0));
            !one.muted && heard.is_some_and(|ago| ago < self.hold_ms)
        })
    }

    fn may_stay(&self, id: ProducerId, at: UnixMs) -> bool {
        let user = self.entries.get(&id).map(|one| one.user);
        self.crowded
            && match user.map(|user| self.pin_of(user)) {
                Some(Pin::In) => true,
                Some(Pin::Auto) => self.was_heard(id, at),
                Some(Pin::Out) | None => false,
            }
    }

    fn turns(&mut self) -> Vec<Turn> {
        let crowded = self.crowded;
        let mut turns = Vec::new();
        for (id, entry) in &mut self.entries {
            let kept_out = pin_of(&self.pins, entry.user) == Pin::Out;
            let active = !kept_out && (!crowded || entry.member);
            let part = Part {
                active,
                probed: !active && !kept_out && !entry.muted,
            };
            if part != entry.part {
                let moved = part.active != entry.part.active;
                let producer = *id;
                turns.push((entry.nth, Turn { producer, moved }));
                entry.part = part;
            }
        }
        turns.sort_by_key(|(nth, _)| *nth);
        turns.into_iter().map(|(_, turn)| turn).collect()
    }
}

fn pin_of(pins: &Pins, user: UserId) -> Pin {
    match pins.get(&user) {
        None => Pin::Auto,
        Some(pins) if pins.values().all(|inside| *inside) => Pin::In,
        Some(_) => Pin::Out,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const HOLD: u64 = 10_000;

    fn id(n: u128) -> ProducerId {
        ProducerId(Uuid::from_u128(n))
    }

    fn at(ms: u64) -> UnixMs {
        UnixMs(1_000_000 + ms)
    }

    /// Producers 1 to `count` of users 1 to `count`.
    fn room(limit: usize, count: u64) -> ActiveSet {
        let mut set = ActiveSet::new(limit, HOLD);
        for n in 1..=count {
            set.add(id(n.into()), UserId(n), false, at(0));
        }
        set
    }

    fn active(set: &ActiveSet) -> Vec<u64> {
        let mut active: Vec<u64> = set
            .entries
            .values()
            .filter(|one| one.part.active)
            .map(|one| one.user.0)
            .collect();
        active.sort_unstable();
        active
    }

    fn moved(turns: &[Turn]) -> Vec<ProducerId> {
        let moved = turns.iter().filter(|turn| turn.moved);
        moved.map(|turn| turn.producer).collect()
    }

    fn plugin(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn with_no_more_producers_than_the_limit_all_are_active() {
        let set = room(3, 3);
        assert_eq!(active(&set), [1, 2, 3]);
        assert!((1..=3).all(|n| !set.wants_probe(id(n))));
        assert_eq!(set.deadline(), None);
    }

    #[test]
    fn without_a_limit_all_are_active() {
        assert_eq!(active(&room(0, 40)).len(), 40);
    }

    #[test]
    fn in_a_crowded_room_one_enters_by_speaking_and_whoever_is_outside_is_listened_for() {
        let mut set = room(3, 5);
        assert_eq!(active(&set), [0_u64; 0]);
        assert!((1..=5).all(|n| set.wants_probe(id(n))));
        let turns = set.hear([id(4)], at(10));
        assert_eq!(moved(&turns), [id(4)]);
        assert!(set.is_active(id(4)) && !set.wants_probe(id(4)));
        assert!(moved(&set.hear([id(4)], at(20))).is_empty(), "once");
    }

    #[test]
    fn those_who_spoke_last_are_heard_on_when_the_room_becomes_crowded() {
        let mut set = room(2, 2);
        set.hear([id(2)], at(10));
        let turns = set.add(id(3), UserId(3), false, at(20));
        assert_eq!(active(&set), [2]);
        assert_eq!(moved(&turns), [id(1), id(3)]);
        let turns = set.remove(id(3), at(30));
        assert_eq!(moved(&turns), [id(1)], "and all are active again");
    }

    #[test]
    fn whoever_has_been_silent_longest_makes_room_but_never_one_who_speaks() {
        let mut set = room(2, 4);
        set.hear([id(1)], at(0));
        set.hear([id(2)], at(400));
        set.hear([id(3)], at(500));
        assert_eq!(active(&set), [1, 2], "both speak still");
        set.hear([id(3)], at(700));
        assert_eq!(active(&set), [2, 3]);
        set.hear([id(2), id(3), id(4)], at(2_000));
        assert_eq!(active(&set), [2, 3], "heard in the same report");
    }

    #[test]
    fn silence_ends_a_place_at_the_deadline_and_not_before() {
        let mut set = room(2, 3);
        set.hear([id(1)], at(0));
        assert_eq!(set.deadline(), Some(at(HOLD)));
        assert!(set.settle(at(HOLD - 1)).is_empty());
        assert_eq!(moved(&set.settle(at(HOLD))), [id(1)]);
        assert!(set.wants_probe(id(1)));
        assert_eq!(set.deadline(), None);
    }

    #[test]
    fn the_muted_hold_no_place_and_are_not_listened_for() {
        let mut set = room(2, 3);
        set.hear([id(1)], at(0));
        assert_eq!(moved(&set.mute(id(1), true, at(10))), [id(1)]);
        assert!(!set.wants_probe(id(1)));
        assert!(
            moved(&set.hear([id(1)], at(20))).is_empty(),
            "a late report"
        );
        set.mute(id(1), false, at(30));
        assert!(set.wants_probe(id(1)));
    }

    #[test]
    fn one_who_is_pinned_in_stays_through_silence_and_displaces_others() {
        let mut set = room(2, 4);
        set.hear([id(1), id(2)], at(0));
        set.pin(&plugin("stage"), UserId(4), Pin::In, at(10));
        assert_eq!(active(&set).len(), 2);
        assert!(set.is_active(id(4)));
        set.settle(at(HOLD * 3));
        assert_eq!(active(&set), [4]);
        set.hear([id(1), id(2)], at(HOLD * 3));
        set.hear([id(3)], at(HOLD * 3 + 5_000));
        assert!(set.is_active(id(4)));
        set.pin(&plugin("stage"), UserId(4), Pin::Auto, at(HOLD * 3 + 5_000));
        assert!(!set.is_active(id(4)));
    }

    #[test]
    fn more_pins_than_places_are_served_in_order_of_arrival() {
        let mut set = room(2, 4);
        for n in [4, 2, 3] {
            set.pin(&plugin("stage"), UserId(n), Pin::In, at(0));
        }
        assert_eq!(active(&set).len(), 2);
        assert_eq!(active(&set), [2, 4], "who has a place keeps it");
    }

    #[test]
    fn one_who_is_kept_out_is_not_heard_in_a_small_room_either() {
        let mut set = room(3, 2);
        let turns = set.pin(&plugin("stage"), UserId(1), Pin::Out, at(0));
        assert_eq!(moved(&turns), [id(1)]);
        assert!(moved(&set.hear([id(1)], at(10))).is_empty());
        assert!(!set.wants_probe(id(1)));
        set.pin(&plugin("other"), UserId(1), Pin::In, at(20));
        assert!(!set.is_active(id(1)), "out goes before in");
        set.pin(&plugin("stage"), UserId(1), Pin::Auto, at(30));
        assert!(set.is_active(id(1)));
    }

    #[test]
    fn those_who_are_kept_out_do_not_make_a_room_crowded() {
        let mut set = room(2, 3);
        set.pin(&plugin("stage"), UserId(3), Pin::Out, at(0));
        assert_eq!(active(&set), [1, 2]);
    }

    #[test]
    fn a_pin_waits_for_its_user() {
        let mut set = room(1, 1);
        set.pin(&plugin("stage"), UserId(9), Pin::In, at(0));
        set.hear([id(1)], at(0));
        set.add(id(9), UserId(9), false, at(10));
        assert_eq!(active(&set), [9]);
    }

    proptest! {
        #[test]
        fn the_set_keeps_its_limit_and_tells_every_change(
            limit in 0_usize..4,
            steps in prop::collection::vec((0_u8..7, 1_u64..8, 0_u64..3_000), 1..200),
        ) {
            let mut set = ActiveSet::new(limit, HOLD);
            let mut told: HashMap<ProducerId, bool> = HashMap::new();
            let mut now = 0;
            for (what, n, passed) in steps {
                now += passed;
                let (producer, user, time) = (id(n.into()), UserId(n), at(now));
                let turns = match what {
                    0 if told.contains_key(&producer) => {
                        told.remove(&producer);
                        set.remove(producer, time)
                    }
                    0 | 1 if !told.contains_key(&producer) => {
                        told.insert(producer, true);
                        set.add(producer, user, false, time)
                    }
                    2 => set.mute(producer, n % 2 == 0, time),
                    3 => set.pin(&plugin("a"), user, Pin::In, time),
                    4 => set.pin(&plugin("b"), user, Pin::Out, time),
                    5 => {
                        set.pin(&plugin("a"), user, Pin::Auto, time)
                            .into_iter()
                            .chain(set.pin(&plugin("b"), user, Pin::Auto, time))
                            .collect()
                    }
                    _ => set.hear([producer], time),
                };
                for turn in turns.iter().filter(|turn| turn.moved) {
                    let active = told.get_mut(&turn.producer);
                    prop_assert!(active.is_some(), "a producer that has ended");
                    *active.unwrap() ^= true;
                }
                let active: Vec<ProducerId> = told.keys().copied().filter(|id| set.is_active(*id)).collect();
                for (id, was) in &told {
                    prop_assert_eq!(set.is_active(*id), *was, "a change was not told");
                }
                let free = told
                    .keys()
                    .filter(|id| set.pin_of(set.entries[*id].user) != Pin::Out)
                    .count();
                if limit == 0 || free <= limit {
                    prop_assert_eq!(active.len(), free, "all are active");
                } else {
                    prop_assert!(active.len() <= limit);
                }
                for id in &active {
                    prop_assert!(!set.wants_probe(*id));
                }
            }
        }
    }
}

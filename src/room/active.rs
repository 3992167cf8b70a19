//! Which producers are heard. A large room forwards the few who speak: a set of
//! at most so many producers, which one enters by speaking and leaves by a long
//! silence or to make room. Pure.

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    model::{ProducerId, UnixMs, UserId},
    plugin::Pin,
};

/// A producer whose part has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The producer.
    pub producer: ProducerId,
    /// Whether it has entered or left the set, and not only whether it is listened
    /// to.
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
    /// A member who was heard within this time keeps its place against all others.
    grace_ms: u64,
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
    /// How many users plugins may pin in one room, present or not.
    const MAX_PINS: usize = 10_000;

    /// A set of at most `limit` producers (0: no limit), each of which is let go
    /// after `hold_ms` milliseconds of silence, and makes room for others after
    /// `grace_ms`: longer than the pause between two level reports.
    #[must_use]
    pub(crate) fn new(limit: usize, hold_ms: u64, grace_ms: u64) -> Self {
        Self {
            limit,
            hold_ms: hold_ms.max(grace_ms),
            grace_ms,
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

    /// Whether its packets are listened to: for its first words, and for whether it
    /// still speaks.
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

    /// A producer that is listened to is loud; told ten times a second while it is.
    pub(crate) fn onset(&mut self, id: ProducerId, at: UnixMs) -> Vec<Turn> {
        let Some(entry) = self.entries.get_mut(&id).filter(|one| !one.muted) else {
            return Vec::new();
        };
        entry.heard = Some(at);
        if entry.member || !self.enter(id, at) {
            return Vec::new();
        }
        self.turns()
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

    /// Lets a producer in, in place of whoever has been silent longest if need be;
    /// whether there was a place.
    fn enter(&mut self, id: ProducerId, at: UnixMs) -> bool {
        if !self.crowded {
            return false;
        }
        let entry = self.entries.get(&id);
        let Some(pin) = entry.map(|one| self.pin_of(one.user)) else {
            return false;
        };
        if pin == Pin::Out {
            return false;
        }
        let members = self.entries.values().filter(|one| one.member).count();
        if members >= self.limit {
            let Some(silent) = self.longest_silent(at, pin == Pin::In) else {
                return false;
            };
            self.set_member(silent, false);
        }
        self.set_member(id, true);
        true
    }

    /// The member to be displaced; one who speaks only if it must be.
    fn longest_silent(&self, at: UnixMs, must: bool) -> Option<ProducerId> {
        let members = self.entries.iter().filter(|(_, one)| one.member);
        members
            .filter(|(_, one)| self.pin_of(one.user) != Pin::In)
            .map(|(id, one)| (one.heard.map_or(0, |heard| heard.0), Reverse(one.nth), *id))
            .filter(|(heard, ..)| must || at.0.saturating_sub(*heard) >= self.grace_ms)
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
                // Members too: levels are not reported of everyone who speaks, for
                // instance not of those who send few packets or claim no levels.
                probed: crowded && !kept_out && !entry.muted,
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

//! What a webhook has before it: which entries wait, for whom and until when. Pure: time is
//! an argument.
//!
//! The entries of one room go one after the other; rooms are independent of each other. So
//! an entry that is tried for hours holds up its room only, and what was delivered beyond it
//! is known as runs of numbers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use crate::store::{Position, Run};

/// Entries that may wait in memory, their texts not included.
const OPEN: usize = 20_000;

pub(super) struct Window {
    /// Up to here all was seen.
    seen: u64,
    /// What was delivered beyond the cursor before a restart, and is not seen yet.
    before: VecDeque<Run>,
    /// Seen and not delivered.
    open: BTreeSet<u64>,
    rooms: HashMap<Arc<str>, Room>,
    /// Rooms whose first entry can be tried.
    ready: VecDeque<Arc<str>>,
    /// Rooms that wait after a failure; the number only tells equal times apart.
    delayed: BTreeMap<(Instant, u64), Arc<str>>,
}

#[derive(Default)]
struct Room {
    waiting: VecDeque<u64>,
    /// Of the first one.
    failures: u32,
}

/// An entry that is to be tried now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) seq: u64,
    pub(super) room: Arc<str>,
}

impl Window {
    pub(super) fn new(position: Position) -> Self {
        Self {
            seen: position.cursor,
            before: position.ahead.into(),
            open: BTreeSet::new(),
            rooms: HashMap::new(),
            ready: VecDeque::new(),
            delayed: BTreeMap::new(),
        }
    }

    /// Up to where entries were seen.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// How many more entries it takes.
    pub(super) fn space(&self) -> usize {
        OPEN.saturating_sub(self.open.len())
    }

    /// Nothing up to there is waited for any more, as far as it is not seen yet.
    pub(super) fn pass_to(&mut self, seq: u64) {
        self.seen = self.seen.max(seq);
    }

    /// The next entry; `None` for the room if it is not wanted. Whether it will be due.
    pub(super) fn offer(&mut self, seq: u64, room: Option<&str>) -> bool {
        self.pass_to(seq);
        while self.before.front().is_some_and(|(_, last)| *last < seq) {
            self.before.pop_front();
        }
        let delivered = self.before.front().is_some_and(|(first, _)| *first <= seq);
        let Some(room) = room.filter(|_| !delivered) else {
            return false;
        };
        self.open.insert(seq);
        match self.rooms.get_mut(room) {
            Some(room) => room.waiting.push_back(seq),
            None => {
                let name: Arc<str> = room.into();
                let room = Room {
                    waiting: [seq].into(),
                    failures: 0,
                };
                self.rooms.insert(Arc::clone(&name), room);
                self.ready.push_back(name);
            }
        }
        true
    }

    /// An entry to try now. Its room has no other until it is told what came of it.
    pub(super) fn next(&mut self, now: Instant) -> Option<Due> {
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            let room = first.remove();
            self.ready.push_back(room);
        }
        while let Some(room) = self.ready.pop_front() {
            let waiting = self.rooms.get(&room).map(|room| &room.waiting);
            if let Some(&seq) = waiting.and_then(VecDeque::front) {
                return Some(Due { seq, room });
            }
        }
        None
    }

    /// When a room that waits after a failure can be tried again.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((time, _), _)| *time)
    }

    /// The entry was delivered or given up.
    pub(super) fn done(&mut self, due: &Due) {
        self.open.remove(&due.seq);
        if let Some(room) = self.rooms.get_mut(&due.room) {
            room.waiting.pop_front();
            room.failures = 0;
            if room.waiting.is_empty() {
                self.rooms.remove(&due.room);
            } else {
                self.ready.push_back(Arc::clone(&due.room));
            }
        }
    }

    /// How often the entry will have failed, if it has now failed once more.
    pub(super) fn failures(&self, due: &Due) -> u32 {
        let room = self.rooms.get(&due.room);
        room.map_or(0, |room| room.failures).saturating_add(1)
    }

    /// The entry has failed and is to be tried again then.
    pub(super) fn later(&mut self, due: Due, at: Instant) {
        let failures = self.failures(&due);
        if let Some(room) = self.rooms.get_mut(&due.room) {
            room.failures = failures;
            self.delayed.insert((at, due.seq), due.room);
        }
    }

    /// What to go on from after a restart.
    pub(super) fn position(&self) -> Position {
        let before = self.before.iter().copied();
        let before = before.filter(|(_, last)| *last > self.seen);
        let Some(first) = self.open.first() else {
            return Position {
                cursor: self.seen,
                ahead: before.collect(),
            };
        };
        let cursor = first - 1;
        let mut ahead = Vec::new();
        let mut from = cursor + 1;
        for &open in &self.open {
            if from < open {
                ahead.push((from, open - 1));
            }
            from = open + 1;
        }
        if from <= self.seen {
            ahead.push((from, self.seen));
        }
        ahead.extend(before);
        Position { cursor, ahead }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn due(window: &mut Window, now: Instant) -> Option<u64> {
        window.next(now).map(|due| due.seq)
    }

    #[test]
    fn a_rooms_entries_come_one_after_the_other_and_rooms_side_by_side() {
        let now = Instant::now();
        let mut window = Window::new(Position::default());
        for (seq, room) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
            assert!(window.offer(seq, Some(room)));
        }
        let first = window.next(now).unwrap();
        assert_eq!((first.seq, &*first.room), (1, "a"));
        assert_eq!(due(&mut window, now), Some(3));
        assert_eq!(due(&mut window, now), None, "2 waits for 1");
        window.done(&first);
        assert_eq!(due(&mut window, now), Some(2));
        assert_eq!(due(&mut window, now), None);
    }

    #[test]
    fn a_failed_entry_holds_up_its_room_and_no_other() {
        let now = Instant::now();
        let soon = now + Duration::from_secs(1);
        let mut window = Window::new(Position::default());
        for (seq, room) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
            window.offer(seq, Some(room));
        }
        let first = window.next(now).unwrap();
        assert_eq!(window.failures(&first), 1);
        window.later(first, soon);
        let second = window.next(now).unwrap();
        window.done(&second);
        let fourth = window.next(now).unwrap();
        window.done(&fourth);
        assert_eq!(due(&mut window, now), None);
        assert_eq!(window.next_time(), Some(soon));
        let position = window.position();
        let ahead = vec![(2, 2), (4, 4)];
        assert_eq!(position, Position { cursor: 0, ahead });
        let again = window.next(soon).unwrap();
        assert_eq!((again.seq, window.failures(&again)), (1, 2));
        window.done(&again);
        let third = window.next(soon).unwrap();
        assert_eq!((third.seq, window.failures(&third)), (3, 1));
        window.done(&third);
        assert_eq!(window.position().cursor, 4);
    }

    #[test]
    fn what_is_not_wanted_passes_and_what_was_delivered_before_a_restart_is_not_again() {
        let now = Instant::now();
        let mut window = Window::new(Position {
            cursor: 2,
            ahead: vec![(4, 5), (7, 7)],
        });
        assert_eq!(window.seen(), 2);
        for seq in 3..=8 {
            let wanted = (seq != 8).then_some("a");
            assert_eq!(window.offer(seq, wanted), [3, 6].contains(&seq), "{seq}");
            if seq == 3 {
                let ahead = vec![(4, 5), (7, 7)];
                assert_eq!(window.position(), Position { cursor: 2, ahead });
            }
        }
        let three = window.next(now).unwrap();
        window.done(&three);
        let ahead = vec![(7, 8)];
        assert_eq!(window.position(), Position { cursor: 5, ahead });
    }

    #[test]
    fn it_takes_no_more_than_its_memory_allows() {
        let mut window = Window::new(Position::default());
        for seq in 1..=OPEN as u64 {
            window.offer(seq, Some("a"));
        }
        assert_eq!(window.space(), 0);
        let due = window.next(Instant::now()).unwrap();
        window.done(&due);
        assert_eq!(window.space(), 1);
    }

    proptest! {
        /// Each step: some entries are offered, and one that is due is done, fails, or the
        /// process is started anew with the position of then.
        #[test]
        fn whatever_happens_each_entry_is_done_and_in_the_order_of_its_room(
            steps in prop::collection::vec((0_u8..4, 0_u8..3), 0..200),
        ) {
            let now = Instant::now();
            let rooms = ["a", "b", "c"];
            let room = |seq: u64| rooms[usize::try_from(seq * 7 % 5 % 3).unwrap()];
            let wanted = |seq: u64| (!seq.is_multiple_of(4)).then(|| room(seq));
            let mut window = Window::new(Position::default());
            let mut done: Vec<u64> = Vec::new();
            let mut head = 0;
            for (offered, what) in steps.into_iter().chain([(0, 0); 700]) {
                head += u64::from(offered);
                for seq in window.seen() + 1..=head {
                    window.offer(seq, wanted(seq));
                }
                match window.next(now) {
                    Some(due) if what == 0 => {
                        done.push(due.seq);
                        window.done(&due);
                    }
                    Some(due) if what == 1 => window.later(due, now),
                    _ if what == 2 => window = Window::new(window.position()),
                    Some(due) => window.later(due, now),
                    None => {}
                }
            }
            let all: BTreeSet<u64> = (1..=head).filter(|seq| wanted(*seq).is_some()).collect();
            prop_assert_eq!(done.iter().copied().collect::<BTreeSet<_>>(), all);
            prop_assert_eq!(done.len(), all_len(&done));
            for name in rooms {
                let own: Vec<_> = done.iter().filter(|seq| room(**seq) == name).collect();
                prop_assert!(own.is_sorted(), "{name}: {own:?}");
            }
            prop_assert_eq!(window.position(), Position { cursor: head, ahead: Vec::new() });
        }
    }

    fn all_len(done: &[u64]) -> usize {
        done.iter().collect::<BTreeSet<_>>().len()
    }
}

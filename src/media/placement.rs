//! On which of a room's routers a listener is put. Pure: a place is reserved in
//! one step, before anything is awaited, so that a storm of joins neither
//! overfills a router nor makes two where one will do.

use std::collections::{BTreeMap, HashMap};

use super::WorkerKey;

/// Names one router of a room for as long as the room lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RouterKey(u64);

impl RouterKey {
    /// The router on which producers live.
    pub(super) const SOURCE: Self = Self(0);
}

/// Names one reserved place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SeatKey(u64);

/// The routers of one room and who is placed where.
#[derive(Debug)]
pub(super) struct Placement {
    /// Consumers from which a router takes nobody else.
    limit: usize,
    next_router: u64,
    next_seat: u64,
    routers: BTreeMap<RouterKey, Spot>,
    seats: HashMap<SeatKey, Seat>,
}

#[derive(Debug)]
struct Spot {
    worker: WorkerKey,
    /// Consumers that are there or expected.
    load: usize,
    seats: usize,
}

#[derive(Debug)]
struct Seat {
    router: RouterKey,
    expected: usize,
    consumers: usize,
}

impl Seat {
    fn load(&self) -> usize {
        self.expected.max(self.consumers)
    }
}

impl Placement {
    /// A room whose producers live on this worker.
    pub(super) fn new(source: WorkerKey, limit: usize) -> Self {
        let spot = Spot {
            worker: source,
            load: 0,
            seats: 0,
        };
        Self {
            limit,
            next_router: RouterKey::SOURCE.0 + 1,
            next_seat: 0,
            routers: BTreeMap::from([(RouterKey::SOURCE, spot)]),
            seats: HashMap::new(),
        }
    }

    /// Reserves a place for a listener who is expected to receive so many
    /// streams: on the oldest router with room for them, else on a new one on
    /// the first of these workers that carries none of this room, else where
    /// there is least. A router that is named for the first time is the
    /// caller's to open.
    pub(super) fn sit(
        &mut self,
        expected: usize,
        workers: impl IntoIterator<Item = WorkerKey>,
    ) -> (SeatKey, RouterKey) {
        let expected = expected.max(1);
        let router = self
            .with_room_for(expected)
            .or_else(|| self.add_router(workers))
            .unwrap_or_else(|| self.emptiest());
        (self.sit_at(router, expected), router)
    }

    /// Reserves a place on this very router, however full it is.
    pub(super) fn sit_at(&mut self, router: RouterKey, expected: usize) -> SeatKey {
        let expected = expected.max(1);
        let key = SeatKey(self.next_seat);
        self.next_seat += 1;
        let seat = Seat {
            router,
            expected,
            consumers: 0,
        };
        if let Some(spot) = self.routers.get_mut(&router) {
            spot.load += seat.load();
            spot.seats += 1;
        }
        self.seats.insert(key, seat);
        key
    }

    fn with_room_for(&self, expected: usize) -> Option<RouterKey> {
        // One listener alone may be more than a router should have.
        let fits = |spot: &Spot| spot.load == 0 || spot.load + expected <= self.limit;
        let mut routers = self.routers.iter();
        routers.find(|(_, spot)| fits(spot)).map(|(key, _)| *key)
    }

    fn add_router(&mut self, workers: impl IntoIterator<Item = WorkerKey>) -> Option<RouterKey> {
        let mut workers = workers.into_iter();
        let worker = workers.find(|one| self.routers.values().all(|spot| spot.worker != *one))?;
        let key = RouterKey(self.next_router);
        self.next_router += 1;
        let spot = Spot {
            worker,
            load: 0,
            seats: 0,
        };
        self.routers.insert(key, spot);
        Some(key)
    }

    fn emptiest(&self) -> RouterKey {
        let least = self.routers.iter().min_by_key(|(_, spot)| spot.load);
        least.map_or(RouterKey::SOURCE, |(key, _)| *key)
    }

    /// Whether the place is still there: its router was not lost.
    pub(super) fn holds(&self, seat: SeatKey) -> bool {
        self.seats.contains_key(&seat)
    }

    /// The listener is about to receive another stream.
    pub(super) fn add_consumer(&mut self, seat: SeatKey) {
        self.change(seat, |seat| seat.consumers += 1);
    }

    /// The listener receives one stream less.
    pub(super) fn remove_consumer(&mut self, seat: SeatKey) {
        self.change(seat, |seat| {
            seat.consumers = seat.consumers.saturating_sub(1);
        });
    }

    fn change(&mut self, key: SeatKey, change: impl FnOnce(&mut Seat)) {
        let Some(seat) = self.seats.get_mut(&key) else {
            return;
        };
        let before = seat.load();
        change(seat);
        if let Some(spot) = self.routers.get_mut(&seat.router) {
            spot.load = spot.load - before + seat.load();
        }
    }

    /// Gives a place back. Answers the router that nobody needs any more.
    pub(super) fn leave(&mut self, key: SeatKey) -> Option<RouterKey> {
        let seat = self.seats.remove(&key)?;
        let spot = self.routers.get_mut(&seat.router)?;
        spot.load -= seat.load();
        spot.seats -= 1;
        if spot.seats > 0 || seat.router == RouterKey::SOURCE {
            return None;
        }
        self.routers.remove(&seat.router);
        Some(seat.router)
    }

    /// A distribution router is gone, with all places on it.
    pub(super) fn lose(&mut self, router: RouterKey) {
        if router != RouterKey::SOURCE && self.routers.remove(&router).is_some() {
            self.seats.retain(|_, seat| seat.router != router);
        }
    }

    /// The worker of a router that has not gone.
    pub(super) fn worker(&self, router: RouterKey) -> Option<WorkerKey> {
        self.routers.get(&router).map(|spot| spot.worker)
    }

    /// The distribution router that this worker carries.
    pub(super) fn branch_on(&self, worker: WorkerKey) -> Option<RouterKey> {
        let mut routers = self.routers.iter();
        let (key, _) =
            routers.find(|(key, spot)| **key != RouterKey::SOURCE && spot.worker == worker)?;
        Some(*key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn workers(count: u64) -> Vec<WorkerKey> {
        (0..count).map(WorkerKey).collect()
    }

    fn room(limit: usize) -> Placement {
        Placement::new(WorkerKey(0), limit)
    }

    fn loads(placement: &Placement) -> Vec<usize> {
        placement.routers.values().map(|spot| spot.load).collect()
    }

    #[test]
    fn a_small_room_stays_on_one_router() {
        let mut room = room(3);
        for _ in 0..3 {
            let (_, router) = room.sit(1, workers(4));
            assert_eq!(router, RouterKey::SOURCE);
        }
        assert_eq!(room.routers.len(), 1);
    }

    #[test]
    fn a_router_is_added_when_the_others_are_full_and_on_another_worker() {
        let mut room = room(2);
        let routers: Vec<RouterKey> = (0..5).map(|_| room.sit(1, workers(3)).1).collect();
        let worker = |nth: usize| room.worker(routers[nth]).unwrap();
        assert_eq!([0, 1, 2, 3, 4].map(worker), [0, 0, 1, 1, 2].map(WorkerKey));
    }

    #[test]
    fn where_every_worker_carries_a_full_router_the_emptiest_takes_more() {
        let mut room = room(2);
        for _ in 0..6 {
            room.sit(1, workers(2));
        }
        assert_eq!(loads(&room), [3, 3]);
    }

    #[test]
    fn what_a_listener_is_expected_to_receive_is_reserved_at_once() {
        let mut room = room(4);
        room.sit(3, workers(2));
        assert_ne!(room.sit(2, workers(2)).1, RouterKey::SOURCE);
        assert_eq!(loads(&room), [3, 2]);
    }

    #[test]
    fn consumers_beyond_the_expected_ones_count_too() {
        let mut room = room(2);
        let (seat, _) = room.sit(1, workers(2));
        room.add_consumer(seat);
        assert_eq!(loads(&room), [1], "the first was expected");
        room.add_consumer(seat);
        assert_ne!(room.sit(1, workers(2)).1, RouterKey::SOURCE);
        room.remove_consumer(seat);
        assert_eq!(room.sit(1, workers(2)).1, RouterKey::SOURCE);
    }

    #[test]
    fn who_must_sit_at_the_source_takes_room_from_the_others() {
        let mut room = room(2);
        let seat = room.sit_at(RouterKey::SOURCE, 2);
        let (_, elsewhere) = room.sit(1, workers(2));
        assert_ne!(elsewhere, RouterKey::SOURCE);
        room.sit_at(RouterKey::SOURCE, 1);
        assert_eq!(loads(&room), [3, 1]);
        assert_eq!(room.leave(seat), None);
        assert_eq!(room.sit(1, workers(2)).1, RouterKey::SOURCE);
    }

    #[test]
    fn a_router_that_is_empty_goes_and_the_source_stays() {
        let mut room = room(1);
        let (first, source) = room.sit(1, workers(2));
        let (second, branch) = room.sit(1, workers(2));
        assert_eq!(room.leave(second), Some(branch));
        assert_eq!(room.leave(second), None, "once");
        assert_eq!(room.leave(first), None);
        assert_eq!(room.worker(source), Some(WorkerKey(0)));
        assert_eq!(room.worker(branch), None);
    }

    #[test]
    fn a_lost_router_takes_its_places_with_it_and_its_worker_may_carry_another() {
        let mut room = room(1);
        room.sit(1, workers(2));
        let (seat, lost) = room.sit(1, workers(2));
        assert_eq!(room.branch_on(WorkerKey(1)), Some(lost));
        room.lose(lost);
        assert!(!room.holds(seat));
        assert_eq!(room.leave(seat), None);
        let (_, again) = room.sit(1, workers(2));
        assert_ne!(again, lost);
        assert_eq!(room.worker(again), Some(WorkerKey(1)));
    }

    #[test]
    fn the_source_is_never_lost_alone() {
        let mut room = room(1);
        let (seat, source) = room.sit(1, workers(1));
        room.lose(source);
        assert!(room.holds(seat));
        assert_eq!(room.branch_on(WorkerKey(0)), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_the_books_are_right(
            limit in 1_usize..6,
            count in 1_u64..5,
            steps in prop::collection::vec((0_u8..5, 0_usize..40, 1_usize..4), 1..200),
        ) {
            let mut room = room(limit);
            let mut seats: Vec<SeatKey> = Vec::new();
            for (what, which, expected) in steps {
                let seat = (!seats.is_empty()).then(|| seats[which % seats.len().max(1)]);
                match (what, seat) {
                    (0, _) | (_, None) => {
                        let before = loads(&room);
                        let routers = room.routers.len();
                        let (seat, router) = room.sit(expected, workers(count));
                        seats.push(seat);
                        let spot = &room.routers[&router];
                        prop_assert!(
                            spot.load <= limit || spot.seats == 1 || u64::try_from(routers).unwrap() == count,
                            "overfilled {before:?} while a worker was free"
                        );
                    }
                    (1, Some(seat)) => room.add_consumer(seat),
                    (2, Some(seat)) => room.remove_consumer(seat),
                    (3, Some(seat)) => {
                        room.leave(seat);
                        seats.retain(|one| *one != seat);
                    }
                    (_, Some(seat)) => {
                        let router = room.seats.get(&seat).map(|seat| seat.router);
                        if let Some(router) = router {
                            room.lose(router);
                        }
                    }
                }
                let mut used: Vec<u64> = room.routers.values().map(|spot| spot.worker.0).collect();
                used.sort_unstable();
                used.dedup();
                prop_assert_eq!(used.len(), room.routers.len(), "twins on one worker");
                for (key, spot) in &room.routers {
                    let on: Vec<&Seat> = room.seats.values().filter(|seat| seat.router == *key).collect();
                    prop_assert_eq!(spot.seats, on.len());
                    prop_assert_eq!(spot.load, on.iter().map(|seat| seat.load()).sum::<usize>());
                    prop_assert!(*key == RouterKey::SOURCE || spot.seats > 0, "an empty router stayed");
                }
            }
        }
    }
}

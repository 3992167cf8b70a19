//! Who is heard, one sentence each.

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
    let mut set = ActiveSet::new(limit, HOLD, 600);
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
    assert!(set.is_active(id(4)) && set.wants_probe(id(4)));
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
fn one_whose_packets_show_that_they_speak_keeps_the_place_without_level_reports() {
    let mut set = room(1, 2);
    set.onset(id(1), at(0));
    for tenth in 1..=120 {
        assert!(set.onset(id(1), at(tenth * 100)).is_empty());
    }
    assert!(set.onset(id(2), at(12_000)).is_empty(), "still speaks");
    assert!(set.settle(at(12_000)).is_empty());
    assert_eq!(moved(&set.onset(id(2), at(12_600))), [id(1), id(2)]);
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
        steps in prop::collection::vec((0_u8..8, 1_u64..8, 0_u64..3_000), 1..200),
    ) {
        let mut set = ActiveSet::new(limit, HOLD, 600);
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
                6 => set.onset(producer, time),
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
            if limit == 0 || free <= limit {
                prop_assert!(told.keys().all(|id| !set.wants_probe(*id)));
            }
        }
    }
}

//! How long locks are kept.

use super::*;

const DAY: u64 = 24 * 60 * 60;

fn locked(scene: &mut Scene) -> Value {
    scene.shown()["lockedSeats"].clone()
}

#[test]
fn locks_outlive_their_room_by_thirty_days_and_then_leave_nothing() {
    let mut scene = scene(json!({}));
    scene.done(manager, "seat:lock", json!({ "seatIndex": 1 }));
    for who in [&scene.manager, &scene.bob, &scene.alice] {
        scene.stage.leave(who, "left").unwrap();
    }
    pass(&mut scene, 29 * DAY);
    assert_eq!(locked(&mut scene), json!([1]), "the room was open again");
    pass(&mut scene, 29 * DAY);
    assert_eq!(keys(), ["locks/lobby"]);
    pass(&mut scene, DAY);
    assert!(keys().is_empty() && timers().is_empty(), "{:?}", keys());
}

#[test]
fn locks_hold_for_as_long_as_their_room_is_open() {
    let mut scene = scene(json!({}));
    scene.done(manager, "seat:lock", json!({ "seatIndex": 1 }));
    pass(&mut scene, 400 * DAY);
    assert_eq!(locked(&mut scene), json!([1]));
    scene.done(manager, "seat:unlock", json!({ "seatIndex": 1 }));
    assert!(keys().is_empty() && timers().is_empty(), "{:?}", keys());
}

#[test]
fn locks_of_a_room_that_a_crash_ended_leave_nothing_for_good() {
    let mut scene = scene(json!({}));
    scene.done(manager, "seat:lock", json!({ "seatIndex": 1 }));
    scene.stage.restart_server().unwrap();
    pass(&mut scene, 31 * DAY);
    assert!(keys().is_empty() && timers().is_empty(), "{:?}", keys());
}

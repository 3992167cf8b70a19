//! Coming back to the seat that one had.

use voice_room_plugin_sdk::testing::set_settings;

use super::*;

/// Alice, who is seated, loses her connection.
fn disconnect_from(scene: &mut Scene, seat: u32) {
    scene.done(alice, "seat:take", json!({ "seatIndex": seat }));
    let who = scene.alice.clone();
    let left = scene.stage.leave(&who, "disconnected").unwrap();
    assert_eq!(left.into_vec().unwrap(), [cleared(seat, ALICE)]);
    assert_eq!(scene.seats(), [], "others see it as cleared");
}

/// Alice is back; what the plugin does about it.
fn reconnect(scene: &mut Scene) -> Vec<Action> {
    scene.alice = scene.stage.join("lobby", User::new(ALICE)).unwrap();
    scene.alice.actions.clone().into_vec().unwrap()
}

#[test]
fn who_is_back_within_the_grace_period_sits_where_they_sat() {
    let mut scene = scene(json!({}));
    disconnect_from(&mut scene, 3);
    pass(&mut scene, 44);
    assert_eq!(reconnect(&mut scene), [updated(3, ALICE)]);
    assert_eq!(
        scene.alice.shown.as_ref().unwrap()["seats"][0]["userId"],
        ALICE
    );
    let who = scene.alice.clone();
    assert!(scene.stage.produce(&who, Source::Mic).is_ok());
    pass(&mut scene, 1_000);
    assert_eq!(scene.seats(), [(3, ALICE)]);
}

#[test]
fn the_seat_is_free_for_good_when_the_grace_period_has_passed() {
    let mut scene = scene(json!({}));
    disconnect_from(&mut scene, 3);
    assert_eq!(pass(&mut scene, 45), []);
    assert_eq!(reconnect(&mut scene), []);
    assert_eq!(scene.seats(), []);
}

#[test]
fn a_seat_that_was_taken_or_locked_in_the_meantime_is_not_given_back() {
    for (command, by) in [
        ("seat:take", bob as fn(&Scene) -> &Joined),
        ("seat:lock", manager),
    ] {
        let mut scene = scene(json!({}));
        disconnect_from(&mut scene, 3);
        scene.done(by, command, json!({ "seatIndex": 3 }));
        assert_eq!(reconnect(&mut scene), [], "{command}");
    }
}

#[test]
fn a_seat_that_is_no_more_is_not_given_back() {
    let mut scene = scene(json!({}));
    disconnect_from(&mut scene, 3);
    set_settings(&json!({ "seat_count": 3 }));
    scene.stage.replace_instance().unwrap();
    assert_eq!(reconnect(&mut scene), []);
    assert_eq!(scene.seats(), []);
}

#[test]
fn a_connection_that_the_server_ends_for_being_slow_counts_as_lost() {
    let mut scene = scene(json!({}));
    scene.done(alice, "seat:take", json!({ "seatIndex": 3 }));
    let who = scene.alice.clone();
    scene.stage.leave(&who, "too_slow").unwrap();
    assert_eq!(reconnect(&mut scene), [updated(3, ALICE)]);
}

#[test]
fn only_who_is_disconnected_has_a_right_to_come_back() {
    for (settings, reason) in [
        (json!({}), "left"),
        (json!({ "grace_seconds": 0 }), "disconnected"),
    ] {
        let mut scene = scene(settings);
        scene.done(alice, "seat:take", json!({ "seatIndex": 3 }));
        let who = scene.alice.clone();
        scene.stage.leave(&who, reason).unwrap();
        assert_eq!(reconnect(&mut scene), []);
    }
}

#[test]
fn the_right_to_a_seat_outlives_the_room_and_then_leaves_nothing() {
    let mut scene = scene(json!({}));
    disconnect_from(&mut scene, 3);
    for who in [scene.manager.clone(), scene.bob.clone()] {
        scene.stage.leave(&who, "left").unwrap();
    }
    scene.stage.restart_server().unwrap();
    pass(&mut scene, 20);
    assert_eq!(reconnect(&mut scene), [updated(3, ALICE)]);

    let who = scene.alice.clone();
    scene.stage.leave(&who, "disconnected").unwrap();
    assert_eq!(keys(), ["people/lobby"]);
    pass(&mut scene, 45);
    assert!(
        keys().is_empty() && timers().is_empty(),
        "{:?} {:?}",
        keys(),
        timers()
    );
}

use serde_json::json;
use voice_room_plugin_sdk::{
    Action, Denial, Source,
    testing::{Joined, Stage, keys, timers},
};

use super::*;

mod grace;
mod invites;
mod locks;

const MANAGER: u64 = 1;
const ALICE: u64 = 7;
const BOB: u64 = 8;

/// A room with a manager, Alice and Bob, none of them seated.
struct Scene {
    stage: Stage<Seats>,
    manager: Joined,
    alice: Joined,
    bob: Joined,
}

/// Held to the manifest, and with a fresh instance beside the live one for every call.
fn stage(settings: Value) -> Stage<Seats> {
    let stage = Stage::new(settings).unwrap().twinned();
    stage.with_manifest(include_str!("../plugin.toml")).unwrap()
}

fn scene(settings: Value) -> Scene {
    let mut stage = stage(settings);
    let manager = stage
        .join("lobby", User::new(MANAGER).with_role("moderator"))
        .unwrap();
    let alice = stage.join("lobby", User::new(ALICE)).unwrap();
    let bob = stage.join("lobby", User::new(BOB)).unwrap();
    Scene {
        stage,
        manager,
        alice,
        bob,
    }
}

impl Scene {
    /// Sends a command that must succeed; the actions that it brings about.
    fn done(&mut self, who: fn(&Self) -> &Joined, command: &str, payload: Value) -> Vec<Action> {
        let who = who(self).clone();
        let reply = self.stage.command(&who, command, payload).unwrap();
        assert_eq!(reply.data, None);
        reply.actions.into_vec().unwrap()
    }

    /// Sends a command that must be refused; the sentence.
    fn refused(&mut self, who: fn(&Self) -> &Joined, command: &str, payload: Value) -> String {
        let who = who(self).clone();
        match self.stage.command(&who, command, payload) {
            Err(Denial::Refused(refusal)) => refusal.message,
            other => panic!("{command} is not refused: {other:?}"),
        }
    }

    /// What a newcomer is shown.
    fn shown(&mut self) -> Value {
        let newcomer = self.stage.join("lobby", User::new(99)).unwrap();
        self.stage.leave(&newcomer, "left").unwrap();
        newcomer.shown.unwrap()
    }

    fn seats(&mut self) -> Vec<(u64, u64)> {
        let shown = self.shown();
        let seats = shown["seats"].as_array().unwrap();
        let number = |value: &Value| value.as_u64().unwrap();
        seats
            .iter()
            .map(|seat| (number(&seat["seatIndex"]), number(&seat["userId"])))
            .collect()
    }
}

/// Lets seconds pass; what the plugin does in the meantime.
fn pass(scene: &mut Scene, seconds: u64) -> Vec<Action> {
    let fired = scene.stage.advance(seconds * 1_000).unwrap().into_iter();
    fired
        .flat_map(|it| it.actions.into_vec().unwrap())
        .collect()
}

fn manager(scene: &Scene) -> &Joined {
    &scene.manager
}

fn alice(scene: &Scene) -> &Joined {
    &scene.alice
}

fn bob(scene: &Scene) -> &Joined {
    &scene.bob
}

fn to_room(event: &str, payload: Value) -> Action {
    Action::EmitToRoom {
        event: event.into(),
        payload,
        except: None,
    }
}

fn updated(seat: u32, user: u64) -> Action {
    to_room(
        "seat:updated",
        json!({ "seatIndex": seat, "userId": user, "isMuted": false }),
    )
}

fn cleared(seat: u32, user: u64) -> Action {
    to_room("seat:cleared", json!({ "seatIndex": seat, "userId": user }))
}

fn removed(seat: u32, user: u64) -> Action {
    let payload = json!({ "seatIndex": seat, "userId": user, "reason": "removed" });
    to_room("seat:cleared", payload)
}

fn close(user: u64) -> Action {
    Action::Close(Target::User(user))
}

#[test]
fn a_user_without_a_seat_may_not_speak_and_one_with_a_seat_may() {
    let mut scene = scene(json!({}));
    let who = scene.alice.clone();
    let Err(Denial::Refused(refusal)) = scene.stage.produce(&who, Source::Mic) else {
        panic!("Alice speaks from nowhere");
    };
    assert_eq!(refusal.code, "SEAT_REQUIRED");
    assert_eq!(
        scene.done(alice, "seat:take", json!({ "seatIndex": 3 })),
        [updated(3, ALICE)]
    );
    assert!(scene.stage.produce(&who, Source::Mic).is_ok());
}

#[test]
fn everybody_may_speak_where_no_seat_is_required() {
    let mut scene = scene(json!({ "require_seat": false }));
    let who = scene.alice.clone();
    assert!(scene.stage.produce(&who, Source::Mic).is_ok());
    scene.done(alice, "seat:take", json!({ "seatIndex": 0 }));
    assert_eq!(
        scene.done(alice, "seat:leave", json!({})),
        [cleared(0, ALICE)]
    );
}

#[test]
fn a_user_holds_one_seat_at_most() {
    let mut scene = scene(json!({}));
    scene.done(alice, "seat:take", json!({ "seatIndex": 0 }));
    let moved = scene.done(alice, "seat:take", json!({ "seatIndex": 1 }));
    assert_eq!(
        moved,
        [cleared(0, ALICE), updated(1, ALICE)],
        "and the producers go on"
    );
    assert_eq!(
        scene.done(alice, "seat:take", json!({ "seatIndex": 1 })),
        []
    );
    assert_eq!(scene.seats(), [(1, ALICE)]);
}

#[test]
fn a_seat_is_refused_by_number_lock_and_occupant() {
    let mut scene = scene(json!({ "seat_count": 4 }));
    for index in [-1, 4, i64::MAX] {
        let refusal = scene.refused(alice, "seat:take", json!({ "seatIndex": index }));
        assert_eq!(refusal, "Invalid seat index");
    }
    scene.done(bob, "seat:take", json!({ "seatIndex": 0 }));
    let refusal = scene.refused(alice, "seat:take", json!({ "seatIndex": 0 }));
    assert_eq!(refusal, "Seat is already taken");
    scene.done(manager, "seat:lock", json!({ "seatIndex": 1 }));
    assert_eq!(
        scene.refused(alice, "seat:take", json!({ "seatIndex": 1 })),
        "Seat is locked"
    );
    let assign = json!({ "userId": ALICE, "seatIndex": 1 });
    assert_eq!(
        scene.refused(manager, "seat:assign", assign),
        "Seat is locked"
    );
}

#[test]
fn leaving_the_seat_closes_the_producers() {
    let mut scene = scene(json!({}));
    assert_eq!(
        scene.refused(alice, "seat:leave", json!({})),
        "You are not seated"
    );
    scene.done(alice, "seat:take", json!({ "seatIndex": 2 }));
    let left = scene.done(alice, "seat:leave", json!({}));
    assert_eq!(left, [close(ALICE), cleared(2, ALICE)]);
    assert_eq!(scene.seats(), []);
}

#[test]
fn a_manager_seats_and_unseats_others() {
    let mut scene = scene(json!({}));
    scene.done(bob, "seat:take", json!({ "seatIndex": 0 }));
    let assign = json!({ "userId": ALICE, "seatIndex": 0 });
    let assigned = scene.done(manager, "seat:assign", assign.clone());
    assert_eq!(assigned, [close(BOB), removed(0, BOB), updated(0, ALICE)]);
    assert_eq!(
        scene.done(manager, "seat:assign", assign),
        [],
        "Alice sits there already"
    );

    let removal = json!({ "userId": ALICE });
    let gone = scene.done(manager, "seat:remove", removal.clone());
    assert_eq!(gone, [close(ALICE), removed(0, ALICE)]);
    assert_eq!(
        scene.refused(manager, "seat:remove", removal),
        "User is not seated"
    );
}

#[test]
fn nobody_is_seated_who_is_not_there() {
    let mut scene = scene(json!({}));
    let ghost = json!({ "userId": 404, "seatIndex": 0 });
    assert_eq!(
        scene.refused(manager, "seat:assign", ghost),
        "User not in room"
    );
}

#[test]
fn a_user_from_before_the_instance_was_lost_can_still_be_seated() {
    let mut scene = scene(json!({}));
    scene.stage.replace_instance().unwrap();
    let assign = json!({ "userId": ALICE, "seatIndex": 0 });
    assert_eq!(
        scene.done(manager, "seat:assign", assign),
        [updated(0, ALICE)]
    );
}

#[test]
fn a_mute_survives_moving_leaving_the_seat_and_rejoining() {
    let mut scene = scene(json!({}));
    let target = json!({ "userId": ALICE });
    assert_eq!(
        scene.refused(manager, "seat:mute", target.clone()),
        "User is not seated"
    );
    scene.done(alice, "seat:take", json!({ "seatIndex": 0 }));
    let mute = Action::Mute(Target::User(ALICE));
    let told = to_room(
        "seat:userMuted",
        json!({ "userId": ALICE, "isMuted": true }),
    );
    assert_eq!(
        scene.done(manager, "seat:mute", target.clone()),
        [mute.clone(), told]
    );
    let again = scene.done(manager, "seat:mute", target.clone());
    assert_eq!(again, std::slice::from_ref(&mute));

    let still = json!({ "seatIndex": 1, "userId": ALICE, "isMuted": true });
    let moved = scene.done(alice, "seat:take", json!({ "seatIndex": 1 }));
    assert_eq!(
        moved,
        [cleared(0, ALICE), to_room("seat:updated", still.clone())]
    );
    let who = scene.alice.clone();
    scene.stage.leave(&who, "left").unwrap();
    scene.alice = scene.stage.join("lobby", User::new(ALICE)).unwrap();
    assert_eq!(scene.alice.actions.clone().into_vec().unwrap(), [mute]);
    let seated = scene.done(alice, "seat:take", json!({ "seatIndex": 1 }));
    assert_eq!(seated, [to_room("seat:updated", still)]);

    let unmute = Action::Unmute(Target::User(ALICE));
    let told = to_room(
        "seat:userMuted",
        json!({ "userId": ALICE, "isMuted": false }),
    );
    assert_eq!(scene.done(manager, "seat:unmute", target), [unmute, told]);
}

#[test]
fn locking_a_seat_removes_its_occupant() {
    let mut scene = scene(json!({}));
    scene.done(alice, "seat:take", json!({ "seatIndex": 5 }));
    let seat = json!({ "seatIndex": 5 });
    let locked = |is_locked: bool| {
        to_room(
            "seat:locked",
            json!({ "seatIndex": 5, "isLocked": is_locked }),
        )
    };
    let done = scene.done(manager, "seat:lock", seat.clone());
    assert_eq!(done, [close(ALICE), removed(5, ALICE), locked(true)]);
    assert_eq!(
        scene.refused(manager, "seat:lock", seat.clone()),
        "Seat is already locked"
    );
    assert_eq!(
        scene.done(manager, "seat:unlock", seat.clone()),
        [locked(false)]
    );
    assert_eq!(
        scene.refused(manager, "seat:unlock", seat),
        "Seat is not locked"
    );
}

#[test]
fn only_managers_manage_and_the_right_is_checked_before_the_seat() {
    let mut scene = scene(json!({}));
    for command in ["seat:assign", "seat:remove", "seat:mute", "seat:unmute"] {
        let payload = json!({ "userId": BOB, "seatIndex": -1 });
        assert_eq!(
            scene.refused(alice, command, payload),
            "Not authorized",
            "{command}"
        );
    }
    for command in ["seat:lock", "seat:unlock"] {
        let payload = json!({ "seatIndex": -1 });
        assert_eq!(
            scene.refused(alice, command, payload),
            "Not authorized",
            "{command}"
        );
    }
}

#[test]
fn the_payload_is_checked_before_the_right_and_the_field_is_named() {
    let mut scene = scene(json!({}));
    let who = scene.alice.clone();
    for (command, payload, field) in [
        ("seat:take", json!({}), "seatIndex"),
        ("seat:take", json!({ "seatIndex": "0" }), "seatIndex"),
        ("seat:take", json!({ "seatIndex": 0.5 }), "seatIndex"),
        ("seat:lock", json!({ "seatIndex": null }), "seatIndex"),
        ("seat:assign", json!({ "seatIndex": 0 }), "userId"),
        ("seat:assign", json!({ "userId": 7 }), "seatIndex"),
        ("seat:remove", json!({ "userId": -7 }), "userId"),
        ("seat:mute", json!({ "userId": "7" }), "userId"),
    ] {
        let Err(Denial::Refused(refusal)) = scene.stage.command(&who, command, payload) else {
            panic!("{command} is taken");
        };
        assert_eq!(
            (&*refusal.code, &*refusal.message),
            ("INVALID_PAYLOAD", "INVALID_PAYLOAD")
        );
        assert_eq!(refusal.details.unwrap()[0]["field"], field, "{command}");
    }
}

#[test]
fn codes_are_the_sentences_in_upper_snake_case() {
    let mut scene = scene(json!({}));
    let who = scene.alice.clone();
    let refused = scene
        .stage
        .command(&who, "seat:take", json!({ "seatIndex": 100 }));
    let Err(Denial::Refused(refusal)) = refused else {
        panic!("there is no seat 100")
    };
    assert_eq!(refusal.code, "INVALID_SEAT_INDEX");
}

#[test]
fn a_newcomer_is_shown_occupied_seats_in_order_and_locks() {
    let mut scene = scene(json!({ "seat_count": 10 }));
    scene.done(alice, "seat:take", json!({ "seatIndex": 9 }));
    scene.done(bob, "seat:take", json!({ "seatIndex": 2 }));
    scene.done(manager, "seat:mute", json!({ "userId": BOB }));
    scene.done(manager, "seat:lock", json!({ "seatIndex": 4 }));
    assert_eq!(
        scene.shown(),
        json!({
            "seatCount": 10,
            "seats": [
                { "seatIndex": 2, "userId": BOB, "isMuted": true },
                { "seatIndex": 9, "userId": ALICE, "isMuted": false },
            ],
            "lockedSeats": [4],
        })
    );
}

#[test]
fn the_seat_is_lost_with_the_last_connection() {
    let mut scene = scene(json!({}));
    let first = scene.alice.clone();
    let second = scene.stage.join("lobby", User::new(ALICE)).unwrap();
    scene.done(alice, "seat:take", json!({ "seatIndex": 0 }));
    assert!(
        scene
            .stage
            .leave(&first, "disconnected")
            .unwrap()
            .is_empty()
    );
    assert_eq!(scene.seats(), [(0, ALICE)]);
    let left = scene.stage.leave(&second, "disconnected").unwrap();
    assert_eq!(left.into_vec().unwrap(), [cleared(0, ALICE)]);
    assert_eq!(scene.seats(), []);
}

#[test]
fn the_first_in_an_empty_room_manages_it_until_they_leave() {
    let mut stage = stage(json!({ "first_is_owner": true }));
    let alice = stage.join("lobby", User::new(ALICE)).unwrap();
    let bob = stage.join("lobby", User::new(BOB)).unwrap();
    let lock = |seat: u32| json!({ "seatIndex": seat });
    assert!(stage.command(&alice, "seat:lock", lock(0)).is_ok());
    assert!(stage.command(&bob, "seat:lock", lock(1)).is_err());

    stage.leave(&alice, "left").unwrap();
    let alice = stage.join("lobby", User::new(ALICE)).unwrap();
    assert!(
        stage.command(&alice, "seat:lock", lock(1)).is_err(),
        "not the first any more"
    );
    assert!(
        stage.command(&bob, "seat:lock", lock(1)).is_err(),
        "and nobody inherits"
    );

    stage.leave(&alice, "left").unwrap();
    stage.leave(&bob, "left").unwrap();
    let bob = stage.join("lobby", User::new(BOB)).unwrap();
    assert!(stage.command(&bob, "seat:lock", lock(1)).is_ok());
}

#[test]
fn without_the_setting_the_first_in_a_room_manages_nothing() {
    let mut stage = stage(json!({}));
    let alice = stage.join("lobby", User::new(ALICE)).unwrap();
    assert!(
        stage
            .command(&alice, "seat:lock", json!({ "seatIndex": 0 }))
            .is_err()
    );
}

#[test]
fn a_lost_instance_forgets_no_seats() {
    let mut scene = scene(json!({}));
    scene.done(alice, "seat:take", json!({ "seatIndex": 0 }));
    scene.stage.replace_instance().unwrap();
    let who = scene.alice.clone();
    assert!(scene.stage.produce(&who, Source::Mic).is_ok());
    assert_eq!(scene.seats(), [(0, ALICE)]);
}

#[test]
fn a_restart_of_the_server_keeps_locks_and_clears_seats() {
    let mut scene = scene(json!({}));
    scene.done(alice, "seat:take", json!({ "seatIndex": 0 }));
    scene.done(manager, "seat:lock", json!({ "seatIndex": 1 }));
    scene.stage.restart_server().unwrap();
    let bob = scene.stage.join("lobby", User::new(BOB)).unwrap();
    let expected = json!({ "seatCount": 8, "seats": [], "lockedSeats": [1] });
    assert_eq!(bob.shown, Some(expected));
}

#[test]
fn an_empty_room_leaves_nothing_but_its_locks() {
    let mut scene = scene(json!({ "first_is_owner": true }));
    scene.done(alice, "seat:take", json!({ "seatIndex": 0 }));
    scene.done(manager, "seat:mute", json!({ "userId": ALICE }));
    scene.done(manager, "seat:lock", json!({ "seatIndex": 1 }));
    for who in [scene.manager, scene.bob, scene.alice] {
        scene.stage.leave(&who, "left").unwrap();
    }
    assert_eq!(keys(), ["locks/lobby"]);
    assert_eq!(timers(), []);
}

#[test]
fn a_wrong_setting_is_named() {
    let error = |settings| Stage::<Seats>::new(settings).unwrap_err().to_string();
    assert!(error(json!({ "seat_count": 0 })).contains("`seat_count`"));
    assert!(error(json!({ "seat_count": 101 })).contains("`seat_count`"));
    assert!(error(json!({ "require_seat": "yes" })).contains("`require_seat`"));
    assert!(error(json!({ "seats": 4 })).contains("`seats`"));
    assert!(error(json!({ "grace_seconds": 86_401 })).contains("`grace_seconds`"));
    assert!(error(json!({ "invite_seconds": 0 })).contains("`invite_seconds`"));
}

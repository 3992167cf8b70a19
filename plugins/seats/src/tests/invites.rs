//! Invites to a seat.

use super::*;

fn pending(seat: u32, user: u64, is_pending: bool) -> Action {
    let payload = json!({ "seatIndex": seat, "isPending": is_pending, "invitedUserId": user });
    to_room("seat:invite:pending", payload)
}

/// Alice is invited to seat 2.
fn invite(scene: &mut Scene) -> Vec<Action> {
    scene.done(
        manager,
        "seat:invite",
        json!({ "userId": ALICE, "seatIndex": 2 }),
    )
}

#[test]
fn an_invite_is_told_to_the_invited_and_to_the_room_and_ends_by_itself() {
    let mut scene = scene(json!({}));
    let received = Action::EmitToUser {
        user_id: ALICE,
        event: "seat:invite:received".into(),
        payload: json!({
            "seatIndex": 2, "invitedById": MANAGER, "expiresAt": scene.stage.now() + 30_000,
        }),
    };
    assert_eq!(invite(&mut scene), [received, pending(2, ALICE, true)]);
    assert_eq!(pass(&mut scene, 29), []);
    assert_eq!(pass(&mut scene, 1), [pending(2, ALICE, false)]);
    let seat = json!({ "seatIndex": 2 });
    assert_eq!(
        scene.refused(alice, "seat:invite:accept", seat),
        "No pending invite found"
    );
    assert_eq!(pass(&mut scene, 1_000), []);
}

#[test]
fn an_accepted_invite_unlocks_and_takes_the_seat() {
    let mut scene = scene(json!({}));
    scene.done(alice, "seat:take", json!({ "seatIndex": 7 }));
    scene.done(manager, "seat:lock", json!({ "seatIndex": 2 }));
    invite(&mut scene);
    let seat = json!({ "seatIndex": 2 });
    assert_eq!(
        scene.refused(bob, "seat:invite:accept", seat.clone()),
        "No pending invite found",
        "it is not Bob's"
    );
    let unlocked = to_room("seat:locked", json!({ "seatIndex": 2, "isLocked": false }));
    let accepted = scene.done(alice, "seat:invite:accept", seat);
    let expected = [
        unlocked,
        pending(2, ALICE, false),
        cleared(7, ALICE),
        updated(2, ALICE),
    ];
    assert_eq!(accepted, expected);
    assert_eq!(scene.seats(), [(2, ALICE)]);
    assert_eq!(timers(), [], "it needs no end any more");
}

#[test]
fn a_declined_invite_may_be_followed_by_another() {
    let mut scene = scene(json!({}));
    invite(&mut scene);
    let seat = json!({ "seatIndex": 2 });
    assert_eq!(
        scene.done(alice, "seat:invite:decline", seat.clone()),
        [pending(2, ALICE, false)]
    );
    assert_eq!(
        scene.refused(alice, "seat:invite:decline", seat),
        "No pending invite found"
    );
    let again = scene.done(
        manager,
        "seat:invite",
        json!({ "userId": BOB, "seatIndex": 2 }),
    );
    assert_eq!(again[1], pending(2, BOB, true));
}

#[test]
fn an_invite_is_refused_by_right_person_occupant_and_another_invite() {
    let mut scene = scene(json!({}));
    let to = |user: u64, seat: i64| json!({ "userId": user, "seatIndex": seat });
    scene.done(bob, "seat:take", json!({ "seatIndex": 0 }));
    invite(&mut scene);
    for (payload, sentence) in [
        (to(ALICE, 99), "Invalid seat index"),
        (to(MANAGER, 1), "Cannot invite yourself"),
        (to(404, 1), "User not in room"),
        (to(ALICE, 0), "Seat is already occupied"),
        (to(BOB, 2), "Invite already pending for this seat"),
    ] {
        assert_eq!(scene.refused(manager, "seat:invite", payload), sentence);
    }
    assert_eq!(
        scene.refused(alice, "seat:invite", to(BOB, 1)),
        "Not authorized"
    );
}

#[test]
fn an_invite_ends_when_the_seat_is_taken_or_the_invited_user_leaves() {
    let mut scene = scene(json!({}));
    invite(&mut scene);
    let taken = scene.done(bob, "seat:take", json!({ "seatIndex": 2 }));
    assert_eq!(taken, [pending(2, ALICE, false), updated(2, BOB)]);

    scene.done(bob, "seat:leave", json!({}));
    invite(&mut scene);
    let who = scene.alice.clone();
    let left = scene.stage.leave(&who, "left").unwrap();
    assert_eq!(left.into_vec().unwrap(), [pending(2, ALICE, false)]);
    assert_eq!(timers(), []);
}

//! The limit to monologues.

use super::*;

/// These users are heard once a second; what the plugin does in the last of them.
fn heard(scene: &mut Scene, users: &[u64], seconds: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    for _ in 0..seconds {
        scene.stage.advance(1_000).unwrap();
        actions = scene
            .stage
            .speakers("lobby", users)
            .unwrap()
            .into_vec()
            .unwrap();
    }
    actions
}

#[test]
fn who_holds_the_floor_too_long_is_warned_then_muted_until_somebody_else_speaks() {
    let mut scene = scene(json!({ "max_solo_seconds": 5, "warn_seconds": 2 }));
    assert_eq!(heard(&mut scene, &[ALICE], 6), []);
    let warned = heard(&mut scene, &[ALICE], 1);
    let until = scene.stage.now() + 2_000;
    let [
        Action::EmitToUser {
            user_id: ALICE,
            payload,
            ..
        },
    ] = &warned[..]
    else {
        panic!("no warning: {warned:?}");
    };
    assert_eq!(
        (&payload["action"], &payload["until"]),
        (&json!("warn"), &json!(until))
    );
    assert_eq!(heard(&mut scene, &[ALICE], 1), []);
    let muted = heard(&mut scene, &[ALICE], 1);
    assert_eq!(muted[0], Action::Mute(Target::User(ALICE)));
    assert!(matches!(&muted[1], Action::EmitToUser { payload, .. } if payload["action"] == "mute"));

    scene.stage.replace_instance().unwrap();
    assert_eq!(heard(&mut scene, &[], 1), []);
    let lifted = heard(&mut scene, &[BOB], 1);
    assert_eq!(lifted[0], Action::Unmute(Target::User(ALICE)));
    assert!(
        matches!(&lifted[1], Action::EmitToUser { payload, .. } if payload["action"] == "unmute")
    );
}

#[test]
fn a_mute_by_a_manager_is_not_lifted_by_another_speaker() {
    let mut scene = scene(json!({ "max_solo_seconds": 5 }));
    scene.moderated("moderation:mute", json!({ "userId": ALICE }));
    assert_eq!(heard(&mut scene, &[BOB], 1), []);
}

#[test]
fn a_manager_may_lift_the_mute_of_a_monologue() {
    let mut scene = scene(json!({ "max_solo_seconds": 1, "warn_seconds": 0 }));
    assert_eq!(
        heard(&mut scene, &[ALICE], 4)[0],
        Action::Mute(Target::User(ALICE))
    );
    let lifted = scene.moderated("moderation:unmute", json!({ "userId": ALICE }));
    assert_eq!(lifted[0], Action::Unmute(Target::User(ALICE)));
}

#[test]
fn a_conversation_is_no_monologue_and_without_the_setting_nothing_is() {
    let mut quick = scene(json!({ "max_solo_seconds": 5 }));
    for _ in 0..10 {
        assert_eq!(heard(&mut quick, &[ALICE], 4), []);
        assert_eq!(heard(&mut quick, &[ALICE, BOB], 1), []);
    }
    let mut unlimited = scene(json!({}));
    assert_eq!(heard(&mut unlimited, &[ALICE], 1_000), []);
}

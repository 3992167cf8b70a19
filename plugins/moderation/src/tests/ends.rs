//! Bans and mutes that end by themselves, and bans in many rooms.

use super::*;

/// Lets seconds pass; what the plugin does in the meantime.
fn pass(scene: &mut Scene, seconds: u64) -> Vec<Action> {
    let fired = scene.stage.advance(seconds * 1_000).unwrap().into_iter();
    fired
        .flat_map(|it| it.actions.into_vec().unwrap())
        .collect()
}

#[test]
fn a_ban_whose_time_is_up_is_lifted_with_a_notice_also_of_who_never_comes_back() {
    let mut scene = scene(json!({}));
    for user in 200..203 {
        scene.moderated("moderation:ban", json!({ "userId": user, "seconds": 60 }));
    }
    assert_eq!(pass(&mut scene, 59), []);
    scene.stage.restart_server().unwrap();
    let lifted = |user| {
        told(
            user,
            json!({ "action": "unban", "reason": "The ban has ended" }),
        )
    };
    assert_eq!(pass(&mut scene, 1), [200, 201, 202].map(lifted));
    assert!(
        keys().is_empty() && timers().is_empty(),
        "{:?} {:?}",
        keys(),
        timers()
    );
}

#[test]
fn a_ban_that_was_replaced_or_lifted_does_not_end_at_its_old_time() {
    let mut scene = scene(json!({}));
    let ban = |user: u64, seconds: u64| json!({ "userId": user, "seconds": seconds });
    scene.moderated("moderation:ban", ban(200, 10));
    scene.moderated("moderation:ban", ban(200, 30));
    scene.moderated("moderation:ban", ban(201, 10));
    scene.moderated("moderation:unban", json!({ "userId": 201 }));
    scene.moderated("moderation:ban", ban(202, 10));
    scene.moderated("moderation:ban", json!({ "userId": 202 }));
    assert_eq!(pass(&mut scene, 29), []);
    assert!(scene.stage.join("lobby", User::new(200)).is_err());
    assert_eq!(pass(&mut scene, 1).len(), 1);
    assert!(scene.stage.join("lobby", User::new(200)).is_ok());
    assert!(scene.stage.join("lobby", User::new(202)).is_err());
}

#[test]
fn a_ban_longer_than_any_timer_holds_to_its_end() {
    let mut scene = scene(json!({}));
    let year = 365 * 24 * 3_600;
    scene.moderated("moderation:ban", json!({ "userId": 200, "seconds": year }));
    assert_eq!(pass(&mut scene, year - 1), []);
    assert!(scene.stage.join("lobby", User::new(200)).is_err());
    assert_eq!(pass(&mut scene, 1).len(), 1);
    assert!(timers().is_empty());
    scene.moderated(
        "moderation:ban",
        json!({ "userId": 200, "seconds": u32::MAX }),
    );
}

#[test]
fn a_mute_whose_time_is_up_is_lifted_with_a_notice() {
    let mut scene = scene(json!({}));
    let until = scene.stage.now() + 5_000;
    let mute = json!({ "userId": ALICE, "seconds": 5, "reason": "noise" });
    let notice = json!({ "action": "mute", "reason": "noise", "until": until });
    let muted = scene.moderated("moderation:mute", mute.clone());
    assert_eq!(
        muted,
        [Action::Mute(Target::User(ALICE)), told(ALICE, notice)]
    );
    assert_eq!(pass(&mut scene, 4), []);
    let notice = json!({ "action": "unmute", "reason": "The mute has ended" });
    let lifted = [Action::Unmute(Target::User(ALICE)), told(ALICE, notice)];
    assert_eq!(pass(&mut scene, 1), lifted);

    let alice = json!({ "userId": ALICE });
    scene.moderated("moderation:mute", mute.clone());
    scene.moderated("moderation:mute", alice.clone());
    assert_eq!(pass(&mut scene, 5), [], "the second mute has no end");
    scene.moderated("moderation:unmute", alice);
    scene.moderated("moderation:mute", mute);
    for who in [&scene.owner, &scene.moderator, &scene.alice] {
        scene.stage.leave(who, "left").unwrap();
    }
    assert_eq!(pass(&mut scene, 5), [], "it has ended with the room");
    assert!(keys().is_empty());
}

#[test]
fn who_is_banned_in_enough_rooms_is_kept_out_of_every_room() {
    let mut scene = scene(json!({ "ban_everywhere_after": 2 }));
    let parlour = scene.stage.join("parlour", moderator_user()).unwrap();
    let ban = json!({ "userId": ALICE, "seconds": 60 });
    scene.moderated("moderation:ban", ban.clone());
    scene.moderated("moderation:ban", ban.clone());
    assert!(
        scene.stage.join("elsewhere", User::new(ALICE)).is_ok(),
        "it is one room"
    );
    scene.done(&parlour, "moderation:ban", ban);
    let refused = refusal(scene.stage.join("elsewhere", User::new(ALICE)));
    let details = json!({ "until": null, "reason": "Banned in too many rooms" });
    assert_eq!((&*refused.code, refused.details), ("BANNED", Some(details)));
    let manager = User::new(ALICE).with_role("moderator");
    assert!(scene.stage.join("elsewhere", manager).is_ok());

    pass(&mut scene, 60);
    assert!(scene.stage.join("elsewhere", User::new(ALICE)).is_ok());
    assert!(keys().is_empty(), "{:?}", keys());
}

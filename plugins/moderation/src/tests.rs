use serde_json::Value;
use voice_room_plugin_sdk::{
    Action, Denial, Refusal,
    testing::{Joined, Stage, counter, keys, timers},
};

use super::*;

mod ends;
mod monologues;

const ALICE: u64 = 7;
const BOB: u64 = 8;

/// A room with an owner, a moderator, and Alice.
struct Scene {
    stage: Stage<Moderation>,
    owner: Joined,
    moderator: Joined,
    alice: Joined,
}

fn owner_user() -> User {
    User::new(1).with_role("owner")
}

fn moderator_user() -> User {
    User::new(2).with_role("moderator")
}

/// Held to the manifest, and with a fresh instance beside the live one for every call.
fn stage(settings: Value) -> Stage<Moderation> {
    let stage = Stage::new(settings).unwrap().twinned();
    stage.with_manifest(include_str!("../plugin.toml")).unwrap()
}

fn scene(settings: Value) -> Scene {
    let mut stage = stage(settings);
    let owner = stage.join("lobby", owner_user()).unwrap();
    let moderator = stage.join("lobby", moderator_user()).unwrap();
    let alice = stage.join("lobby", User::new(ALICE)).unwrap();
    Scene {
        stage,
        owner,
        moderator,
        alice,
    }
}

impl Scene {
    fn done(&mut self, who: &Joined, command: &str, payload: Value) -> Vec<Action> {
        let reply = self.stage.command(who, command, payload).unwrap();
        assert_eq!(reply.data, None);
        reply.actions.into_vec().unwrap()
    }

    /// By the moderator.
    fn moderated(&mut self, command: &str, payload: Value) -> Vec<Action> {
        let moderator = self.moderator.clone();
        self.done(&moderator, command, payload)
    }

    fn refused(&mut self, who: &Joined, command: &str, payload: Value) -> String {
        refusal(self.stage.command(who, command, payload)).message
    }

    fn alice_leaves(&mut self) {
        let alice = self.alice.clone();
        self.stage.leave(&alice, "kicked").unwrap();
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Denial>) -> Refusal {
    match result {
        Err(Denial::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn told(user: u64, notice: Value) -> Action {
    Action::EmitToUser {
        user_id: user,
        event: "moderation:notice".into(),
        payload: notice,
    }
}

fn kick(user: u64, reason: &str) -> Action {
    Action::Kick {
        user_id: user,
        reason: reason.into(),
    }
}

#[test]
fn a_banned_user_is_told_kicked_and_not_let_in_until_the_ban_ends() {
    let mut scene = scene(json!({}));
    let until = scene.stage.now() + 60_000;
    let ban = json!({ "userId": ALICE, "seconds": 60, "reason": "spam" });
    let notice = json!({ "action": "ban", "reason": "spam", "until": until });
    assert_eq!(
        scene.moderated("moderation:ban", ban),
        [told(ALICE, notice), kick(ALICE, "spam")]
    );
    scene.alice_leaves();

    let refused = refusal(scene.stage.join("lobby", User::new(ALICE)));
    assert_eq!(refused.code, "BANNED");
    assert_eq!(
        refused.details,
        Some(json!({ "until": until, "reason": "spam" }))
    );
    assert_eq!(counter("banned_joins_refused"), 1);
    assert!(
        scene.stage.join("elsewhere", User::new(ALICE)).is_ok(),
        "bans are per room"
    );

    scene.stage.advance(59_999).unwrap();
    assert!(scene.stage.join("lobby", User::new(ALICE)).is_err());
    scene.stage.advance(1).unwrap();
    assert!(scene.stage.join("lobby", User::new(ALICE)).is_ok());
    assert!(keys().is_empty(), "the expired ban is gone: {:?}", keys());
}

#[test]
fn a_ban_without_end_holds_over_a_restart_until_it_is_lifted() {
    let mut scene = scene(json!({}));
    let alice = json!({ "userId": ALICE });
    let notice = json!({ "action": "ban", "reason": null });
    let banned = scene.moderated("moderation:ban", alice.clone());
    assert_eq!(banned, [told(ALICE, notice), kick(ALICE, "Banned")]);

    scene.stage.restart_server().unwrap();
    scene.stage.advance(1_000_000_000_000).unwrap();
    let refused = refusal(scene.stage.join("lobby", User::new(ALICE)));
    assert_eq!(
        refused.details,
        Some(json!({ "until": null, "reason": null }))
    );

    let moderator = scene.stage.join("lobby", moderator_user()).unwrap();
    let lifted = scene.done(&moderator, "moderation:unban", alice.clone());
    assert_eq!(
        lifted,
        [told(ALICE, json!({ "action": "unban", "reason": null }))]
    );
    assert!(scene.stage.join("lobby", User::new(ALICE)).is_ok());
    assert_eq!(
        scene.refused(&moderator, "moderation:unban", alice),
        "User is not banned"
    );
}

#[test]
fn with_server_scope_a_ban_holds_in_every_room() {
    let mut scene = scene(json!({ "scope": "server" }));
    scene.moderated("moderation:ban", json!({ "userId": ALICE }));
    assert!(scene.stage.join("elsewhere", User::new(ALICE)).is_err());
}

#[test]
fn who_is_not_there_can_be_banned_and_is_not_kicked() {
    let mut scene = scene(json!({}));
    assert_eq!(
        scene.moderated("moderation:ban", json!({ "userId": BOB })),
        []
    );
    assert!(scene.stage.join("lobby", User::new(BOB)).is_err());
}

#[test]
fn nobody_moderates_their_equals_their_betters_or_themselves() {
    let mut scene = scene(json!({}));
    scene
        .stage
        .join("lobby", User::new(3).with_role("moderator"))
        .unwrap();
    let moderator = scene.moderator.clone();
    for command in ["moderation:ban", "moderation:mute", "moderation:kick"] {
        for target in [1, 2, 3] {
            let refused = scene.refused(&moderator, command, json!({ "userId": target }));
            assert_eq!(refused, "User cannot be moderated", "{command} of {target}");
        }
    }
    let owner = scene.owner.clone();
    assert!(
        !scene
            .done(&owner, "moderation:kick", json!({ "userId": 2 }))
            .is_empty()
    );
}

#[test]
fn a_ban_of_an_absent_user_does_not_hold_against_a_higher_rank() {
    let mut scene = scene(json!({}));
    let moderator = scene.moderator.clone();
    let owner = scene.owner.clone();
    scene.stage.leave(&owner, "left").unwrap();
    scene.done(&moderator, "moderation:ban", json!({ "userId": 1 }));
    assert!(scene.stage.join("lobby", owner_user()).is_ok());
    assert!(
        scene.stage.join("lobby", User::new(1)).is_err(),
        "without the role it does"
    );
}

#[test]
fn a_lower_rank_does_not_lift_what_a_higher_one_has_imposed() {
    let mut scene = scene(json!({}));
    let (owner, moderator) = (scene.owner.clone(), scene.moderator.clone());
    let alice = json!({ "userId": ALICE });
    scene.done(&owner, "moderation:mute", alice.clone());
    scene.done(&owner, "moderation:ban", alice.clone());
    for command in [
        "moderation:unmute",
        "moderation:mute",
        "moderation:unban",
        "moderation:ban",
    ] {
        let refused = scene.refused(&moderator, command, alice.clone());
        assert_eq!(refused, "Not authorized", "{command}");
    }
    assert!(!scene.done(&owner, "moderation:unmute", alice).is_empty());
}

#[test]
fn only_managers_moderate_and_the_roles_can_be_configured() {
    let mut scene = scene(json!({ "manager_roles": ["host"] }));
    let (moderator, alice) = (scene.moderator.clone(), scene.alice.clone());
    for command in commands::NAMES {
        for who in [&moderator, &alice] {
            let refused = scene.refused(who, command, json!({ "userId": BOB }));
            assert_eq!(refused, "Not authorized", "{command}");
        }
    }
    let host = scene
        .stage
        .join("lobby", User::new(5).with_role("host"))
        .unwrap();
    assert!(
        !scene
            .done(&host, "moderation:kick", json!({ "userId": ALICE }))
            .is_empty()
    );
}

#[test]
fn a_mute_holds_on_rejoin_and_ends_with_the_room() {
    let mut scene = scene(json!({}));
    let alice = json!({ "userId": ALICE, "reason": "noise" });
    let mute = Action::Mute(Target::User(ALICE));
    let notice = told(ALICE, json!({ "action": "mute", "reason": "noise" }));
    assert_eq!(
        scene.moderated("moderation:mute", alice),
        [mute.clone(), notice]
    );

    scene.alice_leaves();
    scene.alice = scene.stage.join("lobby", User::new(ALICE)).unwrap();
    assert_eq!(scene.alice.actions.clone().into_vec().unwrap(), [mute]);
    let unmute = Action::Unmute(Target::User(ALICE));
    let notice = told(ALICE, json!({ "action": "unmute", "reason": null }));
    let alice = json!({ "userId": ALICE });
    assert_eq!(
        scene.moderated("moderation:unmute", alice.clone()),
        [unmute, notice]
    );
    let moderator = scene.moderator.clone();
    let refused = scene.refused(&moderator, "moderation:unmute", alice.clone());
    assert_eq!(refused, "User is not muted");

    scene.moderated("moderation:mute", alice);
    for who in [scene.owner, scene.moderator, scene.alice] {
        scene.stage.leave(&who, "left").unwrap();
    }
    assert!(keys().is_empty());
}

#[test]
fn mutes_that_a_dead_server_left_are_forgotten() {
    let mut scene = scene(json!({}));
    scene.moderated("moderation:mute", json!({ "userId": ALICE }));
    scene.stage.restart_server().unwrap();
    assert!(
        scene
            .stage
            .join("lobby", User::new(ALICE))
            .unwrap()
            .actions
            .is_empty()
    );
}

#[test]
fn a_kicked_user_is_told_first_and_may_come_back() {
    let mut scene = scene(json!({}));
    let kicked = scene.moderated("moderation:kick", json!({ "userId": ALICE }));
    let notice = told(ALICE, json!({ "action": "kick", "reason": null }));
    assert_eq!(kicked, [notice, kick(ALICE, "Kicked")]);
    scene.alice_leaves();
    let moderator = scene.moderator.clone();
    let refused = scene.refused(&moderator, "moderation:kick", json!({ "userId": ALICE }));
    assert_eq!(refused, "User not in room");
    assert!(scene.stage.join("lobby", User::new(ALICE)).is_ok());
}

#[test]
fn the_payload_is_checked_before_the_right_and_the_field_is_named() {
    let mut scene = scene(json!({}));
    let alice = scene.alice.clone();
    for (payload, field) in [
        (json!({}), "userId"),
        (json!({ "userId": "7" }), "userId"),
        (json!({ "userId": 7, "seconds": 0 }), "seconds"),
        (json!({ "userId": 7, "seconds": -1 }), "seconds"),
        (json!({ "userId": 7, "reason": 5 }), "reason"),
        (json!({ "userId": 7, "reason": "x".repeat(257) }), "reason"),
    ] {
        let refused = refusal(scene.stage.command(&alice, "moderation:ban", payload));
        assert_eq!(
            (&*refused.code, &*refused.message),
            ("INVALID_PAYLOAD", "INVALID_PAYLOAD")
        );
        assert_eq!(refused.details.unwrap()[0]["field"], field);
    }
}

#[test]
fn whoever_came_first_manages_the_room_where_the_setting_says_so() {
    for first_is_owner in [true, false] {
        let settings = json!({ "first_is_owner": first_is_owner });
        let mut stage = stage(settings);
        let first = stage.join("lobby", User::new(ALICE)).unwrap();
        let second = stage.join("lobby", User::new(BOB)).unwrap();
        let kick = |user: u64| json!({ "userId": user });
        let by_first = stage.command(&first, "moderation:kick", kick(BOB));
        assert_eq!(by_first.is_ok(), first_is_owner);
        let by_second = refusal(stage.command(&second, "moderation:kick", kick(ALICE)));
        assert_eq!(by_second.message, "Not authorized");

        stage.leave(&first, "left").unwrap();
        let again = stage.join("lobby", User::new(ALICE)).unwrap();
        let lapsed = refusal(stage.command(&again, "moderation:kick", kick(BOB)));
        assert_eq!(
            lapsed.message, "Not authorized",
            "ownership ends with leaving"
        );
        stage.leave(&again, "left").unwrap();
        stage.leave(&second, "left").unwrap();
        assert!(
            keys().is_empty(),
            "an empty room leaves nothing: {:?}",
            keys()
        );
    }
}

#[test]
fn an_owner_by_arrival_cannot_moderate_a_manager_by_token() {
    let mut stage = stage(json!({ "first_is_owner": true }));
    let first = stage.join("lobby", User::new(ALICE)).unwrap();
    stage.join("lobby", moderator_user()).unwrap();
    let refused = stage.command(&first, "moderation:kick", json!({ "userId": 2 }));
    assert_eq!(refusal(refused).message, "User cannot be moderated");
}

#[test]
fn a_wrong_setting_is_named() {
    let error = |settings| Stage::<Moderation>::new(settings).unwrap_err().to_string();
    assert!(error(json!({ "scope": "planet" })).contains("`scope`"));
    assert!(error(json!({ "max_solo_seconds": -1 })).contains("`max_solo_seconds`"));
    assert!(error(json!({ "warn": 1 })).contains("`warn`"));
}

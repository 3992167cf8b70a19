use voice_room_plugin_sdk::{
    Denial, Source,
    testing::{Joined, Stage},
};

use super::*;

fn stage() -> (Stage<Policy>, Joined, Joined) {
    let mut stage = Stage::<Policy>::new(json!({})).unwrap().twinned();
    let alice = stage
        .join("lobby", User::new(7).with_role("member"))
        .unwrap();
    let bob = stage.join("lobby", User::new(8)).unwrap();
    (stage, alice, bob)
}

fn is_refused(stage: &mut Stage<Policy>, who: &Joined) -> bool {
    match stage.produce(who, Source::Mic) {
        Ok(_) => false,
        Err(Denial::Refused(refusal)) => refusal.code == "MEMBERS_ONLY",
        Err(Denial::Failed(failure)) => panic!("{failure:?}"),
    }
}

#[test]
fn members_speak_and_guests_do_not() {
    let (mut stage, alice, bob) = stage();
    assert!(!is_refused(&mut stage, &alice));
    assert!(is_refused(&mut stage, &bob));
}

#[test]
fn a_guest_with_the_word_speaks_until_they_leave() {
    let (mut stage, alice, bob) = stage();
    let reply = stage
        .command(&alice, GIVE_WORD, json!({ "userId": 8 }))
        .unwrap();
    let told = Actions::new().emit_to_user(8, WORD_GIVEN, json!({ "by": 7 }));
    assert_eq!(reply.actions, told);
    assert!(!is_refused(&mut stage, &bob));

    stage.leave(&bob, "left").unwrap();
    let bob = stage.join("lobby", User::new(8)).unwrap();
    assert!(is_refused(&mut stage, &bob));
}

#[test]
fn a_mistake_in_the_settings_is_named() {
    let error = Stage::<Policy>::new(json!({ "word_minutes": 0 })).unwrap_err();
    assert!(error.to_string().contains("word_minutes"), "{error}");
}

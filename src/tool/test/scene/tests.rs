use serde_json::to_value;

use super::*;
use crate::{
    model::{Hook, PauseCause},
    plugin::Target,
};

fn scene() -> Scene {
    let text = "[users]\nalice = { id = 7, claims = { plan = 'pro' } }\nbob = { id = 8 }\n\
                [[step]]\nrestart = true\n";
    Scene::new(&Scenario::read(text).unwrap())
}

fn join(scene: &mut Scene, who: &str, known_as: &str) -> Vec<Input> {
    let (newcomer, ask) = scene.newcomer(who, None, Some(known_as)).unwrap();
    let mut calls = vec![ask];
    calls.extend(scene.enter(newcomer));
    calls
}

fn field(call: &Input, pointer: &str) -> Value {
    let json = to_value(call).unwrap();
    json.pointer(&format!("/input{pointer}")).cloned().unwrap()
}

fn hooks(calls: &[Input]) -> Vec<Hook> {
    calls.iter().map(Input::hook).collect()
}

#[test]
fn a_newcomer_is_counted_once_they_are_in() {
    let mut scene = scene();
    let first = join(&mut scene, "alice", "alice");
    let counts = |calls: &[Input]| -> Vec<_> {
        let count = |call| field(call, "/room/participants").as_u64().unwrap();
        calls.iter().map(count).collect()
    };
    assert_eq!(counts(&first), [0, 1, 1, 1]);
    assert_eq!(field(&first[0], "/participant/connections"), 1);
    assert_eq!(field(&first[0], "/participant/user/claims/plan"), "pro");

    let second = join(&mut scene, "alice", "phone");
    assert_eq!(counts(&second), [1, 2, 2]);
    for call in &second {
        assert_eq!(field(call, "/participant/connections"), 2);
    }

    let left = scene.leave("alice", "left").unwrap();
    assert_eq!(counts(&left), [1]);
    assert_eq!(field(&left[0], "/participant/connections"), 1);
    let left = scene.leave("phone", "left").unwrap();
    assert_eq!(hooks(&left), [Hook::OnLeave, Hook::OnRoomClosed]);
    assert_eq!(field(&left[0], "/participant/connections"), 0);
}

#[test]
fn a_producer_ends_once_with_what_is_known_of_it() {
    let mut scene = scene();
    join(&mut scene, "alice", "alice");
    scene.produce("alice", Source::Mic, false).unwrap();
    let first = scene.known("alice.mic").unwrap();
    scene.first_rtp("alice", Source::Mic).unwrap();
    assert!(scene.first_rtp("alice", Source::Mic).is_err());
    let begun = scene.now;
    scene.now = UnixMs(begun.0 + 500);

    let calls = scene.produce("alice", Source::Mic, false).unwrap();
    assert_eq!(hooks(&calls), [Hook::OnNewProducer, Hook::OnProducerClosed]);
    assert_eq!(field(&calls[1], "/producer/id"), first);
    assert_eq!(field(&calls[1], "/reason"), "replaced");
    assert_eq!(field(&calls[1], "/firstRtpAt"), json!(begun));
    assert_ne!(scene.known("alice.mic").unwrap(), first);

    let calls = scene.leave("alice", "too_slow").unwrap();
    assert_eq!(hooks(&calls)[0], Hook::OnProducerClosed);
    assert_eq!(field(&calls[0], "/reason"), "disconnected");
    assert_eq!(field(&calls[0], "/firstRtpAt"), Value::Null);
}

#[test]
fn closing_and_kicking_are_carried_out() {
    let mut scene = scene();
    join(&mut scene, "alice", "alice");
    join(&mut scene, "alice", "phone");
    join(&mut scene, "bob", "bob");
    for who in ["alice", "phone", "bob"] {
        scene.produce(who, Source::Mic, false).unwrap();
    }
    let lobby = RoomId::new("lobby").unwrap();
    let close = Action::Close(Target::User(UserId(7)));
    let calls = scene.carry_out(&lobby, &close);
    assert_eq!(hooks(&calls), [Hook::OnProducerClosed; 2]);
    assert_eq!(field(&calls[0], "/reason"), "plugin");
    assert_eq!(scene.carry_out(&lobby, &close), []);

    let kick = Action::Kick {
        user: UserId(8),
        reason: "Shouting".to_owned(),
    };
    let calls = scene.carry_out(&lobby, &kick);
    assert_eq!(hooks(&calls), [Hook::OnProducerClosed, Hook::OnLeave]);
    assert_eq!(field(&calls[0], "/reason"), "kicked");
    assert_eq!(field(&calls[1], "/reason"), "Shouting");
    assert!(scene.leave("bob", "left").is_err());
}

#[test]
fn a_command_names_its_room_and_its_target() {
    let mut scene = scene();
    join(&mut scene, "alice", "alice");
    join(&mut scene, "bob", "bob");
    let call = scene
        .command("alice", "a:b", json!({ "userId": 8 }))
        .unwrap();
    assert_eq!(field(&call, "/payload/roomId"), "lobby");
    assert_eq!(field(&call, "/target/user/id"), 8);
    let call = scene
        .command("alice", "a:b", json!({ "userId": 9 }))
        .unwrap();
    assert_eq!(field(&call, "/target"), Value::Null);
}

#[test]
fn what_cannot_be_is_told() {
    let mut scene = scene();
    join(&mut scene, "alice", "alice");
    let problem = |result: Result<Input, Impossible>| result.unwrap_err();
    assert!(
        problem(scene.asks_to_produce("bob", Source::Mic)).contains("in no room; there are alice")
    );
    assert!(problem(scene.consume("alice", "alice", Source::Mic)).contains("sends no mic"));
    let again = scene.newcomer("alice", None, None).err().unwrap();
    assert!(again.contains("with `as`"), "{again}");
    let unknown = scene.newcomer("carol", None, None).err().unwrap();
    assert!(unknown.contains("alice, bob"), "{unknown}");
    assert_eq!(scene.known("carol.id"), None);
}

#[test]
fn whoever_begins_flows_pauses_for_any_cause_and_resumes_when_there_is_none() {
    let mut scene = scene();
    let began = scene.now;
    join(&mut scene, "alice", "alice");
    scene.produce("alice", Source::Mic, false).unwrap();
    let pause = |scene: &mut Scene, cause| {
        let now = scene.now;
        scene.pause("alice", Source::Mic, cause, now).unwrap()
    };
    assert_eq!(pause(&mut scene, PauseCause::User), None, "not yet begun");
    let problem = scene.first_rtp("alice", Source::Mic).unwrap_err();
    assert!(problem.contains("is muted"), "{problem}");
    assert_eq!(scene.resume("alice", Source::Mic).unwrap(), None);
    scene.first_rtp("alice", Source::Mic).unwrap();

    scene.now = UnixMs(began.0 + 1_000);
    let paused = pause(&mut scene, PauseCause::User).unwrap();
    assert_eq!(paused.hook(), Hook::OnProducerPaused);
    assert_eq!(field(&paused, "/cause"), "user");
    assert_eq!(field(&paused, "/media/packets"), 51);
    assert_eq!(field(&paused, "/media/lastRtpAt"), json!(scene.now));
    let lobby = RoomId::new("lobby").unwrap();
    let user = Target::User(UserId(7));
    assert_eq!(scene.carry_out(&lobby, &Action::Mute(user)), []);
    scene.now = UnixMs(began.0 + 5_000);
    assert_eq!(
        scene.resume("alice", Source::Mic).unwrap(),
        None,
        "muted still"
    );
    let resumed = scene.carry_out(&lobby, &Action::Unmute(user));
    assert_eq!(hooks(&resumed), [Hook::OnProducerResumed]);
    assert_eq!(field(&resumed[0], "/cause"), "user");

    scene.now = UnixMs(began.0 + 9_000);
    let since = UnixMs(began.0 + 6_000);
    let paused = scene.pause("alice", Source::Mic, PauseCause::Silence, since);
    let paused = paused.unwrap().unwrap();
    assert_eq!(field(&paused, "/at"), json!(since));
    let id = scene.known("alice.mic").unwrap();
    let id = ProducerId(id.as_str().unwrap().parse().unwrap());
    assert_eq!(field(&paused, "/factId"), json!(FactId::paused(id, 2)));
    let closed = scene.leave("alice", "left").unwrap();
    assert_eq!(field(&closed[0], "/media/packets"), 101);
    assert_eq!(field(&closed[0], "/media/lastRtpAt"), json!(since));
}

#[test]
fn what_starts_muted_begins_when_the_plugin_lifts_it() {
    let mut scene = scene();
    join(&mut scene, "alice", "alice");
    scene.produce("alice", Source::Mic, true).unwrap();
    scene.first_rtp("alice", Source::Mic).unwrap_err();
    let (lobby, id) = (
        RoomId::new("lobby").unwrap(),
        scene.known("alice.mic").unwrap(),
    );
    let id = ProducerId(id.as_str().unwrap().parse().unwrap());
    let unmute = Action::Unmute(Target::Producer(id));
    assert_eq!(scene.carry_out(&lobby, &unmute), [], "nothing was paused");
    scene.first_rtp("alice", Source::Mic).unwrap();
}

#[test]
fn what_a_killed_server_left_open_is_told_once_as_of_then() {
    let mut scene = scene();
    join(&mut scene, "alice", "alice");
    join(&mut scene, "bob", "bob");
    for who in ["alice", "bob"] {
        scene.produce(who, Source::Mic, false).unwrap();
    }
    scene.first_rtp("alice", Source::Mic).unwrap();
    let killed = UnixMs(scene.now.0 + 200);
    scene.now = killed;
    scene.forget();
    scene.now = UnixMs(killed.0 + 60_000);
    let told = scene.recover();
    assert_eq!(hooks(&told), [Hook::OnProducerClosed, Hook::OnRoomClosed]);
    for call in &told {
        assert_eq!(field(call, "/reason"), "recovered");
        assert_eq!(field(call, "/at"), json!(killed));
    }
    assert_eq!(field(&told[0], "/media/packets"), 11);
    assert_eq!(scene.recover(), []);
}

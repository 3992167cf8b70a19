//! One call of any hook.

use serde_json::json;
use voice_room::{
    model::{FactId, FirstPacket, Hook, MediaCount, PauseCause, UnixMs, UserId},
    plugin::{ConsumeCall, Fact},
};

use super::rig::{self, Rig};

/// Every hook that is called while rooms go on: all but `init`.
pub(super) const CALLED: [Hook; 16] = [
    Hook::BeforeJoin,
    Hook::OnRoomOpened,
    Hook::OnJoin,
    Hook::DescribeRoom,
    Hook::OnLeave,
    Hook::BeforeProduce,
    Hook::BeforeConsume,
    Hook::OnNewProducer,
    Hook::OnFirstRtp,
    Hook::OnProducerPaused,
    Hook::OnProducerResumed,
    Hook::OnProducerClosed,
    Hook::SpeakerChanged,
    Hook::OnTimer,
    Hook::OnRoomClosed,
    Hook::OnCommand,
];

pub(super) fn consume(room: &str) -> ConsumeCall {
    ConsumeCall {
        room: rig::room(room),
        participant: rig::participant(1),
        producer: rig::producer(),
        owner: UserId(2),
        at: UnixMs::now(),
    }
}

/// Has a hook called in a room, and waits for the answer where there is one, whatever it is.
pub(super) async fn call(rig: &Rig, hook: Hook, room: &str) {
    match hook {
        Hook::Init => panic!("a room does not call it"),
        Hook::BeforeJoin => drop(rig.host.before_join(rig::join(room, 1)).await),
        Hook::DescribeRoom => drop(rig.host.describe_room(rig::join(room, 1)).await),
        Hook::BeforeProduce => drop(rig.host.before_produce(rig::produce(room, 1)).await),
        Hook::BeforeConsume => drop(rig.host.before_consume(consume(room)).await),
        Hook::OnCommand => drop(rig.command(room, "fixture:run", json!({})).await),
        Hook::OnTimer => {
            let timer = json!({ "key": "t", "afterMs": 0 });
            drop(rig.command(room, "fixture:timer-set", timer).await);
        }
        _ => rig.host.notify(fact(hook, room)),
    }
}

fn fact(hook: Hook, of: &str) -> Fact {
    let (room, at) = (rig::room(of), UnixMs::now());
    let (participant, producer) = (rig::participant(1), rig::producer());
    match hook {
        Hook::OnRoomOpened => Fact::RoomOpened { room, at },
        Hook::OnJoin => Fact::Joined(rig::join(of, 1)),
        Hook::OnLeave => rig::left(of, 1),
        Hook::OnNewProducer => Fact::NewProducer {
            room,
            participant,
            producer,
            at,
        },
        Hook::OnFirstRtp => Fact::FirstRtp {
            room,
            participant,
            producer,
            packet: FirstPacket::default(),
            fact: FactId::random(),
            at,
        },
        Hook::OnProducerPaused => Fact::ProducerPaused {
            room,
            participant,
            producer,
            cause: PauseCause::User,
            media: MediaCount::default(),
            fact: FactId::random(),
            at,
        },
        Hook::OnProducerResumed => Fact::ProducerResumed {
            room,
            participant,
            producer,
            cause: PauseCause::User,
            media: MediaCount::default(),
            fact: FactId::random(),
            at,
        },
        Hook::OnProducerClosed => Fact::ProducerClosed {
            room,
            participant,
            producer,
            reason: "closed".to_owned(),
            first_rtp_at: None,
            media: MediaCount::default(),
            fact: FactId::random(),
            at,
        },
        Hook::SpeakerChanged => Fact::SpeakerChanged {
            room,
            speakers: Vec::new(),
            at,
        },
        Hook::OnRoomClosed => Fact::RoomClosed {
            room,
            reason: "empty".to_owned(),
            fact: FactId::random(),
            at,
        },
        _ => panic!("{hook} is no fact that rooms tell"),
    }
}

#[test]
fn no_hook_is_left_out() {
    let all = Hook::ALL.iter().copied();
    let called: Vec<Hook> = all.filter(|&hook| hook != Hook::Init).collect();
    assert_eq!(called, CALLED);
}

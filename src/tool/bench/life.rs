//! The calls of a short life of a room: every hook once, with what a server would give it.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::{Builder, Uuid};

use crate::{
    model::{
        Codec, FactId, FirstPacket, MediaCount, ParticipantId, PauseCause, ProducerId, RoomId,
        Source, UnixMs, User, UserId,
    },
    plugin::{
        CommandCall, ConsumeCall, Fact, Input, JoinCall, ParticipantView, ProduceCall,
        ProducerView, RoomView, SpeakerView,
    },
};

/// When the first life begins, and how long each takes.
const START: u64 = 1_700_000_000_000;
const LASTS: u64 = 60_000;

/// Lives differ in their users and ids, and come again after so many: what a plugin keeps
/// of a thousand rooms is much, and what it keeps of a million is another question.
const LIVES: u64 = 1000;

/// Somebody enters a room of their own, speaks, is heard by another, and leaves.
pub(super) struct Life {
    room: RoomView,
    speaker: ParticipantView,
    listener: ParticipantView,
    producer: ProducerView,
    /// Counts from the first life.
    number: u64,
    /// Of commands.
    payload: String,
}

/// What is the same in all lives.
#[derive(Clone)]
pub(super) struct Cast {
    /// Of whoever speaks.
    pub(super) roles: Vec<String>,
    /// Of commands: a JSON object, to which the room's id is added.
    pub(super) payload: Value,
}

impl Life {
    /// The one of this number; `None` never.
    pub(super) fn new(number: u64, cast: &Cast) -> Option<Self> {
        let own = number % LIVES;
        let room = RoomView {
            id: RoomId::new(&format!("room-{own}"))?,
            participants: 1,
        };
        let mut payload = cast.payload.clone();
        if let Some(fields) = payload.as_object_mut() {
            fields.insert("roomId".to_owned(), json!(room.id));
        }
        Some(Self {
            room,
            payload: payload.to_string(),
            speaker: participant(2 * own + 1, &cast.roles),
            listener: participant(2 * own + 2, &[]),
            producer: ProducerView {
                id: ProducerId(id(3, own)),
                source: Source::Mic,
                codec: Codec {
                    mime_type: "audio/opus".to_owned(),
                    clock_rate: 48_000,
                    channels: 2,
                },
            },
            number,
        })
    }

    /// Its calls, in the order of a server's. Commands are those that the plugin answers.
    pub(super) fn calls(&self, commands: &[String]) -> Vec<Input> {
        let at = |seconds| UnixMs(START + self.number * LASTS + seconds * 1000);
        let (room, empty, two) = (self.room.clone(), self.with(0), self.with(2));
        let speaker = || self.speaker.clone();
        let join = |room: &RoomView| JoinCall {
            room: room.clone(),
            participant: speaker(),
            at: at(0),
        };
        let mut calls = vec![
            Input::BeforeJoin(join(&empty)),
            Input::Fact(Fact::RoomOpened {
                room: room.clone(),
                at: at(0),
            }),
            Input::Fact(Fact::Joined(join(&room))),
            Input::DescribeRoom(join(&room)),
        ];
        calls.extend(commands.iter().map(|command| {
            Input::Command(CommandCall {
                room: two.clone(),
                participant: speaker(),
                command: command.clone(),
                payload: self.payload.clone(),
                target: None,
                at: at(1),
            })
        }));
        calls.extend([
            Input::BeforeProduce(ProduceCall {
                room: two.clone(),
                participant: speaker(),
                source: self.producer.source,
                codec: self.producer.codec.clone(),
                at: at(2),
            }),
            Input::Fact(Fact::NewProducer {
                room: two.clone(),
                participant: speaker(),
                producer: self.producer.clone(),
                at: at(2),
            }),
            Input::BeforeConsume(ConsumeCall {
                room: two.clone(),
                participant: self.listener.clone(),
                producer: self.producer.clone(),
                owner: self.speaker.user.id,
                at: at(3),
            }),
        ]);
        calls.extend(self.facts(&room, &empty, &two, at));
        calls
    }

    /// From the first packet to the end of the room.
    fn facts(
        &self,
        room: &RoomView,
        empty: &RoomView,
        two: &RoomView,
        at: impl Fn(u64) -> UnixMs,
    ) -> Vec<Input> {
        let speaker = || self.speaker.clone();
        let heard = SpeakerView {
            user_id: self.speaker.user.id,
            producer_id: self.producer.id,
            volume: -30,
        };
        let gone = ParticipantView {
            connections: 0,
            ..speaker()
        };
        let mut facts = self.flow(two, &at).to_vec();
        facts.extend([
            Fact::SpeakerChanged {
                room: two.clone(),
                speakers: vec![heard],
                at: at(6),
            },
            Fact::Timer {
                room: two.clone(),
                key: "bench".to_owned(),
                due: at(7),
                at: at(7),
            },
            Fact::ProducerClosed {
                room: room.clone(),
                participant: speaker(),
                producer: self.producer.clone(),
                reason: "closed".to_owned(),
                first_rtp_at: Some(at(4)),
                media: MediaCount::default(),
                fact: FactId::closed(self.producer.id),
                at: at(7),
            },
            Fact::Left {
                room: empty.clone(),
                participant: gone,
                reason: "left".to_owned(),
                at: at(8),
            },
            Fact::RoomClosed {
                room: empty.clone(),
                reason: "empty".to_owned(),
                fact: FactId(id(4, self.number)),
                at: at(8),
            },
        ]);
        facts.into_iter().map(Input::Fact).collect()
    }

    /// The first packet, and a pause.
    fn flow(&self, room: &RoomView, at: &impl Fn(u64) -> UnixMs) -> [Fact; 3] {
        let of = || (room.clone(), self.speaker.clone(), self.producer.clone());
        let media = |seconds| MediaCount {
            packets: 50,
            bytes: 5_000,
            last_rtp_at: Some(at(seconds)),
        };
        let (room, participant, producer) = of();
        let begun = Fact::FirstRtp {
            room,
            participant,
            producer,
            packet: FirstPacket {
                ssrc: 1,
                timestamp: Some(960),
                payload_type: 111,
                after_ms: 2_000,
            },
            fact: FactId::first_rtp(self.producer.id),
            at: at(4),
        };
        let (room, participant, producer) = of();
        let paused = Fact::ProducerPaused {
            room,
            participant,
            producer,
            cause: PauseCause::User,
            media: media(5),
            fact: FactId::paused(self.producer.id, 1),
            at: at(5),
        };
        let (room, participant, producer) = of();
        let resumed = Fact::ProducerResumed {
            room,
            participant,
            producer,
            cause: PauseCause::User,
            media: media(5),
            fact: FactId::resumed(self.producer.id, 1),
            at: at(6),
        };
        [begun, paused, resumed]
    }

    fn with(&self, participants: u32) -> RoomView {
        RoomView {
            participants,
            ..self.room.clone()
        }
    }
}

fn participant(number: u64, roles: &[String]) -> ParticipantView {
    ParticipantView {
        id: ParticipantId(id(1, number)),
        user: Arc::new(User {
            id: UserId(number),
            name: Some(format!("User {number}")),
            avatar: None,
            roles: roles.to_vec(),
            claims: "{}".to_owned(),
        }),
        connections: 1,
    }
}

fn id(kind: u8, number: u64) -> Uuid {
    let bytes = (u128::from(kind) << 64 | u128::from(number)).to_be_bytes();
    Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Hook;

    #[test]
    fn a_life_calls_every_hook_once_and_in_order_of_time() {
        let cast = Cast {
            roles: vec!["host".to_owned()],
            payload: json!({ "seatIndex": 1 }),
        };
        let life = |number| Life::new(number, &cast).unwrap();
        let calls = life(7).calls(&["seat:take".to_owned()]);
        for hook in Hook::ALL.iter().filter(|hook| **hook != Hook::Init) {
            let count = calls.iter().filter(|call| call.hook() == *hook).count();
            assert_eq!(count, 1, "{hook}");
        }
        assert!(calls.is_sorted_by_key(Input::at));
        let command = calls.iter().find_map(|call| match call {
            Input::Command(call) => Some(call),
            _ => None,
        });
        let command = command.unwrap();
        assert_eq!(command.payload, r#"{"roomId":"room-7","seatIndex":1}"#);
        assert_eq!(command.participant.user.roles, ["host"]);
        let next = life(8).calls(&[]);
        assert!(next.first().unwrap().at() > calls.last().unwrap().at());
    }
}

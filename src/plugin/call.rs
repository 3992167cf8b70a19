//! What the room asks and tells, and what plugins may want done: plain data.
//!
//! Its JSON is that of the contract's records, with names in camelCase; recordings and
//! scripts of calls are made of it.

mod action;
mod fact;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Codec, Hook, ParticipantId, ProducerId, RoomId, Source, UnixMs, User, UserId, json_text,
    },
    store::Staged,
};

pub use self::{
    action::{Action, Amendment, Amendments, Pin, Target},
    fact::{Fact, FlowChange},
};

/// The room of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomView {
    /// Its id.
    pub id: RoomId,
    /// Participants at the time of the call. Before a join the newcomer is not counted.
    pub participants: u32,
}

/// The participant of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantView {
    /// Unique to this presence.
    pub id: ParticipantId,
    /// Who it is, as the verified token says.
    pub user: Arc<User>,
    /// Participants that the user has in the room, this one included.
    pub connections: u32,
}

/// A participant enters, or asks to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinCall {
    /// Where.
    pub room: RoomView,
    /// Who.
    pub participant: ParticipantView,
    /// When.
    pub at: UnixMs,
}

/// A participant asks to send audio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProduceCall {
    /// Where.
    pub room: RoomView,
    /// Who.
    pub participant: ParticipantView,
    /// What it carries.
    pub source: Source,
    /// In which codec.
    pub codec: Codec,
    /// When.
    pub at: UnixMs,
}

/// A participant asks to receive audio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumeCall {
    /// Where.
    pub room: RoomView,
    /// Who asks.
    pub participant: ParticipantView,
    /// What they would hear.
    pub producer: ProducerView,
    /// Who sends it.
    pub owner: UserId,
    /// When.
    pub at: UnixMs,
}

/// A client event that a plugin has registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandCall {
    /// Where.
    pub room: RoomView,
    /// Who.
    pub participant: ParticipantView,
    /// The event's name.
    pub command: String,
    /// What the client sent: a JSON object, as text.
    #[serde(with = "json_text", default = "json_text::empty")]
    pub payload: String,
    /// Whom the payload's `userId` names, if they are in the room.
    #[serde(default)]
    pub target: Option<ParticipantView>,
    /// When.
    pub at: UnixMs,
}

/// A producer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerView {
    /// Unique over all servers.
    pub id: ProducerId,
    /// What it carries.
    pub source: Source,
    /// In which codec.
    pub codec: Codec,
}

/// One of those who speak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerView {
    /// Who.
    pub user_id: UserId,
    /// With which producer.
    pub producer_id: ProducerId,
    /// Average level in dBov: 0 is the loudest, -127 silence.
    pub volume: i8,
}

/// One call of a plugin, whichever: what a guest sees, and all that it sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "hook", content = "input")]
pub enum Input {
    /// A user asks to enter.
    #[serde(rename = "before-join")]
    BeforeJoin(JoinCall),
    /// A newcomer is to be shown the room.
    #[serde(rename = "describe-room")]
    DescribeRoom(JoinCall),
    /// A participant asks to send.
    #[serde(rename = "before-produce")]
    BeforeProduce(ProduceCall),
    /// A participant asks to receive.
    #[serde(rename = "before-consume")]
    BeforeConsume(ConsumeCall),
    /// A client event of the plugin's own.
    #[serde(rename = "on-command")]
    Command(CommandCall),
    /// Something has happened.
    #[serde(untagged)]
    Fact(Fact),
}

impl Input {
    /// Where.
    #[must_use]
    pub fn room(&self) -> &RoomId {
        let room = match self {
            Self::BeforeJoin(call) | Self::DescribeRoom(call) => &call.room,
            Self::BeforeProduce(call) => &call.room,
            Self::BeforeConsume(call) => &call.room,
            Self::Command(call) => &call.room,
            Self::Fact(fact) => match fact {
                Fact::Joined(call) => &call.room,
                Fact::RoomOpened { room, .. }
                | Fact::RoomClosed { room, .. }
                | Fact::Timer { room, .. }
                | Fact::Left { room, .. }
                | Fact::NewProducer { room, .. }
                | Fact::FirstRtp { room, .. }
                | Fact::ProducerPaused { room, .. }
                | Fact::ProducerResumed { room, .. }
                | Fact::ProducerClosed { room, .. }
                | Fact::SpeakerChanged { room, .. } => room,
            },
        };
        &room.id
    }

    /// Which stream it is about, if it is about one.
    #[must_use]
    pub fn producer(&self) -> Option<ProducerId> {
        match self {
            Self::BeforeConsume(call) => Some(call.producer.id),
            Self::Fact(
                Fact::NewProducer { producer, .. }
                | Fact::FirstRtp { producer, .. }
                | Fact::ProducerPaused { producer, .. }
                | Fact::ProducerResumed { producer, .. }
                | Fact::ProducerClosed { producer, .. },
            ) => Some(producer.id),
            _ => None,
        }
    }

    /// When.
    #[must_use]
    pub fn at(&self) -> UnixMs {
        match self {
            Self::BeforeJoin(call) | Self::DescribeRoom(call) => call.at,
            Self::BeforeProduce(call) => call.at,
            Self::BeforeConsume(call) => call.at,
            Self::Command(call) => call.at,
            Self::Fact(fact) => match fact {
                Fact::Joined(call) => call.at,
                Fact::RoomOpened { at, .. }
                | Fact::RoomClosed { at, .. }
                | Fact::Timer { at, .. }
                | Fact::Left { at, .. }
                | Fact::NewProducer { at, .. }
                | Fact::FirstRtp { at, .. }
                | Fact::ProducerPaused { at, .. }
                | Fact::ProducerResumed { at, .. }
                | Fact::ProducerClosed { at, .. }
                | Fact::SpeakerChanged { at, .. } => *at,
            },
        }
    }

    /// The changes with which a call begins: whom they are about, and, which stays also where
    /// the guest has no say, that the timer that it is for has fired.
    pub(super) fn staged(&self, now: UnixMs) -> Staged {
        let mut staged = Staged::new(now);
        staged.about(self.user(), self.producer());
        if let Self::Fact(Fact::Timer { room, key, due, .. }) = self {
            staged.fired(&room.id, key, *due);
        }
        if let Self::Fact(fact) = self
            && let Some(id) = fact.id()
        {
            staged.settles(id.0);
        }
        staged
    }

    /// The user in question, where there is one.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        self.participant().map(|participant| participant.user.id)
    }

    /// The participant in question, where there is one.
    pub(super) fn participant(&self) -> Option<&ParticipantView> {
        Some(match self {
            Self::BeforeJoin(call) | Self::DescribeRoom(call) => &call.participant,
            Self::BeforeProduce(call) => &call.participant,
            Self::BeforeConsume(call) => &call.participant,
            Self::Command(call) => &call.participant,
            Self::Fact(fact) => match fact {
                Fact::Joined(call) => &call.participant,
                Fact::Left { participant, .. }
                | Fact::NewProducer { participant, .. }
                | Fact::FirstRtp { participant, .. }
                | Fact::ProducerPaused { participant, .. }
                | Fact::ProducerResumed { participant, .. }
                | Fact::ProducerClosed { participant, .. } => participant,
                Fact::RoomOpened { .. }
                | Fact::RoomClosed { .. }
                | Fact::Timer { .. }
                | Fact::SpeakerChanged { .. } => return None,
            },
        })
    }

    /// Which function of the guest it calls.
    #[must_use]
    pub fn hook(&self) -> Hook {
        match self {
            Self::BeforeJoin(_) => Hook::BeforeJoin,
            Self::DescribeRoom(_) => Hook::DescribeRoom,
            Self::BeforeProduce(_) => Hook::BeforeProduce,
            Self::BeforeConsume(_) => Hook::BeforeConsume,
            Self::Command(_) => Hook::OnCommand,
            Self::Fact(fact) => match fact {
                Fact::RoomOpened { .. } => Hook::OnRoomOpened,
                Fact::RoomClosed { .. } => Hook::OnRoomClosed,
                Fact::Timer { .. } => Hook::OnTimer,
                Fact::Joined(_) => Hook::OnJoin,
                Fact::Left { .. } => Hook::OnLeave,
                Fact::NewProducer { .. } => Hook::OnNewProducer,
                Fact::FirstRtp { .. } => Hook::OnFirstRtp,
                Fact::ProducerPaused { .. } => Hook::OnProducerPaused,
                Fact::ProducerResumed { .. } => Hook::OnProducerResumed,
                Fact::ProducerClosed { .. } => Hook::OnProducerClosed,
                Fact::SpeakerChanged { .. } => Hook::SpeakerChanged,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{FactId, MediaCount};

    #[test]
    fn a_call_is_json_and_comes_back_from_it() {
        let json = json!({
            "hook": "on-command",
            "input": {
                "room": { "id": "lobby", "participants": 1 },
                "participant": {
                    "id": "00000000-0000-4000-8000-000000000001",
                    "user": {
                        "id": 7, "name": null, "avatar": null, "roles": ["admin"],
                        "claims": { "plan": "pro" },
                    },
                    "connections": 1,
                },
                "command": "seat:take",
                "payload": { "roomId": "lobby", "seatIndex": 1 },
                "target": null,
                "at": 1000,
            },
        });
        let input: Input = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(input.hook(), Hook::OnCommand);
        let Input::Command(call) = &input else {
            panic!("{input:?}")
        };
        assert_eq!(call.payload, r#"{"roomId":"lobby","seatIndex":1}"#);
        assert_eq!(serde_json::to_value(&input).unwrap(), json);
    }

    #[test]
    fn a_fact_is_tagged_like_a_question() {
        let fact = Input::Fact(Fact::RoomClosed {
            room: RoomView {
                id: RoomId::new("lobby").unwrap(),
                participants: 0,
            },
            reason: "empty".to_owned(),
            fact: FactId(uuid::Uuid::from_u128(1)),
            at: UnixMs(5),
        });
        let json = serde_json::to_value(&fact).unwrap();
        assert_eq!(
            json["input"]["factId"],
            "00000000-0000-0000-0000-000000000001"
        );
        assert_eq!(json["hook"], "on-room-closed");
        assert_eq!(json["input"]["room"]["id"], "lobby");
        assert_eq!(serde_json::from_value::<Input>(json).unwrap(), fact);
    }

    #[test]
    fn a_fact_of_a_recording_from_before_facts_had_ids_is_read() {
        let closed: Fact = serde_json::from_value(json!({
            "hook": "on-producer-closed",
            "input": {
                "room": { "id": "lobby", "participants": 1 },
                "participant": {
                    "id": "00000000-0000-4000-8000-000000000001",
                    "user": { "id": 7, "name": null, "avatar": null },
                    "connections": 1,
                },
                "producer": {
                    "id": "00000000-0000-4000-8000-000000000002",
                    "source": "mic",
                    "codec": { "mimeType": "audio/opus", "clockRate": 48000, "channels": 2 },
                },
                "reason": "left",
                "firstRtpAt": 1000,
                "at": 2000,
            },
        }))
        .unwrap();
        assert_eq!(closed.id(), None);
        let Fact::ProducerClosed { media, .. } = closed else {
            panic!("{closed:?}")
        };
        assert_eq!(media, MediaCount::default());
    }
}

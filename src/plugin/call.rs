//! What the room asks and tells, and what plugins may want done: plain data.

use std::sync::Arc;

use serde_json::Value;

use crate::model::{Codec, ParticipantId, ProducerId, RoomId, Source, UnixMs, User, UserId};

/// The room of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomView {
    /// Its id.
    pub id: RoomId,
    /// Participants at the time of the call. Before a join the newcomer is not counted.
    pub participants: u32,
}

/// The participant of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct ParticipantView {
    /// Unique to this presence.
    pub id: ParticipantId,
    /// Who it is, as the verified token says.
    pub user: Arc<User>,
    /// Participants that the user has in the room, this one included.
    pub connections: u32,
}

/// A participant enters, or asks to.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinCall {
    /// Where.
    pub room: RoomView,
    /// Who.
    pub participant: ParticipantView,
    /// When.
    pub at: UnixMs,
}

/// A participant asks to send audio.
#[derive(Clone, Debug, PartialEq)]
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

/// A client event that a plugin has registered.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandCall {
    /// Where.
    pub room: RoomView,
    /// Who.
    pub participant: ParticipantView,
    /// What the client sent.
    pub payload: Value,
    /// When.
    pub at: UnixMs,
}

/// A producer.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerView {
    /// Unique over all servers.
    pub id: ProducerId,
    /// What it carries.
    pub source: Source,
    /// In which codec.
    pub codec: Codec,
}

/// One of those who speak.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeakerView {
    /// Who.
    pub user_id: UserId,
    /// With which producer.
    pub producer_id: ProducerId,
    /// Average level in dBov: 0 is the loudest, -127 silence.
    pub volume: i8,
}

/// Something that has happened. Plugins are told, and cannot change it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A participant has entered.
    Joined(JoinCall),
    /// A participant is gone: the last fact about it.
    Left {
        /// Where; `participants` are those who remain.
        room: RoomView,
        /// Who; `connections` are those that remain.
        participant: ParticipantView,
        /// `left`, `disconnected`, `kicked`, `replaced`, `room_closed`, …
        reason: String,
        /// When.
        at: UnixMs,
    },
    /// A producer exists and the room has been told of it.
    NewProducer {
        /// Where.
        room: RoomView,
        /// Whose.
        participant: ParticipantView,
        /// Which.
        producer: ProducerView,
        /// When.
        at: UnixMs,
    },
    /// The first RTP packet of a producer has arrived.
    FirstRtp {
        /// Where.
        room: RoomView,
        /// Whose.
        participant: ParticipantView,
        /// Which.
        producer: ProducerView,
        /// When.
        at: UnixMs,
    },
    /// A producer has ended.
    ProducerClosed {
        /// Where.
        room: RoomView,
        /// Whose.
        participant: ParticipantView,
        /// Which.
        producer: ProducerView,
        /// `closed`, `replaced`, `left`, `disconnected`, `plugin`, …
        reason: String,
        /// When its first RTP packet arrived, if one did.
        first_rtp_at: Option<UnixMs>,
        /// When.
        at: UnixMs,
    },
    /// The dominant speaker or the set of speakers has changed.
    SpeakerChanged {
        /// Where.
        room: RoomView,
        /// Loudest first; empty when the room has fallen silent.
        speakers: Vec<SpeakerView>,
        /// When.
        at: UnixMs,
    },
}

/// What a plugin wants done in the room of the call. Names and sizes have been checked;
/// whether users and producers exist is the room's to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// An event for one user's connections in this room.
    EmitToUser {
        /// Who.
        user: UserId,
        /// The event's name.
        event: String,
        /// Its payload.
        payload: Value,
    },
    /// An event for everyone in this room.
    EmitToRoom {
        /// The event's name.
        event: String,
        /// Its payload.
        payload: Value,
        /// A user who does not get it.
        except: Option<UserId>,
    },
    /// Pause, so that the user cannot resume. Each plugin's mute is its own.
    Mute(Target),
    /// Lift the plugin's own mute.
    Unmute(Target),
    /// Close producers.
    Close(Target),
    /// Remove a user and end their connection.
    Kick {
        /// Who.
        user: UserId,
        /// Told to the user and to the room.
        reason: String,
    },
}

/// Whose producers an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every producer of the user in this room.
    User(UserId),
    /// One producer.
    Producer(ProducerId),
}

/// One call of a plugin, whichever: what a guest sees, and all that it sees.
#[derive(Debug)]
pub(super) enum Input {
    BeforeJoin(JoinCall),
    DescribeRoom(JoinCall),
    BeforeProduce(ProduceCall),
    Command {
        name: String,
        payload: String,
        call: CommandCall,
    },
    Fact(Fact),
}

impl Input {
    pub(super) fn room(&self) -> &RoomId {
        let room = match self {
            Self::BeforeJoin(call) | Self::DescribeRoom(call) => &call.room,
            Self::BeforeProduce(call) => &call.room,
            Self::Command { call, .. } => &call.room,
            Self::Fact(fact) => match fact {
                Fact::Joined(call) => &call.room,
                Fact::Left { room, .. }
                | Fact::NewProducer { room, .. }
                | Fact::FirstRtp { room, .. }
                | Fact::ProducerClosed { room, .. }
                | Fact::SpeakerChanged { room, .. } => room,
            },
        };
        &room.id
    }

    pub(super) fn hook(&self) -> Hook {
        match self {
            Self::BeforeJoin(_) => Hook::BeforeJoin,
            Self::DescribeRoom(_) => Hook::DescribeRoom,
            Self::BeforeProduce(_) => Hook::BeforeProduce,
            Self::Command { .. } => Hook::OnCommand,
            Self::Fact(fact) => match fact {
                Fact::Joined(_) => Hook::OnJoin,
                Fact::Left { .. } => Hook::OnLeave,
                Fact::NewProducer { .. } => Hook::OnNewProducer,
                Fact::FirstRtp { .. } => Hook::OnFirstRtp,
                Fact::ProducerClosed { .. } => Hook::OnProducerClosed,
                Fact::SpeakerChanged { .. } => Hook::SpeakerChanged,
            },
        }
    }
}

/// The functions of a guest that the server calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Hook {
    Init,
    BeforeJoin,
    OnJoin,
    DescribeRoom,
    OnLeave,
    BeforeProduce,
    OnNewProducer,
    OnFirstRtp,
    OnProducerClosed,
    SpeakerChanged,
    OnCommand,
}

impl Hook {
    /// All, each at the place that its number names.
    pub(super) const ALL: [Self; 11] = [
        Self::Init,
        Self::BeforeJoin,
        Self::OnJoin,
        Self::DescribeRoom,
        Self::OnLeave,
        Self::BeforeProduce,
        Self::OnNewProducer,
        Self::OnFirstRtp,
        Self::OnProducerClosed,
        Self::SpeakerChanged,
        Self::OnCommand,
    ];

    /// The function's name in the WIT.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::BeforeJoin => "before-join",
            Self::OnJoin => "on-join",
            Self::DescribeRoom => "describe-room",
            Self::OnLeave => "on-leave",
            Self::BeforeProduce => "before-produce",
            Self::OnNewProducer => "on-new-producer",
            Self::OnFirstRtp => "on-first-rtp",
            Self::OnProducerClosed => "on-producer-closed",
            Self::SpeakerChanged => "speaker-changed",
            Self::OnCommand => "on-command",
        }
    }
}

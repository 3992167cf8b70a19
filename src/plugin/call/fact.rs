//! What has happened in a room, as plugins are told.

use serde::{Deserialize, Serialize};

use super::{JoinCall, ParticipantView, ProducerView, RoomView, SpeakerView};
use crate::model::{FactId, FirstPacket, MediaCount, PauseCause, UnixMs};

/// Something that has happened. Plugins are told, and cannot change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "hook", content = "input", rename_all_fields = "camelCase")]
pub enum Fact {
    /// The first participant has entered the room.
    #[serde(rename = "on-room-opened")]
    RoomOpened {
        /// Which.
        room: RoomView,
        /// When.
        at: UnixMs,
    },
    /// The room has ended: the last fact about it.
    #[serde(rename = "on-room-closed")]
    RoomClosed {
        /// Which.
        room: RoomView,
        /// `empty`, `shutdown`, `worker_died`, …; `recovered`: the server was killed.
        reason: String,
        /// Which fact this is, each time that it is told.
        #[serde(default, rename = "factId")]
        fact: FactId,
        /// When.
        at: UnixMs,
    },
    /// A timer of the plugin is due. The host's own: the room never tells it.
    #[serde(rename = "on-timer")]
    Timer {
        /// Where; without participants if the room is not open.
        room: RoomView,
        /// The timer's key.
        key: String,
        /// When it was due.
        due: UnixMs,
        /// When.
        at: UnixMs,
    },
    /// A participant has entered.
    #[serde(rename = "on-join")]
    Joined(JoinCall),
    /// A participant is gone: the last fact about it.
    #[serde(rename = "on-leave")]
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
    #[serde(rename = "on-new-producer")]
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
    #[serde(rename = "on-first-rtp")]
    FirstRtp {
        /// Where.
        room: RoomView,
        /// Whose.
        participant: ParticipantView,
        /// Which.
        producer: ProducerView,
        /// With which packet.
        #[serde(default)]
        packet: FirstPacket,
        /// Which fact this is, each time that it is told.
        #[serde(default, rename = "factId")]
        fact: FactId,
        /// When.
        at: UnixMs,
    },
    /// A producer whose first RTP was told has stopped to flow.
    #[serde(rename = "on-producer-paused")]
    ProducerPaused {
        /// Where.
        room: RoomView,
        /// Whose.
        participant: ParticipantView,
        /// Which.
        producer: ProducerView,
        /// Why.
        cause: PauseCause,
        /// What has been received so far.
        #[serde(default)]
        media: MediaCount,
        /// Which fact this is, each time that it is told.
        #[serde(default, rename = "factId")]
        fact: FactId,
        /// When; of silence: when the last packet came.
        at: UnixMs,
    },
    /// A producer flows again. Comes in turn with [`Fact::ProducerPaused`].
    #[serde(rename = "on-producer-resumed")]
    ProducerResumed {
        /// Where.
        room: RoomView,
        /// Whose.
        participant: ParticipantView,
        /// Which.
        producer: ProducerView,
        /// Why it had stopped.
        cause: PauseCause,
        /// What has been received so far.
        #[serde(default)]
        media: MediaCount,
        /// Which fact this is, each time that it is told.
        #[serde(default, rename = "factId")]
        fact: FactId,
        /// When.
        at: UnixMs,
    },
    /// A producer has ended.
    #[serde(rename = "on-producer-closed")]
    ProducerClosed {
        /// Where.
        room: RoomView,
        /// Whose.
        participant: ParticipantView,
        /// Which.
        producer: ProducerView,
        /// `closed`, `replaced`, `left`, `disconnected`, `plugin`, …; `recovered`: the server
        /// was killed.
        reason: String,
        /// When its first RTP packet arrived, if one did.
        first_rtp_at: Option<UnixMs>,
        /// What was received in all.
        #[serde(default)]
        media: MediaCount,
        /// Which fact this is, each time that it is told.
        #[serde(default, rename = "factId")]
        fact: FactId,
        /// When; of `recovered`: the last moment at which it is known to have run.
        at: UnixMs,
    },
    /// The dominant speaker or the set of speakers has changed.
    #[serde(rename = "speaker-changed")]
    SpeakerChanged {
        /// Where.
        room: RoomView,
        /// Loudest first; empty when the room has fallen silent.
        speakers: Vec<SpeakerView>,
        /// When.
        at: UnixMs,
    },
}

/// A moment at which a stream stops to flow, or flows again, after it has begun.
#[derive(Clone, Debug)]
pub struct FlowChange {
    /// Where.
    pub room: RoomView,
    /// Whose.
    pub participant: ParticipantView,
    /// Which.
    pub producer: ProducerView,
    /// Why it has, or had, stopped.
    pub cause: PauseCause,
    /// Which pause of the producer's begins or ends, counted from 1.
    pub nth: u32,
    /// What has been received so far.
    pub media: MediaCount,
    /// When.
    pub at: UnixMs,
}

impl Fact {
    /// A producer has stopped to flow.
    #[must_use]
    pub fn paused(change: FlowChange) -> Self {
        Self::ProducerPaused {
            fact: FactId::paused(change.producer.id, change.nth),
            room: change.room,
            participant: change.participant,
            producer: change.producer,
            cause: change.cause,
            media: change.media,
            at: change.at,
        }
    }

    /// A producer flows again.
    #[must_use]
    pub fn resumed(change: FlowChange) -> Self {
        Self::ProducerResumed {
            fact: FactId::resumed(change.producer.id, change.nth),
            room: change.room,
            participant: change.participant,
            producer: change.producer,
            cause: change.cause,
            media: change.media,
            at: change.at,
        }
    }

    /// Its id, if it is one of those that are recorded before plugins are told.
    #[must_use]
    pub fn id(&self) -> Option<FactId> {
        match self {
            Self::FirstRtp { fact, .. }
            | Self::ProducerPaused { fact, .. }
            | Self::ProducerResumed { fact, .. }
            | Self::ProducerClosed { fact, .. }
            | Self::RoomClosed { fact, .. } => (!fact.is_nil()).then_some(*fact),
            Self::RoomOpened { .. }
            | Self::Timer { .. }
            | Self::Joined(_)
            | Self::Left { .. }
            | Self::NewProducer { .. }
            | Self::SpeakerChanged { .. } => None,
        }
    }
}

//! Arguments of a call, lent to the guest.

use uuid::Uuid;

use super::{
    call::{ParticipantView, ProducerView, RoomView, SpeakerView},
    host::wit::{
        exports::voice_room::plugin::speaker_changed,
        voice_room::plugin::types::{
            Codec, FirstPacket, Media, Participant, Producer, Room, Source, User,
        },
    },
};
use crate::model;

pub(super) fn room(room: &RoomView) -> Room<'_> {
    Room {
        id: room.id.as_str(),
        participants: room.participants,
    }
}

pub(super) fn source(source: model::Source) -> Source {
    match source {
        model::Source::Mic => Source::Mic,
        model::Source::Music => Source::Music,
    }
}

pub(super) fn codec(codec: &model::Codec) -> Codec<'_> {
    Codec {
        mime_type: &codec.mime_type,
        clock_rate: codec.clock_rate,
        channels: codec.channels,
    }
}

pub(super) fn first_packet(packet: model::FirstPacket) -> FirstPacket {
    FirstPacket {
        ssrc: packet.ssrc,
        timestamp: packet.timestamp,
        payload_type: packet.payload_type,
        after_ms: packet.after_ms,
    }
}

pub(super) fn media(count: model::MediaCount) -> Media {
    Media {
        packets: count.packets,
        bytes: count.bytes,
        last_rtp_at: count.last_rtp_at.map(|at| at.0),
    }
}

/// A UUID as text, where it can be borrowed from.
pub(super) struct IdText([u8; uuid::fmt::Hyphenated::LENGTH]);

impl IdText {
    pub(super) fn new(id: Uuid) -> Self {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        // It is ASCII: the default never comes to be.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A participant and what has to be made to lend it.
pub(super) struct Present<'a> {
    view: &'a ParticipantView,
    id: IdText,
    roles: Vec<&'a str>,
}

impl<'a> Present<'a> {
    pub(super) fn new(view: &'a ParticipantView) -> Self {
        let roles = view.user.roles.iter().map(String::as_str).collect();
        Self {
            view,
            id: IdText::new(view.id.0),
            roles,
        }
    }

    pub(super) fn lend(&self) -> Participant<'_> {
        let user = &*self.view.user;
        Participant {
            id: self.id.as_str(),
            user: User {
                id: user.id.0,
                name: user.name.as_deref(),
                avatar: user.avatar.as_deref(),
                roles: &self.roles,
                claims: &user.claims,
            },
            connections: self.view.connections,
        }
    }
}

pub(super) fn producer<'a>(view: &'a ProducerView, id: &'a IdText) -> Producer<'a> {
    Producer {
        id: id.as_str(),
        source: source(view.source),
        codec: codec(&view.codec),
    }
}

/// Speakers with their ids as text, which [`speakers`] lends.
pub(super) fn speaker_ids(views: &[SpeakerView]) -> Vec<IdText> {
    views
        .iter()
        .map(|view| IdText::new(view.producer_id.0))
        .collect()
}

pub(super) fn speakers<'a>(
    views: &[SpeakerView],
    ids: &'a [IdText],
) -> Vec<speaker_changed::Speaker<'a>> {
    views
        .iter()
        .zip(ids)
        .map(|(view, id)| speaker_changed::Speaker {
            user_id: view.user_id.0,
            producer_id: id.as_str(),
            volume: view.volume,
        })
        .collect()
}

//! Between the generated types and the SDK's own. Strings are moved, not copied.

use serde_json::Value;

use super::bindings::voice_room::plugin::types as wit;
use crate::{
    Action, Actions, Amendment, Codec, Decision, Denial, Failure, FirstPacket, Media, Participant,
    Pin, Producer, Refusal, Room, Source, Target, User,
};

impl From<wit::Room> for Room {
    fn from(room: wit::Room) -> Self {
        Self {
            id: room.id,
            participants: room.participants,
        }
    }
}

impl From<wit::Participant> for Participant {
    fn from(participant: wit::Participant) -> Self {
        let wit::User {
            id,
            name,
            avatar,
            roles,
            claims,
        } = participant.user;
        Self {
            id: participant.id,
            user: User {
                id,
                name,
                avatar,
                roles,
                claims_json: claims,
            },
            connections: participant.connections,
        }
    }
}

impl From<wit::Source> for Source {
    fn from(source: wit::Source) -> Self {
        match source {
            wit::Source::Mic => Self::Mic,
            wit::Source::Music => Self::Music,
        }
    }
}

impl From<wit::Codec> for Codec {
    fn from(codec: wit::Codec) -> Self {
        Self {
            mime_type: codec.mime_type,
            clock_rate: codec.clock_rate,
            channels: codec.channels,
        }
    }
}

impl From<wit::Producer> for Producer {
    fn from(producer: wit::Producer) -> Self {
        Self {
            id: producer.id,
            source: producer.source.into(),
            codec: producer.codec.into(),
        }
    }
}

impl From<wit::Media> for Media {
    fn from(media: wit::Media) -> Self {
        Self {
            packets: media.packets,
            bytes: media.bytes,
            last_rtp_at: media.last_rtp_at,
        }
    }
}

impl From<wit::FirstPacket> for FirstPacket {
    fn from(packet: wit::FirstPacket) -> Self {
        Self {
            ssrc: packet.ssrc,
            timestamp: packet.timestamp,
            payload_type: packet.payload_type,
            after_ms: packet.after_ms,
        }
    }
}

impl From<Target> for wit::Target {
    fn from(target: Target) -> Self {
        match target {
            Target::User(id) => Self::User(id),
            Target::Producer(id) => Self::Producer(id),
        }
    }
}

impl From<Action> for wit::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::EmitToUser {
                user_id,
                event,
                payload,
            } => Self::EmitToUser(wit::UserEvent {
                user_id,
                event,
                payload: payload.to_string(),
            }),
            Action::EmitToRoom {
                event,
                payload,
                except,
            } => Self::EmitToRoom(wit::RoomEvent {
                event,
                payload: payload.to_string(),
                except,
            }),
            Action::Mute(target) => Self::Mute(target.into()),
            Action::Unmute(target) => Self::Unmute(target.into()),
            Action::Close(target) => Self::Close(target.into()),
            Action::Kick { user_id, reason } => Self::Kick(wit::KickUser { user_id, reason }),
            Action::PinSpeaker { user_id, pin } => {
                let pin = match pin {
                    Pin::In => wit::Pin::In,
                    Pin::Out => wit::Pin::Out,
                    Pin::Auto => wit::Pin::Auto,
                };
                Self::PinSpeaker(wit::SpeakerPin { user_id, pin })
            }
        }
    }
}

impl From<Amendment> for wit::Amendment {
    fn from(amendment: Amendment) -> Self {
        Self {
            muted: amendment.muted,
            priority: amendment.priority,
            attach: amendment.attach.as_ref().map(Value::to_string),
        }
    }
}

pub(super) fn actions(actions: Actions) -> Result<Vec<wit::Action>, Failure> {
    Ok(actions.into_vec()?.into_iter().map(Into::into).collect())
}

pub(super) fn refusal(refusal: Refusal) -> Result<(wit::Refusal, Vec<wit::Action>), Failure> {
    let actions = actions(refusal.actions)?;
    let refusal = wit::Refusal {
        code: refusal.code.into_owned(),
        message: refusal.message,
        details: refusal.details.as_ref().map(Value::to_string),
    };
    Ok((refusal, actions))
}

pub(super) fn decision(decision: Decision) -> Result<wit::Decision, Failure> {
    match decision {
        Ok(allowed) => Ok(wit::Decision {
            verdict: wit::Verdict::Allow,
            actions: actions(allowed)?,
        }),
        Err(Denial::Refused(refused)) => {
            let (refused, actions) = refusal(refused)?;
            Ok(wit::Decision {
                verdict: wit::Verdict::Refuse(refused),
                actions,
            })
        }
        Err(Denial::Failed(failure)) => Err(failure),
    }
}

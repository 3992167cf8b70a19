//! Why a room says no: each reason once, with its wire string.

use std::sync::Arc;

use crate::model::Refusal;

/// A refusal of the room's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The room takes no more participants.
    RoomFull,
    /// The server is stopping.
    Draining,
    /// The token does not allow this room.
    RoomNotAllowed,
    /// The participant is not in that room.
    NotInRoom,
    /// The room has ended.
    RoomNotFound,
    /// Unknown, or another participant's.
    TransportNotFound,
    /// The participant's own transport, of the other direction.
    WrongDirection,
    /// The participant has a transport of this direction.
    TransportLimit,
    /// A transport connects once.
    AlreadyConnected,
    /// Unknown, or another participant's where it must be one's own.
    ProducerNotFound,
    /// Unknown, or another participant's.
    ConsumerNotFound,
    /// A plugin holds the producer muted.
    Muted(Arc<str>),
    /// The router or transport cannot take the stream.
    CannotProduce(String),
    /// The endpoint cannot receive the stream.
    CannotConsume(String),
    /// What plugins have to learn of the stream could be lost: the disk does not take it.
    NotDurable,
}

impl Reason {
    /// The wire's `error` string.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self {
            Self::RoomFull => "Room is full",
            Self::Draining => "Server is draining",
            Self::RoomNotAllowed => "Room not allowed",
            Self::NotInRoom => "Not in room",
            Self::RoomNotFound => "Room not found",
            Self::TransportNotFound | Self::WrongDirection => "Transport not found",
            Self::TransportLimit => "Transport limit reached",
            Self::AlreadyConnected => "Transport already connected",
            Self::ProducerNotFound => "Producer not found",
            Self::ConsumerNotFound => "Consumer not found",
            Self::Muted(_) => "Muted by a moderator",
            Self::CannotProduce(_) => "Cannot produce",
            Self::CannotConsume(_) => "Cannot consume",
            Self::NotDurable => "Server cannot save",
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        let mut refusal = Self::new(reason.message());
        match reason {
            Reason::CannotProduce(why) | Reason::CannotConsume(why) => {
                refusal.details = Some(serde_json::json!({ "reason": why }));
            }
            Reason::WrongDirection => {
                let why = "this is your transport of the other direction";
                refusal.details = Some(serde_json::json!({ "reason": why }));
            }
            Reason::NotDurable => {
                let why = "the server's disk takes nothing at the moment: try again later";
                refusal.details = Some(serde_json::json!({ "reason": why }));
            }
            Reason::Muted(plugin) => refusal.plugin = Some(plugin),
            _ => {}
        }
        refusal
    }
}

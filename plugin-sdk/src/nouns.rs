//! The nouns that every hook shares.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::outcome::Failure;

/// A user account, as the session's token names it.
pub type UserId = u64;

/// Unix time in milliseconds, UTC. A plugin has no clock: time comes with each call.
pub type UnixMs = u64;

/// The room in which a call happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// 1 to 128 characters, as clients name it.
    pub id: String,
    /// Participants in the room at the time of the call. In `before_join` the newcomer is
    /// not counted: 0 means that the room is empty or new. In `on_leave`: those that remain.
    pub participants: u32,
}

/// Who it is about. Identity comes from the verified token, never from a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The account.
    pub id: UserId,
    /// Name to show.
    pub name: Option<String>,
    /// Address of a picture.
    pub avatar: Option<String>,
    /// Roles, for example `moderator`.
    pub roles: Vec<String>,
    /// The token's remaining claims: a JSON object as text. See [`User::claims`].
    pub claims_json: String,
}

impl User {
    /// A user without name, roles and claims.
    #[must_use]
    pub fn new(id: UserId) -> Self {
        Self {
            id,
            name: None,
            avatar: None,
            roles: Vec::new(),
            claims_json: "{}".to_owned(),
        }
    }

    /// The same user with one more role.
    #[must_use]
    pub fn with_role(mut self, role: &str) -> Self {
        self.roles.push(role.to_owned());
        self
    }

    /// Whether the token gives the user this role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }

    /// The token's remaining claims, for example
    /// `call.participant.user.claims::<Subscription>()`.
    ///
    /// # Errors
    ///
    /// If the claims do not have the shape of `T`. Claims are made by whoever signs the
    /// tokens, so give optional ones a default.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.claims_json)
            .map_err(|error| Failure::new(format!("claims of user {}: {error}", self.id)))
    }
}

/// One user's presence in one room over one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Unique to this presence.
    pub id: String,
    /// Whose presence it is.
    pub user: User,
    /// How many participants of the same user the room has, this one included. In
    /// `on_leave`: how many remain.
    pub connections: u32,
}

/// What a producer carries. A participant may have one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The voice.
    Mic,
    /// Music or another second stream.
    Music,
}

/// The codec in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// For example `audio/opus`.
    pub mime_type: String,
    /// In Hz, for example 48000.
    pub clock_rate: u32,
    /// Number of channels.
    pub channels: u8,
}

impl Codec {
    /// Opus as browsers send it: 48 kHz, two channels.
    #[must_use]
    pub fn opus() -> Self {
        Self {
            mime_type: "audio/opus".to_owned(),
            clock_rate: 48_000,
            channels: 2,
        }
    }
}

/// An audio stream that a participant sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Unique over all servers.
    pub id: String,
    /// What it carries.
    pub source: Source,
    /// How it is encoded.
    pub codec: Codec,
}

/// What has been received of a producer's stream so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// RTP packets.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
    /// When the last one is known to have arrived.
    pub last_rtp_at: Option<UnixMs>,
}

/// The packet with which a stream began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstPacket {
    /// Synchronisation source of the stream (RFC 3550).
    pub ssrc: u32,
    /// Its RTP timestamp, where the packet itself was seen.
    pub timestamp: Option<u32>,
    /// Its RTP payload type.
    pub payload_type: u8,
    /// Milliseconds from the producer's making to the packet.
    pub after_ms: u64,
}

/// Somebody who is heard at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Who speaks.
    pub user_id: UserId,
    /// Through which producer.
    pub producer_id: String,
    /// Average level in dBov: 0 is the loudest, -127 silence.
    pub volume: i8,
}

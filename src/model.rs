//! The nouns that every module shares, as plain data.

mod fact;
mod hook;

use std::{fmt, str::FromStr, sync::Arc, time::SystemTime};

use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

pub use fact::{FactId, FirstPacket, MediaCount, PauseCause};
pub use hook::Hook;

/// A room's name as clients give it: 1 to [`RoomId::MAX_CHARS`] characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RoomId(Arc<str>);

impl RoomId {
    /// The longest room id, in characters.
    pub const MAX_CHARS: usize = 128;

    /// Checks the length; `None` if it is empty or too long.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        (!id.is_empty() && id.chars().nth(Self::MAX_CHARS).is_none()).then(|| Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for RoomId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let problem = || format!("a room id has 1 to {} characters", Self::MAX_CHARS);
        Self::new(&text).ok_or_else(|| de::Error::custom(problem()))
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A user account: the token's `id` or numeric `sub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub u64);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! uuid_newtype {
    ($(#[$meta:meta] $name:ident;)*) => {$(
        #[$meta]
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

uuid_newtype! {
    /// One user's presence in one room over one connection.
    ParticipantId;
    /// A WebRTC transport of one participant.
    TransportId;
    /// An audio stream that a participant sends.
    ProducerId;
    /// An audio stream that a participant receives.
    ConsumerId;
    /// One refusal by a plugin: the same in the answer and in the log.
    DecisionId;
}

impl DecisionId {
    /// A fresh id, unique over all servers and ordered by time.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl ParticipantId {
    /// A fresh id, unique over all servers.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

/// Who a session belongs to, as its verified token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The account.
    pub id: UserId,
    /// Name to show.
    pub name: Option<String>,
    /// Address of a picture.
    pub avatar: Option<String>,
    /// Roles, for example `moderator`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The token's remaining claims, a JSON object as text: plugins read it.
    #[serde(with = "json_text", default = "json_text::empty")]
    pub claims: String,
}

/// JSON that is kept as text, and serialises as the JSON that it is.
pub(crate) mod json_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(crate) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_str::<Value>(text) {
            Ok(value) => value.serialize(serializer),
            // Not JSON after all: better shown than lost.
            Err(_) => text.serialize(serializer),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        Ok(Value::deserialize(from)?.to_string())
    }

    pub(crate) fn empty() -> String {
        "{}".to_owned()
    }
}

/// What a producer carries; a participant has at most one of each.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The voice.
    #[default]
    Mic,
    /// Music or another second stream.
    Music,
}

/// When a call counts as connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectedWhen {
    /// At the first RTP packet of anybody.
    #[default]
    First,
    /// Once RTP of every party has arrived; of two at least.
    Both,
}

/// The codec of a producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Codec {
    /// For example `audio/opus`.
    pub mime_type: String,
    /// In Hz.
    pub clock_rate: u32,
    /// Number of channels.
    pub channels: u8,
}

/// Unix time in milliseconds, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// The machine's time now.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A typed "no". Not an error: the system works, and the answer is no.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Stable identifier in upper snake case.
    pub code: String,
    /// A sentence for people; the wire's `error`.
    pub message: String,
    /// Further fields for programs.
    pub details: Option<serde_json::Value>,
    /// The plugin that refused, if it was one.
    pub plugin: Option<Arc<str>>,
    /// Names the plugin's decision in the server's log.
    pub decision: Option<DecisionId>,
}

impl Refusal {
    /// A refusal of the server's own: the code is the message in upper snake case.
    #[must_use]
    pub fn new(message: &str) -> Self {
        let code = message
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect();
        Self {
            code,
            message: message.to_owned(),
            details: None,
            plugin: None,
            decision: None,
        }
    }
}

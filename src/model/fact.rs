//! What is said of facts that must not be lost: which one it is, and what media proves it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ProducerId, UnixMs};

/// One recorded fact: the same each time that it is told, and in the ledger.
///
/// Those of a producer follow from its id and from which of its facts it is: whoever comes to
/// tell one, also after a crash, gives it the same id. The default is nil: an unrecorded fact,
/// such as those of recordings that were made before facts had ids.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct FactId(pub Uuid);

impl FactId {
    /// A fresh id, unique over all servers: of a fact that is about no producer.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// That the producer's first RTP has arrived.
    #[must_use]
    pub fn first_rtp(producer: ProducerId) -> Self {
        Self::derived(producer, "first-rtp")
    }

    /// The producer's `nth` pause, counted from 1.
    #[must_use]
    pub fn paused(producer: ProducerId, nth: u32) -> Self {
        Self::derived(producer, &format!("paused/{nth}"))
    }

    /// The end of the producer's `nth` pause, counted from 1.
    #[must_use]
    pub fn resumed(producer: ProducerId, nth: u32) -> Self {
        Self::derived(producer, &format!("resumed/{nth}"))
    }

    /// That the producer has ended.
    #[must_use]
    pub fn closed(producer: ProducerId) -> Self {
        Self::derived(producer, "closed")
    }

    fn derived(producer: ProducerId, which: &str) -> Self {
        Self(Uuid::new_v5(&producer.0, which.as_bytes()))
    }

    /// Whether it names no recorded fact.
    #[must_use]
    pub fn is_nil(self) -> bool {
        self.0.is_nil()
    }
}

impl fmt::Display for FactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for FactId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The packet with which a stream began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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

/// What has been received of a stream so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MediaCount {
    /// RTP packets.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
    /// When the last one is known to have arrived.
    pub last_rtp_at: Option<UnixMs>,
}

/// Why a stream that has begun does not flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PauseCause {
    /// Its user paused it.
    User,
    /// A plugin mutes it.
    Plugin,
    /// No packet has come for the configured time, although nobody paused it.
    Silence,
}

impl PauseCause {
    /// The word for it in the contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Plugin => "plugin",
            Self::Silence => "silence",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_fact_of_a_producer_has_an_id_of_its_own_and_keeps_it() {
        let ids = |number: u128| {
            let producer = ProducerId(Uuid::from_u128(number));
            [
                FactId::first_rtp(producer),
                FactId::paused(producer, 1),
                FactId::resumed(producer, 1),
                FactId::paused(producer, 2),
                FactId::resumed(producer, 2),
                FactId::closed(producer),
            ]
        };
        let all: HashSet<FactId> = ids(1).into_iter().chain(ids(2)).collect();
        assert_eq!(all.len(), 12);
        assert_eq!(ids(1), ids(1));
        assert!(!all.contains(&FactId::default()));
    }

    #[test]
    fn an_id_of_a_fact_never_changes_between_releases() {
        // Ledgers and plugins' keys have them.
        let producer = ProducerId(Uuid::from_u128(7));
        assert_eq!(
            FactId::first_rtp(producer).to_string(),
            "c870384b-9aca-539e-b85a-64645ab017f3"
        );
        assert_eq!(
            FactId::closed(producer).to_string(),
            "14e84a9a-94fb-55d3-8be8-ae75c1c2a572"
        );
    }

    #[test]
    fn a_cause_is_the_same_word_everywhere() {
        for cause in [PauseCause::User, PauseCause::Plugin, PauseCause::Silence] {
            assert_eq!(serde_json::json!(cause), cause.as_str());
        }
    }
}

//! What counts as the start of a stream, in all rooms and in some.

use super::{
    kind::{self, Kind},
    reader::Section,
};

/// `[rooms.first_rtp]`: what must have arrived before a producer is said to send.
///
/// Levels are claimed by the sender: where one is asked for, whoever claims less, or none
/// at all, is heard without ever being said to have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstRtpConfig {
    /// Packets with a payload, while the producer is not paused. Default 1.
    pub packets: u32,
    /// Count only packets that claim at least this level (RFC 6464), in dBov: 0 is the
    /// loudest, -127 silence. Default: all count.
    pub min_level_dbov: Option<i8>,
    /// Whether nobody is said to have begun until streams of two users have, and then
    /// all that have, at that moment. Default no.
    pub both_sides: bool,
}

impl Default for FirstRtpConfig {
    fn default() -> Self {
        Self {
            packets: 1,
            min_level_dbov: None,
            both_sides: false,
        }
    }
}

/// One of `[[rooms.first_rtp_by_room]]`: rooms with another rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstRtpByRoom {
    /// What the ids of these rooms begin with.
    pub prefix: String,
    /// Their rule. Keys that are not set are as in `[rooms.first_rtp]`.
    pub rule: FirstRtpConfig,
}

/// The keys of all rooms.
pub(super) fn general(root: &mut Section<'_>) -> FirstRtpConfig {
    rule(root, "rooms.first_rtp.", FirstRtpConfig::default())
}

/// The rooms with a rule of their own.
pub(super) fn by_room(root: &mut Section<'_>, general: FirstRtpConfig) -> Vec<FirstRtpByRoom> {
    let prefix = Kind::text(
        "what the ids of these rooms begin with, for example call-",
        |text| (!text.is_empty()).then(|| text.to_owned()),
        |text: &String| toml::Value::from(text.as_str()),
    );
    root.tables("rooms.first_rtp_by_room", Vec::new(), |section| {
        FirstRtpByRoom {
            prefix: section.required("prefix", &prefix).unwrap_or_default(),
            rule: rule(section, "", general),
        }
    })
}

fn rule(section: &mut Section<'_>, at: &str, default: FirstRtpConfig) -> FirstRtpConfig {
    let key = |name: &str| format!("{at}{name}");
    let level = section.optional(&key("min_level_dbov"), &kind::whole(-127..=0));
    FirstRtpConfig {
        packets: section.value(&key("packets"), &kind::whole(1..=1000), default.packets),
        min_level_dbov: level.or(default.min_level_dbov),
        both_sides: section.value(&key("both_sides"), &kind::boolean(), default.both_sides),
    }
}

//! What a peer sends and takes: one codec, two header extensions.

use serde_json::Value;
use str0m::RtcConfig;
use str0m::format::{Codec, FormatParams};
use str0m::media::Frequency;
use str0m::rtp::{Extension, ExtensionMap};

use super::{AUDIO_LEVEL_URI, MID_URI};

/// Payload type and header extensions: the router's own, in both directions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Formats {
    pub(super) opus: u8,
    pub(super) audio_level: u8,
    pub(super) mid: u8,
}

impl Formats {
    pub(super) fn of(router_capabilities: &Value) -> Self {
        let entry = |list: &str, key: &str, value: &str| {
            router_capabilities[list]
                .as_array()
                .and_then(|all| {
                    all.iter()
                        .find(|one| one["kind"] == "audio" && one[key] == value)
                })
                .unwrap_or_else(|| panic!("the router has {value}"))
        };
        let number = |value: &Value| u8::try_from(value.as_u64().unwrap()).unwrap();
        Self {
            opus: number(&entry("codecs", "mimeType", "audio/opus")["preferredPayloadType"]),
            audio_level: number(&entry("headerExtensions", "uri", AUDIO_LEVEL_URI)["preferredId"]),
            mid: number(&entry("headerExtensions", "uri", MID_URI)["preferredId"]),
        }
    }

    pub(super) fn config(self) -> RtcConfig {
        let mut extensions = ExtensionMap::empty();
        extensions.set(self.audio_level, Extension::AudioLevel);
        extensions.set(self.mid, Extension::RtpMid);
        let mut config = RtcConfig::new()
            .set_rtp_mode(true)
            .clear_codecs()
            .set_extension_map(extensions);
        config.codec_config().add_config(
            self.opus.into(),
            None,
            Codec::Opus,
            Frequency::FORTY_EIGHT_KHZ,
            Some(2),
            FormatParams::default(),
        );
        config
    }
}

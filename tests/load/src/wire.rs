//! The JSON of Face 1 as far as participants need it, read leniently: other servers of
//! the protocol leave fields out.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_json::{Value, json};
use str0m::{IceCreds, config::Fingerprint};

use crate::error::StepError;

pub(crate) const AUDIO_LEVEL_URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub(crate) const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// The answer to `room:join`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Joined {
    rtp_capabilities: Capabilities,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    codecs: Vec<Codec>,
    #[serde(default)]
    header_extensions: Vec<HeaderExtension>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Codec {
    mime_type: String,
    preferred_payload_type: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeaderExtension {
    kind: Option<String>,
    uri: String,
    preferred_id: u8,
}

/// Payload type and header extensions: the router's own, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Formats {
    pub(crate) opus: u8,
    pub(crate) audio_level: u8,
    pub(crate) mid: u8,
}

impl Joined {
    pub(crate) fn formats(&self) -> Result<Formats, StepError> {
        let extension = |uri: &'static str| {
            let mut all = self.rtp_capabilities.header_extensions.iter();
            let found = all.find(|one| {
                one.uri == uri && one.kind.as_deref().is_none_or(|kind| kind == "audio")
            });
            found
                .map(|one| one.preferred_id)
                .ok_or(StepError::Unsupported(uri))
        };
        let mut codecs = self.rtp_capabilities.codecs.iter();
        let opus = codecs
            .find(|one| one.mime_type.eq_ignore_ascii_case("audio/opus"))
            .and_then(|one| one.preferred_payload_type);
        Ok(Formats {
            opus: opus.ok_or(StepError::Unsupported("audio/opus"))?,
            audio_level: extension(AUDIO_LEVEL_URI)?,
            mid: extension(MID_URI)?,
        })
    }
}

impl Formats {
    /// `rtpCapabilities` for `audio:consume`.
    pub(crate) fn capabilities(self) -> Value {
        let extension = |uri: &str, id: u8| {
            json!({
                "kind": "audio", "uri": uri, "preferredId": id,
                "preferredEncrypt": false, "direction": "sendrecv",
            })
        };
        json!({
            "codecs": [{
                "kind": "audio", "mimeType": "audio/opus", "preferredPayloadType": self.opus,
                "clockRate": 48000, "channels": 2, "parameters": {}, "rtcpFeedback": [],
            }],
            "headerExtensions": [
                extension(AUDIO_LEVEL_URI, self.audio_level),
                extension(MID_URI, self.mid),
            ],
        })
    }

    /// `rtpParameters` for `audio:produce`.
    pub(crate) fn parameters(self, ssrc: u32) -> Value {
        let extension =
            |uri: &str, id: u8| json!({ "uri": uri, "id": id, "encrypt": false, "parameters": {} });
        json!({
            "mid": MID,
            "codecs": [{
                "mimeType": "audio/opus", "payloadType": self.opus, "clockRate": 48000, "channels": 2,
                "parameters": { "useinbandfec": 1 }, "rtcpFeedback": [],
            }],
            "headerExtensions": [
                extension(AUDIO_LEVEL_URI, self.audio_level),
                extension(MID_URI, self.mid),
            ],
            "encodings": [{ "ssrc": ssrc, "dtx": false }],
            "rtcp": { "cname": format!("load-{ssrc}"), "reducedSize": true },
        })
    }
}

/// The MID of what a speaker sends: each sends one stream.
pub(crate) const MID: &str = "0";

/// The answer to `transport:create`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransportOffer {
    pub(crate) id: String,
    ice_parameters: IceParameters,
    ice_candidates: Vec<IceCandidate>,
    dtls_parameters: DtlsParameters,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IceParameters {
    username_fragment: String,
    password: String,
}

#[derive(Debug, Deserialize)]
struct IceCandidate {
    protocol: String,
    address: Option<String>,
    /// What older servers call the address; newer ones send both.
    ip: Option<String>,
    port: u16,
}

#[derive(Debug, Deserialize)]
struct DtlsParameters {
    fingerprints: Vec<DtlsFingerprint>,
}

#[derive(Debug, Deserialize)]
struct DtlsFingerprint {
    algorithm: String,
    value: String,
}

/// The server's end of a transport.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) address: SocketAddr,
    pub(crate) ice: IceCreds,
    pub(crate) fingerprint: Fingerprint,
}

impl TransportOffer {
    /// # Errors
    /// If there is nothing to connect to over UDP, or, unless `allow_remote`, it is not
    /// on this machine.
    pub(crate) fn remote(&self, allow_remote: bool) -> Result<Remote, StepError> {
        let addresses = self
            .ice_candidates
            .iter()
            .filter(|one| one.protocol == "udp");
        let mut addresses = addresses.filter_map(|one| {
            let address = one.address.as_deref().or(one.ip.as_deref());
            let ip: IpAddr = address?.parse().ok()?;
            Some(SocketAddr::new(ip, one.port))
        });
        let address = addresses
            .next()
            .ok_or(StepError::Unsupported("a UDP candidate with an IP address"))?;
        if !allow_remote && !address.ip().is_loopback() {
            return Err(StepError::NotLoopback(address.to_string()));
        }
        let mut fingerprints = self.dtls_parameters.fingerprints.iter();
        let fingerprint = fingerprints
            .find(|one| one.algorithm == "sha-256")
            .and_then(|one| format!("sha-256 {}", one.value).parse().ok())
            .ok_or(StepError::Unsupported("a SHA-256 fingerprint"))?;
        Ok(Remote {
            address,
            ice: IceCreds {
                ufrag: self.ice_parameters.username_fragment.clone(),
                pass: self.ice_parameters.password.clone(),
            },
            fingerprint,
        })
    }
}

/// The answer to `audio:produce`.
#[derive(Debug, Deserialize)]
pub(crate) struct Produced {
    pub(crate) id: String,
}

/// The answer to `audio:consume`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Consumed {
    pub(crate) id: String,
    pub(crate) rtp_parameters: ConsumedParameters,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ConsumedParameters {
    pub(crate) mid: Option<String>,
    encodings: Vec<Encoding>,
}

#[derive(Debug, Deserialize)]
struct Encoding {
    ssrc: Option<u32>,
}

impl ConsumedParameters {
    pub(crate) fn ssrc(&self) -> Result<u32, StepError> {
        let ssrc = self.encodings.first().and_then(|one| one.ssrc);
        ssrc.ok_or(StepError::Unsupported("a consumer with an SSRC"))
    }
}

/// The answer to `consumer:resume`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Resumed {
    #[serde(default)]
    pub(crate) deferred: bool,
}

/// `audio:newProducer`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewProducer {
    pub(crate) producer_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(ip: &str) -> TransportOffer {
        let value = vec!["AB"; 32].join(":");
        serde_json::from_value(json!({
            "id": "t",
            "iceParameters": { "usernameFragment": "u", "password": "p", "iceLite": true },
            "iceCandidates": [
                { "protocol": "tcp", "address": ip, "port": 1 },
                { "protocol": "udp", "address": ip, "port": 2 },
            ],
            "dtlsParameters": { "role": "auto", "fingerprints": [
                { "algorithm": "sha-512", "value": "00" },
                { "algorithm": "sha-256", "value": value },
            ] },
        }))
        .unwrap()
    }

    #[test]
    fn an_address_that_is_not_loopback_is_refused_unless_allowed() {
        let refused = offer("192.0.2.1").remote(false).unwrap_err();
        assert!(refused.to_string().contains("192.0.2.1:2"), "{refused}");
        assert!(offer("192.0.2.1").remote(true).is_ok());
        let near = offer("127.0.0.1").remote(false).unwrap();
        assert_eq!(near.address, "127.0.0.1:2".parse().unwrap());
        assert_eq!(near.fingerprint.bytes, [0xab; 32]);
    }

    #[test]
    fn formats_are_the_routers_own() {
        let joined: Joined = serde_json::from_value(json!({
            "rtpCapabilities": {
                "codecs": [{ "kind": "audio", "mimeType": "audio/opus", "preferredPayloadType": 100 }],
                "headerExtensions": [
                    { "kind": "video", "uri": MID_URI, "preferredId": 9 },
                    { "kind": "audio", "uri": MID_URI, "preferredId": 1 },
                    { "kind": "audio", "uri": AUDIO_LEVEL_URI, "preferredId": 6 },
                ],
            },
        }))
        .unwrap();
        let formats = joined.formats().unwrap();
        assert_eq!(
            (formats.opus, formats.mid, formats.audio_level),
            (100, 1, 6)
        );
    }
}

//! What clients are sent: the crate's own serialization is part of the wire contract.

use std::num::{NonZeroU8, NonZeroU32};

use mediasoup::types::{
    data_structures::{
        DtlsFingerprint, DtlsParameters, DtlsRole, IceCandidate, IceCandidateTcpType,
        IceCandidateType, IceParameters, Protocol,
    },
    rtp_parameters::{
        MediaKind, MimeTypeAudio, RtcpFeedback, RtpCapabilitiesFinalized,
        RtpCodecCapabilityFinalized, RtpCodecParametersParameters, RtpHeaderExtension,
        RtpHeaderExtensionDirection, RtpHeaderExtensionUri,
    },
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    super::{ice_candidates, rtp_parameters},
    fixture,
};

fn sent(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("serializes")
}

#[test]
fn an_ice_candidate_carries_both_address_and_ip() {
    let udp = IceCandidate {
        foundation: "udpcandidate".into(),
        priority: 1_076_302_079,
        address: "sfu.example.org".into(),
        protocol: Protocol::Udp,
        port: 44_444,
        r#type: IceCandidateType::Host,
        tcp_type: None,
    };
    let tcp = IceCandidate {
        foundation: "tcpcandidate".into(),
        protocol: Protocol::Tcp,
        tcp_type: Some(IceCandidateTcpType::Passive),
        ..udp.clone()
    };
    assert_eq!(
        sent(&ice_candidates(&[udp, tcp])),
        json!([
            {
                "foundation": "udpcandidate",
                "priority": 1_076_302_079,
                "address": "sfu.example.org",
                "ip": "sfu.example.org",
                "protocol": "udp",
                "port": 44_444,
                "type": "host",
            },
            {
                "foundation": "tcpcandidate",
                "priority": 1_076_302_079,
                "address": "sfu.example.org",
                "ip": "sfu.example.org",
                "protocol": "tcp",
                "port": 44_444,
                "type": "host",
                "tcpType": "passive",
            },
        ])
    );
}

#[test]
fn ice_and_dtls_parameters_have_the_names_that_clients_read() {
    let ice = IceParameters {
        username_fragment: "u".into(),
        password: "p".into(),
        ice_lite: Some(true),
    };
    assert_eq!(
        sent(&ice),
        json!({ "usernameFragment": "u", "password": "p", "iceLite": true })
    );
    let dtls = DtlsParameters {
        role: DtlsRole::Auto,
        fingerprints: vec![DtlsFingerprint::Sha1 { value: [0xAB; 20] }],
    };
    assert_eq!(
        sent(&dtls),
        json!({
            "role": "auto",
            "fingerprints": [{ "algorithm": "sha-1", "value": vec!["AB"; 20].join(":") }],
        })
    );
}

#[test]
fn router_capabilities_have_the_names_that_clients_read() {
    let capabilities = RtpCapabilitiesFinalized {
        codecs: vec![RtpCodecCapabilityFinalized::Audio {
            mime_type: MimeTypeAudio::Opus,
            preferred_payload_type: 100,
            clock_rate: NonZeroU32::new(48_000).expect("not 0"),
            channels: NonZeroU8::new(2).expect("not 0"),
            parameters: RtpCodecParametersParameters::from([("useinbandfec", 1_u32.into())]),
            rtcp_feedback: vec![RtcpFeedback::TransportCc],
        }],
        header_extensions: vec![RtpHeaderExtension {
            kind: MediaKind::Audio,
            uri: RtpHeaderExtensionUri::SsrcAudioLevel,
            preferred_id: 6,
            preferred_encrypt: false,
            direction: RtpHeaderExtensionDirection::SendRecv,
        }],
    };
    assert_eq!(
        sent(&capabilities),
        json!({
            "codecs": [{
                "kind": "audio",
                "mimeType": "audio/opus",
                "preferredPayloadType": 100,
                "clockRate": 48_000,
                "channels": 2,
                "parameters": { "useinbandfec": 1 },
                "rtcpFeedback": [{ "type": "transport-cc", "parameter": "" }],
            }],
            "headerExtensions": [{
                "kind": "audio",
                "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
                "preferredId": 6,
                "preferredEncrypt": false,
                "direction": "sendrecv",
            }],
        })
    );
}

#[test]
fn stream_parameters_have_the_names_that_clients_read() {
    let json = fixture(include_str!("../fixtures/chromium_send.json"));
    let parameters = rtp_parameters(&json).expect("accepted");
    assert_eq!(
        sent(&parameters),
        json!({
            "codecs": json["codecs"],
            "headerExtensions": [
                {
                    "uri": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
                    "id": 3,
                    "encrypt": false,
                },
                { "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 1, "encrypt": false },
            ],
            "encodings": json["encodings"],
            "rtcp": json["rtcp"],
            "msid": json["msid"],
        })
    );
}

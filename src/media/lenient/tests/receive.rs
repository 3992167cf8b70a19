//! `rtpCapabilities`.

use mediasoup::types::rtp_parameters::{
    MimeTypeAudio, RtpCapabilities, RtpCodecCapability, RtpHeaderExtensionDirection as Direction,
    RtpHeaderExtensionUri as Uri,
};
use rstest::rstest;
use serde_json::{Value, json};

use super::{super::rtp_capabilities, fixture, with, without};

const MEDIASOUP_CLIENT: &str = include_str!("../fixtures/mediasoup_client_receive.json");
const BROWSER: &str = include_str!("../fixtures/browser_receive.json");

fn accepted(json: &Value) -> RtpCapabilities {
    rtp_capabilities(json).unwrap_or_else(|error| panic!("{error} in {json}"))
}

fn codecs(capabilities: &RtpCapabilities) -> Vec<(MimeTypeAudio, u8, Option<u8>)> {
    let codec = |codec: &RtpCodecCapability| match codec {
        RtpCodecCapability::Audio {
            mime_type,
            channels,
            preferred_payload_type,
            ..
        } => (*mime_type, channels.get(), *preferred_payload_type),
        RtpCodecCapability::Video { .. } => panic!("video"),
    };
    capabilities.codecs.iter().map(codec).collect()
}

fn extensions(capabilities: &RtpCapabilities) -> Vec<(Uri, u16)> {
    let extensions = &capabilities.header_extensions;
    extensions
        .iter()
        .map(|extension| (extension.uri, extension.preferred_id))
        .collect()
}

#[test]
fn what_mediasoup_client_sends_is_accepted() {
    let capabilities = accepted(&fixture(MEDIASOUP_CLIENT));
    assert_eq!(codecs(&capabilities), [(MimeTypeAudio::Opus, 2, Some(100))]);
    assert_eq!(
        extensions(&capabilities),
        [
            (Uri::Mid, 1),
            (Uri::TransportWideCcDraft01, 5),
            (Uri::SsrcAudioLevel, 6)
        ]
    );
}

#[test]
fn of_a_whole_browser_only_the_audio_is_kept() {
    let capabilities = accepted(&fixture(BROWSER));
    assert_eq!(
        codecs(&capabilities),
        [
            (MimeTypeAudio::Opus, 2, None),
            (MimeTypeAudio::Red, 2, None),
            (MimeTypeAudio::G722, 1, None),
            (MimeTypeAudio::TelephoneEvent, 1, None),
        ]
    );
    assert_eq!(
        extensions(&capabilities),
        [
            (Uri::Mid, 1),
            (Uri::SsrcAudioLevel, 6),
            (Uri::AbsCaptureTime, 9)
        ]
    );
    for extension in capabilities.header_extensions {
        assert!(!extension.preferred_encrypt);
        assert_eq!(extension.direction, Direction::SendRecv);
    }
}

#[rstest]
#[case::kind("/codecs/0/kind")]
#[case::channels("/codecs/0/channels")]
#[case::parameters("/codecs/0/parameters")]
#[case::feedback("/codecs/0/rtcpFeedback")]
#[case::preferred_payload_type("/codecs/0/preferredPayloadType")]
#[case::header_extensions("/headerExtensions")]
#[case::extension_kind("/headerExtensions/0/kind")]
#[case::extension_encrypt("/headerExtensions/0/preferredEncrypt")]
#[case::extension_direction("/headerExtensions/0/direction")]
#[case::codecs("/codecs")]
fn a_field_that_has_a_default_may_be_absent_or_null(#[case] pointer: &str) {
    let absent = accepted(&without(fixture(MEDIASOUP_CLIENT), pointer));
    let null = accepted(&with(fixture(MEDIASOUP_CLIENT), pointer, Value::Null));
    assert_eq!(absent, null);
}

#[test]
fn nothing_at_all_can_receive_nothing() {
    assert_eq!(accepted(&json!({})), RtpCapabilities::default());
}

#[test]
fn a_codecs_kind_is_the_one_of_its_mime_type() {
    let json = with(fixture(MEDIASOUP_CLIENT), "/codecs/0/kind", json!("video"));
    let json = with(json, "/codecs/0/mimeType", json!("AUDIO/Opus"));
    assert_eq!(
        codecs(&accepted(&json)),
        [(MimeTypeAudio::Opus, 2, Some(100))]
    );
}

#[rstest]
#[case::codecs_not_an_array("/codecs", json!("opus"), "codecs")]
#[case::too_many_codecs("/codecs", json!(vec![json!({}); 257]), "codecs")]
#[case::no_mime_type("/codecs/0", json!({}), "codecs[0].mimeType")]
#[case::clock_rate_0("/codecs/0/clockRate", json!(0), "codecs[0].clockRate")]
#[case::channels_0("/codecs/0/channels", json!(0), "codecs[0].channels")]
#[case::payload_type_200("/codecs/0/preferredPayloadType", json!(200), "codecs[0].preferredPayloadType")]
#[case::apt_text("/codecs/0/parameters", json!({ "apt": "x" }), "codecs[0].parameters.apt")]
#[case::extension_kind_a_number("/headerExtensions/0/kind", json!(1), "headerExtensions[0].kind")]
#[case::extension_id_0("/headerExtensions/0/preferredId", json!(0), "headerExtensions[0].preferredId")]
#[case::extension_id_too_high("/headerExtensions/0/preferredId", json!(65_536), "headerExtensions[0].preferredId")]
#[case::no_extension_id(
    "/headerExtensions/0/preferredId",
    Value::Null,
    "headerExtensions[0].preferredId"
)]
#[case::too_many_extensions("/headerExtensions", json!(vec![json!({}); 257]), "headerExtensions")]
fn a_bad_field_is_refused_by_name(#[case] pointer: &str, #[case] bad: Value, #[case] path: &str) {
    let json = with(fixture(MEDIASOUP_CLIENT), pointer, bad);
    let error = rtp_capabilities(&json).expect_err("refused");
    assert_eq!(error.path, format!("rtpCapabilities.{path}"));
}

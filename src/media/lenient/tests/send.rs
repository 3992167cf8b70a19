//! `rtpParameters`.

use std::num::{NonZeroU8, NonZeroU32};

use mediasoup::types::{
    rtp_parameters::{
        MimeTypeAudio, RtcpFeedback, RtpCodecParameters,
        RtpCodecParametersParametersValue as ParameterValue, RtpHeaderExtensionUri as Uri,
        RtpParameters,
    },
    scalability_modes::ScalabilityMode,
};
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    super::{rtp_parameters, trace_is_safe},
    fixture, with, without,
};

const CHROMIUM: &str = include_str!("../fixtures/chromium_send.json");
const FIREFOX: &str = include_str!("../fixtures/firefox_send.json");
const SAFARI: &str = include_str!("../fixtures/safari_send.json");
const AIORTC: &str = include_str!("../fixtures/aiortc_send.json");
const LEAST: &str = include_str!("../fixtures/least_send.json");

fn accepted(json: &Value) -> RtpParameters {
    rtp_parameters(json).unwrap_or_else(|error| panic!("{error} in {json}"))
}

/// The only codec of the parameters: payload type, clock rate, channels, number of parameters.
fn opus(parameters: &RtpParameters) -> (u8, u32, u8, usize) {
    let [
        RtpCodecParameters::Audio {
            mime_type: MimeTypeAudio::Opus,
            payload_type,
            clock_rate,
            channels,
            parameters,
            ..
        },
    ] = parameters.codecs.as_slice()
    else {
        panic!("not one Opus codec: {:?}", parameters.codecs)
    };
    (
        *payload_type,
        clock_rate.get(),
        channels.get(),
        parameters.iter().count(),
    )
}

#[rstest]
#[case::chromium(CHROMIUM, 111, 4, 3_063_731_857, Some("8Tz+u1mJbM3yqA0f"))]
#[case::firefox(
    FIREFOX,
    109,
    3,
    1_868_227_519,
    Some("{5f6b4a0d-0c0e-4f86-9f0e-2f6a3c1b5d11}")
)]
#[case::safari(SAFARI, 111, 2, 2_549_713_420, Some("yNPDnKGZ3H2gVf1a"))]
#[case::aiortc(
    AIORTC,
    96,
    0,
    748_531_907,
    Some("{e4f1c6c5-4a55-4f6c-8f0c-0a5b8a4be9d7}")
)]
#[case::least(LEAST, 111, 0, 12_345_678, None)]
fn what_clients_send_is_accepted(
    #[case] text: &str,
    #[case] payload_type: u8,
    #[case] codec_parameters: usize,
    #[case] ssrc: u32,
    #[case] cname: Option<&str>,
) {
    let parameters = accepted(&fixture(text));
    assert_eq!(
        opus(&parameters),
        (payload_type, 48_000, 2, codec_parameters)
    );
    assert_eq!(parameters.encodings.len(), 1);
    assert_eq!(parameters.encodings[0].ssrc, Some(ssrc));
    assert_eq!(parameters.rtcp.cname.as_deref(), cname);
    assert!(parameters.rtcp.reduced_size);
    assert!(trace_is_safe(&parameters));
}

#[test]
fn header_extensions_that_audio_has_no_use_for_are_left_out() {
    let kept: Vec<_> = accepted(&fixture(CHROMIUM))
        .header_extensions
        .iter()
        .map(|extension| (extension.uri, extension.id))
        .collect();
    assert_eq!(
        kept,
        [(Uri::TransportWideCcDraft01, 3), (Uri::SsrcAudioLevel, 1)]
    );
}

#[test]
fn unknown_feedback_is_left_out_and_known_feedback_kept_once() {
    let feedback = json!([
        { "type": "nack" },
        { "type": "nack", "parameter": null },
        { "type": "nack", "parameter": "rpsi" },
        { "type": "app", "parameter": "x" },
        { "type": "unknown" },
        null,
        { "type": "transport-cc", "parameter": "", "extra": 1 },
    ]);
    let parameters = accepted(&with(fixture(LEAST), "/codecs/0/rtcpFeedback", feedback));
    assert_eq!(
        parameters.codecs[0].rtcp_feedback(),
        [RtcpFeedback::Nack, RtcpFeedback::TransportCc]
    );
}

#[rstest]
#[case::header_extensions("/headerExtensions")]
#[case::rtcp("/rtcp")]
#[case::mid("/mid")]
#[case::msid("/msid")]
#[case::codec_parameters("/codecs/0/parameters")]
#[case::rtcp_feedback("/codecs/0/rtcpFeedback")]
#[case::channels("/codecs/0/channels")]
#[case::encrypt("/headerExtensions/0/encrypt")]
#[case::reduced_size("/rtcp/reducedSize")]
#[case::cname("/rtcp/cname")]
#[case::dtx("/encodings/0/dtx")]
fn a_field_that_has_a_default_may_be_absent_or_null(#[case] pointer: &str) {
    let absent = accepted(&without(fixture(CHROMIUM), pointer));
    let null = accepted(&with(fixture(CHROMIUM), pointer, Value::Null));
    assert_eq!(absent, null);
    assert_eq!(opus(&absent).2, 2);
}

#[test]
fn nulls_in_arrays_are_absent_items() {
    let json = with(
        fixture(LEAST),
        "/encodings",
        json!([null, { "ssrc": 7 }, null]),
    );
    let json = with(json, "/headerExtensions", json!([null]));
    let json = with(json, "/codecs/1", Value::Null);
    let parameters = accepted(&json);
    assert_eq!(parameters.encodings[0].ssrc, Some(7));
    assert_eq!(parameters.codecs.len(), 1);
}

#[test]
fn empty_texts_are_absent() {
    let json = json!({
        "mid": "", "msid": "", "rtcp": { "cname": "" },
        "codecs": [{ "mimeType": "audio/opus", "payloadType": 96, "clockRate": 48000 }],
        "encodings": [{ "ssrc": 1, "rid": "", "scalabilityMode": "" }],
    });
    let parameters = accepted(&json);
    assert_eq!((parameters.mid, parameters.msid), (None, None));
    assert_eq!(parameters.rtcp.cname, None);
    assert_eq!(parameters.encodings[0].rid, None);
}

#[rstest]
#[case::a_number(json!(1), ParameterValue::Number(1))]
#[case::a_whole_float(json!(48000.0), ParameterValue::Number(48_000))]
#[case::a_float(json!(0.5), ParameterValue::from("0.5"))]
#[case::a_negative_number(json!(-1), ParameterValue::from("-1"))]
#[case::the_largest_signed_number(json!(2_147_483_647), ParameterValue::Number(2_147_483_647))]
#[case::one_more(json!(2_147_483_648_u32), ParameterValue::from("2147483648"))]
#[case::a_boolean(json!(true), ParameterValue::Number(1))]
#[case::a_text(json!("0,4,1,2,3,5"), ParameterValue::from("0,4,1,2,3,5"))]
#[case::an_empty_text(json!(""), ParameterValue::from(""))]
fn a_codec_parameter_may_be(#[case] value: Value, #[case] expected: ParameterValue) {
    let json = with(
        fixture(LEAST),
        "/codecs/0/parameters",
        json!({ "p": value, "q": null }),
    );
    let parameters = accepted(&json);
    let parameters = parameters.codecs[0].parameters();
    assert_eq!(parameters.get("p"), Some(&expected));
    assert_eq!(parameters.get("q"), None);
}

#[test]
fn opus_without_channels_has_two_and_other_codecs_one() {
    let json = json!({
        "mid": "a",
        "codecs": [
            { "mimeType": "Audio/Opus", "payloadType": 0, "clockRate": 48000 },
            { "mimeType": "audio/pcmu", "payloadType": 127, "clockRate": 8000 },
        ],
    });
    let channels: Vec<_> = accepted(&json)
        .codecs
        .iter()
        .map(|codec| match codec {
            RtpCodecParameters::Audio {
                channels,
                clock_rate,
                ..
            } => (*channels, *clock_rate),
            RtpCodecParameters::Video { .. } => panic!("video"),
        })
        .collect();
    let number = |channels, rate| {
        (
            NonZeroU8::new(channels).expect("not 0"),
            NonZeroU32::new(rate).expect("not 0"),
        )
    };
    assert_eq!(channels, [number(2, 48_000), number(1, 8_000)]);
}

#[test]
fn a_stream_with_an_ssrc_needs_no_mid_and_one_without_keeps_it() {
    let parameters = accepted(&fixture(CHROMIUM));
    assert_eq!(
        (parameters.mid, &parameters.encodings[0].rid),
        (None, &None)
    );

    let parameters = accepted(&without(fixture(CHROMIUM), "/encodings"));
    assert_eq!(parameters.mid.as_deref(), Some("0"));
    assert_eq!(parameters.encodings, [Default::default()]);
    assert!(
        parameters
            .header_extensions
            .iter()
            .any(|extension| extension.uri == Uri::Mid)
    );
    assert!(!trace_is_safe(&parameters));
}

#[test]
fn a_stream_may_be_told_by_its_rid() {
    let json = without(fixture(CHROMIUM), "/mid");
    let parameters = accepted(&with(json, "/encodings/0", json!({ "rid": "voice" })));
    assert_eq!(parameters.encodings[0].rid.as_deref(), Some("voice"));
    assert_eq!(parameters.encodings[0].ssrc, None);
}

#[rstest]
#[case::null(Value::Null, None)]
#[case::zero(json!(0), None)]
#[case::a_float(json!(64_000.9), Some(64_000))]
#[case::more_than_there_is(json!(1e300), Some(u64::from(u32::MAX)))]
fn max_bitrate_may_be(#[case] value: Value, #[case] expected: Option<u64>) {
    let parameters = accepted(&with(fixture(LEAST), "/encodings/0/maxBitrate", value));
    assert_eq!(parameters.encodings[0].max_bitrate, expected);
}

#[rstest]
#[case("S1T1")]
#[case("L1T1")]
fn a_scalability_mode_of_one_layer_is_none(#[case] mode: &str) {
    let parameters = accepted(&with(
        fixture(LEAST),
        "/encodings/0/scalabilityMode",
        json!(mode),
    ));
    assert_eq!(
        parameters.encodings[0].scalability_mode,
        ScalabilityMode::None
    );
}

#[test]
fn retransmission_of_an_encoding_and_unknown_fields_are_left_out() {
    let json = with(
        fixture(LEAST),
        "/encodings/0/rtx",
        json!({ "ssrc": 12_345_678 }),
    );
    let json = with(json, "/encodings/0/adaptivePtime", json!(true));
    let json = with(json, "/degradationPreference", json!("balanced"));
    assert_eq!(accepted(&json), accepted(&fixture(LEAST)));
}

#[test]
fn the_same_extension_twice_is_taken_once() {
    let level = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    let extensions = json!([{ "uri": level, "id": 3 }, { "uri": level, "id": 4 }]);
    let parameters = accepted(&with(fixture(LEAST), "/headerExtensions", extensions));
    let ids: Vec<_> = parameters
        .header_extensions
        .iter()
        .map(|extension| extension.id)
        .collect();
    assert_eq!(ids, [3]);
}

#[test]
fn what_is_left_out_may_be_wrong() {
    let extensions = json!([
        { "uri": "urn:3gpp:video-orientation", "id": 0 },
        { "uri": "urn:example:unknown", "id": "seven" },
    ]);
    let parameters = accepted(&with(fixture(LEAST), "/headerExtensions", extensions));
    assert_eq!(parameters.header_extensions, []);
}

#[rstest]
#[case::not_an_object(json!([]), "rtpParameters")]
#[case::no_codecs(json!({ "mid": "0" }), "rtpParameters.codecs")]
#[case::codecs_null(json!({ "codecs": null }), "rtpParameters.codecs")]
#[case::codecs_not_an_array(json!({ "codecs": {} }), "rtpParameters.codecs")]
#[case::a_codec_not_an_object(json!({ "codecs": ["opus"] }), "rtpParameters.codecs[0]")]
fn what_is_not_parameters_is_refused(#[case] json: Value, #[case] path: &str) {
    let error = rtp_parameters(&json).expect_err("refused");
    assert_eq!(error.path, path);
}

#[rstest]
#[case::video("/codecs/0/mimeType", json!("video/VP8"), "codecs[0].mimeType")]
#[case::unknown_codec("/codecs/0/mimeType", json!("audio/L16"), "codecs[0].mimeType")]
#[case::not_ascii_codec("/codecs/0/mimeType", json!("audio/öpus"), "codecs[0].mimeType")]
#[case::half_a_mime_type("/codecs/0/mimeType", json!("audio/"), "codecs[0].mimeType")]
#[case::no_mime_type("/codecs/0/mimeType", Value::Null, "codecs[0].mimeType")]
#[case::comfort_noise_alone("/codecs/0/mimeType", json!("audio/CN"), "codecs")]
#[case::red_without_apt("/codecs/1", json!({ "mimeType": "audio/red", "payloadType": 63, "clockRate": 48000, "channels": 2 }), "codecs[1].mimeType")]
#[case::rtx_of_a_missing_codec("/codecs/1", json!({ "mimeType": "audio/rtx", "payloadType": 97, "clockRate": 48000, "parameters": { "apt": 9 } }), "codecs[1].mimeType")]
#[case::payload_type_128("/codecs/0/payloadType", json!(128), "codecs[0].payloadType")]
#[case::payload_type_negative("/codecs/0/payloadType", json!(-1), "codecs[0].payloadType")]
#[case::payload_type_text("/codecs/0/payloadType", json!("111"), "codecs[0].payloadType")]
#[case::no_payload_type("/codecs/0/payloadType", Value::Null, "codecs[0].payloadType")]
#[case::payload_type_twice("/codecs/1", json!({ "mimeType": "audio/PCMU", "payloadType": 111, "clockRate": 8000 }), "codecs[1].payloadType")]
#[case::codec_twice("/codecs/1", json!({ "mimeType": "audio/opus", "payloadType": 112, "clockRate": 48000, "channels": 2 }), "codecs[1]")]
#[case::clock_rate_0("/codecs/0/clockRate", json!(0), "codecs[0].clockRate")]
#[case::clock_rate_too_high("/codecs/0/clockRate", json!(4_294_967_296_u64), "codecs[0].clockRate")]
#[case::clock_rate_text("/codecs/0/clockRate", json!("48000"), "codecs[0].clockRate")]
#[case::no_clock_rate("/codecs/0/clockRate", Value::Null, "codecs[0].clockRate")]
#[case::channels_0("/codecs/0/channels", json!(0), "codecs[0].channels")]
#[case::channels_256("/codecs/0/channels", json!(256), "codecs[0].channels")]
#[case::parameters_not_an_object("/codecs/0/parameters", json!("useinbandfec=1"), "codecs[0].parameters")]
#[case::parameter_an_object("/codecs/0/parameters", json!({ "a": {} }), "codecs[0].parameters.a")]
#[case::parameter_with_a_line_break("/codecs/0/parameters", json!({ "a": "1\r\na=evil" }), "codecs[0].parameters.a")]
#[case::parameter_named_with_a_line_break("/codecs/0/parameters", json!({ "\na=evil": 1 }), "codecs[0].parameters")]
#[case::parameter_named_with_its_value("/codecs/0/parameters", json!({ "a=1;b": 1 }), "codecs[0].parameters")]
#[case::parameter_too_long("/codecs/0/parameters", json!({ "a": "x".repeat(129) }), "codecs[0].parameters.a")]
#[case::parameter_named_too_long("/codecs/0/parameters", json!({ "x".repeat(33): 1 }), "codecs[0].parameters")]
#[case::apt_text("/codecs/0/parameters", json!({ "apt": "111" }), "codecs[0].parameters.apt")]
#[case::feedback_not_an_array("/codecs/0/rtcpFeedback", json!("nack"), "codecs[0].rtcpFeedback")]
#[case::feedback_without_type("/codecs/0/rtcpFeedback", json!([{}]), "codecs[0].rtcpFeedback[0].type")]
#[case::ssrc_0("/encodings/0/ssrc", json!(0), "encodings[0].ssrc")]
#[case::ssrc_too_high("/encodings/0/ssrc", json!(4_294_967_296_u64), "encodings[0].ssrc")]
#[case::ssrc_negative("/encodings/0/ssrc", json!(-1), "encodings[0].ssrc")]
#[case::ssrc_a_fraction("/encodings/0/ssrc", json!(1.5), "encodings[0].ssrc")]
#[case::ssrc_huge("/encodings/0/ssrc", json!(1e308), "encodings[0].ssrc")]
#[case::ssrc_text("/encodings/0/ssrc", json!("1"), "encodings[0].ssrc")]
#[case::two_encodings_with_one_ssrc("/encodings/1", json!({ "ssrc": 12_345_678 }), "encodings[1]")]
#[case::simulcast("/encodings/1", json!({ "ssrc": 2 }), "encodings[1]")]
#[case::encoding_of_an_unknown_codec("/encodings/0/codecPayloadType", json!(9), "encodings[0].codecPayloadType")]
#[case::layers("/encodings/0/scalabilityMode", json!("L1T3"), "encodings[0].scalabilityMode")]
#[case::scalability_mode_that_overflows_a_stack("/encodings/0/scalabilityMode", json!(format!("L1T1{}", "x".repeat(60_000))), "encodings[0].scalabilityMode")]
#[case::max_bitrate_negative("/encodings/0/maxBitrate", json!(-1), "encodings[0].maxBitrate")]
#[case::dtx_a_number("/encodings/0/dtx", json!(1), "encodings[0].dtx")]
#[case::rid_too_long("/encodings/0/rid", json!("r".repeat(65)), "encodings[0].rid")]
#[case::rid_not_ascii("/encodings/0/rid", json!("é"), "encodings[0].rid")]
#[case::mid_too_long("/mid", json!("é".repeat(1000)), "mid")]
#[case::mid_not_ascii("/mid", json!("é"), "mid")]
#[case::mid_with_a_nul("/mid", json!("a\0b"), "mid")]
#[case::mid_a_number("/mid", json!(0), "mid")]
#[case::cname_too_long("/rtcp", json!({ "cname": "c".repeat(256) }), "rtcp.cname")]
#[case::cname_with_a_line_break("/rtcp", json!({ "cname": "a\r\na=evil" }), "rtcp.cname")]
#[case::rtcp_not_an_object("/rtcp", json!(true), "rtcp")]
#[case::reduced_size_a_number("/rtcp", json!({ "reducedSize": 1 }), "rtcp.reducedSize")]
#[case::msid_too_long("/msid", json!("m".repeat(130)), "msid")]
#[case::msid_with_a_line_break("/msid", json!("a b\nc"), "msid")]
#[case::extension_without_uri("/headerExtensions/0", json!({ "id": 1 }), "headerExtensions[0].uri")]
#[case::extension_without_id("/headerExtensions/0", json!({ "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level" }), "headerExtensions[0].id")]
#[case::extension_id_0("/headerExtensions/0", json!({ "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 0 }), "headerExtensions[0].id")]
#[case::extension_id_256("/headerExtensions/0", json!({ "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 256 }), "headerExtensions[0].id")]
#[case::extension_id_twice("/headerExtensions", json!([
    { "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 5 },
    { "uri": "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay", "id": 5 },
]), "headerExtensions[1].id")]
#[case::extension_encrypt_a_text("/headerExtensions/0", json!({ "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 5, "encrypt": "no" }), "headerExtensions[0].encrypt")]
#[case::too_many_codecs("/codecs", json!(vec![json!({}); 33]), "codecs")]
#[case::too_many_extensions("/headerExtensions", json!(vec![json!({}); 65]), "headerExtensions")]
#[case::too_many_encodings("/encodings", json!(vec![json!({}); 100]), "encodings")]
#[case::too_much_feedback("/codecs/0/rtcpFeedback", json!(vec![json!({ "type": "nack" }); 33]), "codecs[0].rtcpFeedback")]
fn a_bad_field_is_refused_by_name(#[case] pointer: &str, #[case] bad: Value, #[case] path: &str) {
    let error = rtp_parameters(&with(fixture(LEAST), pointer, bad)).expect_err("refused");
    assert_eq!(error.path, format!("rtpParameters.{path}"));
}

#[test]
fn more_parameters_than_any_codec_has_are_refused() {
    let many: Value = (0..17).map(|n| (format!("p{n}"), json!(n))).collect();
    let error = rtp_parameters(&with(fixture(LEAST), "/codecs/0/parameters", many));
    assert_eq!(
        error.expect_err("refused").path,
        "rtpParameters.codecs[0].parameters"
    );
}

#[rstest]
#[case::no_encodings(json!(null))]
#[case::an_empty_encoding(json!([{}]))]
fn a_stream_that_nothing_tells_is_refused(#[case] encodings: Value) {
    let json = with(without(fixture(LEAST), "/mid"), "/encodings", encodings);
    let error = rtp_parameters(&json).expect_err("refused");
    assert_eq!(error.path, "rtpParameters.encodings");
}

#[test]
fn an_error_reads_as_a_sentence() {
    let json = with(fixture(LEAST), "/codecs/0/clockRate", json!(0));
    assert_eq!(
        rtp_parameters(&json).expect_err("refused").to_string(),
        "rtpParameters.codecs[0].clockRate: must be a whole number from 1 to 4294967295"
    );
}

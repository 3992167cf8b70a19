//! No JSON makes the readers panic, and what they accept the worker can bear.

use mediasoup::types::rtp_parameters::{
    RtpCodecParametersParametersValue as ParameterValue, RtpParameters,
};
use proptest::{collection, prelude::*, sample};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    super::{dtls_parameters, rtp_capabilities, rtp_parameters},
    fixture,
};

/// Names that mean something to a reader, so that arbitrary objects get past the first field.
const NAMES: &[&str] = &[
    "codecs",
    "headerExtensions",
    "encodings",
    "rtcp",
    "mid",
    "msid",
    "mimeType",
    "payloadType",
    "preferredPayloadType",
    "clockRate",
    "channels",
    "parameters",
    "rtcpFeedback",
    "type",
    "parameter",
    "uri",
    "id",
    "preferredId",
    "encrypt",
    "kind",
    "ssrc",
    "rid",
    "rtx",
    "dtx",
    "codecPayloadType",
    "scalabilityMode",
    "maxBitrate",
    "cname",
    "reducedSize",
    "role",
    "fingerprints",
    "algorithm",
    "value",
    "apt",
];

/// Texts that mean something to a reader.
const TEXTS: &[&str] = &[
    "audio/opus",
    "audio/red",
    "audio/rtx",
    "audio/CN",
    "video/VP8",
    "audio/",
    "/",
    "nack",
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "L1T1",
    "L9T9",
    "sha-256",
    "auto",
    "",
    "é",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        sample::select(TEXTS).prop_map(str::to_owned),
        any::<String>(),
        // As long as a fingerprint, with characters of every width.
        "[0-9A-F:é\u{1F600}]{20,200}",
        "[0-9A-F]{2}(:[0-9A-F]{2}){31}",
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u32..300).prop_map(Value::from),
        text().prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        8 => sample::select(NAMES).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    scalar().prop_recursive(5, 128, 12, move |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            collection::vec((name.clone(), inner), 0..12)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The number of values in `json`, itself included.
fn size(json: &Value) -> usize {
    1 + match json {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum(),
        _ => 0,
    }
}

/// The value number `index` in `json`, counted from itself.
fn nth<'a>(json: &'a mut Value, index: &mut usize) -> Option<&'a mut Value> {
    if *index == 0 {
        return Some(json);
    }
    *index -= 1;
    match json {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, index)),
        Value::Object(fields) => fields.values_mut().find_map(|field| nth(field, index)),
        _ => None,
    }
}

/// A message of a real client in which some values were replaced.
fn mutated(messages: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let changes = collection::vec((any::<sample::Index>(), value()), 0..4);
    (sample::select(messages), changes).prop_map(|(message, changes)| {
        let mut json = fixture(message);
        for (index, new) in changes {
            let mut index = index.index(size(&json));
            if let Some(old) = nth(&mut json, &mut index) {
                *old = new;
            }
        }
        json
    })
}

/// What the worker and the listeners' clients rely on.
fn assert_bearable(parameters: &RtpParameters) {
    let [encoding] = parameters.encodings.as_slice() else {
        panic!("not one encoding")
    };
    assert!(encoding.ssrc.is_some() || encoding.rid.is_some() || parameters.mid.is_some());
    assert!(encoding.ssrc != Some(0) && encoding.rtx.is_none());
    assert!(encoding.scalability_mode.is_none());

    let texts = [
        &parameters.mid,
        &encoding.rid,
        &parameters.rtcp.cname,
        &parameters.msid,
    ];
    for text in texts.into_iter().flatten() {
        assert!((1..=255).contains(&text.len()), "{text:?}");
        assert!(
            text.bytes().all(|byte| (0x20..0x7F).contains(&byte)),
            "{text:?}"
        );
    }

    let mut payload_types: Vec<_> = parameters
        .codecs
        .iter()
        .map(|codec| codec.payload_type())
        .collect();
    assert!(!payload_types.is_empty() && payload_types.iter().all(|&number| number <= 127));
    if let Some(payload_type) = encoding.codec_payload_type {
        assert!(payload_types.contains(&payload_type));
    }
    payload_types.sort_unstable();
    payload_types.dedup();
    assert_eq!(payload_types.len(), parameters.codecs.len());

    for codec in &parameters.codecs {
        assert!(!codec.is_rtx());
        for (name, value) in codec.parameters().iter() {
            let texts = match value {
                ParameterValue::String(text) => vec![name.as_ref(), text.as_ref()],
                ParameterValue::Number(number) => {
                    assert!(i32::try_from(*number).is_ok());
                    vec![name.as_ref()]
                }
            };
            for text in texts {
                assert!(
                    text.bytes().all(|byte| (0x20..0x7F).contains(&byte)),
                    "{text:?}"
                );
            }
        }
    }

    let mut ids: Vec<_> = parameters
        .header_extensions
        .iter()
        .map(|extension| extension.id)
        .collect();
    assert!(ids.iter().all(|id| (1..=255).contains(id)));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), parameters.header_extensions.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_json_is_answered(json in value()) {
        match rtp_parameters(&json) {
            Ok(parameters) => assert_bearable(&parameters),
            Err(error) => prop_assert!(error.path.starts_with("rtpParameters")),
        }
        if let Err(error) = rtp_capabilities(&json) {
            prop_assert!(error.path.starts_with("rtpCapabilities"));
        }
        if let Err(error) = dtls_parameters(&json) {
            prop_assert!(error.path.starts_with("dtlsParameters"));
        }
    }

    #[test]
    fn mutated_parameters_are_refused_or_bearable(json in mutated(&[
        include_str!("../fixtures/chromium_send.json"),
        include_str!("../fixtures/aiortc_send.json"),
        include_str!("../fixtures/least_send.json"),
    ])) {
        if let Ok(parameters) = rtp_parameters(&json) {
            assert_bearable(&parameters);
            // Consumers get these fields back, so clients must be able to read them.
            let sent = serde_json::to_value(&parameters).expect("serializes");
            prop_assert_eq!(RtpParameters::deserialize(&sent).expect("reads"), parameters);
        }
    }

    #[test]
    fn mutated_capabilities_are_answered(json in mutated(&[
        include_str!("../fixtures/mediasoup_client_receive.json"),
        include_str!("../fixtures/browser_receive.json"),
    ])) {
        if let Ok(capabilities) = rtp_capabilities(&json) {
            let sent = serde_json::to_value(&capabilities).expect("serializes");
            prop_assert_eq!(rtp_capabilities(&sent), Ok(capabilities));
        }
    }

    #[test]
    fn mutated_dtls_parameters_are_answered(json in mutated(&[
        include_str!("../fixtures/chromium_dtls.json"),
        include_str!("../fixtures/aiortc_dtls.json"),
    ])) {
        if let Ok(parameters) = dtls_parameters(&json) {
            prop_assert!(!parameters.fingerprints.is_empty());
            let sent = serde_json::to_value(&parameters).expect("serializes");
            prop_assert_eq!(dtls_parameters(&sent), Ok(parameters));
        }
    }

    #[test]
    fn a_fingerprint_of_any_text_is_answered(value in text()) {
        let fingerprints = |algorithm: &str| json!([{ "algorithm": algorithm, "value": value }]);
        for algorithm in ["sha-1", "sha-224", "sha-256", "sha-384", "sha-512"] {
            let json = json!({ "fingerprints": fingerprints(algorithm) });
            if let Ok(parameters) = dtls_parameters(&json) {
                prop_assert!(parameters.fingerprints[0].value_string().eq_ignore_ascii_case(&value));
            }
        }
    }
}

//! `dtlsParameters`.

use mediasoup::types::data_structures::{DtlsFingerprint, DtlsRole};
use rstest::rstest;
use serde_json::{Value, json};

use super::{super::dtls_parameters, fixture, with, without};

const CHROMIUM: &str = include_str!("../fixtures/chromium_dtls.json");
const FIREFOX: &str = include_str!("../fixtures/firefox_dtls.json");
const AIORTC: &str = include_str!("../fixtures/aiortc_dtls.json");

#[rstest]
#[case::chromium(CHROMIUM, DtlsRole::Client)]
#[case::firefox(FIREFOX, DtlsRole::Auto)]
#[case::aiortc(AIORTC, DtlsRole::Server)]
fn what_clients_send_is_accepted(#[case] text: &str, #[case] role: DtlsRole) {
    let json = fixture(text);
    let parameters = dtls_parameters(&json).expect("accepted");
    assert_eq!(parameters.role, role);
    let [fingerprint] = parameters.fingerprints.as_slice() else {
        panic!("not one fingerprint")
    };
    let sent = json
        .pointer("/fingerprints/0/value")
        .and_then(Value::as_str)
        .expect("a value");
    assert!(fingerprint.value_string().eq_ignore_ascii_case(sent));
}

#[rstest]
#[case::sha_1("sha-1", 20)]
#[case::sha_224("sha-224", 28)]
#[case::sha_256("sha-256", 32)]
#[case::sha_384("sha-384", 48)]
#[case::sha_512("SHA-512", 64)]
fn each_algorithm_has_its_length(#[case] algorithm: &str, #[case] bytes: usize) {
    let json = |bytes: usize| {
        let value = vec!["aB"; bytes].join(":");
        json!({ "fingerprints": [{ "algorithm": algorithm, "value": value }] })
    };
    let parameters = dtls_parameters(&json(bytes)).expect("accepted");
    assert_eq!(
        parameters.fingerprints[0].value_string(),
        vec!["AB"; bytes].join(":")
    );
    for wrong in [bytes - 1, bytes + 1] {
        let error = dtls_parameters(&json(wrong)).expect_err("refused");
        assert_eq!(error.path, "dtlsParameters.fingerprints[0].value");
    }
}

#[test]
fn without_a_role_the_worker_chooses() {
    let absent = dtls_parameters(&without(fixture(CHROMIUM), "/role")).expect("accepted");
    let null = dtls_parameters(&with(fixture(CHROMIUM), "/role", Value::Null)).expect("accepted");
    assert_eq!((absent.role, null.role), (DtlsRole::Auto, DtlsRole::Auto));
}

#[test]
fn several_fingerprints_keep_their_order() {
    let json = with(
        fixture(AIORTC),
        "/fingerprints/1",
        fixture(CHROMIUM)
            .pointer("/fingerprints/0")
            .cloned()
            .expect("a fingerprint"),
    );
    let parameters = dtls_parameters(&json).expect("accepted");
    assert!(matches!(
        parameters.fingerprints.as_slice(),
        [
            DtlsFingerprint::Sha512 { .. },
            DtlsFingerprint::Sha256 { .. }
        ]
    ));
}

#[rstest]
#[case::not_an_object(json!("sha-256"), "dtlsParameters")]
#[case::no_fingerprints(json!({ "role": "auto" }), "dtlsParameters.fingerprints")]
#[case::empty_fingerprints(json!({ "fingerprints": [] }), "dtlsParameters.fingerprints")]
#[case::null_fingerprints(json!({ "fingerprints": [null] }), "dtlsParameters.fingerprints")]
#[case::too_many_fingerprints(json!({ "fingerprints": vec![json!({}); 17] }), "dtlsParameters.fingerprints")]
#[case::unknown_role(json!({ "role": "both" }), "dtlsParameters.role")]
#[case::no_algorithm(json!({ "fingerprints": [{ "value": "00" }] }), "dtlsParameters.fingerprints[0].algorithm")]
#[case::no_value(json!({ "fingerprints": [{ "algorithm": "sha-256" }] }), "dtlsParameters.fingerprints[0].value")]
#[case::unknown_algorithm(json!({ "fingerprints": [{ "algorithm": "md5", "value": "00" }] }), "dtlsParameters.fingerprints[0].algorithm")]
fn what_is_not_parameters_is_refused(#[case] json: Value, #[case] path: &str) {
    assert_eq!(dtls_parameters(&json).expect_err("refused").path, path);
}

#[rstest]
#[case::empty("")]
#[case::ninety_five_bytes_that_are_not_ascii(&format!("{}A", "é".repeat(47)))]
#[case::a_character_across_two_pairs(&format!("A{}", "é".repeat(47)))]
#[case::other_separators(&vec!["AB"; 32].join("-"))]
#[case::no_separators(&"AB".repeat(32))]
#[case::a_sign(&vec!["+B"; 32].join(":"))]
#[case::not_hexadecimal(&vec!["GG"; 32].join(":"))]
#[case::wide_digits(&vec!["\u{ff11}\u{ff11}"; 32].join(":"))]
#[case::a_trailing_colon(&format!("{}:", vec!["AB"; 32].join(":")))]
#[case::longer_than_a_frame(&vec!["AB"; 100_000].join(":"))]
fn a_malformed_fingerprint_is_refused(#[case] value: &str) {
    let json = json!({ "fingerprints": [{ "algorithm": "sha-256", "value": value }] });
    let error = dtls_parameters(&json).expect_err("refused");
    assert_eq!(error.path, "dtlsParameters.fingerprints[0].value");
}

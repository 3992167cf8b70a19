//! Tokens as clients bring them, good and bad.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::config::Secret;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const LEEWAY: u64 = 30;

fn config() -> AuthConfig {
    AuthConfig {
        keys: Keys::Secret(Secret::new(SECRET.to_owned())),
        issuer: None,
        audience: None,
        leeway: Duration::from_secs(LEEWAY),
        anonymous: false,
    }
}

fn authenticator() -> Authenticator {
    Authenticator::new(&config()).unwrap()
}

fn signed(claims: &Value) -> String {
    signed_by(Header::new(Algorithm::HS256), SECRET, claims)
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "headers are made in the call"
)]
fn signed_by(header: Header, secret: &str, claims: &Value) -> String {
    encode(
        &header,
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .unwrap()
}

fn verify(claims: &Value) -> Result<Identity, AuthError> {
    authenticator().verify(&signed(claims))
}

fn reason(token: &str) -> Reason {
    match authenticator().verify(token) {
        Err(AuthError::Invalid(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// Seconds from now.
fn in_seconds(seconds: i64) -> u64 {
    (UnixMs::now().0 / 1000)
        .checked_add_signed(seconds)
        .unwrap()
}

#[test]
fn a_token_gives_the_user_and_the_rest_goes_to_plugins() {
    let exp = in_seconds(60);
    let identity = verify(&json!({
        "id": 7, "name": "Ada", "avatar": "https://a.example/7.png", "roles": ["owner", "dj"],
        "exp": exp, "nbf": 1, "rooms": ["lobby"], "tier": {"gold": true}, "sub": "a-uuid",
    }))
    .unwrap();

    assert_eq!(
        identity.user,
        User {
            id: UserId(7),
            name: Some("Ada".to_owned()),
            avatar: Some("https://a.example/7.png".to_owned()),
            roles: vec!["owner".to_owned(), "dj".to_owned()],
            claims: r#"{"sub":"a-uuid","tier":{"gold":true}}"#.to_owned(),
        }
    );
    assert_eq!(identity.expires_at, Some(UnixMs(exp * 1000)));
    assert!(identity.may_enter(&RoomId::new("lobby").unwrap()));
    assert!(!identity.may_enter(&RoomId::new("other").unwrap()));
}

#[rstest]
#[case::id(json!({"id": 0}), 0, "{}")]
#[case::largest_id(json!({"id": 9_007_199_254_740_991_u64}), 9_007_199_254_740_991, "{}")]
#[case::id_before_sub(json!({"id": 1, "sub": "2"}), 1, r#"{"sub":"2"}"#)]
#[case::text_sub(json!({"sub": "42"}), 42, "{}")]
#[case::number_sub(json!({"sub": 42}), 42, "{}")]
#[case::null_is_absent(json!({"id": null, "sub": "42", "name": null, "roles": null}), 42, "{}")]
fn an_id_or_a_numeric_sub_is_the_user(#[case] claims: Value, #[case] id: u64, #[case] rest: &str) {
    let identity = verify(&claims).unwrap();

    assert_eq!(identity.user.id, UserId(id));
    assert_eq!(identity.user.name, None);
    assert_eq!(identity.user.roles, Vec::<String>::new());
    assert_eq!(identity.user.claims, rest);
    assert_eq!(identity.expires_at, None);
    assert!(identity.may_enter(&RoomId::new("any").unwrap()));
}

#[rstest]
#[case::nobody(json!({}), "id")]
#[case::other_name(json!({"userId": 7}), "id")]
#[case::negative(json!({"id": -1}), "id")]
#[case::fraction(json!({"id": 1.5}), "id")]
#[case::float(json!({"id": 1.0}), "id")]
#[case::inexact(json!({"id": 9_007_199_254_740_992_u64}), "id")]
#[case::huge(json!({"id": 1e300}), "id")]
#[case::text_id(json!({"id": "7"}), "id")]
#[case::list_id(json!({"id": [7]}), "id")]
#[case::wrong_id_beside_good_sub(json!({"id": "x", "sub": "7"}), "id")]
#[case::name_as_sub(json!({"sub": "ada"}), "sub")]
#[case::empty_sub(json!({"sub": ""}), "sub")]
#[case::signed_sub(json!({"sub": "+7"}), "sub")]
#[case::second_spelling(json!({"sub": "007"}), "sub")]
#[case::spaced_sub(json!({"sub": " 7"}), "sub")]
#[case::huge_sub(json!({"sub": "99999999999999999999999"}), "sub")]
#[case::inexact_sub(json!({"sub": "9007199254740993"}), "sub")]
#[case::number_as_name(json!({"id": 1, "name": 5}), "name")]
#[case::long_name(json!({"id": 1, "name": "é".repeat(257)}), "name")]
#[case::avatar_object(json!({"id": 1, "avatar": {}}), "avatar")]
#[case::long_avatar(json!({"id": 1, "avatar": "x".repeat(2049)}), "avatar")]
#[case::roles_text(json!({"id": 1, "roles": "admin"}), "roles")]
#[case::nested_roles(json!({"id": 1, "roles": [["admin"]]}), "roles")]
#[case::null_role(json!({"id": 1, "roles": [null]}), "roles")]
#[case::empty_role(json!({"id": 1, "roles": [""]}), "roles")]
#[case::long_role(json!({"id": 1, "roles": ["x".repeat(65)]}), "roles")]
#[case::many_roles(json!({"id": 1, "roles": vec!["x"; 65]}), "roles")]
#[case::rooms_text(json!({"id": 1, "rooms": "lobby"}), "rooms")]
#[case::empty_room(json!({"id": 1, "rooms": [""]}), "rooms")]
#[case::long_room(json!({"id": 1, "rooms": ["x".repeat(129)]}), "rooms")]
#[case::many_rooms(json!({"id": 1, "rooms": vec!["x"; 1025]}), "rooms")]
#[case::exp_text(json!({"id": 1, "exp": "tomorrow"}), "exp")]
#[case::exp_negative(json!({"id": 1, "exp": -5}), "exp")]
#[case::exp_huge(json!({"id": 1, "exp": 1e300}), "exp")]
#[case::exp_null(json!({"id": 1, "exp": null}), "exp")]
#[case::nbf_object(json!({"id": 1, "nbf": {}}), "nbf")]
#[case::large_rest(json!({"id": 1, "blob": "x".repeat(9000)}), "the rest")]
fn a_token_with_a_wrong_claim_is_refused(#[case] claims: Value, #[case] claim: &str) {
    match reason(&signed(&claims)) {
        Reason::Claim { name, .. } => assert_eq!(name, claim),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_list_of_rooms_admits_to_none() {
    let identity = verify(&json!({"id": 1, "rooms": []})).unwrap();

    assert!(!identity.may_enter(&RoomId::new("lobby").unwrap()));
}

#[test]
fn time_is_checked_with_leeway() {
    let leeway = i64::try_from(LEEWAY).unwrap();

    assert!(verify(&json!({"id": 1, "exp": in_seconds(10 - leeway)})).is_ok());
    assert!(verify(&json!({"id": 1, "nbf": in_seconds(leeway - 10)})).is_ok());
    assert_eq!(
        reason(&signed(&json!({"id": 1, "exp": in_seconds(-10 - leeway)}))),
        Reason::Expired
    );
    assert_eq!(
        reason(&signed(&json!({"id": 1, "exp": 0}))),
        Reason::Expired
    );
    assert_eq!(
        reason(&signed(&json!({"id": 1, "nbf": in_seconds(leeway + 10)}))),
        Reason::NotYetValid
    );
}

#[rstest]
#[case::fraction(json!(99_999_999_999.5), 99_999_999_999_500)]
#[case::largest(json!(u64::MAX), u64::MAX)]
fn the_end_of_a_token_is_told_in_milliseconds(#[case] exp: Value, #[case] expected: u64) {
    let identity = verify(&json!({"id": 1, "exp": exp})).unwrap();

    assert_eq!(identity.expires_at, Some(UnixMs(expected)));
}

#[test]
fn no_token_is_another_answer_than_a_bad_one() {
    let missing = authenticator().verify("").unwrap_err();
    let invalid = authenticator().verify("x").unwrap_err();

    assert_eq!(missing.to_string(), "Authentication required");
    assert_eq!(invalid.to_string(), "Invalid credentials");
    assert_eq!(invalid, AuthError::Invalid(Reason::Malformed));
}

#[test]
fn only_the_algorithm_of_the_key_is_accepted() {
    let claims = json!({"id": 1});
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let token = signed_by(Header::new(algorithm), SECRET, &claims);
        assert_eq!(reason(&token), Reason::Algorithm, "{algorithm:?}");
    }
    // The good signature of an HS256 token under headers that claim otherwise.
    let token = signed(&claims);
    let (_, rest) = token.split_once('.').unwrap();
    // {"alg":"none"}, {"alg":"RS256"}
    assert_eq!(
        reason(&format!("eyJhbGciOiJub25lIn0.{rest}")),
        Reason::Malformed
    );
    assert_eq!(
        reason(&format!("eyJhbGciOiJSUzI1NiJ9.{rest}")),
        Reason::Algorithm
    );
}

#[test]
fn a_token_of_another_secret_or_a_changed_one_is_refused() {
    let foreign = signed_by(
        Header::default(),
        "another secret of at least 32 bytes",
        &json!({"id": 1}),
    );
    assert_eq!(reason(&foreign), Reason::Signature);

    let mine = signed(&json!({"id": 1}));
    let other = signed(&json!({"id": 2}));
    let (head, _) = mine.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    assert_eq!(reason(&format!("{head}.{signature}")), Reason::Signature);
    assert_eq!(reason(&format!("{head}.")), Reason::Signature);
}

#[test]
fn critical_extensions_are_refused() {
    let header = Header {
        crit: Some(vec!["b64".to_owned()]),
        ..Header::default()
    };

    assert_eq!(
        reason(&signed_by(header, SECRET, &json!({"id": 1}))),
        Reason::Critical
    );
}

#[test]
fn an_oversize_token_is_not_even_decoded() {
    assert_eq!(reason(&"x".repeat(MAX_TOKEN_BYTES + 1)), Reason::TooLong);
}

#[rstest]
#[case::good(json!({"id": 1, "iss": "us", "aud": "voice"}), None)]
#[case::one_of_many(json!({"id": 1, "iss": "us", "aud": ["x", "voice"]}), None)]
#[case::no_issuer(json!({"id": 1, "aud": "voice"}), Some("iss"))]
#[case::other_issuer(json!({"id": 1, "iss": "them", "aud": "voice"}), Some("iss"))]
#[case::no_audience(json!({"id": 1, "iss": "us"}), Some("aud"))]
#[case::other_audience(json!({"id": 1, "iss": "us", "aud": ["x"]}), Some("aud"))]
fn a_configured_issuer_and_audience_are_required(
    #[case] claims: Value,
    #[case] wrong: Option<&str>,
) {
    let authenticator = Authenticator::new(&AuthConfig {
        issuer: Some("us".to_owned()),
        audience: Some("voice".to_owned()),
        ..config()
    })
    .unwrap();

    let found = match authenticator.verify(&signed(&claims)) {
        Ok(_) => None,
        Err(AuthError::Invalid(Reason::Claim { name, .. })) => Some(name),
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(found, wrong);

    let own = authenticator.issue(UserId(1), None, &[]).unwrap();
    assert!(authenticator.verify(&own).is_ok());
}

#[test]
fn an_audience_that_nobody_configured_is_not_checked() {
    assert!(verify(&json!({"id": 1, "aud": "somebody", "iss": "else"})).is_ok());
}

#[test]
fn an_issued_token_is_accepted_for_a_day() {
    let ephemeral = Authenticator::new(&AuthConfig {
        keys: Keys::Ephemeral,
        ..config()
    })
    .unwrap();
    let before = UnixMs::now().0;

    let token = ephemeral
        .issue(UserId(3), Some("Bo"), &["moderator".to_owned()])
        .unwrap();

    let identity = ephemeral.verify(&token).unwrap();
    assert_eq!(identity.user.id, UserId(3));
    assert_eq!(identity.user.name.as_deref(), Some("Bo"));
    assert_eq!(identity.user.roles, ["moderator"]);
    let end = identity.expires_at.unwrap().0;
    let day = 24 * 60 * 60 * 1000;
    assert!((before + day - 1000..before + day + 10_000).contains(&end));
    // Another server's secret is another one.
    assert_eq!(reason(&token), Reason::Signature);
}

#[test]
fn a_token_that_would_be_refused_is_not_issued() {
    let refused = authenticator()
        .issue(UserId(u64::MAX), None, &[])
        .unwrap_err();
    assert!(matches!(
        refused,
        IssueError::Refused(Reason::Claim { name: "id", .. })
    ));

    let refused = authenticator()
        .issue(UserId(1), Some(&"x".repeat(257)), &[])
        .unwrap_err();
    assert_eq!(refused.to_string(), "claim name: too long");
}

/// JSON of any shape, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,300}".prop_map(Value::from),
        "[0-9]{0,25}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,8}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_the_claims_are_the_answer_is_an_identity_or_a_reason(
        claims in prop::collection::hash_map(
            prop_oneof!["id|sub|name|avatar|roles|rooms|exp|nbf|iss|aud", ".{0,8}"],
            any_json(),
            0..10,
        )
    ) {
        let claims = Value::from_iter(claims);
        match verify(&claims) {
            Ok(identity) => {
                prop_assert!(identity.user.id.0 < 1 << 53);
                prop_assert!(serde_json::from_str::<Map<String, Value>>(&identity.user.claims).is_ok());
            }
            Err(error) => prop_assert!(matches!(error, AuthError::Invalid(_))),
        }
    }

    #[test]
    fn whatever_the_token_is_it_is_refused_without_a_panic(token in ".{0,200}|[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}") {
        prop_assert!(authenticator().verify(&token).is_err());
    }
}

#[test]
fn a_token_stands_behind_its_scheme() {
    assert_eq!(bearer("Bearer a.b.c"), Some("a.b.c"));
    assert_eq!(bearer("bearer  a.b.c"), Some("a.b.c"));
    assert_eq!(bearer("Bearer "), Some(""));
    for other in ["", "a.b.c", "Basic a.b.c", "Bearer"] {
        assert_eq!(bearer(other), None, "{other}");
    }
}

//! Whether a step came to what is expected.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    matching::{all_match, fill_in, matches, missing},
    play::Happened,
    scenario::Expect,
};

/// An expectation and what there is in its place.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Mismatch {
    /// The key of `expect`; `step` if the step could not be played.
    pub(super) expectation: &'static str,
    pub(super) expected: Value,
    pub(super) got: Value,
}

impl Mismatch {
    pub(super) fn impossible(why: &str) -> Self {
        Self {
            expectation: "step",
            expected: json!("can be played"),
            got: json!(why),
        }
    }
}

/// What a plugin has stored.
pub(super) type Keys = Vec<(String, Vec<u8>)>;

/// Compares; in `expect`, names stand for what the scene knows.
///
/// # Errors
///
/// A name that stands for nothing.
pub(super) fn compare(
    expect: &Expect,
    happened: &Happened,
    keys: &Keys,
    known: &impl Fn(&str) -> Option<Value>,
) -> Result<Vec<Mismatch>, String> {
    let mut found = Vec::new();
    verdict(expect, happened, &mut found);
    let fill = |value: &Value| {
        fill_in(value, known).map_err(|name| format!("nothing is known as `${{{name}}}` (yet)"))
    };
    let fill_all = |values: &[Value]| values.iter().map(fill).collect::<Result<Vec<_>, _>>();

    let refused = happened.refused.as_ref();
    let amendment = happened
        .amendment
        .as_ref()
        .map(|amendment| json!(amendment));
    let message = expect.message.clone().map(Value::String);
    for (expectation, expected, got) in [
        ("message", &message, refused.map(|it| json!(it.message))),
        (
            "details",
            &expect.details,
            refused.and_then(|it| it.details.clone()),
        ),
        ("answer", &expect.answer, happened.answer.clone()),
        ("amendment", &expect.amendment, amendment),
    ] {
        let Some(expected) = expected else { continue };
        let expected = fill(expected)?;
        if !matches(&expected, got.as_ref()) {
            let got = got.unwrap_or(Value::Null);
            found.push(Mismatch {
                expectation,
                expected,
                got,
            });
        }
    }

    let published: Vec<_> = happened
        .published
        .iter()
        .map(|event| json!(event))
        .collect();
    for (expectation, expected, got) in [
        ("actions", &expect.actions, &happened.actions),
        ("published", &expect.published, &published),
    ] {
        let Some(expected) = expected else { continue };
        let expected = fill_all(expected)?;
        if !all_match(&expected, got) {
            let (expected, got) = (Value::Array(expected), Value::Array(got.clone()));
            found.push(Mismatch {
                expectation,
                expected,
                got,
            });
        }
    }
    for (expectation, expected, got) in [
        (
            "actions-contain",
            &expect.actions_contain,
            &happened.actions,
        ),
        ("published-contain", &expect.published_contain, &published),
    ] {
        let Some(expected) = expected else { continue };
        let expected = fill_all(expected)?;
        let missing: Vec<_> = missing(&expected, got).into_iter().cloned().collect();
        if !missing.is_empty() {
            let (expected, got) = (Value::Array(missing), Value::Array(got.clone()));
            found.push(Mismatch {
                expectation,
                expected,
                got,
            });
        }
    }

    for (key, expected) in &expect.keys {
        let entry = fill(&json!({ key.as_str(): expected }))?;
        let Some((key, expected)) = entry.as_object().and_then(|entry| entry.iter().next()) else {
            continue;
        };
        let got = keys.iter().find(|(stored, _)| stored == key);
        let got = got.map(|(_, bytes)| value_of(bytes));
        if !matches(expected, got.as_ref()) {
            found.push(Mismatch {
                expectation: "keys",
                expected: entry.clone(),
                got: got.map_or(Value::Null, |got| json!({ key.as_str(): got })),
            });
        }
    }
    Ok(found)
}

/// Whether it was to be allowed, refused or to fail, and was; and which hooks were called.
fn verdict(expect: &Expect, happened: &Happened, found: &mut Vec<Mismatch>) {
    let (failed, refused) = (&happened.failed, &happened.refused);
    let speaks_of_a_refusal = expect.message.is_some() || expect.details.is_some();
    let (expected, is_so) = if let Some(part) = &expect.failed {
        let is_so = failed.as_ref().is_some_and(|(_, why)| why.contains(part));
        (json!({ "failed": part }), is_so)
    } else if let Some(code) = &expect.refused {
        let is_so = refused.as_ref().is_some_and(|it| it.code == *code);
        (json!({ "refused": code }), failed.is_none() && is_so)
    } else if speaks_of_a_refusal {
        (json!("refused"), failed.is_none() && refused.is_some())
    } else {
        (json!("allowed"), failed.is_none() && refused.is_none())
    };
    if !is_so {
        let got = match (failed, refused) {
            (Some((hook, why)), _) => json!({ "failed": why, "hook": hook }),
            (None, Some(refused)) => json!({ "refused": refused.code, "message": refused.message }),
            (None, None) => json!("allowed"),
        };
        found.push(Mismatch {
            expectation: "verdict",
            expected,
            got,
        });
    }
    if let Some(hooks) = &expect.hooks
        && *hooks != happened.hooks
    {
        found.push(Mismatch {
            expectation: "hooks",
            expected: json!(hooks),
            got: json!(happened.hooks),
        });
    }
}

/// A stored value, as people write it: JSON, else text, else that it is neither.
fn value_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "bytes": bytes }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Hook,
        plugin::{Published, Refused},
    };

    fn expect(text: &str) -> Expect {
        toml::from_str(text).unwrap()
    }

    fn keys_that_fail(text: &str, happened: &Happened) -> Vec<&'static str> {
        let keys = vec![
            ("seats/1".to_owned(), b"{\"user\":7}".to_vec()),
            ("raw".to_owned(), vec![0xff]),
        ];
        let known = |name: &str| (name == "alice.id").then(|| json!(7));
        let found = compare(&expect(text), happened, &keys, &known).unwrap();
        found.iter().map(|one| one.expectation).collect()
    }

    #[test]
    fn a_step_must_be_allowed_unless_the_contrary_is_expected() {
        let allowed = Happened::default();
        let refused = Happened {
            refused: Some(Refused {
                code: "NO_SEAT".to_owned(),
                message: "Take a seat".to_owned(),
                details: Some(json!({ "free": [3] })),
            }),
            ..Happened::default()
        };
        let failed = Happened {
            failed: Some((Hook::BeforeProduce, "timed-out".to_owned())),
            ..Happened::default()
        };
        for (text, of_allowed, of_refused, of_failed) in [
            ("", true, false, false),
            ("refused = 'NO_SEAT'", false, true, false),
            ("refused = 'NO'", false, false, false),
            ("message = 'Take a seat'", false, true, false),
            ("details = { free = [3] }", false, true, false),
            ("details = { free = [] }", false, false, false),
            ("failed = 'timed'", false, false, true),
            ("failed = 'trapped'", false, false, false),
        ] {
            for (happened, fits) in [
                (&allowed, of_allowed),
                (&refused, of_refused),
                (&failed, of_failed),
            ] {
                let failing = keys_that_fail(text, happened);
                assert_eq!(
                    failing.is_empty(),
                    fits,
                    "{text}: {happened:?}: {failing:?}"
                );
            }
        }
    }

    #[test]
    fn what_was_done_is_compared_whole_or_in_part() {
        let happened = Happened {
            hooks: vec![Hook::OnJoin],
            answer: Some(json!({ "seats": [1, 2] })),
            actions: vec![
                json!({ "mute": { "user": 7 } }),
                json!({ "unmute": { "user": 8 } }),
            ],
            published: vec![Published {
                topic: "a.b".to_owned(),
                payload: json!({ "userId": 7, "at": 5 }),
            }],
            ..Happened::default()
        };
        let fits = |text: &str| keys_that_fail(text, &happened);
        assert_eq!(
            fits("actions = [{ mute = { user = '${alice.id}' } }, { unmute = {} }]"),
            [""; 0]
        );
        assert_eq!(fits("actions = [{ mute = {} }]"), ["actions"]);
        assert_eq!(
            fits("actions-contain = [{ unmute = { user = 8 } }]"),
            [""; 0]
        );
        assert_eq!(
            fits("actions-contain = [{ kick = {} }]"),
            ["actions-contain"]
        );
        assert_eq!(
            fits("published = [{ topic = 'a.b', payload = { userId = 7 } }]"),
            [""; 0]
        );
        assert_eq!(fits("published = []"), ["published"]);
        assert_eq!(
            fits("published-contain = [{ topic = 'a.c' }]"),
            ["published-contain"]
        );
        assert_eq!(
            fits("answer = { seats = [1, 2] }\nhooks = ['on-join']"),
            [""; 0]
        );
        assert_eq!(
            fits("answer = '${absent}'\nhooks = []"),
            ["hooks", "answer"]
        );
        assert_eq!(fits("amendment = { muted = true }"), ["amendment"]);
        assert_eq!(
            fits("keys = { 'seats/1' = { user = 7 }, raw = { bytes = [255] } }"),
            [""; 0]
        );
        assert_eq!(
            fits("keys = { 'seats/${alice.id}' = '${absent}', 'seats/1' = 5 }"),
            ["keys"]
        );
    }

    #[test]
    fn a_name_that_stands_for_nothing_is_told() {
        let unknown = expect("answer = '${bob.mic}'");
        let why = compare(&unknown, &Happened::default(), &Vec::new(), &|_| None).unwrap_err();
        assert_eq!(why, "nothing is known as `${bob.mic}` (yet)");
    }
}

//! What is expected against what there is.

use serde_json::Value;

/// Stands for whatever there is, as long as there is something.
const ANY: &str = "${any}";
/// Stands for nothing.
const ABSENT: &str = "${absent}";

/// Whether it is as expected: an object has at least the expected fields, a list matches item
/// by item, all else is equal.
pub(super) fn matches(expected: &Value, got: Option<&Value>) -> bool {
    match (expected.as_str(), got) {
        (Some(ANY), got) => return got.is_some(),
        (Some(ABSENT), got) => return got.is_none(),
        (_, None) => return false,
        _ => {}
    }
    match (expected, got) {
        (Value::Object(fields), Some(Value::Object(got))) => fields
            .iter()
            .all(|(key, expected)| matches(expected, got.get(key))),
        (Value::Array(items), Some(Value::Array(got))) => all_match(items, got),
        (Value::Number(one), Some(Value::Number(other))) => {
            // 1 and 1.0 are the same to whoever reads JSON.
            one == other || (one.as_f64().is_some() && one.as_f64() == other.as_f64())
        }
        (expected, got) => Some(expected) == got,
    }
}

/// Whether each matches its counterpart, and nothing is left over.
pub(super) fn all_match(expected: &[Value], got: &[Value]) -> bool {
    expected.len() == got.len()
        && expected
            .iter()
            .zip(got)
            .all(|(expected, got)| matches(expected, Some(got)))
}

/// Those that match nothing.
pub(super) fn missing<'a>(expected: &'a [Value], got: &[Value]) -> Vec<&'a Value> {
    let found = |one: &&Value| got.iter().any(|got| matches(one, Some(got)));
    expected.iter().filter(|one| !found(one)).collect()
}

/// Replaces `${…}` by what it stands for: a text that is nothing else by a value of its own
/// type, any other by its text.
///
/// # Errors
///
/// The name for which there is nothing.
pub(super) fn fill_in(
    value: &Value,
    known: &impl Fn(&str) -> Option<Value>,
) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) if text == ANY || text == ABSENT => value.clone(),
        Value::String(text) => fill_in_text(text, known)?,
        Value::Array(items) => {
            let items = items.iter().map(|item| fill_in(item, known));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| {
                let key = text_of(fill_in_text(key, known)?);
                Ok((key, fill_in(value, known)?))
            });
            Value::Object(fields.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

fn fill_in_text(text: &str, known: &impl Fn(&str) -> Option<Value>) -> Result<Value, String> {
    let find = |name: &str| known(name).ok_or_else(|| name.to_owned());
    let whole = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'));
    if let Some(name) = whole.filter(|name| !name.contains('}')) {
        return find(name);
    }
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        filled += before;
        filled += &text_of(find(name)?);
        rest = after;
    }
    filled += rest;
    Ok(Value::String(filled))
}

fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known(name: &str) -> Option<Value> {
        match name {
            "alice.id" => Some(json!(7)),
            "alice.mic" => Some(json!("p-1")),
            _ => None,
        }
    }

    #[test]
    fn objects_match_by_the_fields_that_are_named() {
        let got = json!({ "a": 1, "b": { "c": [1, { "d": 2, "e": 3 }] } });
        for (expected, as_expected) in [
            (json!({}), true),
            (json!({ "a": 1.0 }), true),
            (json!({ "a": "${any}", "x": "${absent}" }), true),
            (json!({ "b": { "c": [1, { "d": 2 }] } }), true),
            (json!({ "b": { "c": [1] } }), false),
            (json!({ "b": { "c": [{ "d": 2 }, 1] } }), false),
            (json!({ "a": "${absent}" }), false),
            (json!({ "x": "${any}" }), false),
            (json!({ "a": "1" }), false),
            (json!([]), false),
        ] {
            assert_eq!(matches(&expected, Some(&got)), as_expected, "{expected}");
        }
        assert!(matches(&json!("${absent}"), None));
        assert!(!matches(&json!(1), None));
    }

    #[test]
    fn what_a_list_lacks_is_found_whatever_the_order() {
        let got = [json!({ "a": 1, "b": 1 }), json!({ "a": 2 })];
        let wanted = [json!({ "a": 2 }), json!({ "b": 1 }), json!({ "a": 3 })];
        assert_eq!(missing(&wanted, &got), [&json!({ "a": 3 })]);
    }

    #[test]
    fn names_stand_for_values_of_their_own_type() {
        let filled = fill_in(
            &json!({ "user": "${alice.id}", "at/${alice.id}": ["${alice.mic}:${alice.id}", "${any}"] }),
            &known,
        );
        assert_eq!(
            filled,
            Ok(json!({ "user": 7, "at/7": ["p-1:7", "${any}"] }))
        );
        assert_eq!(
            fill_in(&json!("${bob.id}"), &known),
            Err("bob.id".to_owned())
        );
        assert_eq!(fill_in(&json!("5 ${"), &known), Ok(json!("5 ${")));
    }
}

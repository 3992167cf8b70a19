//! What is published, held against `schemas/`. The part of JSON Schema that they use is checked
//! here; a keyword beyond that fails, so that none is only ornament.

use serde_json::Value;
use voice_room_plugin_sdk::testing::published;

const SCHEMAS: [(&str, &str); 7] = [
    ("started", include_str!("../../schemas/started.json")),
    ("paused", include_str!("../../schemas/paused.json")),
    ("resumed", include_str!("../../schemas/resumed.json")),
    ("charged", include_str!("../../schemas/charged.json")),
    ("refunded", include_str!("../../schemas/refunded.json")),
    ("stopped", include_str!("../../schemas/stopped.json")),
    ("credited", include_str!("../../schemas/credited.json")),
];

fn schema(topic: &str) -> Value {
    let name = topic.rsplit('.').next().unwrap();
    let found = SCHEMAS.iter().find(|(of, _)| *of == name);
    let (_, text) = found.unwrap_or_else(|| panic!("{topic} has no schema"));
    serde_json::from_str(text).unwrap()
}

/// Everything that has been published is as its schema says.
pub(super) fn check_published() {
    for event in published() {
        if let Err(problem) = check(&schema(&event.topic), &event.payload) {
            panic!("{}: {problem}: {}", event.topic, event.payload);
        }
    }
}

fn check(schema: &Value, value: &Value) -> Result<(), String> {
    for (keyword, wanted) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" => true,
            "type" => match wanted {
                Value::Array(types) => types.iter().any(|one| is_of(one, value)),
                one => is_of(one, value),
            },
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value
                .as_i64()
                .is_none_or(|it| it >= wanted.as_i64().unwrap()),
            "minLength" => value
                .as_str()
                .is_none_or(|it| it.chars().count() as u64 >= wanted.as_u64().unwrap()),
            "pattern" => {
                assert_eq!(wanted, "^[A-Z0-9]{1,16}$", "the one that is known here");
                let is_one = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
                let is_code = |it: &str| (1..=16).contains(&it.len()) && it.chars().all(is_one);
                value.as_str().is_none_or(is_code)
            }
            "required" => {
                let has = |name: &Value| value.get(name.as_str().unwrap()).is_some();
                value.is_null() || wanted.as_array().unwrap().iter().all(has)
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    let field = value.get(name).map(|field| check(schema, field));
                    field
                        .unwrap_or(Ok(()))
                        .map_err(|why| format!("{name}: {why}"))?;
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(wanted, false);
                let known = schema["properties"].as_object().unwrap();
                let fields = value.as_object();
                fields.is_none_or(|fields| fields.keys().all(|name| known.contains_key(name)))
            }
            other => panic!("`{other}` is not checked"),
        };
        if !holds {
            return Err(format!("`{keyword}` is {wanted}"));
        }
    }
    Ok(())
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("`{other}` is no type that is known here"),
    }
}

#[test]
fn the_check_sees_what_is_wrong() {
    let schema = schema("billing.resumed");
    let right = serde_json::json!({
        "sessionId": "p", "producerId": "p", "userId": 7, "roomId": "lobby", "source": "mic",
        "segment": 2, "startedAt": 1, "billedMs": 0, "cause": "user",
    });
    assert_eq!(check(&schema, &right), Ok(()));
    for (field, wrong) in [
        ("segment", 0.into()),
        ("userId", "7".into()),
        ("source", "video".into()),
        ("roomId", "".into()),
        ("more", true.into()),
        ("startedAt", Value::Null),
    ] {
        let mut event = right.clone();
        event[field] = wrong;
        assert!(check(&schema, &event).is_err(), "{event}");
    }
    let mut event = right;
    event.as_object_mut().unwrap().remove("cause");
    assert!(check(&schema, &event).is_err());
}

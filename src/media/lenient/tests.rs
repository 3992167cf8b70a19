//! What clients send, what they may leave out, and what must not get through.

mod arbitrary;
mod dtls;
mod receive;
mod send;
mod to_client;

use serde_json::Value;

/// One of the fixture files.
fn fixture(text: &str) -> Value {
    serde_json::from_str(text).expect("a fixture is JSON")
}

/// `json` with `value` at the JSON pointer, whose last field or item need not exist.
fn with(mut json: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer
        .rsplit_once('/')
        .expect("a pointer starts with a slash");
    match json.pointer_mut(parent).expect("the parent exists") {
        Value::Object(fields) => {
            fields.insert(field.to_owned(), value);
        }
        Value::Array(items) => match field.parse::<usize>().expect("an index") {
            index if index < items.len() => items[index] = value,
            _ => items.push(value),
        },
        other => panic!("{other} has no fields"),
    }
    json
}

/// `json` without the field at the JSON pointer.
fn without(mut json: Value, pointer: &str) -> Value {
    let (parent, field) = pointer
        .rsplit_once('/')
        .expect("a pointer starts with a slash");
    let fields = json
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .expect("an object");
    fields.remove(field).expect("the field exists");
    json
}

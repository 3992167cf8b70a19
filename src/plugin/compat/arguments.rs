//! From a call's JSON to the value of a type that a component declares.

use serde_json::Value;
use wasmtime::component::{Type, Val};

use super::Unfit;

/// The value of this type that the JSON describes. Fields are found by name; those that
/// the type lacks are left out.
///
/// Fails if the type wants what the call does not have: no version of the contract does.
pub(super) fn value(ty: &Type, json: &Value) -> Result<Val, Unfit> {
    Ok(match ty {
        Type::Bool => Val::Bool(json.as_bool().ok_or_else(|| unlike("a boolean", json))?),
        Type::U8 => Val::U8(number(json)?),
        Type::U16 => Val::U16(number(json)?),
        Type::U32 => Val::U32(number(json)?),
        Type::U64 => Val::U64(json.as_u64().ok_or_else(|| unlike("a number", json))?),
        Type::S8 => Val::S8(number(json)?),
        Type::S16 => Val::S16(number(json)?),
        Type::S32 => Val::S32(number(json)?),
        Type::S64 => Val::S64(json.as_i64().ok_or_else(|| unlike("a number", json))?),
        // JSON that travels as text is JSON in a call's JSON.
        Type::String => Val::String(match json {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
        Type::Option(some) => Val::Option(match json {
            Value::Null => None,
            json => Some(Box::new(value(&some.ty(), json)?)),
        }),
        Type::List(list) => {
            let entries = json.as_array().ok_or_else(|| unlike("a list", json))?;
            let ty = list.ty();
            Val::List(
                entries
                    .iter()
                    .map(|entry| value(&ty, entry))
                    .collect::<Result<_, _>>()?,
            )
        }
        Type::Record(record) => Val::Record(
            record
                .fields()
                .map(|field| {
                    let json = json.get(camel_case(field.name)).unwrap_or(&Value::Null);
                    let value = value(&field.ty, json)
                        .map_err(|Unfit(why)| Unfit(format!("`{}`: {why}", field.name)))?;
                    Ok((field.name.to_owned(), value))
                })
                .collect::<Result<_, Unfit>>()?,
        ),
        Type::Enum(words) => match json {
            Value::String(word) if words.names().any(|name| name == word) => {
                Val::Enum(word.clone())
            }
            json => return Err(unlike("one of its words", json)),
        },
        _ => return Err(unlike("a type of the contract", json)),
    })
}

fn number<N: TryFrom<i64>>(json: &Value) -> Result<N, Unfit> {
    let number = json.as_i64().and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| unlike("a number in its range", json))
}

fn unlike(wanted: &str, json: &Value) -> Unfit {
    let had = match json {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a record",
    };
    Unfit::new(format!("{wanted} is wanted and the call has {had}"))
}

/// A name of the contract as it is in JSON: `first-rtp-at` becomes `firstRtpAt`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('-');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;
    use wasmtime::{
        Engine,
        component::{Component, types::ComponentItem},
    };

    use super::*;

    /// A type as a component declares it.
    fn declared(ty: &str) -> Type {
        let text = format!(
            "(component
               (type $codec (record (field \"mime-type\" string) (field \"channels\" u8)))
               (import \"codec\" (type $codec-name (eq $codec)))
               (type $source (enum \"mic\" \"music\"))
               (import \"source\" (type $source-name (eq $source)))
               (import \"f\" (func (param \"it\" {ty}))))"
        );
        let engine = Engine::default();
        let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let ty = component.component_type();
        let Some(ComponentItem::ComponentFunc(func)) =
            ty.get_import(&engine, "f").map(|import| import.ty)
        else {
            panic!("a function")
        };
        func.params().next().unwrap().1
    }

    fn text(text: &str) -> Val {
        Val::String(text.to_owned())
    }

    #[rstest]
    #[case("bool", json!(true), Val::Bool(true))]
    #[case("u64", json!(u64::MAX), Val::U64(u64::MAX))]
    #[case("u32", json!(7), Val::U32(7))]
    #[case("s8", json!(-127), Val::S8(-127))]
    #[case("string", json!("x"), text("x"))]
    #[case("string", json!({"a": [1]}), text("{\"a\":[1]}"))]
    #[case("(option string)", json!(null), Val::Option(None))]
    #[case("(option u64)", json!(5), Val::Option(Some(Box::new(Val::U64(5)))))]
    #[case("(list string)", json!(["a", "b"]), Val::List(vec![text("a"), text("b")]))]
    #[case("$source-name", json!("music"), Val::Enum("music".to_owned()))]
    fn json_becomes_the_declared_type(#[case] ty: &str, #[case] json: Value, #[case] val: Val) {
        assert_eq!(value(&declared(ty), &json).unwrap(), val);
    }

    #[test]
    fn a_record_has_the_fields_that_its_type_knows() {
        let json = json!({ "channels": 2, "mimeType": "audio/opus", "added": "later" });
        let expected = Val::Record(vec![
            ("mime-type".to_owned(), text("audio/opus")),
            ("channels".to_owned(), Val::U8(2)),
        ]);
        assert_eq!(value(&declared("$codec-name"), &json).unwrap(), expected);
    }

    #[rstest]
    #[case("$codec-name", json!({ "mimeType": "x" }), "`channels`: a number in its range")]
    #[case("$codec-name", json!({ "mimeType": "x", "channels": 256 }), "`channels`")]
    #[case("$source-name", json!("screen"), "one of its words is wanted and the call has a text")]
    #[case("u64", json!(-1), "a number is wanted")]
    #[case("bool", json!(1), "a boolean is wanted and the call has a number")]
    #[case("(list u8)", json!({}), "a list is wanted and the call has a record")]
    #[case("char", json!("x"), "a type of the contract is wanted")]
    fn what_a_call_does_not_have_is_named(
        #[case] ty: &str,
        #[case] json: Value,
        #[case] expected: &str,
    ) {
        let error = value(&declared(ty), &json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn names_of_the_contract_are_camel_case_in_json() {
        assert_eq!(camel_case("first-rtp-at"), "firstRtpAt");
        assert_eq!(camel_case("at"), "at");
    }
}

//! Reading a JSON object into a typed value, naming the field at fault.
//!
//! `serde_json` says where in the text a mistake is; whoever wrote a settings file or a
//! client wants to know which field it is, also when the field is missing.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value, json, map};

/// What is wrong with a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The top-level field at fault, if one is.
    pub(crate) field: Option<String>,
    /// What is wrong, for people.
    pub(crate) problem: String,
}

impl Fault {
    pub(crate) fn to_json(&self) -> Value {
        match &self.field {
            Some(field) => json!([{ "field": field, "problem": self.problem }]),
            None => json!([{ "problem": self.problem }]),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "`{field}`: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            field: None,
            problem: message.to_string(),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            field: Some(field.to_owned()),
            problem: "is missing".to_owned(),
        }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self {
            field: Some(field.to_owned()),
            problem: "is given twice".to_owned(),
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self {
            field: Some(field.to_owned()),
            problem: format!("is unknown; known are {}", expected.join(", ")),
        }
    }
}

/// Reads a `T` from the text of a JSON object.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => T::deserialize(Fields(fields)),
        Ok(_) => Err(de::Error::custom("is not a JSON object")),
        Err(error) => Err(de::Error::custom(error)),
    }
}

struct Fields(Map<String, Value>);

impl<'de> Deserializer<'de> for Fields {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(Entries {
            rest: self.0.into_iter(),
            current: None,
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Entries {
    rest: map::IntoIter,
    current: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.current = self.rest.next();
        self.current
            .as_ref()
            .map(|(name, _)| seed.deserialize(name.clone().into_deserializer()))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((name, value)) = self.current.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(value).map_err(|error| Fault {
            field: Some(name),
            problem: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct Seat {
        seat_index: u32,
        #[serde(default)]
        reason: Option<String>,
    }

    fn fault(text: &str) -> (Option<String>, String) {
        let fault = from_json::<Seat>(text).unwrap_err();
        (fault.field, fault.problem)
    }

    #[test]
    fn a_well_formed_object_is_read_and_its_unknown_fields_are_ignored() {
        let seat: Seat = from_json(r#"{"seatIndex": 3, "roomId": "lobby"}"#).unwrap();
        assert_eq!(
            seat,
            Seat {
                seat_index: 3,
                reason: None
            }
        );
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(fault("{}"), (Some("seatIndex".into()), "is missing".into()));
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named() {
        let (field, problem) = fault(r#"{"seatIndex": "three"}"#);
        assert_eq!(field.as_deref(), Some("seatIndex"));
        assert!(problem.contains("expected u32"), "{problem}");
    }

    #[test]
    fn a_null_for_an_optional_field_is_absence() {
        assert!(
            from_json::<Seat>(r#"{"seatIndex": 1, "reason": null}"#)
                .unwrap()
                .reason
                .is_none()
        );
    }

    #[test]
    fn an_unknown_field_is_named_where_the_type_forbids_it() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Strict {
            #[serde(default, rename = "known")]
            _known: u32,
        }
        let fault = from_json::<Strict>(r#"{"knwon": 1}"#).unwrap_err();
        assert_eq!(fault.to_string(), "`knwon`: is unknown; known are known");
    }

    #[test]
    fn what_is_not_an_object_is_a_fault_without_a_field() {
        for text in ["", "[]", "null", "7", "{"] {
            assert_eq!(fault(text).0, None, "{text}");
        }
    }
}

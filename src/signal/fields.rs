//! Reads a client's JSON object field by field and remembers everything that
//! is wrong with it, so that one answer names all of it.

use serde_json::{Map, Value, json};

use crate::model::{Refusal, RoomId, UserId};

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, for example `rtpParameters.codecs[0].clockRate`.
    pub field: String,
    /// What it should be.
    pub problem: String,
}

/// A payload that cannot be understood; `INVALID_PAYLOAD` on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub Vec<Problem>);

impl Invalid {
    /// One field's problem.
    #[must_use]
    pub fn one(field: &str, problem: impl Into<String>) -> Self {
        Self(vec![Problem {
            field: field.to_owned(),
            problem: problem.into(),
        }])
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        let problems = invalid.0.into_iter();
        let details = problems.map(|one| json!({ "field": one.field, "problem": one.problem }));
        let mut refusal = Self::new("INVALID_PAYLOAD");
        refusal.details = Some(Value::Array(details.collect()));
        refusal
    }
}

/// The reader. `null` counts as absent; unknown fields are ignored.
#[derive(Debug)]
pub struct Fields {
    object: Map<String, Value>,
    problems: Vec<Problem>,
}

impl Fields {
    /// Wants a JSON object.
    ///
    /// # Errors
    /// If it is something else.
    pub fn of(payload: Value) -> Result<Self, Invalid> {
        match payload {
            Value::Object(object) => Ok(Self {
                object,
                problems: Vec::new(),
            }),
            other => Err(Invalid::one(
                "",
                format!("must be an object, is {}", kind(&other)),
            )),
        }
    }

    /// Notes a problem that the caller found.
    pub fn problem(&mut self, field: &str, problem: impl Into<String>) {
        self.problems.push(Problem {
            field: field.to_owned(),
            problem: problem.into(),
        });
    }

    /// Everything that was wrong.
    #[must_use]
    pub fn invalid(self) -> Invalid {
        Invalid(self.problems)
    }

    /// Whether nothing was wrong so far.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }

    /// Takes a field out; `None` without a problem if it is absent.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.object.remove(field).filter(|value| !value.is_null())
    }

    /// Takes a field out that must be there.
    pub fn required(&mut self, field: &str) -> Option<Value> {
        let value = self.take(field);
        if value.is_none() {
            self.problem(field, "is required");
        }
        value
    }

    /// A required string.
    pub fn text(&mut self, field: &str) -> Option<String> {
        match self.required(field)? {
            Value::String(text) => Some(text),
            other => {
                self.problem(field, format!("must be a string, is {}", kind(&other)));
                None
            }
        }
    }

    /// An optional string.
    pub fn optional_text(&mut self, field: &str) -> Option<String> {
        let value = self.take(field)?;
        self.object.insert(field.to_owned(), value);
        self.text(field)
    }

    /// A required id. Text that is no id at all names nothing, like an unknown
    /// one: `Some(None)`.
    pub fn id<T: std::str::FromStr>(&mut self, field: &str) -> Option<Option<T>> {
        self.text(field).map(|text| text.parse().ok())
    }

    /// The required `roomId` (or the face's name for it).
    pub fn room(&mut self, field: &str) -> Option<RoomId> {
        let text = self.text(field)?;
        let id = RoomId::new(&text);
        if id.is_none() {
            self.problem(
                field,
                format!("must have 1 to {} characters", RoomId::MAX_CHARS),
            );
        }
        id
    }

    /// A required user id.
    pub fn user(&mut self, field: &str) -> Option<UserId> {
        let value = self.required(field)?;
        let id = value.as_u64().map(UserId);
        if id.is_none() {
            self.problem(field, "must be an unsigned integer");
        }
        id
    }

    /// An optional boolean: absent is false.
    pub fn optional_flag(&mut self, field: &str) -> bool {
        match self.take(field) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(other) => {
                self.problem(field, format!("must be a boolean, is {}", kind(&other)));
                false
            }
        }
    }

    /// A required whole number from 0.
    pub fn count(&mut self, field: &str) -> Option<u64> {
        let count = self.required(field)?.as_u64();
        if count.is_none() {
            self.problem(field, "must be a whole number from 0");
        }
        count
    }

    /// The object that is left.
    #[must_use]
    pub fn into_object(self) -> Map<String, Value> {
        self.object
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "absent",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_named_at_once() {
        let mut fields = Fields::of(json!({ "roomId": "", "type": 7 })).unwrap();
        assert_eq!(fields.room("roomId"), None);
        assert_eq!(fields.text("type"), None);
        assert_eq!(fields.text("transportId"), None);
        let named: Vec<String> = fields
            .invalid()
            .0
            .into_iter()
            .map(|one| format!("{} {}", one.field, one.problem))
            .collect();
        assert_eq!(
            named,
            [
                "roomId must have 1 to 128 characters",
                "type must be a string, is a number",
                "transportId is required",
            ]
        );
    }

    #[test]
    fn null_is_absent_and_the_unknown_is_ignored() {
        let mut fields = Fields::of(json!({ "source": null, "x": [1] })).unwrap();
        assert_eq!(fields.optional_text("source"), None);
        assert!(fields.is_valid());
    }

    #[test]
    fn text_that_is_no_id_is_an_unknown_id() {
        let mut fields = Fields::of(json!({ "id": "nonsense" })).unwrap();
        assert_eq!(fields.id::<crate::model::ProducerId>("id"), Some(None));
        assert!(fields.is_valid());
    }

    #[test]
    fn flags_may_be_absent_and_counts_may_not() {
        let payload = json!({ "yes": true, "odd": 1, "three": 3, "half": 0.5, "less": -1 });
        let mut fields = Fields::of(payload).unwrap();
        assert!(fields.optional_flag("yes") && !fields.optional_flag("absent"));
        assert_eq!(fields.count("three"), Some(3));
        assert!(fields.is_valid());
        assert!(!fields.optional_flag("odd"));
        for field in ["half", "less", "absent"] {
            assert_eq!(fields.count(field), None);
        }
        let named: Vec<String> = fields
            .invalid()
            .0
            .into_iter()
            .map(|one| one.field)
            .collect();
        assert_eq!(named, ["odd", "half", "less", "absent"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for payload in [json!(null), json!([]), json!("x"), json!(1)] {
            assert!(Fields::of(payload).is_err());
        }
    }
}

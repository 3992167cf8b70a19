//! What a call asks of the server, written down where somebody wants to know.
//!
//! [`Traced`] is the only way by which a guest reaches the server. Where nobody wants to know,
//! it costs one comparison.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use wasmtime::component::HasData;

use super::{
    host::{
        State,
        wit::voice_room::plugin::{events, key_value, log, metrics, settings, timers, types},
    },
    record::ImportCall,
};

/// Import calls of one call that are kept.
const CALLS: usize = 1000;

/// Their size together, in bytes of JSON, about.
const BYTES: usize = 1 << 20;

/// The import calls of one call, in order.
#[derive(Debug, Default)]
pub(super) struct Trace {
    calls: Vec<ImportCall>,
    bytes: usize,
    truncated: bool,
}

impl Trace {
    fn add(&mut self, call: ImportCall) {
        self.bytes += call.arguments.iter().map(weight).sum::<usize>() + weight(&call.answer);
        self.truncated = self.calls.len() >= CALLS || self.bytes > BYTES;
        if !self.truncated {
            self.calls.push(call);
        }
    }

    /// The calls, and whether there were more.
    pub(super) fn into_calls(self) -> (Vec<ImportCall>, bool) {
        (self.calls, self.truncated)
    }
}

/// About how many bytes of JSON text a value has.
pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 3,
        Value::Array(items) => 2 + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| name.len() + 4 + weight(value))
            .sum::<usize>(),
    }
}

/// Bytes as JSON: UTF-8 as its text, other bytes as `{"base64": "…"}`.
pub(super) fn bytes_to_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// The reverse of [`bytes_to_json`].
pub(super) fn bytes_from_json(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Object(_) => BASE64.decode(value.get("base64")?.as_str()?).ok(),
        _ => None,
    }
}

/// Arguments and answers of imports as JSON.
trait Told {
    fn told(&self) -> Value;
}

macro_rules! told_as_they_are {
    ($($type:ty),*) => {
        $(impl Told for $type {
            fn told(&self) -> Value {
                json!(self)
            }
        })*
    };
}

told_as_they_are!((), bool, i64, u64, u32, String, Vec<String>);

impl Told for Vec<u8> {
    fn told(&self) -> Value {
        bytes_to_json(self)
    }
}

impl<T: Told> Told for Option<T> {
    fn told(&self) -> Value {
        self.as_ref().map_or(Value::Null, Told::told)
    }
}

impl<T: Told, E: Told> Told for Result<T, E> {
    fn told(&self) -> Value {
        match self {
            Ok(value) => json!({ "ok": value.told() }),
            Err(error) => json!({ "error": error.told() }),
        }
    }
}

impl Told for log::Level {
    fn told(&self) -> Value {
        let name = match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        };
        name.into()
    }
}

impl Told for key_value::Error {
    fn told(&self) -> Value {
        match self {
            Self::InvalidKey(limit) => json!({ "invalid-key": limit }),
            Self::ValueTooLarge(limit) => json!({ "value-too-large": limit }),
            Self::QuotaExceeded(sentence) => json!({ "quota-exceeded": sentence }),
        }
    }
}

impl Told for key_value::IncrementError {
    fn told(&self) -> Value {
        match self {
            Self::Storage(error) => error.told(),
            Self::NotANumber => "not-a-number".into(),
            Self::Overflow => "overflow".into(),
        }
    }
}

impl Told for timers::Error {
    fn told(&self) -> Value {
        match self {
            Self::InvalidKey(limit) => json!({ "invalid-key": limit }),
            Self::InvalidDelay(sentence) => json!({ "invalid-delay": sentence }),
            Self::NoRoom => "no-room".into(),
            Self::QuotaExceeded(sentence) => json!({ "quota-exceeded": sentence }),
        }
    }
}

impl Told for events::Error {
    fn told(&self) -> Value {
        match self {
            Self::InvalidTopic => "invalid-topic".into(),
            Self::InvalidPayload(sentence) => json!({ "invalid-payload": sentence }),
            Self::QuotaExceeded(limit) => json!({ "quota-exceeded": limit }),
            Self::NotGranted => "not-granted".into(),
        }
    }
}

/// The server's side of a guest's imports: the state, and what is asked of it written down.
pub(super) struct Traced<'a>(&'a mut State);

/// Says to a linker that imports are answered by [`Traced`].
pub(super) struct HasTraced;

impl HasData for HasTraced {
    type Data<'a> = Traced<'a>;
}

/// The server's side of a guest's imports.
pub(super) fn traced(state: &mut State) -> Traced<'_> {
    Traced(state)
}

impl Traced<'_> {
    /// Whether the next import call is to be written down.
    fn wanted(&self) -> bool {
        let trace = self.0.call.trace.as_ref();
        trace.is_some_and(|trace| !trace.truncated)
    }

    fn add(&mut self, function: &'static str, arguments: Vec<Value>, answer: Value) {
        if let Some(trace) = &mut self.0.call.trace {
            let function = function.into();
            trace.add(ImportCall {
                function,
                arguments,
                answer,
            });
        }
    }
}

/// Makes a call of the state, and writes it down.
macro_rules! traced {
    ($it:ident, $function:expr, [$($argument:expr),*], $interface:ident.$method:ident) => {{
        $it.0.call.used_store |= matches!(stringify!($interface), "key_value" | "timers" | "events");
        let arguments = $it.wanted().then(|| vec![$($argument.told()),*]);
        let answer = $interface::Host::$method($it.0, $($argument),*);
        if let Some(arguments) = arguments {
            $it.add($function, arguments, answer.told());
        }
        answer
    }};
}

impl types::Host for Traced<'_> {}

impl log::Host for Traced<'_> {
    fn write(&mut self, level: log::Level, message: String) {
        traced!(self, "log.write", [level, message], log.write);
    }
}

impl settings::Host for Traced<'_> {
    fn get(&mut self) -> String {
        traced!(self, "settings.get", [], settings.get)
    }
}

impl key_value::Host for Traced<'_> {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, key_value::Error> {
        traced!(self, "key-value.get", [key], key_value.get)
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), key_value::Error> {
        traced!(self, "key-value.set", [key, value], key_value.set)
    }

    fn delete(&mut self, key: String) -> Result<(), key_value::Error> {
        traced!(self, "key-value.delete", [key], key_value.delete)
    }

    fn list(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<String>, key_value::Error> {
        traced!(
            self,
            "key-value.list",
            [prefix, after, limit],
            key_value.list
        )
    }

    fn set_expiring(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: u64,
    ) -> Result<(), key_value::Error> {
        let name = "key-value.set-expiring";
        traced!(self, name, [key, value, ttl_ms], key_value.set_expiring)
    }

    fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
    ) -> Result<bool, key_value::Error> {
        let name = "key-value.compare-and-set";
        traced!(
            self,
            name,
            [key, expected, value],
            key_value.compare_and_set
        )
    }

    fn increment(&mut self, key: String, by: i64) -> Result<i64, key_value::IncrementError> {
        traced!(self, "key-value.increment", [key, by], key_value.increment)
    }
}

impl timers::Host for Traced<'_> {
    fn set(
        &mut self,
        key: String,
        after_ms: u64,
        every_ms: Option<u64>,
    ) -> Result<(), timers::Error> {
        traced!(self, "timers.set", [key, after_ms, every_ms], timers.set)
    }

    fn cancel(&mut self, key: String) -> Result<(), timers::Error> {
        traced!(self, "timers.cancel", [key], timers.cancel)
    }
}

impl events::Host for Traced<'_> {
    fn publish(&mut self, topic: String, payload: String) -> Result<(), events::Error> {
        traced!(self, "events.publish", [topic, payload], events.publish)
    }
}

impl metrics::Host for Traced<'_> {
    fn increment(&mut self, name: String, by: u64) {
        traced!(self, "metrics.increment", [name, by], metrics.increment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_json_whatever_they_are() {
        for bytes in [
            &b"text"[..],
            b"",
            b"\xff\x00",
            "{\"base64\":\"\"}".as_bytes(),
        ] {
            let json = bytes_to_json(bytes);
            assert_eq!(bytes_from_json(&json).as_deref(), Some(bytes), "{json}");
        }
        assert_eq!(bytes_to_json(b"text"), json!("text"));
        assert_eq!(bytes_from_json(&json!(7)), None);
        assert_eq!(bytes_from_json(&json!({ "base64": "?" })), None);
    }

    #[test]
    fn a_trace_keeps_the_first_calls_and_says_that_there_were_more() {
        let call = |argument: String| ImportCall {
            function: "key-value.get".into(),
            arguments: vec![argument.into()],
            answer: json!({ "ok": null }),
        };
        let mut many = Trace::default();
        for _ in 0..=CALLS {
            many.add(call("key".to_owned()));
        }
        let (calls, truncated) = many.into_calls();
        assert_eq!((calls.len(), truncated), (CALLS, true));

        let mut large = Trace::default();
        large.add(call("x".repeat(BYTES / 2)));
        large.add(call("x".repeat(BYTES)));
        let (calls, truncated) = large.into_calls();
        assert_eq!((calls.len(), truncated), (1, true));
    }
}

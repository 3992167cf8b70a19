//! What a recording shows of a plugin's keys: what was there at the beginning, and what
//! changed without the recording knowing why (another instance at the same time, lost lines,
//! an expiry).

use std::{collections::BTreeMap, ops::Bound};

use serde_json::Value;

use crate::plugin::{record::ImportCall, trace::bytes_from_json};

/// A key's new value before a call; `None` deletes it.
pub(super) type Correction = (String, Option<Vec<u8>>);

/// The keys as the recorded calls have left them, as far as they show it.
#[derive(Default)]
pub(super) struct Keys {
    known: BTreeMap<String, Known>,
    /// What was there before the first call.
    seeds: BTreeMap<String, Vec<u8>>,
    /// What one call has written, until it is known whether that took effect.
    written: BTreeMap<String, Known>,
    corrections: Vec<Correction>,
    corrected: u64,
}

#[derive(Clone)]
struct Known {
    value: Held,
    /// When it expires.
    until: Option<u64>,
    /// Nobody has changed it since the beginning.
    original: bool,
}

#[derive(Clone, PartialEq)]
enum Held {
    Nothing,
    Value(Vec<u8>),
    /// It is there; nobody has read it yet.
    Something,
}

impl From<Option<Vec<u8>>> for Held {
    fn from(value: Option<Vec<u8>>) -> Self {
        value.map_or(Self::Nothing, Self::Value)
    }
}

/// What stands for a value that nobody has read.
const UNREAD: &[u8] = b"";

impl Keys {
    /// Learns from one call. What is to be changed before it so that it finds what it found
    /// in the recording.
    pub(super) fn learn(
        &mut self,
        now: u64,
        imports: &[ImportCall],
        took_effect: bool,
    ) -> Vec<Correction> {
        self.written.clear();
        for import in imports {
            // What is not as the contract has it teaches nothing.
            self.import(now, import).unwrap_or_default();
        }
        let written = std::mem::take(&mut self.written);
        if took_effect {
            self.known.extend(written);
        }
        std::mem::take(&mut self.corrections)
    }

    /// What was there before the first call.
    pub(super) fn into_seeds(self) -> Vec<(String, Vec<u8>)> {
        self.seeds.into_iter().collect()
    }

    /// Changes that the recording does not explain.
    pub(super) fn corrected(&self) -> u64 {
        self.corrected
    }

    fn import(&mut self, now: u64, import: &ImportCall) -> Option<()> {
        let name = import.function.strip_prefix("key-value.")?;
        let argument = |place: usize| import.arguments.get(place);
        let key = argument(0)?.as_str()?.to_owned();
        let bytes = |value: &Value| match value {
            Value::Null => Some(None),
            value => bytes_from_json(value).map(Some),
        };
        let Some(answer) = import.answer.get("ok") else {
            if import.answer.get("error")? == "not-a-number" {
                self.find(now, &key, Held::Something);
            }
            return Some(());
        };
        match name {
            "get" => self.find(now, &key, bytes(answer)?.into()),
            "list" => {
                let after = argument(1)?.as_str();
                let limit = usize::try_from(argument(2)?.as_u64()?).ok()?;
                let listed: Vec<String> = serde_json::from_value(answer.clone()).ok()?;
                self.find_listed(now, &key, after, limit, &listed);
            }
            "set" => self.write(key, bytes(argument(1)?)?.into(), None),
            "set-expiring" => {
                let until = now.saturating_add(argument(2)?.as_u64()?);
                self.write(key, bytes(argument(1)?)?.into(), Some(until));
            }
            "delete" => self.write(key, Held::Nothing, None),
            "compare-and-set" => {
                let expected = Held::from(bytes(argument(1)?)?);
                if answer.as_bool()? {
                    self.find(now, &key, expected);
                    self.write(key, bytes(argument(2)?)?.into(), None);
                } else {
                    self.find_other(now, &key, &expected);
                }
            }
            "increment" => {
                let (by, sum) = (argument(1)?.as_i64()?, answer.as_i64()?);
                let until = self.seen(now, &key).and_then(|known| known.until);
                let before = sum.checked_sub(by)?;
                // Nothing counts as 0.
                if before != 0 || self.number(now, &key) != Some(0) {
                    self.find(now, &key, Held::Value(before.to_string().into_bytes()));
                }
                self.write(key, Held::Value(sum.to_string().into_bytes()), until);
            }
            _ => {}
        }
        Some(())
    }

    /// The key as the call sees it; `None` if nothing is known of it.
    fn seen(&self, now: u64, key: &str) -> Option<Known> {
        let known = self.written.get(key).or_else(|| self.known.get(key))?;
        let mut known = known.clone();
        if known.until.is_some_and(|until| until <= now) {
            (known.value, known.until) = (Held::Nothing, None);
        }
        Some(known)
    }

    fn number(&self, now: u64, key: &str) -> Option<i64> {
        match self.seen(now, key).map(|known| known.value) {
            None | Some(Held::Nothing) => Some(0),
            Some(Held::Value(text)) => std::str::from_utf8(&text).ok()?.parse().ok(),
            Some(Held::Something) => None,
        }
    }

    fn write(&mut self, key: String, value: Held, until: Option<u64>) {
        let known = Known {
            value,
            until,
            original: false,
        };
        self.written.insert(key, known);
    }

    /// The call has found this.
    fn find(&mut self, now: u64, key: &str, found: Held) {
        if self.written.contains_key(key) {
            return;
        }
        let before = self.seen(now, key);
        let original = match &before {
            None => true,
            Some(known) if known.value == found => return,
            Some(known) if known.value == Held::Something && found != Held::Nothing => {
                known.original
            }
            Some(known) if known.value != Held::Nothing && found == Held::Something => return,
            Some(_) => false,
        };
        let value = match &found {
            Held::Nothing => None,
            Held::Value(value) => Some(value.clone()),
            Held::Something => Some(UNREAD.to_vec()),
        };
        if original {
            if let Some(value) = value {
                self.seeds.insert(key.to_owned(), value);
            }
        } else {
            self.corrected += 1;
            self.corrections.push((key.to_owned(), value));
        }
        let known = Known {
            value: found,
            until: None,
            original,
        };
        self.known.insert(key.to_owned(), known);
    }

    /// The call has found something else than this.
    fn find_other(&mut self, now: u64, key: &str, not: &Held) {
        let seen = self.seen(now, key).map(|known| known.value);
        match not {
            Held::Nothing if matches!(seen, None | Some(Held::Nothing)) => {
                self.find(now, key, Held::Something);
            }
            not if seen.as_ref() == Some(not) => self.find(now, key, Held::Nothing),
            _ => {}
        }
    }

    fn find_listed(
        &mut self,
        now: u64,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        listed: &[String],
    ) {
        for key in listed {
            self.find(now, key, Held::Something);
        }
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let end = match listed.last() {
            Some(last) if listed.len() >= limit => Bound::Included(last.as_str()),
            None if limit == 0 => return,
            _ => Bound::Unbounded,
        };
        let in_range = self
            .known
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take_while(|(key, _)| match end {
                Bound::Included(last) => key.as_str() <= last,
                _ => true,
            });
        let gone: Vec<String> = in_range
            .map(|(key, _)| key)
            .filter(|key| listed.binary_search(key).is_err())
            .cloned()
            .collect();
        for key in gone {
            self.find(now, &key, Held::Nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn import(function: &str, arguments: &Value, answer: &Value) -> ImportCall {
        ImportCall {
            function: format!("key-value.{function}").into(),
            arguments: arguments.as_array().unwrap().clone(),
            answer: json!({ "ok": answer }),
        }
    }

    fn correction(key: &str, value: Option<&str>) -> Correction {
        (key.to_owned(), value.map(|value| value.as_bytes().to_vec()))
    }

    fn seeds(keys: Keys) -> Vec<(String, String)> {
        let text = |(key, value)| (key, String::from_utf8(value).unwrap());
        keys.into_seeds().into_iter().map(text).collect()
    }

    #[test]
    fn what_is_read_before_it_is_written_was_there() {
        let mut keys = Keys::default();
        let calls = [
            import("get", &json!(["a"]), &json!("1")),
            import("set", &json!(["b", "2"]), &json!(null)),
            import("get", &json!(["b"]), &json!("2")),
            import("get", &json!(["c"]), &json!(null)),
        ];
        assert!(keys.learn(0, &calls, true).is_empty());
        let later = [import("get", &json!(["b"]), &json!("2"))];
        assert!(keys.learn(1, &later, true).is_empty());
        assert_eq!(seeds(keys), [("a".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn what_took_no_effect_was_not_written() {
        let mut keys = Keys::default();
        keys.learn(0, &[import("set", &json!(["a", "1"]), &json!(null))], false);
        let read = [import("get", &json!(["a"]), &json!(null))];
        assert!(keys.learn(1, &read, true).is_empty());
    }

    #[test]
    fn a_change_that_nothing_explains_is_made_up_for() {
        let mut keys = Keys::default();
        let read = |value: Value| [import("get", &json!(["a"]), &value)];
        keys.learn(0, &read(json!("1")), true);
        assert_eq!(
            keys.learn(1, &read(json!("2")), true),
            [correction("a", Some("2"))]
        );
        assert!(keys.learn(2, &read(json!("2")), true).is_empty());
        assert_eq!(
            keys.learn(3, &read(json!(null)), true),
            [correction("a", None)]
        );
        assert_eq!(keys.corrected(), 2);
        assert_eq!(seeds(keys), [("a".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn an_expiry_explains_that_a_key_is_gone() {
        let mut keys = Keys::default();
        let set = import("set-expiring", &json!(["a", "1", 10]), &json!(null));
        keys.learn(0, &[set], true);
        let read = |value: Value| [import("get", &json!(["a"]), &value)];
        assert!(keys.learn(9, &read(json!("1")), true).is_empty());
        assert!(keys.learn(10, &read(json!(null)), true).is_empty());
    }

    #[test]
    fn a_listing_shows_keys_and_that_others_are_gone() {
        let mut keys = Keys::default();
        let list = |limit: u32, found: Value| [import("list", &json!(["k/", null, limit]), &found)];
        keys.learn(0, &list(9, json!(["k/1", "k/2", "k/3"])), true);
        keys.learn(1, &[import("get", &json!(["k/2"]), &json!("two"))], true);
        // As many as were asked for: nothing is said of those behind.
        assert!(
            keys.learn(2, &list(2, json!(["k/1", "k/2"])), true)
                .is_empty()
        );
        assert_eq!(
            keys.learn(3, &list(9, json!(["k/1", "k/3"])), true),
            [correction("k/2", None)]
        );
        let expected = [("k/1", ""), ("k/2", "two"), ("k/3", "")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(seeds(keys), expected);
    }

    #[test]
    fn sums_and_comparisons_show_what_was_there() {
        let mut keys = Keys::default();
        let calls = [
            import("increment", &json!(["n", 2]), &json!(7)),
            import("increment", &json!(["n", 1]), &json!(8)),
            import("increment", &json!(["new", 3]), &json!(3)),
            import("compare-and-set", &json!(["c", "old", "new"]), &json!(true)),
            import(
                "compare-and-set",
                &json!(["there", null, "x"]),
                &json!(false),
            ),
        ];
        assert!(keys.learn(0, &calls, true).is_empty());
        let read = [
            import("get", &json!(["n"]), &json!("8")),
            import("get", &json!(["c"]), &json!("new")),
            import("get", &json!(["new"]), &json!("3")),
        ];
        assert!(keys.learn(1, &read, true).is_empty());
        let expected = [("c", "old"), ("n", "5"), ("there", "")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(seeds(keys), expected);
    }
}

//! The plugin's settings: what is billed, and at what price.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use voice_room_plugin_sdk::{InitError, Source};

/// The highest price of a unit: far from where sums would not fit.
const HIGHEST_PRICE: i64 = 1_000_000_000;

/// The longest unit: a day.
const LONGEST_UNIT: u32 = 86_400;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Configuration {
    pub(crate) sources: Vec<Source>,
    pub(crate) topic_prefix: String,
    pub(crate) manager_roles: Vec<String>,
    pub(crate) tariffs: Vec<Tariff>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            sources: vec![Source::Mic],
            topic_prefix: "billing".to_owned(),
            manager_roles: ["admin", "billing"].map(str::to_owned).to_vec(),
            tariffs: Vec::new(),
        }
    }
}

/// What a unit of time costs in some rooms.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tariff {
    /// In this room; goes before every prefix.
    room: Option<String>,
    /// In rooms whose id begins so; the longest goes before the others.
    prefix: Option<String>,
    currency: String,
    unit_price: i64,
    #[serde(default = "minute")]
    unit_seconds: u32,
    #[serde(default = "yes")]
    prepaid: bool,
    #[serde(default = "three")]
    low_units: u32,
    #[serde(default)]
    when_spent: WhenSpent,
}

/// What happens to whom whose balance does not cover another unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WhenSpent {
    /// The producer ends.
    #[default]
    Close,
    /// The user leaves the room.
    Kick,
}

/// A tariff as a session keeps it: what was agreed when it began holds to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) currency: String,
    /// In the currency's smallest unit.
    pub(crate) unit_price: i64,
    pub(crate) unit_ms: u64,
    /// Whether it is paid from a balance.
    pub(crate) prepaid: bool,
    pub(crate) low_units: u32,
    pub(crate) when_spent: WhenSpent,
}

impl Terms {
    /// Whether a balance covers another unit; where none is kept, it does.
    pub(crate) fn is_covered_by(&self, balance: i64) -> bool {
        !self.prepaid || balance >= self.unit_price
    }
}

fn minute() -> u32 {
    60
}

fn yes() -> bool {
    true
}

fn three() -> u32 {
    3
}

impl Configuration {
    /// What no type says.
    pub(crate) fn check(&self) -> Result<(), InitError> {
        let prefix = &self.topic_prefix;
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        if prefix.is_empty() || prefix.len() > 100 || !prefix.chars().all(allowed) {
            let problem = "is not 1 to 100 characters of `a-z 0-9 . _ -`";
            return Err(InitError::setting("topic_prefix", problem));
        }
        let mut places = BTreeSet::new();
        for (number, tariff) in self.tariffs.iter().enumerate() {
            let wrong = |key: &str, problem: &str| {
                Err(InitError::setting(
                    &format!("tariffs[{number}].{key}"),
                    problem,
                ))
            };
            if tariff.room.is_some() && tariff.prefix.is_some() {
                return wrong(
                    "prefix",
                    "cannot be beside `room`: a tariff has one of them",
                );
            }
            if !places.insert((&tariff.room, &tariff.prefix)) {
                return wrong("room", "and `prefix` are those of a tariff before it");
            }
            let currency = tariff.currency.as_bytes();
            let is_code = |one: &u8| one.is_ascii_uppercase() || one.is_ascii_digit();
            if currency.is_empty() || currency.len() > 16 || !currency.iter().all(is_code) {
                return wrong("currency", "is not 1 to 16 characters of `A-Z 0-9`");
            }
            if !(1..=HIGHEST_PRICE).contains(&tariff.unit_price) {
                return wrong("unit_price", "is not from 1 to 1000000000");
            }
            if !(1..=LONGEST_UNIT).contains(&tariff.unit_seconds) {
                return wrong("unit_seconds", "is not from 1 to 86400");
            }
        }
        Ok(())
    }

    /// What time costs in a room, if it costs anything.
    pub(crate) fn terms(&self, room_id: &str) -> Option<Terms> {
        let rank = |tariff: &&Tariff| match (&tariff.room, &tariff.prefix) {
            (Some(room), _) if room == room_id => Some(usize::MAX),
            (None, Some(prefix)) if room_id.starts_with(prefix.as_str()) => Some(prefix.len() + 1),
            (None, None) => Some(0),
            _ => None,
        };
        let ranked = self.tariffs.iter().filter(|one| rank(one).is_some());
        let tariff = ranked.max_by_key(rank)?;
        Some(Terms {
            currency: tariff.currency.clone(),
            unit_price: tariff.unit_price,
            unit_ms: u64::from(tariff.unit_seconds) * 1_000,
            prepaid: tariff.prepaid,
            low_units: tariff.low_units,
            when_spent: tariff.when_spent,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(tariffs: Value) -> Configuration {
        serde_json::from_value(json!({ "tariffs": tariffs })).unwrap()
    }

    #[test]
    fn the_nearest_tariff_holds() {
        let configuration = read(json!([
            { "currency": "EUR", "unit_price": 1 },
            { "prefix": "call-", "currency": "EUR", "unit_price": 2 },
            { "prefix": "call-vip-", "currency": "EUR", "unit_price": 3, "unit_seconds": 1 },
            { "room": "call-vip-7", "currency": "USD", "unit_price": 4, "prepaid": false },
        ]));
        configuration.check().unwrap();
        let price = |room: &str| configuration.terms(room).unwrap().unit_price;
        assert_eq!(price("lobby"), 1);
        assert_eq!(price("call-1"), 2);
        assert_eq!(price("call-vip-1"), 3);
        assert_eq!(price("call-vip-7"), 4);
        let terms = configuration.terms("call-1").unwrap();
        assert_eq!((terms.unit_ms, terms.prepaid), (60_000, true));
        assert_eq!((terms.low_units, terms.when_spent), (3, WhenSpent::Close));
    }

    #[test]
    fn a_room_without_a_tariff_costs_nothing() {
        let tariff = json!([{ "prefix": "call-", "currency": "EUR", "unit_price": 2 }]);
        assert_eq!(read(tariff).terms("lobby"), None);
        assert_eq!(Configuration::default().terms("lobby"), None);
    }

    #[test]
    fn a_tariff_that_cannot_be_is_named() {
        let error = |tariff: Value| {
            let good = json!({ "currency": "EUR", "unit_price": 1 });
            let tariffs = read(json!([good, tariff]));
            tariffs.check().unwrap_err().to_string()
        };
        for (tariff, key) in [
            (json!({ "currency": "eur", "unit_price": 1 }), "currency"),
            (
                json!({ "room": "a", "currency": "EUR", "unit_price": 0 }),
                "unit_price",
            ),
            (
                json!({ "room": "a", "currency": "EUR", "unit_price": 1, "unit_seconds": 0 }),
                "unit_seconds",
            ),
            (
                json!({ "room": "a", "prefix": "a", "currency": "EUR", "unit_price": 1 }),
                "prefix",
            ),
            (json!({ "currency": "EUR", "unit_price": 2 }), "room"),
        ] {
            let error = error(tariff);
            if key == "currency" {
                // Its place is taken too, and told first.
                assert!(error.contains("tariffs[1]"), "{error}");
            } else {
                assert!(error.contains(&format!("`tariffs[1].{key}`")), "{error}");
            }
        }
    }
}

//! Times as people write them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use toml::value::{Datetime, Offset};

use crate::model::UnixMs;

/// A time as people write it: `90s`, or a number of milliseconds.
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a time is a text such as \"90s\", or milliseconds"
        )]
        enum Either {
            Millis(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Millis(millis) => Ok(Self(Duration::from_millis(millis))),
            Either::Text(text) => span(&text).map(Self).ok_or_else(|| {
                let problem = format!("{text:?} is no time: a number and ms, s, m, h or d");
                de::Error::custom(problem)
            }),
        }
    }
}

pub(super) fn span(text: &str) -> Option<Duration> {
    let digits = text.find(|one: char| !one.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let millis: u64 = match unit.trim_start() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let millis = number.parse::<u64>().ok()?.checked_mul(millis)?;
    Some(Duration::from_millis(millis))
}

/// A date and time with an offset, such as `2030-01-01T12:00:00Z`.
pub(super) fn unix_ms(written: &Datetime) -> Result<UnixMs, String> {
    let problem = || {
        format!(
            "`start` is a date and time of 1970 or later, such as 2030-01-01T12:00:00Z, not {written}"
        )
    };
    let (Some(date), Some(time), Some(offset)) = (written.date, written.time, written.offset)
    else {
        return Err(problem());
    };
    let minutes_ahead = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(date.year.into(), date.month.into(), date.day.into());
    let minutes = i64::from(time.hour) * 60 + i64::from(time.minute) - minutes_ahead;
    let seconds = days * 86_400 + minutes * 60 + i64::from(time.second.unwrap_or(0));
    let millis = seconds * 1000 + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    u64::try_from(millis).map(UnixMs).map_err(|_| problem())
}

/// In the Gregorian calendar. Counts from 1 March, so that leap days come last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 3 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

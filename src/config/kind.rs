//! What a key's value may be: how it is read, shown and described.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use toml::{Table, Value};

type Parse<T> = dyn Fn(&Value) -> Option<T>;

/// A type of value.
pub(super) struct Kind<T> {
    /// Completes "must be …".
    pub(super) allowed: String,
    /// Its values are shown nowhere.
    pub(super) secret: bool,
    /// Wrong values are not shown: they may be or hold a secret.
    pub(super) discreet: bool,
    /// How an environment variable or a flag spells it.
    spelling: Spelling,
    parse: Box<Parse<T>>,
    show: Box<dyn Fn(&T) -> Value>,
}

#[derive(Clone, Copy)]
enum Spelling {
    /// The text is the value.
    Text,
    /// Items between commas, or a TOML array.
    Items,
    /// As in the file.
    Toml,
}

impl<T: 'static> Kind<T> {
    /// A value that is a text in the file.
    pub(super) fn text(
        allowed: impl Into<String>,
        parse: impl Fn(&str) -> Option<T> + 'static,
        show: fn(&T) -> Value,
    ) -> Self {
        Self {
            allowed: allowed.into(),
            secret: false,
            discreet: false,
            spelling: Spelling::Text,
            parse: Box::new(move |value| value.as_str().and_then(&parse)),
            show: Box::new(show),
        }
    }

    /// The same, never shown.
    pub(super) fn secret(self) -> Self {
        Self {
            secret: true,
            discreet: true,
            ..self
        }
    }

    /// The same, not shown where it is wrong.
    pub(super) fn discreet(self) -> Self {
        Self {
            discreet: true,
            ..self
        }
    }

    /// The value, if it is one of this kind.
    pub(super) fn parse(&self, value: &Value) -> Option<T> {
        (self.parse)(value)
    }

    /// What an environment variable or a flag says, as the file would have it.
    pub(super) fn spelled(&self, text: &str) -> Value {
        let plain = || Value::String(text.to_owned());
        match self.spelling {
            Spelling::Text => plain(),
            Spelling::Toml => text.parse().unwrap_or_else(|_| plain()),
            Spelling::Items => match text.parse() {
                Ok(array @ Value::Array(_)) => array,
                _ => text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(Value::from)
                    .collect::<Vec<_>>()
                    .into(),
            },
        }
    }

    /// The value as the file would have it; `***` for a secret.
    pub(super) fn show(&self, value: &T) -> Value {
        if self.secret {
            Value::from("***")
        } else {
            (self.show)(value)
        }
    }
}

/// Any text but an empty one.
pub(super) fn non_empty() -> Kind<String> {
    Kind::text(
        "a text that is not empty",
        |text| (!text.trim().is_empty()).then(|| text.to_owned()),
        |text| Value::from(text.as_str()),
    )
}

/// A path.
pub(super) fn path() -> Kind<PathBuf> {
    Kind::text(
        "a path",
        |text| (!text.is_empty()).then(|| PathBuf::from(text)),
        |path| Value::from(path.to_string_lossy().as_ref()),
    )
}

/// Texts that each pass a test.
pub(super) fn texts(allowed: &str, valid: impl Fn(&str) -> bool + 'static) -> Kind<Vec<String>> {
    Kind {
        allowed: allowed.to_owned(),
        secret: false,
        discreet: false,
        spelling: Spelling::Items,
        parse: Box::new(move |value| {
            let item = |item: &Value| item.as_str().filter(|item| valid(item)).map(str::to_owned);
            value.as_array()?.iter().map(item).collect()
        }),
        show: Box::new(|items| Value::from(items.clone())),
    }
}

/// A table that is read as a whole.
pub(super) fn table<T: 'static>(
    allowed: &str,
    parse: impl Fn(&Table) -> Option<T> + 'static,
    show: fn(&T) -> Table,
) -> Kind<T> {
    Kind {
        allowed: allowed.to_owned(),
        secret: false,
        discreet: false,
        spelling: Spelling::Toml,
        parse: Box::new(move |value| parse(value.as_table()?)),
        show: Box::new(move |value| Value::Table(show(value))),
    }
}

/// `true` or `false`.
pub(super) fn boolean() -> Kind<bool> {
    Kind {
        allowed: "true or false".to_owned(),
        secret: false,
        discreet: false,
        spelling: Spelling::Toml,
        parse: Box::new(Value::as_bool),
        show: Box::new(|value| Value::from(*value)),
    }
}

/// A whole number within bounds.
pub(super) fn whole<T>(range: RangeInclusive<T>) -> Kind<T>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display + Copy + 'static,
    i64: TryFrom<T>,
{
    Kind {
        allowed: format!("a whole number from {} to {}", range.start(), range.end()),
        secret: false,
        discreet: false,
        spelling: Spelling::Toml,
        parse: Box::new(move |value| {
            let number = T::try_from(value.as_integer()?).ok()?;
            range.contains(&number).then_some(number)
        }),
        show: Box::new(|number| Value::from(i64::try_from(*number).unwrap_or(i64::MAX))),
    }
}

/// A number of milliseconds within bounds.
pub(super) fn millis(range: RangeInclusive<u32>) -> Kind<Duration> {
    duration(
        range,
        |n| Duration::from_millis(n.into()),
        |duration| Value::from(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
    )
}

/// A number of seconds within bounds.
pub(super) fn seconds(range: RangeInclusive<u32>) -> Kind<Duration> {
    duration(
        range,
        |n| Duration::from_secs(n.into()),
        |duration| Value::from(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)),
    )
}

fn duration(
    range: RangeInclusive<u32>,
    from: fn(u32) -> Duration,
    show: fn(&Duration) -> Value,
) -> Kind<Duration> {
    let number = whole(range);
    Kind {
        allowed: number.allowed.clone(),
        secret: false,
        discreet: false,
        spelling: Spelling::Toml,
        parse: Box::new(move |value| number.parse(value).map(from)),
        show: Box::new(show),
    }
}

/// One of a few words.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every choice and its word.
    const WORDS: &'static [(&'static str, Self)];
}

/// One of a few words.
pub(super) fn choice<T: Choice>() -> Kind<T> {
    let words: Vec<_> = T::WORDS
        .iter()
        .map(|(word, _)| format!("{word:?}"))
        .collect();
    Kind::text(
        words.join(" or "),
        |text| {
            let found = T::WORDS.iter().find(|(word, _)| *word == text)?;
            Some(found.1)
        },
        |value| {
            let word = T::WORDS.iter().find(|(_, choice)| choice == value);
            Value::from(word.map_or("", |(word, _)| *word))
        },
    )
}

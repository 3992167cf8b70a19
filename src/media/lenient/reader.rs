//! Reads untyped JSON and remembers where it stands, so that an error names the field.

use std::{fmt, num::NonZeroU64, ops::RangeInclusive};

use serde_json::Value;

use super::Invalid;

/// A value of the client's JSON, and the way to it.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    step: Step<'a>,
    value: &'a Value,
}

/// The way from the root to a value; written out only when something is wrong with it.
#[derive(Clone, Copy)]
enum Step<'a> {
    Root(&'static str),
    Field(&'a Step<'a>, &'a str),
    Item(&'a Step<'a>, usize),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl<'a> Node<'a> {
    /// Starts at `value`, an object that is called `name` in errors.
    pub(super) fn root(name: &'static str, value: &'a Value) -> Result<Self, Invalid> {
        let node = Self {
            step: Step::Root(name),
            value,
        };
        if value.is_object() {
            Ok(node)
        } else {
            Err(node.invalid("must be an object"))
        }
    }

    /// An error about this value.
    pub(super) fn invalid(&self, problem: impl Into<String>) -> Invalid {
        Invalid {
            path: self.step.to_string(),
            problem: problem.into(),
        }
    }

    /// An error about a field of this object that may be absent.
    pub(super) fn invalid_field(&self, field: &str, problem: &str) -> Invalid {
        let path = Step::Field(&self.step, field).to_string();
        Invalid {
            path,
            problem: problem.into(),
        }
    }

    /// The field, unless it is absent or `null`.
    pub(super) fn get(&'a self, field: &'a str) -> Option<Self> {
        let value = self.value.get(field).filter(|value| !value.is_null())?;
        Some(Self {
            step: Step::Field(&self.step, field),
            value,
        })
    }

    /// The field, which must be there.
    pub(super) fn require(&'a self, field: &'a str) -> Result<Self, Invalid> {
        self.get(field)
            .ok_or_else(|| self.invalid_field(field, "is required"))
    }

    /// The field as an array of objects without its `null`s; empty if the field is absent.
    /// More than `max` items are an error.
    pub(super) fn objects(&'a self, field: &'a str, max: usize) -> Result<Vec<Item<'a>>, Invalid> {
        let Some(list) = self.get(field) else {
            return Ok(Vec::new());
        };
        let values = list
            .value
            .as_array()
            .ok_or_else(|| list.invalid("must be an array"))?;
        if values.len() > max {
            return Err(list.invalid(format!("has more than {max} items")));
        }
        let items = values
            .iter()
            .enumerate()
            .filter(|(_, value)| !value.is_null());
        items
            .map(|(index, value)| {
                let item = Item {
                    list: Step::Field(&self.step, field),
                    index,
                    value,
                };
                if value.is_object() {
                    Ok(item)
                } else {
                    Err(item.node().invalid("must be an object"))
                }
            })
            .collect()
    }

    /// The fields of this object that are not `null`. More than `max` are an error.
    pub(super) fn fields(
        &'a self,
        max: usize,
    ) -> Result<impl Iterator<Item = (&'a str, Self)>, Invalid> {
        let map = self
            .value
            .as_object()
            .ok_or_else(|| self.invalid("must be an object"))?;
        if map.len() > max {
            return Err(self.invalid(format!("has more than {max} fields")));
        }
        Ok(map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| {
                (
                    name.as_str(),
                    Self {
                        step: Step::Field(&self.step, name),
                        value,
                    },
                )
            }))
    }

    /// This value.
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// This object, as such.
    pub(super) fn object(self) -> Result<Self, Invalid> {
        if self.value.is_object() {
            Ok(self)
        } else {
            Err(self.invalid("must be an object"))
        }
    }

    /// This string.
    pub(super) fn text(&self) -> Result<&'a str, Invalid> {
        self.value
            .as_str()
            .ok_or_else(|| self.invalid("must be a string"))
    }

    /// This string, if it has no more than `max` characters, all of them visible ASCII or, with
    /// `spaces`, a space. `None` if it is empty.
    pub(super) fn visible(&self, max: usize, spaces: bool) -> Result<Option<String>, Invalid> {
        let text = self.text()?;
        if text.len() > max {
            return Err(self.invalid(format!("is longer than {max} characters")));
        }
        if !is_visible(text, spaces) {
            let and = if spaces { " and spaces" } else { "" };
            return Err(self.invalid(format!("may contain only visible ASCII characters{and}")));
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// This boolean.
    pub(super) fn flag(&self) -> Result<bool, Invalid> {
        self.value
            .as_bool()
            .ok_or_else(|| self.invalid("must be a boolean"))
    }

    /// This whole number from 1 to `max`.
    pub(super) fn positive<T>(&self, max: T) -> Result<T, Invalid>
    where
        T: TryFrom<NonZeroU64> + fmt::Display + Copy,
    {
        whole(self.value)
            .and_then(NonZeroU64::new)
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.invalid(format!("must be a whole number from 1 to {max}")))
    }

    /// This whole number, if it is in the range. JavaScript has one kind of number, so `1.0` is whole.
    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Result<T, Invalid>
    where
        T: TryFrom<u64> + PartialOrd + fmt::Display,
    {
        let problem = || {
            let (from, to) = (range.start(), range.end());
            self.invalid(format!("must be a whole number from {from} to {to}"))
        };
        whole(self.value)
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(problem)
    }
}

/// An object in an array.
pub(super) struct Item<'a> {
    list: Step<'a>,
    index: usize,
    value: &'a Value,
}

impl Item<'_> {
    /// The object itself.
    pub(super) fn node(&self) -> Node<'_> {
        Node {
            step: Step::Item(&self.list, self.index),
            value: self.value,
        }
    }
}

/// Whether each character is visible ASCII or, with `spaces`, a space.
pub(super) fn is_visible(text: &str, spaces: bool) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() || (spaces && byte == b' '))
}

/// The number, if it is whole, not negative, and one that JavaScript can tell from its neighbours.
pub(super) fn whole(value: &Value) -> Option<u64> {
    /// Below it, every whole number has a floating-point number of its own.
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    value.as_u64().or_else(|| {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && (0.0..LIMIT).contains(&float)).then_some(float as u64)
    })
}

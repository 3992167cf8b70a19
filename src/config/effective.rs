//! The account of every key that `voice-room config` prints.

use std::fmt;

use toml::Value;

use super::mistake::Origin;

/// Every key with its value, secrets hidden, and what set it. Displays as a TOML
/// file.
#[derive(Clone, Debug)]
pub struct Effective {
    pub(super) dev: bool,
    pub(super) lines: Vec<Line>,
}

/// One key.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Its table: empty, `media`, or with an index `plugins[0]`.
    pub(super) section: String,
    /// Within the table.
    pub(super) key: String,
    /// `None` if it has no value.
    pub(super) value: Option<Value>,
    pub(super) origin: Origin,
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dev = if self.dev { "on (--dev)" } else { "off" };
        writeln!(
            f,
            "# The effective configuration. Development mode is {dev}."
        )?;
        // TOML wants the keys of no table first.
        let (top, tables): (Vec<_>, Vec<_>) =
            self.lines.iter().partition(|line| line.section.is_empty());
        let mut section = "";
        for line in top.into_iter().chain(tables) {
            if line.section != section {
                section = &line.section;
                match section.split_once('[') {
                    Some((name, _index)) => writeln!(f, "\n[[{name}]]")?,
                    None => writeln!(f, "\n[{section}]")?,
                }
            }
            match (&line.value, &line.origin) {
                (None, _) => writeln!(f, "# {} is not set", line.key)?,
                (Some(value), Origin::Default) => writeln!(f, "{} = {value}", line.key)?,
                (Some(value), origin) => writeln!(f, "{} = {value} # {origin}", line.key)?,
            }
        }
        Ok(())
    }
}

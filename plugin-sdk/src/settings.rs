//! The plugin's section of the server's configuration.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::{fields, host, kv, outcome::Failure};

/// The plugin's settings: a JSON object, `{}` where the configuration says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    json: String,
}

impl Settings {
    /// What the server's configuration says about this plugin.
    #[must_use]
    pub fn current() -> Self {
        Self {
            json: host::settings(),
        }
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// The settings as a type of the plugin's own. Give every field a default, so that a
    /// plugin works without configuration, and forbid unknown fields, so that a slip of the
    /// pen is found when the server starts:
    ///
    /// ```
    /// # use serde::Deserialize;
    /// #[derive(Deserialize)]
    /// #[serde(default, deny_unknown_fields)]
    /// struct MySettings {
    ///     seat_count: u8,
    /// }
    ///
    /// impl Default for MySettings {
    ///     fn default() -> Self {
    ///         Self { seat_count: 8 }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If the settings do not have the shape of `T`; the error names the key at fault.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, InitError> {
        fields::from_json(&self.json).map_err(|fault| InitError(format!("settings: {fault}")))
    }
}

/// Why a plugin cannot start: a sentence for the server's log. The plugin is not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitError(String);

impl InitError {
    /// An error with a sentence for whoever runs the server.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// An error about one key of the settings.
    pub fn setting(key: &str, problem: impl fmt::Display) -> Self {
        Self(format!("settings: `{key}`: {problem}"))
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InitError {}

impl From<Failure> for InitError {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

impl From<kv::Error> for InitError {
    fn from(error: kv::Error) -> Self {
        Self(error.to_string())
    }
}

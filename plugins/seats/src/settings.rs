//! The plugin's settings.

use std::time::Duration;

use serde::Deserialize;
use voice_room_plugin_sdk::{InitError, Settings};

/// Longest grace period and invite, in seconds.
const LONGEST: u32 = 24 * 60 * 60;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Configuration {
    pub(crate) seat_count: u32,
    pub(crate) require_seat: bool,
    pub(crate) first_is_owner: bool,
    pub(crate) manager_roles: Vec<String>,
    pub(crate) grace_seconds: u32,
    pub(crate) invite_seconds: u32,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            seat_count: 8,
            require_seat: true,
            first_is_owner: false,
            manager_roles: ["owner", "admin", "moderator"].map(str::to_owned).to_vec(),
            grace_seconds: 45,
            invite_seconds: 30,
        }
    }
}

impl Configuration {
    pub(crate) fn read(settings: &Settings) -> Result<Self, InitError> {
        let configuration: Self = settings.parse()?;
        if !(1..=100).contains(&configuration.seat_count) {
            let problem = format!("is {}, but must be 1 to 100", configuration.seat_count);
            return Err(InitError::setting("seat_count", problem));
        }
        if configuration.grace_seconds > LONGEST {
            let problem = format!("is more than a day, which is {LONGEST}");
            return Err(InitError::setting("grace_seconds", problem));
        }
        if !(1..=LONGEST).contains(&configuration.invite_seconds) {
            let problem = format!("is not 1 to {LONGEST}, which is a day");
            return Err(InitError::setting("invite_seconds", problem));
        }
        Ok(configuration)
    }

    /// How long a disconnected user keeps the right to their seat.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds.into())
    }

    /// How long an invite holds.
    pub(crate) fn invite(&self) -> Duration {
        Duration::from_secs(self.invite_seconds.into())
    }
}

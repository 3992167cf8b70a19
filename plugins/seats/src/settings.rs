//! The plugin's settings.

use serde::Deserialize;
use voice_room_plugin_sdk::{InitError, Settings};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Configuration {
    pub(crate) seat_count: u32,
    pub(crate) require_seat: bool,
    pub(crate) first_is_owner: bool,
    pub(crate) manager_roles: Vec<String>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            seat_count: 8,
            require_seat: true,
            first_is_owner: false,
            manager_roles: ["owner", "admin", "moderator"].map(str::to_owned).to_vec(),
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
        Ok(configuration)
    }
}

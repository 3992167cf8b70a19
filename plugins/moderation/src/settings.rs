//! The plugin's settings.

use serde::Deserialize;

use crate::floor;

/// Where a ban holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    Room,
    Server,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Configuration {
    pub(crate) manager_roles: Vec<String>,
    pub(crate) first_is_owner: bool,
    pub(crate) scope: Scope,
    pub(crate) ban_everywhere_after: u32,
    pub(crate) max_solo_seconds: u32,
    pub(crate) warn_seconds: u32,
    pub(crate) pause_seconds: u32,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            manager_roles: ["owner", "admin", "moderator"].map(str::to_owned).to_vec(),
            first_is_owner: false,
            scope: Scope::Room,
            ban_everywhere_after: 0,
            max_solo_seconds: 0,
            warn_seconds: 10,
            pause_seconds: 3,
        }
    }
}

impl Configuration {
    pub(crate) fn floor_limits(&self) -> floor::Limits {
        let ms = |seconds: u32| u64::from(seconds) * 1_000;
        floor::Limits {
            solo: ms(self.max_solo_seconds),
            warning: ms(self.warn_seconds),
            pause: ms(self.pause_seconds),
        }
    }
}

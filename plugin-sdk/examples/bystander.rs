//! A plugin with every hook, as the trait provides them: it changes nothing.

use voice_room_plugin_sdk::{InitError, Plugin, Settings, register_plugin};

struct Bystander;

impl Plugin for Bystander {
    fn init(_settings: Settings) -> Result<Self, InitError> {
        Ok(Self)
    }
}

register_plugin!(Bystander);

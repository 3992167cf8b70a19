//! The plugin of the tutorial: members only, and it says so.

use voice_room_plugin_sdk::{
    BeforeJoin, Decision, InitError, Plugin, Settings, allow, refuse, register_plugin,
};

struct Doorman;

impl Plugin for Doorman {
    fn init(_settings: Settings) -> Result<Self, InitError> {
        Ok(Self)
    }

    fn before_join(&mut self, call: &BeforeJoin) -> Decision {
        if call.participant.user.has_role("member") {
            return allow();
        }
        refuse("MEMBERS_ONLY", "This room is for members")
    }
}

register_plugin!(Doorman: before_join);

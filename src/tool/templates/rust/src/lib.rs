//! Members may speak, and guests to whom a member has given the word.
//!
//! A client gives the word with the event `{{name}}:give-word {roomId, userId}`; the guest
//! learns of it by the event `{{name}}:word-given {by}`. The word is gone when the guest
//! leaves, and after `word_minutes`.
//!
//! Settings: `member_roles` (default `["member"]`), `word_minutes` (default 60).

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use voice_room_plugin_sdk::{
    Actions, Answer, BeforeProduce, InitError, OnCommand, OnLeave, Outcome, Plugin,
    ProduceDecision, Refusal, Settings, User, UserId, allow, kv, refuse, register_plugin,
};

const GIVE_WORD: &str = "{{name}}:give-word";
const WORD_GIVEN: &str = "{{name}}:word-given";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Policy {
    member_roles: Vec<String>,
    word_minutes: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            member_roles: vec!["member".to_owned()],
            word_minutes: 60,
        }
    }
}

impl Plugin for Policy {
    fn init(settings: Settings) -> Result<Self, InitError> {
        let policy: Self = settings.parse()?;
        if policy.word_minutes == 0 {
            return Err(InitError::setting("word_minutes", "must be at least 1"));
        }
        Ok(policy)
    }

    fn commands(&self) -> &[&str] {
        &[GIVE_WORD]
    }

    fn before_produce(&mut self, call: &BeforeProduce) -> ProduceDecision {
        let user = &call.participant.user;
        if self.is_member(user) || kv::get(&word_of(&call.room.id, user.id))?.unwrap_or(false) {
            return allow();
        }
        refuse(
            "MEMBERS_ONLY",
            "Members speak here; one of them can give you the word",
        )
    }

    fn on_command(&mut self, call: &OnCommand) -> Answer {
        if !self.is_member(&call.participant.user) {
            return Err(Refusal::new("MEMBERS_ONLY", "Only members give the word").into());
        }
        let Some(guest) = &call.target else {
            return Err(Refusal::new("NOT_IN_ROOM", "There is no such user in this room").into());
        };
        let minutes = Duration::from_secs(60 * self.word_minutes);
        kv::set_expiring(&word_of(&call.room.id, guest.user.id), &true, minutes)?;
        let payload = json!({ "by": call.participant.user.id });
        Ok(Actions::new()
            .emit_to_user(guest.user.id, WORD_GIVEN, payload)
            .into())
    }

    fn on_leave(&mut self, call: &OnLeave) -> Outcome {
        if call.participant.connections == 0 {
            kv::delete(&word_of(&call.room.id, call.participant.user.id))?;
        }
        Ok(Actions::new())
    }
}

impl Policy {
    fn is_member(&self, user: &User) -> bool {
        self.member_roles.iter().any(|role| user.has_role(role))
    }
}

/// Where it is kept that a user has the word. An instance's memory may vanish at any time;
/// what is stored does not.
fn word_of(room_id: &str, user: UserId) -> String {
    kv::room_key("word", room_id, user)
}

register_plugin!(Policy: on_leave, before_produce, on_command);

#[cfg(test)]
mod tests;

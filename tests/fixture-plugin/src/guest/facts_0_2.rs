//! The hooks that tell recorded facts, as they were at 0.2: without ids and evidence.

use super::{
    Component,
    bindings::{exports::voice_room::plugin as exported, voice_room::plugin::types::Action},
    inform, who,
};
use crate::Hook;

impl exported::on_first_rtp::Guest for Component {
    fn on_first_rtp(call: exported::on_first_rtp::Call) -> Vec<Action> {
        let entry = format!("{} {}", who(&call.participant), call.producer.id);
        inform(Hook::OnFirstRtp, &call.room, entry)
    }
}

impl exported::on_producer_closed::Guest for Component {
    fn on_producer_closed(call: exported::on_producer_closed::Call) -> Vec<Action> {
        let (who, producer) = (who(&call.participant), &call.producer.id);
        let entry = format!("{who} {producer} {}", call.reason);
        inform(Hook::OnProducerClosed, &call.room, entry)
    }
}

impl exported::on_room_closed::Guest for Component {
    fn on_room_closed(call: exported::on_room_closed::Call) {
        drop(inform(Hook::OnRoomClosed, &call.room, call.reason));
    }
}

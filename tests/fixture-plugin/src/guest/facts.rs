//! The hooks that tell recorded facts. What came with each is kept for `fixture:facts`.

use serde_json::{Value, json};

use super::{
    Component,
    bindings::{
        exports::voice_room::plugin as exported,
        voice_room::plugin::types::{Action, Media, Room},
    },
    inform, remember, who,
};
use crate::Hook;

fn tell(hook: Hook, room: &Room, entry: String, fact: Value) -> Vec<Action> {
    remember(room, fact);
    inform(hook, room, entry)
}

fn counted(media: Media) -> Value {
    json!({
        "packets": media.packets,
        "bytes": media.bytes,
        "lastRtpAt": media.last_rtp_at,
    })
}

impl exported::on_first_rtp::Guest for Component {
    fn on_first_rtp(call: exported::on_first_rtp::Call) -> Vec<Action> {
        let entry = format!("{} {}", who(&call.participant), call.producer.id);
        let packet = json!({
            "ssrc": call.packet.ssrc,
            "timestamp": call.packet.timestamp,
            "payloadType": call.packet.payload_type,
            "afterMs": call.packet.after_ms,
        });
        let fact = json!({
            "hook": Hook::OnFirstRtp, "factId": call.fact_id, "producer": call.producer.id,
            "packet": packet, "at": call.at,
        });
        tell(Hook::OnFirstRtp, &call.room, entry, fact)
    }
}

impl exported::on_producer_paused::Guest for Component {
    fn on_producer_paused(call: exported::on_producer_paused::Call) -> Vec<Action> {
        let (who, producer) = (who(&call.participant), &call.producer.id);
        let entry = format!("{who} {producer} {}", call.cause);
        let fact = json!({
            "hook": Hook::OnProducerPaused, "factId": call.fact_id, "producer": producer,
            "cause": call.cause, "media": counted(call.media), "at": call.at,
        });
        tell(Hook::OnProducerPaused, &call.room, entry, fact)
    }
}

impl exported::on_producer_resumed::Guest for Component {
    fn on_producer_resumed(call: exported::on_producer_resumed::Call) -> Vec<Action> {
        let (who, producer) = (who(&call.participant), &call.producer.id);
        let entry = format!("{who} {producer} {}", call.cause);
        let fact = json!({
            "hook": Hook::OnProducerResumed, "factId": call.fact_id, "producer": producer,
            "cause": call.cause, "media": counted(call.media), "at": call.at,
        });
        tell(Hook::OnProducerResumed, &call.room, entry, fact)
    }
}

impl exported::on_producer_closed::Guest for Component {
    fn on_producer_closed(call: exported::on_producer_closed::Call) -> Vec<Action> {
        let (who, producer) = (who(&call.participant), &call.producer.id);
        let entry = format!("{who} {producer} {}", call.reason);
        let fact = json!({
            "hook": Hook::OnProducerClosed, "factId": call.fact_id, "producer": producer,
            "reason": call.reason, "firstRtpAt": call.first_rtp_at,
            "media": counted(call.media), "at": call.at,
        });
        tell(Hook::OnProducerClosed, &call.room, entry, fact)
    }
}

impl exported::on_room_closed::Guest for Component {
    fn on_room_closed(call: exported::on_room_closed::Call) {
        let fact = json!({
            "hook": Hook::OnRoomClosed, "factId": call.fact_id, "reason": call.reason,
            "at": call.at,
        });
        drop(tell(Hook::OnRoomClosed, &call.room, call.reason, fact));
    }
}

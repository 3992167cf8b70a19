//! Publishes when a speaker can be heard, and for how long they could be.
//!
//! `billing.started` is published at the first RTP packet of a producer, `billing.stopped`
//! when a producer that had started closes: once each for every producer, in this order, also
//! if the instance is replaced in between, and if the server tells of the packet twice, late,
//! or not at all. `sessionId` is the producer's id, so topic and `sessionId` together are the
//! idempotency key of an event.
//!
//! | topic | payload |
//! |---|---|
//! | `billing.started` | `{sessionId, producerId, userId, roomId, source, at}` |
//! | `billing.stopped` | `{sessionId, producerId, userId, roomId, source, startedAt, endedAt, durationMs, reason}` |
//!
//! Times are Unix milliseconds. Sessions that a crash of the server cut off are closed when
//! their room is next opened, with reason `server_lost` and with `endedAt` and `durationMs`
//! null, for nobody knows when they ended.
//!
//! Settings: `sources`, which are billed (default `["mic"]`), and `topic_prefix` (default
//! `billing`; with another one, `topics` in the plugin's manifest must list it as well).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use voice_room_plugin_sdk::{
    Actions, Failure, InitError, OnFirstRtp, OnProducerClosed, OnRoomOpened, Outcome, Plugin, Room,
    Settings, Source, UnixMs, UserId, events, kv, log, metrics, register_plugin,
};

/// How many cut-off sessions one call closes; the rest waits for the next time.
const LOST_PER_CALL: u32 = 64;

/// How long a stopped session is remembered, lest a late first packet starts it again.
const REMEMBERED: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Configuration {
    sources: Vec<Source>,
    topic_prefix: String,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            sources: vec![Source::Mic],
            topic_prefix: "billing".to_owned(),
        }
    }
}

/// A session that has been announced as started and not yet as stopped.
#[derive(Serialize, Deserialize)]
struct Session {
    producer_id: String,
    user_id: UserId,
    source: Source,
    started_at: UnixMs,
}

struct Billing {
    configuration: Configuration,
}

impl Plugin for Billing {
    fn init(settings: Settings) -> Result<Self, InitError> {
        let configuration: Configuration = settings.parse()?;
        let prefix = &configuration.topic_prefix;
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        if prefix.is_empty() || prefix.len() > 100 || !prefix.chars().all(allowed) {
            let problem = "is not 1 to 100 characters of `a-z 0-9 . _ -`";
            return Err(InitError::setting("topic_prefix", problem));
        }
        Ok(Self { configuration })
    }

    fn on_room_opened(&mut self, call: &OnRoomOpened) -> Outcome {
        self.stop_lost_sessions(&call.room)?;
        Ok(Actions::new())
    }

    fn on_first_rtp(&mut self, call: &OnFirstRtp) -> Outcome {
        if self.configuration.sources.contains(&call.producer.source) {
            let session = Session {
                producer_id: call.producer.id.clone(),
                user_id: call.participant.user.id,
                source: call.producer.source,
                started_at: call.at,
            };
            self.start(&call.room.id, &session)?;
        }
        Ok(Actions::new())
    }

    fn on_producer_closed(&mut self, call: &OnProducerClosed) -> Outcome {
        let Some(started_at) = call.first_rtp_at else {
            return Ok(Actions::new());
        };
        if !self.configuration.sources.contains(&call.producer.source) {
            return Ok(Actions::new());
        }
        let session = Session {
            producer_id: call.producer.id.clone(),
            user_id: call.participant.user.id,
            source: call.producer.source,
            started_at,
        };
        // Does nothing, unless the call that should have started it failed.
        self.start(&call.room.id, &session)?;
        self.stop(&call.room.id, &session, Some(call.at), &call.reason)?;
        Ok(Actions::new())
    }
}

impl Billing {
    /// Starts a session, unless it has been started.
    fn start(&self, room_id: &str, session: &Session) -> Result<(), Failure> {
        let producer_id = &session.producer_id;
        if kv::get_bytes(&stopped_key(room_id, producer_id))?.is_some()
            || !kv::insert(&open_key(room_id, producer_id), session)?
        {
            return Ok(());
        }
        metrics::increment("sessions_started", 1);
        let payload = json!({
            "sessionId": session.producer_id,
            "producerId": session.producer_id,
            "userId": session.user_id,
            "roomId": room_id,
            "source": session.source,
            "at": session.started_at,
        });
        Ok(events::publish(&self.topic("started"), payload)?)
    }

    /// Stops a session, unless it has been stopped.
    fn stop(
        &self,
        room_id: &str,
        session: &Session,
        ended_at: Option<UnixMs>,
        reason: &str,
    ) -> Result<(), Failure> {
        let producer_id = &session.producer_id;
        let mut was_open = false;
        kv::update(&open_key(room_id, producer_id), |open: Option<Session>| {
            was_open = open.is_some();
            None
        })?;
        if !was_open {
            return Ok(());
        }
        kv::set_expiring(&stopped_key(room_id, producer_id), &(), REMEMBERED)?;
        metrics::increment("sessions_stopped", 1);
        let payload = json!({
            "sessionId": session.producer_id,
            "producerId": session.producer_id,
            "userId": session.user_id,
            "roomId": room_id,
            "source": session.source,
            "startedAt": session.started_at,
            "endedAt": ended_at,
            "durationMs": ended_at.map(|ended_at| ended_at.saturating_sub(session.started_at)),
            "reason": reason,
        });
        Ok(events::publish(&self.topic("stopped"), payload)?)
    }

    /// The room has only just been opened, so a session that is still open was cut off.
    fn stop_lost_sessions(&self, room: &Room) -> Result<(), Failure> {
        for key in kv::list(&open_key(&room.id, ""), None, LOST_PER_CALL)? {
            let Some(session) = kv::get::<Session>(&key)? else {
                continue;
            };
            log::warn!(
                "session {} in room {} was cut off",
                session.producer_id,
                room.id
            );
            self.stop(&room.id, &session, None, "server_lost")?;
        }
        Ok(())
    }

    fn topic(&self, event: &str) -> String {
        format!("{}.{event}", self.configuration.topic_prefix)
    }
}

fn stopped_key(room_id: &str, producer_id: &str) -> String {
    kv::room_key("stopped", room_id, producer_id)
}

fn open_key(room_id: &str, producer_id: &str) -> String {
    kv::room_key("open", room_id, producer_id)
}

register_plugin!(Billing: on_room_opened, on_first_rtp, on_producer_closed);

#[cfg(test)]
mod tests;

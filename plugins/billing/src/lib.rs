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
//! their room is next opened, or else within a minute after the server is back, with reason
//! `server_lost` and with `endedAt` and `durationMs` null, for nobody knows when they ended.
//!
//! Settings: `sources`, which are billed (default `["mic"]`), and `topic_prefix` (default
//! `billing`; with another one, `topics` in the plugin's manifest must list it as well). A
//! session that has started is stopped, whatever `sources` says by then.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use voice_room_plugin_sdk::{
    Actions, Failure, InitError, OnFirstRtp, OnProducerClosed, OnRoomOpened, OnTimer, Outcome,
    Plugin, Settings, Source, UnixMs, UserId, events, kv, log, metrics, register_plugin, timers,
};

/// How many cut-off sessions one call closes: as many events as it may publish.
const LOST_PER_CALL: usize = 64;

/// How soon the next call closes more.
const NEXT_CALL: Duration = Duration::from_millis(100);

/// How many keys one listing gives.
const PAGE: u32 = 256;

/// The timer of a room with open sessions, that looks whether the room is still there.
const WATCH: &str = "watch";

/// How often it looks.
const WATCHED: Duration = Duration::from_secs(60);

/// The timer `lost/TIME` of a room that is open again closes what was open before that time.
const LOST: &str = "lost/";

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
        // Nobody has been heard in it yet, so whatever is open was cut off.
        if !self.stop_lost(&call.room.id, UnixMs::MAX)? {
            stop_more_lost(call.at);
        }
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
        let (room_id, producer) = (&call.room.id, &call.producer);
        if let Some(started_at) = call.first_rtp_at
            && self.configuration.sources.contains(&producer.source)
        {
            let session = Session {
                producer_id: producer.id.clone(),
                user_id: call.participant.user.id,
                source: producer.source,
                started_at,
            };
            // Does nothing, unless the call that should have started it failed.
            self.start(room_id, &session)?;
        }
        self.stop(room_id, &producer.id, Some(call.at), &call.reason)?;
        Ok(Actions::new())
    }

    fn on_timer(&mut self, call: &OnTimer) -> Outcome {
        let room_id = &call.room.id;
        if let Some(opened_at) = call.key.strip_prefix(LOST) {
            let opened_at = opened_at.parse().unwrap_or_default();
            if !self.stop_lost(room_id, opened_at)? {
                stop_more_lost(opened_at);
            }
        } else if call.room.participants == 0 && !self.stop_lost(room_id, call.at)? {
            timers::set_repeating(WATCH, NEXT_CALL, WATCHED)?;
        } else if kv::list(&open_key(room_id, ""), None, 1)?.is_empty() {
            timers::cancel(WATCH)?;
        }
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
        // Without a timer, the session is still stopped by all that usually stops it.
        if let Err(error) = timers::set_repeating(WATCH, WATCHED, WATCHED) {
            log::warn!("sessions in room {room_id} are not watched: {error}");
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

    /// Stops a session, if it is open.
    fn stop(
        &self,
        room_id: &str,
        producer_id: &str,
        ended_at: Option<UnixMs>,
        reason: &str,
    ) -> Result<(), Failure> {
        let mut open = None;
        kv::update(&open_key(room_id, producer_id), |session| {
            open = session;
            None::<Session>
        })?;
        let Some(session) = open else {
            return Ok(());
        };
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

    /// Stops sessions that began before this time and whose server is gone, as many as one
    /// call can; whether that was all of them.
    fn stop_lost(&self, room_id: &str, before: UnixMs) -> Result<bool, Failure> {
        let prefix = open_key(room_id, "");
        let (mut stopped, mut after) = (0, None);
        let all = 'all: loop {
            let mut keys = kv::list(&prefix, after.as_deref(), PAGE)?;
            for key in &keys {
                let session = kv::get::<Session>(key)?;
                let Some(session) = session.filter(|session| session.started_at < before) else {
                    continue;
                };
                if stopped == LOST_PER_CALL {
                    break 'all false;
                }
                self.stop(room_id, &session.producer_id, None, "server_lost")?;
                stopped += 1;
            }
            after = keys.pop();
            if after.is_none() {
                break true;
            }
        };
        if stopped > 0 {
            log::warn!("{stopped} sessions in room {room_id} were cut off");
        }
        Ok(all)
    }

    fn topic(&self, event: &str) -> String {
        format!("{}.{event}", self.configuration.topic_prefix)
    }
}

/// Has another call go on with what was open before the room was opened at that time.
fn stop_more_lost(opened_at: UnixMs) {
    if let Err(error) = timers::set(&format!("{LOST}{opened_at}"), NEXT_CALL) {
        log::warn!("sessions that were cut off are stopped when the room is empty: {error}");
    }
}

fn stopped_key(room_id: &str, producer_id: &str) -> String {
    kv::room_key("stopped", room_id, producer_id)
}

fn open_key(room_id: &str, producer_id: &str) -> String {
    kv::room_key("open", room_id, producer_id)
}

register_plugin!(Billing: on_room_opened, on_first_rtp, on_producer_closed, on_timer);

#[cfg(test)]
mod tests;

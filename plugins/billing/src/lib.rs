//! Bills the time for which somebody can be heard.
//!
//! A *session* is a producer from its first RTP packet to its end. It is a series of
//! *segments* that flow; between them it is paused, by its user, by a plugin or by silence, and
//! costs nothing. `billing.started` and `billing.stopped` are published once each for every
//! session, in this order, whatever fails or is killed in between.
//!
//! Where a room has a *tariff*, each whole unit of flowing time is charged once: the first one
//! when it is over. A prepaid tariff takes it from the user's balance; who cannot pay another
//! unit is not heard (`BALANCE_SPENT`), and ends when the balance does.
//!
//! # Events
//!
//! | topic | once for each | says |
//! |---|---|---|
//! | `billing.started` | `sessionId` | who is heard where since when, the packet that proves it, and the tariff |
//! | `billing.paused` | `sessionId`, `segment` | a segment has ended: how long it was, and why |
//! | `billing.resumed` | `sessionId`, `segment` | a segment begins |
//! | `billing.charged` | `sessionId`, `unit` | a unit is whole: its price, and the balance after it |
//! | `billing.refunded` | `sessionId`, `unit` | that unit was not whole after all |
//! | `billing.stopped` | `sessionId` | when and why it ended, what is billed, what was received |
//! | `billing.credited` | the entry | a balance was changed by a command |
//!
//! `schemas/` has a JSON Schema for each. The topic and the columns of "once for each" together
//! are an idempotency key. Without a tariff there are only `started` and `stopped`. Times are
//! Unix milliseconds, amounts are in the currency's smallest unit. `billedMs` of
//! `billing.stopped` is the sum of the segments; `units` are those charged and not refunded, and
//! `amount` is what they cost. A refund happens where silence or a killed server, which are
//! noticed some seconds late, has ended a segment before a unit that was charged.
//!
//! Reasons of an end are the server's (`closed`, `left`, `disconnected`, `kicked`, `recovered`
//! after a kill, …), `balance_spent`, and `server_lost` for a session whose end this plugin was
//! never told: it has then ended when it was last known to run. A balance may fall below zero
//! by a unit for each session that runs beside another. A prepaid session for which there is no
//! timer (`max_timers`) is ended at once, since nothing would end it with the balance: its reason
//! is `plugin`.
//!
//! # Clients
//!
//! `billing:low` warns a user once when the balance covers few further units, `billing:spent`
//! tells that it covers none, both `{roomId, producerId, currency, balance, unitPrice, unitMs,
//! unitsLeft}`. `billing:balance {roomId, userId?, currency?}` answers `{userId, currency,
//! balance}`: everybody's own, and that of others to who has one of `manager_roles`. Those alone
//! may also `billing:credit {roomId, userId, currency?, reference?}` with an `amount` to add (or
//! take, below zero) or a `balance` to have; a `reference` that came within 30 days changes
//! nothing, and those of a user's 30 days may come to 60 kB, some 1,000 UUIDs. The currency is
//! that of the room's tariff where none is named.
//!
//! # Settings
//!
//! | key | default | |
//! |---|---|---|
//! | `sources` | `["mic"]` | which are billed; a session that has started is stopped, whatever it says by then |
//! | `topic_prefix` | `billing` | with another one, `topics` in the plugin's manifest must list it as well |
//! | `manager_roles` | `["admin", "billing"]` | who may credit |
//! | `tariffs` | `[]` | what time costs: the one whose `room` is the room's id, or else the one with the longest `prefix`, or else the one with neither |
//! | `tariffs[].currency`, `.unit_price` | | 1 to 16 characters of `A-Z 0-9`; an integer, in its smallest unit |
//! | `tariffs[].unit_seconds` | 60 | a unit |
//! | `tariffs[].prepaid` | true | paid from the balance; without it nobody is refused or ended |
//! | `tariffs[].low_units` | 3 | `billing:low` when the balance covers fewer |
//! | `tariffs[].when_spent` | `close` | the producer ends; `kick`: the user leaves |

mod balance;
mod lost;
mod meter;
mod session;
mod settings;

use std::time::Duration;

use serde_json::{Value, json};
use voice_room_plugin_sdk::{
    Actions, Answer, BeforeProduce, Failure, FirstPacket, InitError, OnCommand, OnFirstRtp,
    OnProducerClosed, OnProducerPaused, OnProducerResumed, OnRoomOpened, OnTimer, Outcome, Plugin,
    ProduceDecision, Refusal, Settings, allow, events, kv, metrics, register_plugin, timers,
};

use crate::{
    lost::{LOST, WATCH},
    meter::{MORE, TICK},
    session::{Counted, End, Session, open_key, stopped_key},
    settings::{Configuration, Terms},
};

/// How long a stopped session is remembered, lest a late first packet starts it again.
const REMEMBERED: Duration = Duration::from_secs(600);

struct Billing {
    configuration: Configuration,
}

impl Plugin for Billing {
    fn init(settings: Settings) -> Result<Self, InitError> {
        let configuration: Configuration = settings.parse()?;
        configuration.check()?;
        Ok(Self { configuration })
    }

    fn commands(&self) -> &[&str] {
        balance::NAMES
    }

    fn on_room_opened(&mut self, call: &OnRoomOpened) -> Outcome {
        self.sweep(&call.room.id, call.at)?;
        Ok(Actions::new())
    }

    fn before_produce(&mut self, call: &BeforeProduce) -> ProduceDecision {
        if !self.configuration.sources.contains(&call.source) {
            return allow();
        }
        let Some(terms) = self.configuration.terms(&call.room.id) else {
            return allow();
        };
        if !terms.prepaid {
            return allow();
        }
        let balance = balance::of(&terms.currency, call.participant.user.id)?;
        if terms.is_covered_by(balance) {
            return allow();
        }
        metrics::increment("refused", 1);
        let details = json!({
            "currency": terms.currency,
            "balance": balance,
            "unitPrice": terms.unit_price,
            "unitMs": terms.unit_ms,
        });
        Err(
            Refusal::new("BALANCE_SPENT", "The balance does not cover a unit")
                .details(details)
                .into(),
        )
    }

    fn on_first_rtp(&mut self, call: &OnFirstRtp) -> Outcome {
        let source = call.producer.source;
        if !self.configuration.sources.contains(&source) {
            return Ok(Actions::new());
        }
        let room_id = &call.room.id;
        let terms = self.configuration.terms(room_id);
        let (producer, user) = (&call.producer.id, call.participant.user.id);
        let mut session = Session::new(producer, user, source, call.at, terms);
        if !self.start(room_id, &session, Some(call.packet))? {
            return Ok(Actions::new());
        }
        let metered = Self::wind(&session, call.at)?;
        let actions = metered.then(self.look_at_balance(room_id, &mut session)?);
        kv::set(&open_key(room_id, producer), &session)?;
        Ok(actions)
    }

    fn on_producer_paused(&mut self, call: &OnProducerPaused) -> Outcome {
        let (room_id, key) = (&call.room.id, open_key(&call.room.id, &call.producer.id));
        let Some(mut session) = running(&key)? else {
            return Ok(Actions::new());
        };
        let Some(lasted) = session.pause(call.at) else {
            return Ok(Actions::new());
        };
        Self::wind(&session, call.at)?;
        let ended = json!({
            "startedAt": session.segment_at(),
            "endedAt": call.at,
            "durationMs": lasted,
            "billedMs": session.billed_ms(call.at),
            "cause": call.cause,
        });
        self.publish_segment("paused", room_id, &session, ended)?;
        self.charge(room_id, &mut session, call.at)?;
        let actions = self.look_at_balance(room_id, &mut session)?;
        kv::set(&key, &session)?;
        Ok(actions)
    }

    fn on_producer_resumed(&mut self, call: &OnProducerResumed) -> Outcome {
        let (room_id, key) = (&call.room.id, open_key(&call.room.id, &call.producer.id));
        let Some(mut session) = running(&key)? else {
            return Ok(Actions::new());
        };
        if !session.resume(call.at) {
            return Ok(Actions::new());
        }
        let metered = Self::wind(&session, call.at)?;
        let begun = json!({
            "startedAt": call.at,
            "billedMs": session.billed_ms(call.at),
            "cause": call.cause,
        });
        self.publish_segment("resumed", room_id, &session, begun)?;
        let actions = metered.then(self.look_at_balance(room_id, &mut session)?);
        kv::set(&key, &session)?;
        Ok(actions)
    }

    fn on_producer_closed(&mut self, call: &OnProducerClosed) -> Outcome {
        let (room_id, producer) = (&call.room.id, &call.producer);
        if let Some(started_at) = call.first_rtp_at
            && self.configuration.sources.contains(&producer.source)
        {
            // Does nothing, unless the call that should have started it was given up. Its pauses
            // are not known then, so it is not charged.
            let (user, source) = (call.participant.user.id, producer.source);
            let session = Session::new(&producer.id, user, source, started_at, None);
            self.start(room_id, &session, None)?;
        }
        let Some(session) = running(&open_key(room_id, &producer.id))? else {
            return Ok(Actions::new());
        };
        let end = End {
            at: call.at,
            reason: call.reason.clone(),
            media: Some(call.media.into()),
        };
        self.end(room_id, session, end)?;
        Ok(Actions::new())
    }

    fn on_timer(&mut self, call: &OnTimer) -> Outcome {
        let room_id = &call.room.id;
        let of_session = call.key.strip_prefix(TICK);
        if let Some(producer) = of_session.or_else(|| call.key.strip_prefix(MORE)) {
            return self.tick(room_id, producer, call.room.participants > 0, call.at);
        }
        if let Some(opened_at) = call.key.strip_prefix(LOST) {
            self.sweep(room_id, opened_at.parse().unwrap_or_default())?;
        } else if call.key == WATCH {
            self.watch(room_id, call.room.participants, call.at)?;
        }
        Ok(Actions::new())
    }

    fn on_command(&mut self, call: &OnCommand) -> Answer {
        self.answer(call)
    }
}

/// A session that has started and not ended.
fn running(key: &str) -> Result<Option<Session>, Failure> {
    Ok(kv::get::<Session>(key)?.filter(|session| session.end.is_none()))
}

impl Billing {
    /// Starts a session, unless it has been started; whether it was now.
    fn start(
        &self,
        room_id: &str,
        session: &Session,
        packet: Option<FirstPacket>,
    ) -> Result<bool, Failure> {
        let producer_id = &session.producer_id;
        if kv::get_bytes(&stopped_key(room_id, producer_id))?.is_some()
            || !kv::insert(&open_key(room_id, producer_id), session)?
        {
            return Ok(false);
        }
        metrics::increment("sessions_started", 1);
        let packet = packet.map(|packet| {
            json!({
                "ssrc": packet.ssrc,
                "timestamp": packet.timestamp,
                "payloadType": packet.payload_type,
                "afterMs": packet.after_ms,
            })
        });
        let tariff = session.terms.as_ref().map(tariff);
        let begun = json!({ "at": session.started_at, "packet": packet, "tariff": tariff });
        let payload = Self::about(room_id, session, begun);
        events::publish(&self.topic("started"), payload)?;
        Ok(true)
    }

    /// Ends a session that has not ended.
    fn end(&self, room_id: &str, mut session: Session, mut end: End) -> Result<(), Failure> {
        session.pause(end.at);
        // Nobody ends before they began.
        end.at = end.at.max(session.started_at);
        session.end.get_or_insert(end);
        if session.terms.is_some() {
            timers::cancel(&format!("{TICK}{}", session.producer_id))?;
        }
        self.finish(room_id, session)
    }

    /// Settles a session that has ended, and tells of it when nothing is left to charge.
    fn finish(&self, room_id: &str, mut session: Session) -> Result<(), Failure> {
        let Some(end) = session.end.clone() else {
            return Ok(());
        };
        let key = open_key(room_id, &session.producer_id);
        if !self.charge(room_id, &mut session, end.at)?
            || !self.refund(room_id, &mut session, end.at)?
        {
            return Ok(kv::set(&key, &session)?);
        }
        kv::delete(&key)?;
        let stopped = stopped_key(room_id, &session.producer_id);
        kv::set_expiring(&stopped, &(), REMEMBERED)?;
        metrics::increment("sessions_stopped", 1);
        let is_ours = session.spent && matches!(end.reason.as_str(), "plugin" | "kicked");
        let reason = if is_ours {
            "balance_spent"
        } else {
            end.reason.as_str()
        };
        let ended = json!({
            "startedAt": session.started_at,
            "endedAt": end.at,
            "durationMs": end.at.saturating_sub(session.started_at),
            "billedMs": session.billed_ms(end.at),
            "segments": session.segments(),
            "units": session.units,
            "amount": session.amount(),
            "currency": session.terms.as_ref().map(|terms| &terms.currency),
            "media": end.media.map(counted),
            "reason": reason,
            "closedAs": end.reason,
        });
        let payload = Self::about(room_id, &session, ended);
        Ok(events::publish(&self.topic("stopped"), payload)?)
    }

    /// Tells of a segment; not where time costs nothing.
    fn publish_segment(
        &self,
        event: &str,
        room_id: &str,
        session: &Session,
        more: Value,
    ) -> Result<(), Failure> {
        if session.terms.is_none() {
            return Ok(());
        }
        let mut payload = Self::about(room_id, session, more);
        extend(&mut payload, json!({ "segment": session.segments() }));
        Ok(events::publish(&self.topic(event), payload)?)
    }

    /// What every event of a session says, and more.
    fn about(room_id: &str, session: &Session, more: Value) -> Value {
        let mut payload = json!({
            "sessionId": session.producer_id,
            "producerId": session.producer_id,
            "userId": session.user_id,
            "roomId": room_id,
            "source": session.source,
        });
        extend(&mut payload, more);
        payload
    }

    fn topic(&self, event: &str) -> String {
        format!("{}.{event}", self.configuration.topic_prefix)
    }
}

fn extend(payload: &mut Value, more: Value) {
    if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), more) {
        payload.extend(more);
    }
}

fn tariff(terms: &Terms) -> Value {
    json!({
        "currency": terms.currency,
        "unitPrice": terms.unit_price,
        "unitMs": terms.unit_ms,
        "prepaid": terms.prepaid,
    })
}

fn counted(media: Counted) -> Value {
    let Counted {
        packets,
        bytes,
        last_rtp_at,
    } = media;
    json!({ "packets": packets, "bytes": bytes, "lastRtpAt": last_rtp_at })
}

register_plugin!(
    Billing: on_room_opened, before_produce, on_first_rtp, on_producer_paused,
    on_producer_resumed, on_producer_closed, on_timer, on_command
);

#[cfg(test)]
mod tests;

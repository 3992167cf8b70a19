//! Charging: a unit for each whole unit of flowing time, once each.

use std::time::Duration;

use serde_json::json;
use voice_room_plugin_sdk::{Actions, Failure, Target, UnixMs, events, kv, log, metrics, timers};

use crate::{
    Billing, balance,
    session::{Session, open_key},
    settings::{Terms, WhenSpent},
};

/// Units that one call charges: half of what it may publish.
const PER_CALL: u64 = 32;

/// How soon the next call charges more.
const NEXT_CALL: Duration = Duration::from_millis(100);

/// The timer `tick/PRODUCER` is due when another unit of that session is whole.
pub(crate) const TICK: &str = "tick/";

/// The timer `more/PRODUCER` goes on with what one call could not charge.
pub(crate) const MORE: &str = "more/";

impl Billing {
    /// Has the meter called when the next unit is whole, and at each one after it; not at all
    /// while the session does not flow. Who pays in advance cannot go on without: nothing would
    /// notice that the balance is spent.
    pub(crate) fn wind(session: &Session, at: UnixMs) -> Result<Actions, Failure> {
        let mut actions = Actions::new();
        let Some(terms) = &session.terms else {
            return Ok(actions);
        };
        let key = format!("{TICK}{}", session.producer_id);
        let Some(next) = session.until_next_unit(at) else {
            timers::cancel(&key)?;
            return Ok(actions);
        };
        let (after, every) = (
            Duration::from_millis(next),
            Duration::from_millis(terms.unit_ms),
        );
        if let Err(error) = timers::set_repeating(&key, after, every) {
            let producer_id = &session.producer_id;
            if terms.prepaid {
                log::error!("session {producer_id} is ended, for it cannot be metered: {error}");
                actions = actions.close(Target::Producer(producer_id.clone()));
            } else {
                // What is whole is charged at the next pause, and at the end.
                log::warn!("session {producer_id} is charged at its end: {error}");
            }
        }
        Ok(actions)
    }

    /// Has the meter called again soon, for more than one call could do.
    fn go_on(session: &Session) -> Result<(), Failure> {
        match timers::set(&format!("{MORE}{}", session.producer_id), NEXT_CALL) {
            Err(error) if session.end.is_none() => {
                log::warn!("the rest is charged with the next unit: {error}");
                Ok(())
            }
            set => Ok(set?),
        }
    }

    /// A unit is whole, if anybody is still in the room. An end is told before its room is
    /// empty, so a session that is open in an empty one is one whose end nobody will tell.
    pub(crate) fn tick(
        &self,
        room_id: &str,
        producer_id: &str,
        is_inhabited: bool,
        at: UnixMs,
    ) -> Result<Actions, Failure> {
        let Some(mut session) = kv::get::<Session>(&open_key(room_id, producer_id))? else {
            timers::cancel(&format!("{TICK}{producer_id}"))?;
            return Ok(Actions::new());
        };
        if session.end.is_some() {
            self.finish(room_id, session)?;
            return Ok(Actions::new());
        }
        if !is_inhabited {
            self.lose(room_id, session)?;
            return Ok(Actions::new());
        }
        if !session.is_paused() {
            session.seen(at);
        }
        self.charge(room_id, &mut session, at)?;
        let actions = self.look_at_balance(room_id, &mut session)?;
        kv::set(&open_key(room_id, producer_id), &session)?;
        Ok(actions)
    }

    /// Charges what is whole at a moment, as far as one call can; whether that was all.
    pub(crate) fn charge(
        &self,
        room_id: &str,
        session: &mut Session,
        at: UnixMs,
    ) -> Result<bool, Failure> {
        let Some(terms) = session.terms.clone() else {
            return Ok(true);
        };
        let whole = session.whole_units(at);
        let now = whole.min(session.units.saturating_add(PER_CALL));
        while session.units < now {
            session.units += 1;
            let unit_at = session.whole_at(session.units, at);
            let balance = if terms.prepaid {
                Some(balance::add(
                    &terms.currency,
                    session.user_id,
                    -terms.unit_price,
                )?)
            } else {
                None
            };
            metrics::increment("units_charged", 1);
            self.publish_unit("charged", room_id, session, &terms, (unit_at, balance))?;
        }
        if session.units < whole {
            Self::go_on(session)?;
        }
        Ok(session.units >= whole)
    }

    /// Takes back what was charged for time that turned out not to have flowed, for silence and
    /// a killed server are noticed some seconds late; whether that was all.
    pub(crate) fn refund(
        &self,
        room_id: &str,
        session: &mut Session,
        at: UnixMs,
    ) -> Result<bool, Failure> {
        let Some(terms) = session.terms.clone() else {
            return Ok(true);
        };
        let whole = session.whole_units(at);
        let least = session.units.saturating_sub(PER_CALL);
        while session.units > whole.max(least) {
            let balance = if terms.prepaid {
                Some(balance::add(
                    &terms.currency,
                    session.user_id,
                    terms.unit_price,
                )?)
            } else {
                None
            };
            metrics::increment("units_refunded", 1);
            self.publish_unit("refunded", room_id, session, &terms, (at, balance))?;
            session.units -= 1;
        }
        if session.units > whole {
            Self::go_on(session)?;
        }
        Ok(session.units <= whole)
    }

    fn publish_unit(
        &self,
        event: &str,
        room_id: &str,
        session: &Session,
        terms: &Terms,
        (at, balance): (UnixMs, Option<i64>),
    ) -> Result<(), Failure> {
        let unit = json!({
            "unit": session.units,
            "unitMs": terms.unit_ms,
            "amount": terms.unit_price,
            "currency": terms.currency,
            "balance": balance,
            "at": at,
        });
        let payload = Self::about(room_id, session, unit);
        Ok(events::publish(&self.topic(event), payload)?)
    }

    /// Warns whom whose balance is low, and ends the session of whom it covers no further.
    pub(crate) fn look_at_balance(
        &self,
        room_id: &str,
        session: &mut Session,
    ) -> Result<Actions, Failure> {
        let Some(terms) = session.terms.as_ref().filter(|terms| terms.prepaid) else {
            return Ok(Actions::new());
        };
        let (user, balance) = (
            session.user_id,
            balance::of(&terms.currency, session.user_id)?,
        );
        let left = balance / terms.unit_price.max(1);
        let told = json!({
            "roomId": room_id,
            "producerId": session.producer_id,
            "currency": terms.currency,
            "balance": balance,
            "unitPrice": terms.unit_price,
            "unitMs": terms.unit_ms,
            "unitsLeft": left.max(0),
        });
        session.spent = !terms.is_covered_by(balance);
        if session.spent {
            let spent = Actions::new().emit_to_user(user, "billing:spent", told);
            return Ok(match terms.when_spent {
                WhenSpent::Close => spent.close(Target::Producer(session.producer_id.clone())),
                WhenSpent::Kick => spent.kick(user, "balance_spent"),
            });
        }
        let is_low = left < i64::from(terms.low_units);
        let warns = is_low && !session.warned;
        session.warned = is_low;
        Ok(if warns {
            Actions::new().emit_to_user(user, "billing:low", told)
        } else {
            Actions::new()
        })
    }
}

//! A session and its time: segments that flow, and pauses between them. Pure.

use serde::{Deserialize, Serialize};
use voice_room_plugin_sdk::{Media, Source, UnixMs, UserId, kv};

use crate::settings::Terms;

/// A session that has been announced as started and not yet as stopped. Fields with a default
/// are not in sessions that an earlier version has begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) producer_id: String,
    pub(crate) user_id: UserId,
    pub(crate) source: Source,
    pub(crate) started_at: UnixMs,
    /// What it costs, if it costs anything.
    #[serde(default)]
    pub(crate) terms: Option<Terms>,
    /// Where the present segment began, if it is not the first.
    #[serde(default)]
    segment_at: Option<UnixMs>,
    #[serde(default)]
    paused: bool,
    /// What segments that have ended come to.
    #[serde(default)]
    flowed_ms: u64,
    /// Segments that have begun, beyond the first.
    #[serde(default)]
    resumed: u32,
    /// When it was last known to run.
    #[serde(default)]
    seen_at: UnixMs,
    /// Units that have been charged.
    #[serde(default)]
    pub(crate) units: u64,
    /// Whether the user knows that the balance is low.
    #[serde(default)]
    pub(crate) warned: bool,
    /// Whether it ends because the balance is spent.
    #[serde(default)]
    pub(crate) spent: bool,
    /// Once it has ended, for as long as not all of it has been charged.
    #[serde(default)]
    pub(crate) end: Option<End>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) at: UnixMs,
    pub(crate) reason: String,
    /// What the server counted, if it told the end.
    pub(crate) media: Option<Counted>,
}

/// What was received in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) last_rtp_at: Option<UnixMs>,
}

impl From<Media> for Counted {
    fn from(media: Media) -> Self {
        Self {
            packets: media.packets,
            bytes: media.bytes,
            last_rtp_at: media.last_rtp_at,
        }
    }
}

impl Session {
    pub(crate) fn new(
        producer_id: &str,
        user_id: UserId,
        source: Source,
        started_at: UnixMs,
        terms: Option<Terms>,
    ) -> Self {
        Self {
            producer_id: producer_id.to_owned(),
            user_id,
            source,
            started_at,
            terms,
            segment_at: None,
            paused: false,
            flowed_ms: 0,
            resumed: 0,
            seen_at: started_at,
            units: 0,
            warned: false,
            spent: false,
            end: None,
        }
    }

    /// Segments so far, counted from 1.
    pub(crate) fn segments(&self) -> u32 {
        self.resumed.saturating_add(1)
    }

    /// When the last segment began.
    pub(crate) fn segment_at(&self) -> UnixMs {
        self.segment_at.unwrap_or(self.started_at)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Ends the segment; how long it was. Nothing where there is none.
    pub(crate) fn pause(&mut self, at: UnixMs) -> Option<u64> {
        if self.paused {
            return None;
        }
        let lasted = at.saturating_sub(self.segment_at());
        self.flowed_ms = self.flowed_ms.saturating_add(lasted);
        self.paused = true;
        self.seen(at);
        Some(lasted)
    }

    /// Begins another segment; whether there was none.
    pub(crate) fn resume(&mut self, at: UnixMs) -> bool {
        if !self.paused {
            return false;
        }
        self.paused = false;
        self.segment_at = Some(at);
        self.resumed = self.resumed.saturating_add(1);
        self.seen(at);
        true
    }

    /// It is known to have run until then.
    pub(crate) fn seen(&mut self, at: UnixMs) {
        self.seen_at = self.seen_at.max(at);
    }

    /// The last moment at which it is known to have run.
    pub(crate) fn known_until(&self) -> UnixMs {
        self.seen_at.max(self.segment_at())
    }

    /// The sum of the segments until a moment, in milliseconds.
    pub(crate) fn billed_ms(&self, at: UnixMs) -> u64 {
        let running = match self.paused {
            true => 0,
            false => at.saturating_sub(self.segment_at()),
        };
        self.flowed_ms.saturating_add(running)
    }

    /// Whole units until a moment; none where nothing is charged.
    pub(crate) fn whole_units(&self, at: UnixMs) -> u64 {
        self.terms
            .as_ref()
            .map_or(0, |terms| self.billed_ms(at) / terms.unit_ms.max(1))
    }

    /// How long it has to flow on until the next unit is whole; `None` where it does not flow or
    /// nothing is charged.
    pub(crate) fn until_next_unit(&self, at: UnixMs) -> Option<u64> {
        let terms = self.terms.as_ref().filter(|_| !self.paused)?;
        let next = self.units.saturating_add(1).saturating_mul(terms.unit_ms);
        Some(next.saturating_sub(self.billed_ms(at)))
    }

    /// When a unit became whole, given that it is, at a moment.
    pub(crate) fn whole_at(&self, unit: u64, at: UnixMs) -> UnixMs {
        let until = self.terms.as_ref().map_or(0, |terms| terms.unit_ms);
        let since = self
            .billed_ms(at)
            .saturating_sub(until.saturating_mul(unit));
        let until_then = if self.paused { self.seen_at } else { at };
        until_then.saturating_sub(since)
    }

    /// What has been charged, in the currency's smallest unit.
    pub(crate) fn amount(&self) -> i64 {
        let units = i64::try_from(self.units).unwrap_or(i64::MAX);
        self.terms
            .as_ref()
            .map_or(0, |terms| units.saturating_mul(terms.unit_price))
    }
}

pub(crate) fn open_key(room_id: &str, producer_id: &str) -> String {
    kv::room_key("open", room_id, producer_id)
}

/// Of a session that has stopped: remembered for a while, lest a late fact starts it again.
pub(crate) fn stopped_key(room_id: &str, producer_id: &str) -> String {
    kv::room_key("stopped", room_id, producer_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::WhenSpent;

    fn session() -> Session {
        let terms = Terms {
            currency: "EUR".to_owned(),
            unit_price: 25,
            unit_ms: 60_000,
            prepaid: true,
            low_units: 3,
            when_spent: WhenSpent::Close,
        };
        Session::new("p", 7, Source::Mic, 1_000, Some(terms))
    }

    #[test]
    fn only_segments_are_billed() {
        let mut session = session();
        assert_eq!(session.billed_ms(31_000), 30_000);
        assert_eq!(session.until_next_unit(31_000), Some(30_000));
        assert_eq!(session.pause(31_000), Some(30_000));
        assert_eq!(session.pause(32_000), None, "it is paused");
        assert_eq!(session.billed_ms(500_000), 30_000);
        assert_eq!(session.until_next_unit(500_000), None);
        assert!(session.resume(500_000));
        assert!(!session.resume(500_001), "it flows");
        assert_eq!((session.segments(), session.segment_at()), (2, 500_000));
        assert_eq!(session.billed_ms(530_000), 60_000);
        assert_eq!(session.whole_units(529_999), 0);
        assert_eq!(session.whole_units(530_000), 1);
        assert_eq!(session.whole_at(1, 540_000), 530_000);
    }

    #[test]
    fn a_pause_that_is_noticed_late_takes_time_back() {
        let mut session = session();
        session.seen(61_000);
        session.units = 1;
        assert_eq!(session.pause(51_000), Some(50_000));
        assert_eq!(session.whole_units(61_000), 0, "one less than was charged");
        assert!(session.resume(100_000));
        assert_eq!(session.until_next_unit(100_000), Some(70_000));
    }

    #[test]
    fn a_session_of_an_earlier_version_runs_since_its_start() {
        let text = r#"{"producer_id":"p","user_id":7,"source":"mic","started_at":1000}"#;
        let session: Session = serde_json::from_str(text).unwrap();
        assert_eq!(session.billed_ms(3_000), 2_000);
        assert_eq!((session.known_until(), session.amount()), (1_000, 0));
        assert_eq!(session.whole_units(1_000_000), 0);
    }
}

//! What has been received of a stream, and when its last packet came. Pure.
//!
//! The worker says how many packets there were, when asked, and of itself when some time
//! has passed without one, and when they come again. It never says when one came.

use crate::model::{MediaCount, UnixMs};

/// How long after the time that the worker names a look must have been for what is counted
/// since to have come after it.
const APART_MS: u64 = 500;

/// How far a stream has come, when somebody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What has been received so far.
    pub received: MediaCount,
    /// Whether that is more than at the look before.
    pub grew: bool,
}

/// A stream's packets, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    received: MediaCount,
    looked_at: Option<UnixMs>,
    /// When packets were last seen to come, having not come before.
    came: Option<UnixMs>,
    /// Since when there has been no packet, as the worker says.
    idle: Option<UnixMs>,
}

impl Pulse {
    /// Packets come; whether they had stopped.
    pub(super) fn flows(&mut self, at: UnixMs) -> bool {
        let again = self.idle.take().is_some();
        if again || self.received.last_rtp_at.is_none() {
            self.received.last_rtp_at = Some(at);
            self.came = Some(at);
        }
        again
    }

    /// The last packet came at this time, says the worker. It says the same of a stream of
    /// which too little arrives: then one was seen later.
    pub(super) fn stopped(&mut self, since: UnixMs) {
        let came = self
            .came
            .is_some_and(|at| at.0 > since.0.saturating_add(APART_MS));
        if came {
            return;
        }
        self.idle = Some(since);
        self.received.last_rtp_at = Some(since);
    }

    /// The worker has counted so many.
    pub(super) fn look(&mut self, packets: u64, bytes: u64, at: UnixMs) -> Look {
        let grew = packets > self.received.packets;
        if grew {
            // What it calls idle may be a stream of which little arrives: more than what
            // came before it fell silent.
            let looked = |since: UnixMs| {
                let before = self.looked_at;
                before.is_some_and(|at| at.0 > since.0.saturating_add(APART_MS))
            };
            if self.idle.is_none_or(looked) {
                self.idle = None;
                self.received.last_rtp_at = Some(at);
            }
            self.received.packets = packets;
            self.received.bytes = bytes;
        }
        self.looked_at = Some(at);
        let received = self.received;
        Look { received, grew }
    }

    /// What was known at the last look.
    pub(super) fn received(&self) -> MediaCount {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(pulse: &Pulse) -> Option<u64> {
        pulse.received().last_rtp_at.map(|at| at.0)
    }

    #[test]
    fn a_stream_that_grows_had_its_last_packet_by_the_time_of_the_look() {
        let mut pulse = Pulse::default();
        assert!(!pulse.look(0, 0, UnixMs(1_000)).grew);
        assert_eq!(last(&pulse), None);
        let look = pulse.look(50, 5_000, UnixMs(2_000));
        assert!(look.grew);
        assert_eq!((look.received.packets, look.received.bytes), (50, 5_000));
        assert!(!pulse.look(50, 5_000, UnixMs(3_000)).grew);
        assert_eq!(last(&pulse), Some(2_000));
    }

    #[test]
    fn the_workers_word_is_more_exact_than_a_look() {
        let mut pulse = Pulse::default();
        pulse.flows(UnixMs(1_000));
        pulse.look(50, 1, UnixMs(5_000));
        pulse.stopped(UnixMs(6_000));
        // What came from 5,000 to 6,000.
        assert!(pulse.look(100, 2, UnixMs(10_000)).grew);
        assert_eq!(last(&pulse), Some(6_000));
        assert!(!pulse.look(100, 2, UnixMs(15_000)).grew);
        assert!(pulse.flows(UnixMs(16_000)), "again");
        assert!(!pulse.flows(UnixMs(16_500)), "still");
        assert_eq!(last(&pulse), Some(16_000));
    }

    #[test]
    fn what_came_after_it_is_said_to_have_stopped_shows_that_it_has_not() {
        let mut pulse = Pulse::default();
        pulse.flows(UnixMs(5_000));
        pulse.stopped(UnixMs(3_600));
        assert_eq!(last(&pulse), Some(5_000));
        pulse.look(50, 1, UnixMs(6_000));
        assert_eq!(last(&pulse), Some(6_000));
    }

    #[test]
    fn a_stream_that_is_called_idle_and_grows_all_the_same_flows() {
        let mut pulse = Pulse::default();
        pulse.look(50, 1, UnixMs(5_000));
        pulse.stopped(UnixMs(6_000));
        pulse.look(51, 1, UnixMs(10_000));
        pulse.look(52, 1, UnixMs(15_000));
        assert_eq!(last(&pulse), Some(15_000));
    }
}

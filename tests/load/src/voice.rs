//! What a speaker sends, and when each packet left: the sender's stamps.
//!
//! Sender and listeners are one process, so the stamps need not travel: an SFU keeps
//! RTP timestamps, and a packet's timestamp says which of the speaker's packets it is.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One Opus packet carries this much sound.
pub const FRAME: Duration = Duration::from_millis(20);
/// The same in RTP time: Opus has 48,000 units a second.
const FRAME_TICKS: u32 = 960;
/// Stamps that are kept: the last 20 s.
const STAMPS: usize = 1024;
/// Of a bound that is not set.
const NEVER: u64 = u64::MAX;

/// Frames of 20 ms, full band, mono: each is a table of contents and the range-coded
/// sound, which decodes whatever it is. As long as those of speech at 32 kbit/s.
static FRAMES: LazyLock<[Arc<[u8]>; 4]> = LazyLock::new(|| [71, 78, 83, 88].map(frame));

fn frame(length: u8) -> Arc<[u8]> {
    const CONFIGURATION_CELT_FULL_BAND_20_MS: u8 = 31 << 3;
    let sound = (1..length).map(|at| at.wrapping_mul(167).wrapping_add(length));
    std::iter::once(CONFIGURATION_CELT_FULL_BAND_20_MS)
        .chain(sound)
        .collect()
}

/// The sound of a speaker's packet.
pub(crate) fn payload(number: u64) -> Arc<[u8]> {
    let [one, two, three, four] = &*FRAMES;
    let frame = match number % 4 {
        0 => one,
        1 => two,
        2 => three,
        _ => four,
    };
    Arc::clone(frame)
}

/// Now, in nanoseconds since 1970: the clock of the kernel's receive timestamps.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// One speaker's stream: written by the thread that sends it, read by those that hear it.
#[derive(Debug)]
pub struct Voice {
    ssrc: u32,
    first_timestamp: u32,
    sent: AtomicU64,
    stamps: Box<[AtomicI64]>,
    /// Packets from this number on and before the other are measured.
    from: AtomicU64,
    until: AtomicU64,
}

/// A packet that is due.
pub(crate) struct Packet {
    pub(crate) number: u64,
    pub(crate) timestamp: u32,
}

impl Voice {
    /// A stream of which nothing has been sent.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let (ssrc, first_timestamp) = (random_u32() | 1, random_u32());
        Arc::new(Self {
            ssrc,
            first_timestamp,
            sent: AtomicU64::new(0),
            stamps: std::iter::repeat_with(AtomicI64::default)
                .take(STAMPS)
                .collect(),
            from: AtomicU64::new(NEVER),
            until: AtomicU64::new(NEVER),
        })
    }

    /// The SSRC under which it is sent.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Packets that have been sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Takes the next packet's number and stamps it.
    pub(crate) fn next(&self) -> Packet {
        let number = self.sent.load(Ordering::Relaxed);
        if let Some(stamp) = self.stamp(number) {
            stamp.store(now_ns(), Ordering::Relaxed);
        }
        self.sent.store(number + 1, Ordering::Release);
        let ticks = FRAME_TICKS.wrapping_mul(number as u32);
        Packet {
            number,
            timestamp: self.first_timestamp.wrapping_add(ticks),
        }
    }

    /// Which packet has this RTP timestamp; none if it is not one of this voice.
    pub(crate) fn number(&self, timestamp: u32) -> Option<u64> {
        let ticks = timestamp.wrapping_sub(self.first_timestamp);
        let number = u64::from(ticks / FRAME_TICKS);
        (ticks.is_multiple_of(FRAME_TICKS) && number < self.sent()).then_some(number)
    }

    /// When a packet was sent, in nanoseconds since 1970; none if that is long ago.
    pub(crate) fn sent_at(&self, number: u64) -> Option<i64> {
        let recent = self.sent().saturating_sub(number) < STAMPS as u64;
        let stamp = self.stamp(number).filter(|_| recent)?;
        Some(stamp.load(Ordering::Relaxed))
    }

    /// Measures from the next packet on.
    pub(crate) fn begin(&self) {
        self.until.store(NEVER, Ordering::Relaxed);
        self.from.store(self.sent(), Ordering::Release);
    }

    /// Measures no packet that is sent from now on; returns how many were sent since
    /// [`Self::begin`].
    pub(crate) fn end(&self) -> u64 {
        let until = self.sent();
        self.until.store(until, Ordering::Release);
        until.saturating_sub(self.from.load(Ordering::Acquire))
    }

    /// Whether a packet is one of those that are measured.
    pub(crate) fn measures(&self, number: u64) -> bool {
        number >= self.from.load(Ordering::Acquire) && number < self.until.load(Ordering::Acquire)
    }

    fn stamp(&self, number: u64) -> Option<&AtomicI64> {
        self.stamps.get(number as usize % STAMPS)
    }
}

/// A random number for ids on the wire; nothing secret hangs on it.
pub(crate) fn random_u32() -> u32 {
    getrandom::u32().unwrap_or_else(|_| now_ns() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_leads_back_to_the_packet_and_its_stamp() {
        let voice = Voice::new();
        let before = now_ns();
        let packets: Vec<Packet> = (0..3).map(|_| voice.next()).collect();
        for packet in &packets {
            assert_eq!(voice.number(packet.timestamp), Some(packet.number));
            let stamp = voice.sent_at(packet.number).unwrap();
            assert!(stamp >= before && stamp <= now_ns());
        }
        assert_eq!(voice.number(packets[2].timestamp.wrapping_add(1)), None);
        assert_eq!(
            voice.number(packets[2].timestamp.wrapping_add(FRAME_TICKS)),
            None
        );
    }

    #[test]
    fn a_stamp_that_has_been_overwritten_is_none() {
        let voice = Voice::new();
        for _ in 0..=STAMPS {
            voice.next();
        }
        assert_eq!(voice.sent_at(0), None);
        assert!(voice.sent_at(STAMPS as u64).is_some());
    }

    #[test]
    fn only_packets_between_begin_and_end_are_measured() {
        let voice = Voice::new();
        voice.next();
        assert!(!voice.measures(0));
        voice.begin();
        voice.next();
        voice.next();
        assert_eq!(voice.end(), 2);
        voice.next();
        let measured: Vec<bool> = (0..4).map(|number| voice.measures(number)).collect();
        assert_eq!(measured, [false, true, true, false]);
    }
}

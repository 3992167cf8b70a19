//! Listens to a stream's packets. Level reports come four times a second at best,
//! too late for the first words of somebody whom nobody receives yet, and leave out
//! streams of few packets. A probe takes the packets themselves, which claim their
//! level (RFC 6464).

use std::time::{Duration, Instant};

use mediasoup::{
    consumer::ConsumerOptions,
    prelude::{DirectTransport, RtpCapabilities, RtpHeaderExtensionUri, Transport as _},
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{MediaError, Producer, bounded};
use crate::model::ProducerId;

/// Loud packets in a row that make an onset: one alone may be a click.
const LOUD_PACKETS: u32 = 2;

/// How often an onset is reported while it goes on: whoever found no place in the
/// set may find one later.
const REPEAT: Duration = Duration::from_millis(100);

/// An Opus packet with fewer bytes carries silence or comfort noise.
const SHORTEST_SOUND: usize = 8;

/// Listens to one producer. Dropping it ends that.
pub struct Probe {
    _consumer: mediasoup::consumer::Consumer,
}

/// A packet of the stream.
pub(super) struct Packet<'a> {
    bytes: &'a [u8],
    extension: Option<u8>,
}

impl Packet<'_> {
    /// The level that it claims, in dBov.
    pub(super) fn level(&self) -> Option<i8> {
        self.extension
            .and_then(|extension| level(self.bytes, extension))
    }

    /// Whether it carries more than padding.
    pub(super) fn has_payload(&self) -> bool {
        Header::of(self.bytes).is_some_and(|header| !header.payload.is_empty())
    }
}

impl Probe {
    /// Hands each packet to `hear`, on the media thread.
    pub(super) async fn open(
        direct: &DirectTransport,
        producer: &Producer,
        capabilities: RtpCapabilities,
        limit: Duration,
        hear: impl Fn(&Packet<'_>) + Send + Sync + 'static,
    ) -> Result<Self, MediaError> {
        let options = ConsumerOptions::new(producer.inner.producer.id(), capabilities);
        let consumer = bounded(limit, "probe producer", direct.consume(options)).await?;
        let extensions = &consumer.rtp_parameters().header_extensions;
        let extension = extensions
            .iter()
            .find(|one| one.uri == RtpHeaderExtensionUri::SsrcAudioLevel)
            .and_then(|one| u8::try_from(one.id).ok());
        consumer
            .on_rtp(move |bytes| hear(&Packet { bytes, extension }))
            .detach();
        Ok(Self {
            _consumer: consumer,
        })
    }
}

/// Has `onsets` told while a stream is loud, ten times a second, as far as there is room.
pub(super) fn onsets(
    id: ProducerId,
    threshold: i8,
    onsets: mpsc::Sender<ProducerId>,
) -> impl Fn(&Packet<'_>) + Send + Sync + 'static {
    let ear = Mutex::new(Ear::default());
    move |packet| {
        // A client that claims no levels speaks whenever it sends sound.
        let volume = packet
            .level()
            .or_else(|| sounds(packet.bytes).then_some(threshold));
        let loud = volume.is_some_and(|volume| volume >= threshold);
        if ear.lock().hear(loud, Instant::now()) {
            // If there is no room, the next one comes soon.
            onsets.try_send(id).ok();
        }
    }
}

/// Counts loud packets.
#[derive(Debug, Default)]
struct Ear {
    loud: u32,
    reported: Option<Instant>,
}

impl Ear {
    /// Takes a packet; whether there is an onset to report.
    fn hear(&mut self, loud: bool, at: Instant) -> bool {
        if !loud {
            self.loud = 0;
            return false;
        }
        self.loud = self.loud.saturating_add(1);
        let again = self
            .reported
            .is_none_or(|before| at.duration_since(before) >= REPEAT);
        let onset = self.loud >= LOUD_PACKETS && again;
        if onset {
            self.reported = Some(at);
        }
        onset
    }
}

/// An RTP packet's header, as far as it matters here.
struct Header<'a> {
    /// Profile and elements of the header extension.
    extension: Option<(u16, &'a [u8])>,
    payload: &'a [u8],
}

impl<'a> Header<'a> {
    fn of(packet: &'a [u8]) -> Option<Self> {
        let first = *packet.first()?;
        let sources = usize::from(first & 0x0f) * 4;
        let padding = if first & 0x20 == 0 {
            0
        } else {
            usize::from(*packet.last()?)
        };
        let packet = packet.get(..packet.len().checked_sub(padding)?)?;
        let rest = packet.get(12 + sources..)?;
        if first & 0x10 == 0 {
            return Some(Self {
                extension: None,
                payload: rest,
            });
        }
        let [p1, p2, l1, l2, ..] = *rest else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([l1, l2])) * 4;
        Some(Self {
            extension: Some((u16::from_be_bytes([p1, p2]), rest.get(4..4 + length)?)),
            payload: rest.get(4 + length..)?,
        })
    }
}

fn sounds(packet: &[u8]) -> bool {
    Header::of(packet).is_some_and(|header| header.payload.len() >= SHORTEST_SOUND)
}

/// The level that a packet claims, in dBov.
fn level(packet: &[u8], extension: u8) -> Option<i8> {
    let (profile, mut rest) = Header::of(packet)?.extension?;
    let one_byte = profile == 0xbede;
    if !one_byte && profile & 0xfff0 != 0x1000 {
        return None;
    }
    loop {
        let [head, tail @ ..] = rest else { return None };
        if *head == 0 {
            // Padding.
            rest = tail;
            continue;
        }
        let (id, length, body) = if one_byte {
            (head >> 4, usize::from(head & 0x0f) + 1, tail)
        } else {
            let [length, body @ ..] = tail else {
                return None;
            };
            (*head, usize::from(*length), body)
        };
        if one_byte && id == 15 {
            return None;
        }
        if id == extension {
            // The upper bit says whether it is a voice: clients differ in that.
            let value = body.get(..length)?.first()? & 0x7f;
            return i8::try_from(value).ok().map(|level| -level);
        }
        rest = body.get(length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(extension: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x90, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend_from_slice(extension);
        packet.extend_from_slice(&[0x78; 40]);
        packet
    }

    #[test]
    fn a_level_is_found_among_other_elements() {
        // Another element of two bytes, padding, then the level with the voice bit.
        let one_byte = [0xbe, 0xde, 0, 2, 0x31, 7, 7, 0, 0x60, 0x80 | 30, 0, 0];
        assert_eq!(level(&packet(&one_byte), 6), Some(-30));
        let two_byte = [0x10, 0x00, 0, 2, 3, 2, 7, 7, 6, 1, 30, 0];
        assert_eq!(level(&packet(&two_byte), 6), Some(-30));
        assert_eq!(level(&packet(&one_byte), 5), None);
    }

    #[test]
    fn packets_that_are_cut_short_have_no_level() {
        let whole = packet(&[0xbe, 0xde, 0, 1, 0x60, 30, 0, 0]);
        assert_eq!(level(&whole, 6), Some(-30));
        for length in 0..20 {
            assert_eq!(level(&whole[..length], 6), None, "{length} bytes");
        }
        let lying = packet(&[0xbe, 0xde, 0xff, 0xff, 0x60, 30, 0, 0]);
        assert_eq!(level(&lying, 6), None);
        let endless = packet(&[0xbe, 0xde, 0, 1, 0x6f, 30, 0, 0]);
        assert_eq!(level(&endless, 6), None);
    }

    #[test]
    fn without_levels_a_packet_sounds_by_its_size() {
        let mut packet = vec![0x80, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend_from_slice(&[0xf8, 0xff, 0xfe]);
        assert!(!sounds(&packet), "what Opus sends in a silence");
        packet.extend_from_slice(&[0; 40]);
        assert!(sounds(&packet));
    }

    #[test]
    fn padding_is_no_payload() {
        let packet = |bytes: &[u8]| {
            let packet = Packet {
                bytes,
                extension: None,
            };
            packet.has_payload()
        };
        let header = [0xa0, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        assert!(!packet(&[&header[..], &[0, 0, 0, 4]].concat()));
        assert!(packet(&[&header[..], &[7, 0, 0, 0, 4]].concat()));
        assert!(!packet(&[&header[..], &[0, 0, 0, 200]].concat()), "a lie");
        assert!(!packet(&header[..11]));
    }

    #[test]
    fn two_loud_packets_in_a_row_are_an_onset_and_one_is_not() {
        let start = Instant::now();
        let mut ear = Ear::default();
        let loud = [true, false, true, true].map(|loud| ear.hear(loud, start));
        assert_eq!(loud, [false, false, false, true]);
    }

    #[test]
    fn an_onset_that_goes_on_is_reported_again_but_not_with_every_packet() {
        let start = Instant::now();
        let mut ear = Ear::default();
        let reports = (0..10_u32).filter(|nth| {
            let at = start + Duration::from_millis(20) * *nth;
            ear.hear(true, at)
        });
        assert_eq!(reports.collect::<Vec<_>>(), [1, 6]);
    }
}

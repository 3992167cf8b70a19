//! One endpoint: the protocols, its socket, and what it hears.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::{
    Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig,
    format::{Codec, FormatParams},
    media::{Frequency, MediaKind},
    net::{Protocol, Receive},
    rtp::{Extension, ExtensionMap, ExtensionValues, RtpPacket, RtpWrite},
};
use tokio::sync::oneshot;

use super::{Reception, sockets};
use crate::{
    measure::Durations,
    voice::{Packet, Voice, payload},
    wire::{Formats, Remote},
};

/// These many packets of each stream are verified at its beginning.
const FIRST: u64 = 3;

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An endpoint on its thread.
pub(super) struct Session {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    remote: SocketAddr,
    formats: Formats,
    /// When the protocols want to be called again.
    deadline: Instant,
    connecting: Option<oneshot::Sender<Result<(), String>>>,
    streams: HashMap<u32, Stream>,
    /// One packet in so many is verified.
    verify: u64,
    /// Streams that were heard for the first time since this was last taken.
    pub(super) newly_heard: u64,
}

struct Stream {
    voice: Arc<Voice>,
    first_at_ns: Option<i64>,
    packets: u64,
    sequence: Option<Sequence>,
    measured: u64,
    examined: u64,
    verified: u64,
}

/// Sequence numbers of 16 bits, counted on.
struct Sequence {
    first: u64,
    highest: u64,
}

impl Sequence {
    fn new(number: u16) -> Self {
        // One round up, so that a packet from before the first one has a number as well.
        let first = u64::from(number) + (1 << 16);
        Self {
            first,
            highest: first,
        }
    }

    fn see(&mut self, number: u16) {
        let ahead = number.wrapping_sub(self.highest as u16).cast_signed();
        let number = self.highest.saturating_add_signed(i64::from(ahead));
        self.highest = self.highest.max(number);
        self.first = self.first.min(number);
    }

    fn span(&self) -> u64 {
        self.highest - self.first + 1
    }
}

/// What is read of an RTP packet without a key.
struct Header {
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
}

impl Header {
    /// None of STUN, DTLS and RTCP, which share the socket (RFC 7983, RFC 5761).
    fn read(packet: &[u8]) -> Option<Self> {
        let (&[first, kind, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3], _) =
            packet.split_first_chunk::<12>()?;
        let is_rtp = (128..192).contains(&first) && !(192..224).contains(&kind);
        is_rtp.then(|| Self {
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
        })
    }
}

fn is_rtcp(packet: &[u8]) -> bool {
    matches!(packet, [128..192, 192..224, ..])
}

/// The protocols of an endpoint for a router with these formats.
pub(super) fn configuration(formats: Formats) -> RtcConfig {
    let mut extensions = ExtensionMap::empty();
    extensions.set(formats.audio_level, Extension::AudioLevel);
    extensions.set(formats.mid, Extension::RtpMid);
    let mut config = RtcConfig::new()
        .set_rtp_mode(true)
        .clear_codecs()
        .set_extension_map(extensions);
    config.codec_config().add_config(
        formats.opus.into(),
        None,
        Codec::Opus,
        Frequency::FORTY_EIGHT_KHZ,
        Some(2),
        FormatParams::default(),
    );
    config
}

impl Session {
    /// Begins to connect; see [`Self::tell`].
    pub(super) fn open(
        mut rtc: Rtc,
        remote: Remote,
        formats: Formats,
        verify: u64,
    ) -> Result<Self, Failure> {
        let socket = sockets::open(remote.address)?;
        let local = socket.local_addr()?;
        rtc.add_local_candidate(Candidate::host(local, "udp")?);
        rtc.add_remote_candidate(Candidate::host(remote.address, "udp")?);
        let mut direct = rtc.direct_api();
        direct.set_ice_controlling(true);
        direct.set_remote_ice_credentials(remote.ice);
        direct.set_remote_fingerprint(remote.fingerprint);
        direct.start_dtls(true)?;
        Ok(Self {
            rtc,
            socket,
            local,
            remote: remote.address,
            formats,
            deadline: Instant::now(),
            connecting: None,
            streams: HashMap::new(),
            verify,
            newly_heard: 0,
        })
    }

    /// Tells somebody how the connecting ends.
    pub(super) fn tell(&mut self, waiting: oneshot::Sender<Result<(), String>>) {
        self.connecting = Some(waiting);
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.connecting.is_some()
    }

    /// Tells whoever waits for the connection why there will be none; whether somebody did.
    pub(super) fn fail(&mut self, why: &str) -> bool {
        let Some(waiting) = self.connecting.take() else {
            return false;
        };
        waiting.send(Err(why.to_owned())).is_ok()
    }

    pub(super) fn expect(&mut self, ssrc: u32, mid: &str, voice: Arc<Voice>) {
        let mut direct = self.rtc.direct_api();
        direct.declare_media(mid.into(), MediaKind::Audio);
        let expected = direct.expect_stream_rx(ssrc.into(), None, mid.into(), None);
        // What is only counted would be asked for again.
        expected.suppress_nack(self.verify > 1);
        let stream = Stream {
            voice,
            first_at_ns: None,
            packets: 0,
            sequence: None,
            measured: 0,
            examined: 0,
            verified: 0,
        };
        self.streams.insert(ssrc, stream);
    }

    pub(super) fn declare(&mut self, ssrc: u32) {
        // One after the other may be sent, and all are the same media.
        let is_known = self.rtc.media(crate::wire::MID.into()).is_some();
        let mut direct = self.rtc.direct_api();
        if !is_known {
            direct.declare_media(crate::wire::MID.into(), MediaKind::Audio);
        }
        direct.declare_stream_tx(ssrc.into(), None, crate::wire::MID.into(), None);
    }

    /// Sends a voice's next packet.
    pub(super) fn send(&mut self, voice: &Voice, level: i8) -> Result<(), Failure> {
        let mut direct = self.rtc.direct_api();
        let Some(stream) = direct.stream_tx(&voice.ssrc().into()) else {
            return Ok(());
        };
        let Packet { number, timestamp } = voice.next();
        let extensions = ExtensionValues {
            audio_level: Some(level),
            voice_activity: Some(true),
            ..Default::default()
        };
        let packet = RtpWrite::new(
            self.formats.opus.into(),
            number.into(),
            timestamp,
            Instant::now(),
            payload(number),
        );
        stream.write_rtp(packet.ext_vals(extensions));
        // It goes out when the protocols are next told the time.
        self.rtc.handle_input(Input::Timeout(Instant::now()))?;
        self.drain()
    }

    /// Takes what has arrived, and does what is due.
    pub(super) fn sweep(
        &mut self,
        batch: &mut sockets::Batch,
        delays: &mut Durations,
    ) -> Result<(), Failure> {
        loop {
            let more = batch.take(&self.socket)?;
            for (packet, at) in batch.packets() {
                self.take(packet, at, delays)?;
            }
            if !more {
                break;
            }
        }
        let now = Instant::now();
        if now >= self.deadline {
            self.rtc.handle_input(Input::Timeout(now))?;
            self.drain()?;
        }
        Ok(())
    }

    fn take(&mut self, packet: &[u8], at_ns: i64, delays: &mut Durations) -> Result<(), Failure> {
        if let Some(header) = Header::read(packet)
            && let Some(stream) = self.streams.get_mut(&header.ssrc)
        {
            stream.count(&header, at_ns, delays);
            if stream.packets > FIRST && !stream.packets.is_multiple_of(self.verify) {
                return Ok(());
            }
            stream.examined += 1;
        }
        let Ok(contents) = packet.try_into() else {
            // Not of the protocols: nobody has to answer it.
            return Ok(());
        };
        let packet = Receive {
            proto: Protocol::Udp,
            source: self.remote,
            destination: self.local,
            contents,
        };
        self.rtc
            .handle_input(Input::Receive(Instant::now(), packet))?;
        self.drain()
    }

    /// Sends what the protocols have to send, and notes what they report. They want each
    /// change to be followed by all of its output before the next.
    fn drain(&mut self) -> Result<(), Failure> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return Ok(());
                }
                Output::Transmit(packet) => self.transmit(&packet.contents)?,
                Output::Event(Event::Connected) => {
                    if let Some(waiting) = self.connecting.take() {
                        // Whoever waited may have given up.
                        drop(waiting.send(Ok(())));
                    }
                }
                Output::Event(Event::RtpPacket(packet)) => self.verified(&packet),
                Output::Event(Event::IceConnectionStateChange(
                    IceConnectionState::Disconnected,
                )) => return Err("ICE is disconnected".into()),
                Output::Event(_) => {}
            }
        }
    }

    fn transmit(&self, packet: &[u8]) -> io::Result<()> {
        // The protocols have not seen what was only counted, so that their reports would
        // tell of losses that there are not.
        if is_rtcp(packet) && self.verify > 1 && !self.streams.is_empty() {
            return Ok(());
        }
        match self.socket.send(packet) {
            Ok(_) => Ok(()),
            // What does not fit is lost, as on any network.
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(why) => Err(why),
        }
    }

    fn verified(&mut self, packet: &RtpPacket) {
        let Some(stream) = self.streams.get_mut(&*packet.header.ssrc) else {
            return;
        };
        let number = stream.voice.number(packet.header.timestamp);
        let is_as_sent = number.is_some_and(|number| *payload(number) == *packet.payload);
        if is_as_sent {
            self.newly_heard += u64::from(stream.verified == 0);
            stream.verified += 1;
        }
    }

    pub(super) fn receptions(&self, endpoint: u64) -> impl Iterator<Item = Reception> {
        self.streams.values().map(move |stream| Reception {
            endpoint,
            voice: stream.voice.ssrc(),
            first_at_ns: stream.first_at_ns,
            packets: stream.packets,
            sequence_gaps: stream
                .sequence
                .as_ref()
                .map_or(0, |sequence| sequence.span().saturating_sub(stream.packets)),
            measured: stream.measured,
            examined: stream.examined,
            verified: stream.verified,
        })
    }
}

impl Stream {
    fn count(&mut self, header: &Header, at_ns: i64, delays: &mut Durations) {
        self.packets += 1;
        self.first_at_ns.get_or_insert(at_ns);
        match &mut self.sequence {
            Some(sequence) => sequence.see(header.sequence),
            None => self.sequence = Some(Sequence::new(header.sequence)),
        }
        let Some(number) = self.voice.number(header.timestamp) else {
            return;
        };
        if self.voice.measures(number) {
            self.measured += 1;
            if let Some(sent_ns) = self.voice.sent_at(number) {
                let delay = u64::try_from(at_ns - sent_ns).unwrap_or_default();
                delays.record(Duration::from_nanos(delay));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_across_the_wrap_of_sequence_numbers() {
        let mut sequence = Sequence::new(65_534);
        for number in [65_535, 1, 0, 4] {
            sequence.see(number);
        }
        assert_eq!(sequence.span(), 7);
        let mut late = Sequence::new(0);
        late.see(65_535);
        assert_eq!(late.span(), 2);
    }

    #[test]
    fn only_rtp_is_read_as_rtp() {
        let mut packet = [0; 20];
        for (first, kind, rtp) in [
            (0x80, 100, true),
            (0x90, 111 | 0x80, true),
            (0x80, 201, false),
            (0x00, 1, false),
            (22, 254, false),
        ] {
            packet[0] = first;
            packet[1] = kind;
            assert_eq!(Header::read(&packet).is_some(), rtp, "{first} {kind}");
        }
        assert!(Header::read(&packet[..11]).is_none());
        assert!(is_rtcp(&[0x80, 201, 0]));
    }
}

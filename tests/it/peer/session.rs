//! A peer's task: the protocols, the socket, and what is sent when.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use str0m::config::Fingerprint;
use str0m::media::MediaKind;
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpWrite};
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use voice_room::model::UnixMs;

use super::{Disturbance, FRAME, FRAME_TICKS, Failure, Formats, Progress, Sent};

/// What a peer has its task do, in order.
pub(super) enum Command {
    Connect {
        ice: IceCreds,
        address: SocketAddr,
        fingerprint: Fingerprint,
    },
    AddTrack {
        mid: String,
        ssrc: u32,
    },
    Speak {
        ssrc: u32,
        level: i8,
        /// So many packets and no more.
        packets: Option<u32>,
    },
    /// Sends nothing on a track until it speaks again.
    Hush {
        ssrc: u32,
    },
    /// Says that the commands before it were done.
    Told(oneshot::Sender<()>),
    Disturb(Disturbance),
    Expect {
        mid: String,
        ssrc: u32,
    },
}

/// The task's side of a peer: the protocols, the socket, and what it has to do next.
pub(super) struct Session {
    rtc: Rtc,
    socket: UdpSocket,
    formats: Formats,
    /// The tracks that are sending, by SSRC.
    speaking: BTreeMap<u32, Voice>,
    disturbance: Disturbance,
    progress: watch::Sender<Progress>,
}

/// Where a track that sends has got to.
struct Voice {
    level: i8,
    /// How many packets are still to be sent, if not any number.
    left: Option<u32>,
    /// What the last packet claimed.
    claimed: Option<i8>,
    packets: u32,
}

impl Session {
    pub(super) fn new(
        rtc: Rtc,
        socket: UdpSocket,
        formats: Formats,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self {
            rtc,
            socket,
            formats,
            speaking: BTreeMap::new(),
            disturbance: Disturbance::None,
            progress,
        }
    }

    pub(super) async fn run(mut self, commands: mpsc::Receiver<Command>) {
        let failure = match self.exchange(commands).await {
            Ok(()) => return,
            Err(failure) => failure.to_string(),
        };
        self.progress
            .send_modify(|progress| progress.failure = Some(failure));
    }

    /// Runs until the peer is dropped. The protocols want each change to be followed by
    /// all of its output before the next.
    async fn exchange(&mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), Failure> {
        let local = self.socket.local_addr()?;
        let mut frames = tokio::time::interval(FRAME);
        let mut buffer = vec![0; 2048];
        loop {
            let deadline = self.drain().await?;
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.rtc.handle_input(Input::Timeout(Instant::now()))?;
                }
                received = self.socket.recv_from(&mut buffer) => {
                    let (length, source) = received?;
                    let contents = buffer.get(..length).unwrap_or_default().try_into()?;
                    let packet = Receive { proto: Protocol::Udp, source, destination: local, contents };
                    self.rtc.handle_input(Input::Receive(Instant::now(), packet))?;
                }
                _ = frames.tick(), if !self.speaking.is_empty() => self.send_frames().await?,
                command = commands.recv() => match command {
                    Some(command) => self.obey(command)?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Sends what the protocols have to send, and notes what they report. Returns when
    /// they want to be called again.
    async fn drain(&mut self) -> Result<Instant, Failure> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(deadline) => return Ok(deadline),
                Output::Transmit(packet) => {
                    let mut contents = packet.contents.to_vec();
                    // RTP and RTCP, by the first byte (RFC 7983).
                    if matches!(contents.first(), Some(128..192)) {
                        if self.disturbance == Disturbance::Replayed {
                            self.socket.send_to(&contents, packet.destination).await?;
                        }
                        if let (Disturbance::Tampered, Some(last)) =
                            (self.disturbance, contents.last_mut())
                        {
                            *last ^= 0xff;
                        }
                    }
                    self.socket.send_to(&contents, packet.destination).await?;
                }
                Output::Event(Event::Connected) => {
                    self.progress
                        .send_modify(|progress| progress.connected = true);
                }
                Output::Event(Event::RtpPacket(packet)) => self.progress.send_modify(|progress| {
                    let reception = progress.received.entry(*packet.header.ssrc).or_default();
                    let number = *packet.seq_no;
                    let (low, high) = reception.sequence.unwrap_or((number, number));
                    reception.sequence = Some((low.min(number), high.max(number)));
                    reception.packets += 1;
                    reception.audio_level = packet.header.ext_vals.audio_level;
                    reception.sender_report |= packet.last_sender_info.is_some();
                }),
                Output::Event(_) => {}
            }
        }
    }

    async fn send_frames(&mut self) -> Result<(), Failure> {
        let speak = self
            .speaking
            .iter()
            .filter(|(_, voice)| voice.left != Some(0));
        let due: Vec<u32> = speak.map(|(ssrc, _)| *ssrc).collect();
        for ssrc in due {
            self.send_frame(ssrc);
            self.drain().await?;
        }
        Ok(())
    }

    fn send_frame(&mut self, ssrc: u32) {
        let mut direct = self.rtc.direct_api();
        let (Some(voice), Some(stream)) =
            (self.speaking.get_mut(&ssrc), direct.stream_tx(&ssrc.into()))
        else {
            return;
        };
        // A table of contents for one 20 ms frame of full-band speech, and noise.
        let mut payload = [0x5a; 80];
        payload[0] = 0x78;
        let extensions = ExtensionValues {
            audio_level: Some(voice.level),
            voice_activity: Some(true),
            ..Default::default()
        };
        stream.write_rtp(
            RtpWrite::new(
                self.formats.opus.into(),
                u64::from(voice.packets).into(),
                voice.packets.wrapping_mul(FRAME_TICKS),
                Instant::now(),
                payload,
            )
            .ext_vals(extensions),
        );
        voice.packets += 1;
        voice.left = voice.left.map(|left| left.saturating_sub(1));
        let sent = Sent {
            packets: voice.packets.into(),
            last: UnixMs::now(),
        };
        self.progress.send_modify(|progress| {
            progress.sent.insert(ssrc, sent);
        });
        if voice.claimed.replace(voice.level) != Some(voice.level) {
            self.progress.send_modify(|progress| {
                progress.turned.insert(ssrc, Instant::now());
            });
        }
    }

    fn obey(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Connect {
                ice,
                address,
                fingerprint,
            } => {
                self.rtc
                    .add_remote_candidate(Candidate::host(address, "udp")?);
                let mut direct = self.rtc.direct_api();
                direct.set_ice_controlling(true);
                direct.set_remote_ice_credentials(ice);
                direct.set_remote_fingerprint(fingerprint);
                direct.start_dtls(true)?;
            }
            Command::AddTrack { mid, ssrc } => {
                let mid = mid.as_str().into();
                let mut direct = self.rtc.direct_api();
                direct.declare_media(mid, MediaKind::Audio);
                direct.declare_stream_tx(ssrc.into(), None, mid, None);
            }
            Command::Speak {
                ssrc,
                level,
                packets,
            } => {
                let voice = self.speaking.entry(ssrc).or_insert(Voice {
                    level,
                    left: None,
                    claimed: None,
                    packets: 0,
                });
                voice.level = level;
                voice.left = packets;
            }
            Command::Hush { ssrc } => {
                if let Some(voice) = self.speaking.get_mut(&ssrc) {
                    voice.left = Some(0);
                }
            }
            Command::Told(done) => done.send(()).unwrap_or_default(),
            Command::Disturb(disturbance) => self.disturbance = disturbance,
            Command::Expect { mid, ssrc } => {
                let mid = mid.as_str().into();
                let mut direct = self.rtc.direct_api();
                direct.declare_media(mid, MediaKind::Audio);
                direct.expect_stream_rx(ssrc.into(), None, mid, None);
            }
        }
        Ok(())
    }
}

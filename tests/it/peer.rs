//! A WebRTC client without a browser: ICE, DTLS and SRTP over a loopback socket.
//!
//! A peer is the client's end of one transport of the server. It speaks the JSON of
//! mediasoup, so any signalling can stand between the two:
//!
//! 1. [`Peer::bind`], with the router's capabilities;
//! 2. the signalling hands [`Peer::dtls_parameters`] to the server's transport;
//! 3. [`Peer::connect`], with what the server said of its transport;
//! 4. [`Peer::add_track`] and [`Peer::speak`] to send, [`Peer::expect`] to receive.
//!
//! Each peer is one task. It ends when the peer is dropped, without a word to the server,
//! as a client does whose network went away.

#[path = "peer/formats.rs"]
mod formats;
#[path = "peer/session.rs"]
mod session;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use str0m::config::Fingerprint;
use str0m::{Candidate, IceCreds};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use voice_room::model::UnixMs;

use self::formats::Formats;
use self::session::{Command, Session};

/// How long anything that must happen may take: generous, since a test that waits this
/// long has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// One Opus packet carries this much sound.
const FRAME: Duration = Duration::from_millis(20);
/// The same in RTP time, of which Opus has 48,000 units a second.
const FRAME_TICKS: u32 = 960;

const AUDIO_LEVEL_URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The client's end of one transport.
pub(crate) struct Peer {
    formats: Formats,
    fingerprint: Fingerprint,
    tracks: u32,
    commands: mpsc::Sender<Command>,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

/// Something to send: what `produce` is asked with, and its stream.
pub(crate) struct Track {
    pub(crate) rtp_parameters: Value,
    pub(crate) ssrc: u32,
}

/// What has happened to a peer so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// ICE and DTLS are through.
    pub(crate) connected: bool,
    /// What has arrived, by SSRC.
    pub(crate) received: BTreeMap<u32, Reception>,
    /// What has been sent, by SSRC.
    pub(crate) sent: BTreeMap<u32, Sent>,
    /// When a track that sends began to claim another level: its first such packet.
    pub(crate) turned: BTreeMap<u32, Instant>,
    /// Why the peer has stopped, if it has.
    failure: Option<String>,
}

impl Progress {
    fn sent(&self, track: &Track) -> u64 {
        self.sent.get(&track.ssrc).map_or(0, |sent| sent.packets)
    }
}

/// What has been sent of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) last: UnixMs,
}

/// What has arrived of one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reception {
    pub(crate) packets: u64,
    /// The lowest and the highest sequence number.
    pub(crate) sequence: Option<(u64, u64)>,
    /// The level that the last packet claimed, in dBov: 0 is the loudest, -127 silence.
    pub(crate) audio_level: Option<i8>,
    /// Whether an RTCP sender report told of this stream.
    pub(crate) sender_report: bool,
}

impl Reception {
    /// Packets between the first and the last one that have not arrived.
    pub(crate) fn missing(&self) -> u64 {
        let (low, high) = self.sequence.unwrap_or_default();
        (high + 1).saturating_sub(low + self.packets)
    }
}

/// What becomes of RTP and RTCP packets once they have been sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    None,
    /// The seal is broken.
    Tampered,
    /// Each comes twice.
    Replayed,
}

impl Peer {
    /// Opens a socket for a transport of a router with these `rtpCapabilities`.
    pub(crate) async fn bind(router_capabilities: &Value) -> Self {
        let formats = Formats::of(router_capabilities);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut rtc = formats.config().build(Instant::now());
        rtc.add_local_candidate(Candidate::host(socket.local_addr().unwrap(), "udp").unwrap());
        let fingerprint = rtc.direct_api().local_dtls_fingerprint().clone();

        let (commands, incoming) = mpsc::channel(16);
        let (observer, progress) = watch::channel(Progress::default());
        let session = Session::new(rtc, socket, formats, observer);
        Self {
            formats,
            fingerprint,
            tracks: 0,
            commands,
            progress,
            task: tokio::spawn(session.run(incoming)),
        }
    }

    /// This end's `dtlsParameters`. The peer takes the client's role, as browsers do.
    pub(crate) fn dtls_parameters(&self) -> Value {
        let text = self.fingerprint.to_string();
        let (algorithm, value) = text.split_once(' ').unwrap();
        json!({
            "role": "client",
            "fingerprints": [{ "algorithm": algorithm, "value": value }],
        })
    }

    /// This end's `rtpCapabilities`, for `consume`.
    pub(crate) fn rtp_capabilities(&self) -> Value {
        let extension = |uri: &str, id: u8| {
            json!({
                "kind": "audio", "uri": uri, "preferredId": id,
                "preferredEncrypt": false, "direction": "sendrecv",
            })
        };
        json!({
            "codecs": [{
                "kind": "audio", "mimeType": "audio/opus", "preferredPayloadType": self.formats.opus,
                "clockRate": 48000, "channels": 2, "parameters": {}, "rtcpFeedback": [],
            }],
            "headerExtensions": [
                extension(AUDIO_LEVEL_URI, self.formats.audio_level),
                extension(MID_URI, self.formats.mid),
            ],
        })
    }

    /// Connects to the server's `{iceParameters, iceCandidates, dtlsParameters}`, and
    /// returns when ICE and DTLS are through. The server knows this end's DTLS parameters.
    pub(crate) async fn connect(&self, transport: &Value) {
        let candidate = transport["iceCandidates"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["protocol"] == "udp"))
            .expect("the transport has a UDP candidate");
        let ip: IpAddr = text(&candidate["address"]).parse().unwrap();
        let port = u16::try_from(candidate["port"].as_u64().unwrap()).unwrap();
        let fingerprint = transport["dtlsParameters"]["fingerprints"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["algorithm"] == "sha-256"))
            .expect("the transport has a SHA-256 fingerprint");

        self.command(Command::Connect {
            ice: IceCreds {
                ufrag: text(&transport["iceParameters"]["usernameFragment"]),
                pass: text(&transport["iceParameters"]["password"]),
            },
            address: SocketAddr::new(ip, port),
            fingerprint: format!("sha-256 {}", text(&fingerprint["value"]))
                .parse()
                .unwrap(),
        })
        .await;
        self.until("connected", |progress| progress.connected).await;
    }

    /// Adds a track of Opus to send, silent until [`Peer::speak`].
    pub(crate) async fn add_track(&mut self) -> Track {
        let mid = format!("track{}", self.tracks);
        self.tracks += 1;
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        let ssrc = u32::try_from((high ^ low) >> 32).unwrap();
        let track = Track {
            rtp_parameters: json!({
                "mid": mid,
                "codecs": [{
                    "mimeType": "audio/opus", "payloadType": self.formats.opus, "clockRate": 48000,
                    "channels": 2, "parameters": { "useinbandfec": 1 }, "rtcpFeedback": [],
                }],
                "headerExtensions": [
                    { "uri": AUDIO_LEVEL_URI, "id": self.formats.audio_level, "encrypt": false, "parameters": {} },
                    { "uri": MID_URI, "id": self.formats.mid, "encrypt": false, "parameters": {} },
                ],
                "encodings": [{ "ssrc": ssrc, "dtx": false }],
                "rtcp": { "cname": "peer", "reducedSize": true },
            }),
            ssrc,
        };
        self.command(Command::AddTrack { mid, ssrc }).await;
        track
    }

    /// Sends on a track from now on, 50 packets a second that claim `level` dBov.
    pub(crate) async fn speak(&self, track: &Track, level: i8) {
        let (ssrc, packets) = (track.ssrc, None);
        let speak = Command::Speak {
            ssrc,
            level,
            packets,
        };
        self.command(speak).await;
    }

    /// Sends so many packets on a track.
    pub(crate) async fn say(&self, track: &Track, level: i8, packets: u32) {
        let speak = Command::Speak {
            ssrc: track.ssrc,
            level,
            packets: Some(packets),
        };
        let enough = self.sent(track) + u64::from(packets);
        self.command(speak).await;
        self.until("sending", |progress| progress.sent(track) >= enough)
            .await;
    }

    /// Sends nothing on a track from now on; what was sent until then.
    pub(crate) async fn hush(&self, track: &Track) -> Sent {
        let ssrc = track.ssrc;
        self.command(Command::Hush { ssrc }).await;
        // Commands are done in order: this one does nothing after the one before it.
        let (done, reached) = oneshot::channel();
        self.command(Command::Told(done)).await;
        reached.await.expect("the peer is running");
        self.progress.borrow().sent[&ssrc]
    }

    /// Has something done to every RTP packet from now on.
    pub(crate) async fn disturb(&self, disturbance: Disturbance) {
        self.command(Command::Disturb(disturbance)).await;
    }

    /// Waits until so many more packets of a track have been sent.
    pub(crate) async fn sends(&self, track: &Track, more: u64) {
        let enough = self.sent(track) + more;
        self.until("sending", |progress| progress.sent(track) >= enough)
            .await;
    }

    /// Packets of a track that have been sent so far.
    fn sent(&self, track: &Track) -> u64 {
        self.progress.borrow().sent(track)
    }

    /// Takes the stream of a consumer with these `rtpParameters`; returns its SSRC.
    pub(crate) async fn expect(&self, rtp_parameters: &Value) -> u32 {
        let ssrc = &rtp_parameters["encodings"][0]["ssrc"];
        let ssrc = u32::try_from(ssrc.as_u64().unwrap()).unwrap();
        let mid = text(&rtp_parameters["mid"]);
        self.command(Command::Expect { mid, ssrc }).await;
        ssrc
    }

    /// Packets of a stream that have arrived so far.
    pub(crate) fn packets(&self, ssrc: u32) -> u64 {
        let progress = self.progress.borrow();
        progress.received.get(&ssrc).map_or(0, |one| one.packets)
    }

    /// Waits until the peer's progress satisfies `condition`.
    pub(crate) async fn until(
        &self,
        what: &str,
        mut condition: impl FnMut(&Progress) -> bool,
    ) -> Progress {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|now| now.failure.is_some() || condition(now));
        let now = tokio::time::timeout(LIMIT, reached)
            .await
            .unwrap_or_else(|_| panic!("not {what} in time: {:?}", self.progress.borrow()))
            .expect("the peer is running")
            .clone();
        assert_eq!(now.failure, None, "the peer has stopped");
        now
    }

    async fn command(&self, command: Command) {
        self.commands
            .send(command)
            .await
            .expect("the peer is running");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("expected a string, got {value}"))
        .to_owned()
}

//! The participants' ends of their transports: ICE, DTLS and SRTP by str0m, a UDP socket
//! each, all on a few threads.
//!
//! A load client shares the machine with the server, so its own cost counts:
//!
//! * Sockets are *swept*: every 40 ms a thread takes what has arrived, many packets at
//!   once, instead of being woken for each. When a packet arrived is the kernel's stamp,
//!   so delays are exact nevertheless, and do not contain this client's own.
//! * Of a stream's packets, the first few and then one in [`Options::verify`] go through
//!   str0m, which authenticates and decrypts them; of the others the header is read, which
//!   SRTP leaves in clear.
//! * One certificate serves all participants.

mod lane;
mod session;
mod sockets;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use str0m::{Rtc, RtcConfig, config::DtlsCert, crypto};
use tokio::sync::{oneshot, watch};

use crate::{
    error::{LoadError, StepError},
    measure::Durations,
    voice::Voice,
    wire::{Formats, Remote},
};

/// Orders that may wait for one thread.
const QUEUE: usize = 1 << 16;

/// Which way a transport carries sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the participant.
    Send,
    /// To the participant.
    Receive,
}

/// How the media side works.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Threads that receive. One more sends.
    pub threads: usize,
    /// One packet in so many is authenticated and decrypted; 1 is all of them.
    pub verify: u64,
}

/// All participants' media. Dropping it ends its threads.
#[derive(Debug)]
pub struct Engine {
    /// The first one sends.
    lanes: Vec<SyncSender<Order>>,
    turn: AtomicUsize,
    next: AtomicU64,
    certificate: DtlsCert,
    dtls_parameters: Value,
    heard: watch::Receiver<u64>,
}

/// What a lane is to do.
enum Order {
    Open(Box<Opening>),
    Speak {
        endpoint: u64,
        voice: Arc<Voice>,
        level: i8,
    },
    Hush {
        endpoint: u64,
    },
    Listen {
        endpoint: u64,
        ssrc: u32,
        mid: String,
        voice: Arc<Voice>,
    },
    Close {
        endpoint: u64,
    },
    Report(oneshot::Sender<Report>),
}

struct Opening {
    endpoint: u64,
    rtc: Rtc,
    remote: Remote,
    formats: Formats,
    connected: oneshot::Sender<Result<(), String>>,
}

/// A participant's end of one transport. Dropping it closes its socket, without a word to
/// the server.
#[derive(Debug)]
pub struct Endpoint {
    id: u64,
    lane: SyncSender<Order>,
    connected: Option<oneshot::Receiver<Result<(), String>>>,
}

/// What has arrived of one stream.
#[derive(Debug, Clone)]
pub struct Reception {
    /// The endpoint that receives it.
    pub endpoint: u64,
    /// The SSRC under which its speaker sends it.
    pub voice: u32,
    /// When the first packet arrived, in nanoseconds since 1970.
    pub first_at_ns: Option<i64>,
    /// All packets.
    pub packets: u64,
    /// Sequence numbers between the first and the last one that have not arrived.
    pub sequence_gaps: u64,
    /// Packets of those that were sent while measuring.
    pub measured: u64,
    /// Packets that were to be authenticated and decrypted, and how many of them could be and
    /// carried what was sent.
    pub examined: u64,
    /// See `examined`.
    pub verified: u64,
}

/// What the media side has seen.
#[derive(Debug, Clone)]
pub struct Report {
    /// All streams of endpoints that are open.
    pub receptions: Vec<Reception>,
    /// From the sender's stamp to the kernel's, of measured packets.
    pub delays: Durations,
    /// How much later than due packets were sent.
    pub lateness: Durations,
    /// What went wrong with endpoints that were connected.
    pub failures: Vec<String>,
    /// Processor time of the threads so far.
    pub busy: Duration,
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// If they cannot be started, or there is no certificate.
    pub fn start(options: Options) -> Result<Self, LoadError> {
        let failed = |why: &str| LoadError::Start {
            what: "the media threads",
            why: why.to_owned(),
        };
        let provider = crypto::from_feature_flags();
        let certificate = provider.dtls_provider.generate_certificate();
        let certificate = certificate.ok_or_else(|| failed("no DTLS certificate"))?;
        let dtls_parameters = dtls_parameters(&certificate);
        let (hearing, heard) = watch::channel(0);
        let hearing = Arc::new(hearing);
        let mut lanes = Vec::new();
        for number in 0..=options.threads.max(1) {
            let (orders, incoming): (_, Receiver<Order>) = sync_channel(QUEUE);
            let (verify, hearing) = (options.verify.max(1), Arc::clone(&hearing));
            let thread = thread::Builder::new().name(format!("media {number}"));
            let started = thread.spawn(move || lane::Lane::new(verify, hearing).run(&incoming));
            started.map_err(|why| failed(&why.to_string()))?;
            lanes.push(orders);
        }
        Ok(Self {
            lanes,
            turn: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            certificate,
            dtls_parameters,
            heard,
        })
    }

    /// How many streams have been heard, their first packet verified.
    #[must_use]
    pub fn heard(&self) -> watch::Receiver<u64> {
        self.heard.clone()
    }

    /// `dtlsParameters` of every end, for `transport:connect`.
    pub(crate) fn dtls_parameters(&self) -> Value {
        self.dtls_parameters.clone()
    }

    /// Begins to connect to the server's end, which knows the parameters of this one.
    pub(crate) fn open(
        &self,
        direction: Direction,
        formats: Formats,
        remote: Remote,
    ) -> Result<Endpoint, StepError> {
        let config = session::configuration(formats).set_dtls_cert(self.certificate.clone());
        let rtc = RtcConfig::build(config, Instant::now());
        let lane = match direction {
            Direction::Send => 0,
            Direction::Receive => {
                1 + self.turn.fetch_add(1, Ordering::Relaxed) % (self.lanes.len() - 1)
            }
        };
        let lane = self.lanes.get(lane).ok_or_else(stopped)?.clone();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (connected, waiting) = oneshot::channel();
        let endpoint = Endpoint {
            id,
            lane,
            connected: Some(waiting),
        };
        endpoint.order(Order::Open(Box::new(Opening {
            endpoint: id,
            rtc,
            remote,
            formats,
            connected,
        })))?;
        Ok(endpoint)
    }

    /// What all threads have seen so far.
    ///
    /// # Errors
    /// If a thread has ended.
    pub async fn report(&self) -> Result<Report, StepError> {
        let mut all = Report::empty();
        for lane in &self.lanes {
            let (reply, report) = oneshot::channel();
            send(lane, Order::Report(reply))?;
            all.add(report.await.map_err(|_| stopped())?);
        }
        Ok(all)
    }
}

fn dtls_parameters(certificate: &DtlsCert) -> Value {
    let config = RtcConfig::new().set_dtls_cert(certificate.clone());
    let mut rtc = RtcConfig::build(config, Instant::now());
    let fingerprint = rtc.direct_api().local_dtls_fingerprint().to_string();
    let (algorithm, value) = fingerprint.split_once(' ').unwrap_or_default();
    json!({
        "role": "client",
        "fingerprints": [{ "algorithm": algorithm, "value": value }],
    })
}

impl Report {
    fn empty() -> Self {
        Self {
            receptions: Vec::new(),
            delays: Durations::new(),
            lateness: Durations::new(),
            failures: Vec::new(),
            busy: Duration::ZERO,
        }
    }

    fn add(&mut self, other: Self) {
        self.receptions.extend(other.receptions);
        self.delays.add(&other.delays);
        self.lateness.add(&other.lateness);
        self.failures.extend(other.failures);
        self.busy += other.busy;
    }
}

impl Endpoint {
    /// Names it in a [`Report`].
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Waits until ICE and DTLS are through.
    ///
    /// # Errors
    /// If they fail, or are not through in time.
    pub async fn connected(&mut self, limit: Duration) -> Result<(), StepError> {
        let Some(waiting) = self.connected.take() else {
            return Ok(());
        };
        let event = "ICE and DTLS";
        match tokio::time::timeout(limit, waiting).await {
            Ok(Ok(result)) => result.map_err(StepError::Media),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(StepError::TimedOut { event, limit }),
        }
    }

    /// Sends from now on, 50 packets a second that claim `level` dBov.
    ///
    /// # Errors
    /// If the thread has ended.
    pub fn speak(&self, voice: &Arc<Voice>, level: i8) -> Result<(), StepError> {
        self.order(Order::Speak {
            endpoint: self.id,
            voice: Arc::clone(voice),
            level,
        })
    }

    /// Sends nothing more, until it speaks again.
    ///
    /// # Errors
    /// If the thread has ended.
    pub fn hush(&self) -> Result<(), StepError> {
        self.order(Order::Hush { endpoint: self.id })
    }

    /// Takes a voice that comes under this SSRC and MID.
    ///
    /// # Errors
    /// If the thread has ended.
    pub fn listen(&self, ssrc: u32, mid: String, voice: &Arc<Voice>) -> Result<(), StepError> {
        self.order(Order::Listen {
            endpoint: self.id,
            ssrc,
            mid,
            voice: Arc::clone(voice),
        })
    }

    fn order(&self, order: Order) -> Result<(), StepError> {
        send(&self.lane, order)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // A thread that has ended has closed all of its sockets.
        drop(self.order(Order::Close { endpoint: self.id }));
    }
}

fn send(lane: &SyncSender<Order>, order: Order) -> Result<(), StepError> {
    lane.try_send(order).map_err(|error| match error {
        TrySendError::Full(_) => {
            StepError::Media("the media thread does not keep up; lower --concurrency".to_owned())
        }
        TrySendError::Disconnected(_) => stopped(),
    })
}

fn stopped() -> StepError {
    StepError::Media("the media thread has ended".to_owned())
}

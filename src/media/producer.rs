//! An audio stream that a participant sends, and where it is to be had.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mediasoup::{
    prelude::{
        AudioLevelObserver, RtpObserver, RtpObserverAddProducerOptions, RtpParameters,
        WebRtcTransport,
    },
    producer::ProducerStat,
    types::rtp_parameters::RtpCodecParametersParametersValue,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::debug;

use super::{
    MediaError, MediaEvent, WorkerKey, bounded, codec,
    first_rtp::Watch,
    participant::{is_reachable, report},
    pipe::Pipe,
    placement::RouterKey,
    pulse::{Look, Pulse},
};
use crate::model::{Codec, MediaCount, ProducerId, UnixMs};

/// After how long without a packet the worker calls a stream idle; with DTX.
const IDLE_MS: (u64, u64) = (1_500, 5_000);

/// An audio stream that a participant sends. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    pub(super) inner: Arc<ProducerInner>,
}

pub(super) struct ProducerInner {
    pub(super) producer: mediasoup::producer::Producer,
    observer: AudioLevelObserver,
    observed: AtomicBool,
    /// When a producer of its transport ended last.
    ended: Arc<Mutex<Option<Instant>>>,
    pub(super) events: mpsc::Sender<MediaEvent>,
    pub(super) limit: Duration,
    pub(super) traced: bool,
    pub(super) paused: Arc<AtomicBool>,
    pub(super) made: Instant,
    /// What waits for the stream to begin.
    pub(super) watch: Mutex<Option<Arc<Watch>>>,
    /// One begins or ends to watch at a time: both switch the trace.
    pub(super) watching: tokio::sync::Mutex<()>,
    /// Whether it has been watched before.
    pub(super) watched: AtomicBool,
    pulse: Arc<Mutex<Pulse>>,
    transport: WebRtcTransport,
    worker: WorkerKey,
    /// To the room's other routers. Gone with the producer.
    pipes: Mutex<HashMap<RouterKey, Pipe>>,
}

/// What a new producer runs with.
pub(super) struct Setting {
    pub(super) transport: WebRtcTransport,
    pub(super) worker: WorkerKey,
    pub(super) observer: AudioLevelObserver,
    /// To be told when it ends.
    pub(super) ended: Arc<Mutex<Option<Instant>>>,
    pub(super) events: mpsc::Sender<MediaEvent>,
    pub(super) limit: Duration,
    pub(super) traced: bool,
    pub(super) paused: bool,
}

impl Drop for ProducerInner {
    /// A level report holds every producer that it names, under a lock that the
    /// end of a producer takes as well: were a report its last holder, the media
    /// thread would wait for itself. So no report may name it any more.
    fn drop(&mut self) {
        *self.ended.lock() = Some(Instant::now());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if *self.observed.get_mut() {
            let (producer, observer) = (self.producer.clone(), self.observer.clone());
            let limit = self.limit;
            runtime.spawn(async move {
                let removed = observer.remove_producer(producer.id());
                if let Err(error) = bounded(limit, "stop observing", removed).await {
                    debug!(producer = %producer.id(), %error, "not removed from the observer");
                }
                drop(producer);
            });
        }
    }
}

impl Producer {
    /// How long the count of a stream's packets may take.
    pub const COUNT_LIMIT: Duration = Duration::from_millis(300);

    pub(super) fn new(producer: mediasoup::producer::Producer, setting: Setting) -> Self {
        let pulse = Arc::default();
        follow(&producer, &pulse, setting.events.clone());
        Self {
            inner: Arc::new(ProducerInner {
                producer,
                observer: setting.observer,
                observed: AtomicBool::new(false),
                ended: setting.ended,
                events: setting.events,
                limit: setting.limit,
                traced: setting.traced,
                paused: Arc::new(AtomicBool::new(setting.paused)),
                made: Instant::now(),
                watch: Mutex::default(),
                watching: tokio::sync::Mutex::default(),
                watched: AtomicBool::new(false),
                pulse,
                transport: setting.transport,
                worker: setting.worker,
                pipes: Mutex::default(),
            }),
        }
    }

    /// Nobody wants it any more: what follows it on the transport may have to wait
    /// until the last holder has let go.
    pub fn ending(&self) {
        *self.inner.ended.lock() = Some(Instant::now());
    }

    /// The id under which a router has this stream.
    pub(super) fn id_on(&self, router: RouterKey) -> Option<mediasoup::producer::ProducerId> {
        if router == RouterKey::SOURCE {
            return Some(self.inner.producer.id());
        }
        self.inner.pipes.lock().get(&router).map(Pipe::id)
    }

    /// Whether a router has this stream.
    pub(super) fn is_on(&self, router: RouterKey) -> bool {
        self.id_on(router).is_some()
    }

    pub(super) fn add_pipe(&self, router: RouterKey, pipe: Pipe) {
        self.inner.pipes.lock().insert(router, pipe);
    }

    /// Keeps the pipes to some routers and hands back the others, to be dropped
    /// where no lock is held.
    pub(super) fn keep_pipes(&self, keep: impl Fn(RouterKey) -> bool) -> Vec<Pipe> {
        let mut pipes = self.inner.pipes.lock();
        let gone: Vec<RouterKey> = pipes.keys().copied().filter(|key| !keep(*key)).collect();
        gone.iter().filter_map(|key| pipes.remove(key)).collect()
    }

    /// The producer's id.
    #[must_use]
    pub fn id(&self) -> ProducerId {
        ProducerId(self.inner.producer.id().into())
    }

    /// The codec in use.
    #[must_use]
    pub fn codec(&self) -> Codec {
        codec(self.inner.producer.rtp_parameters())
    }

    /// Whether a stream with these parameters could not run beside this one on
    /// the same transport, because it reuses its SSRC or MID.
    #[must_use]
    pub fn collides_with(&self, parameters: &RtpParameters) -> bool {
        let mine = self.inner.producer.rtp_parameters();
        let same_mid = mine.mid.is_some() && mine.mid == parameters.mid;
        let same_ssrc = mine.encodings.iter().any(|one| {
            one.ssrc.is_some()
                && parameters
                    .encodings
                    .iter()
                    .any(|other| other.ssrc == one.ssrc)
        });
        same_mid || same_ssrc
    }

    /// Asks the worker what it has received of the stream so far, waiting no longer than
    /// [`Producer::COUNT_LIMIT`].
    ///
    /// # Errors
    /// If the worker fails the request, for instance because the transport has gone.
    pub async fn look(&self) -> Result<Look, MediaError> {
        let limit = self.inner.limit.min(Self::COUNT_LIMIT);
        let stats = bounded(limit, "count packets", self.inner.producer.get_stats()).await?;
        let at = UnixMs::now();
        let all = |of: fn(&ProducerStat) -> u64| {
            let counts = stats.iter().map(of);
            counts.fold(0, u64::saturating_add)
        };
        let (packets, bytes) = (all(|one| one.packet_count), all(|one| one.byte_count));
        Ok(self.inner.pulse.lock().look(packets, bytes, at))
    }

    /// What had been received when somebody looked last.
    #[must_use]
    pub fn received(&self) -> MediaCount {
        self.inner.pulse.lock().received()
    }

    /// The worker that receives it.
    #[must_use]
    pub fn worker(&self) -> WorkerKey {
        self.inner.worker
    }

    /// Whether ICE reaches the sender now.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        is_reachable(&self.inner.transport)
    }

    /// Includes the producer in the room's level reports until it closes.
    ///
    /// # Errors
    /// If the worker fails the request.
    pub async fn observe(&self) -> Result<(), MediaError> {
        self.inner.observed.store(true, Ordering::Relaxed);
        let options = RtpObserverAddProducerOptions::new(self.inner.producer.id());
        let added = self.inner.observer.add_producer(options);
        bounded(self.inner.limit, "observe producer", added).await
    }

    /// Stops or starts forwarding to all consumers.
    ///
    /// # Errors
    /// If the worker fails the request.
    pub async fn set_paused(&self, paused: bool) -> Result<(), MediaError> {
        let (producer, limit) = (&self.inner.producer, self.inner.limit);
        if paused {
            bounded(limit, "pause producer", producer.pause()).await?;
        } else {
            bounded(limit, "resume producer", producer.resume()).await?;
        }
        self.inner.paused.store(paused, Ordering::Relaxed);
        self.inner.look_at_score();
        Ok(())
    }
}

/// Reports when packets come again, and keeps when the last one came.
fn follow(
    producer: &mediasoup::producer::Producer,
    pulse: &Arc<Mutex<Pulse>>,
    events: mpsc::Sender<MediaEvent>,
) {
    let idle_ms = if uses_dtx(producer.rtp_parameters()) {
        IDLE_MS.1
    } else {
        IDLE_MS.0
    };
    let (pulse, id) = (Arc::clone(pulse), ProducerId(producer.id().into()));
    producer
        .on_score(move |scores| {
            let at = UnixMs::now();
            if scores.is_empty() {
                return;
            }
            if scores.iter().all(|score| score.score == 0) {
                let since = UnixMs(at.0.saturating_sub(idle_ms));
                pulse.lock().stopped(since);
            } else if pulse.lock().flows(at) {
                report(&events, MediaEvent::RtpAgain { producer: id, at });
            }
        })
        .detach();
}

/// As the worker sees it.
fn uses_dtx(parameters: &RtpParameters) -> bool {
    let by_codec = parameters.codecs.iter().any(|codec| {
        let value = codec.parameters().iter().find(|(key, _)| *key == "usedtx");
        matches!(
            value,
            Some((_, RtpCodecParametersParametersValue::Number(1)))
        )
    });
    by_codec || parameters.encodings.iter().any(|one| one.dtx == Some(true))
}

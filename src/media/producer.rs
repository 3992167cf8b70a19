//! An audio stream that a participant sends, and where it is to be had.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mediasoup::{
    prelude::{AudioLevelObserver, RtpObserver, RtpObserverAddProducerOptions, RtpParameters},
    producer::{ProducerScore, ProducerTraceEventData, ProducerTraceEventType},
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::{
    MediaError, MediaEvent, bounded, codec, participant::report, pipe::Pipe, placement::RouterKey,
};
use crate::model::{Codec, ProducerId, UnixMs};

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
    events: mpsc::Sender<MediaEvent>,
    limit: Duration,
    traced: bool,
    paused: Arc<AtomicBool>,
    /// Reports the first packet; set where packets cannot be traced.
    first: OnceLock<Arc<dyn Fn() + Send + Sync>>,
    /// To the room's other routers. Gone with the producer.
    pipes: Mutex<HashMap<RouterKey, Pipe>>,
}

/// What a new producer runs with.
pub(super) struct Setting {
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
    pub(super) fn new(producer: mediasoup::producer::Producer, setting: Setting) -> Self {
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
                first: OnceLock::new(),
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

    /// Reports the first RTP packet once, as [`MediaEvent::FirstRtp`]: from the
    /// packet itself, by a trace event that is switched off again; where packets
    /// cannot be traced, from the first score, which the first packet causes.
    /// While paused, packets arrive but are no start.
    ///
    /// # Errors
    /// If the worker fails the request.
    pub async fn watch_first_rtp(&self) -> Result<(), MediaError> {
        let id = self.id();
        let events = self.inner.events.clone();
        let (stop, stopped) = oneshot::channel();
        let stop = Mutex::new(Some(stop));
        let first: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            if let Some(stop) = stop.lock().take() {
                report(
                    &events,
                    MediaEvent::FirstRtp {
                        producer: id,
                        at: UnixMs::now(),
                    },
                );
                stop.send(()).ok();
            }
        });
        let traced = self.inner.traced;
        let handler = if traced {
            let first = Arc::clone(&first);
            self.inner.producer.on_trace(move |event| {
                if matches!(event, ProducerTraceEventData::Rtp { .. }) {
                    first();
                }
            })
        } else {
            self.inner.first.set(Arc::clone(&first)).ok();
            let (first, paused) = (Arc::clone(&first), Arc::clone(&self.inner.paused));
            self.inner.producer.on_score(move |scores| {
                if !paused.load(Ordering::Relaxed) && scored(scores) {
                    first();
                }
            })
        };
        if traced {
            let on = self
                .inner
                .producer
                .enable_trace_event(vec![ProducerTraceEventType::Rtp]);
            bounded(self.inner.limit, "watch for RTP", on).await?;
        }
        // A packet that was quicker than the handler is visible in the score.
        self.look_at_score(&*first);
        drop(first);
        let (weak, limit) = (Arc::downgrade(&self.inner), self.inner.limit);
        tokio::spawn(async move {
            // Ends with the producer as well, whose handlers hold the sender.
            let packet = stopped.await;
            drop(handler);
            if let (true, Ok(()), Some(inner)) = (traced, packet, weak.upgrade()) {
                let off = inner.producer.enable_trace_event(Vec::new());
                if let Err(error) = bounded(limit, "stop watching for RTP", off).await {
                    debug!(producer = %id, %error, "RTP trace left on");
                }
            }
        });
        Ok(())
    }

    fn look_at_score(&self, first: &(dyn Fn() + Send + Sync)) {
        let running = !self.inner.paused.load(Ordering::Relaxed);
        if running && scored(&self.inner.producer.score()) {
            first();
        }
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
        if let Some(first) = self.inner.first.get() {
            // What arrived while paused was no start; what flows now is.
            self.look_at_score(&**first);
        }
        Ok(())
    }
}

/// Whether packets have been scored: the first one is.
fn scored(scores: &[ProducerScore]) -> bool {
    scores.iter().any(|score| score.score > 0)
}

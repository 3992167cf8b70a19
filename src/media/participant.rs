//! One participant's media: transports, producers and consumers. Each handle
//! closes its media when the last clone is dropped.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mediasoup::{
    consumer::ConsumerOptions,
    prelude::{
        AudioLevelObserver, ConsumeError, DtlsParameters, MediaKind, ProduceError, ProducerOptions,
        RtpCapabilities, RtpObserver, RtpObserverAddProducerOptions, RtpParameters, Transport as _,
        WebRtcTransport, WebRtcTransportRemoteParameters,
    },
    producer::{ProducerScore, ProducerTraceEventData, ProducerTraceEventType},
    types::data_structures::{DtlsState, IceState},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error};

use super::{
    MediaError, MediaEvent, RtpError, answered_no, bounded, codec, lenient, workers::Load,
};
use crate::model::{Codec, ConsumerId, ProducerId, TransportId, UnixMs};

/// A WebRTC transport of one participant. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    transport: WebRtcTransport,
    events: mpsc::Sender<MediaEvent>,
    limit: Duration,
    /// Whether packets of this transport are traced: its first producer decides.
    traced: Arc<OnceLock<bool>>,
    observer: AudioLevelObserver,
    _load: Arc<Load>,
}

impl Transport {
    pub(super) fn new(
        transport: WebRtcTransport,
        observer: AudioLevelObserver,
        events: mpsc::Sender<MediaEvent>,
        load: Load,
        limit: Duration,
    ) -> Self {
        let id = TransportId(transport.id().into());
        let ended = events.clone();
        transport
            .on_dtls_state_change(move |state| {
                if matches!(state, DtlsState::Failed | DtlsState::Closed) {
                    report(&ended, MediaEvent::TransportEnded(id));
                }
            })
            .detach();
        Self {
            transport,
            events,
            limit,
            traced: Arc::default(),
            observer,
            _load: Arc::new(load),
        }
    }

    /// The transport's id.
    #[must_use]
    pub fn id(&self) -> TransportId {
        TransportId(self.transport.id().into())
    }

    /// `id`, `iceParameters`, `iceCandidates` and `dtlsParameters`, as
    /// mediasoup-client takes them.
    #[must_use]
    pub fn describe(&self) -> Value {
        json!({
            "id": self.id(),
            "iceParameters": self.transport.ice_parameters(),
            "iceCandidates": lenient::ice_candidates(self.transport.ice_candidates()),
            "dtlsParameters": self.transport.dtls_parameters(),
        })
    }

    /// Whether ICE reaches the peer now.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        let state = self.transport.ice_state();
        matches!(state, IceState::Connected | IceState::Completed)
    }

    /// Takes the peer's DTLS parameters; the handshake follows by itself.
    ///
    /// # Errors
    /// If the worker fails the request.
    pub async fn connect(&self, dtls_parameters: DtlsParameters) -> Result<(), MediaError> {
        let remote = WebRtcTransportRemoteParameters { dtls_parameters };
        bounded(
            self.limit,
            "connect transport",
            self.transport.connect(remote),
        )
        .await
    }

    /// New ICE credentials, in mediasoup's JSON shape.
    ///
    /// # Errors
    /// If the worker fails the request.
    pub async fn restart_ice(&self) -> Result<Value, MediaError> {
        let parameters = bounded(self.limit, "restart ICE", self.transport.restart_ice()).await?;
        Ok(json!(parameters))
    }

    /// Starts receiving an audio stream from the peer.
    ///
    /// # Errors
    /// [`RtpError::Unsupported`] if the router or the transport cannot take
    /// these parameters, for instance because an SSRC is in use.
    pub async fn produce(
        &self,
        rtp_parameters: RtpParameters,
        paused: bool,
    ) -> Result<Producer, RtpError> {
        // Once a stream without an SSRC is there, a trace of any packet of the
        // transport could end the process: a trace that is on cannot be joined.
        let safe = lenient::trace_is_safe(&rtp_parameters);
        let traced = *self.traced.get_or_init(|| safe);
        if traced && !safe {
            let why = "beside streams that name their SSRC, name one in encodings[0].ssrc";
            return Err(RtpError::Unsupported(why.to_owned()));
        }
        let mut options = ProducerOptions::new(MediaKind::Audio, rtp_parameters);
        options.paused = paused;
        let producer = match tokio::time::timeout(self.limit, self.transport.produce(options)).await
        {
            Err(_) => return Err(MediaError::TimedOut("produce").into()),
            Ok(Ok(producer)) => producer,
            Ok(Err(ProduceError::Request(error))) if !answered_no(&error) => {
                let source = Box::new(error);
                return Err(MediaError::Request {
                    request: "produce",
                    source,
                }
                .into());
            }
            Ok(Err(error)) => return Err(RtpError::Unsupported(error.to_string())),
        };
        Ok(Producer {
            inner: Arc::new(ProducerInner {
                producer,
                observer: self.observer.clone(),
                observed: AtomicBool::new(false),
                events: self.events.clone(),
                limit: self.limit,
                traced,
                paused: Arc::new(AtomicBool::new(paused)),
                first: OnceLock::new(),
            }),
        })
    }

    /// Starts sending a producer's stream to the peer, paused; `priority` when bandwidth is
    /// short, from 1 to 255.
    ///
    /// # Errors
    /// [`RtpError::Unsupported`] if the capabilities do not fit the producer.
    pub async fn consume(
        &self,
        producer: &Producer,
        rtp_capabilities: RtpCapabilities,
        priority: Option<u8>,
    ) -> Result<Consumer, RtpError> {
        let mut options = ConsumerOptions::new(producer.inner.producer.id(), rtp_capabilities);
        options.paused = true;
        match tokio::time::timeout(self.limit, self.transport.consume(options)).await {
            Err(_) => Err(MediaError::TimedOut("consume").into()),
            Ok(Ok(consumer)) => {
                let limit = self.limit;
                if let Some(priority) = priority {
                    bounded(limit, "set priority", consumer.set_priority(priority)).await?;
                }
                Ok(Consumer { consumer, limit })
            }
            Ok(Err(ConsumeError::Request(error))) if !answered_no(&error) => {
                Err(MediaError::Request {
                    request: "consume",
                    source: Box::new(error),
                }
                .into())
            }
            Ok(Err(error)) => Err(RtpError::Unsupported(error.to_string())),
        }
    }
}

/// An audio stream that a participant sends. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    pub(super) inner: Arc<ProducerInner>,
}

pub(super) struct ProducerInner {
    pub(super) producer: mediasoup::producer::Producer,
    observer: AudioLevelObserver,
    observed: AtomicBool,
    events: mpsc::Sender<MediaEvent>,
    limit: Duration,
    traced: bool,
    paused: Arc<AtomicBool>,
    /// Reports the first packet; set where packets cannot be traced.
    first: OnceLock<Arc<dyn Fn() + Send + Sync>>,
}

impl Drop for ProducerInner {
    /// A level report holds every producer that it names, under a lock that the
    /// end of a producer takes as well: were a report its last holder, the media
    /// thread would wait for itself. So no report may name it any more.
    fn drop(&mut self) {
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

/// An audio stream that a participant receives. Cheap to clone.
#[derive(Clone)]
pub struct Consumer {
    consumer: mediasoup::consumer::Consumer,
    limit: Duration,
}

impl Consumer {
    /// The consumer's id.
    #[must_use]
    pub fn id(&self) -> ConsumerId {
        ConsumerId(self.consumer.id().into())
    }

    /// What the receiving endpoint must expect, in mediasoup's JSON shape.
    #[must_use]
    pub fn rtp_parameters(&self) -> Value {
        json!(self.consumer.rtp_parameters())
    }

    /// Stops or starts sending to this consumer's client.
    ///
    /// # Errors
    /// If the worker fails the request.
    pub async fn set_paused(&self, paused: bool) -> Result<(), MediaError> {
        if paused {
            bounded(self.limit, "pause consumer", self.consumer.pause()).await
        } else {
            bounded(self.limit, "resume consumer", self.consumer.resume()).await
        }
    }
}

/// Called on the media thread: one non-blocking send. The channel is sized so
/// that only a room task that has stopped can fill it.
fn report(events: &mpsc::Sender<MediaEvent>, event: MediaEvent) {
    if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event) {
        error!(?event, "media event lost: the room's queue is full");
    }
}

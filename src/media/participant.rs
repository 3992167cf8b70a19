//! One participant's media: transports and consumers. Each handle closes its
//! media when the last clone is dropped.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use mediasoup::{
    consumer::ConsumerOptions,
    prelude::{
        AudioLevelObserver, ConsumeError, DtlsParameters, MediaKind, ProduceError, ProducerOptions,
        RtpCapabilities, RtpParameters, Transport as _, WebRtcTransport,
        WebRtcTransportRemoteParameters,
    },
    types::data_structures::{DtlsState, IceState},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::error;

use super::{
    MediaError, MediaEvent, Producer, RtpError, WorkerKey, answered_no, bounded, lenient,
    placement::RouterKey,
    producer::Setting,
    seat::{Seat, Ticket},
    workers::Load,
};
use crate::model::{ConsumerId, TransportId};

/// How long after the end of a producer another one with its SSRC or MID is tried
/// again, and the first and the longest pause between two tries.
const FREE_LIMIT: Duration = Duration::from_secs(1);
const FREE_PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(64));

/// A WebRTC transport of one participant. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    transport: WebRtcTransport,
    events: mpsc::Sender<MediaEvent>,
    limit: Duration,
    /// Whether packets of this transport are traced: its first producer decides.
    traced: Arc<OnceLock<bool>>,
    observer: AudioLevelObserver,
    /// When one of its producers ended last.
    ended: Arc<Mutex<Option<Instant>>>,
    /// Last, so that the transport has gone when the place is given back.
    place: Arc<Place>,
}

/// Where a transport is.
pub(super) struct Place {
    pub(super) worker: WorkerKey,
    /// A listener's; a transport to send over has none.
    pub(super) seat: Option<Arc<Seat>>,
    pub(super) _load: Load,
}

impl Transport {
    pub(super) fn new(
        transport: WebRtcTransport,
        observer: AudioLevelObserver,
        events: mpsc::Sender<MediaEvent>,
        place: Place,
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
            ended: Arc::default(),
            place: Arc::new(place),
        }
    }

    /// The worker that carries the transport.
    #[must_use]
    pub fn worker(&self) -> WorkerKey {
        self.place.worker
    }

    /// Whether it is still there: its worker lives, and the router that it was made
    /// on is one of the room's.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !self.transport.closed() && self.place.seat.as_ref().is_none_or(|seat| seat.is_there())
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
        is_reachable(&self.transport)
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
        let producer = self.make_producer(&rtp_parameters, paused).await?;
        let setting = Setting {
            transport: self.transport.clone(),
            worker: self.worker(),
            observer: self.observer.clone(),
            ended: Arc::clone(&self.ended),
            events: self.events.clone(),
            limit: self.limit,
            traced,
            paused,
        };
        Ok(Producer::new(producer, setting))
    }

    async fn make_producer(
        &self,
        rtp_parameters: &RtpParameters,
        paused: bool,
    ) -> Result<mediasoup::producer::Producer, RtpError> {
        let mut pause = FREE_PAUSE.0;
        loop {
            let mut options = ProducerOptions::new(MediaKind::Audio, rtp_parameters.clone());
            options.paused = paused;
            match tokio::time::timeout(self.limit, self.transport.produce(options)).await {
                Err(_) => return Err(MediaError::TimedOut("produce").into()),
                Ok(Ok(producer)) => return Ok(producer),
                Ok(Err(ProduceError::Request(error))) if !answered_no(&error) => {
                    let source = Box::new(error);
                    return Err(MediaError::Request {
                        request: "produce",
                        source,
                    }
                    .into());
                }
                Ok(Err(ProduceError::Request(_))) if self.may_still_free() => {
                    tokio::time::sleep(pause).await;
                    pause = FREE_PAUSE.1.min(pause * 2);
                }
                Ok(Err(error)) => return Err(RtpError::Unsupported(error.to_string())),
            }
        }
    }

    /// Whether the worker may still hold the SSRC and MID of a producer that has
    /// ended: it frees them within a message's round trip or two.
    fn may_still_free(&self) -> bool {
        let ended = *self.ended.lock();
        ended.is_some_and(|at| at.elapsed() < FREE_LIMIT)
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
        let seat = self.place.seat.as_ref();
        let router = seat.map_or(RouterKey::SOURCE, |seat| seat.router());
        // Every router of the room has it, unless that router is gone.
        let id = producer.id_on(router).ok_or(MediaError::NoWorker)?;
        let ticket = seat.map(Seat::ticket);
        let mut options = ConsumerOptions::new(id, rtp_capabilities);
        options.paused = true;
        match tokio::time::timeout(self.limit, self.transport.consume(options)).await {
            Err(_) => Err(MediaError::TimedOut("consume").into()),
            Ok(Ok(consumer)) => {
                let limit = self.limit;
                if let Some(priority) = priority {
                    bounded(limit, "set priority", consumer.set_priority(priority)).await?;
                }
                Ok(Consumer::new(consumer, ticket, limit))
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

/// An audio stream that a participant receives. Cheap to clone.
#[derive(Clone)]
pub struct Consumer {
    inner: Arc<ConsumerInner>,
}

struct ConsumerInner {
    consumer: mediasoup::consumer::Consumer,
    limit: Duration,
    /// Whether it was told to flow last; `None` when that is not known. Held while
    /// the worker is asked, so that two who want different things follow each other.
    flows: tokio::sync::Mutex<Option<bool>>,
    ticket: Option<Ticket>,
}

impl Consumer {
    fn new(
        consumer: mediasoup::consumer::Consumer,
        ticket: Option<Ticket>,
        limit: Duration,
    ) -> Self {
        Self {
            inner: Arc::new(ConsumerInner {
                consumer,
                limit,
                flows: tokio::sync::Mutex::new(Some(false)),
                ticket,
            }),
        }
    }

    /// The consumer's id.
    #[must_use]
    pub fn id(&self) -> ConsumerId {
        ConsumerId(self.inner.consumer.id().into())
    }

    /// Whether it is still there, with its transport and its producer.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let ticket = self.inner.ticket.as_ref();
        !self.inner.consumer.closed() && ticket.is_none_or(Ticket::is_valid)
    }

    /// What the receiving endpoint must expect, in mediasoup's JSON shape.
    #[must_use]
    pub fn rtp_parameters(&self) -> Value {
        json!(self.inner.consumer.rtp_parameters())
    }

    /// Starts or stops sending to this consumer's client, as `wanted` says at the
    /// time when it is this caller's turn, until it says nothing else.
    ///
    /// # Errors
    /// If the worker fails a request.
    pub async fn follow(&self, wanted: impl Fn() -> bool) -> Result<(), MediaError> {
        let (consumer, limit) = (&self.inner.consumer, self.inner.limit);
        let mut flows = tokio::time::timeout(limit, self.inner.flows.lock())
            .await
            .map_err(|_| MediaError::TimedOut("an earlier pause or resume"))?;
        loop {
            let wanted = wanted();
            if *flows == Some(wanted) {
                return Ok(());
            }
            *flows = None;
            if wanted {
                bounded(limit, "resume consumer", consumer.resume()).await?;
            } else {
                bounded(limit, "pause consumer", consumer.pause()).await?;
            }
            *flows = Some(wanted);
        }
    }
}

/// Whether ICE reaches the peer of a transport now.
pub(super) fn is_reachable(transport: &WebRtcTransport) -> bool {
    let state = transport.ice_state();
    matches!(state, IceState::Connected | IceState::Completed)
}

/// Called on the media thread: one non-blocking send. The channel is sized so
/// that only a room task that has stopped can fill it.
pub(super) fn report(events: &mpsc::Sender<MediaEvent>, event: MediaEvent) {
    if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event) {
        error!(?event, "media event lost: the room's queue is full");
    }
}

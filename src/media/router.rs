//! One room's routers. A room has one router for now; its observer reports levels.

use std::{
    num::{NonZeroU8, NonZeroU16, NonZeroU32},
    sync::Arc,
    time::Duration,
};

use mediasoup::prelude::{
    AudioLevelObserver, AudioLevelObserverOptions, MimeTypeAudio, Router, RouterOptions,
    RtpCapabilities, RtpCodecCapability, RtpCodecParametersParameters, RtpParameters, WebRtcServer,
    WebRtcTransportOptions, Worker,
};
use mediasoup::types::rtp_parameters::RtpCodecCapabilityFinalized;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::{
    Level, MediaError, MediaEvent, Producer, Transport, WorkerKey, bounded, codec, workers::Load,
};
use crate::{
    config::{MediaConfig, RoomsConfig},
    model::ProducerId,
};

/// A room's media: its router and level observer on one worker. Dropping it
/// closes everything that was made from it.
pub struct RoomMedia {
    router: Router,
    server: WebRtcServer,
    observer: AudioLevelObserver,
    worker: WorkerKey,
    load: Load,
    limit: Duration,
    /// First estimate of what a listener can receive, in bit/s.
    initial_bitrate: Option<u32>,
    capabilities: Arc<Value>,
    levels: watch::Receiver<Vec<Level>>,
}

impl RoomMedia {
    pub(super) async fn open(
        worker: &Worker,
        server: WebRtcServer,
        key: WorkerKey,
        load: Load,
        (config, rooms): (&MediaConfig, &RoomsConfig),
    ) -> Result<Self, MediaError> {
        let limit = config.request_timeout;
        let options = RouterOptions::new(vec![opus(config)]);
        let router = bounded(limit, "create router", worker.create_router(options)).await?;
        let mut options = AudioLevelObserverOptions::default();
        options.max_entries = NonZeroU16::new(rooms.speaker_max_entries).unwrap_or(NonZeroU16::MIN);
        options.threshold = rooms.speaker_threshold_dbov;
        options.interval = u16::try_from(rooms.speaker_interval.as_millis()).unwrap_or(u16::MAX);
        let observer = bounded(
            limit,
            "create level observer",
            router.create_audio_level_observer(options),
        )
        .await?;
        let (report, levels) = watch::channel(Vec::new());
        let report = Arc::new(report);
        observer
            .on_volumes({
                let report = Arc::clone(&report);
                move |volumes| {
                    let levels = volumes
                        .iter()
                        .map(|entry| Level {
                            producer: ProducerId(entry.producer.id().into()),
                            volume: entry.volume,
                        })
                        .collect();
                    report.send_replace(levels);
                }
            })
            .detach();
        observer
            .on_silence(move || drop(report.send_replace(Vec::new())))
            .detach();
        let capabilities = Arc::new(json!(router.rtp_capabilities()));
        Ok(Self {
            router,
            server,
            observer,
            worker: key,
            load,
            limit,
            initial_bitrate: config.initial_outgoing_bitrate,
            capabilities,
            levels,
        })
    }

    /// The capabilities of a router that is made for nothing else.
    pub(super) async fn rtp_capabilities_on(
        worker: &Worker,
        config: &MediaConfig,
    ) -> Result<Arc<Value>, MediaError> {
        let options = RouterOptions::new(vec![opus(config)]);
        let made = worker.create_router(options);
        let router = bounded(config.request_timeout, "create router", made).await?;
        Ok(Arc::new(json!(router.rtp_capabilities())))
    }

    /// The worker that carries this room.
    #[must_use]
    pub fn worker(&self) -> WorkerKey {
        self.worker
    }

    /// What the router can receive and send, in mediasoup's JSON shape.
    #[must_use]
    pub fn rtp_capabilities(&self) -> &Value {
        &self.capabilities
    }

    /// The latest levels, loudest first; empty when the room is silent. Older
    /// reports that nobody read are overwritten.
    #[must_use]
    pub fn levels(&self) -> watch::Receiver<Vec<Level>> {
        self.levels.clone()
    }

    /// Creates a WebRTC transport on the worker's port. Its end is reported to `events`.
    ///
    /// # Errors
    /// If the worker fails the request.
    pub async fn create_transport(
        &self,
        events: mpsc::Sender<MediaEvent>,
    ) -> Result<Transport, MediaError> {
        let mut options = WebRtcTransportOptions::new_with_server(self.server.clone());
        options.prefer_udp = true;
        if let Some(bitrate) = self.initial_bitrate {
            options.initial_available_outgoing_bitrate = bitrate.into();
        }
        let transport = bounded(
            self.limit,
            "create transport",
            self.router.create_webrtc_transport(options),
        )
        .await?;
        Ok(Transport::new(
            transport,
            self.observer.clone(),
            events,
            self.load.another(),
            self.limit,
        ))
    }

    /// Whether an endpoint with these capabilities can receive the producer.
    #[must_use]
    pub fn can_consume(&self, producer: &Producer, capabilities: &RtpCapabilities) -> bool {
        self.router
            .can_consume(&producer.inner.producer.id(), capabilities)
    }

    /// Whether the router can take a stream with these parameters.
    #[must_use]
    pub fn supports(&self, parameters: &RtpParameters) -> bool {
        let wanted = codec(parameters);
        let capabilities = self.router.rtp_capabilities();
        capabilities.codecs.iter().any(|one| match one {
            RtpCodecCapabilityFinalized::Audio {
                mime_type,
                clock_rate,
                channels,
                ..
            } => {
                mime_type.as_str() == wanted.mime_type
                    && clock_rate.get() == wanted.clock_rate
                    && channels.get() == wanted.channels
            }
            RtpCodecCapabilityFinalized::Video { .. } => false,
        })
    }
}

fn opus(config: &MediaConfig) -> RtpCodecCapability {
    const RATE: NonZeroU32 = NonZeroU32::new(48_000).unwrap();
    const STEREO: NonZeroU8 = NonZeroU8::new(2).unwrap();
    RtpCodecCapability::Audio {
        mime_type: MimeTypeAudio::Opus,
        preferred_payload_type: None,
        clock_rate: RATE,
        channels: STEREO,
        parameters: RtpCodecParametersParameters::from([
            ("useinbandfec", u32::from(config.opus_fec).into()),
            ("usedtx", u32::from(config.opus_dtx).into()),
        ]),
        rtcp_feedback: Vec::new(),
    }
}

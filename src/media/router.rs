//! One mediasoup router on one worker.

use std::{
    num::{NonZeroU8, NonZeroU32},
    time::Duration,
};

use mediasoup::prelude::{
    MimeTypeAudio, RouterOptions, RtpCodecCapability, RtpCodecParametersParameters, WebRtcServer,
    WebRtcTransport, WebRtcTransportOptions,
};
use serde_json::{Value, json};

use super::{
    MediaError, WorkerKey, bounded,
    workers::{Berth, Load},
};
use crate::{
    config::MediaConfig,
    telemetry::{self, Counted},
};

/// A router. Dropping it closes everything that was made from it, once the
/// handles of that are gone too.
pub(super) struct Router {
    pub(super) router: mediasoup::router::Router,
    server: WebRtcServer,
    worker: WorkerKey,
    load: Load,
    limit: Duration,
    /// First estimate of what a listener can receive, in bit/s.
    initial_bitrate: Option<u32>,
    _counted: Counted,
}

impl Router {
    pub(super) async fn open(berth: Berth, config: &MediaConfig) -> Result<Self, MediaError> {
        let limit = config.request_timeout;
        let options = RouterOptions::new(vec![opus(config)]);
        let creation = berth.worker.create_router(options);
        Ok(Self {
            router: bounded(limit, "create router", creation).await?,
            server: berth.server,
            worker: berth.key,
            load: berth.load,
            limit,
            initial_bitrate: config.initial_outgoing_bitrate,
            _counted: Counted::one(telemetry::ROUTERS),
        })
    }

    /// What it can receive and send, in mediasoup's JSON shape. Every router is made
    /// alike.
    pub(super) fn rtp_capabilities(&self) -> Value {
        json!(self.router.rtp_capabilities())
    }

    pub(super) fn worker(&self) -> WorkerKey {
        self.worker
    }

    /// Whether its worker is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.router.closed()
    }

    /// Counts one more transport towards the worker's load.
    pub(super) fn load(&self) -> Load {
        self.load.another()
    }

    /// Creates a WebRTC transport on the worker's port.
    pub(super) async fn create_transport(&self) -> Result<WebRtcTransport, MediaError> {
        let mut options = WebRtcTransportOptions::new_with_server(self.server.clone());
        options.prefer_udp = true;
        if let Some(bitrate) = self.initial_bitrate {
            options.initial_available_outgoing_bitrate = bitrate.into();
        }
        let creation = self.router.create_webrtc_transport(options);
        bounded(self.limit, "create transport", creation).await
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

//! Everything that touches mediasoup: workers, routers, transports, producers
//! and consumers. No other module names the crate.
//!
//! Handles close what they stand for when dropped. mediasoup calls back on its
//! media threads; every callback here does one non-blocking send and returns.
//! Worker requests have no time-outs of their own, so each one gets ours.

mod cluster;
mod first_rtp;
mod participant;
mod pipe;
mod placement;
mod probe;
mod producer;
mod pulse;
mod router;
mod seat;
mod workers;

pub mod lenient;

use std::{future::Future, time::Duration};

pub use cluster::Cluster;
pub use mediasoup::prelude::{DtlsParameters, RtpCapabilities, RtpParameters};
use mediasoup::{prelude::RtpCodecParameters, worker::RequestError};
pub use participant::{Consumer, Transport};
pub use probe::Probe;
pub use producer::Producer;
pub use pulse::Look;
pub use workers::{Media, WorkerKey};

use crate::model::{Codec, FirstPacket, ProducerId, TransportId, UnixMs};

/// The media core failed at something that was asked of it correctly.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The worker did not answer within the configured time.
    #[error("the media worker did not answer `{0}` in time")]
    TimedOut(&'static str),
    /// The worker answered with an error, or is gone.
    #[error("the media worker refused `{request}`: {source}")]
    Request {
        /// What was asked.
        request: &'static str,
        /// Its answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No worker is running at the moment; a replacement is being started.
    #[error("no media worker is running")]
    NoWorker,
    /// A worker could not be started: its thread or its ports.
    #[error("worker {index} could not be started: {source}")]
    Start {
        /// The worker's place among the configured ones.
        index: usize,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a producer or consumer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RtpError {
    /// The parameters do not fit the router or the transport: the asker's mistake.
    #[error("{0}")]
    Unsupported(String),
    /// The media core failed.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// What the media core reports by itself; never dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaEvent {
    /// A producer's stream has begun, by its room's rule.
    FirstRtp {
        /// The producer.
        producer: ProducerId,
        /// When the packet with which it did was seen.
        at: UnixMs,
        /// That packet.
        packet: FirstPacket,
    },
    /// Packets of a producer come again, after a while without one.
    RtpAgain {
        /// The producer.
        producer: ProducerId,
        /// When the first of them was seen.
        at: UnixMs,
    },
    /// The peer ended DTLS, or the handshake failed: the transport is of no more use.
    TransportEnded(TransportId),
}

/// One producer's average level over the last interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The producer.
    pub producer: ProducerId,
    /// In dBov: 0 is the loudest, -127 silence.
    pub volume: i8,
}

/// Runs one worker request with the configured limit.
async fn bounded<T, E>(
    limit: Duration,
    request: &'static str,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, MediaError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(MediaError::Request {
            request,
            source: Box::new(source),
        }),
        Err(_) => Err(MediaError::TimedOut(request)),
    }
}

/// Whether the worker itself said no, as opposed to being gone.
fn answered_no(error: &RequestError) -> bool {
    matches!(error, RequestError::Response { .. })
}

/// The codec that a producer with these parameters uses.
#[must_use]
pub fn codec(parameters: &RtpParameters) -> Codec {
    match parameters.codecs.first() {
        Some(RtpCodecParameters::Audio {
            mime_type,
            clock_rate,
            channels,
            ..
        }) => Codec {
            mime_type: mime_type.as_str().to_owned(),
            clock_rate: clock_rate.get(),
            channels: channels.get(),
        },
        Some(RtpCodecParameters::Video {
            mime_type,
            clock_rate,
            ..
        }) => Codec {
            mime_type: mime_type.as_str().to_owned(),
            clock_rate: clock_rate.get(),
            channels: 0,
        },
        None => Codec {
            mime_type: String::new(),
            clock_rate: 0,
            channels: 0,
        },
    }
}

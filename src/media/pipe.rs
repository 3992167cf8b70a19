//! From one router of a room to another, over loopback.
//!
//! Made by hand of pipe transports: the library's own way ties a piped stream's
//! pause to its source's by unordered tasks, so that a mute and an unmute that
//! follow each other closely could leave a piped stream silent for good. Here a
//! piped stream is never paused: what pauses at the source sends nothing.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use mediasoup::{
    consumer::ConsumerOptions,
    prelude::{
        ListenInfo, PipeTransport, PipeTransportOptions, PipeTransportRemoteParameters, Protocol,
        RtpCapabilities, Transport as _,
    },
    producer::{ProducerId, ProducerOptions},
};

use super::{MediaError, bounded, router::Router};

/// The path between two routers.
pub(super) struct Link {
    from: PipeTransport,
    to: PipeTransport,
    limit: Duration,
}

/// One stream on such a path. Dropping it ends it.
pub(super) struct Pipe {
    /// Before the sending end, which would otherwise report its end to it.
    to: mediasoup::producer::Producer,
    _from: mediasoup::consumer::Consumer,
}

impl Link {
    /// Connects two routers.
    pub(super) async fn open(
        from: &Router,
        to: &Router,
        limit: Duration,
    ) -> Result<Self, MediaError> {
        let link = Self {
            from: end(from, limit).await?,
            to: end(to, limit).await?,
            limit,
        };
        connect(&link.from, &link.to, limit).await?;
        connect(&link.to, &link.from, limit).await?;
        Ok(link)
    }

    /// Sends a stream along.
    pub(super) async fn pipe(
        &self,
        producer: &mediasoup::producer::Producer,
    ) -> Result<Pipe, MediaError> {
        // A pipe transport takes the stream as it is and asks for no capabilities.
        let options = ConsumerOptions::new(producer.id(), RtpCapabilities::default());
        let from = bounded(self.limit, "pipe out", self.from.consume(options)).await?;
        // An id of its own: two routers of one worker could not share one.
        let options = ProducerOptions::new(from.kind(), from.rtp_parameters().clone());
        let to = bounded(self.limit, "pipe in", self.to.produce(options)).await?;
        Ok(Pipe { to, _from: from })
    }
}

impl Pipe {
    /// The stream's id at the far end.
    pub(super) fn id(&self) -> ProducerId {
        self.to.id()
    }
}

async fn end(router: &Router, limit: Duration) -> Result<PipeTransport, MediaError> {
    let options = PipeTransportOptions::new(ListenInfo {
        protocol: Protocol::Udp,
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        announced_address: None,
        expose_internal_ip: false,
        port: None,
        port_range: None,
        flags: None,
        send_buffer_size: None,
        recv_buffer_size: None,
    });
    let creation = router.router.create_pipe_transport(options);
    bounded(limit, "create pipe", creation).await
}

async fn connect(
    one: &PipeTransport,
    other: &PipeTransport,
    limit: Duration,
) -> Result<(), MediaError> {
    let remote = other.tuple();
    let parameters = PipeTransportRemoteParameters {
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: remote.local_port(),
        srtp_parameters: None,
    };
    bounded(limit, "connect pipe", one.connect(parameters)).await
}

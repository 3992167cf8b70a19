//! Whether the media worker that was linked into this program works, and not only starts:
//! with the wrong OpenSSL beneath it, it dies at the first DTLS handshake.

use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU8, NonZeroU32};

use mediasoup::prelude::*;
use mediasoup::producer::{ProducerTraceEventData, ProducerTraceEventType};
use mediasoup::types::data_structures::DtlsState;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::peer::{LIMIT, Peer};

/// One worker with one router, reachable over loopback.
struct Media {
    router: Router,
    server: WebRtcServer,
}

impl Media {
    async fn start() -> Self {
        let workers = WorkerManager::new();
        let worker = workers
            .create_worker(WorkerSettings::default())
            .await
            .unwrap();
        let listen = ListenInfo {
            protocol: Protocol::Udp,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            announced_address: None,
            expose_internal_ip: false,
            port: None,
            port_range: None,
            flags: None,
            send_buffer_size: None,
            recv_buffer_size: None,
        };
        let server = worker
            .create_webrtc_server(WebRtcServerOptions::new(WebRtcServerListenInfos::new(
                listen,
            )))
            .await
            .unwrap();
        let opus = RtpCodecCapability::Audio {
            mime_type: MimeTypeAudio::Opus,
            preferred_payload_type: None,
            clock_rate: NonZeroU32::new(48000).unwrap(),
            channels: NonZeroU8::new(2).unwrap(),
            parameters: RtpCodecParametersParameters::default(),
            rtcp_feedback: vec![],
        };
        let router = worker
            .create_router(RouterOptions::new(vec![opus]))
            .await
            .unwrap();
        Self { router, server }
    }

    /// A transport and a peer at its other end, connected to each other.
    async fn connect(&self) -> (WebRtcTransport, Peer) {
        let options = WebRtcTransportOptions::new_with_server(self.server.clone());
        let transport = self.router.create_webrtc_transport(options).await.unwrap();
        let (states, mut state) = watch::channel(transport.dtls_state());
        transport
            .on_dtls_state_change(move |now| {
                states.send_replace(now);
            })
            .detach();

        let peer = Peer::bind(&json!(self.router.rtp_capabilities())).await;
        let dtls_parameters = from_json(peer.dtls_parameters());
        transport
            .connect(WebRtcTransportRemoteParameters { dtls_parameters })
            .await
            .unwrap();
        peer.connect(&json!({
            "iceParameters": transport.ice_parameters(),
            "iceCandidates": transport.ice_candidates(),
            "dtlsParameters": transport.dtls_parameters(),
        }))
        .await;

        let connected = state.wait_for(|now| *now == DtlsState::Connected);
        tokio::time::timeout(LIMIT, connected)
            .await
            .unwrap()
            .unwrap();
        (transport, peer)
    }
}

fn from_json<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_goes_from_one_peer_through_the_worker_to_another() {
    let media = Media::start().await;

    let (sending, mut speaker) = media.connect().await;
    let track = speaker.add_track().await;
    let options = ProducerOptions::new(MediaKind::Audio, from_json(track.rtp_parameters.clone()));
    let producer = sending.produce(options).await.unwrap();

    let (seen, mut first_rtp) = watch::channel(false);
    producer
        .on_trace(move |event| {
            seen.send_replace(matches!(event, ProducerTraceEventData::Rtp { .. }));
        })
        .detach();
    producer
        .enable_trace_event(vec![ProducerTraceEventType::Rtp])
        .await
        .unwrap();
    speaker.speak(&track, -30).await;
    tokio::time::timeout(LIMIT, first_rtp.wait_for(|seen| *seen))
        .await
        .expect("the worker decrypts what the speaker sends")
        .unwrap();

    let (receiving, listener) = media.connect().await;
    let options = ConsumerOptions::new(producer.id(), from_json(listener.rtp_capabilities()));
    let consumer = receiving.consume(options).await.unwrap();
    let ssrc = listener.expect(&json!(consumer.rtp_parameters())).await;

    // The report is the one kind of RTCP that the listener can tell apart from none.
    let heard = listener
        .until("hearing sound, with a report of it", |progress| {
            progress
                .received
                .get(&ssrc)
                .is_some_and(|stream| stream.packets >= 10 && stream.sender_report)
        })
        .await;
    assert_eq!(heard.received[&ssrc].audio_level, Some(-30));
}

//! mediasoup alone, as a process to compare the server with: `voice-room-load bare` starts
//! it, and says in its module `bare` what is spoken on the line.
//!
//! One router on each worker, as many as the first argument says. Producers are on the
//! first and piped to the others; listeners take turns among all.

use std::{
    collections::HashMap,
    error::Error,
    net::{IpAddr, Ipv4Addr},
    num::{NonZeroU8, NonZeroU32},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use mediasoup::{
    consumer::{Consumer, ConsumerOptions},
    prelude::{
        DtlsParameters, ListenInfo, MediaKind, MimeTypeAudio, PipeToRouterOptions, Protocol,
        RouterOptions, RtpCapabilities, RtpCodecCapability, RtpCodecParametersParameters,
        RtpParameters, Transport as _, WebRtcServer, WebRtcServerListenInfos, WebRtcServerOptions,
        WebRtcTransport, WebRtcTransportOptions, WebRtcTransportRemoteParameters, Worker,
        WorkerManager, WorkerSettings,
    },
    producer::{PipedProducer, Producer, ProducerId, ProducerOptions},
    router::Router,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tikv_jemallocator::Jemalloc;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
};

type Failure = Box<dyn Error + Send + Sync>;

/// As in the server.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Answers that may wait to be sent.
const QUEUE: usize = 4096;

/// One worker with its router.
struct Berth {
    router: Router,
    server: WebRtcServer,
    _worker: Worker,
}

struct Routers {
    berths: Vec<Berth>,
    turn: AtomicUsize,
    participants: Mutex<HashMap<u64, Participant>>,
}

/// What one participant has; dropping it closes it.
#[derive(Default)]
struct Participant {
    transports: HashMap<String, WebRtcTransport>,
    consumers: HashMap<String, Consumer>,
    producers: Vec<(Producer, Vec<PipedProducer>)>,
}

/// Runs until the one who connects first disconnects.
#[tokio::main]
async fn main() -> Result<(), Failure> {
    let workers: usize = std::env::args()
        .nth(1)
        .ok_or("how many workers?")?
        .parse()?;
    let manager = WorkerManager::new();
    let mut berths = Vec::new();
    for _ in 0..workers.max(1) {
        berths.push(berth(&manager).await?);
    }
    let routers = Arc::new(Routers {
        berths,
        turn: AtomicUsize::new(0),
        participants: Mutex::default(),
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    announce(&listener)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let (answers, mut waiting) = mpsc::channel::<String>(QUEUE);
    tokio::spawn(async move {
        while let Some(mut all) = waiting.recv().await {
            while let Ok(answer) = waiting.try_recv() {
                all.push_str(&answer);
            }
            if write.write_all(all.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let (routers, answers) = (Arc::clone(&routers), answers.clone());
        tokio::spawn(async move {
            if let Some(answer) = routers.answer(&line).await {
                // Nobody waits any more when the connection has ended.
                drop(answers.send(answer).await);
            }
        });
    }
    Ok(())
}

/// The one line on standard output: whoever started us waits for it.
fn announce(listener: &TcpListener) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)
}

async fn berth(manager: &WorkerManager) -> Result<Berth, Failure> {
    let worker = manager.create_worker(WorkerSettings::default()).await?;
    let info = ListenInfo {
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
    let options = WebRtcServerOptions::new(WebRtcServerListenInfos::new(info));
    let server = worker.create_webrtc_server(options).await?;
    let router = worker
        .create_router(RouterOptions::new(vec![opus()]))
        .await?;
    Ok(Berth {
        router,
        server,
        _worker: worker,
    })
}

fn opus() -> RtpCodecCapability {
    const RATE: NonZeroU32 = NonZeroU32::new(48_000).unwrap();
    const STEREO: NonZeroU8 = NonZeroU8::new(2).unwrap();
    RtpCodecCapability::Audio {
        mime_type: MimeTypeAudio::Opus,
        preferred_payload_type: None,
        clock_rate: RATE,
        channels: STEREO,
        parameters: RtpCodecParametersParameters::from([
            ("useinbandfec", 1_u32.into()),
            ("usedtx", 1_u32.into()),
        ]),
        rtcp_feedback: Vec::new(),
    }
}

impl Routers {
    async fn answer(&self, line: &str) -> Option<String> {
        let mut parts = line.splitn(3, '\t');
        let (id, participant, body) = (parts.next()?, parts.next()?, parts.next()?);
        let participant: u64 = participant.parse().ok()?;
        let done = match serde_json::from_str::<(String, Value)>(body) {
            Ok((event, payload)) => self.act(participant, &event, payload).await,
            Err(why) => Err(why.into()),
        };
        let ack = match done {
            Ok(data) => json!([{ "success": true, "data": data }]),
            Err(why) => json!([{ "success": false, "error": why.to_string() }]),
        };
        (id != "0").then(|| format!("{id}\t{ack}\n"))
    }

    async fn act(&self, who: u64, event: &str, mut payload: Value) -> Result<Value, Failure> {
        match event {
            "room:join" => {
                let router = &self.berths.first().ok_or("no router")?.router;
                self.participants.lock().insert(who, Participant::default());
                Ok(json!({ "rtpCapabilities": router.rtp_capabilities() }))
            }
            "transport:create" => self.create_transport(who, &payload).await,
            "transport:connect" => {
                let dtls = take::<DtlsParameters>(&mut payload, "dtlsParameters")?;
                let remote = WebRtcTransportRemoteParameters {
                    dtls_parameters: dtls,
                };
                self.transport(who, &payload)?.connect(remote).await?;
                Ok(Value::Null)
            }
            "audio:produce" => self.produce(who, payload).await,
            "audio:consume" => self.consume(who, payload).await,
            "consumer:resume" => {
                let id = text(&payload, "consumerId")?;
                let consumer = self.with(who, |one| one.consumers.get(id).cloned())?;
                consumer.ok_or("no such consumer")?.resume().await?;
                Ok(Value::Null)
            }
            "leave" => {
                // Outside the lock, which closing need not hold.
                let left = self.participants.lock().remove(&who);
                drop(left);
                Ok(Value::Null)
            }
            _ => Err("no such event".into()),
        }
    }

    fn with<T>(&self, who: u64, act: impl FnOnce(&mut Participant) -> T) -> Result<T, Failure> {
        let mut participants = self.participants.lock();
        participants
            .get_mut(&who)
            .map(act)
            .ok_or_else(|| "not joined".into())
    }

    fn transport(&self, who: u64, payload: &Value) -> Result<WebRtcTransport, Failure> {
        let id = text(payload, "transportId")?;
        let transport = self.with(who, |one| one.transports.get(id).cloned())?;
        transport.ok_or_else(|| "no such transport".into())
    }

    async fn create_transport(&self, who: u64, payload: &Value) -> Result<Value, Failure> {
        let at = match text(payload, "type")? {
            "consumer" => self.turn.fetch_add(1, Ordering::Relaxed) % self.berths.len(),
            _ => 0,
        };
        let berth = self.berths.get(at).ok_or("no router")?;
        let options = WebRtcTransportOptions::new_with_server(berth.server.clone());
        let transport = berth.router.create_webrtc_transport(options).await?;
        let id = transport.id().to_string();
        let offer = json!({
            "id": id,
            "iceParameters": transport.ice_parameters(),
            "iceCandidates": transport.ice_candidates(),
            "dtlsParameters": transport.dtls_parameters(),
        });
        self.with(who, |one| one.transports.insert(id, transport))?;
        Ok(offer)
    }

    async fn produce(&self, who: u64, mut payload: Value) -> Result<Value, Failure> {
        let parameters: RtpParameters = take(&mut payload, "rtpParameters")?;
        let transport = self.transport(who, &payload)?;
        let options = ProducerOptions::new(MediaKind::Audio, parameters);
        let producer = transport.produce(options).await?;
        let mut pipes = Vec::new();
        let (source, branches) = self.berths.split_first().ok_or("no router")?;
        for branch in branches {
            let options = PipeToRouterOptions::new(branch.router.clone());
            let piped = source
                .router
                .pipe_producer_to_router(producer.id(), options);
            pipes.push(piped.await?.pipe_producer);
        }
        let id = producer.id();
        self.with(who, |one| one.producers.push((producer, pipes)))?;
        Ok(json!({ "id": id }))
    }

    async fn consume(&self, who: u64, mut payload: Value) -> Result<Value, Failure> {
        let capabilities: RtpCapabilities = take(&mut payload, "rtpCapabilities")?;
        let producer: ProducerId = take(&mut payload, "producerId")?;
        let transport = self.transport(who, &payload)?;
        let mut options = ConsumerOptions::new(producer, capabilities);
        options.paused = true;
        let consumer = transport.consume(options).await?;
        let id = consumer.id().to_string();
        let answer = json!({ "id": id, "rtpParameters": consumer.rtp_parameters() });
        self.with(who, |one| one.consumers.insert(id, consumer))?;
        Ok(answer)
    }
}

fn take<T: serde::de::DeserializeOwned>(payload: &mut Value, name: &str) -> Result<T, Failure> {
    let field = payload.get_mut(name).map(Value::take);
    Ok(serde_json::from_value(field.unwrap_or_default())?)
}

fn text<'a>(payload: &'a Value, name: &str) -> Result<&'a str, Failure> {
    let field = payload.get(name).and_then(Value::as_str);
    field.ok_or_else(|| format!("{name} is missing").into())
}

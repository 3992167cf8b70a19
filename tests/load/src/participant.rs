//! One participant: the steps that a client takes, each one measured.

use std::{sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    error::StepError,
    measure::Meter,
    media::{Direction, Endpoint, Engine},
    server::Server,
    signal::Signal,
    socketio::{self, OnEvent},
    voice::{Voice, random_u32},
    wire::{Consumed, Formats, Joined, MID, Produced, Resumed, TransportOffer},
};

/// What speakers claim, in dBov: loud enough to be a speaker everywhere.
pub const LOUD: i8 = -20;

/// What is loaded.
#[derive(Debug)]
pub enum Target {
    /// A server of the protocol.
    Server(Server),
    /// A bare router in a process of its own.
    Bare(crate::bare::Bare),
}

/// What all participants share.
#[derive(Debug)]
pub struct Stage {
    /// What is loaded.
    pub target: Target,
    /// Their media.
    pub engine: Engine,
    /// What is measured.
    pub meter: Meter,
    /// How long an answer may take.
    pub limit: Duration,
    /// How long ICE and DTLS may take.
    pub media_limit: Duration,
    /// Media may go to other machines.
    pub allow_remote: bool,
    /// Speakers take a seat first.
    pub take_seats: bool,
}

/// Somebody who speaks, as listeners know them.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// The producer's id.
    pub producer: String,
    /// What they send.
    pub voice: Arc<Voice>,
}

/// A participant's receiving end. Dropping it closes its socket, without a word.
#[derive(Debug)]
pub struct Ear {
    transport: TransportOffer,
    endpoint: Endpoint,
}

impl Ear {
    /// Names it in a report.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.endpoint.id()
    }

    /// Waits until ICE and DTLS are through.
    ///
    /// # Errors
    /// If they fail, or are not through in time.
    pub async fn connected(&mut self, limit: Duration) -> Result<(), StepError> {
        self.endpoint.connected(limit).await
    }
}

/// A participant in a room. Dropping it ends its connection and its media, without a word.
#[derive(Debug)]
pub struct Participant {
    stage: Arc<Stage>,
    signal: Signal,
    room: String,
    formats: Formats,
    endpoints: Vec<Endpoint>,
}

impl Participant {
    /// Connects and joins. `on_event` is told of each event.
    ///
    /// # Errors
    /// If a step fails.
    pub async fn enter(
        stage: &Arc<Stage>,
        room: &str,
        user: u64,
        on_event: OnEvent,
    ) -> Result<Self, StepError> {
        let signal = match &stage.target {
            Target::Server(server) => {
                let token = server.token(user).await?;
                let started = std::time::Instant::now();
                let client = socketio::Client::connect(server, &token, on_event, stage.limit);
                let client = client.await?;
                stage.meter.record("connect", started.elapsed());
                Signal::SocketIo(client)
            }
            Target::Bare(bare) => Signal::Bare(bare.line(user)),
        };
        let event = "room:join";
        let payload = json!({ "roomId": room });
        let joining = signal.call::<Joined>(event, &payload, stage.limit);
        let (joined, took) = joining.await?;
        stage.meter.record(event, took);
        Ok(Self {
            stage: Arc::clone(stage),
            signal,
            room: room.to_owned(),
            formats: joined.ok_or_else(|| no_data(event))?.formats()?,
            endpoints: Vec::new(),
        })
    }

    /// Asks for something that is answered without data, with `roomId` added to the payload.
    ///
    /// # Errors
    /// If the server refuses it or does not answer in time.
    pub async fn tell(&self, event: &'static str, payload: Value) -> Result<(), StepError> {
        self.call::<Value>(event, payload).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        event: &'static str,
        payload: Value,
    ) -> Result<T, StepError> {
        let data = self.call(event, payload).await?;
        data.ok_or_else(|| no_data(event))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        event: &'static str,
        mut payload: Value,
    ) -> Result<Option<T>, StepError> {
        if let Some(fields) = payload.as_object_mut() {
            fields.insert("roomId".to_owned(), Value::from(self.room.as_str()));
        }
        let (data, took) = self.signal.call(event, &payload, self.stage.limit).await?;
        self.stage.meter.record(event, took);
        Ok(data)
    }

    /// Creates a transport.
    ///
    /// # Errors
    /// If the server refuses it or does not answer in time.
    pub async fn create_transport(
        &self,
        direction: Direction,
    ) -> Result<TransportOffer, StepError> {
        let kind = match direction {
            Direction::Send => "producer",
            Direction::Receive => "consumer",
        };
        self.ask("transport:create", json!({ "type": kind })).await
    }

    /// Gives the server parameters that nobody is behind, for load without media.
    ///
    /// # Errors
    /// If the server refuses it or does not answer in time.
    pub async fn connect_nobody(&self, transport: &TransportOffer) -> Result<(), StepError> {
        let bytes: Vec<String> = (0..8)
            .flat_map(|_| random_u32().to_be_bytes())
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let fingerprint = json!({ "algorithm": "sha-256", "value": bytes.join(":") });
        let dtls = json!({ "role": "client", "fingerprints": [fingerprint] });
        self.tell_dtls(transport, dtls).await
    }

    async fn tell_dtls(&self, transport: &TransportOffer, dtls: Value) -> Result<(), StepError> {
        let payload = json!({ "transportId": transport.id, "dtlsParameters": dtls });
        self.tell("transport:connect", payload).await
    }

    /// Begins to connect this end of a transport; ICE and DTLS go on beside what follows.
    ///
    /// # Errors
    /// If the server refuses it, does not answer in time or is elsewhere.
    pub async fn connect(
        &self,
        direction: Direction,
        transport: &TransportOffer,
    ) -> Result<Endpoint, StepError> {
        let remote = transport.remote(self.stage.allow_remote)?;
        let engine = &self.stage.engine;
        // In this order, as clients do.
        self.tell_dtls(transport, engine.dtls_parameters()).await?;
        engine.open(direction, self.formats, remote)
    }

    /// Produces a voice.
    ///
    /// # Errors
    /// If the server refuses it or does not answer in time.
    pub async fn produce(
        &self,
        transport: &TransportOffer,
        voice: Arc<Voice>,
    ) -> Result<Speaker, StepError> {
        let payload = json!({
            "transportId": transport.id,
            "kind": "audio",
            "rtpParameters": self.formats.parameters(voice.ssrc()),
        });
        let produced: Produced = self.ask("audio:produce", payload).await?;
        Ok(Speaker {
            producer: produced.id,
            voice,
        })
    }

    pub(crate) async fn consume(
        &self,
        transport: &TransportOffer,
        producer: &str,
    ) -> Result<Consumed, StepError> {
        let payload = json!({
            "transportId": transport.id,
            "producerId": producer,
            "rtpCapabilities": self.formats.capabilities(),
        });
        self.ask("audio:consume", payload).await
    }

    /// Resumes a consumer; whether it waits until its producer speaks.
    pub(crate) async fn resume(&self, consumed: &Consumed) -> Result<bool, StepError> {
        let payload = json!({ "consumerId": consumed.id });
        let resumed: Option<Resumed> = self.call("consumer:resume", payload).await?;
        Ok(resumed.is_some_and(|resumed| resumed.deferred))
    }

    /// Sends a new voice from now on: takes a seat if that is wished, creates a transport,
    /// connects it and produces.
    ///
    /// # Errors
    /// If a step fails.
    pub async fn speak(&mut self, seat: usize) -> Result<Speaker, StepError> {
        if self.stage.take_seats {
            self.tell("seat:take", json!({ "seatIndex": seat })).await?;
        }
        let transport = self.create_transport(Direction::Send).await?;
        let mut endpoint = self.connect(Direction::Send, &transport).await?;
        endpoint.connected(self.stage.media_limit).await?;
        let speaker = self.produce(&transport, Voice::new()).await?;
        endpoint.speak(&speaker.voice, LOUD)?;
        self.endpoints.push(endpoint);
        Ok(speaker)
    }

    /// Hears these speakers from now on; how many of them only once they speak, and the
    /// name of the endpoint that hears them.
    ///
    /// # Errors
    /// If a step fails.
    pub async fn listen(&mut self, speakers: &[Speaker]) -> Result<(u64, u64), StepError> {
        let mut ear = self.ear().await?;
        let mut deferred = 0;
        for speaker in speakers {
            deferred += u64::from(self.hear(&ear, speaker).await?);
        }
        ear.connected(self.stage.media_limit).await?;
        let id = ear.id();
        self.endpoints.push(ear.endpoint);
        Ok((deferred, id))
    }

    /// A receiving end that begins to connect and hears nobody yet.
    ///
    /// # Errors
    /// If a step fails.
    pub async fn ear(&self) -> Result<Ear, StepError> {
        let transport = self.create_transport(Direction::Receive).await?;
        let endpoint = self.connect(Direction::Receive, &transport).await?;
        Ok(Ear {
            transport,
            endpoint,
        })
    }

    /// Hears a speaker from now on; whether only once they speak.
    ///
    /// # Errors
    /// If a step fails.
    pub async fn hear(&self, ear: &Ear, speaker: &Speaker) -> Result<bool, StepError> {
        let consumed = self.consume(&ear.transport, &speaker.producer).await?;
        let parameters = &consumed.rtp_parameters;
        let mid = parameters.mid.clone().unwrap_or_else(|| MID.to_owned());
        ear.endpoint
            .listen(parameters.ssrc()?, mid, &speaker.voice)?;
        self.resume(&consumed).await
    }
}

fn no_data(event: &'static str) -> StepError {
    StepError::Malformed {
        event,
        problem: "success without data".to_owned(),
    }
}

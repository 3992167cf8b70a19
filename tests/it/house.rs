//! A house of rooms: the server without its faces and plugins, on real workers, and
//! guests whose transports are WebRTC peers.

use std::{fs, path::PathBuf, sync::Arc};

use serde_json::Value;
use voice_room::{
    config::{self, Config, Flags, PluginConfig, Sources},
    media::{Media, lenient},
    model::{ConsumerId, ProducerId, RoomId, Source, TransportId, User, UserId},
    plugin::{Line, PluginHost},
    room::{Direction, Event, Flow, Inbox, Joined, Membership, Rooms},
    store::Store,
};

use crate::peer::{LIMIT, Peer, Track};

/// Rooms on real workers.
pub(crate) struct House {
    pub(crate) rooms: Rooms,
    pub(crate) media: Media,
    pub(crate) plugins: PluginHost,
    dir: tempfile::TempDir,
}

impl House {
    /// One worker, no plugins, and the configuration's defaults.
    pub(crate) async fn open() -> Self {
        Self::with_plugins(&[]).await
    }

    /// One worker, these plugins, and the configuration's defaults.
    pub(crate) async fn with_plugins(plugins: &[PluginConfig]) -> Self {
        Self::build(1, "", plugins).await
    }

    /// So many workers, no plugins, and a configuration file with this text.
    pub(crate) async fn with(workers: usize, file: &str) -> Self {
        Self::build(workers, file, &[]).await
    }

    /// What was recorded of the plugins' calls so far.
    pub(crate) fn recorded(&self) -> Vec<Line> {
        let file = self.dir.path().join("recordings/calls.jsonl");
        let text = fs::read_to_string(file).unwrap_or_default();
        // The last line may be half-way on the disk.
        let lines = text.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// So many workers, these plugins, and a configuration file with this text.
    pub(crate) async fn build(workers: usize, file: &str, plugins: &[PluginConfig]) -> Self {
        let Config { media, rooms, .. } = config::resolve(&Sources {
            flags: Flags {
                dev: true,
                ..Flags::default()
            },
            file_text: Some(file.to_owned()),
            environment: Vec::new(),
            cores: workers,
            plugins_dir: PathBuf::new(),
        })
        .unwrap()
        .config;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let plugins = PluginHost::load(plugins, &store).await.unwrap();
        let (media, mut deaths) = Media::start(media).await.unwrap();
        let rooms = Rooms::new(rooms, 1_024, media.clone(), plugins.clone());
        let (carrier, counter) = (rooms.downgrade(), rooms.downgrade());
        let connected = plugins.connect(
            move |room, plugin, actions| {
                if let Some(rooms) = carrier.upgrade() {
                    rooms.carry_out(room, plugin, actions);
                }
            },
            move |room| {
                counter
                    .upgrade()
                    .map_or(0, |rooms| rooms.participants(room))
            },
        );
        connected.await;
        let mourner = rooms.clone();
        tokio::spawn(async move {
            while let Some(worker) = deaths.recv().await {
                mourner.worker_died(worker);
            }
        });
        Self {
            rooms,
            media,
            plugins,
            dir,
        }
    }

    pub(crate) async fn join(&self, room: &str, user: u64) -> Guest {
        let user = Arc::new(User {
            id: UserId(user),
            name: None,
            avatar: None,
            roles: Vec::new(),
            claims: "{}".to_owned(),
        });
        let joined = self
            .rooms
            .join(&RoomId::new(room).unwrap(), &user, &mut None)
            .await
            .unwrap();
        let Joined {
            membership,
            inbox,
            rtp_capabilities,
            ..
        } = joined;
        Guest {
            membership,
            inbox,
            rtp_capabilities,
        }
    }

    /// How many routers a room has.
    pub(crate) fn routers(&self, room: &str) -> usize {
        self.rooms.routers(&RoomId::new(room).unwrap())
    }
}

/// A participant and what they are told.
pub(crate) struct Guest {
    pub(crate) membership: Membership,
    pub(crate) inbox: Inbox,
    pub(crate) rtp_capabilities: Value,
}

/// A guest's receiving end.
pub(crate) struct Ear {
    pub(crate) peer: Peer,
    pub(crate) transport: TransportId,
}

/// A stream that a guest receives.
pub(crate) struct Stream {
    pub(crate) consumer: ConsumerId,
    pub(crate) ssrc: u32,
}

impl Guest {
    /// The next event; a test that waits longer has failed.
    pub(crate) async fn next(&mut self) -> Option<Arc<Event>> {
        tokio::time::timeout(LIMIT, self.inbox.next())
            .await
            .expect("an event in time")
    }

    /// Passes over levels, which come when they come.
    pub(crate) async fn next_fact(&mut self) -> Option<Event> {
        loop {
            match self.next().await?.as_ref() {
                Event::Speaking { .. } => {}
                event => return Some(event.clone()),
            }
        }
    }

    /// Waits for an event, whatever else comes before it.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) {
        loop {
            let event = self.next().await;
            let event = event.unwrap_or_else(|| panic!("the room ended before {what}"));
            if wanted(&event) {
                return;
            }
        }
    }

    pub(crate) async fn connect(&self, direction: Direction) -> (Peer, Value) {
        let transport = self.membership.create_transport(direction).await.unwrap();
        let peer = Peer::bind(&self.rtp_capabilities).await;
        let dtls = lenient::dtls_parameters(&peer.dtls_parameters()).unwrap();
        let id = transport["id"].as_str().unwrap().parse().unwrap();
        self.membership.connect_transport(id, dtls).await.unwrap();
        peer.connect(&transport).await;
        (peer, transport["id"].clone())
    }

    pub(crate) async fn produce(&self, transport: &Value, rtp_parameters: &Value) -> ProducerId {
        let transport = transport.as_str().unwrap().parse().unwrap();
        let parameters = lenient::rtp_parameters(rtp_parameters).unwrap();
        self.membership
            .produce(transport, Source::Mic, parameters)
            .await
            .unwrap()
    }

    /// A connected sender whose producer exists and which does not send yet.
    pub(crate) async fn speaker(&self) -> (Peer, Track, ProducerId) {
        let (mut peer, transport) = self.connect(Direction::Send).await;
        let track = peer.add_track().await;
        let producer = self.produce(&transport, &track.rtp_parameters).await;
        (peer, track, producer)
    }

    /// A connected listener to the producer, and the SSRC under which it comes.
    pub(crate) async fn listener(&self, producer: ProducerId) -> (Peer, u32) {
        let ear = self.ear().await;
        let (stream, _) = self.hear(&ear, producer).await;
        (ear.peer, stream.ssrc)
    }

    /// A connected receiver.
    pub(crate) async fn ear(&self) -> Ear {
        let (peer, transport) = self.connect(Direction::Receive).await;
        Ear {
            peer,
            transport: transport.as_str().unwrap().parse().unwrap(),
        }
    }

    /// Receives a producer; what became of it says the flow.
    pub(crate) async fn hear(&self, ear: &Ear, producer: ProducerId) -> (Stream, Flow) {
        let stream = self.consume(ear, producer).await;
        let flow = self
            .membership
            .pause_consumer(stream.consumer, false)
            .await
            .unwrap();
        (stream, flow)
    }

    /// Receives a producer, paused.
    pub(crate) async fn consume(&self, ear: &Ear, producer: ProducerId) -> Stream {
        let capabilities = lenient::rtp_capabilities(&ear.peer.rtp_capabilities()).unwrap();
        let consumed = self
            .membership
            .consume(ear.transport, producer, capabilities)
            .await
            .unwrap();
        Stream {
            consumer: consumed.id,
            ssrc: ear.peer.expect(&consumed.rtp_parameters).await,
        }
    }
}

impl Ear {
    /// Packets of a stream that have arrived so far.
    pub(crate) fn packets(&self, stream: &Stream) -> u64 {
        self.peer.packets(stream.ssrc)
    }

    /// Waits until so many more packets of a stream have arrived.
    pub(crate) async fn hears(&self, stream: &Stream, more: u64) {
        let enough = self.packets(stream) + more;
        self.peer
            .until("hearing", |progress| {
                let stream = progress.received.get(&stream.ssrc);
                stream.is_some_and(|stream| stream.packets >= enough)
            })
            .await;
    }
}

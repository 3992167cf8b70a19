//! Rooms on real workers, with WebRTC peers at the other end of their transports.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use voice_room::{
    config::{self, Config, Flags, PluginConfig, Sources},
    media::{Media, lenient},
    model::{ProducerId, RoomId, Source, User, UserId},
    plugin::PluginHost,
    room::{CloseReason, Direction, Event, Inbox, Joined, Membership, RoomEnd, Rooms},
    store::Store,
};

use crate::peer::{LIMIT, Peer, Track};

/// Rooms on one worker.
pub(crate) struct House {
    rooms: Rooms,
    media: Media,
    pub(crate) plugins: PluginHost,
    _dir: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        Self::with_plugins(&[]).await
    }

    pub(crate) async fn with_plugins(plugins: &[PluginConfig]) -> Self {
        let Config { media, rooms, .. } = config::resolve(&Sources {
            flags: Flags {
                dev: true,
                ..Flags::default()
            },
            file_text: None,
            environment: Vec::new(),
            cores: 1,
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
        plugins.connect(
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
            _dir: dir,
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
}

/// A participant and what they are told.
pub(crate) struct Guest {
    pub(crate) membership: Membership,
    pub(crate) inbox: Inbox,
    rtp_capabilities: Value,
}

impl Guest {
    /// The next event; a test that waits longer has failed.
    async fn next(&mut self) -> Option<Arc<Event>> {
        tokio::time::timeout(LIMIT, self.inbox.next())
            .await
            .expect("an event in time")
    }

    /// Passes over levels, which come when they come.
    async fn next_fact(&mut self) -> Option<Event> {
        loop {
            match self.next().await?.as_ref() {
                Event::Speaking { .. } => {}
                event => return Some(event.clone()),
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
        let (peer, transport) = self.connect(Direction::Receive).await;
        let capabilities = lenient::rtp_capabilities(&peer.rtp_capabilities()).unwrap();
        let transport = transport.as_str().unwrap().parse().unwrap();
        let consumed = self
            .membership
            .consume(transport, producer, capabilities)
            .await
            .unwrap();
        let ssrc = peer.expect(&consumed.rtp_parameters).await;
        let resumed = self.membership.pause_consumer(consumed.id, false).await;
        resumed.unwrap();
        (peer, ssrc)
    }
}

fn new_producer(producer: ProducerId, user: u64) -> Event {
    Event::NewProducer {
        producer,
        user: UserId(user),
        source: Source::Mic,
        attached: Arc::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_speaker_is_heard_and_the_first_packet_is_told_once() {
    let house = House::open().await;
    let mut ada = house.join("stage", 1).await;
    let mut ben = house.join("stage", 2).await;
    assert!(matches!(ada.next_fact().await, Some(Event::UserJoined(_))));

    let (peer, track, producer) = ada.speaker().await;
    assert_eq!(ben.next_fact().await, Some(new_producer(producer, 1)));
    let (listener, ssrc) = ben.listener(producer).await;

    peer.speak(&track, -20).await;
    for guest in [&mut ada, &mut ben] {
        let told = guest.next_fact().await;
        assert!(
            matches!(told, Some(Event::FirstRtp { producer: of, .. }) if of == producer),
            "{told:?}"
        );
        let told = guest.next_fact().await;
        assert!(matches!(told, Some(Event::Connected { .. })), "{told:?}");
    }
    listener
        .until("hearing", |progress| {
            progress
                .received
                .get(&ssrc)
                .is_some_and(|stream| stream.packets >= 25)
        })
        .await;

    // Were the first packet told again, it would come before the end.
    ada.membership.close_producer(producer).unwrap();
    let told = ben.next_fact().await;
    assert!(
        matches!(
            told,
            Some(Event::ProducerClosed {
                reason: CloseReason::Closed,
                ..
            })
        ),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_packet_of_a_stream_that_names_no_ssrc_is_told_as_well() {
    let house = House::open().await;
    let mut ada = house.join("by mid", 1).await;
    let (mut peer, transport) = ada.connect(Direction::Send).await;
    let track = peer.add_track().await;
    // Such packets are found by their MID, and cannot be traced.
    let mut parameters = track.rtp_parameters.clone();
    parameters["encodings"] = json!([{ "dtx": false }]);
    let producer = ada.produce(&transport, &parameters).await;
    peer.speak(&track, -20).await;
    let told = ada.next_fact().await;
    assert!(
        matches!(told, Some(Event::FirstRtp { producer: of, .. }) if of == producer),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_names_no_ssrc_cannot_join_one_whose_packets_are_traced() {
    let house = House::open().await;
    let ada = house.join("mixed", 1).await;
    let (mut peer, transport) = ada.connect(Direction::Send).await;
    let track = peer.add_track().await;
    ada.produce(&transport, &track.rtp_parameters).await;

    let mut parameters = peer.add_track().await.rtp_parameters;
    parameters["encodings"] = json!([{ "dtx": false }]);
    let parameters = lenient::rtp_parameters(&parameters).unwrap();
    let transport = transport.as_str().unwrap().parse().unwrap();
    let music = ada
        .membership
        .produce(transport, Source::Music, parameters)
        .await;
    assert!(music.is_err_and(|failure| failure.to_string().contains("Cannot produce")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_router_cannot_take_does_not_end_the_one_that_runs() {
    let house = House::open().await;
    let ada = house.join("codec", 1).await;
    let mut ben = house.join("codec", 2).await;
    let (mut peer, transport) = ada.connect(Direction::Send).await;
    let track = peer.add_track().await;
    let producer = ada.produce(&transport, &track.rtp_parameters).await;
    assert_eq!(ben.next_fact().await, Some(new_producer(producer, 1)));

    let mut parameters = track.rtp_parameters.clone();
    parameters["codecs"] = json!([{
        "mimeType": "audio/PCMU", "payloadType": 0, "clockRate": 8000, "channels": 1,
    }]);
    let parameters = lenient::rtp_parameters(&parameters).unwrap();
    let transport = transport.as_str().unwrap().parse().unwrap();
    let refused = ada
        .membership
        .produce(transport, Source::Mic, parameters)
        .await;
    assert!(refused.is_err_and(|failure| failure.to_string().contains("Cannot produce")));

    // The same SSRC again in what the router takes displaces the first.
    let parameters = lenient::rtp_parameters(&track.rtp_parameters).unwrap();
    let again = ada
        .membership
        .produce(transport, Source::Mic, parameters)
        .await;
    let again = again.unwrap();
    assert_eq!(ben.next_fact().await, Some(new_producer(again, 1)));
    let told = ben.next_fact().await;
    assert!(
        matches!(
            told,
            Some(Event::ProducerClosed { producer: of, reason: CloseReason::Replaced, .. })
                if of == producer
        ),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn speakers_who_leave_while_levels_are_reported_do_not_stop_the_worker() {
    let house = House::open().await;
    let mut ben = house.join("levels", 2).await;
    for _ in 0..20 {
        let ada = house.join("levels", 1).await;
        let (peer, track, _) = ada.speaker().await;
        peer.speak(&track, -20).await;
        loop {
            if let Event::Speaking { speakers, .. } = &*ben.next().await.unwrap()
                && !speakers.is_empty()
            {
                break;
            }
        }
        drop(ada);
    }
    ben.speaker().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_membership_that_is_dropped_leaves_the_room_with_all_it_had() {
    let house = House::open().await;
    let ada = house.join("gone", 1).await;
    let mut ben = house.join("gone", 2).await;
    let (_peer, _track, producer) = ada.speaker().await;
    assert_eq!(ben.next_fact().await, Some(new_producer(producer, 1)));
    let refused = ada.membership.create_transport(Direction::Send).await;
    assert!(refused.is_err(), "one transport of a direction");
    drop(ada);
    let told = ben.next_fact().await;
    assert!(
        matches!(
            told,
            Some(Event::ProducerClosed {
                reason: CloseReason::Disconnected,
                ..
            })
        ),
        "{told:?}"
    );
    assert!(matches!(
        ben.next_fact().await,
        Some(Event::UserLeft { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_ends_its_rooms_and_is_replaced() {
    let house = House::open().await;
    let mut ada = house.join("doomed", 1).await;
    let mut ben = house.join("doomed", 2).await;
    let (_peer, _track, producer) = ada.speaker().await;
    assert!(matches!(ada.next_fact().await, Some(Event::UserJoined(_))));
    assert_eq!(ben.next_fact().await, Some(new_producer(producer, 1)));

    assert!(house.media.retire(0));
    for guest in [&mut ada, &mut ben] {
        let told = guest.next_fact().await;
        assert!(
            matches!(
                told,
                Some(Event::ProducerClosed {
                    reason: CloseReason::RoomClosed,
                    ..
                })
            ),
            "{told:?}"
        );
        let told = guest.next_fact().await;
        assert!(
            matches!(
                told,
                Some(Event::RoomClosed {
                    reason: RoomEnd::WorkerDied,
                    ..
                })
            ),
            "{told:?}"
        );
        assert_eq!(guest.next_fact().await, None, "nothing comes after the end");
        assert!(guest.membership.is_over());
        let late = guest.membership.create_transport(Direction::Receive).await;
        assert!(late.is_err_and(|failure| failure.to_string().contains("Room not found")));
    }

    let replaced = async {
        while house.media.running() < house.media.configured() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, replaced)
        .await
        .expect("a new worker");
    let cay = house.join("doomed", 3).await;
    cay.speaker().await;
}

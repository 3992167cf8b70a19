//! What goes wrong between routers, on real workers.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::config::{self, Config, Flags, Sources};

/// A test that waits longer has failed.
const LIMIT: Duration = Duration::from_secs(30);

async fn room(workers: usize) -> Arc<Cluster> {
    let sources = Sources {
        flags: Flags {
            dev: true,
            ..Flags::default()
        },
        file_text: Some("rooms.max_consumers_per_router = 1".to_owned()),
        environment: Vec::new(),
        cores: workers,
        plugins_dir: PathBuf::new(),
    };
    let Config { media, rooms, .. } = config::resolve(&sources).unwrap().config;
    let (media, _deaths) = Media::start(media).await.unwrap();
    Arc::new(media.open_room(&rooms).await.unwrap())
}

fn events() -> mpsc::Sender<MediaEvent> {
    mpsc::channel(64).0
}

async fn produce(transport: &Transport, ssrc: u32) -> Producer {
    let parameters = json!({
        "codecs": [{
            "mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2,
        }],
        "encodings": [{ "ssrc": ssrc }],
    });
    let parameters = lenient::rtp_parameters(&parameters).unwrap();
    transport.produce(parameters, false).await.unwrap()
}

/// Producers that a branch's worker knows of.
async fn producers_on(branch: &Branch) -> usize {
    let dump = branch.router.router.dump().await.unwrap();
    dump.map_producer_id_consumer_ids.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_one_router_does_not_take_is_on_none() {
    let room = room(3).await;
    let _first = room.create_receive_transport(1, events()).await.unwrap();
    let _second = room.create_receive_transport(1, events()).await.unwrap();
    let good = room.members.lock().ready.values().next().cloned().unwrap();

    // A third router, at the end of a pipe from where no producer is.
    let workers = room.media.by_load();
    let (_, key) = room.placement(|one| one.sit(1, workers));
    let worker = room.placement(|one| one.worker(key));
    let open = async |berth| Router::open(berth, room.media.config()).await.unwrap();
    let router = open(room.media.berth(worker).unwrap()).await;
    let stranger = open(room.media.berth(None).unwrap()).await;
    let link = Link::open(&stranger, &router, room.limit).await.unwrap();
    let deaf = Arc::new(Branch { key, link, router });
    {
        let mut members = room.members.lock();
        members.branches.insert(key, Arc::default());
        members.ready.insert(key, deaf);
    }

    let sender = room.create_send_transport(events()).await.unwrap();
    let producer = produce(&sender, 1).await;
    let published = room.publish(&producer).await;
    assert!(
        matches!(published, Err(MediaError::Request { .. })),
        "{published:?}"
    );
    assert!(room.members.lock().published.is_empty());
    drop(producer);
    let gone = async {
        while producers_on(&good).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();

    // Without that router the next one is everywhere.
    room.lose(key);
    let producer = produce(&sender, 2).await;
    room.publish(&producer).await.unwrap();
    assert_eq!(producers_on(&good).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_goes_while_listeners_wait_for_it_is_replaced() {
    let room = room(3).await;
    let _first = room.create_receive_transport(1, events()).await.unwrap();
    let second = room.sit(1);
    let key = second.router();
    assert_ne!(key, RouterKey::SOURCE);
    room.lose(key);
    assert!(!second.is_there());
    let late = room.transport_at(Arc::new(second), events()).await;
    assert!(matches!(late, Err(MediaError::NoWorker)));
    let another = room.create_receive_transport(1, events()).await.unwrap();
    assert!(another.is_there());
    assert_eq!(room.routers(), 2);
}

//! After a crash: what plugins have not been told is told, and what was left open is ended.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use serde::de::Error as _;
use serde_json::json;

use super::{
    Journal, Progress, RECOVERED,
    open::{self, OpenRoom, OpenStream, Row},
};
use crate::{
    model::{FactId, RoomId, UnixMs},
    plugin::{
        PluginHost,
        call::{Fact, Input, RoomView},
        lane::{Lane, Told},
        place::Place,
        queue::{Receipt, Telling},
    },
};

/// Ends what a crash has left open, and tells what it has kept plugins from being told.
pub(in crate::plugin) async fn recover(host: &PluginHost) {
    for plugin in &host.shared.plugins {
        tell_owed(plugin);
    }
    let began = Instant::now();
    let mut left = LeftOpen::read(host.shared.scribe.store.open_rows());
    let (streams, rooms) = (left.streams.len(), left.rooms.len());
    let journal = Journal::new(host.clone());
    for (fact, rows) in left.take_facts() {
        let job = journal.job(fact, rows, Telling::left_over);
        if journal.jobs.send((job, None)).await.is_err() {
            tracing::error!("what a crash has left open cannot be ended");
            return;
        }
    }
    journal.keep(left.spoilt.into_iter().map(|key| (key, None)).collect());
    if streams + rooms > 0 {
        // The lanes have the facts in their order already: on a full disk the server comes up.
        let written = host.shared.scribe.written();
        let written = tokio::time::timeout(WRITTEN, written).await.is_ok();
        tracing::warn!(
            written,
            streams,
            rooms,
            took = ?began.elapsed(),
            "an earlier run of the server did not stop in order: what it left open is ended"
        );
    }
}

/// How long the start waits for the store to take the ends of what was open.
const WRITTEN: Duration = Duration::from_secs(5);

/// Tells what an earlier run of the server has not told, in its order.
fn tell_owed(plugin: &Place) {
    let (name, store) = (plugin.name(), &plugin.common.store);
    let mut begin = Vec::new();
    for owed in store.owed(name) {
        let input = match serde_json::from_slice::<Input>(&owed.call) {
            Ok(input) => Arc::new(input),
            Err(error) => {
                let call = String::from_utf8_lossy(&owed.call);
                tracing::error!(
                    plugin = %name, %call, %error,
                    "a fact of an earlier run cannot be read: it is a dead letter"
                );
                let letter = json!({ "at": UnixMs::now(), "plugin": name, "call": call });
                if let Err(error) = store.forgive(name, owed.fact, letter) {
                    tracing::error!(%error, "it is kept for the next start");
                }
                continue;
            }
        };
        let receipt = Receipt::new(OnceLock::from(Arc::clone(&input)));
        let Some(lane) = plugin.lane(input.room()) else {
            continue;
        };
        if lane.tell(&Telling::left_over(&input, &receipt)) == Told::Begins {
            begin.push(Arc::clone(lane));
        }
    }
    Lane::begin_all(begin);
}

/// What a crash has left open.
#[derive(Default)]
struct LeftOpen {
    streams: BTreeMap<String, OpenStream>,
    progress: HashMap<String, Progress>,
    rooms: Vec<(String, OpenRoom)>,
    /// Of which nothing can be said.
    spoilt: Vec<String>,
}

impl LeftOpen {
    fn read(rows: Vec<(String, Box<[u8]>)>) -> Self {
        let mut left = Self::default();
        for (key, value) in rows {
            let read = match key.split_once('/') {
                Some(("stream", id)) => serde_json::from_slice(&value)
                    .map(|stream| drop(left.streams.insert(id.to_owned(), stream))),
                Some(("progress", id)) => serde_json::from_slice(&value)
                    .map(|progress| left.progress.insert(id.to_owned(), progress))
                    .map(drop),
                Some(("room", _)) => {
                    serde_json::from_slice(&value).map(|room| left.rooms.push((key.clone(), room)))
                }
                _ => Err(serde_json::Error::custom("nobody writes such rows")),
            };
            if let Err(error) = read {
                let row = String::from_utf8_lossy(&value);
                tracing::error!(key, %row, %error, "a row of what was open cannot be read");
                left.spoilt.push(key);
            }
        }
        left
    }

    /// The ends, streams before rooms, with the rows that are over by them.
    fn take_facts(&mut self) -> Vec<(Fact, Vec<Row>)> {
        let mut facts = Vec::new();
        let mut last: HashMap<RoomId, UnixMs> = HashMap::new();
        for (id, stream) in std::mem::take(&mut self.streams) {
            let progress = self.progress.remove(&id);
            let mut room = stream.room;
            room.participants = 0;
            let at = progress.map_or(stream.first_rtp_at, |progress| progress.at);
            let last = last.entry(room.id.clone()).or_insert(at);
            *last = at.max(*last);
            let closed = Fact::ProducerClosed {
                fact: FactId::closed(stream.producer.id),
                room,
                participant: stream.participant,
                producer: stream.producer,
                reason: RECOVERED.to_owned(),
                first_rtp_at: Some(stream.first_rtp_at),
                media: progress.map(|progress| progress.media).unwrap_or_default(),
                at,
            };
            let over = open::rows(&closed, FactId::default());
            facts.push((closed, over));
        }
        for (key, room) in std::mem::take(&mut self.rooms) {
            let last = last.get(&room.room).copied().unwrap_or(room.seen);
            let at = last.max(room.seen);
            let closed = Fact::RoomClosed {
                room: RoomView {
                    id: room.room,
                    participants: 0,
                },
                reason: RECOVERED.to_owned(),
                fact: room.fact,
                at,
            };
            facts.push((closed, vec![(key, None)]));
        }
        facts
    }
}

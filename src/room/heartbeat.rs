//! Looks at the streams that have begun, time and again: how far they have come, and
//! whether they still flow.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, future, stream};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::{Room, registry::Registry};
use crate::{
    media::{Look, MediaError, WorkerKey},
    model::{ProducerId, UnixMs},
    plugin::{Journal, Progress},
};

/// Streams that are looked at at the same time: each is a request to a worker, which has
/// packets to forward.
const IN_FLIGHT: usize = 32;

/// Streams whose progress is handed to the store at once.
const CHUNK: usize = 512;

/// Looks at all streams once in a while, until the rooms are gone.
pub(super) async fn beat(registry: Weak<Registry>, journal: Journal, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(all) = registry.upgrade().map(|registry| registry.all()) else {
            return;
        };
        let begun: Vec<(Weak<Room>, ProducerId)> = all
            .iter()
            .flat_map(|room| {
                let begun: Vec<ProducerId> = room.core.lock().state.begun().collect();
                begun.into_iter().map(|id| (Arc::downgrade(room), id))
            })
            .collect();
        drop(all);
        let hung = Hung::default();
        stream::iter(begun)
            .map(|(room, id)| look(room, id, &hung))
            .buffer_unordered(IN_FLIGHT)
            .filter_map(future::ready)
            .ready_chunks(CHUNK)
            .for_each(async |progress| journal.progress(progress))
            .await;
    }
}

/// How many looks in a row each worker has let wait in vain, in one round. Some, and it is asked
/// no more until the next, for the streams of others would wait as well.
type Hung = Mutex<HashMap<WorkerKey, u32>>;

/// Of so many looks in a row one is late by chance; all are with a worker that hangs.
const IN_VAIN: u32 = 3;

/// Looks at one stream; how far it has come, if it is known to run.
async fn look(room: Weak<Room>, id: ProducerId, hung: &Hung) -> Option<(ProducerId, Progress)> {
    let producer = {
        let room = room.upgrade()?;
        let core = room.core.lock();
        core.producers.get(&id)?.producer.clone()
    };
    let worker = producer.worker();
    if hung
        .lock()
        .get(&worker)
        .is_some_and(|&in_vain| in_vain >= IN_VAIN)
    {
        return None;
    }
    let look = producer.look().await;
    let reachable = producer.is_reachable();
    drop(producer);
    match look {
        Ok(look) => {
            hung.lock().remove(&worker);
            room.upgrade()?.looked(id, look, reachable)
        }
        Err(error) => {
            if matches!(error, MediaError::TimedOut(_)) {
                *hung.lock().entry(worker).or_default() += 1;
            }
            // Nothing is known, so nothing follows.
            debug!(producer = %id, %error, "stream not looked at");
            None
        }
    }
}

impl Room {
    /// Takes what was seen of a stream. It is known to run if packets have come, or if its
    /// sender is there and silent for no longer than may be.
    fn looked(
        self: &Arc<Self>,
        id: ProducerId,
        look: Look,
        reachable: bool,
    ) -> Option<(ProducerId, Progress)> {
        let at = UnixMs::now();
        let mut runs = false;
        self.change(|core| {
            let last = look.received.last_rtp_at;
            let out = core.state.on_look(id, last, look.grew, at);
            runs = look.grew || (reachable && !core.state.is_silent(id));
            out
        });
        let media = look.received;
        runs.then_some((id, Progress { media, at }))
    }
}

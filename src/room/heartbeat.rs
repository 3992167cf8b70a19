//! Looks at the streams that have begun, time and again: how far they have come, and
//! whether they still flow.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::{Room, registry::Registry};
use crate::model::{ProducerId, UnixMs};

/// Streams that are looked at at the same time: each is a request to a worker, which has
/// packets to forward.
const IN_FLIGHT: usize = 32;

/// Looks at all streams once in a while, until the rooms are gone.
pub(super) async fn beat(registry: Weak<Registry>, every: Duration) {
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
        stream::iter(begun)
            .for_each_concurrent(IN_FLIGHT, |(room, id)| look(room, id))
            .await;
    }
}

async fn look(room: Weak<Room>, id: ProducerId) {
    let producer = room.upgrade().and_then(|room| {
        let core = room.core.lock();
        core.producers.get(&id).map(|one| one.producer.clone())
    });
    let Some(producer) = producer else { return };
    let look = producer.look().await;
    drop(producer);
    let Some(room) = room.upgrade() else { return };
    match look {
        Ok(look) => room.change(|core| {
            let last = look.received.last_rtp_at;
            core.state.on_look(id, last, look.grew, UnixMs::now())
        }),
        // Nothing is known, so nothing follows.
        Err(error) => debug!(producer = %id, %error, "stream not looked at"),
    }
}

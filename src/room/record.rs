//! Facts on their way to the plugins. Some say how much has been received of a stream,
//! for which the media is asked: such a fact has its place in the room's order at once,
//! and is complete a little later.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};
use tracing::debug;

use super::{Core, Room};
use crate::{
    media,
    model::{MediaCount, ProducerId},
    plugin::{Fact, PluginHost},
};

/// Counts of streams that facts may wait for at the same time, in all rooms.
pub(super) const COUNTING: usize = 64;

impl Room {
    /// Informs the plugins.
    pub(super) fn inform(&self, core: &mut Core, mut fact: Fact) {
        let last = matches!(fact, Fact::ProducerClosed { .. });
        let Some((id, media)) = counted(&mut fact) else {
            self.facts.tell(fact);
            return;
        };
        let Some(handle) = core.producers.get(&id) else {
            // Given up for another, after a last look.
            let received = if last {
                core.displaced.remove(&id)
            } else {
                core.displaced.get(&id).copied()
            };
            *media = received.unwrap_or_default();
            self.facts.tell(fact);
            return;
        };
        let producer = handle.producer.clone();
        *media = producer.received();
        let reserved = self.facts.reserve(fact);
        // Without a runtime the process ends, and what was known last must do.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(complete(reserved, producer, Arc::clone(&self.counting)));
        }
    }
}

/// Which stream a fact says the count of, and where.
fn counted(fact: &mut Fact) -> Option<(ProducerId, &mut MediaCount)> {
    match fact {
        Fact::ProducerPaused {
            producer, media, ..
        }
        | Fact::ProducerResumed {
            producer, media, ..
        }
        | Fact::ProducerClosed {
            producer, media, ..
        } => Some((producer.id, media)),
        _ => None,
    }
}

/// Asks for a stream's count; the stream stays until it is there.
async fn complete(mut fact: Reserved, producer: media::Producer, counting: Arc<Semaphore>) {
    let look = async {
        let _turn = counting.acquire().await;
        producer.look().await
    };
    match timeout(media::Producer::COUNT_LIMIT, look).await {
        Ok(Ok(look)) => {
            if let Some((_, media)) = fact.fact.as_mut().and_then(counted) {
                *media = look.received;
            }
        }
        Ok(Err(error)) => {
            debug!(producer = %producer.id(), %error, "not counted: as it was known last");
        }
        Err(_) => debug!(producer = %producer.id(), "not counted in time: as it was known last"),
    }
}

/// A room's facts, in order.
pub(super) struct Facts {
    plugins: PluginHost,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// The number of the foremost fact.
    first: u64,
    /// From the first one that is not complete on.
    facts: VecDeque<Option<Fact>>,
}

/// A fact's place. It is told once this is dropped, and those before it were told.
struct Reserved {
    facts: Arc<Facts>,
    number: u64,
    fact: Option<Fact>,
}

impl Facts {
    pub(super) fn new(plugins: PluginHost) -> Arc<Self> {
        Arc::new(Self {
            plugins,
            waiting: Mutex::default(),
        })
    }

    fn tell(&self, fact: Fact) {
        let mut waiting = self.waiting.lock();
        waiting.facts.push_back(Some(fact));
        self.hand_over(&mut waiting);
    }

    fn reserve(self: &Arc<Self>, fact: Fact) -> Reserved {
        let mut waiting = self.waiting.lock();
        let length = u64::try_from(waiting.facts.len()).unwrap_or(u64::MAX);
        let number = waiting.first.saturating_add(length);
        waiting.facts.push_back(None);
        Reserved {
            facts: Arc::clone(self),
            number,
            fact: Some(fact),
        }
    }

    /// Under the lock, so that plugins see the room's order.
    fn hand_over(&self, waiting: &mut Waiting) {
        while let Some(Some(_)) = waiting.facts.front() {
            waiting.first = waiting.first.saturating_add(1);
            if let Some(fact) = waiting.facts.pop_front().flatten() {
                self.plugins.notify(fact);
            }
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut waiting = self.facts.waiting.lock();
        let place = self.number.saturating_sub(waiting.first);
        if let Some(place) = usize::try_from(place)
            .ok()
            .and_then(|place| waiting.facts.get_mut(place))
        {
            *place = self.fact.take();
        }
        self.facts.hand_over(&mut waiting);
    }
}

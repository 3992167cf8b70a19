//! Facts on their way to the plugins. Some say how much has been received of a stream, for
//! which the media is asked: such a fact has its place in the room's order at once, and is
//! complete a little later.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::Semaphore, time::timeout};
use tracing::debug;

use super::{Core, Room};
use crate::{
    media::Producer,
    model::{MediaCount, ProducerId, UnixMs, UserId},
    plugin::Fact,
};

/// Counts of streams that facts may wait for at the same time, in all rooms.
pub(super) const COUNTING: usize = 64;

impl Room {
    /// Informs the plugins.
    pub(super) fn inform(self: &Arc<Self>, core: &mut Core, mut fact: Fact) {
        if let Fact::FirstRtp {
            producer,
            participant,
            at,
            ..
        } = &fact
        {
            let (id, user, at) = (producer.id, participant.user.id, *at);
            let noted = self.journal.tell_noted(fact);
            self.announce(id, user, at, noted);
            return;
        }
        let last = matches!(fact, Fact::ProducerClosed { .. });
        let Some((id, media)) = counted(&mut fact) else {
            self.journal.tell(fact);
            return;
        };
        let producer = core.producers.get(&id).map(|one| one.producer.clone());
        *media = match &producer {
            Some(producer) => producer.received(),
            // Given up for another, after a last look.
            None if last => core.displaced.remove(&id).unwrap_or_default(),
            None => core.displaced.get(&id).copied().unwrap_or_default(),
        };
        let known = *media;
        // Without a runtime the process ends, and what was known last must do.
        let (Some(producer), Ok(runtime)) = (producer, Handle::try_current()) else {
            self.journal.tell(fact);
            return;
        };
        // Counted beside those before it, so that one that takes its time delays no other.
        let count = runtime.spawn(count(producer, Arc::clone(&self.counting)));
        self.journal.tell_counted(
            fact,
            Box::pin(async move { count.await.ok().flatten().unwrap_or(known) }),
        );
    }

    /// Tells the clients of a beginning once it is noted.
    fn announce(
        self: &Arc<Self>,
        id: ProducerId,
        user: UserId,
        at: UnixMs,
        noted: impl Future<Output = ()> + Send + 'static,
    ) {
        // Without a runtime the process ends, and nobody is told anything.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let room = Arc::downgrade(self);
        runtime.spawn(async move {
            if timeout(NOTED_LIMIT, noted).await.is_err() {
                debug!(producer = %id, "announced before it is noted: the disk is slow, or full");
            }
            if let Some(room) = room.upgrade() {
                room.change(|core| core.state.on_beginning_noted(id, user, at));
            }
        });
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

/// How long clients wait for a beginning to be noted. A disk that takes longer is not theirs to
/// wait for: running calls go on.
const NOTED_LIMIT: Duration = Duration::from_secs(1);

/// How long a count waits for its turn. With [`Producer::COUNT_LIMIT`] it is less than what
/// takes a stream's place on its transport may have to wait.
const TURN_LIMIT: Duration = Duration::from_millis(500);

/// Asks for a stream's count, if the media answers in time; the stream stays until then.
async fn count(producer: Producer, counting: Arc<Semaphore>) -> Option<MediaCount> {
    let Ok(_turn) = timeout(TURN_LIMIT, counting.acquire()).await else {
        debug!(producer = %producer.id(), "not counted: too many at once, as it was known last");
        return None;
    };
    match producer.look().await {
        Ok(look) => Some(look.received),
        Err(error) => {
            debug!(producer = %producer.id(), %error, "not counted: as it was known last");
            None
        }
    }
}

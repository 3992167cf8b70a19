//! Brings media in line with the state, whatever order changes come in: each
//! task asks what is wanted when it is its turn, and asks again when it is done.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tracing::{debug, warn};

use super::{Core, Dropped, Room};
use crate::{
    config::FirstRtpConfig,
    media::{self, Cluster, MediaError},
    model::{ConsumerId, ParticipantId, ProducerId},
};

/// When what the worker did not take is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Room {
    /// Pauses or resumes a producer.
    pub(super) fn apply_pause(self: &Arc<Self>, core: &mut Core, id: ProducerId) {
        let Some(handle) = core.producers.get_mut(&id) else {
            return;
        };
        if handle.applying || handle.paused == Some(core.state.wants_paused(id)) {
            return;
        }
        handle.applying = true;
        let room = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some((producer, wanted)) = room.upgrade().and_then(|room| room.unapplied(id))
            {
                let applied = producer.set_paused(wanted).await;
                drop(producer);
                if let Some(room) = room.upgrade()
                    && let Some(handle) = room.core.lock().producers.get_mut(&id)
                {
                    handle.paused = applied.is_ok().then_some(wanted);
                }
                if let Err(error) = applied {
                    warn!(producer = %id, %error, "pause not applied yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
    }

    /// A producer whose media is not as it should be, and how that is; marks it
    /// as settled otherwise.
    fn unapplied(&self, id: ProducerId) -> Option<(media::Producer, bool)> {
        let mut core = self.core.lock();
        let wanted = core.state.wants_paused(id);
        let handle = core.producers.get_mut(&id)?;
        if handle.paused == Some(wanted) {
            handle.applying = false;
            return None;
        }
        Some((handle.producer.clone(), wanted))
    }

    /// Watches for the beginning of a stream, until the media does it.
    pub(super) fn watch_first_rtp(self: &Arc<Self>, id: ProducerId) {
        let room = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some((media, producer, rule)) =
                room.upgrade().and_then(|room| room.watchable(id))
            {
                let watched = media.watch_first_rtp(&producer, rule).await;
                drop((media, producer));
                let Err(error) = watched else { return };
                warn!(producer = %id, %error, "a stream's beginning is not watched for yet");
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    fn watchable(&self, id: ProducerId) -> Option<(Arc<Cluster>, media::Producer, FirstRtpConfig)> {
        let core = self.core.lock();
        let producer = core.producers.get(&id)?.producer.clone();
        Some((core.media.clone()?, producer, self.first_rtp))
    }

    /// Resumes or pauses a consumer whose producer has entered or left the set.
    pub(super) fn apply_flow(
        self: &Arc<Self>,
        core: &mut Core,
        participant: ParticipantId,
        id: ConsumerId,
    ) {
        let Some(handle) = core.consumers.get_mut(&id) else {
            return;
        };
        handle.again = handle.following;
        if std::mem::replace(&mut handle.following, true) {
            return;
        }
        let consumer = handle.consumer.clone();
        let room = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let followed = follow(&room, &consumer, participant).await;
                if let Err(error) = &followed {
                    debug!(consumer = %id, %error, "consumer not resumed or paused yet");
                    tokio::time::sleep(RETRY).await;
                }
                let more = |room: Arc<Self>| room.follows_on(id, followed.is_err());
                if !room.upgrade().is_some_and(more) {
                    return;
                }
            }
        });
    }

    /// Whether the task that brings a consumer in line is to look once more.
    fn follows_on(&self, id: ConsumerId, failed: bool) -> bool {
        let mut core = self.core.lock();
        core.consumers.get_mut(&id).is_some_and(|handle| {
            handle.following = std::mem::take(&mut handle.again) || failed;
            handle.following
        })
    }

    /// Begins or ends to listen to a producer's packets.
    pub(super) fn apply_probe(
        self: &Arc<Self>,
        core: &mut Core,
        id: ProducerId,
        dropped: &mut Dropped,
    ) {
        self.turned.notify_one();
        let wanted = core.state.wants_probe(id);
        let Some(handle) = core.producers.get_mut(&id) else {
            return;
        };
        if !wanted {
            dropped.probes.extend(handle.probe.take());
            return;
        }
        if handle.probing || handle.probe.is_some() {
            return;
        }
        let Some(media) = core.media.clone() else {
            return;
        };
        handle.probing = true;
        let (producer, onsets) = (handle.producer.clone(), self.onsets.clone());
        let room = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let made = media.probe(&producer, onsets.clone()).await;
                let failed = made.as_ref().err().map(ToString::to_string);
                if !room.upgrade().is_some_and(|room| room.keep_probe(id, made)) {
                    return;
                }
                if let Some(error) = failed {
                    warn!(producer = %id, error, "a producer is not listened to yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
    }

    /// Keeps a new probe if it is still wanted; whether another try is needed.
    fn keep_probe(&self, id: ProducerId, made: Result<media::Probe, MediaError>) -> bool {
        let mut core = self.core.lock();
        let wanted = core.state.wants_probe(id);
        let Some(handle) = core.producers.get_mut(&id) else {
            return false;
        };
        if wanted && made.is_err() {
            return true;
        }
        handle.probing = false;
        if wanted {
            handle.probe = made.ok();
        }
        false
    }
}

/// Lets a consumer flow or not, as the state says.
pub(super) async fn follow(
    room: &Weak<Room>,
    consumer: &media::Consumer,
    participant: ParticipantId,
) -> Result<(), MediaError> {
    let id = consumer.id();
    consumer
        .follow(|| {
            let room = room.upgrade();
            room.is_some_and(|room| room.core.lock().state.wants_flow(participant, id))
        })
        .await
}

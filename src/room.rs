//! Rooms: around each room's pure state the shell that holds the media handles
//! and the participants' event queues; [`Rooms`] finds and opens them.
//!
//! Every request is one short function of [`Membership`]: check, act, commit.
//! Nothing awaits while holding a room.

mod active;
mod apply;
mod call;
mod event;
mod heartbeat;
mod reason;
mod record;
mod registry;
mod requests;
mod speakers;
mod state;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

pub use call::CallProgress;
pub use event::{Audience, CloseReason, Departure, Event, Inbox, Outbox, RoomEnd};
use parking_lot::Mutex;
pub use reason::Reason;
use registry::Registry;
pub use registry::{Rooms, WeakRooms};
pub use requests::{Consumed, Flow, Joined, Membership};
use serde_json::Value;
pub use state::{Belongings, Direction, Released, Snapshot, SnapshotProducer};
use state::{Limits, Output, RoomState};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tracing::info;

use crate::{
    config::{FirstRtpConfig, WhenNotDurable},
    media::{self, Cluster, MediaError, MediaEvent, WorkerKey},
    model::{
        ConsumerId, MediaCount, ParticipantId, ProducerId, Refusal, RoomId, TransportId, UnixMs,
        User, UserId,
    },
    plugin::{JoinCall, Journal, PluginHost},
    telemetry::{self, Counted},
};

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The answer is no, by the room's rules.
    #[error("refused: {}", .0.message())]
    Room(Reason),
    /// The answer is no: by a plugin, or because the request cannot be understood.
    #[error("refused: {}", .0.message)]
    Refused(Refusal),
    /// The server failed.
    #[error(transparent)]
    Media(#[from] MediaError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Room(reason)
    }
}

/// A media queue as long as this is only full if its room's task has stopped.
const MEDIA_EVENTS: usize = 8_192;

/// Onsets that may wait.
const ONSETS: usize = 64;

/// One room: pure state, media handles and event queues behind one short lock.
pub(crate) struct Room {
    id: RoomId,
    core: Mutex<Core>,
    plugins: PluginHost,
    /// Where plugins are told from.
    journal: Journal,
    /// Whether nobody begins to send while facts could be lost.
    must_not_lose: bool,
    /// Bounds the counts of streams that facts wait for.
    counting: Arc<Semaphore>,
    /// What counts as the start of a stream.
    first_rtp: FirstRtpConfig,
    events: mpsc::Sender<MediaEvent>,
    /// Who becomes loud, or stays so; what finds no room there is told again soon.
    onsets: mpsc::Sender<ProducerId>,
    /// Rung when the set of those who are heard changes: its next deadline with it.
    turned: Arc<Notify>,
    registry: Weak<Registry>,
}

struct Core {
    state: RoomState,
    /// Gone once the room has ended.
    media: Option<Arc<Cluster>>,
    transports: HashMap<TransportId, media::Transport>,
    producers: HashMap<ProducerId, ProducerHandle>,
    consumers: HashMap<ConsumerId, ConsumerHandle>,
    /// What was received of streams that were given up for others, until that is told.
    displaced: HashMap<ProducerId, MediaCount>,
    outboxes: HashMap<ParticipantId, Listener>,
    /// Gone once the room has ended.
    _counted: Option<Counted>,
}

/// Whom the room tells.
struct Listener {
    user: UserId,
    outbox: Outbox,
    _counted: Counted,
}

/// A producer's media, and how far its pause has been applied to it.
struct ProducerHandle {
    producer: media::Producer,
    _counted: Counted,
    /// What was applied last; `None` when that is not known.
    paused: Option<bool>,
    /// A task is bringing it in line.
    applying: bool,
    /// Listens to its packets while the room is crowded.
    probe: Option<media::Probe>,
    /// A task is making a probe.
    probing: bool,
}

impl Drop for ProducerHandle {
    fn drop(&mut self) {
        self.producer.ending();
    }
}

/// A consumer's media.
struct ConsumerHandle {
    consumer: media::Consumer,
    _counted: Counted,
    /// A task is bringing it in line.
    following: bool,
    /// And is to look once more, since what is wanted may have changed.
    again: bool,
}

/// Handles that close when dropped, kept until the lock is released.
#[derive(Default)]
struct Dropped {
    _media: Option<Arc<Cluster>>,
    transports: Vec<media::Transport>,
    producers: Vec<ProducerHandle>,
    consumers: Vec<ConsumerHandle>,
    probes: Vec<media::Probe>,
}

impl Room {
    fn open(registry: &Arc<Registry>, id: RoomId, media: Cluster) -> Arc<Self> {
        let config = &registry.config;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let first_rtp = config.first_rtp_in(id.as_str());
        let limits = Limits {
            participants: config.max_participants,
            consumers: config.max_consumers,
            speakers: usize::from(config.speaker_max_entries),
            speaker_hold_ms: millis(config.speaker_hold),
            active_speakers: config.max_active_speakers,
            active_hold_ms: millis(config.active_speaker_hold),
            active_grace_ms: millis(config.speaker_interval) * 2 + 100,
            connected_when: config.call_connected_when,
            both_sides: first_rtp.both_sides,
            silence_ms: millis(config.silence),
        };
        let (events, queue) = mpsc::channel(MEDIA_EVENTS);
        let (onsets, heard) = mpsc::channel(ONSETS);
        let levels = media.levels();
        let journal = registry.plugins.journal();
        let room = Arc::new(Self {
            core: Mutex::new(Core {
                state: RoomState::new(id.clone(), journal.closing(), limits),
                media: Some(Arc::new(media)),
                transports: HashMap::new(),
                producers: HashMap::new(),
                consumers: HashMap::new(),
                displaced: HashMap::new(),
                outboxes: HashMap::new(),
                _counted: Some(Counted::one(telemetry::ROOMS)),
            }),
            id,
            plugins: registry.plugins.clone(),
            journal,
            must_not_lose: config.when_not_durable == WhenNotDurable::Refuse,
            counting: Arc::clone(&registry.counting),
            first_rtp,
            events,
            onsets,
            turned: Arc::default(),
            registry: Arc::downgrade(registry),
        });
        let turned = Arc::clone(&room.turned);
        let reports = Reports {
            events: queue,
            levels,
            onsets: heard,
        };
        tokio::spawn(listen(Arc::downgrade(&room), reports, turned));
        room
    }

    fn media(&self) -> Option<Arc<Cluster>> {
        self.core.lock().media.clone()
    }

    fn admit(
        self: &Arc<Self>,
        participant: ParticipantId,
        user: &Arc<User>,
        outbox: Outbox,
    ) -> Result<(Snapshot, JoinCall), Reason> {
        self.try_change(|core| {
            let (snapshot, call, out) = core.state.commit_join(participant, user, UnixMs::now())?;
            let _counted = Counted::one(telemetry::PARTICIPANTS);
            core.outboxes.insert(
                participant,
                Listener {
                    user: user.id,
                    outbox,
                    _counted,
                },
            );
            Ok(((snapshot, call), out))
        })
    }

    fn leave(self: &Arc<Self>, participant: ParticipantId, departure: &Departure) {
        self.change(|core| {
            core.state
                .commit_leave(participant, departure, UnixMs::now())
        });
    }

    /// Listeners whose router has gone with its worker.
    fn lose_transports(self: &Arc<Self>, worker: WorkerKey) {
        self.change(|core| {
            let on = |(_, one): &(&TransportId, &media::Transport)| one.worker() == worker;
            let lost: Vec<TransportId> = core
                .transports
                .iter()
                .filter(on)
                .map(|(id, _)| *id)
                .collect();
            let at = UnixMs::now();
            let lost = lost.into_iter();
            lost.flat_map(|id| core.state.on_transport_lost(id, at))
                .collect()
        });
    }

    fn end(self: &Arc<Self>, reason: RoomEnd) {
        self.change(|core| core.state.commit_end(reason, UnixMs::now()));
    }

    /// Changes the state and carries out what follows, as one step.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut Core) -> Vec<Output>) {
        let result = self.try_change(|core| Ok::<_, Reason>(((), change(core))));
        debug_assert!(result.is_ok(), "a change without a refusal");
    }

    fn try_change<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Core) -> Result<(T, Vec<Output>), Reason>,
    ) -> Result<T, Reason> {
        // Declared before the lock, so that it drops after the lock's release.
        let mut dropped = Dropped::default();
        let mut core = self.core.lock();
        let (value, out) = change(&mut core)?;
        self.deliver(&mut core, out, &mut dropped);
        drop(core);
        Ok(value)
    }

    /// Carries out outputs under the lock, so that everyone sees one order.
    fn deliver(self: &Arc<Self>, core: &mut Core, out: Vec<Output>, dropped: &mut Dropped) {
        let mut pending = out;
        while !pending.is_empty() {
            let mut slow = Vec::new();
            for output in pending {
                match output {
                    Output::Tell(audience, event) => core.tell(audience, event, &mut slow),
                    Output::Inform(fact) => self.inform(core, fact),
                    Output::ApplyPause(id) => self.apply_pause(core, id),
                    Output::ApplyFlow(participant, id) => self.apply_flow(core, participant, id),
                    Output::ApplyProbe(id) => self.apply_probe(core, id, dropped),
                    Output::WatchFirstRtp(id) => self.watch_first_rtp(id),
                    Output::DropTransport(id) => {
                        dropped.transports.extend(core.transports.remove(&id));
                    }
                    Output::DropProducer(id) => {
                        dropped.producers.extend(core.producers.remove(&id));
                    }
                    Output::DropConsumer(id) => {
                        dropped.consumers.extend(core.consumers.remove(&id));
                    }
                    Output::Unsubscribe(id, departure) => {
                        if let Some(listener) = core.outboxes.remove(&id) {
                            listener.outbox.finish(departure);
                        }
                    }
                    Output::End => self.finish(core, dropped),
                }
            }
            // A queue that is full ends its participant, never the room's pace.
            pending = Vec::new();
            for id in slow {
                let at = UnixMs::now();
                pending.extend(core.state.commit_leave(id, &Departure::TooSlow, at));
            }
        }
    }

    fn finish(self: &Arc<Self>, core: &mut Core, dropped: &mut Dropped) {
        info!(room = %self.id, "room ended");
        core._counted = None;
        dropped._media = core.media.take();
        dropped
            .transports
            .extend(core.transports.drain().map(|(_, one)| one));
        dropped
            .producers
            .extend(core.producers.drain().map(|(_, one)| one));
        dropped
            .consumers
            .extend(core.consumers.drain().map(|(_, one)| one));
        core.outboxes.clear();
        if let Some(registry) = self.registry.upgrade() {
            registry.forget(&self.id, |cell| {
                cell.get().is_some_and(|current| Arc::ptr_eq(current, self))
            });
        }
    }
}

impl Core {
    fn tell(&self, audience: Audience, event: Event, slow: &mut Vec<ParticipantId>) {
        let event = Arc::new(event);
        for (id, Listener { user, outbox, .. }) in &self.outboxes {
            let included = match audience {
                Audience::Room => true,
                Audience::RoomExcept(participant) => *id != participant,
                Audience::RoomExceptUser(except) => *user != except,
                Audience::User(only) => *user == only,
            };
            if included && !outbox.push(&event) && !slow.contains(id) {
                slow.push(*id);
            }
        }
    }
}

/// What a room's media reports. What must not be lost has a queue of its own.
struct Reports {
    events: mpsc::Receiver<MediaEvent>,
    levels: watch::Receiver<Vec<media::Level>>,
    onsets: mpsc::Receiver<ProducerId>,
}

/// Feeds a room with what its media reports, until the room is gone.
async fn listen(room: Weak<Room>, reports: Reports, turned: Arc<Notify>) {
    let Reports {
        mut events,
        mut levels,
        mut onsets,
    } = reports;
    let mut deadline: Option<UnixMs> = None;
    let mut measuring = true;
    loop {
        let wake = async {
            match deadline {
                Some(at) => {
                    let left = at.0.saturating_sub(UnixMs::now().0);
                    tokio::time::sleep(Duration::from_millis(left.max(1))).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = events.recv() => {
                let (Some(event), Some(room)) = (event, room.upgrade()) else { return };
                room.change(|core| match event {
                    MediaEvent::FirstRtp { producer, at, packet } => {
                        core.state.on_first_rtp(producer, packet, at)
                    }
                    MediaEvent::RtpAgain { producer, at } => core.state.on_rtp_again(producer, at),
                    MediaEvent::TransportEnded(transport) => {
                        core.state.on_transport_ended(transport, UnixMs::now())
                    }
                });
            }
            changed = levels.changed(), if measuring => {
                // The observer is gone with the router; facts may still come.
                measuring = changed.is_ok();
                let Some(room) = room.upgrade() else { return };
                let measured = levels.borrow_and_update().clone();
                deadline = room.speaking(&measured);
            }
            Some(producer) = onsets.recv() => {
                let Some(room) = room.upgrade() else { return };
                room.change(|core| core.state.on_onset(producer, UnixMs::now()));
            }
            () = turned.notified() => {
                let Some(room) = room.upgrade() else { return };
                deadline = room.core.lock().state.speaking_deadline();
            }
            () = wake => {
                let Some(room) = room.upgrade() else { return };
                deadline = room.speaking(&[]);
            }
        }
    }
}

impl Room {
    fn speaking(self: &Arc<Self>, levels: &[media::Level]) -> Option<UnixMs> {
        self.change(|core| core.state.on_levels(levels, UnixMs::now()));
        self.core.lock().state.speaking_deadline()
    }
}

/// A join answer's `plugins`: what each plugin shows a newcomer.
pub type PluginNotes = serde_json::Map<String, Value>;

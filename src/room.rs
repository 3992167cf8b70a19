//! Rooms: the registry, and around each room's pure state the shell that holds
//! the media handles and the participants' event queues.
//!
//! Every request is one short function of [`Membership`]: check, act, commit.
//! Nothing awaits while holding a room.

mod call;
mod event;
mod reason;
mod requests;
mod speakers;
mod state;

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use call::CallProgress;
pub use event::{Audience, CloseReason, Departure, Event, Inbox, Outbox, RoomEnd};
use parking_lot::Mutex;
pub use reason::Reason;
pub use requests::{Consumed, Joined, Membership};
use serde_json::Value;
pub use state::{Direction, Released, Snapshot, SnapshotProducer};
use state::{Limits, Output, RoomState};
use tokio::sync::{OnceCell, mpsc};
use tracing::{debug, info, warn};

use crate::{
    config::RoomsConfig,
    media::{self, Media, MediaError, MediaEvent, RoomMedia, WorkerKey},
    model::{
        ConsumerId, ParticipantId, ProducerId, Refusal, RoomId, TransportId, UnixMs, User, UserId,
    },
    plugin::{Action, JoinCall, ParticipantView, PluginHost, RoomView},
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

/// All rooms of this server. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    registry: Arc<Registry>,
}

/// The rooms, for as long as somebody else keeps them.
#[derive(Clone)]
pub struct WeakRooms(Weak<Registry>);

impl WeakRooms {
    /// The rooms, if they are still kept.
    #[must_use]
    pub fn upgrade(&self) -> Option<Rooms> {
        self.0.upgrade().map(|registry| Rooms { registry })
    }
}

struct Registry {
    config: RoomsConfig,
    /// Events that may wait for one participant.
    outbox_capacity: usize,
    media: Media,
    plugins: PluginHost,
    draining: AtomicBool,
    rooms: Mutex<HashMap<RoomId, Arc<OnceCell<Arc<Room>>>>>,
}

/// A media queue as long as this is only full if its room's task has stopped.
const MEDIA_EVENTS: usize = 8_192;

/// When a pause that the worker did not take is tried again.
const PAUSE_RETRY: Duration = Duration::from_secs(1);

/// How often a joiner who met a room's end tries again.
const JOIN_TRIES: usize = 5;

impl Rooms {
    /// No rooms yet.
    #[must_use]
    pub fn new(
        config: RoomsConfig,
        outbox_capacity: usize,
        media: Media,
        plugins: PluginHost,
    ) -> Self {
        let registry = Registry {
            config,
            outbox_capacity,
            media,
            plugins,
            draining: AtomicBool::new(false),
            rooms: Mutex::default(),
        };
        Self {
            registry: Arc::new(registry),
        }
    }

    /// Takes a user into a room, opening it if need be. The place that the
    /// session has in another room is given up once the new one is to be had, so
    /// that a refusal changes nothing; one in the same room once nobody refuses.
    ///
    /// # Errors
    /// A refusal if the server drains, the room is full or a plugin says no.
    pub async fn join(
        &self,
        id: &RoomId,
        user: &Arc<User>,
        before: &mut Option<Membership>,
    ) -> Result<Joined, Failure> {
        let registry = &self.registry;
        if registry.draining.load(Ordering::Acquire) {
            return Err(Reason::Draining.into());
        }
        let again = before
            .as_ref()
            .is_some_and(|one| one.room() == id && !one.is_over());
        let participant = ParticipantId::random();
        let (room, connections) = registry.look(id, user.id, again)?;
        let view = ParticipantView {
            id: participant,
            user: Arc::clone(user),
            connections,
        };
        let call = JoinCall {
            room,
            participant: view,
            at: UnixMs::now(),
        };
        registry.plugins.before_join(call).await?;
        if again && let Some(before) = before.take() {
            before.leave();
        }
        for _ in 0..JOIN_TRIES {
            let room = registry.open(id).await?;
            let (outbox, inbox) = Outbox::new(registry.outbox_capacity);
            match room.admit(participant, user, outbox) {
                Ok((snapshot, call)) => {
                    if let Some(before) = before.take() {
                        before.leave();
                    }
                    let membership = Membership::new(room, participant);
                    let plugins = registry.plugins.describe_room(call).await;
                    let rtp_capabilities = membership.rtp_capabilities();
                    return Ok(Joined {
                        membership,
                        inbox,
                        rtp_capabilities,
                        snapshot,
                        plugins,
                    });
                }
                // The room ended between finding and entering it.
                Err(Reason::RoomNotFound) => {}
                Err(reason) => return Err(reason.into()),
            }
        }
        Err(Reason::RoomNotFound.into())
    }

    /// For those whom the rooms hold themselves.
    #[must_use]
    pub fn downgrade(&self) -> WeakRooms {
        WeakRooms(Arc::downgrade(&self.registry))
    }

    /// Carries out what a plugin asks for in a room, in order, without waiting.
    pub fn carry_out(&self, id: &RoomId, plugin: &Arc<str>, actions: Vec<Action>) {
        match self.registry.find(id) {
            Some(room) => room.change(|core| {
                let at = UnixMs::now();
                actions
                    .into_iter()
                    .flat_map(|one| core.state.apply(plugin, one, at))
                    .collect()
            }),
            None => debug!(room = %id, plugin = %plugin, "no room to carry out actions in"),
        }
    }

    /// How many participants a room has; none if it is not open.
    #[must_use]
    pub fn participants(&self, id: &RoomId) -> u32 {
        let room = self.registry.find(id);
        room.map_or(0, |room| room.core.lock().state.view().participants)
    }

    /// Whether a plugin registered this client event.
    #[must_use]
    pub fn has_command(&self, name: &str) -> bool {
        self.registry.plugins.has_command(name)
    }

    /// Ends the rooms that a worker carried.
    pub fn worker_died(&self, worker: WorkerKey) {
        for room in self.registry.all() {
            if room.media().is_some_and(|media| media.worker() == worker) {
                room.end(RoomEnd::WorkerDied);
            }
        }
    }

    /// Takes nobody in any more.
    pub fn drain(&self) {
        self.registry.draining.store(true, Ordering::Release);
    }

    /// Whether [`Rooms::drain`] was called.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.registry.draining.load(Ordering::Acquire)
    }

    /// Ends all rooms; their participants are told.
    pub fn end_all(&self, reason: RoomEnd) {
        for room in self.registry.all() {
            room.end(reason);
        }
    }
}

impl Registry {
    fn find(&self, id: &RoomId) -> Option<Arc<Room>> {
        self.rooms
            .lock()
            .get(id)
            .and_then(|cell| cell.get().cloned())
    }

    /// The room as a newcomer finds it, and how many connections their user will
    /// have there; `again`: one of them gives its place up.
    fn look(&self, id: &RoomId, user: UserId, again: bool) -> Result<(RoomView, u32), Reason> {
        if let Some(room) = self.find(id) {
            let core = room.core.lock();
            if !core.state.ended() {
                if !again {
                    core.state.check_join()?;
                }
                let connections = core.state.connections(user) + u32::from(!again);
                return Ok((core.state.view(), connections));
            }
        }
        Ok((
            RoomView {
                id: id.clone(),
                participants: 0,
            },
            1,
        ))
    }

    fn all(&self) -> Vec<Arc<Room>> {
        self.rooms
            .lock()
            .values()
            .filter_map(|cell| cell.get().cloned())
            .collect()
    }

    /// The room, opened once however many ask at the same time.
    async fn open(self: &Arc<Self>, id: &RoomId) -> Result<Arc<Room>, Failure> {
        let cell = Arc::clone(self.rooms.lock().entry(id.clone()).or_default());
        let opened = cell
            .get_or_try_init(|| async {
                let media = self.media.open_room(&self.config).await?;
                info!(room = %id, "room opened");
                Ok::<_, MediaError>(Room::open(self, id.clone(), media))
            })
            .await;
        let room = match opened {
            Ok(room) => Arc::clone(room),
            Err(error) => {
                // The next one to ask tries afresh, but not beside those who are
                // trying with this cell: they hold clones, made under the lock.
                self.forget(id, |current| {
                    Arc::ptr_eq(current, &cell)
                        && cell.get().is_none()
                        && Arc::strong_count(current) == 2
                });
                return Err(error.into());
            }
        };
        if self.draining.load(Ordering::Acquire) {
            room.end(RoomEnd::Shutdown);
            return Err(Reason::Draining.into());
        }
        // A worker that died while the room was being opened did not find it.
        if room
            .media()
            .is_some_and(|media| !self.media.runs(media.worker()))
        {
            room.end(RoomEnd::WorkerDied);
            return Err(MediaError::NoWorker.into());
        }
        Ok(room)
    }

    fn forget(&self, id: &RoomId, same: impl Fn(&Arc<OnceCell<Arc<Room>>>) -> bool) {
        let mut rooms = self.rooms.lock();
        if rooms.get(id).is_some_and(same) {
            rooms.remove(id);
        }
    }
}

/// One room: pure state, media handles and event queues behind one short lock.
pub(crate) struct Room {
    id: RoomId,
    core: Mutex<Core>,
    plugins: PluginHost,
    events: mpsc::Sender<MediaEvent>,
    registry: Weak<Registry>,
}

struct Core {
    state: RoomState,
    /// Gone once the room has ended.
    media: Option<Arc<RoomMedia>>,
    transports: HashMap<TransportId, media::Transport>,
    producers: HashMap<ProducerId, ProducerHandle>,
    consumers: HashMap<ConsumerId, ConsumerHandle>,
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
}

/// A consumer's media.
struct ConsumerHandle {
    consumer: media::Consumer,
    _counted: Counted,
}

/// Handles that close when dropped, kept until the lock is released.
#[derive(Default)]
struct Dropped {
    _media: Option<Arc<RoomMedia>>,
    transports: Vec<media::Transport>,
    producers: Vec<ProducerHandle>,
    consumers: Vec<ConsumerHandle>,
}

impl Room {
    fn open(registry: &Arc<Registry>, id: RoomId, media: RoomMedia) -> Arc<Self> {
        let config = &registry.config;
        let limits = Limits {
            participants: config.max_participants,
            consumers: config.max_consumers,
            connected_when: config.call_connected_when,
        };
        let (events, queue) = mpsc::channel(MEDIA_EVENTS);
        let levels = media.levels();
        let hold = u64::try_from(config.speaker_hold.as_millis()).unwrap_or(u64::MAX);
        let room = Arc::new(Self {
            core: Mutex::new(Core {
                state: RoomState::new(id.clone(), limits, hold),
                media: Some(Arc::new(media)),
                transports: HashMap::new(),
                producers: HashMap::new(),
                consumers: HashMap::new(),
                outboxes: HashMap::new(),
                _counted: Some(Counted::one(telemetry::ROOMS)),
            }),
            id,
            plugins: registry.plugins.clone(),
            events,
            registry: Arc::downgrade(registry),
        });
        tokio::spawn(listen(Arc::downgrade(&room), queue, levels));
        room
    }

    fn media(&self) -> Option<Arc<RoomMedia>> {
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
                    Output::Inform(fact) => self.plugins.notify(fact),
                    Output::ApplyPause(id) => self.apply_pause(core, id),
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

    /// Brings a producer's media in line with the state, whatever order mutes
    /// and unmutes come in.
    fn apply_pause(self: &Arc<Self>, core: &mut Core, id: ProducerId) {
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
                    tokio::time::sleep(PAUSE_RETRY).await;
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

/// Feeds a room with what its media reports, until the room is gone.
async fn listen(
    room: Weak<Room>,
    mut events: mpsc::Receiver<MediaEvent>,
    mut levels: tokio::sync::watch::Receiver<Vec<media::Level>>,
) {
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
                    MediaEvent::FirstRtp { producer, at } => core.state.on_first_rtp(producer, at),
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

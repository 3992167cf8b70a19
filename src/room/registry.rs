//! All rooms of the server: finding, opening and ending them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};
use tracing::{debug, info};

use super::{
    Failure, Joined, Membership, Outbox, Reason, Room, RoomEnd, heartbeat::beat, record::COUNTING,
};
use crate::{
    config::RoomsConfig,
    media::{Media, MediaError, WorkerKey},
    model::{ParticipantId, RoomId, UnixMs, User, UserId},
    plugin::{Action, JoinCall, ParticipantView, PluginHost, RoomView},
};

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

pub(super) struct Registry {
    pub(super) config: RoomsConfig,
    /// Events that may wait for one participant.
    outbox_capacity: usize,
    media: Media,
    pub(super) plugins: PluginHost,
    /// Bounds the counts of streams that facts wait for.
    pub(super) counting: Arc<Semaphore>,
    draining: AtomicBool,
    rooms: Mutex<HashMap<RoomId, Arc<OnceCell<Arc<Room>>>>>,
}

/// How often a joiner who met a room's end tries again.
const JOIN_TRIES: usize = 5;

impl Rooms {
    /// No rooms yet. Their streams are looked at by a task of the current runtime.
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
            counting: Arc::new(Semaphore::new(COUNTING)),
            draining: AtomicBool::new(false),
            rooms: Mutex::default(),
        };
        let (journal, heartbeat) = (registry.plugins.journal(), registry.config.heartbeat);
        let registry = Arc::new(registry);
        tokio::spawn(beat(Arc::downgrade(&registry), journal, heartbeat));
        Self { registry }
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
            Some(room) => {
                let pins = |one: &Action| matches!(one, Action::PinSpeaker { .. });
                let pinned = actions.iter().any(pins);
                room.change(|core| {
                    let at = UnixMs::now();
                    actions
                        .into_iter()
                        .flat_map(|one| core.state.apply(plugin, one, at))
                        .collect()
                });
                // Whose turn it is may be the same, and yet end at another time.
                if pinned {
                    room.turned.notify_one();
                }
            }
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

    /// Ends the rooms whose producers a worker carried. Of other rooms it may have
    /// carried listeners: these are told that their transports have gone, and find
    /// another router with their next ones.
    pub fn worker_died(&self, worker: WorkerKey) {
        for room in self.registry.all() {
            match room.media() {
                Some(media) if media.worker() == worker => room.end(RoomEnd::WorkerDied),
                Some(media) => {
                    // Who met the closed router first may have let go of it already:
                    // its listeners are to be told all the same.
                    media.lose_worker(worker);
                    room.lose_transports(worker);
                }
                None => {}
            }
        }
    }

    /// How many routers a room has; none if it is not open.
    #[must_use]
    pub fn routers(&self, id: &RoomId) -> usize {
        let media = self.registry.find(id).and_then(|room| room.media());
        media.map_or(0, |media| media.routers())
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

    pub(super) fn all(&self) -> Vec<Arc<Room>> {
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

    pub(super) fn forget(&self, id: &RoomId, same: impl Fn(&Arc<OnceCell<Arc<Room>>>) -> bool) {
        let mut rooms = self.rooms.lock();
        if rooms.get(id).is_some_and(same) {
            rooms.remove(id);
        }
    }
}

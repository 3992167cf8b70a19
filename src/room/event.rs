//! What a room tells its participants, and how it reaches them.

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::model::{ParticipantId, ProducerId, RoomId, Source, TransportId, UnixMs, User, UserId};

/// Something that a participant is told. Faces turn it into their own wire form.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A producer can be consumed.
    NewProducer {
        /// The producer.
        producer: ProducerId,
        /// Who sends.
        user: UserId,
        /// What it carries.
        source: Source,
        /// What plugins attached to it, by plugin.
        attached: Arc<Map<String, Value>>,
    },
    /// A producer has ended.
    ProducerClosed {
        /// The producer.
        producer: ProducerId,
        /// Who sent.
        user: UserId,
        /// What it carried.
        source: Source,
        /// Why.
        reason: CloseReason,
    },
    /// A producer has been paused or resumed.
    ProducerPaused {
        /// The producer.
        producer: ProducerId,
        /// Who sends.
        user: UserId,
        /// The state now.
        paused: bool,
        /// Whether a plugin did it, not the user.
        by_moderator: bool,
    },
    /// The first RTP packet of a producer has arrived.
    FirstRtp {
        /// The producer.
        producer: ProducerId,
        /// Who sends.
        user: UserId,
        /// When the packet was seen.
        at: UnixMs,
    },
    /// The dominant speaker or the set of speakers has changed.
    Speaking {
        /// Speakers with their levels in dBov, loudest first; empty: silence.
        speakers: Vec<(UserId, i8)>,
        /// When.
        at: UnixMs,
    },
    /// A listener's transport has gone with its router; a new one finds another.
    TransportClosed {
        /// The transport.
        transport: TransportId,
    },
    /// A user has entered.
    UserJoined(Arc<User>),
    /// A user is gone.
    UserLeft {
        /// Who.
        user: Arc<User>,
        /// Why.
        reason: Arc<str>,
    },
    /// The room has ended; the participant is no longer in it.
    RoomClosed {
        /// The room.
        room: RoomId,
        /// Why.
        reason: RoomEnd,
        /// When.
        at: UnixMs,
    },
    /// The room's call is connected. Told once.
    Connected {
        /// Whose packet did it.
        user: UserId,
        /// When.
        at: UnixMs,
    },
    /// What a participant says to all others, as it is.
    Broadcast {
        /// Who.
        from: UserId,
        /// What.
        data: Value,
    },
    /// What a plugin emits.
    Plugin {
        /// Event name.
        name: Arc<str>,
        /// The plugin's JSON.
        payload: Value,
    },
}

/// Why a producer ended; `audio:producerClosed.reason` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Its client closed it.
    Closed,
    /// Its client produced the same source again.
    Replaced,
    /// Its participant left the room.
    Left,
    /// Its participant's connection ended.
    Disconnected,
    /// Its participant was removed.
    Kicked,
    /// Its transport ended.
    TransportClosed,
    /// A plugin closed it.
    Plugin,
    /// The room ended.
    RoomClosed,
}

impl CloseReason {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Replaced => "replaced",
            Self::Left => "left",
            Self::Disconnected => "disconnected",
            Self::Kicked => "kicked",
            Self::TransportClosed => "transport_closed",
            Self::Plugin => "plugin",
            Self::RoomClosed => "room_closed",
        }
    }
}

/// Why a room ended; `room:closed.reason` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomEnd {
    /// The last participant left.
    Empty,
    /// The media worker that carried it died.
    WorkerDied,
    /// The server is stopping.
    Shutdown,
}

impl RoomEnd {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::WorkerDied => "worker_died",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Why a participant is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The client left the room.
    Left,
    /// The connection ended.
    Disconnected,
    /// A plugin removed the user, for this reason.
    Kicked(Arc<str>),
    /// The connection did not take its events fast enough.
    TooSlow,
}

impl Departure {
    /// The word in `room:userLeft` and in the plugins' `on-leave`.
    #[must_use]
    pub fn reason(&self) -> Arc<str> {
        match self {
            Self::Left => "left".into(),
            Self::Disconnected => "disconnected".into(),
            Self::Kicked(reason) => Arc::clone(reason),
            Self::TooSlow => "too_slow".into(),
        }
    }

    /// How the participant's producers end.
    #[must_use]
    pub fn close_reason(&self) -> CloseReason {
        match self {
            Self::Left => CloseReason::Left,
            Self::Disconnected | Self::TooSlow => CloseReason::Disconnected,
            Self::Kicked(_) => CloseReason::Kicked,
        }
    }
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everyone in the room.
    Room,
    /// Everyone but one participant.
    RoomExcept(ParticipantId),
    /// Everyone but one user's connections.
    RoomExceptUser(UserId),
    /// One user's connections in the room.
    User(UserId),
}

/// The sending end of one participant's bounded event queue. When the room lets
/// go of it, the receiver drains what is left and then learns why, by [`Inbox::end`].
#[derive(Debug)]
pub struct Outbox {
    queue: mpsc::Sender<Arc<Event>>,
    end: Arc<OnceLock<Departure>>,
}

/// The receiving end of an [`Outbox`].
#[derive(Debug)]
pub struct Inbox {
    queue: mpsc::Receiver<Arc<Event>>,
    end: Arc<OnceLock<Departure>>,
}

impl Outbox {
    /// A queue for at most `capacity` events.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let end = Arc::new(OnceLock::new());
        (
            Self {
                queue: sender,
                end: Arc::clone(&end),
            },
            Inbox {
                queue: receiver,
                end,
            },
        )
    }

    /// Queues an event; `false` if the queue is full.
    #[must_use]
    pub fn push(&self, event: &Arc<Event>) -> bool {
        !matches!(
            self.queue.try_send(Arc::clone(event)),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }

    /// Ends the queue: nothing more comes after what it holds.
    pub fn finish(self, departure: Departure) {
        self.end.set(departure).ok();
    }
}

impl Inbox {
    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        self.queue.recv().await
    }

    /// The next event if it waits already.
    pub fn waiting(&mut self) -> Option<Arc<Event>> {
        self.queue.try_recv().ok()
    }

    /// Why the participant was removed; `None` if the room itself ended.
    #[must_use]
    pub fn end(&self) -> Option<&Departure> {
        self.end.get()
    }
}

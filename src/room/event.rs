//! What a room tells its participants, and how it reaches them.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};

use crate::model::{ParticipantId, ProducerId, RoomId, Source, TransportId, UnixMs, User, UserId};

/// For how long who comes and goes waits for others, after somebody who did: in a storm of
/// joins everybody is told of everybody, and what is told together costs a fraction.
const GATHERING: Duration = Duration::from_millis(20);

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

impl Event {
    /// Whether nobody acts on it at once.
    fn can_wait(&self) -> bool {
        matches!(self, Self::UserJoined(_) | Self::UserLeft { .. })
    }
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
    signs: Arc<Signs>,
}

/// The receiving end of an [`Outbox`].
#[derive(Debug)]
pub struct Inbox {
    queue: mpsc::Receiver<Arc<Event>>,
    signs: Arc<Signs>,
    gathering: Duration,
    /// Until when an event that can wait does.
    gather_until: Option<Instant>,
}

/// What the ends of a queue tell each other beside its events.
#[derive(Debug, Default)]
struct Signs {
    end: OnceLock<Departure>,
    /// What cannot wait is in the queue, or nothing more comes.
    hurry: Notify,
}

impl Outbox {
    /// A queue for at most `capacity` events.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let signs = Arc::<Signs>::default();
        (
            Self {
                queue: sender,
                signs: Arc::clone(&signs),
            },
            Inbox {
                queue: receiver,
                signs,
                gathering: GATHERING,
                gather_until: None,
            },
        )
    }

    /// Queues an event; `false` if the queue is full.
    #[must_use]
    pub fn push(&self, event: &Arc<Event>) -> bool {
        let queued = self.queue.try_send(Arc::clone(event));
        // A long queue cannot wait either.
        if !event.can_wait() || self.queue.capacity() < self.queue.max_capacity() / 2 {
            self.signs.hurry.notify_one();
        }
        !matches!(queued, Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Ends the queue: nothing more comes after what it holds.
    pub fn finish(self, departure: Departure) {
        self.signs.end.set(departure).ok();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.signs.hurry.notify_one();
    }
}

impl Inbox {
    /// The next event; `None` after the last one. Once one has said who came or went, the
    /// next ones of that kind come together a little later, unless something else comes.
    /// Nothing is lost if this is cancelled.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.waiting() {
            return Some(event);
        }
        if let Some(until) = self.gather_until
            && Instant::now() < until
            && !self.queue.is_closed()
        {
            tokio::select! {
                () = self.signs.hurry.notified() => {}
                () = sleep_until(until) => {}
            }
        }
        let event = self.queue.recv().await?;
        self.handed_out(&event);
        Some(event)
    }

    /// The next event if it waits already.
    pub fn waiting(&mut self) -> Option<Arc<Event>> {
        let event = self.queue.try_recv().ok()?;
        self.handed_out(&event);
        Some(event)
    }

    fn handed_out(&mut self, event: &Event) {
        if event.can_wait() {
            self.gather_until = Some(Instant::now() + self.gathering);
        }
    }

    /// Why the participant was removed; `None` if the room itself ended.
    #[must_use]
    pub fn end(&self) -> Option<&Departure> {
        self.signs.end.get()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// A queue that gathers until something else comes.
    fn gathering() -> (Outbox, Inbox) {
        let (outbox, mut inbox) = Outbox::new(8);
        inbox.gathering = Duration::from_secs(3600);
        (outbox, inbox)
    }

    fn came(user: u64) -> Arc<Event> {
        Arc::new(Event::UserJoined(Arc::new(User {
            id: UserId(user),
            name: None,
            avatar: None,
            roles: Vec::new(),
            claims: "{}".to_owned(),
        })))
    }

    fn urgent() -> Arc<Event> {
        Arc::new(Event::Speaking {
            speakers: Vec::new(),
            at: UnixMs(1),
        })
    }

    fn push(outbox: &Outbox, events: &[Arc<Event>]) {
        for event in events {
            assert!(outbox.push(event));
        }
    }

    #[tokio::test]
    async fn who_comes_first_is_told_at_once_and_who_follows_is_told_together() {
        let (outbox, mut inbox) = gathering();
        push(&outbox, &[came(1)]);
        assert_eq!(inbox.next().now_or_never(), Some(Some(came(1))));
        push(&outbox, &[came(2)]);
        assert_eq!(inbox.next().now_or_never(), Some(Some(came(2))));
        {
            let mut next = Box::pin(inbox.next());
            assert_eq!((&mut next).now_or_never(), None);
            push(&outbox, &[came(3), came(4)]);
            assert_eq!((&mut next).now_or_never(), None);
        }
        inbox.gather_until = Some(Instant::now());
        assert_eq!(inbox.next().now_or_never(), Some(Some(came(3))));
        assert_eq!(inbox.next().now_or_never(), Some(Some(came(4))));
    }

    #[tokio::test]
    async fn nobody_is_gathered_for_long() {
        let (outbox, mut inbox) = Outbox::new(8);
        push(&outbox, &[came(1)]);
        assert_eq!(inbox.next().await, Some(came(1)));
        let (next, ()) = tokio::join!(inbox.next(), async { push(&outbox, &[came(2)]) });
        assert_eq!(next, Some(came(2)));
    }

    #[tokio::test]
    async fn a_queue_that_fills_is_not_left_to_gather() {
        let (outbox, mut inbox) = gathering();
        push(&outbox, &[came(1)]);
        assert_eq!(inbox.next().await, Some(came(1)));
        let fill = async { push(&outbox, &[came(2), came(3), came(4), came(5), came(6)]) };
        let (next, ()) = tokio::join!(inbox.next(), fill);
        assert_eq!(next, Some(came(2)));
    }

    #[tokio::test]
    async fn what_cannot_wait_takes_along_what_was_before_it() {
        let (outbox, mut inbox) = gathering();
        push(&outbox, &[came(1)]);
        assert_eq!(inbox.next().await, Some(came(1)));
        {
            let mut next = Box::pin(inbox.next());
            assert_eq!((&mut next).now_or_never(), None);
            push(&outbox, &[came(2), urgent()]);
            assert_eq!(next.await, Some(came(2)));
        }
        assert_eq!(inbox.next().await, Some(urgent()));
    }

    #[tokio::test]
    async fn the_end_of_a_queue_is_not_waited_for() {
        let (outbox, mut inbox) = gathering();
        push(&outbox, &[came(1)]);
        assert_eq!(inbox.next().await, Some(came(1)));
        {
            let mut next = Box::pin(inbox.next());
            assert_eq!((&mut next).now_or_never(), None);
            push(&outbox, &[came(2)]);
            outbox.finish(Departure::Left);
            assert_eq!(next.await, Some(came(2)));
        }
        assert_eq!(inbox.next().await, None);
        assert_eq!(inbox.end(), Some(&Departure::Left));
    }
}

//! The rules of a room. Pure: no clock, no media, no plugins, no locks; input
//! in, a refusal or outputs out. `check_*` may refuse and change nothing but a
//! reservation; `commit_*` may find that the world has moved on, and then
//! refuses too, so that the caller drops what it made.

mod actions;
mod belongings;
mod consumers;
mod flow;
mod producers;
#[cfg(test)]
mod tests;
mod transports;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

pub use belongings::{Belongings, Released};
use serde_json::{Map, Value};

use super::{
    active::ActiveSet,
    call::Call,
    event::{Audience, Departure, Event, RoomEnd},
    reason::Reason,
    speakers::Speakers,
};
use crate::{
    model::{
        Codec, ConnectedWhen, ConsumerId, FactId, ParticipantId, ProducerId, RoomId, Source,
        TransportId, UnixMs, User, UserId,
    },
    plugin::{Amendments, Fact, JoinCall, ParticipantView, ProducerView, RoomView},
};

/// Which way a transport carries media, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client sends: it takes producers.
    Send,
    /// The client receives: it takes consumers.
    Receive,
    /// The client does both over one transport.
    Both,
}

impl Direction {
    /// Whether a transport of this direction carries media of the other.
    fn carries(self, other: Self) -> bool {
        self == Self::Both || self == other
    }

    /// Whether a participant may have only one of the two.
    fn overlaps(self, other: Self) -> bool {
        self.carries(other) || other.carries(self)
    }
}

/// The bounds of one room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Participants, all users' connections together.
    pub participants: usize,
    /// Consumers of one participant.
    pub consumers: usize,
    /// Speakers that are told of at once.
    pub speakers: usize,
    /// How long a speaker stays one through a pause, in milliseconds.
    pub speaker_hold_ms: u64,
    /// Producers that are heard at once; 0: all.
    pub active_speakers: usize,
    /// How long a silent producer stays among them, in milliseconds.
    pub active_hold_ms: u64,
    /// How long it cannot be displaced, in milliseconds.
    pub active_grace_ms: u64,
    /// When its call counts as connected, unless a member says.
    pub connected_when: ConnectedWhen,
    /// Whether nobody is said to have begun to send until two users have.
    pub both_sides: bool,
    /// How long a stream may send nothing until it does not flow, in milliseconds.
    pub silence_ms: u64,
}

/// What follows from a change, in order. The shell around the state carries it
/// out; nothing in it can fail.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    /// Tell participants.
    Tell(Audience, Event),
    /// Inform the plugins.
    Inform(Fact),
    /// Bring the media in line with [`RoomState::wants_paused`].
    ApplyPause(ProducerId),
    /// Bring the media in line with [`RoomState::wants_flow`].
    ApplyFlow(ParticipantId, ConsumerId),
    /// Bring the media in line with [`RoomState::wants_probe`].
    ApplyProbe(ProducerId),
    /// Watch for the beginning of a stream once more.
    WatchFirstRtp(ProducerId),
    /// Let go of the handle, which closes it.
    DropTransport(TransportId),
    /// Let go of the handle, which closes it.
    DropProducer(ProducerId),
    /// Let go of the handle, which closes it.
    DropConsumer(ConsumerId),
    /// The participant has been told everything.
    Unsubscribe(ParticipantId, Departure),
    /// The room has ended: everyone has been told everything.
    End,
}

/// What a newcomer is shown.
#[derive(Debug, PartialEq)]
pub struct Snapshot {
    /// Everyone in the room, each user once, and whether they send audio.
    pub users: Vec<(Arc<User>, bool)>,
    /// Everything that can be consumed.
    pub producers: Vec<SnapshotProducer>,
    /// Users who speak now, the dominant one first.
    pub speakers: Vec<UserId>,
}

/// A producer as a newcomer is shown it.
#[derive(Debug, PartialEq)]
pub struct SnapshotProducer {
    /// The producer.
    pub id: ProducerId,
    /// Who sends.
    pub user: UserId,
    /// What it carries.
    pub source: Source,
    /// Whether it is muted now.
    pub paused: bool,
    /// What plugins attached to it, by plugin.
    pub attached: Arc<Map<String, Value>>,
}

/// An audio stream that is about to be a producer.
#[derive(Debug)]
pub(crate) struct Stream {
    pub id: ProducerId,
    pub source: Source,
    pub codec: Codec,
    pub amendments: Amendments,
}

/// The state of one room.
#[derive(Debug)]
pub(crate) struct RoomState {
    id: RoomId,
    /// The fact that it has ended. Rooms of one name come one after the other.
    closing: FactId,
    limits: Limits,
    participants: HashMap<ParticipantId, Participant>,
    producers: HashMap<ProducerId, Producer>,
    /// Users whom plugins hold muted, and which plugins.
    muted_users: HashMap<UserId, BTreeSet<Arc<str>>>,
    speakers: Speakers,
    active: ActiveSet,
    call: Call,
    /// Whether it was told of a stream that it has begun: where both sides are to flow,
    /// once they have.
    met: bool,
    /// Whether anybody has entered.
    opened: bool,
    ended: bool,
}

#[derive(Debug)]
struct Participant {
    user: Arc<User>,
    /// At most one in each direction.
    transports: Vec<Slot>,
    producers: BTreeMap<Source, ProducerId>,
    consumers: HashMap<ConsumerId, Consumer>,
}

#[derive(Debug)]
struct Consumer {
    producer: ProducerId,
    /// Whether its client wants it to flow.
    wanted: bool,
}

/// A transport of a participant, or the place of one that is being made.
#[derive(Debug)]
struct Slot {
    direction: Direction,
    place: Place,
}

#[derive(Debug, PartialEq)]
enum Place {
    /// Reserved before the await, so that a second request does not make a twin.
    Reserved,
    Open {
        id: TransportId,
        connected: bool,
    },
}

impl Slot {
    fn id(&self) -> Option<TransportId> {
        match self.place {
            Place::Open { id, .. } => Some(id),
            Place::Reserved => None,
        }
    }
}

#[derive(Debug)]
struct Producer {
    owner: ParticipantId,
    user: Arc<User>,
    source: Source,
    codec: Codec,
    self_muted: bool,
    /// Plugins that hold this producer muted.
    muted_by: BTreeSet<Arc<str>>,
    priority: Option<u8>,
    attached: Arc<Map<String, Value>>,
    flow: flow::Flow,
    consumers: HashSet<(ParticipantId, ConsumerId)>,
}

impl Participant {
    fn transport(&self, id: TransportId) -> Option<&Slot> {
        self.transports.iter().find(|slot| slot.id() == Some(id))
    }
}

impl RoomState {
    /// An empty room. `closing` will be the id of the fact that it has ended.
    #[must_use]
    pub(crate) fn new(id: RoomId, closing: FactId, limits: Limits) -> Self {
        Self {
            id,
            closing,
            limits,
            participants: HashMap::new(),
            producers: HashMap::new(),
            muted_users: HashMap::new(),
            speakers: Speakers::new(limits.speaker_hold_ms),
            active: ActiveSet::new(
                limits.active_speakers,
                limits.active_hold_ms,
                limits.active_grace_ms,
            ),
            call: Call::new(limits.connected_when),
            met: false,
            opened: false,
            ended: false,
        }
    }

    /// Whether the room has ended: it takes nobody in any more.
    #[must_use]
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// The room as plugins see it.
    #[must_use]
    pub(crate) fn view(&self) -> RoomView {
        RoomView {
            id: self.id.clone(),
            participants: u32::try_from(self.participants.len()).unwrap_or(u32::MAX),
        }
    }

    /// A participant as plugins see it.
    ///
    /// # Errors
    /// If the participant is not in the room.
    pub(crate) fn participant(&self, id: ParticipantId) -> Result<ParticipantView, Reason> {
        let participant = self.participants.get(&id).ok_or(Reason::NotInRoom)?;
        Ok(self.participant_view(id, &participant.user))
    }

    /// A user's participant as plugins see it; of several, any.
    #[must_use]
    pub(crate) fn participant_of(&self, user: UserId) -> Option<ParticipantView> {
        let mut participants = self.participants.iter();
        let (id, found) = participants.find(|(_, one)| one.user.id == user)?;
        Some(self.participant_view(*id, &found.user))
    }

    fn participant_view(&self, id: ParticipantId, user: &Arc<User>) -> ParticipantView {
        ParticipantView {
            id,
            user: Arc::clone(user),
            connections: self.connections(user.id),
        }
    }

    /// How many participants of a user the room has.
    #[must_use]
    pub(crate) fn connections(&self, user: UserId) -> u32 {
        let count = self
            .participants
            .values()
            .filter(|one| one.user.id == user)
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// May another participant enter?
    ///
    /// # Errors
    /// If the room is full or has ended.
    pub(crate) fn check_join(&self) -> Result<(), Reason> {
        if self.ended {
            return Err(Reason::RoomNotFound);
        }
        if self.participants.len() >= self.limits.participants {
            return Err(Reason::RoomFull);
        }
        Ok(())
    }

    /// Takes a participant in. Their own first event is what comes after.
    ///
    /// # Errors
    /// As [`RoomState::check_join`].
    pub(crate) fn commit_join(
        &mut self,
        id: ParticipantId,
        user: &Arc<User>,
        at: UnixMs,
    ) -> Result<(Snapshot, JoinCall, Vec<Output>), Reason> {
        self.check_join()?;
        let snapshot = self.snapshot();
        let newcomer = Participant {
            user: Arc::clone(user),
            transports: Vec::new(),
            producers: BTreeMap::new(),
            consumers: HashMap::new(),
        };
        self.participants.insert(id, newcomer);
        let participant = self.participant_view(id, user);
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.opened, true) {
            let room = self.view();
            out.push(Output::Inform(Fact::RoomOpened { room, at }));
        }
        if participant.connections == 1 {
            out.push(Output::Tell(
                Audience::RoomExcept(id),
                Event::UserJoined(Arc::clone(user)),
            ));
        }
        let call = JoinCall {
            room: self.view(),
            participant,
            at,
        };
        out.push(Output::Inform(Fact::Joined(call.clone())));
        Ok((snapshot, call, out))
    }

    fn snapshot(&self) -> Snapshot {
        let mut users: BTreeMap<UserId, (Arc<User>, bool)> = BTreeMap::new();
        for one in self.participants.values() {
            let entry = users
                .entry(one.user.id)
                .or_insert_with(|| (Arc::clone(&one.user), false));
            entry.1 |= !one.producers.is_empty();
        }
        let producers = self.producers().into_iter().map(|(_, one)| one).collect();
        Snapshot {
            users: users.into_values().collect(),
            producers,
            speakers: self
                .speakers
                .users()
                .into_iter()
                .map(|(user, _)| user)
                .collect(),
        }
    }

    /// Takes a participant out with all they had. Idempotent. The last one out
    /// ends the room.
    pub(crate) fn commit_leave(
        &mut self,
        id: ParticipantId,
        departure: &Departure,
        at: UnixMs,
    ) -> Vec<Output> {
        let mut out = Vec::new();
        if !self.participants.contains_key(&id) {
            return out;
        }
        self.close_producers_of(id, departure.close_reason(), at, &mut out);
        let Some(gone) = self.participants.remove(&id) else {
            return out;
        };
        self.release(id, &gone, &mut out);
        let participant = self.participant_view(id, &gone.user);
        let (user, connections) = (gone.user.id, participant.connections);
        let reason = departure.reason();
        if connections == 0 {
            out.push(Output::Tell(
                Audience::RoomExcept(id),
                Event::UserLeft {
                    user: Arc::clone(&gone.user),
                    reason: Arc::clone(&reason),
                },
            ));
        }
        let room = self.view();
        out.push(Output::Inform(Fact::Left {
            room,
            participant,
            reason: reason.to_string(),
            at,
        }));
        out.push(Output::Unsubscribe(id, departure.clone()));
        if self.participants.is_empty() {
            self.ended = true;
            self.finish(RoomEnd::Empty, at, &mut out);
        } else if connections == 0 {
            self.call.left(user);
            self.look_at_call(at, &mut out);
        }
        out
    }

    /// Ends the room for everyone. Idempotent.
    pub(crate) fn commit_end(&mut self, reason: RoomEnd, at: UnixMs) -> Vec<Output> {
        let mut out = Vec::new();
        if self.ended {
            return out;
        }
        self.ended = true;
        let everyone: Vec<ParticipantId> = self.participants.keys().copied().collect();
        for id in &everyone {
            self.close_producers_of(*id, super::event::CloseReason::RoomClosed, at, &mut out);
        }
        let room = self.id.clone();
        out.push(Output::Tell(
            Audience::Room,
            Event::RoomClosed { room, reason, at },
        ));
        for id in everyone {
            let Some(gone) = self.participants.remove(&id) else {
                continue;
            };
            self.release(id, &gone, &mut out);
            out.push(Output::Inform(Fact::Left {
                room: self.view(),
                participant: self.participant_view(id, &gone.user),
                reason: reason.as_str().to_owned(),
                at,
            }));
        }
        self.finish(reason, at, &mut out);
        out
    }

    fn finish(&self, reason: RoomEnd, at: UnixMs, out: &mut Vec<Output>) {
        if self.opened {
            out.push(Output::Inform(Fact::RoomClosed {
                room: self.view(),
                reason: reason.as_str().to_owned(),
                fact: self.closing,
                at,
            }));
        }
        out.push(Output::End);
    }

    /// Lets go of a departed participant's consumers and transports.
    fn release(&mut self, id: ParticipantId, gone: &Participant, out: &mut Vec<Output>) {
        for (consumer, Consumer { producer, .. }) in &gone.consumers {
            if let Some(producer) = self.producers.get_mut(producer) {
                producer.consumers.remove(&(id, *consumer));
            }
            out.push(Output::DropConsumer(*consumer));
        }
        let transports = gone.transports.iter().filter_map(Slot::id);
        out.extend(transports.map(Output::DropTransport));
    }

    fn member(&mut self, id: ParticipantId) -> Result<&mut Participant, Reason> {
        // A room that ended under its participant is one that is not there.
        self.participants.get_mut(&id).ok_or(if self.ended {
            Reason::RoomNotFound
        } else {
            Reason::NotInRoom
        })
    }

    fn producer_view(id: ProducerId, producer: &Producer) -> ProducerView {
        ProducerView {
            id,
            source: producer.source,
            codec: producer.codec.clone(),
        }
    }
}

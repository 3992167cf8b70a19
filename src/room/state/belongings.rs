//! What a participant has, as a whole, and the room as a call.

use std::sync::Arc;

use super::{Consumer, Direction, Output, RoomState, Slot, SnapshotProducer};
use crate::{
    model::{ConnectedWhen, ConsumerId, ParticipantId, ProducerId, TransportId, UnixMs},
    room::{
        call::CallProgress,
        event::{Audience, CloseReason, Event},
        reason::Reason,
    },
};

/// How much media a participant has let go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Transports.
    pub transports: usize,
    /// Audio streams that they sent.
    pub producers: usize,
    /// Audio streams that they received.
    pub consumers: usize,
}

/// What a participant has, each in the order of its ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Belongings {
    /// Transports.
    pub transports: Vec<TransportId>,
    /// Audio streams that they send.
    pub producers: Vec<ProducerId>,
    /// Audio streams that they receive.
    pub consumers: Vec<ConsumerId>,
}

impl RoomState {
    /// What a participant has; nothing, once it is no longer in the room.
    #[must_use]
    pub(crate) fn belongings(&self, participant: ParticipantId) -> Belongings {
        let Some(member) = self.participants.get(&participant) else {
            return Belongings::default();
        };
        let mut all = Belongings {
            transports: member.transports.iter().filter_map(Slot::id).collect(),
            producers: member.producers.values().copied().collect(),
            consumers: member.consumers.keys().copied().collect(),
        };
        all.transports.sort_unstable();
        all.producers.sort_unstable();
        all.consumers.sort_unstable();
        all
    }

    /// The participant's transport of exactly this direction.
    #[must_use]
    pub(crate) fn transport_of(
        &self,
        participant: ParticipantId,
        direction: Direction,
    ) -> Option<TransportId> {
        let transports = &self.participants.get(&participant)?.transports;
        let found = transports.iter().find(|one| one.direction == direction);
        found.and_then(Slot::id)
    }

    /// All transports of a participant.
    pub(crate) fn transports_of(
        &self,
        participant: ParticipantId,
    ) -> impl Iterator<Item = TransportId> {
        let member = self.participants.get(&participant);
        member
            .into_iter()
            .flat_map(|member| member.transports.iter().filter_map(Slot::id))
    }

    /// Takes a transport out, and what ran over it.
    pub(super) fn close_transport(
        &mut self,
        participant: ParticipantId,
        (transport, direction): (TransportId, Direction),
        reason: CloseReason,
        at: UnixMs,
        out: &mut Vec<Output>,
    ) {
        if direction.carries(Direction::Send) {
            self.close_producers_of(participant, reason, at, out);
        }
        let Some(member) = self.participants.get_mut(&participant) else {
            return;
        };
        member.transports.retain(|one| one.id() != Some(transport));
        if direction.carries(Direction::Receive) {
            for (consumer, Consumer { producer, .. }) in std::mem::take(&mut member.consumers) {
                if let Some(producer) = self.producers.get_mut(&producer) {
                    producer.consumers.remove(&(participant, consumer));
                }
                out.push(Output::DropConsumer(consumer));
            }
        }
        out.push(Output::DropTransport(transport));
    }

    /// Lets go of all media of a participant, who stays; answers how much it was.
    ///
    /// # Errors
    /// If the participant is not in the room.
    pub(crate) fn commit_release(
        &mut self,
        participant: ParticipantId,
        at: UnixMs,
    ) -> Result<(Released, Vec<Output>), Reason> {
        let member = self.member(participant)?;
        let transports: Vec<_> = member
            .transports
            .iter()
            .filter_map(|slot| Some((slot.id()?, slot.direction)))
            .collect();
        let released = Released {
            transports: transports.len(),
            producers: member.producers.len(),
            consumers: member.consumers.len(),
        };
        let mut out = Vec::new();
        let reason = CloseReason::Closed;
        for transport in transports {
            self.close_transport(participant, transport, reason, at, &mut out);
        }
        Ok((released, out))
    }

    /// Settles when the room's call counts as connected, if nobody has yet. By what has been
    /// settled it may be connected already.
    pub(crate) fn decide_connected(&mut self, when: ConnectedWhen, at: UnixMs) -> Vec<Output> {
        self.call.decide(when);
        let mut out = Vec::new();
        self.look_at_call(at, &mut out);
        out
    }

    /// How far the room's call has come.
    #[must_use]
    pub(crate) fn call(&self) -> CallProgress {
        CallProgress {
            connected: self.call.connected(),
            ended: self.ended,
        }
    }

    /// Tells everyone, once, when the call is connected.
    pub(super) fn look_at_call(&mut self, at: UnixMs, out: &mut Vec<Output>) {
        let users = self.participants.values().map(|one| one.user.id);
        if let Some(user) = self.call.connects(users, at) {
            out.push(Output::Tell(Audience::Room, Event::Connected { user, at }));
        }
    }

    /// Everything that can be consumed, as a newcomer is shown it.
    #[must_use]
    pub(crate) fn producers(&self) -> Vec<(ParticipantId, SnapshotProducer)> {
        let mut producers: Vec<_> = self
            .producers
            .iter()
            .map(|(id, producer)| {
                let shown = SnapshotProducer {
                    id: *id,
                    user: producer.user.id,
                    source: producer.source,
                    paused: self.paused(producer),
                    attached: Arc::clone(&producer.attached),
                };
                (producer.owner, shown)
            })
            .collect();
        producers.sort_by_key(|(_, one)| (one.user, one.source, one.id));
        producers
    }

    /// Whether a participant receives a producer.
    #[must_use]
    pub(crate) fn receives(&self, participant: ParticipantId, producer: ProducerId) -> bool {
        let consumers = self.producers.get(&producer).map(|one| &one.consumers);
        consumers.is_some_and(|all| all.iter().any(|(who, _)| *who == participant))
    }
}

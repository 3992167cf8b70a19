//! Transports: at most one of each direction for a participant.

use super::{Consumer, Direction, Output, RoomState, Slot};
use crate::{
    model::{ParticipantId, TransportId, UnixMs},
    room::{
        event::{Audience, CloseReason, Event},
        reason::Reason,
    },
};

impl RoomState {
    /// Reserves the participant's transport of this direction.
    ///
    /// # Errors
    /// If there is one already, or one is being made.
    pub(crate) fn check_new_transport(
        &mut self,
        participant: ParticipantId,
        direction: Direction,
    ) -> Result<(), Reason> {
        let slot = self.member(participant)?.slot(direction);
        if *slot != Slot::Free {
            return Err(Reason::TransportLimit);
        }
        *slot = Slot::Reserved;
        Ok(())
    }

    /// Fills the reservation; with `None`, gives it back.
    ///
    /// # Errors
    /// If the participant has gone in the meantime.
    pub(crate) fn commit_new_transport(
        &mut self,
        participant: ParticipantId,
        direction: Direction,
        transport: Option<TransportId>,
    ) -> Result<(), Reason> {
        let slot = self.member(participant)?.slot(direction);
        *slot = transport.map_or(Slot::Free, |id| Slot::Open {
            id,
            connected: false,
        });
        Ok(())
    }

    /// Is it this participant's transport, of the direction if one is asked for?
    ///
    /// # Errors
    /// If not; another participant's is answered like an unknown one.
    pub(crate) fn check_transport(
        &mut self,
        participant: ParticipantId,
        transport: TransportId,
        direction: Option<Direction>,
    ) -> Result<(), Reason> {
        let member = self.member(participant)?;
        let mut found = Err(Reason::TransportNotFound);
        for one in [Direction::Send, Direction::Receive] {
            if matches!(member.slot(one), Slot::Open { id, .. } if *id == transport) {
                found = match direction {
                    Some(wanted) if wanted != one => Err(Reason::WrongDirection),
                    _ => Ok(()),
                };
            }
        }
        found
    }

    /// Reserves the one connect that a transport takes.
    ///
    /// # Errors
    /// If it is not the participant's, or is connected already.
    pub(crate) fn check_connect(
        &mut self,
        participant: ParticipantId,
        transport: TransportId,
    ) -> Result<(), Reason> {
        let connected = self.connected(participant, transport)?;
        if *connected {
            return Err(Reason::AlreadyConnected);
        }
        *connected = true;
        Ok(())
    }

    /// Gives the reservation back after a connect that failed.
    ///
    /// # Errors
    /// If the transport has gone in the meantime.
    pub(crate) fn cancel_connect(
        &mut self,
        participant: ParticipantId,
        transport: TransportId,
    ) -> Result<(), Reason> {
        *self.connected(participant, transport)? = false;
        Ok(())
    }

    fn connected(
        &mut self,
        participant: ParticipantId,
        transport: TransportId,
    ) -> Result<&mut bool, Reason> {
        let member = self.member(participant)?;
        [&mut member.send, &mut member.receive]
            .into_iter()
            .find_map(|slot| match slot {
                Slot::Open { id, connected } if *id == transport => Some(connected),
                _ => None,
            })
            .ok_or(Reason::TransportNotFound)
    }

    /// A transport has ended by itself: what ran over it ends too, and its
    /// place is free again. Idempotent.
    pub(crate) fn on_transport_ended(&mut self, transport: TransportId, at: UnixMs) -> Vec<Output> {
        let mut out = Vec::new();
        let holds = |slot: &Slot| matches!(slot, Slot::Open { id, .. } if *id == transport);
        let Some((&id, member)) = self
            .participants
            .iter_mut()
            .find(|(_, one)| holds(&one.send) || holds(&one.receive))
        else {
            return out;
        };
        if holds(&member.send) {
            member.send = Slot::Free;
            let reason = CloseReason::TransportClosed;
            self.close_producers_of(id, reason, at, &mut out);
        } else {
            member.receive = Slot::Free;
            for (consumer, Consumer { producer, .. }) in std::mem::take(&mut member.consumers) {
                if let Some(producer) = self.producers.get_mut(&producer) {
                    producer.consumers.remove(&(id, consumer));
                }
                out.push(Output::DropConsumer(consumer));
            }
        }
        out.push(Output::DropTransport(transport));
        out
    }

    /// A listener's transport has gone with its router: its user is told, since no
    /// packet will say so.
    pub(crate) fn on_transport_lost(&mut self, transport: TransportId, at: UnixMs) -> Vec<Output> {
        let user = self.participants.values().find_map(|one| {
            let open = matches!(one.receive, Slot::Open { id, .. } if id == transport);
            open.then_some(one.user.id)
        });
        let mut out = self.on_transport_ended(transport, at);
        if let Some(user) = user {
            let audience = Audience::User(user);
            out.push(Output::Tell(audience, Event::TransportClosed { transport }));
        }
        out
    }
}

//! Transports: at most one of each direction for a participant, or one for both.

use super::{Direction, Output, Place, RoomState, Slot};
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
        let transports = &mut self.member(participant)?.transports;
        if transports
            .iter()
            .any(|one| one.direction.overlaps(direction))
        {
            return Err(Reason::TransportLimit);
        }
        transports.push(Slot {
            direction,
            place: Place::Reserved,
        });
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
        let transports = &mut self.member(participant)?.transports;
        let reserved = |one: &Slot| one.direction == direction && one.place == Place::Reserved;
        match transport {
            Some(id) => {
                let slot = transports.iter_mut().find(|one| reserved(one));
                slot.ok_or(Reason::TransportNotFound)?.place = Place::Open {
                    id,
                    connected: false,
                };
            }
            None => transports.retain(|one| !reserved(one)),
        }
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
        let found = member.transport(transport);
        let has = found.ok_or(Reason::TransportNotFound)?.direction;
        match direction {
            Some(wanted) if !has.carries(wanted) => Err(Reason::WrongDirection),
            _ => Ok(()),
        }
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
        let mut transports = self.member(participant)?.transports.iter_mut();
        transports
            .find_map(|slot| match &mut slot.place {
                Place::Open { id, connected } if *id == transport => Some(connected),
                _ => None,
            })
            .ok_or(Reason::TransportNotFound)
    }

    /// A transport has ended by itself: what ran over it ends too, and its
    /// place is free again. Idempotent.
    pub(crate) fn on_transport_ended(&mut self, transport: TransportId, at: UnixMs) -> Vec<Output> {
        let found = self.participants.iter().find_map(|(id, member)| {
            let slot = member.transport(transport)?;
            Some((*id, slot.direction))
        });
        let mut out = Vec::new();
        if let Some((id, direction)) = found {
            let reason = CloseReason::TransportClosed;
            self.close_transport(id, (transport, direction), reason, at, &mut out);
        }
        out
    }

    /// A listener's transport has gone with its router: its user is told, since no
    /// packet will say so.
    pub(crate) fn on_transport_lost(&mut self, transport: TransportId, at: UnixMs) -> Vec<Output> {
        let user = self.participants.values().find_map(|one| {
            let slot = one.transport(transport)?;
            slot.direction
                .carries(Direction::Receive)
                .then_some(one.user.id)
        });
        let mut out = self.on_transport_ended(transport, at);
        if let Some(user) = user {
            let audience = Audience::User(user);
            out.push(Output::Tell(audience, Event::TransportClosed { transport }));
        }
        out
    }
}

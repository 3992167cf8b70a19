//! Consumers: what each participant receives, and wants to.

use super::{Consumer, Direction, Output, RoomState};
use crate::{
    model::{ConsumerId, ParticipantId, ProducerId, TransportId},
    room::reason::Reason,
};

impl RoomState {
    /// May the participant consume this producer over this transport?
    ///
    /// # Errors
    /// If the transport or the producer is not to be found, or there are too
    /// many consumers.
    pub(crate) fn check_consume(
        &mut self,
        participant: ParticipantId,
        transport: TransportId,
        producer: ProducerId,
    ) -> Result<(), Reason> {
        self.check_transport(participant, transport, Some(Direction::Receive))?;
        if !self.producers.contains_key(&producer) {
            return Err(Reason::ProducerNotFound);
        }
        let limit = self.limits.consumers;
        if self.member(participant)?.consumers.len() >= limit {
            return Err(Reason::CannotConsume(format!("at most {limit} consumers")));
        }
        Ok(())
    }

    /// Registers a consumer; answers whether its producer is paused.
    ///
    /// # Errors
    /// As [`RoomState::check_consume`]: the world may have moved on.
    pub(crate) fn commit_consume(
        &mut self,
        participant: ParticipantId,
        transport: TransportId,
        producer: ProducerId,
        consumer: ConsumerId,
    ) -> Result<bool, Reason> {
        self.check_consume(participant, transport, producer)?;
        let entry = Consumer {
            producer,
            wanted: false,
        };
        self.member(participant)?.consumers.insert(consumer, entry);
        let Some(source) = self.producers.get_mut(&producer) else {
            return Err(Reason::ProducerNotFound);
        };
        source.consumers.insert((participant, consumer));
        Ok(self.wants_paused(producer))
    }

    /// Is it this participant's consumer?
    ///
    /// # Errors
    /// If not; another participant's is answered like an unknown one.
    pub(crate) fn check_consumer(
        &mut self,
        participant: ParticipantId,
        consumer: ConsumerId,
    ) -> Result<(), Reason> {
        let member = self.member(participant)?;
        member
            .consumers
            .get(&consumer)
            .map(|_| ())
            .ok_or(Reason::ConsumerNotFound)
    }

    /// The client wants a consumer to flow, or not. Whether that is deferred: its
    /// producer is not among those who are heard.
    ///
    /// # Errors
    /// As [`RoomState::check_consumer`].
    pub(crate) fn commit_want(
        &mut self,
        participant: ParticipantId,
        consumer: ConsumerId,
        wanted: bool,
    ) -> Result<bool, Reason> {
        let member = self.member(participant)?;
        let entry = member.consumers.get_mut(&consumer);
        let entry = entry.ok_or(Reason::ConsumerNotFound)?;
        entry.wanted = wanted;
        let producer = entry.producer;
        Ok(wanted && !self.active.is_active(producer))
    }

    /// What the media should be: whether the client wants the consumer to flow and
    /// its producer is among those who are heard.
    #[must_use]
    pub(crate) fn wants_flow(&self, participant: ParticipantId, consumer: ConsumerId) -> bool {
        let member = self.participants.get(&participant);
        let entry = member.and_then(|member| member.consumers.get(&consumer));
        entry.is_some_and(|one| one.wanted && self.active.is_active(one.producer))
    }

    /// How many streams a listener may be expected to receive: the others'.
    #[must_use]
    pub(crate) fn expected_consumers(&self, participant: ParticipantId) -> usize {
        let own = self.participants.get(&participant);
        let own = own.map_or(0, |member| member.producers.len());
        let others = self.producers.len().saturating_sub(own);
        others.min(self.limits.consumers)
    }

    /// Takes a consumer out.
    ///
    /// # Errors
    /// As [`RoomState::check_consumer`].
    pub(crate) fn commit_close_consumer(
        &mut self,
        participant: ParticipantId,
        consumer: ConsumerId,
    ) -> Result<Vec<Output>, Reason> {
        let member = self.member(participant)?;
        let gone = member.consumers.remove(&consumer);
        let Consumer { producer, .. } = gone.ok_or(Reason::ConsumerNotFound)?;
        if let Some(producer) = self.producers.get_mut(&producer) {
            producer.consumers.remove(&(participant, consumer));
        }
        Ok(vec![Output::DropConsumer(consumer)])
    }
}

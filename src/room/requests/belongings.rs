//! What a participant has and sees in the room, asked for by faces that keep
//! nothing of it themselves.

use serde_json::Value;

use super::Membership;
use crate::{
    media,
    model::{ConnectedWhen, ProducerId, UnixMs},
    room::{
        Audience, Belongings, CallProgress, Direction, Event, Failure, Reason, Released,
        SnapshotProducer, state::Output,
    },
};

impl Membership {
    /// What the router can receive and send, in mediasoup's JSON shape; null
    /// once the room has ended.
    #[must_use]
    pub fn rtp_capabilities(&self) -> Value {
        self.room
            .media()
            .map_or(Value::Null, |media| media.rtp_capabilities().clone())
    }

    /// The participant's transport of this direction, as
    /// [`Membership::create_transport`] answered it.
    #[must_use]
    pub fn transport(&self, direction: Direction) -> Option<Value> {
        let core = self.room.core.lock();
        let id = core.state.transport_of(self.id, direction)?;
        core.transports.get(&id).map(media::Transport::describe)
    }

    /// What the participant has; nothing, once it is no longer in the room.
    #[must_use]
    pub fn belongings(&self) -> Belongings {
        self.room.core.lock().state.belongings(self.id)
    }

    /// Whether ICE reaches the client over any of its transports.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        let core = self.room.core.lock();
        let mut transports = core.state.transports_of(self.id);
        transports.any(|id| {
            let transport = core.transports.get(&id);
            transport.is_some_and(media::Transport::is_reachable)
        })
    }

    /// All producers of the room, by user.
    ///
    /// # Errors
    /// Refused if the participant is no longer in the room.
    pub fn producers(&self) -> Result<Vec<SnapshotProducer>, Failure> {
        let producers = self.check(|core| {
            core.state.participant(self.id)?;
            Ok(core.state.producers())
        })?;
        Ok(producers.into_iter().map(|(_, one)| one).collect())
    }

    /// The first producer of another participant that this one does not receive
    /// yet; if it receives them all, the first.
    #[must_use]
    pub fn first_of_others(&self) -> Option<ProducerId> {
        let core = self.room.core.lock();
        let producers = core.state.producers();
        let others = || {
            let of_others = producers.iter().filter(|(owner, _)| *owner != self.id);
            of_others.map(|(_, one)| one.id)
        };
        let new = others().find(|id| !core.state.receives(self.id, *id));
        new.or_else(|| others().next())
    }

    /// Lets go of all the participant's media: its transports and what runs over
    /// them. The participant stays.
    ///
    /// # Errors
    /// Refused if the participant is no longer in the room.
    pub fn release_media(&self) -> Result<Released, Failure> {
        let release = |core: &mut super::Core| core.state.commit_release(self.id, UnixMs::now());
        Ok(self.room.try_change(release)?)
    }

    /// Says something to all others, as it is.
    ///
    /// # Errors
    /// Refused if the participant is no longer in the room.
    pub fn broadcast(&self, data: Value) -> Result<(), Failure> {
        let tell = |core: &mut super::Core| -> Result<((), Vec<Output>), Reason> {
            let from = core.state.participant(self.id)?.user.id;
            let event = Event::Broadcast { from, data };
            Ok(((), vec![Output::Tell(Audience::RoomExcept(self.id), event)]))
        };
        Ok(self.room.try_change(tell)?)
    }

    /// Settles when the room's call counts as connected. Whoever says so first
    /// decides; later calls change nothing.
    pub fn decide_connected(&self, when: ConnectedWhen) {
        let decide = |core: &mut super::Core| core.state.decide_connected(when, UnixMs::now());
        self.room.change(decide);
    }

    /// How far the room's call has come; also known once the room has ended.
    #[must_use]
    pub fn call(&self) -> CallProgress {
        self.room.core.lock().state.call()
    }
}

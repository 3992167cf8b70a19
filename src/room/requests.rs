//! What a participant asks for. Each function checks, acts and commits; the
//! faces call nothing else.

mod belongings;
mod produce;

use std::sync::Arc;

use serde_json::Value;

use super::{
    ConsumerHandle, Core, Departure, Direction, Failure, Inbox, PluginNotes, Reason, Room,
    Snapshot, apply::follow,
};
use crate::{
    media::{self, Cluster, DtlsParameters, MediaError, RtpCapabilities, RtpError},
    model::{ConsumerId, Hook, ParticipantId, ProducerId, RoomId, TransportId, UnixMs, UserId},
    plugin::{CommandCall, ConsumeCall},
    telemetry::{self, Counted},
};

/// A successful join.
pub struct Joined {
    /// The place in the room: kept for as long as the participant stays.
    pub membership: Membership,
    /// What the participant is told from now on.
    pub inbox: Inbox,
    /// What the router can receive and send, in mediasoup's JSON shape.
    pub rtp_capabilities: Value,
    /// The room as it was on entering.
    pub snapshot: Snapshot,
    /// What each plugin shows a newcomer, by plugin name.
    pub plugins: PluginNotes,
}

/// A new consumer, paused.
#[derive(Debug)]
pub struct Consumed {
    /// Its id.
    pub id: ConsumerId,
    /// What the receiving endpoint must expect, in mediasoup's JSON shape.
    pub rtp_parameters: Value,
    /// Whether the producer is muted now.
    pub producer_paused: bool,
}

/// What became of a consumer that was to flow or to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does not flow.
    Paused,
    /// It flows.
    Resumed,
    /// It will flow, by itself, as soon as its producer speaks.
    Deferred,
}

/// One participant's place in a room. Dropping it leaves the room, as a
/// connection that ended.
pub struct Membership {
    room: Arc<Room>,
    id: ParticipantId,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.room.leave(self.id, &Departure::Disconnected);
    }
}

impl Membership {
    pub(super) fn new(room: Arc<Room>, id: ParticipantId) -> Self {
        Self { room, id }
    }

    /// The room.
    #[must_use]
    pub fn room(&self) -> &RoomId {
        &self.room.id
    }

    /// Whether the room has ended or removed the participant in the meantime.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.room.core.lock().state.participant(self.id).is_err()
    }

    /// Leaves the room.
    pub fn leave(self) {
        self.room.leave(self.id, &Departure::Left);
    }

    fn check<T>(&self, check: impl FnOnce(&mut Core) -> Result<T, Reason>) -> Result<T, Reason> {
        check(&mut self.room.core.lock())
    }

    /// A request that failed because its object went away in the meantime is
    /// answered like one that came too late.
    fn failed(
        &self,
        error: MediaError,
        check: impl FnOnce(&mut Core) -> Result<(), Reason>,
    ) -> Failure {
        match self.check(check) {
            Err(reason) => reason.into(),
            Ok(()) => error.into(),
        }
    }

    /// Creates the transport of one direction; answers `id`, `iceParameters`,
    /// `iceCandidates` and `dtlsParameters`.
    ///
    /// # Errors
    /// Refused if there is one already.
    pub async fn create_transport(&self, direction: Direction) -> Result<Value, Failure> {
        let (media, expected) = self.check(|core| {
            core.state.check_new_transport(self.id, direction)?;
            Ok((core.media()?, core.state.expected_consumers(self.id)))
        })?;
        let events = self.room.events.clone();
        let mut made = match direction {
            Direction::Send => media.create_send_transport(events).await,
            Direction::Receive => media.create_receive_transport(expected, events).await,
            Direction::Both => media.create_two_way_transport(expected, events).await,
        };
        let committed = self.check(|core| {
            // Its router may have gone before anybody knew of it.
            if made.as_ref().is_ok_and(|made| !made.is_there()) {
                made = Err(MediaError::NoWorker);
            }
            let transport = made.as_ref().ok().map(media::Transport::id);
            core.state
                .commit_new_transport(self.id, direction, transport)?;
            if let Ok(transport) = &made {
                core.transports.insert(transport.id(), transport.clone());
            }
            Ok(())
        });
        // What failed because the room has gone is answered as that.
        committed?;
        Ok(made?.describe())
    }

    /// Connects a transport to the client's DTLS.
    ///
    /// # Errors
    /// Refused if the transport is not the participant's or is connected.
    pub async fn connect_transport(
        &self,
        id: TransportId,
        dtls_parameters: DtlsParameters,
    ) -> Result<(), Failure> {
        let transport = self.check(|core| {
            core.state.check_connect(self.id, id)?;
            core.transport(id)
        })?;
        if let Err(error) = transport.connect(dtls_parameters).await {
            return Err(self.failed(error, |core| {
                core.state.cancel_connect(self.id, id)?;
                there(&transport)
            }));
        }
        Ok(())
    }

    /// New ICE credentials for a transport.
    ///
    /// # Errors
    /// Refused if the transport is not the participant's.
    pub async fn restart_ice(&self, id: TransportId) -> Result<Value, Failure> {
        let transport = self.check(|core| {
            core.state.check_transport(self.id, id, None)?;
            core.transport(id)
        })?;
        transport.restart_ice().await.map_err(|error| {
            self.failed(error, |core| {
                core.state.check_transport(self.id, id, None)?;
                there(&transport)
            })
        })
    }

    /// Starts receiving a producer, paused.
    ///
    /// # Errors
    /// Refused if transport or producer are not to be found or capabilities do
    /// not fit.
    pub async fn consume(
        &self,
        transport: TransportId,
        producer: ProducerId,
        rtp_capabilities: RtpCapabilities,
    ) -> Result<Consumed, Failure> {
        self.may_consume(transport, producer).await?;
        // Only now: a handle that is held through a decision would keep a stream
        // alive that its owner has ended.
        let (media, handle, source, priority) = self.check(|core| {
            core.state.check_consume(self.id, transport, producer)?;
            let source = core.producers.get(&producer);
            let source = source.ok_or(Reason::ProducerNotFound)?.producer.clone();
            let priority = core.state.priority(producer);
            Ok((core.media()?, core.transport(transport)?, source, priority))
        })?;
        if !media.can_consume(&source, &rtp_capabilities) {
            let why = "your rtpCapabilities have no codec of this producer";
            return Err(Reason::CannotConsume(why.to_owned()).into());
        }
        let consumer = match handle.consume(&source, rtp_capabilities, priority).await {
            Ok(consumer) => consumer,
            Err(error) => {
                self.check(|core| {
                    core.state.check_consume(self.id, transport, producer)?;
                    there(&handle)
                })?;
                return Err(match error {
                    RtpError::Unsupported(why) => Reason::CannotConsume(why).into(),
                    RtpError::Media(error) => error.into(),
                });
            }
        };
        let id = consumer.id();
        let rtp_parameters = consumer.rtp_parameters();
        let producer_paused = self.check(|core| {
            let paused = core
                .state
                .commit_consume(self.id, transport, producer, id)?;
            let _counted = Counted::one(telemetry::CONSUMERS);
            let handle = ConsumerHandle {
                consumer,
                _counted,
                following: false,
                again: false,
            };
            core.consumers.insert(id, handle);
            Ok(paused)
        })?;
        Ok(Consumed {
            id,
            rtp_parameters,
            producer_paused,
        })
    }

    /// Asks the plugins, where any decides on it.
    async fn may_consume(
        &self,
        transport: TransportId,
        producer: ProducerId,
    ) -> Result<(), Failure> {
        let call = self.check(|core| {
            core.state.check_consume(self.id, transport, producer)?;
            if !self.room.plugins.has_hook(Hook::BeforeConsume) {
                return Ok(None);
            }
            let (producer, owner) = core.state.producer(producer)?;
            Ok(Some(ConsumeCall {
                room: core.state.view(),
                participant: core.state.participant(self.id)?,
                producer,
                owner,
                at: UnixMs::now(),
            }))
        })?;
        if let Some(call) = call {
            self.room.plugins.before_consume(call).await?;
        }
        Ok(())
    }

    /// Lets a consumer flow, or stops it.
    ///
    /// # Errors
    /// Refused if the consumer is not the participant's.
    pub async fn pause_consumer(&self, id: ConsumerId, paused: bool) -> Result<Flow, Failure> {
        let (consumer, deferred) = self.check(|core| {
            let deferred = core.state.commit_want(self.id, id, !paused)?;
            let handle = core.consumers.get(&id).ok_or(Reason::ConsumerNotFound)?;
            Ok((handle.consumer.clone(), deferred))
        })?;
        follow(&Arc::downgrade(&self.room), &consumer, self.id)
            .await
            .map_err(|error| {
                self.failed(error, |core| {
                    core.state.check_consumer(self.id, id)?;
                    let there = consumer.is_there().then_some(());
                    there.ok_or(Reason::ConsumerNotFound)
                })
            })?;
        Ok(match (paused, deferred) {
            (true, _) => Flow::Paused,
            (false, true) => Flow::Deferred,
            (false, false) => Flow::Resumed,
        })
    }

    /// Ends a consumer.
    ///
    /// # Errors
    /// Refused if the consumer is not the participant's.
    pub fn close_consumer(&self, id: ConsumerId) -> Result<(), Failure> {
        let close = |core: &mut Core| Ok(((), core.state.commit_close_consumer(self.id, id)?));
        Ok(self.room.try_change(close)?)
    }

    /// The user mutes or unmutes their own producer.
    ///
    /// # Errors
    /// Refused if it is not theirs; on unmuting, if a plugin holds it muted.
    pub fn self_mute(&self, id: ProducerId, muted: bool) -> Result<(), Failure> {
        let change = |core: &mut Core| {
            Ok((
                (),
                core.state
                    .commit_self_mute(self.id, id, muted, UnixMs::now())?,
            ))
        };
        Ok(self.room.try_change(change)?)
    }

    /// Ends a producer.
    ///
    /// # Errors
    /// Refused if it is not the participant's.
    pub fn close_producer(&self, id: ProducerId) -> Result<(), Failure> {
        let close = |core: &mut Core| {
            Ok((
                (),
                core.state
                    .commit_close_producer(self.id, id, UnixMs::now())?,
            ))
        };
        Ok(self.room.try_change(close)?)
    }

    /// Hands a client event to the plugin that registered it. `None`: no plugin did.
    ///
    /// # Errors
    /// The plugin's refusal.
    pub async fn command(
        &self,
        name: &str,
        payload: &Value,
    ) -> Option<Result<Option<Value>, Failure>> {
        let named = payload.get("userId").and_then(Value::as_u64).map(UserId);
        let call = self.check(|core| {
            Ok(CommandCall {
                room: core.state.view(),
                participant: core.state.participant(self.id)?,
                command: name.to_owned(),
                payload: payload.to_string(),
                target: named.and_then(|user| core.state.participant_of(user)),
                at: UnixMs::now(),
            })
        });
        let call = match call {
            Ok(call) => call,
            Err(reason) => return Some(Err(reason.into())),
        };
        let answer = self.room.plugins.command(call).await?;
        Some(answer.map_err(Failure::from))
    }
}

/// A worker may have died of which the room has not heard yet.
fn there(transport: &media::Transport) -> Result<(), Reason> {
    transport
        .is_there()
        .then_some(())
        .ok_or(Reason::TransportNotFound)
}

impl Core {
    fn media(&self) -> Result<Arc<Cluster>, Reason> {
        self.media.clone().ok_or(Reason::RoomNotFound)
    }

    fn transport(&self, id: TransportId) -> Result<media::Transport, Reason> {
        self.transports
            .get(&id)
            .cloned()
            .ok_or(Reason::TransportNotFound)
    }
}

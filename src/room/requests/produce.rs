//! Sending audio.

use tracing::debug;

use super::{
    super::{Core, Failure, Membership, ProducerHandle, Reason, state::Stream},
    there,
};
use crate::{
    media::{self, Cluster, RtpError, RtpParameters},
    model::{ParticipantId, ProducerId, Source, TransportId, UnixMs},
    plugin::{Amendments, ProduceCall},
    telemetry::{self, Counted},
};

impl Membership {
    /// Starts sending audio. The room knows of it before this returns.
    ///
    /// # Errors
    /// Refused by a plugin, or if transport or parameters do not fit, or while the store is
    /// not durable, unless that is allowed.
    pub async fn produce(
        &self,
        transport: TransportId,
        source: Source,
        rtp_parameters: RtpParameters,
    ) -> Result<ProducerId, Failure> {
        if self.room.must_not_lose && self.room.plugins.loses_facts() {
            return Err(Reason::NotDurable.into());
        }
        let codec = media::codec(&rtp_parameters);
        let (handle, call) = self.check(|core| {
            core.state.check_produce(self.id, transport)?;
            let call = ProduceCall {
                room: core.state.view(),
                participant: core.state.participant(self.id)?,
                source,
                codec,
                at: UnixMs::now(),
            };
            Ok((core.transport(transport)?, call))
        })?;
        let user = call.participant.user.id;
        let amendments = self.room.plugins.before_produce(call).await?;
        let (media, displaced, muted) = self.check(|core| {
            core.state.check_produce(self.id, transport)?;
            let media = core.media()?;
            // Before anything is given up for it.
            if !media.supports(&rtp_parameters) {
                let why = "the router does not take this codec";
                return Err(Reason::CannotProduce(why.to_owned()));
            }
            Ok((
                media,
                core.take_colliding(self.id, source, &rtp_parameters),
                core.state.starts_muted(user) || !amendments.muted_by.is_empty(),
            ))
        })?;
        // Closed here, outside the lock, so that its SSRC becomes free.
        let displaced = match displaced {
            Some((id, handle)) => Some(self.give_up(id, handle).await),
            None => None,
        };
        let made = handle.produce(rtp_parameters, muted).await;
        let producer = match everywhere(&media, made).await {
            Ok(producer) => producer,
            Err(error) => {
                if let Some(displaced) = displaced {
                    self.room
                        .change(|core| core.state.on_displaced(displaced, UnixMs::now()));
                }
                return Err(match error {
                    RtpError::Unsupported(why) => Reason::CannotProduce(why).into(),
                    RtpError::Media(error) => self.failed(error, |core| {
                        core.state.check_produce(self.id, transport)?;
                        there(&handle)
                    }),
                });
            }
        };
        self.commit_produce(transport, source, &producer, muted, amendments)?;
        let id = producer.id();
        // Nothing that the client waits for: watched and measured beside the answer.
        self.room.watch_first_rtp(id);
        tokio::spawn(async move {
            if let Err(error) = producer.observe().await {
                debug!(producer = %producer.id(), %error, "producer not measured: it is gone");
            }
        });
        Ok(id)
    }

    /// Closes a producer's media, after a last look at it for what is told of its end.
    async fn give_up(&self, id: ProducerId, handle: ProducerHandle) -> ProducerId {
        if let Err(error) = handle.producer.look().await {
            debug!(producer = %id, %error, "not counted: as it was known last");
        }
        // Unless its end was told meanwhile.
        if let Some(received) = self.room.core.lock().displaced.get_mut(&id) {
            *received = handle.producer.received();
        }
        id
    }

    fn commit_produce(
        &self,
        transport: TransportId,
        source: Source,
        producer: &media::Producer,
        paused: bool,
        amendments: Amendments,
    ) -> Result<(), Failure> {
        let id = producer.id();
        self.room.try_change(|core| {
            let stream = Stream {
                id,
                source,
                codec: producer.codec(),
                amendments,
            };
            let out = core
                .state
                .commit_produce(self.id, transport, stream, UnixMs::now())?;
            let handle = ProducerHandle {
                producer: producer.clone(),
                _counted: Counted::one(telemetry::PRODUCERS),
                paused: Some(paused),
                applying: false,
                probe: None,
                probing: false,
            };
            core.producers.insert(id, handle);
            Ok(((), out))
        })?;
        Ok(())
    }
}

/// Makes a new producer available on all of the room's routers, or on none.
async fn everywhere(
    media: &Cluster,
    made: Result<media::Producer, RtpError>,
) -> Result<media::Producer, RtpError> {
    let producer = made?;
    media.publish(&producer).await?;
    Ok(producer)
}

impl Core {
    /// Gives up the producer that a new stream of the same source displaces, if
    /// the two cannot run side by side.
    fn take_colliding(
        &mut self,
        participant: ParticipantId,
        source: Source,
        parameters: &RtpParameters,
    ) -> Option<(ProducerId, ProducerHandle)> {
        let id = self.state.producer_of(participant, source)?;
        if !self.producers.get(&id)?.producer.collides_with(parameters) {
            return None;
        }
        let handle = self.producers.remove(&id)?;
        self.displaced.insert(id, handle.producer.received());
        Some((id, handle))
    }
}

//! What a session does with a request, whatever face it came over.

use std::{sync::Arc, time::Instant};

use serde_json::Value;
use tracing::{debug, error};

use super::{
    SharedFaces,
    auth::Identity,
    denial::Denial,
    request::{ConsumerChange, ProducerChange, Request},
    resume::{Held, Tape, Ticket},
};
use crate::{
    media::lenient,
    model::{ConnectedWhen, ProducerId, RoomId, User},
    room::{
        Belongings, Consumed, Direction, Failure, Flow, Inbox, Joined, Membership, PluginNotes,
        Reason, Released, Snapshot, SnapshotProducer,
    },
    telemetry,
};

/// One client's presence: who it is and which room it is in.
pub(super) struct Session {
    faces: SharedFaces,
    identity: Identity,
    user: Arc<User>,
    membership: Option<Membership>,
}

/// What a newcomer gets.
pub(super) struct Welcome {
    /// What it is told from now on.
    pub(super) inbox: Inbox,
    pub(super) rtp_capabilities: Value,
    pub(super) snapshot: Snapshot,
    pub(super) plugins: PluginNotes,
}

/// What a client finds who comes back.
pub(super) struct Resumed {
    pub(super) room: RoomId,
    pub(super) belongings: Belongings,
    /// What it is told from now on.
    pub(super) tape: Tape,
    /// How many events of that it has missed.
    pub(super) missed: u64,
    /// For the next time.
    pub(super) ticket: Option<Ticket>,
}

/// The answer to a request that succeeded.
#[derive(Debug)]
pub(super) enum Reply {
    /// Nothing but that it is done.
    Done,
    /// A transport's `id`, `iceParameters`, `iceCandidates`, `dtlsParameters`.
    Transport(Value),
    /// New `iceParameters`.
    Ice(Value),
    Produced(ProducerId),
    Consumed(ProducerId, Consumed),
    /// What became of a consumer that was to flow or to stop.
    Flow(Flow),
    Producers(Vec<SnapshotProducer>),
    Released(Released),
    /// What a plugin answers its own event.
    Plugin(Option<Value>),
}

impl Session {
    pub(super) fn new(faces: &SharedFaces, identity: Identity) -> Self {
        Self {
            faces: Arc::clone(faces),
            user: Arc::new(identity.user.clone()),
            identity,
            membership: None,
        }
    }

    pub(super) fn user(&self) -> &Arc<User> {
        &self.user
    }

    pub(super) fn faces(&self) -> &SharedFaces {
        &self.faces
    }

    /// The place that the session has, if it has one.
    pub(super) fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Enters a room; the place in another one is given up.
    pub(super) async fn join(&mut self, room: &RoomId) -> Result<Welcome, Failure> {
        if !self.identity.may_enter(room) {
            return Err(Reason::RoomNotAllowed.into());
        }
        let before = &mut self.membership;
        let joined = self.faces.rooms.join(room, &self.user, before).await?;
        let Joined {
            membership,
            inbox,
            rtp_capabilities,
            snapshot,
            plugins,
        } = joined;
        self.membership = Some(membership);
        Ok(Welcome {
            inbox,
            rtp_capabilities,
            snapshot,
            plugins,
        })
    }

    /// For a client that is to be able to come back to the place it has now.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        let place = self.membership.as_ref()?;
        self.faces.resumes.issue(self.user.id, place.room(), None)
    }

    /// Takes over the place of a connection that was lost; the place in another
    /// room is given up.
    pub(super) async fn resume(&mut self, token: &str, last_seq: u64) -> Result<Resumed, Denial> {
        let resumes = &self.faces.resumes;
        let claimed = resumes.claim(&self.identity, token, last_seq).await;
        let outcome = match &claimed {
            Ok(_) => "ok",
            Err(Denial::ResumeExpired) => "expired",
            Err(Denial::ResumeGap(_)) => "gap",
            Err(_) => "refused",
        };
        metrics::counter!(telemetry::RESUMES, "outcome" => outcome).increment(1);
        let Held {
            ticket,
            membership,
            mut tape,
        } = claimed?;
        // Before the next one is made, which takes its token over.
        drop(ticket);
        let room = membership.room().clone();
        let ticket = resumes.issue(self.user.id, &room, Some(token));
        let missed = tape.rewind(last_seq);
        let belongings = membership.belongings();
        if let Some(before) = self.membership.replace(membership) {
            before.leave();
        }
        Ok(Resumed {
            room,
            belongings,
            tape,
            missed,
            ticket,
        })
    }

    /// Takes the place away, for another connection.
    pub(super) fn take_place(&mut self) -> Option<Membership> {
        self.membership.take()
    }

    /// Gives the place back that was taken away.
    pub(super) fn put_back(&mut self, place: Membership) {
        self.membership = Some(place);
    }

    /// Leaves the room, if it is the session's.
    pub(super) fn leave(&mut self, room: &RoomId) -> Result<(), Failure> {
        self.place(room)?;
        let left = self.membership.take().filter(|place| !place.is_over());
        left.ok_or(Reason::NotInRoom)?.leave();
        Ok(())
    }

    /// The session's place, if the room that the request names is its room.
    fn place(&self, room: &RoomId) -> Result<&Membership, Reason> {
        match &self.membership {
            Some(membership) if membership.room() == room => Ok(membership),
            _ => Err(Reason::NotInRoom),
        }
    }

    /// Does what a client asks for in a room.
    pub(super) async fn serve(&self, room: &RoomId, request: Request) -> Result<Reply, Denial> {
        let place = self.place(room);
        let reply = match request {
            Request::Present => place.map(|_| Reply::Done)?,
            Request::CreateTransport(direction) => {
                Reply::Transport(place?.create_transport(direction).await?)
            }
            Request::OpenTransport(direction, connected_when) => {
                open_transport(place?, direction, connected_when).await?
            }
            Request::ConnectTransport(id, dtls) => {
                let (place, id) = (place?, id.ok_or(Reason::TransportNotFound)?);
                place.connect_transport(id, *dtls).await?;
                Reply::Done
            }
            Request::RestartIce(id) => {
                let (place, id) = (place?, id.ok_or(Reason::TransportNotFound)?);
                Reply::Ice(place.restart_ice(id).await?)
            }
            Request::Produce(transport, source, rtp) => {
                let (place, id) = (place?, transport.ok_or(Reason::TransportNotFound)?);
                Reply::Produced(place.produce(id, source, *rtp).await?)
            }
            Request::Consume(transport, producer, rtp) => {
                let (place, id) = (place?, transport.ok_or(Reason::TransportNotFound)?);
                let producer = producer.ok_or(Reason::ProducerNotFound)?;
                let rtp = match rtp {
                    Some(rtp) => *rtp,
                    None => lenient::rtp_capabilities(&place.rtp_capabilities())
                        .map_err(|_| Reason::RoomNotFound)?,
                };
                Reply::Consumed(producer, place.consume(id, producer, rtp).await?)
            }
            Request::Consumer(id, change) => {
                let place = place.map_err(|_| Reason::RoomNotFound)?;
                let id = id.ok_or(Reason::ConsumerNotFound)?;
                match change {
                    ConsumerChange::Resume => Reply::Flow(place.pause_consumer(id, false).await?),
                    ConsumerChange::Pause => Reply::Flow(place.pause_consumer(id, true).await?),
                    ConsumerChange::Close => {
                        place.close_consumer(id)?;
                        Reply::Done
                    }
                }
            }
            Request::Producer(id, change) => {
                let place = place.map_err(|_| Reason::ProducerNotFound)?;
                let id = id.ok_or(Reason::ProducerNotFound)?;
                match change {
                    ProducerChange::Mute => place.self_mute(id, true)?,
                    ProducerChange::Unmute => place.self_mute(id, false)?,
                    ProducerChange::Close => place.close_producer(id)?,
                }
                Reply::Done
            }
            Request::Producers => Reply::Producers(place?.producers()?),
            Request::Release => Reply::Released(place?.release_media()?),
            Request::Broadcast(data) => {
                place?.broadcast(data)?;
                Reply::Done
            }
            Request::Command(name, payload) => self.command(place, &name, &payload).await?,
        };
        Ok(reply)
    }

    async fn command(
        &self,
        place: Result<&Membership, Reason>,
        name: &str,
        payload: &Value,
    ) -> Result<Reply, Denial> {
        match place {
            Ok(place) => {
                let answer = place.command(name, payload).await;
                Ok(Reply::Plugin(answer.ok_or(Denial::UnknownEvent)??))
            }
            Err(reason) if self.faces.rooms.has_command(name) => Err(reason.into()),
            Err(_) => Err(Denial::UnknownEvent),
        }
    }

    /// Logs and measures an answer. `label` has few values, known beforehand.
    pub(super) fn record<T>(
        &self,
        label: &'static str,
        started: Instant,
        result: &Result<T, Denial>,
    ) {
        let user = self.user.id;
        let outcome = match result {
            Ok(_) => "ok",
            Err(Denial::Failed(Failure::Media(error))) => {
                error!(%user, event = label, %error, "request failed");
                "failed"
            }
            Err(why) => {
                debug!(%user, event = label, %why, "refused");
                "refused"
            }
        };
        metrics::histogram!(telemetry::REQUEST_SECONDS, "event" => label, "outcome" => outcome)
            .record(started.elapsed().as_secs_f64());
    }
}

/// The transport of this direction, made if it is not there yet.
async fn open_transport(
    place: &Membership,
    direction: Direction,
    connected_when: Option<ConnectedWhen>,
) -> Result<Reply, Failure> {
    if let Some(when) = connected_when {
        place.decide_connected(when);
    }
    let transport = match place.transport(direction) {
        Some(there) => there,
        None => place.create_transport(direction).await?,
    };
    Ok(Reply::Transport(transport))
}

//! How far streams have come: when they have begun, and when they stop and go on. A
//! stream *flows* once its beginning was told, unless it is paused or silent; what plugins
//! are told of that comes in turns.

use super::{Output, Producer, RoomState};
use crate::{
    model::{FactId, FirstPacket, MediaCount, PauseCause, ProducerId, UnixMs, UserId},
    plugin::{Fact, FlowChange, ParticipantView, ProducerView},
    room::event::{Audience, Event},
};

/// What is known of a producer's packets, and what was told of it.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// When it began by the room's rule, and with which packet.
    begun: Option<(UnixMs, FirstPacket)>,
    /// When that was told.
    told: Option<UnixMs>,
    /// Since when it flows, if it does.
    since: Option<UnixMs>,
    /// It has sent nothing for so long that it does not flow.
    silent: bool,
    /// How often it has stopped, and why it did last.
    pauses: u32,
    stopped: Option<PauseCause>,
    /// It seemed to begin while it was paused: that is to be looked at anew.
    unwatched: bool,
}

impl Flow {
    /// When it was told that the stream has begun.
    pub(super) fn told(&self) -> Option<UnixMs> {
        self.told
    }
}

impl RoomState {
    /// A stream has begun, by the packets that the room's rule asks for. Told once; where
    /// both sides are to flow, when they do.
    pub(crate) fn on_first_rtp(
        &mut self,
        id: ProducerId,
        packet: FirstPacket,
        at: UnixMs,
    ) -> Vec<Output> {
        let mut out = Vec::new();
        let paused = self.wants_paused(id);
        let Some(producer) = self.producers.get_mut(&id) else {
            return out;
        };
        if producer.flow.begun.is_some() {
            return out;
        }
        if paused {
            // Seen before the media knew of the mute: no start.
            producer.flow.unwatched = true;
            return out;
        }
        producer.flow.begun = Some((at, packet));
        self.met |= !self.limits.both_sides || self.two_have_begun();
        if self.met {
            self.tell_begun(at, &mut out);
        }
        out
    }

    /// Whether streams of two users have begun.
    fn two_have_begun(&self) -> bool {
        let begun = |one: &&Producer| one.flow.begun.is_some();
        let mut users = self.producers.values().filter(begun).map(|one| one.user.id);
        users
            .next()
            .is_some_and(|first| users.any(|user| user != first))
    }

    /// Tells of all streams that have begun and of which it is not known yet.
    fn tell_begun(&mut self, at: UnixMs, out: &mut Vec<Output>) {
        let mut untold: Vec<(UnixMs, ProducerId, FirstPacket)> = self
            .producers
            .iter()
            .filter(|(_, one)| one.flow.told.is_none())
            .filter_map(|(id, one)| one.flow.begun.map(|(at, packet)| (at, *id, packet)))
            .collect();
        untold.sort_unstable_by_key(|(at, id, _)| (*at, *id));
        for (_, id, packet) in &untold {
            let Some(producer) = self.producers.get_mut(id) else {
                continue;
            };
            producer.flow.told = Some(at);
            producer.flow.since = Some(at);
            let Some((participant, view)) = self.views(*id) else {
                continue;
            };
            out.push(Output::Inform(Fact::FirstRtp {
                room: self.view(),
                participant,
                producer: view,
                packet: *packet,
                fact: FactId::first_rtp(*id),
                at,
            }));
        }
        // Who was muted while the other side was waited for has begun, and stopped.
        for (_, id, _) in untold {
            let muted = self.producers.get(&id).map(|one| one.self_muted);
            let cause = match muted {
                Some(true) => PauseCause::User,
                _ => PauseCause::Plugin,
            };
            self.look_at_flow(id, cause, at, out);
        }
    }

    /// The fact that a user's stream began at that time is noted: clients are told of it, unless
    /// it has ended. So nobody who saw a call begin can be forgotten by whoever bills it.
    pub(crate) fn on_beginning_noted(
        &mut self,
        producer: ProducerId,
        user: UserId,
        at: UnixMs,
    ) -> Vec<Output> {
        let mut out = Vec::new();
        if self.producers.contains_key(&producer) {
            let begun = Event::FirstRtp { producer, user, at };
            out.push(Output::Tell(Audience::Room, begun));
        }
        if self.connections(user) > 0 {
            self.call.heard(user);
            self.look_at_call(at, &mut out);
        }
        out
    }

    /// Packets of a stream come again, after a while without one.
    pub(crate) fn on_rtp_again(&mut self, id: ProducerId, at: UnixMs) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(producer) = self.producers.get_mut(&id)
            && std::mem::take(&mut producer.flow.silent)
        {
            self.look_at_flow(id, PauseCause::Silence, at, &mut out);
        }
        out
    }

    /// A stream's packets were counted: whether there were more than before, and when the
    /// last one came.
    pub(crate) fn on_look(
        &mut self,
        id: ProducerId,
        last: Option<UnixMs>,
        grew: bool,
        at: UnixMs,
    ) -> Vec<Output> {
        if grew {
            return self.on_rtp_again(id, at);
        }
        let mut out = Vec::new();
        let silence_ms = self.limits.silence_ms;
        let Some(producer) = self.producers.get_mut(&id) else {
            return out;
        };
        // Before it flowed, nothing was expected of it.
        let quiet = producer
            .flow
            .since
            .map(|since| last.map_or(since, |last| last.max(since)));
        if let Some(since) = quiet
            && at.0.saturating_sub(since.0) >= silence_ms
        {
            producer.flow.silent = true;
            self.look_at_flow(id, PauseCause::Silence, since, &mut out);
        }
        out
    }

    /// Tells the plugins if a stream flows now and did not, or the reverse; `cause`: of
    /// stopping. Its end is told with the cause that was told before.
    pub(super) fn look_at_flow(
        &mut self,
        id: ProducerId,
        cause: PauseCause,
        at: UnixMs,
        out: &mut Vec<Output>,
    ) {
        let paused = self.wants_paused(id);
        let Some(producer) = self.producers.get_mut(&id) else {
            return;
        };
        let flow = &mut producer.flow;
        if !paused && std::mem::take(&mut flow.unwatched) {
            out.push(Output::WatchFirstRtp(id));
        }
        let flows = !paused && !flow.silent;
        if flow.told.is_none() || flows == flow.since.is_some() {
            return;
        }
        flow.since = flows.then_some(at);
        flow.pauses = flow.pauses.saturating_add(u32::from(!flows));
        let cause = if flows {
            flow.stopped.take().unwrap_or(cause)
        } else {
            *flow.stopped.insert(cause)
        };
        let nth = flow.pauses;
        let Some((participant, producer)) = self.views(id) else {
            return;
        };
        let change = FlowChange {
            room: self.view(),
            participant,
            producer,
            cause,
            nth,
            media: MediaCount::default(),
            at,
        };
        let told = if flows { Fact::resumed } else { Fact::paused };
        out.push(Output::Inform(told(change)));
    }

    /// A producer and whose it is, as plugins see them.
    fn views(&self, id: ProducerId) -> Option<(ParticipantView, ProducerView)> {
        let producer = self.producers.get(&id)?;
        let participant = self.participant_view(producer.owner, &producer.user);
        Some((participant, Self::producer_view(id, producer)))
    }

    /// Whether a stream has sent nothing for so long that it does not flow for that.
    pub(crate) fn is_silent(&self, id: ProducerId) -> bool {
        let silent = self.producers.get(&id).is_some_and(|one| one.flow.silent);
        silent && !self.wants_paused(id)
    }

    /// The streams of which it was told that they have begun.
    pub(crate) fn begun(&self) -> impl Iterator<Item = ProducerId> {
        let begun = self.producers.iter();
        begun
            .filter(|(_, one)| one.flow.told.is_some())
            .map(|(id, _)| *id)
    }
}

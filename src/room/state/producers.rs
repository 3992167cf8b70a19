//! Producers: who sends, who holds whom muted, who speaks.

use std::{collections::HashSet, sync::Arc};

use super::{Direction, Output, Producer, RoomState, Stream, flow::Flow};
use crate::{
    media::Level,
    model::{
        FactId, MediaCount, ParticipantId, PauseCause, ProducerId, Source, TransportId, UnixMs,
        UserId,
    },
    plugin::{Fact, ProducerView, SpeakerView},
    room::{
        active::Turn,
        event::{Audience, CloseReason, Event},
        reason::Reason,
        speakers::{Change, Heard},
    },
};

impl RoomState {
    /// May the participant send over this transport?
    ///
    /// # Errors
    /// If the transport is not to be found or is the receiving one.
    pub(crate) fn check_produce(
        &mut self,
        participant: ParticipantId,
        transport: TransportId,
    ) -> Result<(), Reason> {
        self.check_transport(participant, transport, Some(Direction::Send))
    }

    /// The participant's running producer of this source.
    #[must_use]
    pub(crate) fn producer_of(
        &self,
        participant: ParticipantId,
        source: Source,
    ) -> Option<ProducerId> {
        self.participants
            .get(&participant)?
            .producers
            .get(&source)
            .copied()
    }

    /// Whether a new producer of this user starts muted.
    #[must_use]
    pub(crate) fn starts_muted(&self, user: UserId) -> bool {
        self.muted_users.contains_key(&user)
    }

    /// Registers a producer that can be consumed from now on: announces it, then
    /// ends the one it displaces.
    ///
    /// # Errors
    /// If the participant or the transport has gone in the meantime.
    pub(crate) fn commit_produce(
        &mut self,
        participant: ParticipantId,
        transport: TransportId,
        stream: Stream,
        at: UnixMs,
    ) -> Result<Vec<Output>, Reason> {
        self.check_produce(participant, transport)?;
        let Stream {
            id,
            source,
            codec,
            amendments,
        } = stream;
        let member = self.member(participant)?;
        let user = Arc::clone(&member.user);
        let displaced = member.producers.insert(source, id);
        let producer = Producer {
            owner: participant,
            user: Arc::clone(&user),
            source,
            codec,
            self_muted: false,
            muted_by: amendments.muted_by.into_iter().collect(),
            priority: amendments.priority,
            attached: Arc::new(amendments.attached),
            flow: Flow::default(),
            consumers: HashSet::new(),
        };
        let mut out = vec![Output::Tell(
            Audience::RoomExcept(participant),
            Event::NewProducer {
                producer: id,
                user: user.id,
                source,
                attached: Arc::clone(&producer.attached),
            },
        )];
        // A mute may have come or gone while the producer was being made.
        out.push(Output::ApplyPause(id));
        if self.paused(&producer) {
            out.push(Output::Tell(
                Audience::Room,
                Event::ProducerPaused {
                    producer: id,
                    user: user.id,
                    paused: true,
                    by_moderator: true,
                },
            ));
        }
        out.push(Output::Inform(Fact::NewProducer {
            room: self.view(),
            participant: self.participant_view(participant, &user),
            producer: Self::producer_view(id, &producer),
            at,
        }));
        let muted = self.paused(&producer);
        self.producers.insert(id, producer);
        let turns = self.active.add(id, user.id, muted, at);
        self.take_turns(&turns, &mut out);
        if let Some(displaced) = displaced {
            self.close(displaced, CloseReason::Replaced, at, &mut out);
        }
        Ok(out)
    }

    /// A producer as plugins see it, and whose it is.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn producer(&self, id: ProducerId) -> Result<(ProducerView, UserId), Reason> {
        let producer = self.producers.get(&id).ok_or(Reason::ProducerNotFound)?;
        Ok((Self::producer_view(id, producer), producer.user.id))
    }

    /// The priority that plugins gave to a producer's consumers.
    #[must_use]
    pub(crate) fn priority(&self, id: ProducerId) -> Option<u8> {
        self.producers.get(&id)?.priority
    }

    /// Is it this participant's producer?
    ///
    /// # Errors
    /// If not; another participant's is answered like an unknown one.
    pub(crate) fn check_producer(
        &self,
        participant: ParticipantId,
        producer: ProducerId,
    ) -> Result<(), Reason> {
        match self.producers.get(&producer) {
            Some(one) if one.owner == participant => Ok(()),
            _ => Err(Reason::ProducerNotFound),
        }
    }

    /// The user mutes or unmutes themselves.
    ///
    /// # Errors
    /// If it is not their producer; on unmuting, if a plugin holds it muted.
    pub(crate) fn commit_self_mute(
        &mut self,
        participant: ParticipantId,
        id: ProducerId,
        muted: bool,
        at: UnixMs,
    ) -> Result<Vec<Output>, Reason> {
        self.check_producer(participant, id)?;
        let holder = self.muters(id).next().cloned();
        if let (false, Some(plugin)) = (muted, holder) {
            return Err(Reason::Muted(plugin));
        }
        let mut out = Vec::new();
        self.change_mute(id, Some(participant), at, &mut out, |producer| {
            producer.self_muted = muted;
        });
        Ok(out)
    }

    /// The client ends its producer.
    ///
    /// # Errors
    /// If it is not this participant's.
    pub(crate) fn commit_close_producer(
        &mut self,
        participant: ParticipantId,
        id: ProducerId,
        at: UnixMs,
    ) -> Result<Vec<Output>, Reason> {
        self.check_producer(participant, id)?;
        let mut out = Vec::new();
        self.close(id, CloseReason::Closed, at, &mut out);
        Ok(out)
    }

    /// A producer's handle was given up before its successor could be made.
    pub(crate) fn on_displaced(&mut self, id: ProducerId, at: UnixMs) -> Vec<Output> {
        let mut out = Vec::new();
        self.close(id, CloseReason::Replaced, at, &mut out);
        out
    }

    /// Levels were measured, or it is time to look again (`levels` empty).
    pub(crate) fn on_levels(&mut self, levels: &[Level], at: UnixMs) -> Vec<Output> {
        let mut heard: Vec<Heard> = levels
            .iter()
            .filter_map(|level| {
                let producer = self.producers.get(&level.producer)?;
                // A report may be older than the mute.
                (!self.paused(producer)).then_some(Heard {
                    producer: level.producer,
                    user: producer.user.id,
                    volume: level.volume,
                })
            })
            .collect();
        let mut out = Vec::new();
        let turns = self.active.hear(heard.iter().map(|one| one.producer), at);
        self.take_turns(&turns, &mut out);
        // Whom nobody receives is no speaker.
        heard.retain(|one| self.active.is_active(one.producer));
        let told = heard.get(..self.limits.speakers).unwrap_or(&heard);
        let change = self.speakers.report(told, at);
        self.tell_speakers(change, at, &mut out);
        out
    }

    /// A producer of a crowded room is loud, or still so.
    pub(crate) fn on_onset(&mut self, id: ProducerId, at: UnixMs) -> Vec<Output> {
        let mut out = Vec::new();
        let turns = self.active.onset(id, at);
        self.take_turns(&turns, &mut out);
        out
    }

    /// When [`RoomState::on_levels`] should be called even if none are measured.
    #[must_use]
    pub(crate) fn speaking_deadline(&self) -> Option<UnixMs> {
        let deadlines = [self.speakers.deadline(), self.active.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// What the media should be: whether a producer's packets are listened to.
    #[must_use]
    pub(crate) fn wants_probe(&self, id: ProducerId) -> bool {
        self.active.wants_probe(id)
    }

    /// Brings media in line with who is heard now.
    pub(super) fn take_turns(&self, turns: &[Turn], out: &mut Vec<Output>) {
        for turn in turns {
            out.push(Output::ApplyProbe(turn.producer));
            let Some(producer) = self.producers.get(&turn.producer).filter(|_| turn.moved) else {
                continue;
            };
            let wanted = producer.consumers.iter().filter(|(participant, id)| {
                let listener = self.participants.get(participant);
                listener.is_some_and(|one| one.consumers.get(id).is_some_and(|one| one.wanted))
            });
            out.extend(wanted.map(|(participant, id)| Output::ApplyFlow(*participant, *id)));
        }
    }

    fn tell_speakers(&self, change: Change, at: UnixMs, out: &mut Vec<Output>) {
        if change == Change::Changed {
            let speakers = self.speakers.users();
            out.push(Output::Tell(
                Audience::Room,
                Event::Speaking { speakers, at },
            ));
        }
        if change != Change::None {
            let speakers = self.speakers.current().iter().map(|one| SpeakerView {
                user_id: one.user,
                producer_id: one.producer,
                volume: one.volume,
            });
            let (room, speakers) = (self.view(), speakers.collect());
            out.push(Output::Inform(Fact::SpeakerChanged { room, speakers, at }));
        }
    }

    /// What the media should be: whether anybody holds the producer muted.
    #[must_use]
    pub(crate) fn wants_paused(&self, id: ProducerId) -> bool {
        self.producers
            .get(&id)
            .is_some_and(|producer| self.paused(producer))
    }

    pub(super) fn paused(&self, producer: &Producer) -> bool {
        producer.self_muted
            || !producer.muted_by.is_empty()
            || self.muted_users.contains_key(&producer.user.id)
    }

    fn muters(&self, id: ProducerId) -> impl Iterator<Item = &Arc<str>> {
        let producer = self.producers.get(&id);
        let by_user = producer.and_then(|one| self.muted_users.get(&one.user.id));
        producer
            .map(|one| &one.muted_by)
            .into_iter()
            .chain(by_user)
            .flatten()
    }

    pub(super) fn change_mute(
        &mut self,
        id: ProducerId,
        by: Option<ParticipantId>,
        at: UnixMs,
        out: &mut Vec<Output>,
        change: impl FnOnce(&mut Producer),
    ) {
        let before = self.wants_paused(id);
        if let Some(producer) = self.producers.get_mut(&id) {
            change(producer);
            self.tell_mute(id, before, by, at, out);
        }
    }

    /// Tells the room if a producer's pause is another now; `by`: its own user did it.
    pub(super) fn tell_mute(
        &mut self,
        id: ProducerId,
        before: bool,
        by: Option<ParticipantId>,
        at: UnixMs,
        out: &mut Vec<Output>,
    ) {
        let paused = self.wants_paused(id);
        let Some(user) = self.producers.get(&id).map(|one| one.user.id) else {
            return;
        };
        if paused == before {
            return;
        }
        out.push(Output::ApplyPause(id));
        out.push(Output::Tell(
            by.map_or(Audience::Room, Audience::RoomExcept),
            Event::ProducerPaused {
                producer: id,
                user,
                paused,
                by_moderator: by.is_none(),
            },
        ));
        let turns = self.active.mute(id, paused, at);
        self.take_turns(&turns, out);
        if paused {
            let change = self.speakers.forget(id, at);
            self.tell_speakers(change, at, out);
        }
        let cause = by.map_or(PauseCause::Plugin, |_| PauseCause::User);
        self.look_at_flow(id, cause, at, out);
    }

    pub(super) fn close_producers_of(
        &mut self,
        participant: ParticipantId,
        reason: CloseReason,
        at: UnixMs,
        out: &mut Vec<Output>,
    ) {
        let ids: Vec<ProducerId> = self
            .participants
            .get(&participant)
            .map(|member| member.producers.values().copied().collect())
            .unwrap_or_default();
        for id in ids {
            self.close(id, reason, at, out);
        }
    }

    /// The one end of every producer, whatever the cause.
    pub(super) fn close(
        &mut self,
        id: ProducerId,
        reason: CloseReason,
        at: UnixMs,
        out: &mut Vec<Output>,
    ) {
        let Some(gone) = self.producers.remove(&id) else {
            return;
        };
        if let Some(owner) = self.participants.get_mut(&gone.owner) {
            // A successor may hold the place already.
            owner.producers.retain(|_, producer| *producer != id);
        }
        for (participant, consumer) in &gone.consumers {
            if let Some(listener) = self.participants.get_mut(participant) {
                listener.consumers.remove(consumer);
            }
            out.push(Output::DropConsumer(*consumer));
        }
        let view = Self::producer_view(id, &gone);
        let Producer {
            owner,
            user,
            source,
            flow,
            ..
        } = gone;
        out.push(Output::Tell(
            Audience::Room,
            Event::ProducerClosed {
                producer: id,
                user: user.id,
                source,
                reason,
            },
        ));
        out.push(Output::Inform(Fact::ProducerClosed {
            room: self.view(),
            participant: self.participant_view(owner, &user),
            producer: view,
            reason: reason.as_str().to_owned(),
            first_rtp_at: flow.told(),
            media: MediaCount::default(),
            fact: FactId::closed(id),
            at,
        }));
        // After the fact, which says how much it was.
        out.push(Output::DropProducer(id));
        let turns = self.active.remove(id, at);
        self.take_turns(&turns, out);
        let change = self.speakers.forget(id, at);
        self.tell_speakers(change, at, out);
    }
}

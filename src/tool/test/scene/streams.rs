//! What people send: from its first packet, through its pauses, to its end.

use std::mem;

use super::{Impossible, Presence, Scene, sends_no};
use crate::{
    model::{
        FactId, FirstPacket, MediaCount, ParticipantId, PauseCause, ProducerId, RoomId, Source,
        UnixMs, UserId,
    },
    plugin::{Fact, FlowChange, Input, ParticipantView, ProducerView, RoomView, Target},
};

/// Of an Opus packet, as browsers send them.
const PACKET_MS: u64 = 20;
const PACKET_BYTES: u64 = 100;

/// What somebody sends.
#[derive(Clone)]
pub(super) struct Producing {
    pub(super) view: ProducerView,
    held: Held,
    /// Once its first packet has come.
    stream: Option<Stream>,
}

/// Why it does not flow: any of these.
#[derive(Clone, Copy, Default)]
struct Held {
    user: bool,
    silence: bool,
    /// By another plugin.
    others: bool,
    /// By this plugin, which alone can lift it.
    own: bool,
}

impl Held {
    fn is_held(self) -> bool {
        self.user || self.silence || self.others || self.own
    }
}

#[derive(Clone)]
struct Stream {
    began: UnixMs,
    /// Since when packets come, if they do.
    flows: Option<UnixMs>,
    /// For how many milliseconds they came before.
    flowed: u64,
    last: UnixMs,
    /// Why they do not come, or last did not.
    cause: PauseCause,
    pauses: u32,
}

impl Stream {
    fn new(began: UnixMs) -> Self {
        Self {
            began,
            flows: Some(began),
            flowed: 0,
            last: began,
            cause: PauseCause::User,
            pauses: 0,
        }
    }

    fn media(&self, now: UnixMs) -> MediaCount {
        let running = self.flows.map_or(0, |since| now.0.saturating_sub(since.0));
        let packets = self.flowed.saturating_add(running) / PACKET_MS + 1;
        MediaCount {
            packets,
            bytes: packets.saturating_mul(PACKET_BYTES),
            last_rtp_at: Some(self.flows.map_or(self.last, |_| now)),
        }
    }

    fn stop(&mut self, since: UnixMs, cause: PauseCause, at: UnixMs) {
        self.flows = None;
        self.flowed = self.flowed.saturating_add(at.0.saturating_sub(since.0));
        self.last = at;
        self.cause = cause;
        self.pauses = self.pauses.saturating_add(1);
    }
}

impl Producing {
    /// Something new; `muted`: by this plugin, from the beginning.
    pub(super) fn new(view: ProducerView, muted: bool) -> Self {
        Self {
            view,
            held: Held {
                own: muted,
                ..Held::default()
            },
            stream: None,
        }
    }
}

impl Scene {
    /// The first packet of what somebody sends arrives.
    pub(in crate::tool::test) fn first_rtp(
        &mut self,
        who: &str,
        source: Source,
    ) -> Result<Input, Impossible> {
        let (room, participant, id) = self.sent_by(who, source)?;
        let (at, muted) = (self.now, self.mutes(&room, participant));
        if let Some(producing) = self.producing_mut(&room, participant, id) {
            if producing.stream.is_some() {
                return Err(format!("the first packet of `{who}` has arrived before"));
            }
            if muted || producing.held.is_held() {
                return Err(format!(
                    "`{who}` is muted: a packet that comes now is no first one"
                ));
            }
            producing.stream = Some(Stream::new(at));
        }
        let (room, presence) = self.find(who)?;
        let producing = presence
            .producing(source)
            .ok_or_else(|| sends_no(who, source))?;
        Ok(Input::Fact(Fact::FirstRtp {
            room: self.room(room),
            participant: self.view_of(room, presence),
            producer: producing.view.clone(),
            packet: FirstPacket {
                ssrc: 1,
                timestamp: Some(0),
                payload_type: 111,
                after_ms: 0,
            },
            fact: FactId::first_rtp(id),
            at,
        }))
    }

    /// What somebody sends stops to flow, or has done so a while ago.
    pub(in crate::tool::test) fn pause(
        &mut self,
        who: &str,
        source: Source,
        cause: PauseCause,
        since: UnixMs,
    ) -> Result<Option<Input>, Impossible> {
        let (room, participant, id) = self.sent_by(who, source)?;
        if let Some(producing) = self.producing_mut(&room, participant, id) {
            match cause {
                PauseCause::User => producing.held.user = true,
                PauseCause::Plugin => producing.held.others = true,
                PauseCause::Silence => producing.held.silence = true,
            }
        }
        Ok(self.settle(&room, participant, id, cause, since))
    }

    /// What somebody sends flows again, as far as this plugin does not mute it.
    pub(in crate::tool::test) fn resume(
        &mut self,
        who: &str,
        source: Source,
    ) -> Result<Option<Input>, Impossible> {
        let (room, participant, id) = self.sent_by(who, source)?;
        if let Some(producing) = self.producing_mut(&room, participant, id) {
            producing.held = Held {
                own: producing.held.own,
                ..Held::default()
            };
        }
        Ok(self.settle(&room, participant, id, PauseCause::User, self.now))
    }

    /// This plugin mutes, or lifts its mute.
    pub(super) fn mute(&mut self, room: &RoomId, target: &Target, muted: bool) -> Vec<Input> {
        if let Target::User(user) = target {
            let key = (room.clone(), *user);
            if muted {
                self.muted.insert(key);
            } else {
                self.muted.remove(&key);
            }
        }
        let mut calls = Vec::new();
        for (participant, id) in self.targets(room, target) {
            let producing = self.producing_mut(room, participant, id);
            if let (Target::Producer(_), Some(producing)) = (target, producing) {
                producing.held.own = muted;
            }
            calls.extend(self.settle(room, participant, id, PauseCause::Plugin, self.now));
        }
        calls
    }

    /// What a producer's holds come to: the fact that follows, if one does.
    fn settle(
        &mut self,
        room: &RoomId,
        participant: ParticipantId,
        id: ProducerId,
        cause: PauseCause,
        since: UnixMs,
    ) -> Option<Input> {
        let (now, muted) = (self.now, self.mutes(room, participant));
        let producing = self.producing_mut(room, participant, id)?;
        let held = muted || producing.held.is_held();
        let stream = producing.stream.as_mut()?;
        let paused = match (stream.flows, held) {
            (Some(flows), true) => {
                stream.stop(flows, cause, since.max(flows));
                true
            }
            (None, false) => {
                stream.flows = Some(now);
                false
            }
            _ => return None,
        };
        let (producer, cause, nth) = (producing.view.clone(), stream.cause, stream.pauses);
        let (media, last) = (stream.media(now), stream.last);
        let presence = self.presence(room, participant)?;
        let (told, at): (fn(FlowChange) -> Fact, _) = if paused {
            (Fact::paused, last)
        } else {
            (Fact::resumed, now)
        };
        Some(Input::Fact(told(FlowChange {
            room: self.room(room),
            participant: self.view_of(room, presence),
            producer,
            cause,
            nth,
            media,
            at,
        })))
    }

    /// What somebody sends ends.
    pub(in crate::tool::test) fn close(
        &mut self,
        who: &str,
        source: Source,
        reason: &str,
    ) -> Result<Option<Input>, Impossible> {
        let (room, participant, id) = self.sent_by(who, source)?;
        Ok(self.end(&room, participant, id, reason))
    }

    /// The one end of every producer.
    pub(super) fn end(
        &mut self,
        room: &RoomId,
        participant: ParticipantId,
        id: ProducerId,
        reason: &str,
    ) -> Option<Input> {
        let presence = self.presence_mut(room, participant)?;
        let place = presence
            .producers
            .iter()
            .position(|one| one.view.id == id)?;
        let gone = presence.producers.remove(place);
        let presence = presence.clone();
        let (room, participant) = (self.room(room), self.view_of(room, &presence));
        Some(ended(room, participant, gone, reason, self.now))
    }

    /// Whose producers an action is about.
    pub(super) fn targets(
        &self,
        room: &RoomId,
        target: &Target,
    ) -> Vec<(ParticipantId, ProducerId)> {
        let mut found = Vec::new();
        for presence in self.present(room) {
            let producers = presence.producers.iter().filter(|producer| match target {
                Target::User(user) => presence.user.id == *user,
                Target::Producer(id) => producer.view.id == *id,
            });
            found.extend(producers.map(|producer| (presence.id, producer.view.id)));
        }
        found
    }

    /// The server was killed: nobody is there, and nobody was told. What it left open is told
    /// when it runs again: [`Scene::recover`].
    pub(in crate::tool::test) fn forget(&mut self) {
        let at = self.now;
        for (room, present) in mem::take(&mut self.rooms) {
            for presence in present {
                let participant = ParticipantView {
                    connections: 0,
                    ..self.view_of(&room, &presence)
                };
                let begun = presence.producers.into_iter();
                for gone in begun.filter(|one| one.stream.is_some()) {
                    let (room, participant) = (self.room(&room), participant.clone());
                    self.left_open
                        .push(ended(room, participant, gone, "recovered", at));
                }
            }
            let closed = Fact::RoomClosed {
                room: self.room(&room),
                reason: "recovered".to_owned(),
                fact: FactId(self.fresh_id()),
                at,
            };
            self.left_open.push(Input::Fact(closed));
        }
        self.muted.clear();
    }

    /// What a server that was killed tells first when it runs again.
    pub(in crate::tool::test) fn recover(&mut self) -> Vec<Input> {
        mem::take(&mut self.left_open)
    }

    fn mutes(&self, room: &RoomId, participant: ParticipantId) -> bool {
        let user = |presence: &Presence| -> UserId { presence.user.id };
        let user = self.presence(room, participant).map(user);
        user.is_some_and(|user| self.muted.contains(&(room.clone(), user)))
    }

    fn producing_mut(
        &mut self,
        room: &RoomId,
        participant: ParticipantId,
        id: ProducerId,
    ) -> Option<&mut Producing> {
        let presence = self.presence_mut(room, participant)?;
        presence.producers.iter_mut().find(|one| one.view.id == id)
    }
}

fn ended(
    room: RoomView,
    participant: ParticipantView,
    gone: Producing,
    reason: &str,
    at: UnixMs,
) -> Input {
    let stream = gone.stream.as_ref();
    Input::Fact(Fact::ProducerClosed {
        room,
        participant,
        reason: reason.to_owned(),
        first_rtp_at: stream.map(|stream| stream.began),
        media: stream.map_or_else(MediaCount::default, |stream| stream.media(at)),
        fact: FactId::closed(gone.view.id),
        producer: gone.view,
        at,
    })
}

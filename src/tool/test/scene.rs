//! Rooms and people, as a server keeps them: who is where, what they send, and the calls that
//! follow from what happens. No plugin is called here.

mod streams;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};
use uuid::{Builder, Uuid};

use self::streams::Producing;
use super::scenario::{Scenario, UserSpec};
use crate::{
    model::{Codec, FactId, ParticipantId, ProducerId, RoomId, Source, UnixMs, User, UserId},
    plugin::{
        Action, CommandCall, ConsumeCall, Fact, Input, JoinCall, ParticipantView, ProduceCall,
        ProducerView, RoomView, SpeakerView,
    },
};

/// Of those who speak.
const VOLUME: i8 = -30;

/// What a step cannot do, in a sentence.
pub(super) type Impossible = String;

/// The rooms of a scenario.
pub(super) struct Scene {
    pub(super) now: UnixMs,
    lobby: RoomId,
    users: BTreeMap<String, Arc<User>>,
    rooms: BTreeMap<RoomId, Vec<Presence>>,
    /// Ids that have been given out, by what the scenario calls them: `alice.mic`.
    ids: BTreeMap<String, String>,
    /// Users whom the plugin mutes.
    muted: BTreeSet<(RoomId, UserId)>,
    /// What a server that was killed has yet to tell.
    left_open: Vec<Input>,
    count: u128,
}

/// Somebody in a room.
#[derive(Clone)]
struct Presence {
    name: String,
    id: ParticipantId,
    user: Arc<User>,
    producers: Vec<Producing>,
}

/// Somebody who has asked to enter and is not in yet.
pub(super) struct Newcomer {
    room: RoomId,
    presence: Presence,
}

impl Scene {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let user = |(name, spec): (&String, &UserSpec)| {
            let user = User {
                id: UserId(spec.id),
                name: spec.name.clone(),
                avatar: spec.avatar.clone(),
                roles: spec.roles.clone(),
                claims: Value::Object(spec.claims.clone()).to_string(),
            };
            (name.clone(), Arc::new(user))
        };
        Self {
            now: scenario.start,
            lobby: scenario.room.clone(),
            users: scenario.users.iter().map(user).collect(),
            rooms: BTreeMap::new(),
            ids: BTreeMap::new(),
            muted: BTreeSet::new(),
            left_open: Vec::new(),
            count: 0,
        }
    }

    /// What a name in `${…}` stands for.
    pub(super) fn known(&self, name: &str) -> Option<Value> {
        if name == "now" {
            return Some(json!(self.now));
        }
        let user = name.strip_suffix(".id").and_then(|name| {
            let found = self.find(name).ok().map(|(_, found)| &found.user);
            self.users.get(name).or(found)
        });
        match user {
            Some(user) => Some(json!(user.id)),
            None => self.ids.get(name).map(|id| json!(id)),
        }
    }

    /// Somebody asks to enter.
    pub(super) fn newcomer(
        &mut self,
        who: &str,
        room: Option<&RoomId>,
        known_as: Option<&str>,
    ) -> Result<(Newcomer, Input), Impossible> {
        let Some(user) = self.users.get(who).map(Arc::clone) else {
            let all: Vec<_> = self.users.keys().map(String::as_str).collect();
            return Err(format!("[users] has no `{who}`, but {}", listed(&all)));
        };
        let name = known_as.unwrap_or(who);
        if let Ok((room, _)) = self.find(name) {
            return Err(format!(
                "`{name}` is in the room {room} already: give the second presence a name with `as`"
            ));
        }
        let id = ParticipantId(self.fresh_id());
        let presence = Presence {
            name: name.to_owned(),
            id,
            user,
            producers: Vec::new(),
        };
        self.ids
            .insert(format!("{name}.participant"), id.to_string());
        let room = room.unwrap_or(&self.lobby).clone();
        let mut participant = self.view_of(&room, &presence);
        participant.connections = participant.connections.saturating_add(1);
        let call = JoinCall {
            room: self.room(&room),
            participant,
            at: self.now,
        };
        Ok((Newcomer { room, presence }, Input::BeforeJoin(call)))
    }

    /// Somebody has entered: the calls that follow, in order.
    pub(super) fn enter(&mut self, newcomer: Newcomer) -> Vec<Input> {
        let Newcomer { room, presence } = newcomer;
        let present = self.rooms.entry(room.clone()).or_default();
        present.push(presence.clone());
        let (is_first, view, at) = (present.len() == 1, self.room(&room), self.now);
        let mut calls = Vec::new();
        if is_first {
            let room = view.clone();
            calls.push(Input::Fact(Fact::RoomOpened { room, at }));
        }
        let call = JoinCall {
            room: view,
            participant: self.view_of(&room, &presence),
            at,
        };
        calls.push(Input::Fact(Fact::Joined(call.clone())));
        calls.push(Input::DescribeRoom(call));
        calls
    }

    /// Somebody leaves, with all that they send.
    pub(super) fn leave(&mut self, who: &str, reason: &str) -> Result<Vec<Input>, Impossible> {
        let (room, presence) = self.find(who)?;
        let (room, id) = (room.clone(), presence.id);
        let close_reason = match reason {
            "left" | "disconnected" => reason,
            "too_slow" => "disconnected",
            _ => "kicked",
        };
        Ok(self.remove(&room, id, reason, close_reason))
    }

    fn remove(
        &mut self,
        room: &RoomId,
        id: ParticipantId,
        reason: &str,
        close_reason: &str,
    ) -> Vec<Input> {
        let Some(gone) = self.presence(room, id).cloned() else {
            return Vec::new();
        };
        let mut calls = Vec::new();
        for producer in &gone.producers {
            calls.extend(self.end(room, id, producer.view.id, close_reason));
        }
        if let Some(present) = self.rooms.get_mut(room) {
            present.retain(|one| one.id != id);
        }
        let (view, at) = (self.room(room), self.now);
        calls.push(Input::Fact(Fact::Left {
            room: view.clone(),
            participant: self.view_of(room, &gone),
            reason: reason.to_owned(),
            at,
        }));
        if view.participants == 0 && self.rooms.remove(room).is_some() {
            self.muted.retain(|(of, _)| of != room);
            calls.push(Input::Fact(Fact::RoomClosed {
                room: view,
                reason: "empty".to_owned(),
                fact: FactId(self.fresh_id()),
                at,
            }));
        }
        calls
    }

    /// Somebody asks to send.
    pub(super) fn asks_to_produce(&self, who: &str, source: Source) -> Result<Input, Impossible> {
        let (room, presence) = self.find(who)?;
        Ok(Input::BeforeProduce(ProduceCall {
            room: self.room(room),
            participant: self.view_of(room, presence),
            source,
            codec: opus(),
            at: self.now,
        }))
    }

    /// Somebody sends, perhaps muted by the plugin; what they sent from the same source before
    /// ends.
    pub(super) fn produce(
        &mut self,
        who: &str,
        source: Source,
        muted: bool,
    ) -> Result<Vec<Input>, Impossible> {
        let (room, presence) = self.find(who)?;
        let (room, participant) = (room.clone(), presence.id);
        let displaced = presence.producing(source).map(|old| old.view.id);
        let view = ProducerView {
            id: ProducerId(self.fresh_id()),
            source,
            codec: opus(),
        };
        let name = match source {
            Source::Mic => format!("{who}.mic"),
            Source::Music => format!("{who}.music"),
        };
        self.ids.insert(name, view.id.to_string());
        let Some(presence) = self.presence_mut(&room, participant) else {
            return Ok(Vec::new());
        };
        presence.producers.push(Producing::new(view.clone(), muted));
        let presence = presence.clone();
        let mut calls = vec![Input::Fact(Fact::NewProducer {
            room: self.room(&room),
            participant: self.view_of(&room, &presence),
            producer: view,
            at: self.now,
        })];
        if let Some(displaced) = displaced {
            calls.extend(self.end(&room, participant, displaced, "replaced"));
        }
        Ok(calls)
    }

    /// Somebody asks to hear another.
    pub(super) fn consume(
        &self,
        who: &str,
        from: &str,
        source: Source,
    ) -> Result<Input, Impossible> {
        let (room, presence) = self.find(who)?;
        let (other_room, owner) = self.find(from)?;
        if other_room != room {
            return Err(format!("`{who}` is in {room}, `{from}` in {other_room}"));
        }
        let producing = owner
            .producing(source)
            .ok_or_else(|| sends_no(from, source))?;
        Ok(Input::BeforeConsume(ConsumeCall {
            room: self.room(room),
            participant: self.view_of(room, presence),
            producer: producing.view.clone(),
            owner: owner.user.id,
            at: self.now,
        }))
    }

    /// These speak, loudest first.
    pub(super) fn speakers(
        &self,
        who: &[String],
        room: Option<&RoomId>,
    ) -> Result<Input, Impossible> {
        let mut speakers = Vec::new();
        let mut place = room.unwrap_or(&self.lobby);
        for name in who {
            let (room, presence) = self.find(name)?;
            let producing = presence
                .producing(Source::Mic)
                .ok_or_else(|| sends_no(name, Source::Mic))?;
            place = room;
            speakers.push(SpeakerView {
                user_id: presence.user.id,
                producer_id: producing.view.id,
                volume: VOLUME,
            });
        }
        let (room, at) = (self.room(place), self.now);
        Ok(Input::Fact(Fact::SpeakerChanged { room, speakers, at }))
    }

    /// Somebody sends an event of the plugin's. The payload gets the room's id, as a client
    /// must send it.
    pub(super) fn command(
        &self,
        by: &str,
        name: &str,
        payload: Value,
    ) -> Result<Input, Impossible> {
        let (room, presence) = self.find(by)?;
        let mut payload = payload;
        if let Some(fields) = payload.as_object_mut() {
            fields.entry("roomId").or_insert_with(|| json!(room));
        }
        let target = payload.get("userId").and_then(Value::as_u64).map(UserId);
        let target = target.and_then(|target| {
            let mut present = self.present(room);
            present.find(|one| one.user.id == target)
        });
        Ok(Input::Command(CommandCall {
            room: self.room(room),
            participant: self.view_of(room, presence),
            command: name.to_owned(),
            payload: payload.to_string(),
            target: target.map(|target| self.view_of(room, target)),
            at: self.now,
        }))
    }

    /// A timer's call, with the people that are in its room.
    pub(super) fn timer(&self, mut input: Input) -> Input {
        if let Input::Fact(Fact::Timer { room, .. }) = &mut input {
            *room = self.room(&room.id);
        }
        input
    }

    /// Carries out what follows from an action: the calls that it brings about.
    pub(super) fn carry_out(&mut self, room: &RoomId, action: &Action) -> Vec<Input> {
        let mut calls = Vec::new();
        match action {
            Action::Close(target) => {
                for (participant, id) in self.targets(room, target) {
                    calls.extend(self.end(room, participant, id, "plugin"));
                }
            }
            Action::Mute(target) => calls.extend(self.mute(room, target, true)),
            Action::Unmute(target) => calls.extend(self.mute(room, target, false)),
            Action::Kick { user, reason } => {
                let present = self.present(room).filter(|one| one.user.id == *user);
                let kicked: Vec<_> = present.map(|one| one.id).collect();
                for id in kicked {
                    calls.extend(self.remove(room, id, reason, "kicked"));
                }
            }
            Action::EmitToUser { .. } | Action::EmitToRoom { .. } | Action::PinSpeaker { .. } => {}
        }
        calls
    }

    /// Ids are the same each time, and look as a server's do.
    fn fresh_id(&mut self) -> Uuid {
        self.count += 1;
        Builder::from_random_bytes(self.count.to_be_bytes()).into_uuid()
    }

    fn find(&self, name: &str) -> Result<(&RoomId, &Presence), Impossible> {
        for (room, present) in &self.rooms {
            if let Some(found) = present.iter().find(|one| one.name == name) {
                return Ok((room, found));
            }
        }
        let present = self.rooms.values().flatten();
        let names: Vec<_> = present.map(|one| one.name.as_str()).collect();
        Err(format!(
            "`{name}` is in no room; there are {}",
            listed(&names)
        ))
    }

    fn sent_by(
        &self,
        who: &str,
        source: Source,
    ) -> Result<(RoomId, ParticipantId, ProducerId), Impossible> {
        let (room, presence) = self.find(who)?;
        let producing = presence
            .producing(source)
            .ok_or_else(|| sends_no(who, source))?;
        Ok((room.clone(), presence.id, producing.view.id))
    }

    fn present(&self, room: &RoomId) -> impl Iterator<Item = &Presence> {
        self.rooms.get(room).into_iter().flatten()
    }

    fn presence(&self, room: &RoomId, id: ParticipantId) -> Option<&Presence> {
        self.present(room).find(|one| one.id == id)
    }

    fn presence_mut(&mut self, room: &RoomId, id: ParticipantId) -> Option<&mut Presence> {
        self.rooms
            .get_mut(room)?
            .iter_mut()
            .find(|one| one.id == id)
    }

    fn room(&self, id: &RoomId) -> RoomView {
        RoomView {
            id: id.clone(),
            participants: count(self.present(id)),
        }
    }

    fn view_of(&self, room: &RoomId, presence: &Presence) -> ParticipantView {
        let same_user = |one: &&Presence| one.user.id == presence.user.id;
        ParticipantView {
            id: presence.id,
            user: Arc::clone(&presence.user),
            connections: count(self.present(room).filter(same_user)),
        }
    }
}

impl Presence {
    /// The newest from this source.
    fn producing(&self, source: Source) -> Option<&Producing> {
        let mut producers = self.producers.iter().rev();
        producers.find(|one| one.view.source == source)
    }
}

/// What browsers send.
pub(crate) fn opus() -> Codec {
    Codec {
        mime_type: "audio/opus".to_owned(),
        clock_rate: 48_000,
        channels: 2,
    }
}

fn count<'a>(present: impl Iterator<Item = &'a Presence>) -> u32 {
    u32::try_from(present.count()).unwrap_or(u32::MAX)
}

fn sends_no(who: &str, source: Source) -> Impossible {
    let source = match source {
        Source::Mic => "mic",
        Source::Music => "music",
    };
    format!("`{who}` sends no {source}: `produce` comes first")
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "nobody".to_owned(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests;

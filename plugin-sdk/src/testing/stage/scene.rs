//! What happens in rooms, and the hooks that the server then calls.

use serde_json::Value;

use super::{Stage, streams::both};
use crate::{
    Actions, Answer, BeforeConsume, BeforeJoin, BeforeProduce, Codec, Decision, Denial,
    DescribeRoom, OnCommand, OnJoin, OnLeave, OnNewProducer, OnRoomOpened, Outcome, Participant,
    Plugin, Producer, Source, Speaker, SpeakerChanged, User, UserId,
    testing::told::{Joined, Produced},
};

/// What happens in rooms.
impl<P: Plugin> Stage<P> {
    /// A user enters a room: `before_join`, for the first one `on_room_opened`, `on_join`,
    /// `describe_room`.
    ///
    /// # Errors
    ///
    /// What the plugin's hooks say.
    pub fn join(&mut self, room_id: &str, user: User) -> Result<Joined, Denial> {
        let id = self.fresh_id("participant");
        let connections = self.connections(room_id, user.id).saturating_add(1);
        let participant = Participant {
            id,
            user,
            connections,
        };
        let (room, at) = (self.room(room_id), self.now());
        let call = BeforeJoin {
            room,
            participant: participant.clone(),
            at,
        };
        let mut actions =
            self.decide(room_id, "before-join", |plugin| plugin.before_join(&call))?;

        let participants = self.rooms.entry(room_id.to_owned()).or_default();
        participants.push(participant.clone());
        let room = self.room(room_id);
        if room.participants == 1 {
            let call = OnRoomOpened {
                room: room.clone(),
                at,
            };
            actions = actions.then(self.inform(room_id, "on-room-opened", |plugin| {
                plugin.on_room_opened(&call)
            })?);
        }
        let call = OnJoin {
            room,
            participant,
            at,
        };
        actions = actions.then(self.inform(room_id, "on-join", |plugin| plugin.on_join(&call))?);
        let OnJoin {
            room, participant, ..
        } = call;
        let call = DescribeRoom {
            room,
            participant,
            at,
        };
        let shown = self.inform(room_id, "describe-room", |plugin| {
            plugin.describe_room(&call)
        })?;
        Ok(Joined {
            participant: call.participant,
            room_id: room_id.to_owned(),
            actions,
            shown,
        })
    }

    /// A participant goes: `on_producer_closed` for all that they send, `on_leave`, and after
    /// the last one `on_room_closed`. For a reason see [`OnLeave::reason`]; the producers end
    /// as `left`, `disconnected` (also for `too_slow`) or, for any other, `kicked`.
    ///
    /// # Errors
    ///
    /// What the first of the plugin's hooks that fails says. The participant is gone all the
    /// same, and the other hooks have been called.
    pub fn leave(&mut self, who: &Joined, reason: &str) -> Outcome {
        let room_id = &who.room_id;
        let close_reason = match reason {
            "left" => "left",
            "disconnected" | "too_slow" => "disconnected",
            _ => "kicked",
        };
        let mut told = Ok(Actions::new());
        let sent = self.sending.remove(&who.participant.id);
        for producer in sent.unwrap_or_default().into_values() {
            told = both(told, self.close(who, &producer, close_reason));
        }
        if let Some(participants) = self.rooms.get_mut(room_id) {
            participants.retain(|participant| participant.id != who.participant.id);
        }
        let (room, at) = (self.room(room_id), self.now());
        let call = OnLeave {
            room: room.clone(),
            participant: self.current(who),
            reason: reason.to_owned(),
            at,
        };
        let left = self.inform(room_id, "on-leave", |plugin| plugin.on_leave(&call));
        told = both(told, left);
        if room.participants == 0 && self.rooms.remove(room_id).is_some() {
            let closed = self.tell_room_closed(room, "empty", at);
            told = both(told, closed.map(|()| Actions::new()));
        }
        told
    }

    /// A participant sends a client event: `on_command`. A client names the room in the
    /// payload's field `roomId`, without which the server refuses the event; the stage adds it.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn command(&mut self, who: &Joined, command: &str, mut payload: Value) -> Answer {
        if let Some(fields) = payload.as_object_mut() {
            fields.insert("roomId".to_owned(), who.room_id.clone().into());
        }
        let target = payload.get("userId").and_then(Value::as_u64);
        let call = OnCommand {
            room: self.room(&who.room_id),
            participant: self.current(who),
            command: command.to_owned(),
            payload_json: payload.to_string(),
            target: target.and_then(|user| self.presence(&who.room_id, user)),
            at: self.now(),
        };
        self.decide(&who.room_id, "on-command", |plugin| {
            plugin.on_command(&call)
        })
    }

    /// A participant starts to send: `before_produce`, `on_new_producer`, and, for what they
    /// sent from the same source before, `on_producer_closed` with the reason `replaced`.
    ///
    /// # Errors
    ///
    /// What the plugin's hooks say.
    pub fn produce(&mut self, who: &Joined, source: Source) -> Result<Produced, Denial> {
        let (room, participant, at) = (self.room(&who.room_id), self.current(who), self.now());
        let call = BeforeProduce {
            room,
            participant,
            source,
            codec: Codec::opus(),
            at,
        };
        let permit = self.decide(&who.room_id, "before-produce", |plugin| {
            plugin.before_produce(&call)
        })?;
        let (amendment, actions) = permit.into_parts()?;

        let producer = Producer {
            id: self.fresh_id("producer"),
            source,
            codec: Codec::opus(),
        };
        let sending = self.sending.entry(who.participant.id.clone()).or_default();
        let displaced = sending.insert(source, producer.clone());
        let BeforeProduce {
            room, participant, ..
        } = call;
        let call = OnNewProducer {
            room,
            participant,
            producer,
            at,
        };
        let mut told = self.inform(&who.room_id, "on-new-producer", |plugin| {
            plugin.on_new_producer(&call)
        });
        if let Some(displaced) = displaced {
            told = both(told, self.close(who, &displaced, "replaced"));
        }
        Ok(Produced {
            producer: call.producer,
            amendment,
            actions: actions.then(told?),
        })
    }

    /// A participant asks to receive a producer of another's: `before_consume`.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn consume(&mut self, who: &Joined, owner: &Joined, producer: &Producer) -> Decision {
        let call = BeforeConsume {
            room: self.room(&who.room_id),
            participant: self.current(who),
            producer: producer.clone(),
            owner: owner.participant.user.id,
            at: self.now(),
        };
        self.decide(&who.room_id, "before-consume", |plugin| {
            plugin.before_consume(&call)
        })
    }

    /// These users speak, loudest first, each through a producer named after the user:
    /// `speaker_changed`.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn speakers(&mut self, room_id: &str, users: &[UserId]) -> Outcome {
        let speakers = users.iter().map(|&user_id| Speaker {
            user_id,
            producer_id: format!("producer of {user_id}"),
            volume: -30,
        });
        let call = SpeakerChanged {
            room: self.room(room_id),
            speakers: speakers.collect(),
            at: self.now(),
        };
        self.inform(room_id, "speaker-changed", |plugin| {
            plugin.speaker_changed(&call)
        })
    }
}

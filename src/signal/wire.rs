//! The JSON of the Socket.IO face: events and answers.

use std::{borrow::Cow, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{
    model::{Refusal, User},
    room::{Event, Failure, Joined, SnapshotProducer},
};

/// An event's name and payload.
pub(super) fn event(event: &Event) -> (Cow<'static, str>, Value) {
    let (name, payload) = match event {
        Event::NewProducer {
            producer,
            user,
            source,
        } => (
            "audio:newProducer",
            json!({ "producerId": producer, "userId": user, "kind": "audio", "source": source }),
        ),
        Event::ProducerClosed {
            producer,
            user,
            source,
            reason,
        } => (
            "audio:producerClosed",
            json!({
                "producerId": producer,
                "userId": user,
                "source": source,
                "reason": reason.as_str(),
            }),
        ),
        Event::ProducerPaused {
            producer,
            user,
            paused,
            by_moderator,
        } => (
            if *paused {
                "audio:producerPaused"
            } else {
                "audio:producerResumed"
            },
            json!({ "producerId": producer, "userId": user, "byModerator": by_moderator }),
        ),
        Event::FirstRtp { producer, user, at } => (
            "audio:firstRtp",
            json!({ "producerId": producer, "userId": user, "at": at }),
        ),
        Event::Speaking { speakers, at } => (
            "speaker:active",
            json!({
                "userId": speakers.first().map(|(user, _)| user),
                "activeSpeakers": speakers.iter().map(|(user, _)| user).collect::<Vec<_>>(),
                "volumes": speakers
                    .iter()
                    .map(|(user, volume)| json!({ "userId": user, "volume": volume }))
                    .collect::<Vec<_>>(),
                "timestamp": at,
            }),
        ),
        Event::UserJoined(user) => ("room:userJoined", Value::Object(person(user))),
        Event::UserLeft { user, reason } => (
            "room:userLeft",
            json!({ "userId": user.id, "reason": reason }),
        ),
        Event::RoomClosed { room, reason, at } => (
            "room:closed",
            json!({ "roomId": room, "reason": reason.as_str(), "timestamp": at }),
        ),
        Event::Plugin { name, payload } => {
            return (Cow::Owned(name.to_string()), payload.clone());
        }
    };
    (Cow::Borrowed(name), payload)
}

/// `userId` and what else is known of a person.
fn person(user: &Arc<User>) -> Map<String, Value> {
    let mut person = Map::new();
    person.insert("userId".to_owned(), json!(user.id));
    for (key, value) in [("name", &user.name), ("avatar", &user.avatar)] {
        if let Some(value) = value {
            person.insert(key.to_owned(), json!(value));
        }
    }
    person
}

/// The data of a successful join.
pub(super) fn joined(joined: &mut Joined, ice_servers: &Value) -> Value {
    let participants: Vec<Value> = joined
        .snapshot
        .users
        .iter()
        .map(|(user, speaks)| {
            let mut one = person(user);
            one.insert("isSpeaker".to_owned(), json!(speaks));
            Value::Object(one)
        })
        .collect();
    let producer = |one: &SnapshotProducer| {
        json!({
            "producerId": one.id,
            "userId": one.user,
            "kind": "audio",
            "source": one.source,
            "paused": one.paused,
        })
    };
    json!({
        "rtpCapabilities": joined.rtp_capabilities.take(),
        "participants": participants,
        "existingProducers": joined.snapshot.producers.iter().map(producer).collect::<Vec<_>>(),
        "activeSpeakers": joined.snapshot.speakers,
        "iceServers": ice_servers,
        "plugins": std::mem::take(&mut joined.plugins),
    })
}

/// The acknowledgement of a request that succeeded.
pub(super) fn success(data: Option<Value>) -> Value {
    match data {
        Some(data) => json!({ "success": true, "data": data }),
        None => json!({ "success": true }),
    }
}

/// The acknowledgement of a request that did not.
pub(super) fn failure(failure: Failure) -> Value {
    match failure {
        Failure::Refused(refusal) => refused(refusal),
        Failure::Media(_) => refused(Refusal::new("INTERNAL_ERROR")),
    }
}

fn refused(refusal: Refusal) -> Value {
    let mut answer = json!({ "success": false, "error": refusal.message, "code": refusal.code });
    if let Some(fields) = answer.as_object_mut() {
        if let Some(details) = refusal.details {
            fields.insert("details".to_owned(), details);
        }
        if let Some(plugin) = refusal.plugin {
            fields.insert("plugin".to_owned(), json!(&*plugin));
        }
    }
    answer
}

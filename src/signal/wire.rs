//! The JSON of the Socket.IO face: events and answers.

use std::{borrow::Cow, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    denial::Denial,
    resume::Ticket,
    session::{Reply, Resumed, Welcome},
};
use crate::{
    model::{Refusal, User, UserId},
    room::{Event, Flow, Inbox, SnapshotProducer},
};

/// Whether this face tells such events.
pub(super) fn tells(event: &Event) -> bool {
    !matches!(event, Event::Connected { .. } | Event::Broadcast { .. })
}

/// An event's name and payload; `None` for what this face does not tell.
pub(super) fn event(event: &Event) -> Option<(Cow<'static, str>, Value)> {
    let (name, payload) = match event {
        Event::NewProducer {
            producer,
            user,
            source,
            attached,
        } => {
            let payload = json!({ "producerId": producer, "userId": user, "kind": "audio", "source": source });
            ("audio:newProducer", with_attached(payload, attached))
        }
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
        Event::TransportClosed { transport } => (
            "transport:closed",
            json!({ "transportId": transport, "reason": "worker_died" }),
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
            return Some((Cow::Owned(name.to_string()), payload.clone()));
        }
        Event::Connected { .. } | Event::Broadcast { .. } => return None,
    };
    Some((Cow::Borrowed(name), payload))
}

/// A producer with what plugins attached to it, as `data`.
fn with_attached(mut producer: Value, attached: &Map<String, Value>) -> Value {
    if let Some(fields) = producer.as_object_mut()
        && !attached.is_empty()
    {
        fields.insert("data".to_owned(), Value::Object(attached.clone()));
    }
    producer
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

/// The data of a successful join, and what comes after it.
pub(super) fn welcome(welcome: Welcome, ice_servers: &Value) -> (Value, Inbox) {
    let Welcome {
        inbox,
        rtp_capabilities,
        snapshot,
        plugins,
    } = welcome;
    let participants = snapshot.users.iter().map(|(user, speaks)| {
        let mut one = person(user);
        one.insert("isSpeaker".to_owned(), json!(speaks));
        Value::Object(one)
    });
    let producer = |one: &SnapshotProducer| {
        let producer = json!({
            "producerId": one.id,
            "userId": one.user,
            "kind": "audio",
            "source": one.source,
            "paused": one.paused,
        });
        with_attached(producer, &one.attached)
    };
    let data = json!({
        "rtpCapabilities": rtp_capabilities,
        "participants": participants.collect::<Vec<_>>(),
        "existingProducers": snapshot.producers.iter().map(producer).collect::<Vec<_>>(),
        "activeSpeakers": snapshot.speakers,
        "iceServers": ice_servers,
        "plugins": plugins,
    });
    (data, inbox)
}

/// Says how to come back, where that is possible.
pub(super) fn with_resume(data: &mut Value, ticket: Option<&Ticket>) {
    if let (Some(fields), Some(ticket)) = (data.as_object_mut(), ticket) {
        fields.insert("resume".to_owned(), ticket.describe());
    }
}

/// The data for a client that has come back.
pub(super) fn resumed(user: UserId, resumed: &Resumed) -> Value {
    let mine = &resumed.belongings;
    let mut data = json!({
        "roomId": resumed.room,
        "userId": user,
        "transports": mine.transports,
        "producers": mine.producers,
        "consumers": mine.consumers,
        "missed": resumed.missed,
    });
    with_resume(&mut data, resumed.ticket.as_ref());
    data
}

/// The data of a reply, if it has any.
pub(super) fn data(reply: Reply, ice_servers: &Value) -> Option<Value> {
    Some(match reply {
        Reply::Done | Reply::Producers(_) | Reply::Released(_) => return None,
        Reply::Transport(transport) => with_ice_servers(transport, ice_servers),
        Reply::Ice(parameters) => json!({ "iceParameters": parameters }),
        Reply::Produced(id) => json!({ "id": id }),
        Reply::Consumed(producer, consumed) => json!({
            "id": consumed.id,
            "producerId": producer,
            "kind": "audio",
            "rtpParameters": consumed.rtp_parameters,
            "producerPaused": consumed.producer_paused,
        }),
        Reply::Flow(Flow::Deferred) => json!({ "deferred": true }),
        Reply::Flow(_) => return None,
        Reply::Plugin(answer) => return answer,
    })
}

/// A transport's description with the ICE servers that go with it.
pub(super) fn with_ice_servers(mut transport: Value, ice_servers: &Value) -> Value {
    if let Some(fields) = transport.as_object_mut() {
        fields.insert("iceServers".to_owned(), ice_servers.clone());
    }
    transport
}

/// The acknowledgement of a request that succeeded.
pub(super) fn success(data: Option<Value>) -> Value {
    match data {
        Some(data) => json!({ "success": true, "data": data }),
        None => json!({ "success": true }),
    }
}

/// The acknowledgement of a request that did not.
pub(super) fn failure(denial: Denial) -> Value {
    let refusal = Refusal::from(denial);
    let mut answer = json!({ "success": false, "error": refusal.message, "code": refusal.code });
    if let Some(fields) = answer.as_object_mut() {
        more_of(fields, refusal);
    }
    answer
}

/// What there is to say of a refusal beside its message and code.
pub(super) fn more_of(fields: &mut Map<String, Value>, refusal: Refusal) {
    if let Some(details) = refusal.details {
        fields.insert("details".to_owned(), details);
    }
    if let Some(plugin) = refusal.plugin {
        fields.insert("plugin".to_owned(), json!(&*plugin));
    }
    if let Some(decision) = refusal.decision {
        fields.insert("decisionId".to_owned(), json!(decision));
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        model::{ProducerId, RoomId, Source, TransportId, UnixMs, UserId},
        room::{CloseReason, Failure, RoomEnd},
    };

    fn user() -> Arc<User> {
        Arc::new(User {
            id: UserId(7),
            name: Some("Ada".to_owned()),
            avatar: None,
            roles: Vec::new(),
            claims: "{}".to_owned(),
        })
    }

    #[test]
    fn what_plugins_attach_travels_as_data() {
        let attached = Map::from_iter([("doors".to_owned(), json!({ "guest": true }))]);
        let told = event(&Event::NewProducer {
            producer: ProducerId(Uuid::from_u128(1)),
            user: UserId(7),
            source: Source::Mic,
            attached: Arc::new(attached),
        });
        let (_, payload) = told.unwrap();
        assert_eq!(payload["data"], json!({ "doors": { "guest": true } }));
    }

    #[test]
    fn each_event_has_the_name_and_the_fields_of_the_protocol() {
        let producer = ProducerId(Uuid::from_u128(1));
        let id = producer.to_string();
        let (user_id, at) = (UserId(7), UnixMs(5));
        let source = Source::Mic;
        let paused = |paused| Event::ProducerPaused {
            producer,
            user: user_id,
            paused,
            by_moderator: true,
        };
        let muted = json!({ "producerId": id, "userId": 7, "byModerator": true });
        let cases = [
            (
                Event::NewProducer {
                    producer,
                    user: user_id,
                    source,
                    attached: Arc::default(),
                },
                "audio:newProducer",
                json!({ "producerId": id, "userId": 7, "kind": "audio", "source": "mic" }),
            ),
            (
                Event::ProducerClosed {
                    producer,
                    user: user_id,
                    source,
                    reason: CloseReason::Replaced,
                },
                "audio:producerClosed",
                json!({ "producerId": id, "userId": 7, "source": "mic", "reason": "replaced" }),
            ),
            (paused(true), "audio:producerPaused", muted.clone()),
            (paused(false), "audio:producerResumed", muted),
            (
                Event::FirstRtp {
                    producer,
                    user: user_id,
                    at,
                },
                "audio:firstRtp",
                json!({ "producerId": id, "userId": 7, "at": 5 }),
            ),
            (
                Event::Speaking {
                    speakers: vec![(user_id, -20)],
                    at,
                },
                "speaker:active",
                json!({
                    "userId": 7,
                    "activeSpeakers": [7],
                    "volumes": [{ "userId": 7, "volume": -20 }],
                    "timestamp": 5,
                }),
            ),
            (
                Event::Speaking {
                    speakers: Vec::new(),
                    at,
                },
                "speaker:active",
                json!({ "userId": null, "activeSpeakers": [], "volumes": [], "timestamp": 5 }),
            ),
            (
                Event::UserJoined(user()),
                "room:userJoined",
                json!({ "userId": 7, "name": "Ada" }),
            ),
            (
                Event::UserLeft {
                    user: user(),
                    reason: "left".into(),
                },
                "room:userLeft",
                json!({ "userId": 7, "reason": "left" }),
            ),
            (
                Event::RoomClosed {
                    room: RoomId::new("x").unwrap(),
                    reason: RoomEnd::WorkerDied,
                    at,
                },
                "room:closed",
                json!({ "roomId": "x", "reason": "worker_died", "timestamp": 5 }),
            ),
            (
                Event::Plugin {
                    name: "seat:updated".into(),
                    payload: json!({ "seatIndex": 1 }),
                },
                "seat:updated",
                json!({ "seatIndex": 1 }),
            ),
        ];
        for (given, name, payload) in cases {
            assert!(tells(&given), "{name}");
            assert_eq!(event(&given), Some((Cow::Borrowed(name), payload)));
        }
    }

    #[test]
    fn what_this_face_does_not_tell_has_no_form() {
        let (user, at) = (UserId(7), UnixMs(5));
        let data = Value::Null;
        for given in [
            Event::Connected { user, at },
            Event::Broadcast { from: user, data },
        ] {
            assert!(!tells(&given));
            assert_eq!(event(&given), None);
        }
    }

    #[test]
    fn a_lost_transport_is_named_with_the_reason() {
        let transport = TransportId(Uuid::nil());
        let told = json!({ "transportId": transport, "reason": "worker_died" });
        let name = Cow::Borrowed("transport:closed");
        assert_eq!(
            event(&Event::TransportClosed { transport }),
            Some((name, told))
        );
    }

    #[test]
    fn a_refusal_names_its_plugin_and_its_details() {
        let refusal = Refusal {
            details: Some(json!({ "until": 5 })),
            plugin: Some("moderation".into()),
            ..Refusal::new("Not authorized")
        };
        assert_eq!(
            failure(Denial::Failed(refusal.into())),
            json!({
                "success": false,
                "error": "Not authorized",
                "code": "NOT_AUTHORIZED",
                "details": { "until": 5 },
                "plugin": "moderation",
            })
        );
        assert_eq!(success(None), json!({ "success": true }));
    }

    #[test]
    fn what_went_wrong_inside_is_not_told() {
        let failed = Failure::Media(crate::media::MediaError::NoWorker);
        let told = json!({
            "success": false,
            "error": "INTERNAL_ERROR",
            "code": "INTERNAL_ERROR",
        });
        assert_eq!(failure(failed.into()), told);
    }
}

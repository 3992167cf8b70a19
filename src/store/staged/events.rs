//! Events that a call publishes.

use serde_json::Value;
use uuid::Uuid;

use super::Staged;
use crate::{
    model::{ProducerId, UserId},
    store::{
        Limits, PublishError, Space,
        ledger::{Draft, Said},
    },
};

pub(super) struct Event {
    id: Uuid,
    room: Box<str>,
    topic: Box<str>,
    payload: Value,
}

/// Whom and what the call is about.
#[derive(Default)]
pub(super) struct About {
    user: Option<UserId>,
    producer: Option<ProducerId>,
}

impl Staged {
    /// Says whom and which stream the call is about: its events bear it.
    pub fn about(&mut self, user: Option<UserId>, producer: Option<ProducerId>) {
        self.about = About { user, producer };
    }

    /// Publishes an event: JSON text in, an entry of the ledger, with the call's time.
    ///
    /// # Errors
    ///
    /// If topic or payload are not valid, or there are too many events.
    pub fn publish(
        &mut self,
        space: &Space,
        limits: &Limits,
        room: &str,
        topic: &str,
        payload: &str,
    ) -> Result<(), PublishError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if topic.is_empty() || topic.len() > limits.topic || !topic.bytes().all(allowed) {
            return Err(PublishError::InvalidTopic);
        }
        if payload.len() > limits.payload {
            let text = format!("a payload has at most {} bytes", limits.payload);
            return Err(PublishError::InvalidPayload(text));
        }
        if self.events.len() >= limits.events || space.is_behind() {
            return Err(PublishError::QuotaExceeded(limits.events));
        }
        let payload = serde_json::from_str(payload)
            .map_err(|error| PublishError::InvalidPayload(error.to_string()))?;
        self.events.push(Event {
            id: Uuid::now_v7(),
            room: room.into(),
            topic: topic.into(),
            payload,
        });
        Ok(())
    }

    /// The topic and the payload of each event that the call has published so far.
    pub fn events(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.events
            .iter()
            .map(|event| (&*event.topic, &event.payload))
    }

    /// The events as the ledger will have them.
    pub(in crate::store) fn drafts(&self, owner: &str) -> Vec<Draft> {
        let draft = |event: &Event| {
            Draft::new(&Said {
                at: self.now,
                id: event.id,
                plugin: Some(owner),
                room: &event.room,
                user: self.about.user,
                producer: self.about.producer,
                topic: &event.topic,
                payload: &event.payload,
            })
        };
        self.events.iter().map(draft).collect()
    }
}

//! Events that a call publishes.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::Staged;
use crate::{
    model::UnixMs,
    store::{Limits, PublishError, Space},
};

pub(super) struct Event {
    id: Uuid,
    room: Box<str>,
    topic: Box<str>,
    payload: Value,
}

#[derive(Serialize)]
struct Line<'a> {
    at: UnixMs,
    id: Uuid,
    plugin: &'a str,
    room: &'a str,
    topic: &'a str,
    payload: &'a Value,
}

impl Event {
    fn line(&self, at: UnixMs, owner: &str) -> Box<[u8]> {
        let line = Line {
            at,
            id: self.id,
            plugin: owner,
            room: &self.room,
            topic: &self.topic,
            payload: &self.payload,
        };
        // Strings, numbers and a JSON value always serialise.
        serde_json::to_vec(&line)
            .unwrap_or_default()
            .into_boxed_slice()
    }
}

impl Staged {
    /// Publishes an event: JSON text in, one line in the file, with the call's time.
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

    /// The events as they will be in the file.
    pub(in crate::store) fn lines(&self, owner: &str) -> Vec<Box<[u8]>> {
        let line = |event: &Event| event.line(self.now, owner);
        self.events.iter().map(line).collect()
    }
}

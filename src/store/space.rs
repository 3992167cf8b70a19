//! One owner's keys in memory, and changes to them that are not applied yet.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use parking_lot::RwLock;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    NotSaved,
    writer::{Backlog, Progress},
};
use crate::model::UnixMs;

/// How much one owner may keep, and how much one [`Staged`] set may change. Sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest key.
    pub key: usize,
    /// Longest value.
    pub value: usize,
    /// Keys of one owner.
    pub keys: usize,
    /// Keys and values of one owner together.
    pub total: usize,
    /// Keys that one set may change.
    pub changes: usize,
    /// Bytes that one set may write.
    pub changed: usize,
    /// Keys in one listing.
    pub listed: usize,
    /// Events that one set may publish.
    pub events: usize,
    /// Longest payload of an event.
    pub payload: usize,
    /// Longest topic, in characters.
    pub topic: usize,
}

/// Why a key cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is empty or longer than this many bytes.
    #[error("a key has 1 to {0} bytes")]
    InvalidKey(usize),
    /// The value is longer than this many bytes.
    #[error("a value has at most {0} bytes")]
    ValueTooLarge(usize),
    /// A limit on number or size is reached; the sentence says which.
    #[error("{0}")]
    QuotaExceeded(String),
}

/// Why an event cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The topic is empty, too long, or has other characters than `a-z 0-9 . _ -`.
    #[error("a topic has 1 to 128 characters of a-z 0-9 . _ -")]
    InvalidTopic,
    /// The payload is no JSON, or too long.
    #[error("{0}")]
    InvalidPayload(String),
    /// The set is over this number of events, or the disk does not keep up.
    #[error("at most {0} events can be published at once")]
    QuotaExceeded(usize),
}

type Values = BTreeMap<String, Arc<[u8]>>;

/// A key's new value, or `None` where it is deleted.
pub(super) type Change = Option<Arc<[u8]>>;

/// One owner's keys.
pub struct Space {
    owner: Arc<str>,
    kept: RwLock<Kept>,
    backlog: Arc<Backlog>,
    progress: watch::Receiver<Progress>,
}

struct Kept {
    values: Values,
    bytes: usize,
}

impl Space {
    pub(super) fn new(
        owner: &str,
        values: Values,
        backlog: Arc<Backlog>,
        progress: watch::Receiver<Progress>,
    ) -> Self {
        let bytes = values
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        Self {
            owner: owner.into(),
            kept: RwLock::new(Kept { values, bytes }),
            backlog,
            progress,
        }
    }

    /// Bytes of keys and values together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept.read().bytes
    }

    /// Applies the changes as a whole. `None` if there were none to keys.
    ///
    /// Every reader sees them when this returns; [`Saved::wait`] tells when they are on disk.
    pub fn apply(&self, staged: Staged) -> Option<Saved> {
        if staged.is_empty() {
            return None;
        }
        let Staged {
            changes, events, ..
        } = staged;
        let keys_changed = !changes.is_empty();
        let lines = events.iter().map(|event| event.line(&self.owner)).collect();
        // Under the backlog's lock, so that the disk sees the sets in the order of memory.
        let sequence = self.backlog.add(&self.owner, changes, lines, |changes| {
            let mut kept = self.kept.write();
            for (key, change) in changes {
                kept.set(key, change.clone());
            }
        });
        keys_changed.then(|| Saved {
            sequence,
            progress: self.progress.clone(),
        })
    }
}

impl Kept {
    fn set(&mut self, key: &str, value: Change) {
        let before = match value {
            Some(value) => {
                self.bytes += key.len() + value.len();
                self.values.insert(key.to_owned(), value)
            }
            None => self.values.remove(key),
        };
        if let Some(before) = before {
            self.bytes = self.bytes.saturating_sub(key.len() + before.len());
        }
    }
}

/// A claim to be told when a set of changes is on the disk.
#[derive(Debug)]
pub struct Saved {
    sequence: u64,
    progress: watch::Receiver<Progress>,
}

impl Saved {
    /// Waits for the disk.
    ///
    /// # Errors
    ///
    /// If that takes longer than the limit. The changes remain applied and are still tried.
    pub async fn wait(mut self, limit: Duration) -> Result<(), NotSaved> {
        let reached = self.progress.wait_for(|now| now.saved >= self.sequence);
        match tokio::time::timeout(limit, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotSaved),
        }
    }
}

/// Changes and events that [`Space::apply`] will apply, and a view of the keys as they will
/// then be. Dropping it leaves no trace.
#[derive(Default)]
pub struct Staged {
    changes: BTreeMap<String, Change>,
    changed: usize,
    /// Keys that there will be more (or, negative, fewer).
    more_keys: isize,
    more_bytes: isize,
    events: Vec<Event>,
}

struct Event {
    at: UnixMs,
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
    fn line(&self, owner: &str) -> Box<[u8]> {
        let line = Line {
            at: self.at,
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
    /// Whether there is nothing to apply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.events.is_empty()
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// If the key is empty or too long.
    pub fn get(
        &self,
        space: &Space,
        limits: &Limits,
        key: &str,
    ) -> Result<Option<Arc<[u8]>>, KeyError> {
        check_key(limits, key)?;
        Ok(match self.changes.get(key) {
            Some(change) => change.clone(),
            None => space.kept.read().values.get(key).cloned(),
        })
    }

    /// Sets a key (`None` deletes it).
    ///
    /// # Errors
    ///
    /// If key or value is too long, or a limit on number or size would be passed. Nothing is
    /// changed then.
    pub fn set(
        &mut self,
        space: &Space,
        limits: &Limits,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), KeyError> {
        check_key(limits, key)?;
        if let Some(value) = value
            && value.len() > limits.value
        {
            return Err(KeyError::ValueTooLarge(limits.value));
        }
        let size = key.len() + value.map_or(0, <[u8]>::len);
        if self.changed + size > limits.changed {
            return quota(format!("a call may write {} bytes", limits.changed));
        }
        if self.changes.len() >= limits.changes && !self.changes.contains_key(key) {
            return quota(format!("a call may change {} keys", limits.changes));
        }
        if space.backlog.is_full() {
            return quota("the disk does not keep up".to_owned());
        }
        let (more_keys, more_bytes) = {
            let kept = space.kept.read();
            let staged = self.changes.get(key);
            let before = match staged {
                Some(change) => change.as_deref(),
                None => kept.values.get(key).map(|value| &**value),
            };
            if staged.is_none() && before == value {
                // Nothing to bring to the disk, so nothing for an answer to wait for.
                return Ok(());
            }
            let keys = isize::from(value.is_some()) - isize::from(before.is_some());
            let bytes = value.map_or(0, |value| signed(key.len() + value.len()))
                - before.map_or(0, |before| signed(key.len() + before.len()));
            let (more_keys, more_bytes) = (self.more_keys + keys, self.more_bytes + bytes);
            if keys > 0 && signed(kept.values.len()) + more_keys > signed(limits.keys) {
                return quota(format!("the plugin may keep {} keys", limits.keys));
            }
            if bytes > 0 && signed(kept.bytes) + more_bytes > signed(limits.total) {
                return quota(format!("the plugin may keep {} bytes", limits.total));
            }
            (more_keys, more_bytes)
        };
        self.changed += size;
        self.more_keys = more_keys;
        self.more_bytes = more_bytes;
        self.changes.insert(key.to_owned(), value.map(Arc::from));
        Ok(())
    }

    /// Keys that start with the prefix, in byte order, those after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// If prefix or `after` is longer than a key can be.
    pub fn list(
        &self,
        space: &Space,
        limits: &Limits,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, KeyError> {
        if prefix.len() > limits.key || after.is_some_and(|after| after.len() > limits.key) {
            return Err(KeyError::InvalidKey(limits.key));
        }
        let limit = limit.min(limits.listed);
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = (start, Bound::Unbounded);
        let kept = space.kept.read();
        let mut kept = kept
            .values
            .range::<str, _>(range)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .filter(|key| !self.changes.contains_key(*key))
            .peekable();
        let mut staged = self
            .changes
            .range::<str, _>(range)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, change)| change.is_some().then_some(key))
            .peekable();
        let mut keys = Vec::new();
        while keys.len() < limit {
            let next = match (kept.peek(), staged.peek()) {
                (Some(left), Some(right)) if left < right => kept.next(),
                (_, Some(_)) => staged.next(),
                (_, None) => kept.next(),
            };
            match next {
                Some(key) => keys.push(key.clone()),
                None => break,
            }
        }
        Ok(keys)
    }

    /// Publishes an event: JSON text in, one line in the file.
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
        if self.events.len() >= limits.events || space.backlog.is_full() {
            return Err(PublishError::QuotaExceeded(limits.events));
        }
        let payload = serde_json::from_str(payload)
            .map_err(|error| PublishError::InvalidPayload(error.to_string()))?;
        let (at, id) = (UnixMs::now(), Uuid::now_v7());
        self.events.push(Event {
            at,
            id,
            room: room.into(),
            topic: topic.into(),
            payload,
        });
        Ok(())
    }
}

fn check_key(limits: &Limits, key: &str) -> Result<(), KeyError> {
    if key.is_empty() || key.len() > limits.key {
        return Err(KeyError::InvalidKey(limits.key));
    }
    Ok(())
}

fn quota<T>(text: String) -> Result<T, KeyError> {
    Err(KeyError::QuotaExceeded(text))
}

fn signed(number: usize) -> isize {
    isize::try_from(number).unwrap_or(isize::MAX)
}

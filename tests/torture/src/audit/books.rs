//! The ledger, by producer.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::Audit;

/// An entry.
#[derive(Debug, Deserialize)]
pub(super) struct Entry<'a> {
    #[serde(skip)]
    pub(super) line: &'a str,
    pub(super) seq: u64,
    pub(super) id: String,
    pub(super) plugin: Option<String>,
    pub(super) topic: String,
    pub(super) room: String,
    pub(super) user: Option<u64>,
    pub(super) producer: Option<String>,
    pub(super) payload: Value,
}

impl Entry<'_> {
    pub(super) fn is_billing(&self) -> bool {
        self.topic.starts_with("billing.")
    }

    pub(super) fn number(&self, pointer: &str) -> Option<u64> {
        self.payload.pointer(pointer)?.as_u64()
    }

    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.payload.pointer(pointer)?.as_str()
    }
}

/// What is read of the ledger.
#[derive(Debug, Default)]
pub(super) struct Books<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    /// Places of entries, by topic and producer. What the guest was told is found by the fact.
    by_topic: HashMap<(String, String), Vec<usize>>,
}

impl<'a> Books<'a> {
    pub(super) fn read(lines: &'a [String], audit: &mut Audit) -> Self {
        let mut books = Self::default();
        for line in lines {
            match serde_json::from_str::<Entry<'_>>(line) {
                Ok(entry) => books.add(Entry { line, ..entry }),
                Err(why) => audit.found("one book", format!("{line}: {why}"), &[]),
            }
        }
        books
    }

    fn add(&mut self, entry: Entry<'a>) {
        let key = if entry.topic == "fixture.told" {
            told(&entry)
        } else if entry.is_billing() {
            let producer = entry.text("/producerId").unwrap_or_default();
            Some((entry.topic.clone(), producer.to_owned()))
        } else {
            let producer = entry.producer.clone();
            producer.map(|producer| (entry.topic.clone(), producer))
        };
        if let Some(key) = key {
            let place = self.entries.len();
            self.by_topic.entry(key).or_default().push(place);
        }
        self.entries.push(entry);
    }

    /// Entries of this topic and producer, in order.
    pub(super) fn of(&self, topic: &str, producer: &str) -> Vec<&Entry<'a>> {
        let places = self.by_topic.get(&(topic.to_owned(), producer.to_owned()));
        let places = places.map(Vec::as_slice).unwrap_or_default();
        places
            .iter()
            .filter_map(|&at| self.entries.get(at))
            .collect()
    }

    /// All entries of a topic.
    pub(super) fn all(&self, topic: &str) -> impl Iterator<Item = &Entry<'a>> {
        self.entries
            .iter()
            .filter(move |entry| entry.topic == topic)
    }

    pub(super) fn number(&self, topic: &str) -> u64 {
        self.all(topic).count() as u64
    }
}

/// `on-first-rtp USER PRODUCER` is what the guest says when it is told of a first packet.
fn told(entry: &Entry<'_>) -> Option<(String, String)> {
    let mut words = entry.payload.as_str()?.split(' ');
    let (hook, _, producer) = (words.next()?, words.next()?, words.next()?);
    Some((hook.to_owned(), producer.to_owned()))
}

//! A participant's events on their way to its client: numbered, and kept for a
//! while after they went out, so that a client that missed some can be told again.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, mem, sync::Arc};

use serde_json::Value;

use crate::room::{Departure, Event, Inbox};

/// What the events that are kept for one participant may hold together. They are
/// shared by all participants who were told.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// An inbox, with a memory if its client may come back.
pub(in crate::signal) struct Tape {
    inbox: Inbox,
    memory: Option<Memory>,
}

/// Which events a client may still be told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::signal) struct Reach {
    /// The lowest `lastSeq` after which nothing is missing.
    pub(in crate::signal) lowest: u64,
    /// The number of the last event that went out.
    pub(in crate::signal) highest: u64,
}

/// Events with consecutive numbers that end with `last`.
struct Memory {
    /// Which events the face tells its clients: only these have numbers.
    tells: fn(&Event) -> bool,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    max_events: usize,
    last: u64,
    /// The number of the last event that went out.
    told: u64,
}

impl Tape {
    /// Events without numbers: nothing is kept.
    pub(in crate::signal) fn plain(inbox: Inbox) -> Self {
        let memory = None;
        Self { inbox, memory }
    }

    /// Events with numbers from 1. At most `max_events` that went out are kept.
    pub(in crate::signal) fn numbered(
        inbox: Inbox,
        max_events: usize,
        tells: fn(&Event) -> bool,
    ) -> Self {
        let memory = Some(Memory {
            tells,
            events: VecDeque::new(),
            bytes: 0,
            max_events,
            last: 0,
            told: 0,
        });
        Self { inbox, memory }
    }

    /// The next event to tell, with its number; `None` after the last one. A
    /// numbered event is the next one until [`Tape::told`], so nothing is lost if
    /// this, or the telling, is cancelled.
    pub(in crate::signal) async fn next(&mut self) -> Option<(Arc<Event>, Option<u64>)> {
        loop {
            if let Some((event, seq)) = self.memory.as_ref().and_then(Memory::untold) {
                return Some((event, Some(seq)));
            }
            let event = self.inbox.next().await?;
            match &mut self.memory {
                Some(memory) => memory.keep(event),
                None => return Some((event, None)),
            }
        }
    }

    /// The event that was next has gone out.
    pub(in crate::signal) fn told(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.told = memory.last.min(memory.told + 1);
        }
    }

    /// Why the participant was removed; `None` if the room itself ended.
    pub(in crate::signal) fn end(&self) -> Option<&Departure> {
        self.inbox.end()
    }

    /// From where on the client can be told everything again.
    pub(in crate::signal) fn reach(&self) -> Reach {
        let Some(memory) = &self.memory else {
            return Reach {
                lowest: 0,
                highest: 0,
            };
        };
        Reach {
            lowest: memory.before_first(),
            highest: memory.told,
        }
    }

    /// Makes the event after `last_seq`, which is within reach, the next one: how
    /// many there are to tell by now.
    pub(in crate::signal) fn rewind(&mut self, last_seq: u64) -> u64 {
        let Some(memory) = &mut self.memory else {
            return 0;
        };
        while memory.before_first() < last_seq && memory.forget_first() {}
        memory.told = last_seq;
        // As many as the inbox holds come on top of what may be kept; what the
        // client has not been told is never forgotten for room.
        while let Some(event) = self.inbox.waiting() {
            memory.keep(event);
        }
        memory.last.saturating_sub(last_seq)
    }
}

impl Memory {
    /// The number before the first event that is kept.
    fn before_first(&self) -> u64 {
        let kept = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        self.last.saturating_sub(kept)
    }

    fn untold(&self) -> Option<(Arc<Event>, u64)> {
        let place = self.told.checked_sub(self.before_first())?;
        let event = self.events.get(usize::try_from(place).ok()?)?;
        Some((Arc::clone(event), self.told + 1))
    }

    fn keep(&mut self, event: Arc<Event>) {
        if !(self.tells)(&event) {
            return;
        }
        self.bytes += weight(&event);
        self.events.push_back(event);
        self.last += 1;
        while (self.events.len() > self.max_events || self.bytes > MAX_KEPT_BYTES)
            && self.before_first() < self.told
            && self.forget_first()
        {}
    }

    fn forget_first(&mut self) -> bool {
        let first = self.events.pop_front();
        if let Some(event) = &first {
            self.bytes -= weight(event);
        }
        first.is_some()
    }
}

/// About how many bytes an event holds.
fn weight(event: &Event) -> usize {
    let more = match event {
        Event::Plugin { payload, .. } => size(payload),
        Event::Broadcast { data, .. } => size(data),
        Event::NewProducer { attached, .. } => attached
            .iter()
            .map(|(name, value)| name.len() + size(value))
            .sum(),
        Event::Speaking { speakers, .. } => mem::size_of_val(speakers.as_slice()),
        _ => 0,
    };
    mem::size_of::<Event>() + more
}

fn size(value: &Value) -> usize {
    let more = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| name.len() + size(value))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    mem::size_of::<Value>() + more
}

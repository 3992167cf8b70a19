//! The rules, in the order of the crate's description.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    Audit, Evidence,
    books::{Books, Entry},
};
use crate::witness::{How, Nanos, Take};

/// What a server says of a session that a kill cut off.
const RECOVERED: &str = "recovered";

/// A speaker's packets a second.
const PACKETS: u64 = 50;

/// What a heartbeat and a write may be late on a machine that does all this at once, and for
/// how long somebody may have been muted, of whom nothing is proven meanwhile.
const LATE: Duration = Duration::from_secs(2);

/// Clocks of two processes are read one after the other.
const MILLISECONDS: u64 = 50;

fn millis(at: Nanos) -> u64 {
    u64::try_from(at / 1_000_000).unwrap_or_default()
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Rule 1: what was observed is billed, but for what the window allows.
pub(super) fn heard_is_billed(evidence: &Evidence<'_>, books: &Books<'_>, audit: &mut Audit) {
    for take in evidence.takes {
        let Some(observed) = take.observed_at() else {
            continue;
        };
        if !books.of("billing.started", &take.producer).is_empty() {
            continue;
        }
        match take.before_death(observed) {
            Some(before) if before < evidence.window && take.announced_at.is_none() => {
                let counts = &mut audit.counts;
                counts.forgotten += 1;
                counts.forgotten_for_ms = counts.forgotten_for_ms.max(whole_millis(before));
            }
            before => {
                let facts = books.of("media.first-rtp", &take.producer);
                let death = before.map_or("of a server that was not killed".to_owned(), |before| {
                    format!("{} ms before the kill", before.as_millis())
                });
                let why = format!(
                    "{} was observed (heard: {}, announced: {}) {death}, and never started; in \
                     the journal: {}",
                    take.producer,
                    take.heard_at.is_some(),
                    take.announced_at.is_some(),
                    facts.len(),
                );
                audit.found("heard is billed", why, &facts);
            }
        }
    }
}

/// Rule 2: what is billed was sent, once, and by whom it is said.
pub(super) fn billed_was_sent(evidence: &Evidence<'_>, books: &Books<'_>, audit: &mut Audit) {
    let takes: HashMap<&str, &Take> = evidence
        .takes
        .iter()
        .map(|take| (take.producer.as_str(), take))
        .collect();
    let mut seen = HashSet::new();
    for entry in books.all("billing.started") {
        let producer = entry.text("/producerId").unwrap_or_default();
        let mut found = |why: &str| {
            let why = format!("{producer}: {why}");
            audit.found("billed was sent", why, &[entry]);
        };
        let Some(take) = takes.get(producer) else {
            found("no client has this producer");
            continue;
        };
        if take.sent == 0 {
            found("nothing was sent of it");
        }
        let who = (entry.number("/userId"), entry.text("/roomId"));
        if who != (Some(take.user), Some(&*take.room))
            || (entry.user, &*entry.room) != (Some(take.user), &*take.room)
        {
            found("is another user's, or of another room");
        }
        // The first packet cannot have come before it was sent.
        let sent = take.sent_at.map(millis);
        if entry.number("/at") < sent.map(|sent| sent.saturating_sub(MILLISECONDS)) {
            found("began before anything was sent");
        }
        if !seen.insert(producer) {
            let all = books.of("billing.started", producer);
            audit.found(
                "billed was sent",
                format!("{producer}: started twice"),
                &all,
            );
        }
    }
}

/// Rule 3: what started ends, once, and for the reason that there was.
pub(super) fn one_end(evidence: &Evidence<'_>, books: &Books<'_>, audit: &mut Audit) {
    for take in evidence.takes {
        let started = books.of("billing.started", &take.producer);
        let stopped = books.of("billing.stopped", &take.producer);
        let mut found = |why: String| {
            let all: Vec<&Entry<'_>> = started.iter().chain(&stopped).copied().collect();
            audit.found("one end", format!("{}: {why}", take.producer), &all);
        };
        let (begin, end) = match (started.first(), &stopped[..]) {
            (Some(begin), [end]) => (begin, end),
            (None, []) => continue,
            (None, _) => {
                found("stopped and never started".to_owned());
                continue;
            }
            (Some(_), ends) => {
                found(format!("has {} ends", ends.len()));
                continue;
            }
        };
        if end.seq < begin.seq {
            found("stopped before it started".to_owned());
        }
        let is_recovered = end.text("/reason") == Some(RECOVERED);
        if is_recovered {
            if let Some(why) = unfounded(evidence, take, end) {
                found(why);
            }
        } else if take.end.is_none() {
            found("its client did not end it, and no kill did".to_owned());
        }
        audit.counts.recovered += u64::from(is_recovered);
        audit.counts.billed_ms += end.number("/billedMs").unwrap_or_default();
    }
}

/// What is wrong with a session that is said to have been cut off by a kill.
fn unfounded(evidence: &Evidence<'_>, take: &Take, end: &Entry<'_>) -> Option<String> {
    let Some(killed) = take.killed_at else {
        return Some("recovered, and no server was killed under it".to_owned());
    };
    let asked = take.end.and_then(|end| take.before_death(end.at));
    if let Some(before) = asked.filter(|before| *before >= evidence.window) {
        let before = before.as_millis();
        return Some(format!(
            "recovered, and it had ended {before} ms before the kill"
        ));
    }
    let Some(ended) = end.number("/endedAt") else {
        return Some("recovered, and nobody knows when it ended".to_owned());
    };
    let killed = millis(killed);
    if ended > killed + MILLISECONDS {
        return Some(format!("ended {} ms after the kill", ended - killed));
    }
    let proven = whole_millis(evidence.heartbeat + LATE);
    let began = end.number("/startedAt").unwrap_or_default();
    // What had just been muted has its last proof from before that.
    let lost = killed.saturating_sub(ended.max(began));
    (lost > proven && ended > began)
        .then(|| format!("ended {lost} ms before the kill, and heartbeats are more frequent"))
}

/// Rule 4: one sequence, and the receiver has its part of it.
pub(super) fn one_book(evidence: &Evidence<'_>, books: &Books<'_>, audit: &mut Audit) {
    let rule = "one book";
    for why in evidence.pages.wrong.iter().chain(&evidence.book.wrong) {
        audit.found(rule, why.clone(), &[]);
    }
    let mut ids: HashMap<&str, &Entry<'_>> = HashMap::new();
    for entry in &books.entries {
        if let Some(other) = ids.insert(&entry.id, entry) {
            let why = format!("two entries have the id {}", entry.id);
            audit.found(rule, why, &[other, entry]);
        }
    }
    for entry in books.entries.iter().filter(|entry| entry.is_billing()) {
        match evidence.book.taken.get(&entry.id) {
            Some(text) if text == entry.line => {}
            Some(text) => {
                let why = format!("entry {} came to the receiver as {text}", entry.seq);
                audit.found(rule, why, &[entry]);
            }
            None => {
                let why = format!("entry {} did not come to the receiver", entry.seq);
                audit.found(rule, why, &[entry]);
            }
        }
    }
    for (id, text) in &evidence.book.taken {
        if !ids.contains_key(&**id) {
            let why = format!("the receiver has what the ledger has not: {text}");
            audit.found(rule, why, &[]);
        }
    }
}

/// Rule 5: recorded facts are there once, and so is what the guest made of them.
pub(super) fn facts_once(books: &Books<'_>, audit: &mut Audit) {
    let told = [
        ("media.first-rtp", "on-first-rtp"),
        ("media.closed", "on-producer-closed"),
    ];
    for (topic, hook) in told {
        for entry in books.all(topic) {
            let producer = entry.producer.as_deref().unwrap_or_default();
            let facts = books.of(topic, producer);
            if facts.len() > 1 {
                let why = format!("{producer}: {topic} is there {} times", facts.len());
                audit.found("facts are told once", why, &facts);
            }
            let effects = books.of(hook, producer);
            if effects.len() != 1 {
                let why = format!("{producer}: {hook} had effects {} times", effects.len());
                audit.found(
                    "facts are told once",
                    why,
                    &[&[entry], &effects[..]].concat(),
                );
            }
        }
    }
    for entry in books.all("media.first-rtp") {
        let producer = entry.producer.as_deref().unwrap_or_default();
        if books.of("media.closed", producer).is_empty() {
            let why = format!("{producer}: began and never closed");
            audit.found("facts are told once", why, &[entry]);
        }
    }
}

/// Rule 6: the packets that are counted are those that were sent.
pub(super) fn sums_agree(evidence: &Evidence<'_>, books: &Books<'_>, audit: &mut Audit) {
    for take in evidence.takes {
        let closed = books.of("media.closed", &take.producer);
        let began = !books.of("media.first-rtp", &take.producer).is_empty();
        let ([entry], true) = (&closed[..], began) else {
            continue;
        };
        let counted = entry.number("/media/packets").unwrap_or_default();
        audit.counts.packets_sent += take.sent;
        audit.counts.packets_counted += counted;
        let recovered = entry.text("/reason") == Some(RECOVERED);
        let unproven = evidence.heartbeat + LATE;
        let least = match take.end {
            _ if recovered => take
                .sent
                .saturating_sub(unproven.as_secs().saturating_mul(PACKETS)),
            Some(end) => end.least,
            None => 0,
        };
        let is_exact = !recovered && take.end.is_some_and(|end| end.how == How::Quiet);
        audit.counts.counted_exactly += u64::from(is_exact);
        if counted < least || counted > take.sent {
            let why = format!(
                "{}: {counted} packets are counted; {} were sent, of which {least} must be",
                take.producer, take.sent
            );
            audit.found("sums agree", why, &[entry]);
        }
    }
}

/// Rule 7: what is billed is as long as clients saw it.
pub(super) fn time_agrees(evidence: &Evidence<'_>, books: &Books<'_>, audit: &mut Audit) {
    for take in evidence.takes {
        let stopped = books.of("billing.stopped", &take.producer);
        let ([entry], Some(flowed)) = (&stopped[..], take.flowed()) else {
            continue;
        };
        // That a kill came before the server took the end is another rule's.
        if entry.text("/reason") == Some(RECOVERED) {
            continue;
        }
        let billed = Duration::from_millis(entry.number("/billedMs").unwrap_or_default());
        let counts = &mut audit.counts;
        counts.timed += 1;
        counts.timed_ms += whole_millis(flowed);
        counts.timed_billed_ms += whole_millis(billed);
        if billed.abs_diff(flowed) > LATE {
            let why = format!(
                "{}: {} ms are billed, and its client has seen {}",
                take.producer,
                billed.as_millis(),
                flowed.as_millis()
            );
            audit.found("time agrees", why, &[entry]);
        }
    }
}

//! What clients know of what happened: the side of the books that the server has no hand in.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use voice_room_load::{Voice, media::Report};

/// Packets of a second: whoever speaks until the end may have sent so many that the server
/// has not yet taken.
const SECOND: u64 = 50;

/// Nanoseconds since 1970: the clock of the kernel's stamps.
pub type Nanos = i64;

pub(crate) fn now() -> Nanos {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(Nanos::MAX)
}

/// How its client ended a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It closed it, silent for a while before.
    Quiet,
    /// It closed or replaced it, or left or vanished, while it sent.
    Sending,
}

/// How and when its client ended a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// How.
    pub how: How,
    /// When it asked for it, or went.
    pub at: Nanos,
    /// So many packets the server must have taken at least.
    pub least: u64,
}

/// What is known of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// Its id.
    pub producer: String,
    /// Whose it is.
    pub user: u64,
    /// Where.
    pub room: String,
    /// In which life of the server.
    pub life: u32,
    /// When its first packet was sent.
    pub sent_at: Option<Nanos>,
    /// Its client muted it before it sent anything.
    pub muted_first: bool,
    /// When its client asked to unmute it, if it was muted first.
    pub unmuted_at: Option<Nanos>,
    /// Since when its client has muted it, having sent before.
    pub muted_since: Option<Nanos>,
    /// For how long it was muted so before.
    pub muted_for: Nanos,
    /// When a packet of it first reached a listener.
    pub heard_at: Option<Nanos>,
    /// When a client was first told of its first packet.
    pub announced_at: Option<Nanos>,
    /// How its client ended it; none if it did not.
    pub end: Option<End>,
    /// When the server of its life was killed; none of the last one.
    pub killed_at: Option<Nanos>,
    /// All packets that were sent.
    pub sent: u64,
}

impl Take {
    /// A producer of which nothing is known but that it is there.
    #[must_use]
    pub fn new(producer: &str, user: u64, room: &str, life: u32) -> Self {
        Self {
            producer: producer.to_owned(),
            user,
            room: room.to_owned(),
            life,
            sent_at: None,
            muted_first: false,
            unmuted_at: None,
            muted_since: None,
            muted_for: 0,
            heard_at: None,
            announced_at: None,
            end: None,
            killed_at: None,
            sent: 0,
        }
    }

    /// When its first packet was observed. What slips through while it is muted is no
    /// beginning.
    #[must_use]
    pub fn observed_at(&self) -> Option<Nanos> {
        // What was on its way when the server was killed was sent before.
        let told = self.announced_at;
        let told = told.map(|told| self.killed_at.map_or(told, |killed| told.min(killed)));
        let heard = match (self.muted_first, self.unmuted_at) {
            (false, _) => self.heard_at,
            (true, unmuted) => self
                .heard_at
                .zip(unmuted)
                .map(|(heard, since)| heard.max(since)),
        };
        [heard, told].into_iter().flatten().min()
    }

    /// For how long it was heard and not muted until its client ended it, by the client's clock.
    #[must_use]
    pub fn flowed(&self) -> Option<Duration> {
        let end = self.end?.at;
        let muted = self
            .muted_since
            .map_or(0, |since| end.saturating_sub(since));
        let flowed = end - self.observed_at()? - self.muted_for - muted;
        Some(Duration::from_nanos(u64::try_from(flowed).unwrap_or(0)))
    }

    /// How long before the server's death something happened; none if it has not died.
    #[must_use]
    pub fn before_death(&self, at: Nanos) -> Option<Duration> {
        let before = u64::try_from(self.killed_at?.saturating_sub(at));
        Some(Duration::from_nanos(before.unwrap_or(0)))
    }
}

/// All that clients know, of all lives.
#[derive(Debug, Default)]
pub(crate) struct Witness(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    takes: Vec<Take>,
    /// What each sends; none once its server has been killed.
    voices: Vec<Option<Arc<Voice>>>,
    by_voice: HashMap<u32, usize>,
    by_producer: HashMap<String, usize>,
    /// Steps that failed, which is nothing wrong with a server that is killed.
    failures: HashMap<String, u64>,
}

impl Witness {
    /// A producer that was made and of which nothing has been sent.
    pub(crate) fn produced(&self, take: Take, voice: &Arc<Voice>) {
        let mut seen = self.0.lock();
        let at = seen.takes.len();
        seen.by_voice.insert(voice.ssrc(), at);
        seen.by_producer.insert(take.producer.clone(), at);
        seen.takes.push(take);
        seen.voices.push(Some(Arc::clone(voice)));
    }

    /// Its client begins to send.
    pub(crate) fn sends(&self, producer: &str) {
        self.change(producer, |take, _| {
            take.sent_at.get_or_insert_with(now);
        });
    }

    /// Its client muted it, and has not sent anything.
    pub(crate) fn muted(&self, producer: &str) {
        self.change(producer, |take, _| take.muted_first = true);
    }

    /// Its client is about to unmute it.
    pub(crate) fn unmutes(&self, producer: &str) {
        self.change(producer, |take, _| {
            take.unmuted_at.get_or_insert_with(now);
        });
    }

    /// Its client has muted it while it sent.
    pub(crate) fn falls_silent(&self, producer: &str) {
        self.change(producer, |take, _| take.muted_since = Some(now()));
    }

    /// That is about to be over.
    pub(crate) fn goes_on(&self, producer: &str) {
        self.change(producer, |take, _| {
            let since = take.muted_since.take();
            take.muted_for += since.map_or(0, |since| now() - since);
        });
    }

    /// A client was told of its first packet.
    pub(crate) fn announced(&self, producer: &str) {
        self.change(producer, |take, _| {
            take.announced_at.get_or_insert_with(now);
        });
    }

    /// Its client is about to end it, silent or sending.
    pub(crate) fn ends(&self, producer: &str, how: How) {
        self.change(producer, |take, voice| {
            let sent = sent(voice);
            let late = if how == How::Quiet { 0 } else { SECOND };
            take.end = Some(End {
                how,
                at: now(),
                least: sent.saturating_sub(late),
            });
        });
    }

    /// The server of this life was killed: what is sent from now on, nobody takes.
    pub(crate) fn killed(&self, life: u32, at: Nanos) {
        let mut seen = self.0.lock();
        let Seen { takes, voices, .. } = &mut *seen;
        let all = takes.iter_mut().zip(voices);
        for (take, voice) in all.filter(|(take, _)| take.life == life) {
            take.killed_at = Some(at);
            take.sent = sent(voice.take().as_deref());
        }
    }

    /// What listeners have heard.
    pub(crate) fn heard(&self, report: &Report) {
        let mut seen = self.0.lock();
        let Seen {
            takes, by_voice, ..
        } = &mut *seen;
        let receptions = report.receptions.iter().filter(|one| one.verified > 0);
        for reception in receptions {
            let at = by_voice.get(&reception.voice);
            let take = at.and_then(|&at| takes.get_mut(at));
            if let Some((take, first)) = take.zip(reception.first_at_ns) {
                take.heard_at = Some(take.heard_at.map_or(first, |before| before.min(first)));
            }
        }
    }

    /// A step of a participant failed.
    pub(crate) fn failed(&self, why: &impl ToString) {
        *self.0.lock().failures.entry(why.to_string()).or_default() += 1;
    }

    /// Everything so far.
    pub(crate) fn takes(&self) -> Vec<Take> {
        let seen = self.0.lock();
        let mut takes = seen.takes.clone();
        for (take, voice) in takes.iter_mut().zip(&seen.voices) {
            if voice.is_some() {
                take.sent = sent(voice.as_deref());
            }
        }
        takes
    }

    pub(crate) fn failures(&self) -> HashMap<String, u64> {
        self.0.lock().failures.clone()
    }

    fn change(&self, producer: &str, change: impl FnOnce(&mut Take, Option<&Voice>)) {
        let mut seen = self.0.lock();
        let Seen {
            takes,
            voices,
            by_producer,
            ..
        } = &mut *seen;
        let Some(&at) = by_producer.get(producer) else {
            return;
        };
        if let Some((take, voice)) = takes.get_mut(at).zip(voices.get(at)) {
            change(take, voice.as_deref());
        }
    }
}

fn sent(voice: Option<&Voice>) -> u64 {
    voice.map_or(0, Voice::sent)
}

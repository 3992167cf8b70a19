//! What waits for an instance: bounded, first in, first out.
//!
//! A fact that is to be told again parks its room: later facts of that room wait behind it,
//! so that the room's order holds, and those of other rooms go on.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::oneshot;

use super::{
    call::Input,
    instance::{Answer, Failure},
    limits,
};
use crate::{
    model::{Hook, RoomId},
    store::Saved,
};

/// What an asker gets.
pub(super) type Reply = Result<Applied, Failure>;

/// An answer, and a claim to be told when what the hook wrote is durable.
pub(super) type Applied = (Answer, Option<Saved>);

/// One call to make.
pub(super) enum Job {
    /// Nobody waits for it.
    Fact(Telling),
    /// Somebody waits for it.
    Question {
        input: Arc<Input>,
        claim: Claim,
        reply: oneshot::Sender<Reply>,
    },
}

/// A fact and what became of it so far.
pub(super) struct Telling {
    pub(super) input: Arc<Input>,
    /// Calls that have failed.
    pub(super) tries: u32,
}

impl Telling {
    pub(super) fn new(input: &Arc<Input>) -> Self {
        Self {
            input: Arc::clone(input),
            tries: 0,
        }
    }
}

/// Decides whether a question's call counts: whoever takes it first, the lane, to carry the
/// call out, or the asker, out of patience, to have it undone.
#[derive(Clone, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Whether it was there to be taken.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// What a full queue does with a fact.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// There was a place.
    Whole,
    /// An older change of speakers has made place.
    Forgot,
    /// There was no place.
    Refused,
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    jobs: VecDeque<Job>,
    /// How many of the jobs are questions, and how many tell of speakers.
    questions: usize,
    speaker_changes: usize,
    parked: HashMap<RoomId, VecDeque<Telling>>,
    /// All that the parked rooms hold.
    held: usize,
    /// Parked rooms whose first fact is to be told now.
    released: VecDeque<RoomId>,
}

impl Queue {
    /// Whether there is nothing to be done now.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.released.is_empty()
    }

    /// Jobs, parked ones included.
    pub(super) fn len(&self) -> usize {
        self.jobs.len() + self.held
    }

    /// Adds a fact. Where there is no place, changes of speakers are forgotten first: the
    /// latest one replaces them all. Timers have fewer places: they can be told another time.
    pub(super) fn tell(&mut self, input: &Arc<Input>) -> Pushed {
        let is_change = is_speaker_change(input);
        if is_change && self.parked.contains_key(input.room()) {
            // It would be of the past when its turn comes.
            return Pushed::Refused;
        }
        if is_timer(input) && self.len() >= limits::QUEUED_TIMERS {
            return Pushed::Refused;
        }
        let mut pushed = Pushed::Whole;
        if self.len() >= limits::QUEUE {
            if !self.forget_speaker_change() {
                return Pushed::Refused;
            }
            pushed = Pushed::Forgot;
        }
        let telling = Telling::new(input);
        if let Some(parked) = self.parked.get_mut(input.room()) {
            parked.push_back(telling);
            self.held += 1;
        } else {
            self.speaker_changes += usize::from(is_change);
            self.jobs.push_back(Job::Fact(telling));
        }
        pushed
    }

    /// Adds a question; `None` where there is no place.
    pub(super) fn ask(&mut self, input: &Arc<Input>) -> Option<(Claim, oneshot::Receiver<Reply>)> {
        if self.questions >= limits::QUEUED_QUESTIONS || self.len() >= limits::QUEUE {
            return None;
        }
        let (reply, answered) = oneshot::channel();
        let claim = Claim::default();
        let (input, claimed) = (Arc::clone(input), claim.clone());
        self.questions += 1;
        self.jobs.push_back(Job::Question {
            input,
            claim: claimed,
            reply,
        });
        Some((claim, answered))
    }

    /// The next job.
    pub(super) fn pop(&mut self) -> Option<Job> {
        while let Some(room) = self.released.pop_front() {
            if let Some(telling) = self.parked.get_mut(&room).and_then(VecDeque::pop_front) {
                self.held -= 1;
                return Some(Job::Fact(telling));
            }
            self.parked.remove(&room);
        }
        let job = self.jobs.pop_front()?;
        match &job {
            Job::Question { .. } => self.questions -= 1,
            Job::Fact(telling) => {
                self.speaker_changes -= usize::from(is_speaker_change(&telling.input));
            }
        }
        Some(job)
    }

    /// Keeps a fact, and with it what follows in its room, until the room is released.
    pub(super) fn park(&mut self, telling: Telling) {
        let room = telling.input.room().clone();
        self.held += 1;
        match self.parked.entry(room) {
            Entry::Occupied(mut parked) => parked.get_mut().push_front(telling),
            Entry::Vacant(place) => {
                let is_behind = |job: &Job| matches!(job, Job::Fact(other) if other.input.room() == place.key());
                let (behind, others) = std::mem::take(&mut self.jobs)
                    .into_iter()
                    .partition::<VecDeque<_>, _>(is_behind);
                self.jobs = others;
                let behind = behind.into_iter().filter_map(|job| match job {
                    Job::Fact(telling) => Some(telling),
                    Job::Question { .. } => None,
                });
                let mut parked = VecDeque::from([telling]);
                parked.extend(behind);
                // The first one is no longer counted among the jobs.
                let behind = parked.iter().skip(1);
                let changes = behind.filter(|one| is_speaker_change(&one.input));
                self.speaker_changes -= changes.count();
                self.held += parked.len() - 1;
                place.insert(parked);
            }
        }
    }

    /// A room's first parked fact is to be told now.
    pub(super) fn release(&mut self, room: &RoomId) {
        if self.parked.contains_key(room) && !self.released.contains(room) {
            self.released.push_back(room.clone());
        }
    }

    /// All parked facts are to be told now.
    pub(super) fn release_all(&mut self) {
        let rooms: Vec<RoomId> = self.parked.keys().cloned().collect();
        for room in &rooms {
            self.release(room);
        }
    }

    /// A fact has been dealt with: what its room holds behind it is next.
    pub(super) fn passed(&mut self, room: &RoomId) {
        match self.parked.get(room) {
            Some(parked) if parked.is_empty() => {
                self.parked.remove(room);
            }
            Some(_) => self.release(room),
            None => {}
        }
    }

    /// Answers all questions with the failure; facts stay. How many there were.
    pub(super) fn refuse_questions(&mut self, failure: &Failure) -> usize {
        let before = self.jobs.len();
        for job in std::mem::take(&mut self.jobs) {
            match job {
                // An asker who is gone has no use for it.
                Job::Question { reply, .. } => drop(reply.send(Err(failure.clone()))),
                fact @ Job::Fact(_) => self.jobs.push_back(fact),
            }
        }
        self.questions = 0;
        before - self.jobs.len()
    }

    /// All facts that wait, those of each room in order.
    pub(super) fn into_facts(mut self) -> Vec<Telling> {
        let mut facts: Vec<Telling> = self.parked.into_values().flatten().collect();
        facts.extend(self.jobs.drain(..).filter_map(|job| match job {
            Job::Fact(telling) => Some(telling),
            Job::Question { .. } => None,
        }));
        facts
    }

    fn forget_speaker_change(&mut self) -> bool {
        if self.speaker_changes == 0 {
            return false;
        }
        let is_change =
            |job: &Job| matches!(job, Job::Fact(telling) if is_speaker_change(&telling.input));
        let Some(place) = self.jobs.iter().position(is_change) else {
            return false;
        };
        self.jobs.remove(place);
        self.speaker_changes -= 1;
        true
    }
}

fn is_speaker_change(input: &Input) -> bool {
    input.hook() == Hook::SpeakerChanged
}

fn is_timer(input: &Input) -> bool {
    input.hook() == Hook::OnTimer
}

#[cfg(test)]
mod tests;

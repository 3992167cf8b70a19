//! What waits for an instance: bounded, first in, first out.
//!
//! A fact that is to be told again, or is still on its way to the ledger, parks its room:
//! later facts of that room wait behind it, so that the room's order holds, and those of other
//! rooms, and questions, go on.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, OnceLock,
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
#[derive(Clone)]
pub(super) struct Telling {
    input: Arc<Input>,
    /// Calls that have failed.
    pub(super) tries: u32,
    /// Without it, the fact can be told at once.
    receipt: Option<Receipt>,
    /// Jobs of its kind beside which there is a place for it.
    places: usize,
    /// It has failed, and its time has not come yet.
    rests: bool,
}

/// That a fact is in the ledger, once it is, and as which call it is told then.
pub(super) type Receipt = Arc<OnceLock<Arc<Input>>>;

impl Telling {
    pub(super) fn new(input: &Arc<Input>) -> Self {
        Self {
            input: Arc::clone(input),
            tries: 0,
            receipt: None,
            places: limits::QUEUE,
            rests: false,
        }
    }

    /// A fact that is told when there is the receipt.
    pub(super) fn recorded(input: &Arc<Input>, receipt: &Receipt) -> Self {
        Self {
            receipt: Some(Arc::clone(receipt)),
            places: limits::RECORDED_QUEUE,
            ..Self::new(input)
        }
    }

    /// A fact of an earlier run of the server. However many there are, there is a place for
    /// it.
    pub(super) fn left_over(input: &Arc<Input>, receipt: &Receipt) -> Self {
        Self {
            places: usize::MAX,
            ..Self::recorded(input, receipt)
        }
    }

    /// Whether it is in the ledger, or will be, and so what becomes of it is noted.
    pub(super) fn is_recorded(&self) -> bool {
        self.receipt.is_some()
    }

    /// Whether it has failed, and is kept for the next start of the server.
    fn can_wait(&self) -> bool {
        self.tries > 0 && self.is_recorded()
    }

    fn is_ready(&self) -> bool {
        self.receipt
            .as_ref()
            .is_none_or(|receipt| receipt.get().is_some())
    }

    /// The call; before the fact is ready, as far as it is known.
    pub(super) fn input(&self) -> &Arc<Input> {
        let recorded = self.receipt.as_ref().and_then(|receipt| receipt.get());
        recorded.unwrap_or(&self.input)
    }

    fn room(&self) -> &RoomId {
        self.input.room()
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
    /// Recorded facts among all of these.
    recorded: usize,
    /// Whether a question goes before what is released.
    ask_next: bool,
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

    /// Those that count towards the limits of what is not recorded: neither a disk that takes
    /// nothing nor what a crash has left shuts the others out.
    fn others(&self) -> usize {
        self.len() - self.recorded
    }

    /// Adds a fact. Where there is no place, changes of speakers are forgotten first: the
    /// latest one replaces them all. Timers have fewer places: they can be told another time.
    pub(super) fn tell(&mut self, telling: Telling) -> Pushed {
        let is_change = is_speaker_change(&telling.input);
        if is_timer(&telling.input) && self.others() >= limits::QUEUED_TIMERS {
            return Pushed::Refused;
        }
        let recorded = telling.is_recorded();
        // A room that is stuck must not fill the lane for the others.
        let is_full = |parked: &VecDeque<Telling>| {
            parked.len() >= limits::STUCK_ROOM && parked.front().is_some_and(Telling::can_wait)
        };
        if !recorded && self.parked.get(telling.room()).is_some_and(is_full) {
            return Pushed::Refused;
        }
        let mut pushed = Pushed::Whole;
        if is_change && let Some(parked) = self.parked.get_mut(telling.room()) {
            let before = parked.len();
            parked.retain(|other| !is_speaker_change(&other.input));
            if parked.len() < before {
                self.held -= before - parked.len();
                pushed = Pushed::Forgot;
            }
        }
        let beside = if recorded {
            self.recorded
        } else {
            self.others()
        };
        if beside >= telling.places {
            if recorded || !self.forget_speaker_change() {
                return Pushed::Refused;
            }
            pushed = Pushed::Forgot;
        }
        self.recorded += usize::from(recorded);
        if let Some(parked) = self.parked.get_mut(telling.room()) {
            parked.push_back(telling);
            self.held += 1;
        } else if telling.is_ready() {
            self.speaker_changes += usize::from(is_change);
            self.jobs.push_back(Job::Fact(telling));
        } else {
            self.hold(telling);
        }
        pushed
    }

    /// Parks the room of a fact that is not ready, behind what waits in it already.
    fn hold(&mut self, telling: Telling) {
        let room = telling.room().clone();
        let mut waiting = self.take_facts_of(&room);
        let first = waiting.is_empty();
        waiting.push_back(telling);
        self.held += waiting.len();
        self.parked.insert(room.clone(), waiting);
        if !first {
            self.release(&room);
        }
    }

    /// Takes a room's facts out of the jobs.
    fn take_facts_of(&mut self, room: &RoomId) -> VecDeque<Telling> {
        let mut taken = VecDeque::new();
        for job in std::mem::take(&mut self.jobs) {
            match job {
                Job::Fact(telling) if telling.room() == room => {
                    self.speaker_changes -= usize::from(is_speaker_change(&telling.input));
                    taken.push_back(telling);
                }
                job => self.jobs.push_back(job),
            }
        }
        taken
    }

    /// Adds a question; `None` where there is no place.
    pub(super) fn ask(&mut self, input: &Arc<Input>) -> Option<(Claim, oneshot::Receiver<Reply>)> {
        if self.questions >= limits::QUEUED_QUESTIONS || self.others() >= limits::QUEUE {
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

    /// The next job. Those of parked rooms come first, but for a question after each.
    pub(super) fn pop(&mut self) -> Option<Job> {
        let asked = matches!(self.jobs.front(), Some(Job::Question { .. }));
        let ask = std::mem::take(&mut self.ask_next) && asked;
        while let Some(room) = (!ask).then(|| self.released.pop_front()).flatten() {
            let Some(parked) = self.parked.get_mut(&room) else {
                continue;
            };
            match parked.front() {
                // Its room is released again when it is.
                Some(first) if !first.is_ready() => {}
                Some(first) => {
                    self.held -= 1;
                    self.recorded -= usize::from(first.is_recorded());
                    self.ask_next = true;
                    return parked.pop_front().map(Job::Fact);
                }
                None => drop(self.parked.remove(&room)),
            }
        }
        let job = self.jobs.pop_front()?;
        match &job {
            Job::Question { .. } => self.questions -= 1,
            Job::Fact(telling) => {
                self.speaker_changes -= usize::from(is_speaker_change(&telling.input));
                self.recorded -= usize::from(telling.is_recorded());
            }
        }
        Some(job)
    }

    /// Keeps a fact, and with it what follows in its room, until the room is released.
    pub(super) fn park(&mut self, mut telling: Telling) {
        let room = telling.room().clone();
        telling.rests = true;
        self.recorded += usize::from(telling.is_recorded());
        // What has come behind it meanwhile does not hurry it.
        self.released.retain(|other| *other != room);
        self.held += 1;
        if let Some(parked) = self.parked.get_mut(&room) {
            parked.push_front(telling);
            return;
        }
        let mut parked = self.take_facts_of(&room);
        self.held += parked.len();
        parked.push_front(telling);
        self.parked.insert(room, parked);
    }

    /// A room's first parked fact is to be told now.
    pub(super) fn release(&mut self, room: &RoomId) {
        if self.parked.contains_key(room) && !self.released.contains(room) {
            self.released.push_back(room.clone());
        }
    }

    /// A fact of the room can be told, if there is nothing before it.
    pub(super) fn received(&mut self, room: &RoomId) {
        let parked = self.parked.get(room);
        let first = parked.and_then(VecDeque::front);
        if first.is_none_or(|first| !first.rests) {
            self.release(room);
        }
    }

    /// All parked facts that can be told are to be told now, but for those that have failed
    /// and can wait until the server starts again.
    pub(super) fn release_all(&mut self) {
        let can = |first: &Telling| first.is_ready() && !first.can_wait();
        let rooms = self.parked.iter();
        let rooms = rooms.filter(|(_, parked)| parked.front().is_none_or(can));
        let rooms: Vec<RoomId> = rooms.map(|(room, _)| room.clone()).collect();
        for room in &rooms {
            self.release(room);
        }
    }

    /// Whether nothing is left but what [`Self::release_all`] leaves.
    pub(super) fn is_drained(&self) -> bool {
        let waits = |parked: &VecDeque<Telling>| parked.front().is_some_and(Telling::can_wait);
        self.is_idle() && self.parked.values().all(waits)
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

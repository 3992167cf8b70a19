//! What waits for an instance: bounded, first in, first out.

use std::{
    collections::VecDeque,
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
use crate::{model::Hook, store::Saved};

/// An answer, and a claim to be told when what the hook wrote is durable.
pub(super) type Reply = Result<(Answer, Option<Saved>), Failure>;

/// One call to make.
pub(super) enum Job {
    /// Nobody waits for it.
    Fact(Arc<Input>),
    /// Somebody waits for it.
    Question {
        input: Arc<Input>,
        claim: Claim,
        reply: oneshot::Sender<Reply>,
    },
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
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Adds a fact. Where there is no place, changes of speakers are forgotten first: the
    /// latest one replaces them all.
    pub(super) fn tell(&mut self, input: &Arc<Input>) -> Pushed {
        let is_change = is_speaker_change(input);
        let mut pushed = Pushed::Whole;
        if self.jobs.len() >= limits::QUEUE {
            if !self.forget_speaker_change() {
                return Pushed::Refused;
            }
            pushed = Pushed::Forgot;
        }
        self.speaker_changes += usize::from(is_change);
        self.jobs.push_back(Job::Fact(Arc::clone(input)));
        pushed
    }

    /// Adds a question; `None` where there is no place.
    pub(super) fn ask(&mut self, input: &Arc<Input>) -> Option<(Claim, oneshot::Receiver<Reply>)> {
        if self.questions >= limits::QUEUED_QUESTIONS || self.jobs.len() >= limits::QUEUE {
            return None;
        }
        let (reply, answered) = oneshot::channel();
        let claim = Claim::default();
        self.questions += 1;
        let (input, claimed) = (Arc::clone(input), claim.clone());
        self.jobs.push_back(Job::Question {
            input,
            claim: claimed,
            reply,
        });
        Some((claim, answered))
    }

    pub(super) fn pop(&mut self) -> Option<Job> {
        let job = self.jobs.pop_front()?;
        match &job {
            Job::Question { .. } => self.questions -= 1,
            Job::Fact(input) => self.speaker_changes -= usize::from(is_speaker_change(input)),
        }
        Some(job)
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

    fn forget_speaker_change(&mut self) -> bool {
        if self.speaker_changes == 0 {
            return false;
        }
        let is_change = |job: &Job| matches!(job, Job::Fact(input) if is_speaker_change(input));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{RoomId, UnixMs},
        plugin::{Fact, RoomView},
    };

    fn speaker_change(at: u64) -> Arc<Input> {
        let room = RoomView {
            id: RoomId::new("a").unwrap(),
            participants: 1,
        };
        let fact = Fact::SpeakerChanged {
            room,
            speakers: Vec::new(),
            at: UnixMs(at),
        };
        Arc::new(Input::Fact(fact))
    }

    fn left() -> Arc<Input> {
        let user = crate::model::User {
            id: crate::model::UserId(7),
            name: None,
            avatar: None,
            roles: Vec::new(),
            claims: "{}".to_owned(),
        };
        Arc::new(Input::Fact(Fact::Left {
            room: RoomView {
                id: RoomId::new("a").unwrap(),
                participants: 1,
            },
            participant: crate::plugin::ParticipantView {
                id: crate::model::ParticipantId::random(),
                user: Arc::new(user),
                connections: 0,
            },
            reason: "left".to_owned(),
            at: UnixMs(1),
        }))
    }

    #[test]
    fn of_speakers_the_oldest_change_is_forgotten_and_only_when_there_is_no_place() {
        let mut queue = Queue::default();
        for at in 0..limits::QUEUE as u64 {
            assert_eq!(queue.tell(&speaker_change(at)), Pushed::Whole);
        }
        assert_eq!(queue.tell(&left()), Pushed::Forgot);
        assert_eq!(queue.len(), limits::QUEUE);
        let Some(Job::Fact(first)) = queue.pop() else {
            panic!("a fact")
        };
        assert!(matches!(
            &*first,
            Input::Fact(Fact::SpeakerChanged { at: UnixMs(1), .. })
        ));
        assert_eq!(queue.tell(&left()), Pushed::Whole);
    }

    #[test]
    fn other_facts_are_not_forgotten_for_later_ones() {
        let mut queue = Queue::default();
        for _ in 0..limits::QUEUE {
            assert_eq!(queue.tell(&left()), Pushed::Whole);
        }
        assert_eq!(queue.tell(&left()), Pushed::Refused);
        assert_eq!(queue.tell(&speaker_change(1)), Pushed::Refused);
        assert!(queue.ask(&left()).is_none());
    }

    #[test]
    fn questions_have_a_limit_of_their_own_and_leave_room_for_facts() {
        let mut queue = Queue::default();
        let mut waiting: Vec<_> = (0..limits::QUEUED_QUESTIONS)
            .map(|_| queue.ask(&left()).unwrap())
            .collect();
        assert!(queue.ask(&left()).is_none());
        assert_eq!(queue.tell(&left()), Pushed::Whole);
        assert_eq!(
            queue.refuse_questions(&Failure::Down),
            limits::QUEUED_QUESTIONS
        );
        assert_eq!(queue.len(), 1);
        let (_, mut reply) = waiting.pop().unwrap();
        assert!(matches!(reply.try_recv(), Ok(Err(Failure::Down))));
        assert!(queue.ask(&left()).is_some());
    }

    #[test]
    fn a_call_is_claimed_once() {
        let claim = Claim::default();
        let other = claim.clone();
        assert_eq!(
            (claim.take(), other.take(), claim.take()),
            (true, false, false)
        );
    }
}

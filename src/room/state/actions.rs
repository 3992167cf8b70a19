//! What plugins ask for.

use std::{collections::BTreeSet, sync::Arc};

use super::{Output, Participant, Producer, RoomState};
use crate::{
    model::{ParticipantId, ProducerId, UnixMs, UserId},
    plugin::{Action, Target},
    room::event::{Audience, CloseReason, Departure, Event},
};

/// How many users plugins may hold muted in one room, present or not.
const MAX_MUTED_USERS: usize = 10_000;

impl RoomState {
    /// Carries out what a plugin asks for, as far as the room's rules know it.
    pub(crate) fn apply(&mut self, plugin: &Arc<str>, action: Action, at: UnixMs) -> Vec<Output> {
        let mut out = Vec::new();
        if self.ended {
            return out;
        }
        match action {
            Action::EmitToUser {
                user,
                event,
                payload,
            } => out.push(Output::Tell(
                Audience::User(user),
                Event::Plugin {
                    name: event.into(),
                    payload,
                },
            )),
            Action::EmitToRoom {
                event,
                payload,
                except,
            } => out.push(Output::Tell(
                except.map_or(Audience::Room, Audience::RoomExceptUser),
                Event::Plugin {
                    name: event.into(),
                    payload,
                },
            )),
            Action::Mute(target) => self.hold_mute(plugin, target, true, at, &mut out),
            Action::Unmute(target) => self.hold_mute(plugin, target, false, at, &mut out),
            Action::Close(target) => {
                for id in self.targets(target) {
                    self.close(id, CloseReason::Plugin, at, &mut out);
                }
            }
            Action::Kick { user, reason } => {
                let departure = Departure::Kicked(reason.into());
                for id in self.participants_of(user) {
                    out.extend(self.commit_leave(id, &departure, at));
                }
            }
            Action::PinSpeaker { user, pin } => {
                let turns = self.active.pin(plugin, user, pin, at);
                self.take_turns(&turns, &mut out);
            }
        }
        out
    }

    fn participants_of(&self, user: UserId) -> Vec<ParticipantId> {
        let of = |one: &Participant| one.user.id == user;
        self.participants
            .iter()
            .filter(|(_, one)| of(one))
            .map(|(id, _)| *id)
            .collect()
    }

    fn targets(&self, target: Target) -> Vec<ProducerId> {
        match target {
            Target::Producer(id) => self
                .producers
                .contains_key(&id)
                .then_some(id)
                .into_iter()
                .collect(),
            Target::User(user) => {
                let of = |one: &Producer| one.user.id == user;
                self.producers
                    .iter()
                    .filter(|(_, one)| of(one))
                    .map(|(id, _)| *id)
                    .collect()
            }
        }
    }

    fn hold_mute(
        &mut self,
        plugin: &Arc<str>,
        target: Target,
        hold: bool,
        at: UnixMs,
        out: &mut Vec<Output>,
    ) {
        let set = |holders: &mut BTreeSet<Arc<str>>| {
            if hold {
                holders.insert(Arc::clone(plugin));
            } else {
                holders.remove(plugin);
            }
        };
        match target {
            Target::Producer(id) => {
                self.change_mute(id, None, at, out, |one| set(&mut one.muted_by))
            }
            Target::User(user) => {
                let affected = self.targets(target);
                let before: Vec<bool> = affected.iter().map(|id| self.wants_paused(*id)).collect();
                if self.muted_users.len() < MAX_MUTED_USERS || self.muted_users.contains_key(&user)
                {
                    set(self.muted_users.entry(user).or_default());
                }
                self.muted_users.retain(|_, holders| !holders.is_empty());
                for (id, before) in affected.into_iter().zip(before) {
                    self.tell_mute(id, before, None, at, out);
                }
            }
        }
    }
}

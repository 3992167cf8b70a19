//! A room as a call: when it counts as connected. Pure, like the rest of the
//! room's rules.

use std::collections::BTreeSet;

use crate::model::{ConnectedWhen, UnixMs, UserId};

/// How far a call has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallProgress {
    /// When it was connected and whose packet did it, if it was.
    pub connected: Option<(UserId, UnixMs)>,
    /// Whether the room has ended.
    pub ended: bool,
}

/// Whose packets have arrived, and what that means.
#[derive(Debug)]
pub(super) struct Call {
    when: ConnectedWhen,
    /// Whether a member has said when, so that no other can.
    decided: bool,
    heard: BTreeSet<UserId>,
    /// Who was heard for the first time last.
    latest: Option<UserId>,
    connected: Option<(UserId, UnixMs)>,
}

impl Call {
    /// A call that counts as connected so, unless a member says otherwise.
    pub(super) fn new(when: ConnectedWhen) -> Self {
        Self {
            when,
            decided: false,
            heard: BTreeSet::new(),
            latest: None,
            connected: None,
        }
    }

    /// Settles when the call counts as connected; whoever says so first decides.
    pub(super) fn decide(&mut self, when: ConnectedWhen) {
        if !std::mem::replace(&mut self.decided, true) {
            self.when = when;
        }
    }

    /// A first packet of this user has arrived.
    pub(super) fn heard(&mut self, user: UserId) {
        if self.heard.insert(user) {
            self.latest = Some(user);
        }
    }

    /// The user's last participant has left.
    pub(super) fn left(&mut self, user: UserId) {
        self.heard.remove(&user);
    }

    /// Looks whether the call is connected with these users in it; answers
    /// whose packet did it, once.
    pub(super) fn connects(
        &mut self,
        users: impl Iterator<Item = UserId>,
        at: UnixMs,
    ) -> Option<UserId> {
        let latest = self.latest.filter(|_| self.connected.is_none())?;
        let connected = match self.when {
            ConnectedWhen::First => true,
            ConnectedWhen::Both => {
                let users: BTreeSet<UserId> = users.collect();
                users.len() > 1 && users.is_subset(&self.heard)
            }
        };
        connected.then(|| {
            self.connected = Some((latest, at));
            latest
        })
    }

    /// Who connected the call, and when.
    pub(super) fn connected(&self) -> Option<(UserId, UnixMs)> {
        self.connected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixMs = UnixMs(5);
    const ADA: UserId = UserId(1);
    const BOB: UserId = UserId(2);
    const EVE: UserId = UserId(3);

    fn connects(call: &mut Call, users: &[UserId]) -> Option<UserId> {
        call.connects(users.iter().copied(), AT)
    }

    #[test]
    fn the_first_packet_connects_a_call_once() {
        let mut call = Call::new(ConnectedWhen::First);
        assert_eq!(connects(&mut call, &[ADA, BOB]), None);
        call.heard(ADA);
        assert_eq!(connects(&mut call, &[ADA, BOB]), Some(ADA));
        call.heard(BOB);
        assert_eq!(connects(&mut call, &[ADA, BOB]), None);
        assert_eq!(call.connected(), Some((ADA, AT)));
    }

    #[test]
    fn with_both_every_party_must_be_heard_and_one_alone_is_no_call() {
        let mut call = Call::new(ConnectedWhen::First);
        call.decide(ConnectedWhen::Both);
        call.heard(ADA);
        assert_eq!(connects(&mut call, &[ADA]), None);
        assert_eq!(connects(&mut call, &[ADA, BOB, EVE]), None);
        call.heard(BOB);
        assert_eq!(connects(&mut call, &[ADA, BOB, EVE]), None);
        call.heard(EVE);
        assert_eq!(connects(&mut call, &[ADA, BOB, EVE]), Some(EVE));
    }

    #[test]
    fn with_both_the_silent_party_that_leaves_is_not_waited_for() {
        let mut call = Call::new(ConnectedWhen::First);
        call.decide(ConnectedWhen::Both);
        call.heard(ADA);
        call.heard(BOB);
        call.left(EVE);
        assert_eq!(connects(&mut call, &[ADA, BOB]), Some(BOB));
    }

    #[test]
    fn with_both_a_party_that_left_and_came_back_must_be_heard_again() {
        let mut call = Call::new(ConnectedWhen::First);
        call.decide(ConnectedWhen::Both);
        call.heard(ADA);
        call.left(ADA);
        call.heard(BOB);
        assert_eq!(connects(&mut call, &[ADA, BOB]), None);
    }

    #[test]
    fn who_decides_first_decides() {
        let mut call = Call::new(ConnectedWhen::Both);
        call.decide(ConnectedWhen::First);
        call.decide(ConnectedWhen::Both);
        call.heard(ADA);
        assert_eq!(connects(&mut call, &[ADA, BOB]), Some(ADA));
    }
}

//! A fresh instance made before there is a call for it, so that the call need not wait for it.
//!
//! At most one for each lane, and only of plugins whose `init` neither reads nor writes what
//! the server keeps: then an instance is the same whenever it was made.

use std::sync::Arc;

use super::Lane;
use crate::plugin::instance::{Instance, Template};

/// What a lane has of it.
#[derive(Default)]
pub(super) struct Ahead {
    /// Of the lane's version.
    made: Option<Box<Instance>>,
    /// Whether a task is making one.
    making: bool,
}

impl Ahead {
    /// Another version is there, or none is needed any more.
    pub(super) fn forget(&mut self) -> Option<Box<Instance>> {
        self.made.take()
    }
}

impl Lane {
    /// An instance of the version that nobody has called, if there is one.
    pub(super) fn take_ahead(&self, version: &Template) -> Option<Box<Instance>> {
        let mut state = self.state.lock();
        if state.version.number != version.number {
            return None;
        }
        state.ahead.made.take()
    }

    /// Ends an instance that has had its call, and makes the next one. Both take longer than
    /// the call, so a task of its own does them, one at a time.
    pub(super) fn make_ahead(self: &Arc<Self>, used: Box<Instance>, version: &Arc<Template>) {
        {
            let mut state = self.state.lock();
            let wanted = !state.stopped
                && state.version.number == version.number
                && state.ahead.made.is_none()
                && version.is_made_ahead();
            if !wanted || std::mem::replace(&mut state.ahead.making, true) {
                drop(state);
                drop(used);
                return;
            }
        }
        let (lane, version) = (Arc::clone(self), Arc::clone(version));
        self.runtime.spawn(async move {
            drop(used);
            // Where this fails, the next call makes its own, and reports what is wrong.
            let made = version.instantiate().await.ok();
            let mut state = lane.state.lock();
            state.ahead.making = false;
            let fits =
                !state.stopped && state.version.number == version.number && version.is_made_ahead();
            let left = match made {
                Some((instance, _)) if fits => state.ahead.made.replace(instance),
                made => made.map(|made| made.0),
            };
            drop(state);
            drop(left);
        });
    }
}

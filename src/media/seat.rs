//! Places on a room's routers, given back by drop.

use std::sync::{Arc, Weak};

use tracing::debug;

use super::{
    Cluster,
    placement::{RouterKey, SeatKey},
};

/// A listener's place on one router; given back by drop.
pub(super) struct Seat {
    cluster: Weak<Cluster>,
    key: SeatKey,
    router: RouterKey,
}

/// Counts one consumer on a listener's router; until dropped.
pub(super) struct Ticket(Arc<Seat>);

impl Seat {
    pub(super) fn new(cluster: Weak<Cluster>, key: SeatKey, router: RouterKey) -> Self {
        Self {
            cluster,
            key,
            router,
        }
    }

    pub(super) fn router(&self) -> RouterKey {
        self.router
    }

    /// Whether the router is still one of the room's.
    pub(super) fn is_there(&self) -> bool {
        let cluster = self.cluster.upgrade();
        cluster.is_some_and(|cluster| cluster.placement(|one| one.holds(self.key)))
    }

    /// Counts a consumer, before it is made.
    pub(super) fn ticket(self: &Arc<Self>) -> Ticket {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.placement(|one| one.add_consumer(self.key));
        }
        Ticket(Arc::clone(self))
    }
}

impl Ticket {
    /// Whether the router is still one of the room's.
    pub(super) fn is_valid(&self) -> bool {
        self.0.is_there()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(cluster) = self.cluster.upgrade() else {
            return;
        };
        let emptied = cluster.placement(|one| one.leave(self.key));
        if let Some(router) = emptied {
            cluster.let_go(router, |_| ());
            debug!("a router without listeners was let go");
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(cluster) = self.0.cluster.upgrade() {
            cluster.placement(|one| one.remove_consumer(self.0.key));
        }
    }
}

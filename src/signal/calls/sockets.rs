//! The `/ws/call` sockets of one user.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

/// Sockets that one user may have open at once.
const MAX_SOCKETS: usize = 8;

/// Where the events of a user's calls go.
pub(super) struct Sockets {
    open: Mutex<Open>,
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: Vec<(u64, mpsc::Sender<Arc<str>>)>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }
}

/// One socket's bounded queue of events. Dropping it takes the socket out.
pub(in crate::signal) struct Listening {
    queue: mpsc::Receiver<Arc<str>>,
    id: u64,
    sockets: Arc<Sockets>,
    gone: Box<dyn Fn() + Send>,
}

impl Sockets {
    /// One more socket, unless there are too many. `gone` is called when it is out.
    pub(super) fn add(
        self: &Arc<Self>,
        capacity: usize,
        gone: impl Fn() + Send + 'static,
    ) -> Option<Listening> {
        let (events, queue) = mpsc::channel(capacity.max(1));
        let mut open = self.open.lock();
        if open.all.len() >= MAX_SOCKETS {
            return None;
        }
        let id = open.next;
        open.next += 1;
        open.all.push((id, events));
        self.count_now(&open);
        drop(open);
        Some(Listening {
            queue,
            id,
            sockets: Arc::clone(self),
            gone: Box::new(gone),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.open.lock().all.len()
    }

    /// Tells when the number of sockets changes.
    pub(super) fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Tells all sockets. One whose queue is full has not taken its events: its
    /// queue ends.
    pub(super) fn tell(&self, event: &Value) {
        let mut open = self.open.lock();
        if open.all.is_empty() {
            return;
        }
        let text: Arc<str> = event.to_string().into();
        open.all
            .retain(|(_, queue)| queue.try_send(Arc::clone(&text)).is_ok());
        self.count_now(&open);
    }

    /// Tells those who watch, if the number has changed.
    fn count_now(&self, open: &Open) {
        let now = open.all.len();
        self.count
            .send_if_modified(|count| std::mem::replace(count, now) != now);
    }
}

impl Listening {
    /// The next event; `None` if the socket was too slow. Nothing is lost if this
    /// is cancelled.
    pub(in crate::signal) async fn next(&mut self) -> Option<Arc<str>> {
        self.queue.recv().await
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut open = self.sockets.open.lock();
        open.all.retain(|(id, _)| *id != self.id);
        self.sockets.count_now(&open);
        drop(open);
        (self.gone)();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_takes_nothing_ends_and_the_others_go_on() {
        let sockets = Arc::new(Sockets::default());
        let mut slow = sockets.add(1, || ()).unwrap();
        let mut quick = sockets.add(8, || ()).unwrap();
        for n in 0..3 {
            sockets.tell(&json!(n));
        }
        assert_eq!(slow.next().await.as_deref(), Some("0"));
        assert_eq!(slow.next().await, None);
        for n in ["0", "1", "2"] {
            assert_eq!(quick.next().await.as_deref(), Some(n));
        }
        assert_eq!(sockets.count(), 1);
        drop((slow, quick));
        assert_eq!(sockets.count(), 0);
    }

    #[test]
    fn whoever_watches_hears_of_sockets_that_come_and_go_and_of_nothing_else() {
        let sockets = Arc::new(Sockets::default());
        let mut watched = sockets.watch();
        sockets.tell(&json!("to nobody"));
        assert!(!watched.has_changed().unwrap());
        let quick = sockets.add(8, || ()).unwrap();
        let slow = sockets.add(1, || ()).unwrap();
        assert_eq!(*watched.borrow_and_update(), 2);
        sockets.tell(&json!("to both"));
        assert!(!watched.has_changed().unwrap());
        sockets.tell(&json!("too much for one"));
        assert_eq!(*watched.borrow_and_update(), 1);
        drop(slow);
        assert!(!watched.has_changed().unwrap(), "it was out already");
        drop(quick);
        assert_eq!(*watched.borrow_and_update(), 0);
    }

    #[test]
    fn a_user_has_a_bounded_number_of_sockets() {
        let sockets = Arc::new(Sockets::default());
        let open: Vec<_> = (0..MAX_SOCKETS).map(|_| sockets.add(1, || ())).collect();
        assert!(open.iter().all(Option::is_some));
        assert!(sockets.add(1, || ()).is_none());
        drop(open);
        assert!(sockets.add(1, || ()).is_some());
    }
}

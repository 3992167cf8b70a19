//! How a connection ends, and what that means for the place it has in a room.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use parking_lot::Mutex;
use socketioxide::{extract::SocketRef, socket::DisconnectReason};
use tokio::sync::oneshot;

use super::{FULL_SOCKET_LIMIT, FULL_SOCKET_PAUSE};

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nobody wanted it: the client may come back.
    Lost,
    /// The room has let go of the client and told it so. Where that did not arrive
    /// the client may come back to hear it.
    Removed,
    /// The client or the server wanted it.
    Meant,
}

impl From<DisconnectReason> for End {
    fn from(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::ClientNSDisconnect
            | DisconnectReason::ServerNSDisconnect
            | DisconnectReason::ClosingServer => Self::Meant,
            // A page that goes offline closes its transport in order.
            DisconnectReason::TransportClose
            | DisconnectReason::TransportError
            | DisconnectReason::HeartbeatTimeout
            | DisconnectReason::PacketParsingError
            | DisconnectReason::MultipleHttpPollingError => Self::Lost,
        }
    }
}

/// Tells the session of a socket, once, that its connection is over.
#[derive(Clone)]
struct Ending(Arc<Told>);

struct Told {
    /// What the server ended the connection for.
    cause: OnceLock<End>,
    session: Mutex<Option<oneshot::Sender<End>>>,
}

impl Ending {
    fn tell(&self, end: End) {
        let end = self.0.cause.get().copied().unwrap_or(end);
        if let Some(session) = self.0.session.lock().take() {
            // A session that is over already needs no end.
            session.send(end).ok();
        }
    }
}

/// Learns of the end of a socket's connection.
pub(super) fn watch(socket: &SocketRef) -> oneshot::Receiver<End> {
    let (session, end) = oneshot::channel();
    let ending = Ending(Arc::new(Told {
        cause: OnceLock::new(),
        session: Mutex::new(Some(session)),
    }));
    socket.extensions.insert(ending.clone());
    socket.on_disconnect(async move |reason: DisconnectReason| ending.tell(reason.into()));
    end
}

/// Ends the connection. A full socket gets a moment to make room for the
/// farewell; then its session ends without one, and the rest is left to TCP.
pub(super) fn end(socket: &SocketRef, cause: End) {
    let Some(ending) = socket.extensions.get::<Ending>() else {
        return;
    };
    if ending.0.cause.set(cause).is_err() {
        return;
    }
    let socket = socket.clone();
    tokio::spawn(async move {
        let give_up = Instant::now() + FULL_SOCKET_LIMIT;
        while socket.clone().disconnect().is_err() && Instant::now() < give_up {
            tokio::time::sleep(FULL_SOCKET_PAUSE).await;
        }
        ending.tell(cause);
    });
}

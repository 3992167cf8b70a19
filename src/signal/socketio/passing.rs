//! Passes a room's events on to one connection.

use std::time::Instant;

use serde_json::json;
use socketioxide::{SendError, SocketError, extract::SocketRef};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    FULL_SOCKET_LIMIT, FULL_SOCKET_PAUSE, HEAR_OUT_LIMIT,
    ending::{End, end},
};
use crate::{
    room::Departure,
    signal::{resume::Tape, wire},
};

/// The task that does it. It ends with its connection's session.
pub(super) struct Passing {
    task: JoinHandle<Tape>,
    stop: oneshot::Sender<()>,
}

impl Passing {
    pub(super) fn start(socket: &SocketRef, tape: Tape) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(pass_on(socket.clone(), tape, stopped));
        Self { task, stop }
    }

    /// Stops between two events: what has not gone out is on the tape.
    pub(super) async fn stop(self) -> Option<Tape> {
        drop(self.stop);
        self.task.await.ok()
    }

    /// Lets the last events of a room that was left go out.
    pub(super) async fn hear_out(mut self) {
        if timeout(HEAR_OUT_LIMIT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

async fn pass_on(socket: SocketRef, mut tape: Tape, mut stop: oneshot::Receiver<()>) -> Tape {
    let farewell = tokio::select! {
        biased;
        _ = &mut stop => false,
        all_told = tell(&socket, &mut tape) => all_told,
    };
    if farewell {
        say_farewell(&socket, tape.end()).await;
    }
    tape
}

/// Tells all there is on the tape; `false` if the connection ended before.
async fn tell(socket: &SocketRef, tape: &mut Tape) -> bool {
    while let Some((event, seq)) = tape.next().await {
        let told = match (wire::event(&event), seq) {
            (None, _) => true,
            (Some((name, payload)), None) => emit(socket, &name, &payload).await,
            (Some((name, payload)), Some(seq)) => {
                emit(socket, &name, &(payload, json!({ "seq": seq }))).await
            }
        };
        if !told {
            return false;
        }
        tape.told();
    }
    true
}

async fn say_farewell(socket: &SocketRef, why: Option<&Departure>) {
    match why {
        Some(Departure::Kicked(reason)) => {
            let payload = json!({ "reason": reason });
            emit(socket, "auth:force_disconnect", &payload).await;
            end(socket, End::Removed);
        }
        Some(Departure::TooSlow) => {
            warn!(socket = %socket.id, "client does not take its events: disconnected");
            end(socket, End::Meant);
        }
        Some(Departure::Left | Departure::Disconnected) | None => {}
    }
}

/// Emits an event, waiting a bounded time for room in the socket. `false` if
/// the connection has ended.
async fn emit<T: serde::Serialize>(socket: &SocketRef, name: &str, arguments: &T) -> bool {
    let give_up = Instant::now() + FULL_SOCKET_LIMIT;
    loop {
        match socket.emit(name, arguments) {
            Ok(()) => return true,
            Err(SendError::Socket(SocketError::InternalChannelFull))
                if Instant::now() < give_up =>
            {
                sleep(FULL_SOCKET_PAUSE).await;
            }
            Err(error) => {
                debug!(socket = %socket.id, %error, "event not delivered: disconnected");
                end(socket, End::Lost);
                return false;
            }
        }
    }
}

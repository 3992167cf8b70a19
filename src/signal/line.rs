//! A WebSocket as the faces use it: frames in and JSON out, within the bounds of
//! a connection, and noticed when the other end is gone.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::{
    fields::Invalid,
    gate::{self, Gate, Turned},
};
use crate::config::SessionsConfig;

/// How long a client may take nothing of what is sent to it.
const FULL_SOCKET_LIMIT: Duration = Duration::from_secs(10);
/// How long a client may take to answer our close.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Why we close, as the close frame's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// The room or the server ends.
    GoingAway,
    /// A frame was too large.
    TooBig,
    /// The server takes nobody in now.
    TryAgain,
    /// There is no good token.
    Unauthenticated,
    /// The room or a plugin does not want this client.
    Forbidden,
    /// The client does not take its events.
    TooSlow,
    /// There is nothing to come back to.
    Gone,
    /// The user has too many sockets.
    TooMany,
}

impl Close {
    fn code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::TooBig => 1009,
            Self::TryAgain => 1013,
            Self::Unauthenticated => 4401,
            Self::Forbidden => 4403,
            Self::TooSlow => 4408,
            Self::Gone => 4410,
            Self::TooMany => 4429,
        }
    }
}

/// What a client sent.
#[derive(Debug)]
pub(super) enum Frame {
    Text(Utf8Bytes),
    /// Bytes: no face has a use for them.
    Binary,
    /// Refused unread.
    OverBudget,
    /// Refused unread; the connection has to end.
    Oversize(Invalid),
    /// The client closes the connection in order.
    Goodbye,
}

/// One open WebSocket.
pub(super) struct Line {
    socket: WebSocket,
    gate: Gate,
    ping_interval: Duration,
    /// Silence after which the client counts as gone.
    silence_limit: Duration,
    ping_at: Instant,
    heard_at: Instant,
}

/// Sets how much of a frame is read at all.
pub(super) fn bounded(upgrade: WebSocketUpgrade, limits: &SessionsConfig) -> WebSocketUpgrade {
    let readable = gate::readable(limits);
    upgrade.max_message_size(readable).max_frame_size(readable)
}

impl Line {
    pub(super) fn new(socket: WebSocket, limits: &SessionsConfig) -> Self {
        let now = Instant::now();
        Self {
            socket,
            gate: Gate::new(limits),
            ping_interval: limits.ping_interval,
            silence_limit: limits.ping_interval + limits.ping_timeout,
            ping_at: now + limits.ping_interval,
            heard_at: now,
        }
    }

    /// The next frame; `None` when the connection is lost. What was read is not
    /// lost if this is cancelled.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            let gone_at = self.heard_at + self.silence_limit;
            tokio::select! {
                message = self.socket.recv() => {
                    let message = message?.ok()?;
                    self.heard_at = Instant::now();
                    if let Some(frame) = self.admit(message) {
                        return Some(frame);
                    }
                }
                () = sleep_until(gone_at) => {
                    debug!("no answer to a ping: gone");
                    return None;
                }
                () = sleep_until(self.ping_at) => {
                    self.ping_at = Instant::now() + self.ping_interval;
                    if !self.write(Message::Ping(bytes::Bytes::new())).await {
                        return None;
                    }
                }
            }
        }
    }

    /// A message as the face sees it; `None` for what the protocol below answers
    /// itself.
    fn admit(&self, message: Message) -> Option<Frame> {
        let (size, frame) = match message {
            Message::Text(text) => (text.len(), Some(Frame::Text(text))),
            Message::Binary(bytes) => (bytes.len(), Some(Frame::Binary)),
            // Answered by the library, but not for nothing.
            Message::Ping(bytes) => (bytes.len(), None),
            Message::Pong(_) => return None,
            Message::Close(_) => return Some(Frame::Goodbye),
        };
        match self.gate.admit(size) {
            Ok(()) => frame,
            Err(Turned::OverBudget) => frame.map(|_| Frame::OverBudget),
            Err(Turned::Oversize(invalid)) => Some(Frame::Oversize(invalid)),
        }
    }

    /// Sends JSON; `false` when the connection is over.
    pub(super) async fn send(&mut self, value: &Value) -> bool {
        self.send_text(value.to_string().into()).await
    }

    /// Sends text; `false` when the connection is over.
    pub(super) async fn send_text(&mut self, text: Utf8Bytes) -> bool {
        self.write(Message::Text(text)).await
    }

    async fn write(&mut self, message: Message) -> bool {
        matches!(
            timeout(FULL_SOCKET_LIMIT, self.socket.send(message)).await,
            Ok(Ok(()))
        )
    }

    /// Says why, and gives the client a moment to hear it.
    pub(super) async fn close(mut self, why: Close, reason: &str) {
        // A close frame has room for 123 bytes of reason.
        let mut end = reason.len().min(123);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason.get(..end).unwrap_or_default().into();
        let frame = CloseFrame {
            code: why.code(),
            reason,
        };
        let farewell = async {
            // What the client still sends is read, or the system would drop the
            // connection and with it what we said.
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        if timeout(CLOSE_LIMIT, farewell).await.is_err() {
            debug!("the client did not answer the close");
        }
    }
}

//! What can go wrong.

use std::time::Duration;

/// Why a participant could not take a step.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The server refused it.
    #[error("{event}: {error}{}", code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Refused {
        /// The request.
        event: &'static str,
        /// The server's message.
        error: String,
        /// The server's code, where it has one.
        code: Option<String>,
    },
    /// No answer in time.
    #[error("{event}: no answer within {} s", limit.as_secs_f32())]
    TimedOut {
        /// The request, or what was awaited.
        event: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The answer is not of the protocol.
    #[error("{event}: unexpected answer: {problem}")]
    Malformed {
        /// The request.
        event: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The server does not offer what this client needs.
    #[error("the server does not offer {0}")]
    Unsupported(&'static str),
    /// The server or its media is on another machine.
    #[error("{0} is not a loopback address; use --allow-remote if you may load that machine")]
    NotLoopback(String),
    /// The connection has ended, or could not be made.
    #[error("connection: {0}")]
    Connection(String),
    /// ICE, DTLS or a socket failed.
    #[error("media: {0}")]
    Media(String),
    /// No token for the participant.
    #[error("token: {0}")]
    Token(String),
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The options contradict each other or the situation.
    #[error("{0}")]
    Usage(String),
    /// What the load itself needs could not be started.
    #[error("cannot start {what}: {why}")]
    Start {
        /// What.
        what: &'static str,
        /// Why not.
        why: String,
    },
}

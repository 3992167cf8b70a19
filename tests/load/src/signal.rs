//! Requests and their answers, whatever carries them.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{error::StepError, socketio};

/// A participant's way to the server.
#[derive(Debug)]
pub(crate) enum Signal {
    /// Face 1 of a server.
    SocketIo(socketio::Client),
    /// A bare router in a process of its own.
    Bare(crate::bare::Line),
}

#[derive(Deserialize)]
struct Ack<T> {
    success: Option<bool>,
    data: Option<T>,
    error: Option<String>,
    code: Option<String>,
}

impl Signal {
    /// Asks for something, waits for the answer at most `limit`, and says how long it took.
    /// Success without data is `None`.
    ///
    /// # Errors
    /// If the server refuses it or does not answer as it should.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        event: &'static str,
        payload: &impl Serialize,
        limit: Duration,
    ) -> Result<(Option<T>, Duration), StepError> {
        let malformed = |problem: serde_json::Error| StepError::Malformed {
            event,
            problem: problem.to_string(),
        };
        let body = serde_json::to_string(&(event, payload)).map_err(malformed)?;
        let answer = match self {
            Self::SocketIo(client) => client.call(event, body, limit).await?,
            Self::Bare(line) => line.call(event, body, limit).await?,
        };
        let (ack,): (Ack<T>,) = serde_json::from_str(&answer.text).map_err(malformed)?;
        if ack.success == Some(true) {
            return Ok((ack.data, answer.took));
        }
        Err(StepError::Refused {
            event,
            error: ack.error.unwrap_or_else(|| "no reason".to_owned()),
            code: ack.code,
        })
    }
}

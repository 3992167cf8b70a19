//! The client-facing side: what the faces share, and the faces. Only this
//! module knows Socket.IO, HTTP and WebSocket.

mod admin;
pub mod auth;
pub mod fields;
pub mod http;
pub mod ledger;
pub mod socketio;

mod calls;
mod denial;
mod gate;
mod iso;
mod line;
mod openapi;
mod outbox;
mod request;
mod rest;
mod resume;
mod session;
mod websocket;
mod wire;
mod ws_call;

use std::sync::Arc;

use tokio::sync::watch;

use self::{auth::Authenticator, calls::Calls, resume::Resumes};
use crate::{config::Config, room::Rooms};

/// What every face needs.
pub struct Faces {
    /// The configuration.
    pub config: Config,
    /// Verifies and, in development, issues tokens.
    pub auth: Authenticator,
    /// The rooms.
    pub rooms: Rooms,
    /// The ICE servers that clients are told, as JSON.
    pub ice_servers: serde_json::Value,
    /// Who is in which call over REST and `/ws/call`.
    calls: Calls,
    /// Who may come back.
    resumes: Arc<Resumes>,
    stopping: watch::Sender<bool>,
}

/// Shared by all connections.
pub type SharedFaces = Arc<Faces>;

/// Tells a connection that the server stops.
struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Waits for the stop. Nothing is lost if this is cancelled.
    async fn wait(&mut self) {
        // Without a sender the faces are gone, which is a stop too.
        drop(self.0.wait_for(|stopping| *stopping).await);
    }
}

impl Faces {
    /// Faces without any client.
    #[must_use]
    pub fn new(
        config: Config,
        auth: Authenticator,
        rooms: Rooms,
        ice_servers: serde_json::Value,
    ) -> Self {
        Self {
            calls: Calls::new(&config.sessions),
            resumes: Resumes::new(&config.sessions),
            config,
            auth,
            rooms,
            ice_servers,
            stopping: watch::Sender::new(false),
        }
    }

    /// Closes every WebSocket, and waits for nobody who may come back. The
    /// connections of Socket.IO have a close of their own.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    fn stopping(&self) -> Stopping {
        Stopping(self.stopping.subscribe())
    }

    /// May a page of this origin connect? Without an origin it is no browser.
    #[must_use]
    pub fn origin_allowed(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        use crate::config::AllowedOrigins;
        let Some(origin) = origin else { return true };
        let own = origin.split_once("://").map(|(_, authority)| authority);
        match &self.config.server.allowed_origins {
            AllowedOrigins::Any => true,
            AllowedOrigins::Listed(listed) => {
                (host.is_some() && own == host) || listed.iter().any(|one| one == origin)
            }
        }
    }
}

//! The client-facing side: what the faces share, and the faces. Only this
//! module knows Socket.IO and HTTP.

mod admin;
pub mod auth;
pub mod fields;
pub mod http;
pub mod ledger;
pub mod socketio;

mod outbox;
mod request;
mod wire;

use std::sync::Arc;

use crate::{config::Config, room::Rooms, signal::auth::Authenticator};

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
}

/// Shared by all connections.
pub type SharedFaces = Arc<Faces>;

impl Faces {
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

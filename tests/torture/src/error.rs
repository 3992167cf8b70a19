//! Why there is no result.

use std::{io, path::PathBuf};

use voice_room_load::LoadError;

/// Why a run did not come to its end. What the audit finds is no error: it is in the report.
#[derive(Debug, thiserror::Error)]
pub enum TortureError {
    /// Something that the run needs is not there.
    #[error("{what} is missing: {}; build it first", path.display())]
    Missing {
        /// What.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
    },
    /// What another run has left would be audited with this one.
    #[error("{} has the data of an earlier run: name another folder, or remove it", .0.display())]
    Used(PathBuf),
    /// A file, a socket or a process.
    #[error("{what}: {why}")]
    System {
        /// What was done.
        what: &'static str,
        /// Why it failed.
        why: io::Error,
    },
    /// The server did not start, or ended by itself.
    #[error("the server {what}; its log is {}", log.display())]
    Server {
        /// What it did.
        what: String,
        /// Where it says why.
        log: PathBuf,
    },
    /// The participants could not be made.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A client of HTTP, or a token, could not be made.
    #[error("cannot make {what}: {why}")]
    Make {
        /// What.
        what: &'static str,
        /// Why not.
        why: String,
    },
}

impl TortureError {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |why| Self::System { what, why }
    }

    pub(crate) fn make(what: &'static str, why: &impl ToString) -> Self {
        let why = why.to_string();
        Self::Make { what, why }
    }
}

//! Which plugin a component is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// What a plugin calls itself.
#[derive(Deserialize)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) version: Option<String>,
}

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no manifest, or it cannot be had.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl Identity {
    /// By its manifest.
    pub(super) fn of_manifest(path: &Path) -> Result<Self, IdentityError> {
        let text = fs::read_to_string(path).map_err(|error| IdentityError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        toml::from_str(&text).map_err(|error| IdentityError::Malformed {
            path: path.to_owned(),
            problem: error.to_string(),
        })
    }
}

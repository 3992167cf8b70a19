//! Which plugin a component is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

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

/// Of a component, in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_is_wrong_is_told_by_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.toml");
        assert!(matches!(
            Identity::of_manifest(&path),
            Err(IdentityError::Unreadable { .. })
        ));
        fs::write(&path, "nam = 'x'").unwrap();
        let error = Identity::of_manifest(&path).err().unwrap().to_string();
        assert!(
            error.contains("plugin.toml") && error.contains("`name`"),
            "{error}"
        );
    }

    #[test]
    fn hashes_are_those_that_other_programs_print() {
        let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), of_nothing);
    }
}

//! A plugin's files: what is in them, and whether they lie still.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use sha2::{Digest, Sha256};

use super::limits;
use crate::config::PluginConfig;

/// What is in the files that make up a version, as `sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) component: String,
    /// `None` if there is no such file.
    pub(super) manifest: Option<String>,
}

impl Contents {
    /// Reads them. Blocks.
    pub(super) fn read(config: &PluginConfig) -> io::Result<Self> {
        Ok(Self {
            component: of_file(&config.path)?,
            manifest: of_manifest(config),
        })
    }
}

/// What is in the manifest, if that can be read. Blocks.
pub(super) fn of_manifest(config: &PluginConfig) -> Option<String> {
    of_file(&config.manifest).ok()
}

/// The name of a content.
pub(super) fn digest(bytes: &[u8]) -> String {
    named(Sha256::new_with_prefix(bytes))
}

/// No more is read than may be in a component: what is larger is refused, whatever it is.
fn of_file(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?.take(limits::COMPONENT + 1);
    io::copy(&mut file, &mut hash)?;
    Ok(named(hash))
}

fn named(hash: Sha256) -> String {
    let mut text = "sha256:".to_owned();
    for byte in hash.finalize() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file, or of the one that a link leads to; `None` if there is none. Blocks.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            file: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// Whether both are the same file, whatever is in it.
    pub(super) fn same_file(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_has_one_name_in_memory_and_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugin.wasm");
        fs::write(&path, b"some bytes").unwrap();
        let config = PluginConfig::new("plugin", path.clone());
        let read = Contents::read(&config).unwrap();
        assert_eq!(read.component, digest(b"some bytes"));
        assert_eq!(read.manifest, None);
        fs::write(&config.manifest, b"name = \"plugin\"").unwrap();
        assert_ne!(Contents::read(&config).unwrap(), read);
    }

    #[test]
    fn a_file_that_is_replaced_is_another_even_if_it_has_the_same_size() {
        let dir = tempfile::tempdir().unwrap();
        let (path, next) = (dir.path().join("a"), dir.path().join("a.new"));
        assert_eq!(Stamp::of(&path), None);
        fs::write(&path, b"1").unwrap();
        let before = Stamp::of(&path).unwrap();
        assert_eq!(Stamp::of(&path), Some(before));
        fs::write(&next, b"2").unwrap();
        fs::rename(&next, &path).unwrap();
        let after = Stamp::of(&path).unwrap();
        assert_ne!(after, before);
        assert!(!after.same_file(&before));
    }
}

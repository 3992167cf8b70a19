//! `plugin replay`: recorded calls through another version.

use std::{fs::File, io::BufReader, path::PathBuf};

use super::{
    Report,
    component::{Identity, IdentityError},
    json,
};
use crate::{
    cli::ReplayOptions,
    config::PluginConfig,
    plugin::{self, ReplayError},
};

/// Why nothing was replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayToolError {
    /// The manifest is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The recording cannot be opened.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It cannot be replayed.
    #[error("{}: {error}", path.display())]
    Replay {
        /// The recording.
        path: PathBuf,
        /// Why.
        error: ReplayError,
    },
}

/// Replays.
///
/// # Errors
///
/// If the recording cannot be read or the component not be loaded.
pub(super) async fn recording(options: &ReplayOptions) -> Result<Report, ReplayToolError> {
    let manifest = match &options.manifest {
        Some(manifest) => manifest.clone(),
        None => options.plugin.with_extension("toml"),
    };
    let name = match &options.name {
        Some(name) => name.clone(),
        None => Identity::of_manifest(&manifest)?.name,
    };
    let config = PluginConfig {
        manifest,
        ..PluginConfig::new(&name, options.plugin.clone())
    };
    let path = || options.calls.clone();
    let calls = File::open(&options.calls).map_err(|error| ReplayToolError::Unreadable {
        path: path(),
        error,
    })?;
    let limits = plugin::ReplayOptions::default();
    let replayed = plugin::replay(BufReader::new(calls), &config, &limits).await;
    let report = replayed.map_err(|error| ReplayToolError::Replay {
        path: path(),
        error,
    })?;
    Ok(Report {
        fine: report.differing == 0,
        text: if options.json {
            json(&report)
        } else {
            report.to_string()
        },
    })
}

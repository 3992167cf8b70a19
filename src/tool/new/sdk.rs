//! The SDK as a project gets it: sources that depend on nothing of this repository.

use std::path::Path;

use rust_embed::RustEmbed;
use toml::{Table, Value};

use super::{NewError, write};
use crate::cli::Language;

#[derive(RustEmbed)]
#[folder = "plugin-sdk/src"]
struct RustSources;

#[derive(RustEmbed)]
#[folder = "plugin-sdk/js/src"]
struct JsSources;

#[derive(RustEmbed)]
#[folder = "plugin-sdk/js/bin"]
struct JsPrograms;

/// The contract.
#[derive(RustEmbed)]
#[folder = "plugin-sdk/wit"]
struct Wit;

const MANIFEST: &str = include_str!("../../../plugin-sdk/Cargo.toml");
const WORKSPACE: &str = include_str!("../../../Cargo.toml");
const JS_FILES: [(&str, &str); 2] = [
    (
        "README.md",
        include_str!("../../../plugin-sdk/js/README.md"),
    ),
    (
        "package.json",
        include_str!("../../../plugin-sdk/js/package.json"),
    ),
];
const LICENSES: [(&str, &str); 2] = [
    ("LICENSE-APACHE", include_str!("../../../LICENSE-APACHE")),
    ("LICENSE-MIT", include_str!("../../../LICENSE-MIT")),
];

/// The SDK of one language.
pub(super) struct Kit(Language);

impl Kit {
    pub(super) fn of(language: Language) -> Self {
        Self(language)
    }

    /// Where it lies in a project.
    pub(super) fn place(&self) -> &'static str {
        match self.0 {
            Language::Rust => "vendor/voice-room-plugin-sdk",
            Language::Js => "sdk",
        }
    }

    /// The full path of an SDK that the project is to use where it lies.
    pub(super) fn elsewhere(&self, folder: &Path) -> Result<String, NewError> {
        let wanted = match self.0 {
            Language::Rust => "Cargo.toml",
            Language::Js => "package.json",
        };
        let no_sdk = || NewError::NoSdk {
            folder: folder.to_owned(),
            wanted,
        };
        let full = folder.canonicalize().map_err(|_| no_sdk())?;
        if !full.join(wanted).is_file() {
            return Err(no_sdk());
        }
        full.to_str().map(str::to_owned).ok_or_else(no_sdk)
    }

    /// Writes it into a project.
    pub(super) fn write(&self, project: &Path) -> Result<(), NewError> {
        let folder = project.join(self.place());
        copy::<Wit>(&folder.join("wit"))?;
        for (name, text) in LICENSES {
            write(&folder.join(name), text.as_bytes())?;
        }
        match self.0 {
            Language::Rust => {
                copy::<RustSources>(&folder.join("src"))?;
                let manifest = standalone(MANIFEST, WORKSPACE).map_err(NewError::Unusable)?;
                write(&folder.join("Cargo.toml"), manifest.as_bytes())
            }
            Language::Js => {
                copy::<JsSources>(&folder.join("src"))?;
                copy::<JsPrograms>(&folder.join("bin"))?;
                for (name, text) in JS_FILES {
                    write(&folder.join(name), text.as_bytes())?;
                }
                Ok(())
            }
        }
    }
}

fn copy<Files: RustEmbed>(to: &Path) -> Result<(), NewError> {
    for path in Files::iter() {
        if let Some(file) = Files::get(&path) {
            write(&to.join(&*path), &file.data)?;
        }
    }
    Ok(())
}

/// The SDK's manifest with all that it inherits from its workspace written out, and without
/// what only its own tests need.
fn standalone(manifest: &str, workspace: &str) -> Result<String, String> {
    let read = |text: &str| text.parse::<Table>().map_err(|error| error.to_string());
    let (mut manifest, workspace) = (read(manifest)?, read(workspace)?);
    let shared = |key: &str| workspace.get("workspace")?.get(key)?.as_table();
    let (package, dependencies) = (shared("package"), shared("dependencies"));
    for one in ["dev-dependencies", "lints", "example"] {
        manifest.remove(one);
    }
    if let Some(own) = manifest.get_mut("package") {
        inherit(own, package)?;
    }
    if let Some(own) = manifest.get_mut("dependencies") {
        inherit(own, dependencies)?;
    }
    let targets = manifest.get_mut("target").and_then(Value::as_table_mut);
    for (_, target) in targets.into_iter().flatten() {
        if let Some(own) = target.get_mut("dependencies") {
            inherit(own, dependencies)?;
        }
    }
    toml::to_string(&manifest).map_err(|error| error.to_string())
}

/// Replaces `key.workspace = true` by what the workspace says.
fn inherit(own: &mut Value, shared: Option<&Table>) -> Result<(), String> {
    for (key, value) in own.as_table_mut().into_iter().flatten() {
        if value.get("workspace").is_some() {
            let from = shared.and_then(|shared| shared.get(key));
            *value = from
                .cloned()
                .ok_or_else(|| format!("the workspace has no {key}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_needs_no_workspace() {
        let text = standalone(MANIFEST, WORKSPACE).unwrap();
        assert!(!text.contains("workspace"), "{text}");
        let manifest: Table = text.parse().unwrap();
        assert_eq!(manifest["package"]["edition"].as_str(), Some("2024"));
        assert_eq!(
            manifest["dependencies"]["serde"]["version"].as_str(),
            Some("1")
        );
        assert!(!manifest.contains_key("dev-dependencies"));
        let wasm = &manifest["target"]["cfg(target_family = \"wasm\")"];
        assert!(wasm["dependencies"]["wit-bindgen"].is_table());
    }

    #[test]
    fn what_the_workspace_lacks_is_named() {
        let error = standalone("[package]\nlicense.workspace = true", "[workspace]").unwrap_err();
        assert!(error.contains("license"), "{error}");
    }
}

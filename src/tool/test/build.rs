//! From a project's folder to its component, by the project's own tools.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

const TARGET: &str = "wasm32-wasip2";

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Neither Rust nor JavaScript.
    #[error("{} has neither Cargo.toml nor package.json: it is no plugin's project", .0.display())]
    NoProject(PathBuf),
    /// A program could not be started.
    #[error("{program} cannot be started: {error}; is it installed?")]
    NoProgram {
        /// Its name.
        program: &'static str,
        /// Why.
        error: io::Error,
    },
    /// A program has failed.
    #[error("`{command}` failed:\n{output}")]
    Failed {
        /// With its arguments.
        command: String,
        /// All that it has printed.
        output: String,
    },
    /// The package is not built as a component.
    #[error("{}: the package has no library of crate-type \"cdylib\"", .0.display())]
    NoLibrary(PathBuf),
    /// Cargo speaks of the project in a way that is not understood.
    #[error("cargo metadata is not as expected: {0}")]
    Metadata(String),
    /// The manifest cannot be placed beside the component.
    #[error("the manifest cannot be copied to {}: {error}", path.display())]
    NoPlace {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It was not built before, or elsewhere.
    #[error("there is no component {}: build the project, or name the file with --component", .0.display())]
    NoComponent(PathBuf),
}

/// Builds a project, unless it is to be taken as it is, and places its manifest beside the
/// component. Returns the component's path.
///
/// # Errors
///
/// If a tool fails, with all that it said, or if there is no component in the end.
pub(super) fn component(folder: &Path, name: &str, anew: bool) -> Result<PathBuf, BuildError> {
    let (cargo, npm) = (folder.join("Cargo.toml"), folder.join("package.json"));
    let component = if cargo.is_file() {
        let found = rust_component(&cargo)?;
        if anew {
            let arguments = ["build", "--release", "--target", TARGET];
            build(folder, "cargo", &arguments)?;
            place_manifest(folder, &found)?;
        }
        found
    } else if npm.is_file() {
        if anew {
            if !folder.join("node_modules").is_dir() {
                build(folder, "npm", &["install", "--no-audit", "--no-fund"])?;
            }
            build(folder, "npm", &["run", "build"])?;
        }
        folder.join("dist").join(format!("{name}.wasm"))
    } else {
        return Err(BuildError::NoProject(folder.to_owned()));
    };
    if component.is_file() {
        Ok(component)
    } else {
        Err(BuildError::NoComponent(component))
    }
}

/// Where `check`, `bench` and servers look for it. The tools for JavaScript do the same.
fn place_manifest(folder: &Path, component: &Path) -> Result<(), BuildError> {
    let path = component.with_extension("toml");
    match fs::copy(folder.join("plugin.toml"), &path) {
        Ok(_) => Ok(()),
        Err(error) => Err(BuildError::NoPlace { path, error }),
    }
}

/// What of `cargo metadata` says where a component will be.
#[derive(Deserialize)]
struct Metadata {
    target_directory: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

fn rust_component(manifest: &Path) -> Result<PathBuf, BuildError> {
    let folder = manifest.parent().unwrap_or(Path::new("."));
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let told = run(folder, "cargo", &arguments)?;
    let metadata: Metadata =
        serde_json::from_str(&told).map_err(|error| BuildError::Metadata(error.to_string()))?;
    let full = manifest
        .canonicalize()
        .map_err(|error| BuildError::Metadata(error.to_string()))?;
    let mut packages = metadata.packages.into_iter();
    let package = packages.find(|package| package.manifest_path == full);
    let targets = package.map_or(Vec::new(), |package| package.targets);
    let is_library = |target: &&Target| target.kind.iter().any(|kind| kind == "cdylib");
    let Some(library) = targets.iter().find(is_library) else {
        return Err(BuildError::NoLibrary(manifest.to_owned()));
    };
    let file = format!("{}.wasm", library.name.replace('-', "_"));
    let folder = metadata.target_directory.join(TARGET).join("release");
    Ok(folder.join(file))
}

/// Runs a program that may take minutes, and says so.
fn build(folder: &Path, program: &'static str, arguments: &[&str]) -> Result<(), BuildError> {
    eprintln!("{}: {program} {}", folder.display(), arguments.join(" "));
    run(folder, program, arguments).map(drop)
}

/// Runs a program in the folder; what it says is shown if it fails, and else its standard
/// output is returned.
fn run(folder: &Path, program: &'static str, arguments: &[&str]) -> Result<String, BuildError> {
    let done = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .map_err(|error| BuildError::NoProgram { program, error })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() {
        return Ok(text(&done.stdout));
    }
    Err(BuildError::Failed {
        command: format!("{program} {}", arguments.join(" ")),
        output: text(&done.stdout) + &text(&done.stderr),
    })
}

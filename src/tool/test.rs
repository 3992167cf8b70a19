//! `plugin test`: builds a project and runs its scenarios, without a server.

mod build;
mod matching;
mod play;
mod scenario;
mod scene;
mod verdict;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;

use build::BuildError;
use play::{Played, StepFailure};
use scenario::Scenario;

use super::{
    Report,
    component::{Identity, IdentityError},
    json,
};
use crate::{
    cli::TestOptions,
    config::PluginConfig,
    plugin::{LoadError, OfflineOptions},
};

/// Why no scenario was run.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The manifest is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no component.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Nothing to run.
    #[error("there is no scenario: write {}, as `voice-room plugin test --help` describes", .0.join("NAME.toml").display())]
    NoScenario(PathBuf),
    /// Compiled code has no place.
    #[error("no temporary folder: {0}")]
    NoTemporary(io::Error),
}

/// What all scenarios came to.
#[derive(Serialize)]
struct Tested {
    plugin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    component: PathBuf,
    passed: bool,
    scenarios: Vec<ScenarioResult>,
}

#[derive(Serialize)]
struct ScenarioResult {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    passed: bool,
    /// Steps that were played.
    steps: usize,
    failures: Vec<StepFailure>,
    /// Why it could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Builds and runs.
///
/// # Errors
///
/// If it does not build, or if there is nothing to run.
pub(super) async fn project(options: &TestOptions) -> Result<Report, TestError> {
    let manifest = options.folder.join("plugin.toml");
    let identity = Identity::of_manifest(&manifest)?;
    let files = scenario_files(&options.folder.join("scenarios"))?;
    let component = match &options.component {
        Some(file) if file.is_file() => file.clone(),
        Some(file) => return Err(BuildError::NoComponent(file.clone()).into()),
        None => build::component(&options.folder, &identity.name, !options.no_build)?,
    };
    // All scenarios but the first find the compiled code here.
    let temporary = tempfile::tempdir().map_err(TestError::NoTemporary)?;
    let cache = options.cache.as_deref().unwrap_or(temporary.path());
    let offline = OfflineOptions {
        cache_dir: Some(cache.to_owned()),
        ..OfflineOptions::default()
    };
    let config = PluginConfig {
        manifest,
        ..PluginConfig::new(&identity.name, component.clone())
    };
    let mut scenarios = Vec::with_capacity(files.len());
    for file in &files {
        scenarios.push(run(file, &config, &offline).await?);
    }
    let tested = Tested {
        plugin: identity.name,
        version: identity.version,
        component,
        passed: scenarios.iter().all(|scenario| scenario.passed),
        scenarios,
    };
    Ok(Report {
        text: if options.json {
            json(&tested)
        } else {
            tested.for_people()
        },
        fine: tested.passed,
    })
}

/// All scenarios of a folder, by name.
fn scenario_files(folder: &Path) -> Result<Vec<PathBuf>, TestError> {
    let unreadable = |error| TestError::Unreadable {
        path: folder.to_owned(),
        error,
    };
    let mut files = Vec::new();
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(unreadable)?.path();
                if path
                    .extension()
                    .is_some_and(|extension| extension == "toml")
                {
                    files.push(path);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(error)),
    }
    if files.is_empty() {
        return Err(TestError::NoScenario(folder.to_owned()));
    }
    files.sort();
    Ok(files)
}

async fn run(
    file: &Path,
    config: &PluginConfig,
    options: &OfflineOptions,
) -> Result<ScenarioResult, TestError> {
    let text = fs::read_to_string(file).map_err(|error| TestError::Unreadable {
        path: file.to_owned(),
        error,
    })?;
    let mut result = ScenarioResult {
        file: file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        description: None,
        passed: false,
        steps: 0,
        failures: Vec::new(),
        error: None,
    };
    let scenario = match Scenario::read(&text) {
        Ok(scenario) => scenario,
        Err(malformed) => {
            result.error = Some(malformed.to_string());
            return Ok(result);
        }
    };
    let played: Result<Played, LoadError> = play::play(&scenario, config, options.clone()).await;
    result.description = scenario.description;
    match played {
        Ok(Played { steps, failures }) => {
            result.passed = failures.is_empty();
            result.steps = steps;
            result.failures = failures;
        }
        Err(error) => result.error = Some(error.to_string()),
    }
    Ok(result)
}

impl Tested {
    fn for_people(&self) -> String {
        let version = self.version.as_deref().unwrap_or_default();
        let mut text = format!("{} {version} ({})\n", self.plugin, self.component.display());
        let longest = self.scenarios.iter().map(|one| one.file.len()).max();
        let width = longest.unwrap_or(0);
        for scenario in &self.scenarios {
            let verdict = if scenario.passed { "ok  " } else { "FAIL" };
            let steps = scenario.steps;
            let plural = if steps == 1 { "" } else { "s" };
            let file = &scenario.file;
            text += &format!("  {verdict}  {file:width$}  {steps} step{plural}\n");
            if scenario.passed {
                continue;
            }
            if let Some(description) = &scenario.description {
                text += &format!("        {description}\n");
            }
            if let Some(error) = &scenario.error {
                text += &format!("        {error}\n");
            }
            for failure in &scenario.failures {
                text += &failure.for_people();
            }
        }
        let failed = self.scenarios.iter().filter(|one| !one.passed).count();
        text + &match (self.scenarios.len(), failed) {
            (1, 0) => "1 scenario passed\n".to_owned(),
            (all, 0) => format!("{all} scenarios passed\n"),
            (all, failed) => format!("{failed} of {all} scenarios failed\n"),
        }
    }
}

impl StepFailure {
    fn for_people(&self) -> String {
        let Self {
            step,
            line,
            deed,
            mismatch,
        } = self;
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => "nothing".to_owned(),
            other => other.to_string(),
        };
        format!(
            "        step {step}, line {line}: {deed}\n          {}\n            expected  {}\n            got       {}\n",
            mismatch.expectation,
            shown(&mismatch.expected),
            shown(&mismatch.got)
        )
    }
}

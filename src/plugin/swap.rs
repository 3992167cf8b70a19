//! Swapping a plugin while people talk: another version is made ready aside, takes over
//! between two calls, and gives way to the one before it if it fails right away.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    PluginHost, PluginProblem, PluginStatus, Shared,
    files::Contents,
    lane::Held,
    place::{Place, Version},
};
use crate::config::PluginConfig;

/// A swap that has been done.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// The plugin's name in the configuration.
    pub name: String,
    /// The component that runs now, as `sha256:…`.
    pub component: String,
    /// The one before.
    pub previous: String,
    /// From the request until calls reach the new version, in milliseconds.
    pub took_ms: f64,
}

/// Why there was no swap. What ran goes on.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// No plugin of the configuration has this name.
    #[error("there is no plugin `{0}`; `voice-room plugin list` shows those that run")]
    Unknown(String),
    /// The new version cannot be used.
    #[error("{0}")]
    Unusable(PluginProblem),
}

impl PluginHost {
    /// What each plugin is and how it does, in the configured order.
    #[must_use]
    pub fn status(&self) -> Vec<PluginStatus> {
        self.shared.plugins.iter().map(|one| one.status()).collect()
    }

    /// Loads a plugin's files anew, whether they have changed or not.
    ///
    /// # Errors
    ///
    /// If there is no such plugin, or its new version cannot be used.
    pub async fn reload(&self, name: &str) -> Result<Reloaded, SwapError> {
        self.swap(self.place(name)?, None).await
    }

    /// Goes over to another configuration of a plugin: component, settings, grants, limits
    /// and policies. How many instances it has stays as it is.
    ///
    /// # Errors
    ///
    /// If there is no plugin of this name, or its new version cannot be used.
    pub async fn reconfigure(&self, config: &PluginConfig) -> Result<Reloaded, SwapError> {
        let place = self.place(&config.name)?;
        self.swap(place, Some(config)).await
    }

    /// The configuration that a plugin runs under.
    #[must_use]
    pub fn config_of(&self, name: &str) -> Option<PluginConfig> {
        let place = self.place(name).ok()?;
        Some(place.version().config.clone())
    }

    /// Whether a plugin runs under this configuration, however many instances that says, and
    /// from these files, or has just failed to.
    pub async fn is_current(&self, config: &PluginConfig) -> bool {
        let Ok(place) = self.place(&config.name) else {
            return false;
        };
        let running = PluginConfig {
            instances: config.instances,
            ..place.version().config.clone()
        };
        if running != *config {
            return false;
        }
        let reading = tokio::task::spawn_blocking(move || Contents::read(&running));
        matches!(reading.await, Ok(Ok(contents)) if place.knows(&contents))
    }

    pub(super) fn place(&self, name: &str) -> Result<&Arc<Place>, SwapError> {
        let mut plugins = self.shared.plugins.iter();
        plugins
            .find(|place| &**place.name() == name)
            .ok_or_else(|| SwapError::Unknown(name.to_owned()))
    }

    /// To another configuration, or to what the files of the current one are by now.
    async fn swap(
        &self,
        place: &Arc<Place>,
        config: Option<&PluginConfig>,
    ) -> Result<Reloaded, SwapError> {
        let began = Instant::now();
        let _alone = place.swapping.lock().await;
        let current = place.version();
        let config = config.unwrap_or(&current.config);
        let unusable = |problem: String| {
            place.refused(&problem);
            SwapError::Unusable(config.problem(problem))
        };
        let (version, held) = place.prepare(config).await.map_err(unusable)?;
        let previous = current.component().to_owned();
        let quiet = place.quiet(&version).await;
        let installed = self.shared.install(place, &version, held, false);
        drop(quiet);
        installed.map_err(|all| {
            let all: Vec<_> = all.into_iter().map(|one| one.problem).collect();
            unusable(all.join("; "))
        })?;
        // It may have files elsewhere.
        self.shared.look.notify_one();
        let took = began.elapsed();
        tracing::info!(
            plugin = %place.name(), component = version.component(), previous, ?took,
            "plugin swapped"
        );
        Ok(Reloaded {
            name: place.name().to_string(),
            component: version.component().to_owned(),
            previous,
            took_ms: took.as_secs_f64() * 1000.0,
        })
    }

    /// Watches over versions on probation.
    pub(super) fn supervise(&self) {
        for place in &self.shared.plugins {
            let (shared, place) = (Arc::downgrade(&self.shared), Arc::downgrade(place));
            tokio::spawn(watch_over(shared, place));
        }
    }
}

impl Shared {
    /// Who answers which command, once a plugin has gone over to another version.
    fn commands_with(
        &self,
        changed: &Arc<Place>,
        version: &Arc<Version>,
    ) -> Result<BTreeMap<String, usize>, Vec<PluginProblem>> {
        let versions: Vec<_> = self
            .plugins
            .iter()
            .map(|place| {
                if Arc::ptr_eq(place, changed) {
                    Arc::clone(version)
                } else {
                    place.version()
                }
            })
            .collect();
        commands_of(&versions)
    }

    /// Has another version of a plugin take over, unless one of its commands is taken.
    fn install(
        &self,
        place: &Arc<Place>,
        version: &Arc<Version>,
        held: Vec<Held>,
        rollback: bool,
    ) -> Result<(), Vec<PluginProblem>> {
        let _alone = self.installing.lock();
        let commands = self.commands_with(place, version)?;
        place.install(version, held, rollback);
        self.commands.store(Arc::new(commands));
        Ok(())
    }

    async fn roll_back(&self, place: &Arc<Place>) {
        let _alone = place.swapping.lock().await;
        // Looked at again: it may have been replaced in the meantime.
        let Some(previous) = place.to_roll_back() else {
            return;
        };
        let failed = place.version().component().to_owned();
        let mut held = Vec::new();
        for _ in place.lanes() {
            match previous.template.hold().await {
                Ok(one) => held.push(one),
                Err(failure) => {
                    tracing::error!(
                        plugin = %place.name(), %failure,
                        "the version before does not start any more: the new one stays"
                    );
                    return;
                }
            }
        }
        let (plugin, back) = (place.name(), previous.component());
        let quiet = place.quiet(&previous).await;
        let installed = self.install(place, &previous, held, true);
        drop(quiet);
        match installed {
            Ok(()) => tracing::error!(
                %plugin, failed, component = back,
                "a new version failed right after its swap: the one before is back"
            ),
            Err(problems) => tracing::error!(
                %plugin, ?problems,
                "the version before does not fit any more: the new one stays"
            ),
        }
    }
}

/// How often a version on probation is looked at, besides at each failure.
const LOOK: Duration = Duration::from_secs(60);

async fn watch_over(shared: Weak<Shared>, place: Weak<Place>) {
    loop {
        let Some(failing) = place
            .upgrade()
            .map(|place| Arc::clone(&place.common.failing))
        else {
            return;
        };
        // Either way it is looked at.
        drop(tokio::time::timeout(LOOK, failing.notified()).await);
        let (Some(shared), Some(place)) = (shared.upgrade(), place.upgrade()) else {
            return;
        };
        if place.to_roll_back().is_some() {
            shared.roll_back(&place).await;
        }
    }
}

/// Which plugin answers which command: no two the same.
pub(super) fn commands_of(
    versions: &[Arc<Version>],
) -> Result<BTreeMap<String, usize>, Vec<PluginProblem>> {
    let mut commands = BTreeMap::new();
    let mut problems = Vec::new();
    for (number, version) in versions.iter().enumerate() {
        for command in &version.commands {
            match commands.entry(command.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(number);
                }
                Entry::Occupied(entry) if *entry.get() != number => {
                    let other = versions.get(*entry.get());
                    let other = other.map_or("", |other| &other.config.name);
                    let problem = format!("registers `{command}`, as `{other}` does");
                    problems.push(version.config.problem(problem));
                }
                Entry::Occupied(_) => {}
            }
        }
    }
    if problems.is_empty() {
        Ok(commands)
    } else {
        Err(problems)
    }
}

//! Stub: the merger takes the real one.

use std::{path::PathBuf, time::Duration};

/// One plugin of the configuration.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// Its name, unique among the plugins.
    pub name: String,
    /// Its component.
    pub path: PathBuf,
    /// How many instances serve its rooms side by side.
    pub instances: usize,
    /// Memory of one instance, in bytes.
    pub memory_limit: usize,
    /// How long one hook may run.
    pub time_budget: Duration,
    /// What is answered in its place when it fails.
    pub on_failure: FailurePolicies,
    /// What it reads as its settings: a JSON object.
    pub settings: serde_json::Value,
}

/// What a failed deciding hook counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// A refusal.
    #[default]
    Deny,
    /// Consent.
    Allow,
}

/// The policy of each deciding hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailurePolicies {
    /// For `before-join`.
    pub before_join: FailurePolicy,
    /// For `before-produce`.
    pub before_produce: FailurePolicy,
}

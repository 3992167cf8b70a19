//! What a plugin is given: its place, its limits, its grants, and what happens when it fails.

mod policy;

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use self::policy::{HookPolicies, HookPolicy, OnFailure};
use super::{
    Origin,
    kind::{self, Choice, Kind},
    reader::Section,
};

/// The plugins of a configuration that names none, in order.
const STANDARD: [&str; 3] = ["moderation", "seats", "billing"];

const MIB: usize = 1024 * 1024;

/// One plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// Unique; refusals, logs, metrics and `plugins.<name>` of the join answer
    /// carry it.
    pub name: String,
    /// The component. Default `<plugins_dir>/<name>.wasm`.
    pub path: PathBuf,
    /// What the plugin says of itself and asks for. Default: the component's
    /// path with the extension `.toml`.
    pub manifest: PathBuf,
    /// What it may do of what its manifest asks for. Default: all for the
    /// standard plugins, nothing for others.
    pub grants: Grants,
    /// Whether its memory lives on between calls. Default live.
    pub isolation: Isolation,
    /// Instances that run side by side; a room always meets the same one. Default 4.
    pub instances: usize,
    /// Memory of one instance, in bytes (`memory_limit_mib`). Default 64 MiB.
    pub memory_limit: usize,
    /// What it may keep under keys, in bytes (`storage_limit_mib`). Default 64 MiB.
    pub storage_limit: usize,
    /// Keys that it may keep. Default 100,000.
    pub max_keys: usize,
    /// Timers that it may have. Default 100,000.
    pub max_timers: usize,
    /// Time budgets and failure policies.
    pub hooks: HookPolicies,
    /// Deliveries of a fact whose hook fails and whose policy is to retry, until
    /// the fact becomes a dead letter or, if it is in the ledger, until the log
    /// says that the plugin does not take it. Default 8.
    pub retry_limit: u32,
    /// When a plugin that keeps failing is left alone for a while.
    pub breaker: BreakerConfig,
    /// How long after a swap a version that fails is replaced by the one before
    /// it. Default 30 s.
    pub probation: Duration,
    /// Whether the component is loaded anew when its file changes. Default yes.
    pub watch: bool,
    /// Whether its calls are recorded. Default no.
    pub record: bool,
    /// A second version that runs beside this one on the same calls; what it
    /// answers is compared and discarded. Default none.
    pub shadow: Option<PathBuf>,
    /// A JSON object for the plugin. Default `{}`.
    pub settings: serde_json::Value,
}

/// Something that a plugin can do only if its manifest asks for it and the
/// configuration grants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Import `key-value`.
    KeyValue,
    /// Import `timers`.
    Timers,
    /// Import `events`: publish to the outside.
    Publish,
    /// Import `metrics`.
    Metrics,
    /// Send events of its own to clients.
    Emit,
    /// Mute producers, and lift its own mutes.
    Mute,
    /// Close producers.
    Close,
    /// Remove users from a room.
    Kick,
    /// Say who is among the active speakers of a room.
    PinSpeaker,
    /// Say how an allowed producer begins.
    Amend,
}

impl Capability {
    /// All, in the order in which they are listed to people.
    pub const ALL: [Self; 10] = [
        Self::KeyValue,
        Self::Timers,
        Self::Publish,
        Self::Metrics,
        Self::Emit,
        Self::Mute,
        Self::Close,
        Self::Kick,
        Self::PinSpeaker,
        Self::Amend,
    ];

    /// The word in manifests and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyValue => "key-value",
            Self::Timers => "timers",
            Self::Publish => "publish",
            Self::Metrics => "metrics",
            Self::Emit => "emit",
            Self::Mute => "mute",
            Self::Close => "close",
            Self::Kick => "kick",
            Self::PinSpeaker => "pin-speaker",
            Self::Amend => "amend",
        }
    }

    /// By its word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// What of its wishes a plugin is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    /// `["*"]`: whatever the manifest asks for.
    AllAsked,
    /// These, as far as the manifest asks for them.
    Listed(BTreeSet<Capability>),
}

/// Whether an instance is used for more than one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// An instance lives until it fails or is replaced.
    #[default]
    Live,
    /// Each call has an instance of its own: nothing can be left behind.
    Fresh,
}

/// A circuit breaker: after `failures` failed calls within `window` a plugin is
/// not called for `probe_after`, then one call tries whether it works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Default 5.
    pub failures: u32,
    /// `window_ms`, default 10 s.
    pub window: Duration,
    /// `probe_after_ms`, default 5 s; doubles with each probe that fails, up to
    /// sixteen times.
    pub probe_after: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(10),
            probe_after: Duration::from_secs(5),
        }
    }
}

impl PluginConfig {
    /// A plugin with the defaults of the configuration, and all that it asks for.
    #[must_use]
    pub fn new(name: &str, path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            manifest: path.with_extension("toml"),
            path,
            grants: Grants::AllAsked,
            isolation: Isolation::default(),
            instances: 4,
            memory_limit: 64 * MIB,
            storage_limit: 64 * MIB,
            max_keys: 100_000,
            max_timers: 100_000,
            hooks: HookPolicies::default(),
            retry_limit: 8,
            breaker: BreakerConfig::default(),
            probation: Duration::from_secs(30),
            watch: true,
            record: false,
            shadow: None,
            settings: serde_json::json!({}),
        }
    }
}

/// Where recorded calls go: `recordings/calls.jsonl` in `server.data_dir`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingConfig {
    /// Size at which a file is closed and the next one begun, in bytes
    /// (`max_file_mib`). Default 64 MiB.
    pub max_file: u64,
    /// Files that are kept, the current one included. Default 4.
    pub files: usize,
}

impl Default for RecordingConfig {
    fn default() -> Self {
        Self {
            max_file: 64 * MIB as u64,
            files: 4,
        }
    }
}

pub(super) fn recording(root: &mut Section<'_>) -> RecordingConfig {
    RecordingConfig {
        max_file: root.value("recording.max_file_mib", &kind::whole(1..=4096), 64) * MIB as u64,
        files: root.value("recording.files", &kind::whole(1..=1000), 4),
    }
}

pub(super) fn plugins(root: &mut Section<'_>, dev: bool, plugins_dir: &Path) -> Vec<PluginConfig> {
    let standard = STANDARD.map(|name| Table::from_iter([("name".to_owned(), Value::from(name))]));
    let mut names = HashSet::new();
    let plugins = root.tables("plugins", standard.into(), |section| {
        let plugin = plugin(section, dev, plugins_dir)?;
        if !names.insert(plugin.name.clone()) {
            let name = Some(format!("{:?}", plugin.name));
            let problem = "another plugin has this name".to_owned();
            section.mistake("name", name, Origin::Default, problem);
        }
        Some(plugin)
    });
    plugins.into_iter().flatten().collect()
}

/// `None` if it has no name, which is noted.
fn plugin(section: &mut Section<'_>, dev: bool, plugins_dir: &Path) -> Option<PluginConfig> {
    let name = Kind::text(
        "1 to 64 characters of a-z, 0-9 and -, the first a letter",
        |text| is_plugin_name(text).then(|| text.to_owned()),
        |text: &String| Value::from(text.as_str()),
    );
    let name = section.required("name", &name);
    let file = format!("{}.wasm", name.as_deref().unwrap_or_default());
    // To try a room out, somebody must be able to manage it, and a developer's
    // token has no roles.
    let managed = matches!(name.as_deref(), Some("seats" | "moderation"));
    let preset = if dev && managed {
        Table::from_iter([("first_is_owner".to_owned(), Value::from(true))])
    } else {
        Table::new()
    };
    let path = section.value("path", &kind::path(), plugins_dir.join(file));
    let default = PluginConfig::new(name.as_deref().unwrap_or_default(), path);
    let plugin = PluginConfig {
        manifest: section.value("manifest", &kind::path(), default.manifest.clone()),
        grants: grants(section, name.as_deref()),
        isolation: section.value("isolation", &kind::choice(), default.isolation),
        instances: section.value("instances", &kind::whole(1..=256), default.instances),
        memory_limit: section.value("memory_limit_mib", &kind::whole(1..=4096), 64) * MIB,
        storage_limit: section.value("storage_limit_mib", &kind::whole(1..=4096), 64) * MIB,
        max_keys: section.value("max_keys", &kind::whole(1..=10_000_000), default.max_keys),
        max_timers: section.value(
            "max_timers",
            &kind::whole(1..=10_000_000),
            default.max_timers,
        ),
        hooks: policy::hooks(section),
        retry_limit: section.value("retry_limit", &kind::whole(1..=1000), default.retry_limit),
        breaker: breaker(section, default.breaker),
        probation: section.value(
            "probation_ms",
            &kind::millis(0..=3_600_000),
            default.probation,
        ),
        watch: section.value("watch", &kind::boolean(), default.watch),
        record: section.value("record", &kind::boolean(), default.record),
        shadow: section.optional("shadow", &kind::path()),
        settings: section.object("settings", preset),
        ..default
    };
    name.map(|_| plugin)
}

/// The standard plugins are this project's own; whatever else is installed is granted by
/// whoever runs the server.
fn grants(section: &mut Section<'_>, name: Option<&str>) -> Grants {
    let words: Vec<_> = Capability::ALL.iter().map(|one| one.name()).collect();
    let kind = kind::texts(
        &format!("[\"*\"], or a list of {}", words.join(", ")),
        |word| word == "*" || Capability::from_name(word).is_some(),
    );
    let standard = name.is_some_and(|name| STANDARD.contains(&name));
    let default = if standard {
        vec!["*".to_owned()]
    } else {
        Vec::new()
    };
    let listed = section.value("grants", &kind, default);
    if listed.iter().any(|word| word == "*") {
        return Grants::AllAsked;
    }
    let listed = listed.iter().filter_map(|word| Capability::from_name(word));
    Grants::Listed(listed.collect())
}

fn breaker(section: &mut Section<'_>, default: BreakerConfig) -> BreakerConfig {
    BreakerConfig {
        failures: section.value(
            "breaker.failures",
            &kind::whole(1..=1_000_000),
            default.failures,
        ),
        window: section.value(
            "breaker.window_ms",
            &kind::millis(100..=3_600_000),
            default.window,
        ),
        probe_after: section.value(
            "breaker.probe_after_ms",
            &kind::millis(10..=3_600_000),
            default.probe_after,
        ),
    }
}

/// Whether a plugin can have this name: 1 to 64 characters of a-z, 0-9 and -, the first a letter.
#[must_use]
pub fn is_plugin_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

impl Choice for Isolation {
    const WORDS: &'static [(&'static str, Self)] = &[("live", Self::Live), ("fresh", Self::Fresh)];
}

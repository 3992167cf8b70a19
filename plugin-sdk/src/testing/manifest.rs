//! What a plugin's manifest asks for, held against what the plugin does.

use std::cell::RefCell;

use serde::Deserialize;
use serde_json::Value;

use crate::{Action, Actions, Amendment, Denial, Failure, InitError, Permit, Reply};

/// The text of `plugin.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "version")]
    _version: String,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    #[serde(default)]
    hooks: Vec<String>,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    capabilities: Vec<Capability>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Capability {
    KeyValue,
    Timers,
    Publish,
    Metrics,
    Emit,
    Mute,
    Close,
    Kick,
    PinSpeaker,
    Amend,
}

thread_local! {
    /// None: the test has not named a manifest, and everything is granted.
    static MANIFEST: RefCell<Option<Manifest>> = const { RefCell::new(None) };
}

pub(super) fn set(manifest: Option<Manifest>) {
    MANIFEST.set(manifest);
}

fn grants(granted: impl FnOnce(&Manifest) -> bool) -> bool {
    MANIFEST.with_borrow(|manifest| manifest.as_ref().is_none_or(granted))
}

fn has(capability: Capability) -> bool {
    grants(|manifest| manifest.capabilities.contains(&capability))
}

/// Whether the server would call this hook.
pub(super) fn names_hook(hook: &str) -> bool {
    grants(|manifest| manifest.hooks.iter().any(|named| named == hook))
}

pub(super) fn lists_topic(topic: &str) -> bool {
    grants(|manifest| {
        manifest
            .topics
            .iter()
            .any(|listed| match listed.strip_suffix('*') {
                Some(prefix) => topic.starts_with(prefix),
                None => topic == listed,
            })
    })
}

/// An import whose capability is missing: the server would not load such a component.
pub(super) fn require(capability: Capability) {
    assert!(
        has(capability),
        "the plugin uses what `capabilities` of its manifest does not ask for: {capability:?}"
    );
}

impl Manifest {
    pub(super) fn read(text: &str) -> Result<Self, InitError> {
        toml::from_str(text).map_err(|error| InitError::new(format!("manifest: {error}")))
    }

    pub(super) fn check_commands(&self, commands: &[&str]) -> Result<(), InitError> {
        let missing = commands
            .iter()
            .find(|&&name| !self.commands.iter().any(|it| it == name));
        match missing {
            None => Ok(()),
            Some(name) => Err(InitError::new(format!(
                "manifest: `commands` does not list `{name}`, which the plugin registers"
            ))),
        }
    }
}

/// What a hook returns, without that which is not granted.
pub(super) trait Trimmed: Sized {
    fn trimmed(self) -> Self;
}

impl Trimmed for Actions {
    fn trimmed(self) -> Self {
        match self.into_vec() {
            Ok(actions) => actions.into_iter().filter(granted).collect(),
            Err(failure) => Self::from(failure),
        }
    }
}

fn granted(action: &Action) -> bool {
    has(match action {
        Action::EmitToUser { .. } | Action::EmitToRoom { .. } => Capability::Emit,
        Action::Mute(_) | Action::Unmute(_) => Capability::Mute,
        Action::Close(_) => Capability::Close,
        Action::Kick { .. } => Capability::Kick,
        Action::PinSpeaker { .. } => Capability::PinSpeaker,
    })
}

impl Trimmed for Permit {
    fn trimmed(self) -> Self {
        self.map(
            |amendment| {
                if has(Capability::Amend) {
                    amendment
                } else {
                    Amendment::default()
                }
            },
            Actions::trimmed,
        )
    }
}

impl Trimmed for Reply {
    fn trimmed(mut self) -> Self {
        self.actions = self.actions.trimmed();
        self
    }
}

impl Trimmed for Denial {
    fn trimmed(self) -> Self {
        match self {
            Self::Refused(mut refusal) => {
                refusal.actions = refusal.actions.trimmed();
                Self::Refused(refusal)
            }
            Self::Failed(failure) => Self::Failed(failure),
        }
    }
}

impl Trimmed for Failure {
    fn trimmed(self) -> Self {
        self
    }
}

impl Trimmed for Option<Value> {
    fn trimmed(self) -> Self {
        self
    }
}

impl Trimmed for () {
    fn trimmed(self) -> Self {}
}

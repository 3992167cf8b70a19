//! What a plugin says of itself and asks for, and what it is granted.
//!
//! A manifest is the file `NAME.toml` beside the component. It asks; the server's
//! configuration grants; what a plugin may do is what both name.

use std::{
    collections::BTreeSet,
    io::Read,
    path::{Path, PathBuf},
};

use semver::Version;
use serde::Serialize;
use toml::{Table, Value};

use super::{host::printable, lift, limits};
use crate::{
    config::{Capability, Grants},
    model::Hook,
};

/// The keys of a manifest.
const KEYS: [&str; 7] = [
    "name",
    "version",
    "description",
    "hooks",
    "commands",
    "topics",
    "capabilities",
];

/// What a plugin says of itself, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// What the plugin calls itself; the configuration may call it something else.
    pub name: String,
    /// The plugin's own version, a semantic one.
    pub version: String,
    /// What it is for, in a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The hooks that the component exports, and no other.
    pub hooks: BTreeSet<Hook>,
    /// Client events that it may register.
    pub commands: BTreeSet<String>,
    /// Topics that it may publish to: a name, or the beginning of one with a `*` behind it.
    pub topics: BTreeSet<String>,
    /// What else it wants to be able to do.
    pub capabilities: BTreeSet<Capability>,
}

/// Why there is no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ManifestError {
    /// The file is not there.
    #[error(
        "has no manifest: {} is missing; `voice-room plugin check {}` shows what to write into it",
        file.display(), component.display()
    )]
    Missing { file: PathBuf, component: PathBuf },
    /// The file is there but cannot be had.
    #[error("has a manifest that cannot be read: {}: {why}", file.display())]
    Unreadable { file: PathBuf, why: String },
    /// All that is wrong with it.
    #[error("has a manifest with mistakes: {}: {}", file.display(), mistakes.join("; "))]
    Mistaken {
        file: PathBuf,
        mistakes: Vec<String>,
    },
}

impl Manifest {
    /// Reads the manifest of a component.
    pub(super) fn read(file: &Path, component: &Path) -> Result<Self, ManifestError> {
        let unreadable = |why: String| ManifestError::Unreadable {
            file: file.to_owned(),
            why,
        };
        let opened = std::fs::File::open(file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ManifestError::Missing {
                file: file.to_owned(),
                component: component.to_owned(),
            },
            _ => unreadable(error.to_string()),
        })?;
        let mut text = String::new();
        opened
            .take(limits::MANIFEST + 1)
            .read_to_string(&mut text)
            .map_err(|error| unreadable(error.to_string()))?;
        if text.len() as u64 > limits::MANIFEST {
            return Err(unreadable(format!(
                "it is larger than {} bytes",
                limits::MANIFEST
            )));
        }
        Self::parse(&text).map_err(|mistakes| ManifestError::Mistaken {
            file: file.to_owned(),
            mistakes,
        })
    }

    /// A manifest, or all that is wrong with it: each a sentence that begins with the key.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<String>> {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| vec![syntax(text, &error)])?;
        let mut reader = Reader {
            table,
            mistakes: Vec::new(),
        };
        reader.unknown_keys();
        let manifest = Self {
            name: reader.name(),
            version: reader.version(),
            description: reader.description(),
            hooks: reader.hooks(),
            commands: reader.commands(),
            topics: reader.topics(),
            capabilities: reader.capabilities(),
        };
        if !manifest.commands.is_empty() && !manifest.hooks.contains(&Hook::OnCommand) {
            reader.mistake("`hooks` lacks \"on-command\", which `commands` needs".to_owned());
        }
        let publishes = manifest.capabilities.contains(&Capability::Publish);
        if !manifest.topics.is_empty() && !publishes {
            reader.mistake("`capabilities` lacks \"publish\", which `topics` needs".to_owned());
        }
        if reader.mistakes.is_empty() {
            Ok(manifest)
        } else {
            Err(reader.mistakes)
        }
    }

    /// A manifest for a component that has none, as text: what can be seen from outside.
    pub(super) fn suggested(
        name: &str,
        hooks: &BTreeSet<Hook>,
        imported: &BTreeSet<Capability>,
    ) -> String {
        let names: Vec<_> = hooks.iter().map(|hook| hook.name()).collect();
        let mut lines = vec![
            format!("name = {name:?}"),
            "version = \"0.1.0\"".to_owned(),
            format!("hooks = {}", listed(&names)),
        ];
        if hooks.contains(&Hook::OnCommand) {
            lines.push("commands = [] # those that `init` registers".to_owned());
        }
        if imported.contains(&Capability::Publish) {
            lines.push("topics = [] # those that it publishes to".to_owned());
        }
        let actions = Capability::ALL
            .into_iter()
            .filter(|one| import_of(*one).is_none())
            .map(Capability::name);
        let actions = actions.collect::<Vec<_>>().join(", ");
        let names: Vec<_> = imported.iter().map(|one| one.name()).collect();
        lines.push(format!(
            "capabilities = {} # and those of {actions} that its hooks use",
            listed(&names)
        ));
        lines.join("\n") + "\n"
    }
}

/// The interface that a capability opens; `None` for those that are about what hooks return.
pub(super) fn import_of(capability: Capability) -> Option<&'static str> {
    match capability {
        Capability::KeyValue => Some("key-value"),
        Capability::Timers => Some("timers"),
        Capability::Publish => Some("events"),
        Capability::Metrics => Some("metrics"),
        Capability::Emit
        | Capability::Mute
        | Capability::Close
        | Capability::Kick
        | Capability::PinSpeaker
        | Capability::Amend => None,
    }
}

/// A list of words as TOML.
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

/// What a plugin may do: asked for and granted.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) manifest: Manifest,
    capabilities: BTreeSet<Capability>,
}

impl Granted {
    pub(super) fn new(manifest: Manifest, grants: &Grants) -> Self {
        let asked = &manifest.capabilities;
        let capabilities = match grants {
            Grants::AllAsked => asked.clone(),
            Grants::Listed(listed) => asked.intersection(listed).copied().collect(),
        };
        Self {
            manifest,
            capabilities,
        }
    }

    pub(super) fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// Whether it may publish to this topic.
    pub(super) fn has_topic(&self, topic: &str) -> bool {
        self.has(Capability::Publish)
            && self
                .manifest
                .topics
                .iter()
                .any(|pattern| matches(pattern, topic))
    }

    /// What it asks for in vain.
    pub(super) fn withheld(&self) -> impl Iterator<Item = Capability> {
        self.manifest
            .capabilities
            .difference(&self.capabilities)
            .copied()
    }

    /// The line of the configuration that grants these too.
    pub(super) fn line_with(&self, more: &BTreeSet<Capability>) -> String {
        let names: Vec<_> = self
            .capabilities
            .union(more)
            .map(|capability| capability.name())
            .collect();
        format!("grants = {}", listed(&names))
    }

    /// Why it cannot do this, and what to write where.
    pub(super) fn denial(&self, capability: Capability) -> String {
        let name = capability.name();
        if self.manifest.capabilities.contains(&capability) {
            let line = self.line_with(&BTreeSet::from([capability]));
            format!("`{name}` is not granted: the configuration of the plugin needs `{line}`")
        } else {
            format!("`{name}` is not among the `capabilities` of its manifest")
        }
    }
}

/// Whether it can be a topic's name.
pub(super) fn is_topic(text: &str) -> bool {
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=limits::STORE.topic).contains(&text.len()) && text.bytes().all(allowed)
}

fn matches(pattern: &str, topic: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => topic.starts_with(beginning),
        None => pattern == topic,
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!("line {line} is no TOML: {}", error.message())
}

/// Takes a manifest's keys one by one and notes what is wrong with them.
struct Reader {
    table: Table,
    mistakes: Vec<String>,
}

impl Reader {
    fn mistake(&mut self, sentence: String) {
        self.mistakes.push(sentence);
    }

    fn unknown_keys(&mut self) {
        let unknown = self
            .table
            .keys()
            .filter(|key| !KEYS.contains(&key.as_str()));
        for key in unknown {
            let near = KEYS
                .into_iter()
                .map(|known| (strsim::damerau_levenshtein(known, key), known))
                .min()
                .filter(|(distance, _)| *distance <= 2);
            let instead = match near {
                Some((_, known)) => format!("write `{known}`"),
                None => format!("the keys of a manifest are {}", KEYS.join(", ")),
            };
            let key = printable(key, limits::EVENT_NAME);
            self.mistakes
                .push(format!("`{key}` is no key of a manifest: {instead}"));
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.table.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => {
                let found = other.type_str();
                self.mistake(format!(
                    "`{key}` is no text but {found}: write it in quotes"
                ));
                None
            }
            None => None,
        }
    }

    /// `None` where the mistake has been told.
    fn required(&mut self, key: &str, example: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.mistake(format!("`{key}` is missing: write for example {example}"));
        }
        self.text(key)
    }

    fn name(&mut self) -> String {
        let Some(name) = self.required("name", "name = \"seats\"") else {
            return String::new();
        };
        let valid = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !valid {
            self.mistake(
                "`name` must have 1 to 64 characters of a-z, 0-9 and -, the first a letter"
                    .to_owned(),
            );
        }
        name
    }

    fn version(&mut self) -> String {
        let Some(version) = self.required("version", "version = \"0.1.0\"") else {
            return String::new();
        };
        if let Err(error) = Version::parse(&version) {
            self.mistake(format!(
                "`version` is no semantic version ({error}): write for example \"0.1.0\""
            ));
        }
        version
    }

    fn description(&mut self) -> Option<String> {
        let text = self.text("description")?;
        if text.len() > limits::MESSAGE || text.contains(char::is_control) {
            self.mistake(format!(
                "`description` must be one line of at most {} bytes",
                limits::MESSAGE
            ));
        }
        Some(text)
    }

    /// A list of texts, of which `parse` makes what they mean or says what to write.
    fn list<T: Ord>(
        &mut self,
        key: &str,
        limit: usize,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> BTreeSet<T> {
        let mut set = BTreeSet::new();
        let list = match self.table.get(key) {
            None => return set,
            Some(Value::Array(list)) => list.clone(),
            Some(_) => {
                self.mistake(format!("`{key}` must be a list: {key} = [\"…\"]"));
                return set;
            }
        };
        if list.len() > limit {
            self.mistake(format!(
                "`{key}` has {} entries; {limit} are the limit",
                list.len()
            ));
            return set;
        }
        for (n, entry) in list.iter().enumerate() {
            let Some(text) = entry.as_str() else {
                self.mistake(format!("`{key}[{n}]` must be a text in quotes"));
                continue;
            };
            match parse(text) {
                Ok(one) => drop(set.insert(one)),
                Err(instead) => {
                    let text = printable(text, limits::EVENT_NAME);
                    self.mistake(format!("`{key}[{n}]` is \"{text}\": {instead}"));
                }
            }
        }
        set
    }

    fn hooks(&mut self) -> BTreeSet<Hook> {
        if !self.table.contains_key("hooks") {
            self.mistake(
                "`hooks` is missing: list the hooks that the component exports, \
                 for example hooks = [\"before-join\"]"
                    .to_owned(),
            );
        }
        let known = || Hook::ALL.iter().filter(|hook| **hook != Hook::Init);
        self.list("hooks", Hook::ALL.len(), |text| {
            let hook = Hook::from_name(text).filter(|hook| *hook != Hook::Init);
            hook.ok_or_else(|| one_of(text, known().map(|hook| hook.name())))
        })
    }

    fn commands(&mut self) -> BTreeSet<String> {
        self.list("commands", limits::COMMANDS, |text| {
            if lift::is_plugin_event(text) {
                return Ok(text.to_owned());
            }
            Err("write a name with a namespace of the plugin's own, as \"seat:take\"".to_owned())
        })
    }

    fn topics(&mut self) -> BTreeSet<String> {
        self.list("topics", limits::TOPICS, |text| {
            if text == "*" || is_topic(text.strip_suffix('*').unwrap_or(text)) {
                return Ok(text.to_owned());
            }
            Err(format!(
                "write 1 to {} characters of a-z, 0-9, ., _ and -; a * at the end stands \
                 for any further ones",
                limits::STORE.topic
            ))
        })
    }

    fn capabilities(&mut self) -> BTreeSet<Capability> {
        self.list("capabilities", Capability::ALL.len(), |text| {
            Capability::from_name(text).ok_or_else(|| match text {
                "log" | "settings" => "leave it out: every plugin has it".to_owned(),
                "events" => "write \"publish\"".to_owned(),
                "unmute" => "write \"mute\", which is both".to_owned(),
                _ => one_of(text, Capability::ALL.into_iter().map(Capability::name)),
            })
        })
    }
}

/// What to write instead: the nearest of the words, or else any of them.
fn one_of<'a>(text: &str, words: impl Iterator<Item = &'a str> + Clone) -> String {
    let text = text.replace('_', "-").to_lowercase();
    let near = words
        .clone()
        .map(|word| (strsim::damerau_levenshtein(word, &text), word))
        .min();
    match near {
        Some((0..=2, word)) => format!("write \"{word}\""),
        _ => format!("write one of {}", words.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests;

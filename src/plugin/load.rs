//! From a file to a [`Template`], or to sentences that say what is wrong with it.

mod cost;

use std::{collections::BTreeSet, io::Read, path::Path, sync::Arc};

use wasmtime::component::Component;

use super::{
    compat::{self, Standing},
    engine::Engine,
    files,
    host::{Identity, printable},
    instance::{About, Template},
    lift, limits,
    manifest::{self, Granted, Manifest},
    meters::Meters,
    throttle::Throttle,
};
use crate::{
    config::{Capability, PluginConfig},
    model::Hook,
    store::Space,
};

/// The contract's version, which the component's imports and exports carry.
pub(super) const WIT_VERSION: &str = "0.3.0";

/// The contract's package.
pub(super) const PACKAGE: &str = "voice-room:plugin/";

/// Imports of the contract that every plugin has. `types` has no functions.
const ALWAYS: [&str; 3] = ["types", "log", "settings"];

/// The part of WASI that is linked, with nothing behind it.
const WASI: [&str; 19] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure-seed",
    "wasi:random/insecure",
];

/// Also linked, and the one thing of WASI that works.
const RANDOM: &str = "wasi:random/random";

/// Reads a plugin's files, compiles and links, and leaves the runtime's threads alone
/// meanwhile.
pub(super) async fn prepare(
    engine: &Arc<Engine>,
    config: &PluginConfig,
    space: Arc<Space>,
    meters: Arc<Meters>,
    complaints: Arc<Throttle>,
) -> Result<Template, String> {
    let preparing = tokio::task::spawn_blocking({
        let (engine, config) = (Arc::clone(engine), config.clone());
        move || {
            let granted = granted(&config)?;
            let identity = Identity::new(&config, granted, space, meters, complaints);
            template(&engine, &config, Arc::new(identity))
        }
    });
    match preparing.await {
        Ok(prepared) => prepared,
        Err(error) => Err(format!("cannot be compiled: {error}")),
    }
}

/// The manifest and what the configuration grants of it.
fn granted(config: &PluginConfig) -> Result<Granted, String> {
    let manifest = Manifest::read(&config.manifest, &config.path).map_err(|error| {
        // Whoever has named the wrong component is not helped by its manifest's name.
        match open(&config.path) {
            Ok(_) => error.to_string(),
            Err(unreadable) => unreadable,
        }
    })?;
    Ok(Granted::new(manifest, &config.grants))
}

/// Reads, compiles, checks and links. Takes long where the code is not in the cache.
fn template(
    engine: &Arc<Engine>,
    config: &PluginConfig,
    identity: Arc<Identity>,
) -> Result<Template, String> {
    let bytes = read(&config.path)?;
    let component = compile(engine, &bytes)?;
    let surface = Surface::of(engine, &component);
    let problems = surface.problems(&identity.granted);
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let withheld: Vec<_> = identity.granted.withheld().map(Capability::name).collect();
    if !withheld.is_empty() {
        let plugin = &*config.name;
        tracing::warn!(
            plugin,
            ?withheld,
            "a plugin asks for what it is not granted"
        );
    }
    let about = About {
        component: files::digest(&bytes),
        contract: surface.contract().unwrap_or(WIT_VERSION).to_owned(),
    };
    Template::new(Arc::clone(engine), &component, about, identity, config)
        .map_err(|error| does_not_fit(&error))
}

/// The machine's code of a component.
pub(super) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, String> {
    Component::from_binary(&engine.wasmtime, bytes)
        .map_err(|error| format!("does not compile: {error:#}"))
}

/// What is left when all names are right.
pub(super) fn does_not_fit(error: &wasmtime::Error) -> String {
    format!("does not fit this server: {error:#}")
}

fn open(path: &Path) -> Result<std::fs::File, String> {
    std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))
}

/// A file that may be a component, by its size, its first bytes and what it takes to compile.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    open(path)?
        .take(limits::COMPONENT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > limits::COMPONENT {
        return Err(format!("is larger than {} bytes", limits::COMPONENT));
    }
    check_kind(&bytes)?;
    cost::check(&bytes)?;
    Ok(bytes)
}

/// Tells apart by their first bytes what people take for components.
fn check_kind(bytes: &[u8]) -> Result<(), String> {
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', ..]) => Err(
            "is a core WebAssembly module, not a component: build it for wasm32-wasip2".to_owned(),
        ),
        _ => Err("is not a WebAssembly component".to_owned()),
    }
}

/// The names by which a component is joined to the world. They say all that it can reach and
/// all that can be called.
#[derive(Debug)]
pub(super) struct Surface {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

impl Surface {
    pub(super) fn of(engine: &Engine, component: &Component) -> Self {
        let ty = component.component_type();
        let imports = ty.imports(&engine.wasmtime);
        let exports = ty.exports(&engine.wasmtime);
        Self {
            imports: imports.map(|(name, _)| name.to_owned()).collect(),
            exports: exports.map(|(name, _)| name.to_owned()).collect(),
        }
    }

    /// The hooks that can be called.
    pub(super) fn hooks(&self) -> BTreeSet<Hook> {
        let interfaces = self.exports.iter().filter_map(|name| interface_of(name));
        interfaces.filter_map(hook_of).collect()
    }

    /// The capabilities that it must have to be loaded.
    pub(super) fn capabilities(&self) -> BTreeSet<Capability> {
        let interfaces = self.imports.iter().filter_map(|name| interface_of(name));
        interfaces.filter_map(capability_of).collect()
    }

    /// The version of the contract against which it was built.
    pub(super) fn contract(&self) -> Option<&str> {
        let lifecycle = |name: &&String| interface_of(name) == Some("lifecycle");
        self.exports
            .iter()
            .find(lifecycle)
            .or(self.exports.first())
            .and_then(|name| version_of(name))
    }

    /// Versions of the contract that the server does not speak.
    pub(super) fn foreign_versions(&self) -> BTreeSet<&str> {
        let names = self.imports.iter().chain(&self.exports);
        names
            .filter_map(|name| version_of(name))
            .filter(|version| compat::standing(version) == Standing::Foreign)
            .collect()
    }

    /// Why it cannot be loaded, whatever its manifest says.
    pub(super) fn foreign(&self) -> Vec<String> {
        let versions = self.foreign_versions();
        if !versions.is_empty() {
            // Names of another version's interfaces would only be noise beside this.
            let told = versions.into_iter().map(|version| {
                let version = printable(version, limits::EVENT_NAME);
                format!(
                    "was built against voice-room:plugin@{version}; this server speaks {}",
                    compat::spoken()
                )
            });
            return told.collect();
        }
        let exports = self.exports.iter().filter(|name| {
            interface_of(name).is_some_and(|it| it != "lifecycle" && hook_of(it).is_none())
        });
        let mut problems: Vec<_> = exports
            .map(|name| format!("exports `{name}`, which this server does not know"))
            .collect();
        problems.extend(self.imports.iter().filter_map(|name| unprovided(name)));
        let lifecycle = |name: &String| interface_of(name) == Some("lifecycle");
        if !self.exports.iter().any(lifecycle) {
            problems.push(format!(
                "does not export `{PACKAGE}lifecycle@{}`, as every plugin must",
                WIT_VERSION
            ));
        }
        problems
    }

    /// Where it is not as its manifest says.
    pub(super) fn mismatches(&self, manifest: &Manifest) -> Vec<String> {
        let exported = self.hooks();
        let mut problems: Vec<_> = exported
            .difference(&manifest.hooks)
            .map(|hook| {
                format!("exports `{hook}`, which its manifest does not list: add it to `hooks`")
            })
            .collect();
        problems.extend(manifest.hooks.difference(&exported).map(|hook| {
            format!(
                "does not export `{hook}`, which its manifest lists: remove it from `hooks`, or \
                 implement it"
            )
        }));
        let unasked = self.imported_capabilities();
        let unasked = unasked.filter(|(_, one)| !manifest.capabilities.contains(one));
        problems.extend(unasked.map(|(name, capability)| {
            format!(
                "imports `{name}`, for which its manifest does not ask: add \"{}\" to \
                 `capabilities`",
                capability.name()
            )
        }));
        problems
    }

    /// Which of its imports are asked for but not granted, and the line that grants them.
    pub(super) fn ungranted(&self, granted: &Granted) -> Vec<String> {
        let asked = |one: &Capability| granted.manifest.capabilities.contains(one);
        let denied: Vec<_> = self
            .imported_capabilities()
            .filter(|(_, one)| asked(one) && !granted.has(*one))
            .collect();
        if denied.is_empty() {
            return Vec::new();
        }
        let capabilities: BTreeSet<_> = denied.iter().map(|(_, one)| *one).collect();
        let imports: Vec<_> = denied.iter().map(|(name, _)| format!("`{name}`")).collect();
        let words: Vec<_> = capabilities
            .iter()
            .map(|one| format!("`{}`", one.name()))
            .collect();
        let others: Vec<_> = granted
            .withheld()
            .filter(|one| !capabilities.contains(one))
            .map(|one| format!("`{}`", one.name()))
            .collect();
        let mut problem = format!(
            "imports {}, but is not granted {}: write `{}` below its `[[plugins]]`",
            imports.join(" and "),
            words.join(" and "),
            granted.line_with(&capabilities)
        );
        if !others.is_empty() {
            problem.push_str(&format!(" (it also asks for {})", others.join(", ")));
        }
        vec![problem]
    }

    /// All that keeps it from being loaded.
    pub(super) fn problems(&self, granted: &Granted) -> Vec<String> {
        let mut problems = self.foreign();
        if !self.foreign_versions().is_empty() {
            return problems;
        }
        problems.extend(self.mismatches(&granted.manifest));
        problems.extend(self.ungranted(granted));
        problems
    }

    fn imported_capabilities(&self) -> impl Iterator<Item = (&str, Capability)> {
        self.imports
            .iter()
            .filter_map(|name| Some((name.as_str(), capability_of(interface_of(name)?)?)))
    }
}

/// Why an import cannot be had at all.
fn unprovided(import: &str) -> Option<String> {
    if let Some(interface) = interface_of(import) {
        let known = ALWAYS.contains(&interface) || capability_of(interface).is_some();
        return (!known).then(|| format!("imports `{import}`, which this server does not know"));
    }
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let linked = is_wasi(name) && version.starts_with("0.2.");
    if linked {
        return None;
    }
    let why = match name.split_once('/').map_or(name, |(package, _)| package) {
        "wasi:sockets" | "wasi:http" | "wasi:tls" => "plugins have no network",
        _ if is_wasi(name) => "this server has WASI 0.2",
        _ => "nothing beyond the contract is given to plugins",
    };
    Some(format!("imports `{import}`: {why}"))
}

/// Whether an interface is of the part of WASI that is linked.
pub(super) fn is_wasi(name: &str) -> bool {
    WASI.contains(&name) || name == RANDOM
}

fn hook_of(interface: &str) -> Option<Hook> {
    Hook::from_name(interface).filter(|hook| *hook != Hook::Init)
}

pub(super) fn capability_of(interface: &str) -> Option<Capability> {
    Capability::ALL
        .into_iter()
        .find(|one| manifest::import_of(*one) == Some(interface))
}

pub(super) fn interface_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PACKAGE)?;
    Some(
        rest.split_once('@')
            .map_or(rest, |(interface, _)| interface),
    )
}

fn version_of(name: &str) -> Option<&str> {
    name.strip_prefix(PACKAGE)?
        .split_once('@')
        .map(|(_, version)| version)
}

/// Checks the commands that a plugin registers, given whether it could answer them.
pub(super) fn check_commands(
    commands: &[String],
    granted: &Granted,
    answers: bool,
) -> Result<(), String> {
    if commands.len() > limits::COMMANDS {
        let limit = limits::COMMANDS;
        return Err(format!(
            "registers {} commands; {limit} are the limit",
            commands.len()
        ));
    }
    if !commands.is_empty() && !answers {
        return Err("registers commands but does not export `on-command`".to_owned());
    }
    for name in commands {
        let shown = || printable(name, limits::EVENT_NAME);
        if !lift::is_plugin_event(name) {
            let name = shown();
            return Err(format!(
                "registers `{name}`, which is no name for a plugin's command"
            ));
        }
        if !granted.manifest.commands.contains(name) {
            let name = shown();
            return Err(format!(
                "registers `{name}`, which its manifest does not list: add it to `commands`"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

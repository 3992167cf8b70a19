//! What can be known of a plugin before anyone installs it: nothing of it runs here.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Serialize;
use wasmtime::component::types::ComponentItem;

use super::{
    PluginProblem,
    engine::Engine,
    files,
    load::{self, Surface},
    manifest::{Granted, Manifest, ManifestError},
};
use crate::{
    config::{Capability, Grants},
    model::Hook,
};

/// What no plugin can touch, whatever it asks for.
const CLOSED: [&str; 6] = [
    "the network",
    "files",
    "environment variables and arguments",
    "clocks: time is an argument of every hook",
    "other plugins, their keys and their settings",
    "the server's memory, processes and threads",
];

/// A component and its manifest, looked at from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The component.
    pub file: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The component's content, as `sha256:…`.
    pub component: String,
    /// The version of the contract against which it was built.
    pub contract: Option<String>,
    /// Where its manifest is or should be.
    pub manifest_file: PathBuf,
    /// What the plugin says of itself and asks for, if there is a manifest without mistakes.
    pub manifest: Option<Manifest>,
    /// The hooks that it exports: all that the server will call.
    pub hooks: BTreeSet<Hook>,
    /// The imports that are not WASI's: all that it can call.
    pub imports: Vec<Import>,
    /// Interfaces of WASI that its compiler put in. But for random numbers there is nothing
    /// behind them.
    pub wasi: Vec<String>,
    /// What it may do, if it is granted all that it asks for.
    pub can: Vec<String>,
    /// What it cannot do.
    pub cannot: Vec<String>,
    /// All that keeps a server from loading it; each continues a sentence that begins with
    /// the component's name.
    pub problems: Vec<String>,
    /// The line of the configuration that grants all that it asks for.
    pub grants: Option<String>,
    /// What to write into the manifest's file, where there is none: TOML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_manifest: Option<String>,
}

/// An interface that a component imports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// Its full name, with the version.
    pub name: String,
    /// The functions of it that the component calls.
    pub functions: Vec<String>,
    /// What must be granted for it; `None` if every plugin has it, or none does.
    pub capability: Option<Capability>,
}

impl Inspection {
    /// Adds what keeps a server that grants only this from loading it.
    pub fn check_grants(&mut self, grants: &Grants) {
        let Some(manifest) = &self.manifest else {
            return;
        };
        let surface = Surface {
            imports: self.imports.iter().map(|it| it.name.clone()).collect(),
            exports: Vec::new(),
        };
        let granted = Granted::new(manifest.clone(), grants);
        self.problems.extend(surface.ungranted(&granted));
        let withheld: BTreeSet<_> = granted.withheld().collect();
        (self.can, self.cannot) = abilities(&self.hooks, Some(manifest), &withheld);
    }
}

/// Looks at a component and its manifest. Compiles it without care, which takes a fraction of
/// the time that a server takes to load it.
///
/// # Errors
///
/// If there is no component that could be looked at. What else is wrong is among the
/// [`Inspection::problems`].
pub fn inspect(component: &Path, manifest: &Path) -> Result<Inspection, PluginProblem> {
    let stem = component.file_stem().unwrap_or_default().to_string_lossy();
    let problem = |problem: String| PluginProblem {
        plugin: stem.to_string(),
        file: component.to_owned(),
        problem,
    };
    let bytes = load::read(component).map_err(problem)?;
    let engine = Engine::for_inspection()
        .map_err(|error| problem(format!("cannot be looked at on this machine: {error:#}")))?;
    let compiled = load::compile(&engine, &bytes).map_err(problem)?;
    let surface = Surface::of(&engine, &compiled);
    let mut problems = surface.foreign();
    if problems.is_empty()
        && let Err(error) = engine.linker.instantiate_pre(&compiled)
    {
        problems.push(load::does_not_fit(&error));
    }
    let (hooks, capabilities) = (surface.hooks(), surface.capabilities());
    let (read, suggested) = match Manifest::read(manifest, component) {
        Ok(read) => {
            if surface.foreign_versions().is_empty() {
                problems.extend(surface.mismatches(&read));
            }
            (Some(read), None)
        }
        Err(error) => {
            problems.push(error.to_string());
            let missing = matches!(error, ManifestError::Missing { .. });
            let text = || Manifest::suggested(&plugin_name(&stem), &hooks, &capabilities);
            (None, missing.then(text))
        }
    };
    let (can, cannot) = abilities(&hooks, read.as_ref(), &BTreeSet::new());
    let (wasi, imports) = imports(&engine, &compiled);
    Ok(Inspection {
        file: component.to_owned(),
        size: bytes.len() as u64,
        component: files::digest(&bytes),
        contract: surface.contract().map(str::to_owned),
        manifest_file: manifest.to_owned(),
        grants: read.as_ref().map(|read| {
            let granted = Granted::new(read.clone(), &Grants::AllAsked);
            granted.line_with(&BTreeSet::new())
        }),
        manifest: read,
        hooks,
        imports,
        wasi,
        can,
        cannot,
        problems,
        suggested_manifest: suggested,
    })
}

/// Interfaces of WASI, and all other imports.
fn imports(
    engine: &Engine,
    component: &wasmtime::component::Component,
) -> (Vec<String>, Vec<Import>) {
    let (mut wasi, mut others) = (Vec::new(), Vec::new());
    let ty = component.component_type();
    for (name, item) in ty.imports(&engine.wasmtime) {
        let interface = name
            .split_once('@')
            .map_or(name, |(interface, _)| interface);
        if load::is_wasi(interface) {
            wasi.push(name.to_owned());
            continue;
        }
        let functions = match &item.ty {
            ComponentItem::ComponentInstance(instance) => instance
                .exports(&engine.wasmtime)
                .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                .map(|(name, _)| name.to_owned())
                .collect(),
            _ => Vec::new(),
        };
        others.push(Import {
            name: name.to_owned(),
            functions,
            capability: load::interface_of(name).and_then(load::capability_of),
        });
    }
    (wasi, others)
}

/// What a plugin can and cannot do, for people: without a manifest it can do nothing.
fn abilities(
    hooks: &BTreeSet<Hook>,
    manifest: Option<&Manifest>,
    withheld: &BTreeSet<Capability>,
) -> (Vec<String>, Vec<String>) {
    let (mut can, mut cannot) = (Vec::new(), Vec::new());
    for (hook, what) in [
        (Hook::BeforeJoin, "refuse entry to a room"),
        (Hook::BeforeProduce, "refuse that a participant sends"),
        (Hook::BeforeConsume, "refuse that a participant receives"),
        (Hook::DescribeRoom, "show newcomers something of a room"),
    ] {
        let side = if hooks.contains(&hook) {
            &mut can
        } else {
            &mut cannot
        };
        side.push(what.to_owned());
    }
    if let Some(manifest) = manifest.filter(|manifest| !manifest.commands.is_empty()) {
        let names: Vec<_> = manifest.commands.iter().map(String::as_str).collect();
        can.push(format!("answer the client events {}", names.join(", ")));
    }
    for capability in Capability::ALL {
        let asked = manifest.is_some_and(|it| it.capabilities.contains(&capability));
        let mut what = power(capability).to_owned();
        if !asked || withheld.contains(&capability) {
            cannot.push(what);
            continue;
        }
        if let (Capability::Publish, Some(manifest)) = (capability, manifest) {
            let topics: Vec<_> = manifest.topics.iter().map(String::as_str).collect();
            let topics = match &topics[..] {
                [] => "none".to_owned(),
                topics => topics.join(", "),
            };
            what.push_str(&format!(", to the topics: {topics}"));
        }
        can.push(what);
    }
    cannot.extend(CLOSED.iter().map(|what| format!("touch {what}")));
    (can, cannot)
}

fn power(capability: Capability) -> &'static str {
    match capability {
        Capability::KeyValue => "keep keys and values of its own",
        Capability::Timers => "set timers",
        Capability::Publish => "publish events to the outside",
        Capability::Metrics => "count on the server's metrics page",
        Capability::Emit => "send events of its own to clients in the room",
        Capability::Mute => "mute producers in the room, and lift its own mutes",
        Capability::Close => "close producers in the room",
        Capability::Kick => "remove users from the room",
        Capability::PinSpeaker => "say who is heard among the room's speakers, and who is not",
        Capability::Amend => "say how a producer begins: muted, its priority, its data",
    }
}

/// A file's name made a plugin's.
fn plugin_name(stem: &str) -> String {
    let stem = stem.to_lowercase();
    let words = stem.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    let name = words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    let name: String = name
        .trim_start_matches(|c: char| !c.is_ascii_lowercase())
        .chars()
        .take(64)
        .collect();
    if name.is_empty() {
        "plugin".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_becomes_a_plugins_name() {
        assert_eq!(plugin_name("seats"), "seats");
        assert_eq!(plugin_name("My_Rule v2"), "my-rule-v2");
        assert_eq!(plugin_name("2-fast"), "fast");
        assert_eq!(plugin_name("Ü"), "plugin");
        assert_eq!(plugin_name(&"x".repeat(100)).len(), 64);
    }
}

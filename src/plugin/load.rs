//! From a file to a [`Template`], or to a sentence that says what is wrong with it.

use std::{io::Read, path::Path, sync::Arc};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::{
    engine::Engine,
    host::Identity,
    instance::{About, Template},
    lift, limits,
};
use crate::{config::PluginConfig, model::Hook};

/// The contract's version, which the component's imports and exports carry.
pub(super) const WIT_VERSION: &str = "0.2.0";

/// The contract's package.
const PACKAGE: &str = "voice-room:plugin/";

/// Reads, compiles and links. Takes long where the code is not in the cache.
pub(super) fn template(
    engine: &Arc<Engine>,
    config: &PluginConfig,
    identity: Arc<Identity>,
) -> Result<Template, String> {
    let bytes = read(&config.path)?;
    check_kind(&bytes)?;
    let component = Component::from_binary(&engine.wasmtime, &bytes)
        .map_err(|error| format!("does not compile: {error:#}"))?;
    check_interfaces(engine, &component)?;
    let about = About {
        component: digest(&bytes),
        contract: WIT_VERSION.to_owned(),
    };
    Template::new(Arc::clone(engine), &component, about, identity, config)
        .map_err(|error| format!("does not fit this server: {error:#}"))
}

/// The name of a component's content.
pub(super) fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(limits::COMPONENT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > limits::COMPONENT {
        return Err(format!("is larger than {} bytes", limits::COMPONENT));
    }
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

fn check_interfaces(engine: &Engine, component: &Component) -> Result<(), String> {
    let ty = component.component_type();
    let imports = ty
        .imports(&engine.wasmtime)
        .map(|(name, _)| name.to_owned());
    let exports = ty
        .exports(&engine.wasmtime)
        .map(|(name, _)| name.to_owned());
    let (imports, exports): (Vec<String>, Vec<String>) = (imports.collect(), exports.collect());
    for name in imports.iter().chain(&exports) {
        if let Some(version) = version_of(name)
            && !is_compatible(version)
        {
            return Err(format!(
                "was built against voice-room:plugin@{version}; this server speaks \
                 voice-room:plugin@{WIT_VERSION}"
            ));
        }
    }
    for name in &exports {
        if let Some(interface) = interface_of(name)
            && interface != "lifecycle"
            && Hook::from_name(interface).is_none_or(|hook| hook == Hook::Init)
        {
            return Err(format!("exports `{name}`, which this server does not know"));
        }
    }
    if !exports
        .iter()
        .any(|name| interface_of(name) == Some("lifecycle"))
    {
        return Err(format!(
            "does not export `{PACKAGE}lifecycle@{WIT_VERSION}`, as every plugin must"
        ));
    }
    Ok(())
}

fn interface_of(name: &str) -> Option<&str> {
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

/// Versions that differ in the last number only speak with each other.
fn is_compatible(version: &str) -> bool {
    let line = |version: &'static str| version.rsplit_once('.').map(|(line, _)| line);
    version.rsplit_once('.').map(|(line, _)| line) == line(WIT_VERSION)
}

/// Checks the commands that a plugin registers, given whether it could answer them.
pub(super) fn check_commands(commands: &[String], answers: bool) -> Result<(), String> {
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
    match commands.iter().find(|name| !lift::is_plugin_event(name)) {
        Some(name) => Err(format!(
            "registers `{}`, which is no name for a plugin's command",
            super::host::printable(name, limits::EVENT_NAME)
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_told_by_what_it_is() {
        assert!(check_kind(b"\0asm\x0d\0\x01\0").is_ok());
        assert!(
            check_kind(b"\0asm\x01\0\0\0")
                .unwrap_err()
                .contains("wasm32-wasip2")
        );
        assert_eq!(
            check_kind(b"MZ").unwrap_err(),
            "is not a WebAssembly component"
        );
        assert_eq!(
            check_kind(b"").unwrap_err(),
            "is not a WebAssembly component"
        );
    }

    #[test]
    fn patch_versions_are_compatible_and_others_are_not() {
        assert!(is_compatible("0.2.0"));
        assert!(is_compatible("0.2.9"));
        assert!(!is_compatible("0.3.0"));
        assert!(!is_compatible("1.1.0"));
        assert!(!is_compatible("nonsense"));
    }

    #[test]
    fn commands_are_limited_and_have_names_of_their_own() {
        let commands = |count: usize| vec!["seat:take".to_owned(); count];
        assert_eq!(check_commands(&commands(0), false), Ok(()));
        assert_eq!(check_commands(&commands(limits::COMMANDS), true), Ok(()));
        assert!(check_commands(&commands(limits::COMMANDS + 1), true).is_err());
        assert!(
            check_commands(&commands(1), false)
                .unwrap_err()
                .contains("on-command")
        );
        assert!(check_commands(&["room:join".to_owned()], true).is_err());
    }

    #[test]
    fn interfaces_are_told_from_their_versions() {
        assert_eq!(
            interface_of("voice-room:plugin/on-join@0.1.0"),
            Some("on-join")
        );
        assert_eq!(version_of("voice-room:plugin/on-join@0.1.0"), Some("0.1.0"));
        assert_eq!(version_of("wasi:io/poll@0.2.0"), None);
    }
}

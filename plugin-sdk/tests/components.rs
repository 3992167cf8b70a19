//! What the components that the SDK makes import and export.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test reports by panicking, also from the functions that its tests share"
)]

use std::process::Command;

use serde_json::Value;
use wasmparser::{Parser, Payload};

/// Builds an example for WebAssembly; its component's bytes.
fn component(example: &str) -> Vec<u8> {
    let build = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--profile",
            "plugin",
            "--target",
            "wasm32-wasip2",
        ])
        .args([
            "--example",
            example,
            "--message-format",
            "json-render-diagnostics",
        ])
        .output()
        .expect("cargo runs");
    assert!(
        build.status.success(),
        "{}",
        String::from_utf8_lossy(&build.stderr)
    );
    let messages = String::from_utf8(build.stdout).expect("cargo writes UTF-8");
    let file = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == example)
        .find_map(|message| message["filenames"][0].as_str().map(str::to_owned))
        .expect("cargo names the file");
    std::fs::read(file).expect("the file is there")
}

/// What a component imports from and exports to its host, by name.
struct Shape {
    imports: Vec<String>,
    exports: Vec<String>,
}

fn shape(example: &str) -> Shape {
    let bytes = component(example);
    let mut shape = Shape {
        imports: Vec::new(),
        exports: Vec::new(),
    };
    let mut nested = 0_u32;
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.expect("a valid component") {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => nested += 1,
            Payload::End(_) => nested = nested.saturating_sub(1),
            Payload::ComponentImportSection(imports) if nested == 0 => {
                let imports = imports.into_iter().map(|import| import.expect("an import"));
                shape
                    .imports
                    .extend(imports.map(|import| import.name.name.to_owned()));
            }
            Payload::ComponentExportSection(exports) if nested == 0 => {
                let exports = exports.into_iter().map(|export| export.expect("an export"));
                shape
                    .exports
                    .extend(exports.map(|export| export.name.name.to_owned()));
            }
            _ => {}
        }
    }
    shape.exports.sort();
    shape
}

/// The SDK has the version of the contract.
fn interfaces(names: &[&str]) -> Vec<String> {
    let version = env!("CARGO_PKG_VERSION");
    names
        .iter()
        .map(|name| format!("voice-room:plugin/{name}@{version}"))
        .collect()
}

#[test]
fn a_component_exports_only_the_hooks_that_it_registers() {
    assert_eq!(
        shape("doorman").exports,
        interfaces(&["before-join", "lifecycle"])
    );
}

#[test]
fn a_plugin_that_lists_no_hooks_exports_them_all() {
    assert_eq!(
        shape("bystander").exports,
        interfaces(&[
            "before-consume",
            "before-join",
            "before-produce",
            "describe-room",
            "lifecycle",
            "on-command",
            "on-first-rtp",
            "on-join",
            "on-leave",
            "on-new-producer",
            "on-producer-closed",
            "on-producer-paused",
            "on-producer-resumed",
            "on-room-closed",
            "on-room-opened",
            "on-timer",
            "speaker-changed",
        ])
    );
}

#[test]
fn a_component_imports_nothing_but_the_contract_and_wasi() {
    let offered = interfaces(&[
        "events",
        "key-value",
        "log",
        "metrics",
        "settings",
        "timers",
        "types",
    ]);
    let imports = shape("bystander").imports;
    assert!(
        imports.contains(&offered[2]),
        "it logs its panics: {imports:?}"
    );
    for import in imports {
        let known = offered.contains(&import) || import.starts_with("wasi:");
        assert!(known, "{import} is offered by no server");
    }
}

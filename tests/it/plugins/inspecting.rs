//! What can be known of a plugin before anyone installs it.

use std::{collections::BTreeSet, path::Path};

use rstest::rstest;
use serde_json::json;
use voice_room::{
    config::{Capability, Grants, PluginConfig},
    plugin::{Inspection, inspect},
};

use super::rig::{self, Rig, component, fixture};

const FIXTURE: &str = "plugins-test/fixture-plugin.wasm";
const OLDER: &str = "plugins-test/older-plugin.wasm";

fn look(path: &str) -> Inspection {
    let path = component(path);
    inspect(&path, &path.with_extension("toml")).unwrap_or_else(|problem| panic!("{problem:?}"))
}

fn says(lines: &[String], what: &str) -> bool {
    lines.iter().any(|line| line.contains(what))
}

#[rstest]
#[case("plugins/seats.wasm")]
#[case("plugins/moderation.wasm")]
#[case("plugins/billing.wasm")]
#[case(FIXTURE)]
#[case(OLDER)]
fn a_plugin_that_loads_has_no_problems_and_asks_for_no_import_that_it_lacks(#[case] path: &str) {
    let found = look(path);
    assert_eq!(found.problems, Vec::<String>::new());
    let manifest = found.manifest.unwrap();
    let imported: BTreeSet<_> = found
        .imports
        .iter()
        .filter_map(|it| it.capability)
        .collect();
    let imports = [
        Capability::KeyValue,
        Capability::Timers,
        Capability::Publish,
        Capability::Metrics,
    ];
    let asked = manifest
        .capabilities
        .into_iter()
        .filter(|one| imports.contains(one));
    assert_eq!(imported, asked.collect());
    assert_eq!(found.suggested_manifest, None);
}

#[test]
fn it_is_said_what_a_plugin_is_and_can_touch() {
    let found = look(OLDER);
    assert_eq!(found.contract.as_deref(), Some("0.1.0"));
    assert_eq!(found.size, component(OLDER).metadata().unwrap().len());
    assert_eq!(found.component.len(), "sha256:".len() + 64);
    assert_eq!(found.hooks.len(), 10);
    let line = r#"grants = ["key-value", "publish", "metrics", "emit"]"#;
    assert_eq!(found.grants.as_deref(), Some(line));
    let events = found
        .imports
        .iter()
        .find(|import| import.capability == Some(Capability::Publish))
        .unwrap();
    assert_eq!(events.functions, ["publish"]);
    assert!(says(&found.wasi, "wasi:cli/exit@"), "{:?}", found.wasi);
    for what in [
        "refuse entry",
        "to the topics: older.heard",
        "send events of its own",
        "older:history",
    ] {
        assert!(says(&found.can, what), "{what}: {:?}", found.can);
    }
    for what in [
        "the network",
        "files",
        "remove users",
        "that a participant receives",
    ] {
        assert!(says(&found.cannot, what), "{what}: {:?}", found.cannot);
        assert!(!says(&found.can, what), "{what}: {:?}", found.can);
    }
    assert_eq!(look(FIXTURE).contract.as_deref(), Some("0.3.0"));
}

#[test]
fn an_inspection_is_json() {
    let json = serde_json::to_value(look(FIXTURE)).unwrap();
    assert_eq!(json["manifest"]["name"], "fixture");
    assert_eq!(json["hooks"][0], "before-join");
    assert_eq!(json["problems"], json!([]));
    assert_eq!(json["imports"].as_array().unwrap().len(), 7, "{json}");
    assert!(json.get("suggestedManifest").is_none());
}

#[test]
fn grants_are_checked_before_a_server_has_them() {
    let mut found = look(FIXTURE);
    found.check_grants(&Grants::Listed([Capability::Emit].into()));
    assert!(
        says(&found.problems, "is not granted `key-value`"),
        "{:?}",
        found.problems
    );
    assert!(
        says(&found.can, "send events of its own"),
        "{:?}",
        found.can
    );
    assert!(says(&found.cannot, "remove users"), "{:?}", found.cannot);
}

#[tokio::test]
async fn the_manifest_that_is_suggested_needs_only_what_cannot_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("fixture.toml");
    let path = component(FIXTURE);
    let found = inspect(&path, &manifest).unwrap();
    assert!(
        says(&found.problems, "has no manifest"),
        "{:?}",
        found.problems
    );
    let text = found.suggested_manifest.unwrap();
    std::fs::write(
        &manifest,
        text.replace("commands = []", "commands = [\"fixture:run\"]"),
    )
    .unwrap();
    assert_eq!(
        inspect(&path, &manifest).unwrap().problems,
        Vec::<String>::new()
    );
    let plugin = PluginConfig {
        manifest,
        ..fixture(&json!({}))
    };
    let Err(error) = Rig::load(&[plugin]).await else {
        panic!("it registers more commands")
    };
    assert!(
        error.to_string().contains("add it to `commands`"),
        "{error}"
    );
}

#[test]
fn all_problems_are_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = rig::patched(&dir, FIXTURE, "plugin/metrics@", "plugin/network@");
    let manifest = dir.path().join("fixture.toml");
    std::fs::write(
        &manifest,
        "name = \"a\"\nversion = \"1.0.0\"\nhooks = [\"on-join\"]",
    )
    .unwrap();
    let problems = inspect(&path, &manifest).unwrap().problems;
    for expected in [
        "imports `voice-room:plugin/network@0.3.0`",
        "imports `voice-room:plugin/timers@0.3.0`",
        "imports `voice-room:plugin/key-value@0.3.0`",
        "exports `before-join`",
    ] {
        assert!(says(&problems, expected), "{expected} in {problems:?}");
    }
}

#[test]
fn another_contract_is_the_one_thing_to_say() {
    let dir = tempfile::tempdir().unwrap();
    let path = rig::patched(&dir, FIXTURE, "@0.3.0", "@0.4.0");
    let found = inspect(&path, &component(FIXTURE).with_extension("toml")).unwrap();
    assert_eq!(found.contract.as_deref(), Some("0.4.0"));
    assert!(
        says(&found.problems, "voice-room:plugin@0.4.0"),
        "{:?}",
        found.problems
    );
}

#[test]
fn what_is_no_component_cannot_be_looked_at() {
    let problem = inspect(Path::new("/no/such.wasm"), Path::new("/no/such.toml")).unwrap_err();
    assert_eq!(problem.plugin, "such");
    assert!(problem.problem.starts_with("cannot be read"), "{problem:?}");
}

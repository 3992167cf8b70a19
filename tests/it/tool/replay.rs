//! A recording through another version.

use std::fs;

use serde_json::{Value, json};

use super::{Done, built, plugin};

/// Replays a recording in which `moderation` was asked once, and answered so.
fn replay(answered: &Value, more: &[&str]) -> Done {
    let instance = json!({
        "kind": "instance", "instance": 1, "run": 1_700_000_000_000_u64, "at": 1_700_000_000_000_u64,
        "plugin": "moderation", "component": "sha256:0", "contract": "0.2.0", "settings": {},
        "random": 5, "outcome": "noted",
    });
    let user = json!({ "id": 7, "name": null, "avatar": null, "roles": [], "claims": {} });
    let participant = json!({
        "id": "00000000-0000-4000-8000-000000000001", "user": user, "connections": 1,
    });
    let call = json!({
        "kind": "call", "seq": 1, "instance": 1, "at": 1_700_000_000_001_u64,
        "hook": "before-join",
        "input": {
            "room": { "id": "lobby", "participants": 0 },
            "participant": participant,
            "at": 1_700_000_000_001_u64,
        },
        "outcome": { "verdict": answered }, "micros": 3,
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.jsonl");
    fs::write(&file, format!("{instance}\n{call}\n")).unwrap();
    let component = built("plugins/moderation.wasm");
    let mut arguments = vec![
        "replay",
        file.to_str().unwrap(),
        "--plugin",
        component.to_str().unwrap(),
    ];
    arguments.extend(more);
    plugin(arguments)
}

#[test]
fn a_version_that_decides_the_same_is_fine() {
    let text = replay(&json!("allow"), &[]).exits_with(0).out();
    assert!(text.contains("moderation: 1 calls replayed"), "{text}");
    assert!(text.ends_with("No differences.\n"), "{text}");
}

#[test]
fn a_version_that_decides_otherwise_fails_and_says_where() {
    let banned = json!({ "refuse": { "code": "BANNED", "message": "You are banned" } });
    let report = replay(&banned, &["--json"]).exits_with(1).json();
    assert_eq!(report["differing"], 1);
    assert_eq!(report["differences"][0]["hook"], "before-join");
    assert_eq!(report["differences"][0]["parts"], json!(["verdict"]));
}

#[test]
fn a_file_that_is_no_recording_is_told() {
    let component = built("plugins/moderation.wasm");
    let (file, plugin_file) = (
        component.with_extension("toml"),
        component.to_str().unwrap(),
    );
    let arguments = ["replay", file.to_str().unwrap(), "--plugin", plugin_file];
    let done = plugin(arguments).exits_with(1);
    let said = "moderation.toml: there is no instance of a plugin in the recording";
    assert!(done.problem().contains(said), "{}", done.problem());
}

#[test]
fn a_recording_that_is_not_there_is_named() {
    let component = built("plugins/moderation.wasm");
    let component = component.to_str().unwrap();
    let done = plugin(["replay", "no/calls.jsonl", "--plugin", component]).exits_with(1);
    assert!(
        done.problem().contains("no/calls.jsonl"),
        "{}",
        done.problem()
    );
}

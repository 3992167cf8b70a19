//! What components can touch.

use std::fs;

use super::{built, plugin};

#[test]
fn a_good_component_is_told_by_what_it_can_and_cannot_do() {
    let seats = built("plugins/seats.wasm");
    let path = seats.to_str().unwrap();
    let text = plugin(["check", path]).exits_with(0).out();
    assert!(text.starts_with("seats 0.2.0: "), "{text}");
    for line in [
        "  - refuse that a participant sends\n",
        "  - touch the network\n",
        "grants = [",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    assert!(!text.contains("would not load it"), "{text}");

    let json = plugin(["check", path, "--json"]).exits_with(0).json();
    assert_eq!(json["manifest"]["name"], "seats");
    assert_eq!(json["size"], seats.metadata().unwrap().len());
    assert_eq!(json["problems"], serde_json::json!([]));
}

#[test]
fn what_is_not_granted_is_a_problem() {
    let seats = built("plugins/seats.wasm");
    let done = plugin(["check", seats.to_str().unwrap(), "--grants", "emit"]).exits_with(1);
    let text = done.out();
    let problems = text.split("A server would not load it").nth(1).unwrap();
    assert!(problems.contains("key-value"), "{text}");
}

#[test]
fn without_a_manifest_one_is_proposed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my-seats.wasm");
    fs::copy(built("plugins/seats.wasm"), &file).unwrap();
    let text = plugin(["check", file.to_str().unwrap()])
        .exits_with(1)
        .out();
    assert!(text.contains("This could be its manifest"), "{text}");
    assert!(text.contains("name = \"my-seats\""), "{text}");
}

#[test]
fn what_is_no_component_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.wasm");
    let path = file.to_str().unwrap();
    let missing = plugin(["check", path, "--json"]).exits_with(1);
    assert!(missing.json()["error"].as_str().unwrap().contains("a.wasm"));
    fs::write(&file, "#!/bin/sh").unwrap();
    let problem = plugin(["check", path]).exits_with(1).problem();
    assert!(
        problem.contains("is not a WebAssembly component"),
        "{problem}"
    );
}

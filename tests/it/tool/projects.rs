//! From a name to a component that passes its scenarios.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{plugin, root};

/// An empty place for a project, the same each time, so that builds find what they know.
fn place(name: &str) -> PathBuf {
    let folder = root().join("target/plugin-projects/tests").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    folder
}

fn cargo(folder: &Path, arguments: &[&str]) -> String {
    let done = Command::new("cargo")
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", root().join("target/plugin-projects"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    said.into_owned()
}

#[test]
fn a_new_project_builds_and_passes_all_its_tests_at_once() {
    let folder = place("quiet-hours");
    let path = folder.to_str().unwrap();
    let made = plugin(["new", "quiet-hours", "--path", path]).exits_with(0);
    assert!(made.out().contains("src/lib.rs"), "{}", made.out());

    cargo(&folder, &["fmt", "--check"]);
    let said = cargo(&folder, &["test"]);
    assert!(said.contains("3 passed"), "{said}");

    let tested = plugin(["test", path, "--json"]).exits_with(0).json();
    assert_eq!(tested["plugin"], "quiet-hours");
    assert_eq!(tested["passed"], true);
    assert_eq!(tested["scenarios"][1]["file"], "the-word.toml");
    assert_eq!(tested["scenarios"][1]["steps"], 11);
    let component = Path::new(tested["component"].as_str().unwrap());
    assert!(component.is_file() && component.with_extension("toml").is_file());

    // Made again, it would lose what has been written since.
    let again = plugin(["new", "quiet-hours", "--path", path]).exits_with(1);
    assert!(again.problem().contains("not empty"), "{}", again.problem());

    // The compiler's words are shown where it fails.
    fs::write(folder.join("src/lib.rs"), "fn broken( {}").unwrap();
    let broken = plugin(["test", path]).exits_with(1);
    let problem = broken.problem();
    assert!(problem.contains("`cargo build --release"), "{problem}");
    assert!(problem.contains("src/lib.rs:1"), "{problem}");

    // What was built before is still there.
    let tested = plugin(["test", path, "--no-build"]).exits_with(0);
    assert!(
        tested.out().ends_with("2 scenarios passed\n"),
        "{}",
        tested.out()
    );
}

#[test]
fn a_javascript_project_has_all_that_npm_needs() {
    let folder = place("night-club");
    let path = folder.to_str().unwrap();
    plugin(["new", "night-club", "--lang", "js", "--path", path]).exits_with(0);
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let package: serde_json::Value = serde_json::from_str(&read("package.json")).unwrap();
    assert_eq!(package["name"], "night-club");
    let sdk = package["dependencies"]["voice-room-plugin-sdk"]
        .as_str()
        .unwrap();
    let sdk = sdk.strip_prefix("file:").unwrap();
    for file in [
        "package.json",
        "src/index.js",
        "src/build.js",
        "wit/plugin.wit",
    ] {
        assert!(folder.join(sdk).join(file).is_file(), "{sdk}/{file}");
    }
    let program: serde_json::Value =
        serde_json::from_str(&read(&format!("{sdk}/package.json"))).unwrap();
    let program = program["bin"]["voice-room-componentize"].as_str().unwrap();
    assert!(folder.join(sdk).join(program).is_file(), "{program}");
    assert!(read("scenarios/members.toml").contains("night-club:welcome"));
}

#[test]
fn doors_is_built_where_its_scenarios_look_as_a_new_project_is() {
    let built_by = |package: &str| -> serde_json::Value {
        let text = fs::read_to_string(root().join(package)).unwrap();
        let package: serde_json::Value = serde_json::from_str(&text).unwrap();
        package["scripts"]["build"].clone()
    };
    assert_eq!(
        built_by("plugins/doors/package.json"),
        built_by("src/tool/templates/js/package.json")
    );
}

#[test]
fn what_is_no_project_is_told_by_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let lacks = |what: &str| {
        let problem = plugin(["test", path]).exits_with(1).problem();
        assert!(problem.contains(what), "{problem}");
    };
    lacks("plugin.toml");
    fs::write(folder.path().join("plugin.toml"), "name = \"x\"").unwrap();
    lacks("there is no scenario: write");
    fs::create_dir(folder.path().join("scenarios")).unwrap();
    fs::write(folder.path().join("scenarios/a.toml"), "").unwrap();
    lacks("neither Cargo.toml nor package.json");
}

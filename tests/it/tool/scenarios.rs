//! Scenarios on components that are built.

use std::fs;

use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Done, built, plugin, root};

#[rstest]
#[case("billing")]
#[case("doors")]
#[case("moderation")]
#[case("seats")]
fn the_standard_plugins_pass_their_scenarios(#[case] name: &str) {
    let folder = root().join("plugins").join(name);
    let component = built(&format!("plugins/{name}.wasm"));
    // Compiling JavaScript's engine takes long.
    let cache = root().join("target/plugins-test/cache");
    let arguments = [
        "test".as_ref(),
        folder.as_os_str(),
        "--component".as_ref(),
        component.as_os_str(),
        "--cache".as_ref(),
        cache.as_os_str(),
    ];
    plugin(arguments).exits_with(0);
}

/// Plays a scenario on the fixture guest.
fn play(scenario: &str, json: bool) -> (TempDir, Done) {
    let folder = tempfile::tempdir().unwrap();
    let component = built("plugins-test/fixture-plugin.wasm");
    let manifest = component.with_extension("toml");
    fs::copy(manifest, folder.path().join("plugin.toml")).unwrap();
    fs::create_dir(folder.path().join("scenarios")).unwrap();
    fs::write(folder.path().join("scenarios/scene.toml"), scenario).unwrap();
    let cache = root().join("target/plugins-test/cache");
    let mut arguments = vec![
        "test",
        folder.path().to_str().unwrap(),
        "--component",
        component.to_str().unwrap(),
        "--cache",
        cache.to_str().unwrap(),
    ];
    if json {
        arguments.push("--json");
    }
    let done = plugin(arguments);
    (folder, done)
}

fn failures(scenario: &str) -> Value {
    let (_folder, done) = play(scenario, true);
    done.exits_with(1).json()["scenarios"][0]["failures"].clone()
}

const ALICE: &str = "[users]\nalice = { id = 7 }\n\n[[step]]\njoin = \"alice\"\n\n";

#[test]
fn an_expectation_that_fails_is_shown_with_its_step_and_line() {
    let scenario = format!("{ALICE}[[step]]\nproduce = \"alice\"\nexpect.refused = \"NO\"\n");
    let (_folder, done) = play(&scenario, false);
    let text = done.exits_with(1).out();
    let shown = "  FAIL  scene.toml  2 steps
        step 2, line 7: produce = \"alice\"
          verdict
            expected  {\"refused\":\"NO\"}
            got       allowed
1 of 1 scenarios failed
";
    assert!(text.ends_with(shown), "{text}");

    let failure = json!({
        "step": 2, "line": 7, "deed": "produce = \"alice\"", "expectation": "verdict",
        "expected": { "refused": "NO" }, "got": "allowed",
    });
    assert_eq!(failures(&scenario), json!([failure]));
}

#[test]
fn a_step_that_cannot_be_played_ends_the_scenario() {
    let scenario = format!("{ALICE}[[step]]\nclose = \"alice\"\n\n[[step]]\nleave = \"alice\"\n");
    let failures = failures(&scenario);
    assert_eq!(failures.as_array().unwrap().len(), 1);
    assert_eq!(failures[0]["expectation"], "step");
    let got = failures[0]["got"].as_str().unwrap();
    assert!(got.contains("sends no mic"), "{got}");
}

#[test]
fn a_file_that_is_no_scenario_is_told_by_its_line() {
    let (_folder, done) = play("[[step]]\njoin = \"alice\"\nsource = \"mic\"\n", false);
    let text = done.exits_with(1).out();
    assert!(
        text.contains("line 1: `source` does not belong to `join`"),
        "{text}"
    );
}

#[test]
fn people_and_producers_are_counted_as_a_server_does() {
    let scenario = r#"
        [users]
        alice = { id = 7, name = "Alice", claims = { plan = "pro" } }
        bob = { id = 8 }

        [[step]]
        join = "alice"
        expect.hooks = ["before-join", "on-room-opened", "on-join", "describe-room"]

        [[step]]
        join = "alice"
        as = "alice-phone"
        expect.hooks = ["before-join", "on-join", "describe-room"]

        [[step]]
        join = "bob"
        room = "elsewhere"

        [[step]]
        produce = "alice"
        expect.hooks = ["before-produce", "on-new-producer"]

        [[step]]
        first-rtp = "alice"

        [[step]]
        advance = "2s"

        # The same source again: the first one ends.
        [[step]]
        produce = "alice"
        expect.hooks = ["before-produce", "on-new-producer", "on-producer-closed"]

        [[step]]
        consume = "alice-phone"
        from = "alice"
        expect.hooks = ["before-consume"]

        [[step]]
        speakers = ["alice"]
        expect.hooks = ["speaker-changed"]

        [[step]]
        command = "fixture:echo"
        by = "alice"
        payload = { userId = "${alice.id}", producer = "${alice.mic}", text = "at ${now}" }
        expect.hooks = ["on-command"]

        [[step]]
        leave = "alice"
        expect.hooks = ["on-producer-closed", "on-leave"]

        [[step]]
        leave = "alice-phone"
        expect.hooks = ["on-leave", "on-room-closed"]

        [[step]]
        hook = "on-room-closed"
        input = { room = { id = "elsewhere", participants = 0 }, reason = "shutdown", at = "${now}" }
        expect.hooks = ["on-room-closed"]
    "#;
    let (_folder, done) = play(scenario, false);
    done.exits_with(0);
}

//! `voice-room plugin …` from outside: what it prints, and its exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod bench;
mod check;
mod projects;
mod remote;
mod replay;
mod scenarios;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `make plugins test-guests` has built.
fn built(path: &str) -> PathBuf {
    let path = root().join("target").join(path);
    assert!(
        path.exists(),
        "{} is missing: run `make plugins test-guests` first",
        path.display()
    );
    path
}

/// Runs `voice-room plugin` with these arguments.
fn plugin<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voice-room"));
    command
        .arg("plugin")
        .args(arguments)
        .env_remove("VOICE_ROOM_ADMIN_TOKEN")
        // Projects share what they depend on.
        .env("CARGO_TARGET_DIR", root().join("target/plugin-projects"));
    Done(command.output().unwrap())
}

struct Done(Output);

impl Done {
    fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn problem(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    #[track_caller]
    fn exits_with(self, code: i32) -> Self {
        assert_eq!(
            self.0.status.code(),
            Some(code),
            "{}{}",
            self.out(),
            self.problem()
        );
        self
    }

    /// Standard output, which is one JSON document.
    #[track_caller]
    fn json(&self) -> Value {
        let out = self.out();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

#[test]
fn every_command_explains_itself() {
    for (command, must_have) in [
        ("new", "--lang"),
        ("check", "--grants"),
        ("test", "expect.refused"),
        ("bench", "--calls"),
        ("replay", "--plugin"),
        ("list", "VOICE_ROOM_ADMIN_TOKEN"),
        ("reload", "--url"),
    ] {
        let help = plugin([command, "--help"]).exits_with(0).out();
        assert!(help.contains(must_have), "{command}: {help}");
        assert!(help.contains("Example"), "{command}: {help}");
    }
    let help = plugin(["--help"]).exits_with(0).out();
    assert!(help.contains("Exit codes: 0 fine, 1"), "{help}");
}

#[test]
fn wrong_usage_is_told_on_standard_error_with_code_2() {
    let done = plugin(["bench", "x.wasm", "--settings", "[1]"]).exits_with(2);
    assert_eq!(done.out(), "");
    assert!(
        done.problem().contains("not a JSON object"),
        "{}",
        done.problem()
    );
}

#[test]
fn programs_are_told_of_problems_in_json_too() {
    let done = plugin(["bench", "no/such.wasm", "--json"]).exits_with(1);
    let error = done.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("no/such.toml"), "{error}");
    assert!(done.problem().contains(&error), "{}", done.problem());
}

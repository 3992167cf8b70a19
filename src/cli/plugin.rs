//! The command line of `voice-room plugin`.

use std::{collections::BTreeSet, fs, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::config::{Capability, Grants, is_plugin_name};

const NEW_HELP: &str = "\
Examples:
  voice-room plugin new quiet-hours
      In the folder quiet-hours: a policy in Rust, its manifest, unit tests, a scenario.
  voice-room plugin new doorkeeper --lang js --path plugins/doorkeeper

The project builds and passes its tests as it is, and holds all that it needs of this
server: the SDK is in its folder vendor.";

const TEST_HELP: &str = "\
Examples:
  voice-room plugin test quiet-hours
  voice-room plugin test quiet-hours --no-build --json

A scenario, scenarios/NAME.toml, is read from top to bottom:

  description = \"Members may speak\"   # all of these are optional
  start = 2030-01-01T12:00:00Z        # a plugin's time is the scenario's
  room = \"lobby\"                      # where a step names no room
  settings = { roles = [\"member\"] }
  keys = { \"open/lobby\" = true }      # what the plugin has stored before

  [users]                             # everybody who appears, by names of your choice
  alice = { id = 7, roles = [\"member\"] }   # also: name, avatar, claims = {…}
  bob = { id = 8 }

  [[step]]
  join = \"alice\"                      # room = \"…\", as = \"alice-phone\": a second connection

  [[step]]
  produce = \"bob\"                     # source = \"mic\" | \"music\"
  expect.refused = \"MEMBERS_ONLY\"

Each step does one thing:
  join = WHO            before-join, on-room-opened, on-join, describe-room
  leave = WHO           reason = \"left\": on-producer-closed, on-leave, on-room-closed
  produce = WHO         before-produce, on-new-producer
  first-rtp = WHO       source: on-first-rtp
  pause = WHO           source, cause = \"user\" | \"plugin\" (another one) | \"silence\",
                        ago = \"15s\": on-producer-paused
  resume = WHO          source: on-producer-resumed
  consume = WHO         from = OWNER, source: before-consume
  close = WHO           source, reason = \"closed\": on-producer-closed
  speakers = [WHO, …]   loudest first; room: speaker-changed
  command = \"seat:take\" by = WHO, payload = {…}; roomId is filled in: on-command
  advance = \"90s\"       time passes (ms, s, m, h, d), timers fire: on-timer
  replace-instance = true   the instance's memory is lost, as after a failure
  restart = true        the server was killed: everybody is gone, what is stored is not
  recover = true        it runs again, and tells what it left open, as \"recovered\":
                        on-producer-closed, on-room-closed
  hook = \"on-join\"      input = {…}: the call as the contract has it, in camelCase

The hooks that the component exports are called as a server would, and closing, muting and
kicking are carried out, with the calls that follow from it. Expected is what all calls of the step
together came to. Without `refused` or `failed`, a step must be allowed.
  expect.refused = \"CODE\"         expect.message, expect.details: of the refusal
  expect.failed = \"text\"          a call failed, and why contains this
  expect.answer = …               to a command, its data; to a join, what is shown
  expect.amendment = {…}          how a producer begins: muted, priority, attach
  expect.actions = […]            all of them, in order; e.g. { mute = { user = 7 } },
                                  { emitToUser = { user = 7, event = \"a:b\", payload = {…} } },
                                  emitToRoom, unmute, close, kick = { user = 7, reason = \"…\" }
  expect.actions-contain = […]    some of them
  expect.published = […]          all: { topic = \"…\", payload = {…} }
  expect.published-contain = […]  some
  expect.keys = { KEY = VALUE }   stored after the step
  expect.hooks = [\"before-join\"]  which hooks were called, in order

An object matches if it has at least the named fields; a list matches item by item.
In texts ${alice.id}, ${alice.participant}, ${alice.mic}, ${alice.music} and ${now} stand for
the ids and the time; where something is expected, ${any} for anything and ${absent} for
nothing.

Exit codes: 0 all passed, 1 an expectation failed or it does not build, 2 wrong usage.";

const BENCH_HELP: &str = "\
Examples:
  voice-room plugin bench target/plugins/seats.wasm
  voice-room plugin bench quiet_hours.wasm --settings '{\"from\":22}' --calls 100000 --json
  voice-room plugin bench seats.wasm --roles moderator --payload '{\"seatIndex\":0}'

Every hook that the component exports is called, in the order of a room's life: somebody
enters, is shown the room, speaks, is heard, leaves. The answers are counted beside the times, so that you know what was measured.
Times are of the call alone, in a process that does nothing else.";

const CHECK_HELP: &str = "\
Examples:
  voice-room plugin check target/plugins/seats.wasm
  voice-room plugin check seats.wasm --grants key-value,emit

Nothing of the component is run. Its manifest is expected beside it, with the extension
.toml. Exit code 1: a server with these grants would not load it.";

const REPLAY_HELP: &str = "\
Example:
  voice-room plugin replay data/recordings/calls.jsonl --plugin new.wasm

Gives each recorded call to another version, with the recorded answers to its imports, and
prints what it decides differently. Exit code 1: there are differences.";

const REMOTE_HELP: &str = "\
Examples:
  VOICE_ROOM_ADMIN_TOKEN=… voice-room plugin list
  voice-room plugin reload seats --url https://voice.example.com

The token is one that the server accepts, of a user with the role `admin`.";

/// What can be done with plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Write a project for a new plugin, which builds and passes its tests at once
    #[command(after_help = NEW_HELP)]
    New(NewOptions),
    /// Show what a component asks for and can touch, before anyone installs it
    #[command(after_help = CHECK_HELP)]
    Check(CheckOptions),
    /// Build a project and run its scenarios, without a server
    #[command(after_help = TEST_HELP)]
    Test(TestOptions),
    /// Measure each hook: times, instructions, memory
    #[command(after_help = BENCH_HELP)]
    Bench(BenchOptions),
    /// Run recorded calls through another version and show the differences
    #[command(after_help = REPLAY_HELP)]
    Replay(ReplayOptions),
    /// Show the plugins of a running server
    #[command(after_help = REMOTE_HELP)]
    List(RemoteOptions),
    /// Have a running server load plugins anew
    #[command(after_help = REMOTE_HELP)]
    Reload(ReloadOptions),
}

impl PluginCommand {
    /// Whether the answer is for a program.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        match self {
            Self::New(_) => false,
            Self::Check(options) => options.json,
            Self::Test(options) => options.json,
            Self::Bench(options) => options.json,
            Self::Replay(options) => options.json,
            Self::List(options) => options.json,
            Self::Reload(options) => options.remote.json,
        }
    }
}

/// Of `new`.
#[derive(Args, Debug)]
pub struct NewOptions {
    /// The plugin's name: 1 to 64 characters of a-z, 0-9 and -, the first a letter
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: String,

    /// The language
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    pub lang: Language,

    /// Where to write it [default: NAME]
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,

    /// Use the SDK of this folder and put none into the project
    #[arg(long, value_name = "DIR")]
    pub sdk: Option<PathBuf>,
}

/// In what a plugin is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Rust.
    Rust,
    /// JavaScript.
    Js,
}

/// Of `check`.
#[derive(Args, Debug)]
pub struct CheckOptions {
    /// The component
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Its manifest [default: FILE with the extension .toml]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,

    /// What a server would grant it, separated by commas
    #[arg(long, value_name = "LIST", default_value = "*", value_parser = grants)]
    pub grants: Grants,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Of `test`.
#[derive(Args, Debug)]
pub struct TestOptions {
    /// The project's folder: plugin.toml, scenarios/, and Cargo.toml or package.json
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,

    /// Take the component as it was built before
    #[arg(long)]
    pub no_build: bool,

    /// Build nothing, and take this component
    #[arg(long, value_name = "FILE", conflicts_with = "no_build")]
    pub component: Option<PathBuf>,

    /// Keep compiled code in this folder for the next time. It is run without further checks,
    /// so nobody else must be able to write there
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Of `bench`.
#[derive(Args, Debug)]
pub struct BenchOptions {
    /// The component
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Its manifest [default: FILE with the extension .toml]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,

    /// Calls of each hook that are measured
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub calls: u32,

    /// The plugin's settings: a JSON object, or @FILE with one
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    pub settings: Value,

    /// Roles of the user who enters and speaks, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub roles: Vec<String>,

    /// What commands are sent besides the room's id: a JSON object, or @FILE with one
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    pub payload: Value,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Of `replay`.
#[derive(Args, Debug)]
pub struct ReplayOptions {
    /// The recording
    #[arg(value_name = "CALLS")]
    pub calls: PathBuf,

    /// The component that is given the calls
    #[arg(long, value_name = "FILE")]
    pub plugin: PathBuf,

    /// Its manifest [default: the component's path with the extension .toml]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,

    /// Which of the recorded plugins [default: the one that the manifest names]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: Option<String>,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Of `list`, and how to reach a server.
#[derive(Args, Debug)]
pub struct RemoteOptions {
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000", value_parser = url)]
    pub url: String,

    /// Who you are
    #[arg(
        long,
        value_name = "TOKEN",
        env = "VOICE_ROOM_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Of `reload`.
#[derive(Args, Debug)]
pub struct ReloadOptions {
    /// Which plugin [default: all of them]
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: Option<String>,

    /// Which server.
    #[command(flatten)]
    pub remote: RemoteOptions,
}

fn name(text: &str) -> Result<String, String> {
    if is_plugin_name(text) {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 64 characters of a-z, 0-9 and -, the first a letter".to_owned())
    }
}

fn url(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        Ok(text.to_owned())
    } else {
        Err("it does not begin with http:// or https://".to_owned())
    }
}

fn grants(text: &str) -> Result<Grants, String> {
    if text == "*" {
        return Ok(Grants::AllAsked);
    }
    let words = text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let listed: Result<BTreeSet<_>, _> = words
        .map(|word| Capability::from_name(word).ok_or(word))
        .collect();
    listed.map(Grants::Listed).map_err(|word| {
        let known = Capability::ALL.map(Capability::name).join(", ");
        format!("there is no capability `{word}`; there are {known}, and * for all")
    })
}

fn object(text: &str) -> Result<Value, String> {
    let read;
    let json = match text.strip_prefix('@') {
        Some(file) => {
            read = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            &read
        }
        None => text,
    };
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => Ok(Value::Object(object)),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_all_or_a_list() {
        assert_eq!(grants("*"), Ok(Grants::AllAsked));
        let some = BTreeSet::from([Capability::KeyValue, Capability::Emit]);
        assert_eq!(grants("key-value, emit"), Ok(Grants::Listed(some)));
        assert_eq!(grants(""), Ok(Grants::Listed(BTreeSet::new())));
        let error = grants("emit,fly").unwrap_err();
        assert!(
            error.contains("`fly`") && error.contains("timers"),
            "{error}"
        );
    }

    #[test]
    fn objects_are_json_or_a_file_with_it() {
        assert_eq!(object("{\"a\":1}"), Ok(serde_json::json!({ "a": 1 })));
        assert!(object("[1]").unwrap_err().contains("object"));
        assert!(object("{a}").unwrap_err().contains("not JSON"));
        assert!(
            object("@no/such/file")
                .unwrap_err()
                .contains("no/such/file")
        );

        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{\"b\":2}").unwrap();
        let read = object(&format!("@{}", file.path().display()));
        assert_eq!(read, Ok(serde_json::json!({ "b": 2 })));
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        assert_eq!(name("quiet-hours"), Ok("quiet-hours".to_owned()));
        for wrong in ["", "Quiet", "9lives", "a b", "../up"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}

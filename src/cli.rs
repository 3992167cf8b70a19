//! The command line.

mod outbox;
mod plugin;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use outbox::{LedgerCommand, ListOptions, OutboxCommand, VerifyOptions, WhichOptions};
pub use plugin::{
    BenchOptions, CheckOptions, Language, NewOptions, PluginCommand, ReloadOptions, RemoteOptions,
    ReplayOptions, TestOptions,
};

use crate::config::Flags;

const EXAMPLES: &str = "\
Examples:
  voice-room serve --dev
      Try it: http://localhost:3000, random secret, loopback only.
  voice-room serve --config /etc/voice-room.toml
      In production. The secret is best set as VOICE_ROOM_AUTH__SECRET.
  VOICE_ROOM_MEDIA__WORKERS=2 voice-room config --dev
      What would the server run with, and what set it?
  voice-room plugin new quiet-hours && voice-room plugin test quiet-hours
      A rule of your own, built and tested.

Every key of the configuration can be set in the environment: VOICE_ROOM_ and the
key in upper case, with two underscores for each dot. Those within [[plugins]],
[[sinks]] and [[media.ice_servers]] cannot, but the whole list can, as TOML:
VOICE_ROOM_PLUGINS='[{name=\"seats\"}]'. Flags go before the environment, the
environment before the file.

Exit codes: 0 ended as asked, 1 failed while running, 2 wrong usage or configuration.";

const PLUGIN_EXAMPLES: &str = "\
Examples, from an idea to a running server:
  voice-room plugin new quiet-hours
  voice-room plugin test quiet-hours
  voice-room plugin check quiet-hours/target/wasm32-wasip2/release/quiet_hours.wasm
  voice-room plugin bench quiet-hours/target/wasm32-wasip2/release/quiet_hours.wasm
  voice-room plugin reload quiet-hours

With --json, all but new print one JSON document on standard output.

Exit codes: 0 fine, 1 it failed or differs, 2 wrong usage.";

const ENDING: &str = "\
SIGTERM or Ctrl-C stops the server: clients are told, what is in memory is written,
and it ends within server.shutdown_limit_ms. A second signal ends it at once.

SIGHUP has it read the configuration again, from the same file, environment and
flags. What plugins are given changes at once, while people talk: component,
manifest, settings, grants, limits and policies. Whatever else differs is named in
the log and needs a restart. With mistakes in it, nothing changes.

A plugin is also loaded anew when its component or manifest changes on disk (unless
its configuration says watch = false), and by POST /admin/plugins/NAME/reload.";

/// Voice rooms whose rules are sandboxed WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    #[command(after_help = ENDING)]
    Serve(Options),
    /// Check the configuration and print it: every key, what set it, secrets hidden
    Config(Options),
    /// What is done beside a server
    #[command(flatten)]
    Tool(ToolCommand),
}

/// What is done beside a server, or asked of one that runs.
#[derive(Debug, Subcommand)]
pub enum ToolCommand {
    /// Make, test, measure and inspect plugins; look after those of a running server
    #[command(subcommand, after_help = PLUGIN_EXAMPLES)]
    Plugin(PluginCommand),
    /// How the delivery of published events goes; deliver again or drop what was given up
    #[command(subcommand, after_help = outbox::OUTBOX_EXAMPLES)]
    Outbox(OutboxCommand),
    /// Prove that nothing published was changed or left out
    #[command(subcommand, after_help = outbox::LEDGER_EXAMPLES)]
    Ledger(LedgerCommand),
}

impl ToolCommand {
    /// Whether the answer is for a program.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Plugin(command) => command.wants_json(),
            Self::Outbox(command) => command.wants_json(),
            Self::Ledger(LedgerCommand::Verify(options)) => options.remote.json,
        }
    }
}

/// Where the configuration comes from.
#[derive(Args, Debug)]
pub struct Options {
    /// Development mode: any browser page may connect, POST /dev/token makes
    /// tokens for anyone, a random secret, loopback only unless told otherwise
    #[arg(long)]
    dev: bool,

    /// Address and port of HTTP [default: server.listen, else 127.0.0.1:3000]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,

    /// Where to keep what survives a restart [default: server.data_dir, else data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,

    /// Configuration in TOML; config.example.toml has every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl From<Options> for Flags {
    fn from(options: Options) -> Self {
        Self {
            dev: options.dev,
            file: options.config,
            listen: options.listen,
            data_dir: options.data_dir,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_reach_the_configuration() {
        let line = "voice-room serve --dev --listen 127.0.0.1:0 --data-dir d --config f.toml";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();

        let Command::Serve(options) = cli.command else {
            panic!("{cli:?}");
        };
        let flags = Flags::from(options);
        assert!(flags.dev);
        assert_eq!(flags.listen.as_deref(), Some("127.0.0.1:0"));
        assert_eq!(flags.data_dir.as_deref(), Some("d"));
        assert_eq!(flags.file, Some(PathBuf::from("f.toml")));
    }

    #[test]
    fn wrong_usage_ends_with_code_2() {
        for line in [
            "voice-room",
            "voice-room fly",
            "voice-room serve --port 1",
            "voice-room plugin",
            "voice-room plugin new",
            "voice-room plugin new Quiet",
            "voice-room plugin new quiet --lang cobol",
            "voice-room plugin bench a.wasm --calls 0",
            "voice-room plugin check a.wasm --grants fly",
            "voice-room plugin list --url example.com",
            "voice-room outbox",
            "voice-room outbox retry",
            "voice-room outbox retry hook",
            "voice-room outbox drop hook 1 --all",
            "voice-room outbox drop hook x",
            "voice-room ledger",
            "voice-room ledger verify --data-dir d --url http://x",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_shows_examples_and_exit_codes() {
        let help = Cli::try_parse_from(["voice-room", "--help"]).unwrap_err();

        assert_eq!(help.kind(), ErrorKind::DisplayHelp);
        assert_eq!(help.exit_code(), 0);
        let text = help.to_string();
        assert!(
            text.contains("voice-room serve --dev") && text.contains("Exit codes"),
            "{text}"
        );
    }
}

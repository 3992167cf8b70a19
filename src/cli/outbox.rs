//! The command lines of `voice-room outbox` and `voice-room ledger`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::RemoteOptions;

pub(super) const OUTBOX_EXAMPLES: &str = "\
Published events go to the sinks of the configuration. What a webhook refuses for good, or
has failed to take too often, becomes a dead letter and holds up nothing any more.

Examples:
  VOICE_ROOM_ADMIN_TOKEN=… voice-room outbox list
      How far each sink is, and what it has given up.
  voice-room outbox list billing-backend --json
  voice-room outbox retry billing-backend --all
      When the receiver works again.
  voice-room outbox drop billing-backend 4711 4712

Exit codes: 0 done, 1 it failed, 2 wrong usage.";

pub(super) const LEDGER_EXAMPLES: &str = "\
Everything that was published is an entry of the ledger, in one sequence without a gap, and
the hash of each depends on all before it.

Examples:
  voice-room ledger verify --data-dir /var/lib/voice-room
      Of a server that does not run, or of a copy.
  VOICE_ROOM_ADMIN_TOKEN=… voice-room ledger verify --url https://voice.example.com
      Through a server that runs.

Exit codes: 0 it holds, 1 it does not or could not be read, 2 wrong usage.";

const LIST_HELP: &str = "\
Examples:
  voice-room outbox list
  voice-room outbox list billing-backend --after 4711

LAG is the number of entries behind the last one up to which a sink has taken everything;
AHEAD are those of them that it has taken all the same. At most 100 dead letters of each sink
are shown: the next ones are --after the last.";

const RETRY_HELP: &str = "\
Examples:
  voice-room outbox retry billing-backend 4711
  voice-room outbox retry billing-backend --all

Each is tried up to three times, soon, one after the other, also after a restart. What is
taken is no dead letter any more; the others are listed again with why they were not.";

const DROP_HELP: &str = "\
Examples:
  voice-room outbox drop billing-backend 4711
  voice-room outbox drop billing-backend --all

The receiver will never get them from this server. They stay in the ledger. Also works for
a sink that is not configured any more.";

const VERIFY_HELP: &str = "\
Examples:
  voice-room ledger verify --data-dir data
  VOICE_ROOM_ADMIN_TOKEN=… voice-room ledger verify --json

Reads every entry that is kept, and holds it against its hash and that of the entry before.
Note the number and the hash of the last one: as long as a later ledger has the same hash
under that number, nothing up to there was changed.";

/// What can be done about delivery.
#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// Show how far each sink is, and what it has given up
    #[command(after_help = LIST_HELP)]
    List(ListOptions),
    /// Have dead letters delivered again
    #[command(after_help = RETRY_HELP)]
    Retry(WhichOptions),
    /// Drop dead letters for good
    #[command(after_help = DROP_HELP)]
    Drop(WhichOptions),
}

impl OutboxCommand {
    /// Whether the answer is for a program.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        match self {
            Self::List(options) => options.remote.json,
            Self::Retry(options) | Self::Drop(options) => options.remote.json,
        }
    }
}

/// Of `outbox list`.
#[derive(Args, Debug)]
pub struct ListOptions {
    /// Which sink [default: all of them]
    #[arg(value_name = "SINK")]
    pub sink: Option<String>,

    /// Dead letters of entries after this one
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,

    /// Which server.
    #[command(flatten)]
    pub remote: RemoteOptions,
}

/// Of `outbox retry` and `outbox drop`.
#[derive(Args, Debug)]
pub struct WhichOptions {
    /// Which sink
    #[arg(value_name = "SINK")]
    pub sink: String,

    /// Which entries, by their numbers
    #[arg(value_name = "SEQ", required_unless_present = "all", num_args = 1..=1000)]
    pub seqs: Vec<u64>,

    /// All dead letters of the sink
    #[arg(long, conflicts_with = "seqs")]
    pub all: bool,

    /// Which server.
    #[command(flatten)]
    pub remote: RemoteOptions,
}

/// What can be done with the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Read all entries and hold them against their hashes
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyOptions),
}

/// Of `ledger verify`.
#[derive(Args, Debug)]
pub struct VerifyOptions {
    /// The data directory of a server that does not run [default: ask the server at --url]
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub data_dir: Option<PathBuf>,

    /// Which server.
    #[command(flatten)]
    pub remote: RemoteOptions,
}

//! What is done beside a server, or asked of one that runs.
//!
//! `voice-room plugin …` is what the author of a plugin and whoever installs it need, from an
//! empty folder to a running server:
//!
//! | command | does |
//! |---|---|
//! | `new` | writes a project from a template, with the SDK in it |
//! | `check` | shows what a component can touch |
//! | `test` | builds a project and runs its scenarios |
//! | `bench` | measures each hook |
//! | `replay` | runs recorded calls through another version |
//! | `list`, `reload` | speak with a running server |
//!
//! `voice-room outbox …` looks after the delivery of published events, `voice-room ledger
//! verify` proves that they are all there.
//!
//! Components run in the server's own sandbox, through [`plugin`](crate::plugin); there is no
//! second way to call one. What is for people or programs to read is returned, not printed.

mod bench;
mod check;
mod component;
mod ledger;
mod new;
mod outbox;
mod remote;
mod replay;
mod test;

use serde::Serialize;
use serde_json::json;

use crate::{
    cli::{LedgerCommand, OutboxCommand, PluginCommand, ToolCommand},
    plugin::LoadError,
};

/// What a command has come to.
#[derive(Debug)]
pub struct Report {
    /// For standard output.
    pub text: String,
    /// Whether all is as it should be; else the exit code is 1.
    pub fine: bool,
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// `bench`.
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    /// `check`.
    #[error(transparent)]
    Check(#[from] LoadError),
    /// `new`.
    #[error(transparent)]
    New(#[from] new::NewError),
    /// `ledger verify`.
    #[error(transparent)]
    Ledger(#[from] ledger::LedgerToolError),
    /// `list`, `reload`, and all of `outbox`.
    #[error(transparent)]
    Remote(#[from] remote::RemoteError),
    /// `replay`.
    #[error(transparent)]
    Replay(#[from] replay::ReplayToolError),
    /// `test`.
    #[error(transparent)]
    Test(#[from] test::TestError),
}

impl ToolError {
    /// For programs, which read standard output only.
    #[must_use]
    pub fn json(&self) -> String {
        let error = self.to_string();
        let details = match self {
            Self::Remote(error) => error.details(),
            _ => None,
        };
        json(&match details {
            Some(details) => json!({ "error": error, "details": details }),
            None => json!({ "error": error }),
        })
    }
}

/// Does what the command line says.
///
/// # Errors
///
/// If it cannot be done at all. A test that fails, and whatever else a command is there to
/// find out, is a report.
pub async fn run(command: &ToolCommand) -> Result<Report, ToolError> {
    match command {
        ToolCommand::Plugin(command) => plugin(command).await,
        ToolCommand::Outbox(command) => Ok(match command {
            OutboxCommand::List(options) => outbox::list(options).await?,
            OutboxCommand::Retry(options) => outbox::retry(options).await?,
            OutboxCommand::Drop(options) => outbox::drop_letters(options).await?,
        }),
        ToolCommand::Ledger(LedgerCommand::Verify(options)) => Ok(ledger::verify(options).await?),
    }
}

async fn plugin(command: &PluginCommand) -> Result<Report, ToolError> {
    Ok(match command {
        PluginCommand::New(options) => new::project(options)?,
        PluginCommand::Check(options) => check::component(options)?,
        PluginCommand::Test(options) => test::project(options).await?,
        PluginCommand::Bench(options) => bench::component(options).await?,
        PluginCommand::Replay(options) => replay::recording(options).await?,
        PluginCommand::List(options) => remote::list(options).await?,
        PluginCommand::Reload(options) => remote::reload(options).await?,
    })
}

impl Report {
    fn fine(text: String) -> Self {
        Self { text, fine: true }
    }
}

/// One document, for programs.
fn json(value: &impl Serialize) -> String {
    // None of our reports has a key that is no text.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

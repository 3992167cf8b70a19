//! `ledger verify`: of a data directory, or through a server that runs.

use std::path::Path;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    Report,
    remote::{RemoteError, Server},
};
use crate::{
    cli::VerifyOptions,
    store::ledger::{self, Broken, Seal, Verified, VerifyError},
};

/// How the server says that it does not keep an entry any more.
const GONE: &str = "LEDGER_GONE";

/// How often a server at the limit of what it keeps, which cuts each second, is read from its
/// first entry on.
const TRIES: usize = 5;

/// Why the ledger could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum LedgerToolError {
    /// The server does not give it out.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The data directory cannot be read.
    #[error(transparent)]
    Unreadable(VerifyError),
}

/// Verifies; a ledger that does not hold is a report.
pub(super) async fn verify(options: &VerifyOptions) -> Result<Report, LedgerToolError> {
    let found = match &options.data_dir {
        Some(data_dir) => offline(data_dir)?,
        None => through_server(&Server::new(&options.remote)?).await?,
    };
    let json = options.remote.json;
    Ok(match found {
        Ok(verified) if json => Report::fine(super::json(&json!({
            "holds": true,
            "entries": verified.entries,
            "anchor": verified.anchor,
            "head": verified.head,
        }))),
        Ok(verified) => Report::fine(for_people(&verified)),
        Err(broken) => {
            let problem = broken.to_string();
            let text = if json {
                super::json(&json!({ "holds": false, "problem": problem }))
            } else {
                format!("THE LEDGER DOES NOT HOLD: {problem}\n")
            };
            Report { text, fine: false }
        }
    })
}

fn offline(data_dir: &Path) -> Result<Result<Verified, Broken>, LedgerToolError> {
    match ledger::verify(data_dir) {
        Ok(verified) => Ok(Ok(verified)),
        Err(VerifyError::Broken(broken)) => Ok(Err(broken)),
        Err(error) => Err(LedgerToolError::Unreadable(error)),
    }
}

#[derive(Deserialize)]
struct Page {
    anchor: Seal,
}

#[derive(Deserialize)]
struct Gone {
    anchor: Seal,
}

#[derive(Deserialize)]
struct Status {
    ledger: Extent,
}

#[derive(Deserialize)]
struct Extent {
    head: Seal,
}

/// Begins again where the server has cut off what was to be read next.
async fn through_server(server: &Server<'_>) -> Result<Result<Verified, Broken>, RemoteError> {
    for _ in 1..TRIES {
        match up_to_the_last(server).await {
            Err(RemoteError::Refused(problem)) if problem.error == GONE => {}
            verified => return verified,
        }
    }
    up_to_the_last(server).await
}

/// Up to the entry that is the last one at the beginning.
async fn up_to_the_last(server: &Server<'_>) -> Result<Result<Verified, Broken>, RemoteError> {
    let status = server.ask(Method::GET, "admin/sinks").await?;
    let Status { ledger } = server.understood(&status)?;
    let head = ledger.head;
    let anchor = anchor(server).await?;
    let mut seal = anchor;
    while seal.seq < head.seq {
        let path = format!("ledger?limit=1000&after={}", seal.seq);
        let text = server.ask_lines(&path).await?;
        if text.is_empty() {
            let (expected, found) = (head.seq, seal.seq);
            return Ok(Err(Broken::End { expected, found }));
        }
        for line in text.lines() {
            seal = match seal.check(line) {
                Ok(next) => next,
                Err(broken) => return Ok(Err(broken)),
            };
            if seal.seq == head.seq && seal != head {
                let Seal { seq, hash } = head;
                return Ok(Err(Broken::Changed { seq, hash }));
            }
        }
    }
    Ok(Ok(Verified {
        entries: seal.seq - anchor.seq,
        anchor,
        head: seal,
    }))
}

/// What the first entry that is kept follows.
async fn anchor(server: &Server<'_>) -> Result<Seal, RemoteError> {
    match server.ask(Method::GET, "ledger?limit=0").await {
        Ok(page) => Ok(server.understood::<Page>(&page)?.anchor),
        Err(RemoteError::Refused(problem)) if problem.error == GONE => {
            let details = problem.details.unwrap_or_default();
            Ok(server.understood::<Gone>(&details)?.anchor)
        }
        Err(error) => Err(error),
    }
}

fn for_people(verified: &Verified) -> String {
    let Verified {
        entries,
        anchor,
        head,
    } = verified;
    if *entries == 0 {
        return format!(
            "The ledger has no entries. The last that it had: {} {}\n",
            head.seq, head.hash
        );
    }
    format!(
        "The ledger holds: {entries} entries, {} to {}, without a gap.\nThe last one: {} {}\n",
        anchor.seq + 1,
        head.seq,
        head.seq,
        head.hash
    )
}

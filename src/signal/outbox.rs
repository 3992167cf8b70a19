//! How the delivery of published events goes, and what to do about those that were given up.

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{admin::no, http::HttpState, ledger::unavailable};
use crate::{
    sinks::{OutboxError, Which},
    store::DeadLetter,
};

/// Dead letters of one answer.
const LETTERS: usize = 100;

/// And at most; also what can be named in one request.
const MOST_LETTERS: usize = 1000;

/// The routes.
pub(super) fn routes() -> Router<HttpState> {
    Router::new()
        .route("/admin/sinks", get(list))
        .route("/admin/sinks/{sink}/dead-letters", get(letters))
        .route("/admin/sinks/{sink}/dead-letters/retry", post(retry))
        .route("/admin/sinks/{sink}/dead-letters/drop", post(drop_letters))
}

async fn list(State(state): State<HttpState>) -> Response {
    let extent = state.records.ledger().extent();
    let body = json!({
        "sinks": state.records.sinks().status(),
        "ledger": {
            "entries": extent.entries(),
            "bytes": extent.bytes,
            "anchor": extent.anchor,
            "head": extent.head,
        },
        "store": state.records.health(),
    });
    Json(body).into_response()
}

/// Which dead letters are wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Those of entries after this one.
    after: Option<u64>,
    limit: Option<usize>,
}

async fn letters(
    State(state): State<HttpState>,
    Path(sink): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(rejection) => return invalid(&rejection.body_text()),
    };
    let limit = wanted.limit.unwrap_or(LETTERS).min(MOST_LETTERS);
    match state
        .records
        .sinks()
        .letters(&sink, wanted.after, limit)
        .await
    {
        Ok(page) => {
            let letters: Vec<Value> = page.letters.into_iter().map(shown).collect();
            Json(json!({ "letters": letters, "next": page.next })).into_response()
        }
        Err(error) => refused(&error),
    }
}

fn shown((seq, letter): (u64, DeadLetter)) -> Value {
    let entry: Option<Value> = serde_json::from_str(&letter.entry).ok();
    json!({
        "seq": seq,
        "at": letter.at,
        "tries": letter.tries,
        "problem": letter.problem,
        "retry": letter.retry,
        "entry": entry,
    })
}

/// Which dead letters are meant: by number, or all of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Meant {
    seqs: Option<Vec<u64>>,
    #[serde(default)]
    all: bool,
}

impl Meant {
    fn which(self) -> Result<Which, String> {
        match (self.all, self.seqs) {
            (true, None) => Ok(Which::All),
            (false, Some(seqs)) if (1..=MOST_LETTERS).contains(&seqs.len()) => {
                Ok(Which::These(seqs))
            }
            _ => Err(format!(
                "say either `seqs`, with 1 to {MOST_LETTERS} numbers, or `all` with true"
            )),
        }
    }
}

type Body = Result<Json<Meant>, JsonRejection>;

fn meant(body: Body) -> Result<Which, String> {
    let Json(meant) = body.map_err(|rejection| rejection.body_text())?;
    meant.which()
}

async fn retry(State(state): State<HttpState>, Path(sink): Path<String>, body: Body) -> Response {
    match meant(body) {
        Ok(which) => changed(state.records.sinks().retry(&sink, &which).await),
        Err(problem) => invalid(&problem),
    }
}

async fn drop_letters(
    State(state): State<HttpState>,
    Path(sink): Path<String>,
    body: Body,
) -> Response {
    match meant(body) {
        Ok(which) => changed(state.records.sinks().drop_letters(&sink, &which).await),
        Err(problem) => invalid(&problem),
    }
}

fn changed(result: Result<usize, OutboxError>) -> Response {
    match result {
        Ok(number) => Json(json!({ "changed": number })).into_response(),
        Err(error) => refused(&error),
    }
}

fn refused(error: &OutboxError) -> Response {
    let message = error.to_string();
    match error {
        OutboxError::UnknownSink(_) => no(StatusCode::NOT_FOUND, "SINK_NOT_FOUND", &message),
        OutboxError::UnknownLetter { .. } => {
            no(StatusCode::NOT_FOUND, "DEAD_LETTER_NOT_FOUND", &message)
        }
        OutboxError::NoWebhook(_) => no(StatusCode::CONFLICT, "SINK_NO_WEBHOOK", &message),
        OutboxError::Unreadable(error) => unavailable(error),
        OutboxError::NotSaved(_) => no(StatusCode::SERVICE_UNAVAILABLE, "NOT_SAVED", &message),
    }
}

fn invalid(message: &str) -> Response {
    no(StatusCode::BAD_REQUEST, "INVALID_PAYLOAD", message)
}

//! How the delivery of published events goes, and what to do about those that were given up.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

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
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(letters))
        .routes(routes!(retry))
        .routes(routes!(drop_letters))
}

/// How far each sink is, what it fails with, and where the ledger begins and ends.
#[utoipa::path(
    get,
    path = "/admin/sinks",
    tag = "operations",
    security(("token" = [])),
    responses(
        (status = 200, description = "`{sinks, ledger, store}`", body = Object),
        (status = 401, description = "`AUTH_REQUIRED`: there is no good token", body = Object),
        (status = 403, description = "`FORBIDDEN`: the token lacks the role", body = Object)
    )
)]
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
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Those of entries after this one.
    after: Option<u64>,
    /// How many at most: 100 if it is not said, never more than 1000.
    limit: Option<usize>,
}

/// Events that a sink has given up, in the order of the ledger.
#[utoipa::path(
    get,
    path = "/admin/sinks/{sink}/dead-letters",
    tag = "operations",
    security(("token" = [])),
    params(("sink" = String, Path, description = "A configured sink"), Wanted),
    responses(
        (status = 200, description = "A page, as `letters`; `next` is the `after` of the next one, or `null`", body = Object),
        (status = 400, description = "`INVALID_PAYLOAD`", body = Object),
        (status = 404, description = "`SINK_NOT_FOUND`", body = Object),
        (status = 503, description = "`LEDGER_UNAVAILABLE`", body = Object),
        (status = 401, description = "`AUTH_REQUIRED`: there is no good token", body = Object),
        (status = 403, description = "`FORBIDDEN`: the token lacks the role", body = Object)
    )
)]
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

/// Has dead letters delivered again, soon.
#[utoipa::path(
    post,
    path = "/admin/sinks/{sink}/dead-letters/retry",
    tag = "operations",
    security(("token" = [])),
    params(("sink" = String, Path, description = "A configured sink")),
    request_body(content = Object, description = "`seqs`, the numbers of their entries, or `all: true`"),
    responses(
        (status = 200, description = "How many, as `changed`", body = Object),
        (status = 400, description = "`INVALID_PAYLOAD`", body = Object),
        (status = 404, description = "`SINK_NOT_FOUND`, or `DEAD_LETTER_NOT_FOUND`: nothing was changed", body = Object),
        (status = 503, description = "`LEDGER_UNAVAILABLE` or `NOT_SAVED`", body = Object),
        (status = 401, description = "`AUTH_REQUIRED`: there is no good token", body = Object),
        (status = 403, description = "`FORBIDDEN`: the token lacks the role", body = Object)
    )
)]
async fn retry(State(state): State<HttpState>, Path(sink): Path<String>, body: Body) -> Response {
    match meant(body) {
        Ok(which) => changed(state.records.sinks().retry(&sink, &which).await),
        Err(problem) => invalid(&problem),
    }
}

/// Drops dead letters for good.
#[utoipa::path(
    post,
    path = "/admin/sinks/{sink}/dead-letters/drop",
    tag = "operations",
    security(("token" = [])),
    params(("sink" = String, Path, description = "A configured sink")),
    request_body(content = Object, description = "`seqs`, the numbers of their entries, or `all: true`"),
    responses(
        (status = 200, description = "How many, as `changed`", body = Object),
        (status = 400, description = "`INVALID_PAYLOAD`", body = Object),
        (status = 404, description = "`SINK_NOT_FOUND`, or `DEAD_LETTER_NOT_FOUND`: nothing was changed", body = Object),
        (status = 503, description = "`LEDGER_UNAVAILABLE` or `NOT_SAVED`", body = Object),
        (status = 401, description = "`AUTH_REQUIRED`: there is no good token", body = Object),
        (status = 403, description = "`FORBIDDEN`: the token lacks the role", body = Object)
    )
)]
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

//! `GET /ledger`: everything that was published, for whoever wants to be sure to have it all.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{admin::no, http::HttpState};
use crate::{
    sinks::Sinks,
    store::{
        Health, Store,
        ledger::{Entry, Ledger, LedgerError, Portion, Span},
    },
};

/// Entries of one answer.
const ENTRIES: usize = 100;

/// And at most.
const MOST_ENTRIES: usize = 1000;

/// Bytes of one answer, but for its first entry.
const BYTES: usize = 4 << 20;

/// The longest that an answer waits for something to tell, in seconds.
const MOST_WAIT: u64 = 30;

/// Requests that may wait at once; others are answered with what there is.
const WAITING: usize = 64;

/// One entry a line, in place of a document.
const LINES: &str = "application/x-ndjson";

/// What was published, and how its delivery goes.
#[derive(Clone)]
pub struct Records {
    store: Store,
    sinks: Sinks,
    waiting: Arc<Semaphore>,
}

impl Records {
    /// Of a server.
    #[must_use]
    pub fn new(store: &Store, sinks: &Sinks) -> Self {
        Self {
            store: store.clone(),
            sinks: sinks.clone(),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    pub(super) fn health(&self) -> Health {
        self.store.health()
    }

    /// Brings the store's metrics up to date.
    pub(super) fn measure(&self) {
        self.store.measure();
    }

    pub(super) fn ledger(&self) -> Ledger {
        self.store.ledger()
    }

    pub(super) fn sinks(&self) -> &Sinks {
        &self.sinks
    }

    /// Waits for an entry after this one, if there is a place to wait and not after the end.
    async fn wait(&self, after: u64, limit: Duration) {
        let Ok(_place) = self.waiting.try_acquire() else {
            return;
        };
        let ledger = self.ledger();
        tokio::select! {
            _ = ledger.grown(after, limit) => {}
            () = self.sinks.stopped() => {}
        }
    }
}

/// The routes.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(entries))
}

/// Which entries are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Those that follow this one, by its `seq`; 0 is the beginning.
    #[serde(default)]
    after: u64,
    /// How many at most: 100 if it is not said, never more than 1000.
    limit: Option<usize>,
    /// For how many seconds to wait for one if there is none yet, 30 at most.
    #[serde(default)]
    wait: u64,
}

/// Everything that was published and noted, in one sequence without a gap. To be verified as
/// it is, each entry by the hash that it says: its text is the line without its last member.
#[utoipa::path(
    get,
    path = "/ledger",
    tag = "operations",
    security(("token" = [])),
    params(Wanted),
    responses(
        (
            status = 200,
            description = "`{entries, next, anchor}`: each entry is `{at, id, payload, plugin, \
                           producer, room, seq, topic, user, hash}`, `plugin` is `null` for what \
                           the server itself notes; `next` is the `after` of the next page; \
                           `anchor` is `{seq, hash}` of what the first entry follows. With \
                           `Accept: application/x-ndjson`, one entry a line and nothing else",
            content((Object = "application/json"), (String = "application/x-ndjson"))
        ),
        (status = 400, description = "`INVALID_PAYLOAD`", body = Object),
        (status = 409, description = "`LEDGER_AHEAD`: there is no such entry yet; `details.last` is the last one", body = Object),
        (status = 410, description = "`LEDGER_GONE`: what follows is no longer kept; `details.first` is the first that is", body = Object),
        (status = 503, description = "`LEDGER_UNAVAILABLE`", body = Object),
        (status = 401, description = "`AUTH_REQUIRED`: there is no good token", body = Object),
        (status = 403, description = "`FORBIDDEN`: the token lacks the role", body = Object)
    )
)]
async fn entries(
    State(state): State<HttpState>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(rejection) => {
            let message = rejection.body_text();
            return no(StatusCode::BAD_REQUEST, "INVALID_PAYLOAD", &message);
        }
    };
    let ledger = state.records.ledger();
    if wanted.wait > 0 && wanted.after == ledger.extent().head.seq {
        let limit = Duration::from_secs(wanted.wait.min(MOST_WAIT));
        state.records.wait(wanted.after, limit).await;
    }
    let portion = Portion {
        entries: wanted.limit.unwrap_or(ENTRIES).min(MOST_ENTRIES),
        bytes: BYTES,
    };
    let reading = tokio::task::spawn_blocking({
        let ledger = ledger.clone();
        move || ledger.read(wanted.after, portion)
    });
    let read = reading
        .await
        .unwrap_or_else(|error| Err(LedgerError::Interrupted(error.to_string())));
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    match read {
        Ok(span) if accept.is_some_and(|accept| accept.contains(LINES)) => lines(&span),
        Ok(span) => document(&span),
        Err(error) => refused(&error, &ledger),
    }
}

/// The texts as they are: they are what is hashed.
fn document(span: &Span) -> Response {
    let entries: Vec<String> = span.entries.iter().map(Entry::json).collect();
    let rest = json!({ "next": span.next(), "anchor": span.after }).to_string();
    let rest = rest.strip_prefix('{').unwrap_or_default();
    let text = format!("{{\"entries\":[{}],{rest}", entries.join(","));
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], text).into_response()
}

fn lines(span: &Span) -> Response {
    let text: String = span
        .entries
        .iter()
        .map(|entry| entry.json() + "\n")
        .collect();
    let lines = HeaderValue::from_static(LINES);
    ([(header::CONTENT_TYPE, lines)], text).into_response()
}

fn refused(error: &LedgerError, ledger: &Ledger) -> Response {
    let (status, code, details): (_, _, Value) = match error {
        LedgerError::Gone { first, .. } => {
            let anchor = ledger.extent().anchor;
            let details = json!({ "first": first, "anchor": anchor });
            (StatusCode::GONE, "LEDGER_GONE", details)
        }
        LedgerError::Ahead { last, .. } => (
            StatusCode::CONFLICT,
            "LEDGER_AHEAD",
            json!({ "last": last }),
        ),
        LedgerError::Database(_) | LedgerError::Interrupted(_) => {
            return unavailable(error);
        }
    };
    let body = json!({ "error": code, "message": error.to_string(), "details": details });
    (status, Json(body)).into_response()
}

/// An answer for when the database cannot be read.
pub(super) fn unavailable(error: &LedgerError) -> Response {
    tracing::error!(%error, "the ledger cannot be read");
    let status = StatusCode::SERVICE_UNAVAILABLE;
    no(
        status,
        "LEDGER_UNAVAILABLE",
        "The ledger cannot be read now: try again",
    )
}

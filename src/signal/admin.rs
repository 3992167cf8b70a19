//! The operators' face: what plugins run and how they do, and other versions of them; with
//! what was published, and how its delivery goes. For holders of a token with the role
//! `admin`.

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    auth::{self, AuthError},
    http::HttpState,
    ledger, outbox,
};
use crate::plugin::{PluginProblem, SwapError};

/// Whoever has this role in the token may do all that is here.
const ROLE: &str = "admin";

/// Dead letters of one answer.
const LETTERS: usize = 100;

/// And at most.
const MOST_LETTERS: usize = 1000;

/// The routes, below `/admin`, and `/ledger`.
pub(super) fn routes(state: &HttpState) -> Router<HttpState> {
    Router::new()
        .route("/admin/plugins", get(list))
        .route("/admin/plugins/reload", post(reload_all))
        .route("/admin/plugins/{name}/reload", post(reload))
        .route("/admin/dead-letters", get(dead_letters))
        .merge(ledger::routes())
        .merge(outbox::routes())
        .route_layer(middleware::from_fn_with_state(state.clone(), admit))
}

/// Lets in whoever holds the role. What comes back is nothing for anybody's cache.
async fn admit(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    let value = request.headers().get(header::AUTHORIZATION);
    let token = value.and_then(|value| auth::bearer(value.to_str().ok()?));
    let identity = match state.faces.auth.verify(token.unwrap_or_default()) {
        Ok(identity) => identity,
        Err(error) => {
            if let AuthError::Invalid(reason) = &error {
                tracing::info!(%reason, path = request.uri().path(), "a token is refused");
            }
            let mut answer = no(
                StatusCode::UNAUTHORIZED,
                "AUTH_REQUIRED",
                &error.to_string(),
            );
            let scheme = HeaderValue::from_static("Bearer");
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
            return answer;
        }
    };
    if !identity.user.roles.iter().any(|role| role == ROLE) {
        let message = format!("The token's user lacks the role {ROLE}");
        return no(StatusCode::FORBIDDEN, "FORBIDDEN", &message);
    }
    tracing::info!(
        user = identity.user.id.0,
        method = %request.method(),
        path = request.uri().path(),
        "an operator's request"
    );
    let mut answer = next.run(request).await;
    let never = HeaderValue::from_static("no-store");
    answer.headers_mut().insert(header::CACHE_CONTROL, never);
    answer
}

async fn list(State(state): State<HttpState>) -> Response {
    Json(json!({ "plugins": state.plugins.status() })).into_response()
}

async fn reload(State(state): State<HttpState>, Path(name): Path<String>) -> Response {
    match state.plugins.reload(&name).await {
        Ok(reloaded) => Json(reloaded).into_response(),
        Err(error @ SwapError::Unknown(_)) => {
            let message = error.to_string();
            no(StatusCode::NOT_FOUND, "PLUGIN_NOT_FOUND", &message)
        }
        Err(SwapError::Unusable(problem)) => unusable(&[problem], &[]),
    }
}

/// Each plugin, in the configured order; one that cannot be used keeps none from the others.
async fn reload_all(State(state): State<HttpState>) -> Response {
    let (mut reloaded, mut problems) = (Vec::new(), Vec::new());
    for plugin in state.plugins.status() {
        match state.plugins.reload(&plugin.name).await {
            Ok(one) => reloaded.push(json!(one)),
            Err(SwapError::Unusable(problem)) => problems.push(problem),
            // Plugins neither come nor go while the server runs.
            Err(SwapError::Unknown(_)) => {}
        }
    }
    if problems.is_empty() {
        return Json(json!({ "reloaded": reloaded })).into_response();
    }
    unusable(&problems, &reloaded)
}

fn unusable(problems: &[PluginProblem], reloaded: &[Value]) -> Response {
    let sentences: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let failed: Vec<_> = problems
        .iter()
        .map(|one| json!({ "name": one.plugin, "file": one.file, "problem": one.problem }))
        .collect();
    let body = json!({
        "error": "PLUGIN_UNUSABLE",
        "message": sentences.join("\n"),
        "details": { "failed": failed, "reloaded": reloaded },
    });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

/// Which dead letters are wanted.
#[derive(Deserialize)]
struct Letters {
    /// What `next` of an earlier answer said; 0 is the beginning.
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

async fn dead_letters(
    State(state): State<HttpState>,
    wanted: Result<Query<Letters>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(rejection) => {
            let message = rejection.body_text();
            return no(StatusCode::BAD_REQUEST, "INVALID_PAYLOAD", &message);
        }
    };
    let limit = wanted.limit.unwrap_or(LETTERS).min(MOST_LETTERS);
    match state.plugins.dead_letters(wanted.after, limit).await {
        Ok(page) => {
            // A line that somebody has spoilt by hand is left out.
            let letters = page.lines.iter();
            let letters: Vec<Value> = letters
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            Json(json!({ "letters": letters, "next": page.next })).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "dead letters cannot be read");
            let message = "The dead letters cannot be read";
            no(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", message)
        }
    }
}

/// An answer that says why not.
pub(super) fn no(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": code, "message": message }))).into_response()
}

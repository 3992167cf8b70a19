//! The operators' face: what plugins run and how they do, and other versions of them; with
//! what was published, and how its delivery goes. For holders of a token with the role
//! `admin`.

use axum::{
    Json,
    extract::{Path, Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

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
pub(super) fn routes(state: &HttpState) -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(reload_all))
        .routes(routes!(reload))
        .routes(routes!(dead_letters))
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

/// What runs, and how it does.
#[utoipa::path(
    get,
    path = "/admin/plugins",
    tag = "operations",
    security(("token" = [])),
    responses(
        (status = 200, description = "All as `plugins`", body = Object),
        (status = 401, description = "`AUTH_REQUIRED`: there is no good token", body = Object),
        (status = 403, description = "`FORBIDDEN`: the token lacks the role", body = Object)
    )
)]
async fn list(State(state): State<HttpState>) -> Response {
    Json(json!({ "plugins": state.plugins.status() })).into_response()
}

/// Loads a plugin's files anew, changed or not.
#[utoipa::path(
    post,
    path = "/admin/plugins/{name}/reload",
    tag = "operations",
    security(("token" = [])),
    params(("name" = String, Path, description = "A configured plugin")),
    responses(
        (status = 200, description = "What took over", body = Object),
        (status = 404, description = "`PLUGIN_NOT_FOUND`", body = Object),
        (status = 422, description = "`PLUGIN_UNUSABLE`: a version cannot be used; what ran runs on", body = Object),
        (status = 401, description = "`AUTH_REQUIRED`: there is no good token", body = Object),
        (status = 403, description = "`FORBIDDEN`: the token lacks the role", body = Object)
    )
)]
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
#[utoipa::path(
    post,
    path = "/admin/plugins/reload",
    tag = "operations",
    security(("token" = [])),
    responses(
        (status = 200, description = "What took over, as `reloaded`", body = Object),
        (status = 422, description = "`PLUGIN_UNUSABLE`: a version cannot be used; what ran runs on", body = Object),
        (status = 401, description = "`AUTH_REQUIRED`: there is no good token", body = Object),
        (status = 403, description = "`FORBIDDEN`: the token lacks the role", body = Object)
    )
)]
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
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Letters {
    /// What `next` of an earlier answer said; 0 is the beginning.
    #[serde(default)]
    after: u64,
    /// How many at most.
    limit: Option<usize>,
}

/// Facts that plugins have not taken, oldest first.
#[utoipa::path(
    get,
    path = "/admin/dead-letters",
    tag = "operations",
    security(("token" = [])),
    params(Letters),
    responses(
        (status = 200, description = "A page, as `letters`; `next` is the `after` of the next one", body = Object),
        (status = 400, description = "`INVALID_PAYLOAD`", body = Object),
        (status = 500, description = "`INTERNAL_ERROR`", body = Object),
        (status = 401, description = "`AUTH_REQUIRED`: there is no good token", body = Object),
        (status = 403, description = "`FORBIDDEN`: the token lacks the role", body = Object)
    )
)]
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

//! Plain HTTP beside the faces: health, metrics, development tokens, the page.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::RustEmbed;
use serde_json::{Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    SharedFaces, admin,
    auth::IssueError,
    fields::{Fields, Invalid},
    ledger::Records,
    openapi, rest, websocket, ws_call,
};
use crate::{
    media::Media,
    model::{Refusal, UserId},
    plugin::{BreakerState, PluginHost},
    telemetry::Metrics,
};

/// The built page. Without it (the server was built alone) `/` says so.
#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Page;

/// What the HTTP routes need.
#[derive(Clone)]
pub struct HttpState {
    /// Shared with the faces.
    pub faces: SharedFaces,
    /// For readiness.
    pub media: Media,
    /// For readiness and the operators' face.
    pub plugins: PluginHost,
    /// For readiness, `GET /ledger` and the operators' face.
    pub records: Records,
    /// For `GET /metrics`.
    pub metrics: Arc<Metrics>,
}

/// The routes.
pub fn routes(state: HttpState) -> Router {
    let mut described = OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(ready))
        .routes(routes!(metrics))
        .merge(admin::routes(&state))
        .merge(rest::routes());
    if state.faces.config.dev {
        described = described.routes(routes!(dev_token));
    }
    // A body is bounded like a frame of the other faces.
    let largest = state.faces.config.sessions.max_frame_bytes;
    let sockets = Router::new()
        .route("/ws/call", get(ws_call::open))
        .route("/socket", get(websocket::open))
        .with_state(Arc::clone(&state.faces));
    openapi::described(described)
        .layer(DefaultBodyLimit::max(largest))
        .route("/", get(async || file("index.html")))
        .route(
            "/{*path}",
            get(async |Path(path): Path<String>| file(&path)),
        )
        .with_state(state)
        .merge(sockets)
}

/// Whether the process lives, and whether what it keeps reaches the disk.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operations",
    responses((status = 200, description = "It does; `store` is `{state}`: `durable`, `failing` or `stalled`", body = Object))
)]
async fn health(State(state): State<HttpState>) -> Json<Value> {
    Json(json!({ "status": "ok", "store": state.records.health() }))
}

/// Whether the server takes clients: it does not while it drains or lacks workers.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "operations",
    responses(
        (status = 200, description = "It does", body = Object),
        (status = 503, description = "It does not", body = Object)
    )
)]
async fn ready(State(state): State<HttpState>) -> Response {
    let (running, configured) = (state.media.running(), state.media.configured());
    let draining = state.faces.rooms.draining();
    let status = if draining || running < configured {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let plugins = state.plugins.status();
    let degraded = plugins
        .iter()
        .any(|plugin| plugin.breaker != BreakerState::Closed);
    let store = state.records.health();
    let degraded = degraded || !store.is_durable();
    let states: Vec<_> = plugins
        .iter()
        .map(|plugin| json!({ "name": plugin.name, "breaker": plugin.breaker }))
        .collect();
    let body = json!({
        "ready": status == StatusCode::OK,
        "draining": draining,
        "workers": { "running": running, "configured": configured },
        // The server serves; where plugins are left alone their policies answer, and what is
        // not on the disk would be lost by a crash.
        "degraded": degraded,
        "store": store,
        "plugins": states,
    });
    (status, Json(body)).into_response()
}

/// All metrics, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "Metrics as text", body = String, content_type = "text/plain"))
)]
async fn metrics(State(state): State<HttpState>) -> Response {
    state.records.measure();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, text)], state.metrics.render()).into_response()
}

/// A token for anybody who asks: in development only.
#[utoipa::path(
    post,
    path = "/dev/token",
    tag = "development",
    request_body(content = Object, description = "`userId`, and if wanted `name` and `roles`"),
    responses(
        (status = 200, description = "The token, as `token`", body = Object),
        (status = 400, description = "`INVALID_PAYLOAD`", body = Object)
    )
)]
async fn dev_token(
    State(state): State<HttpState>,
    body: Result<Json<Value>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let Ok(Json(body)) = body else {
        return invalid(Invalid::one("", "the body must be a JSON object"));
    };
    let (user, name, roles) = match read_token_request(body) {
        Ok(request) => request,
        Err(problems) => return invalid(problems),
    };
    match state.faces.auth.issue(user, name.as_deref(), &roles) {
        Ok(token) => Json(json!({ "token": token })).into_response(),
        Err(IssueError::Refused(reason)) => invalid(Invalid::one("", reason.to_string())),
        Err(error) => {
            tracing::error!(%error, "no token issued");
            let body = json!({ "error": "INTERNAL_ERROR", "message": "No token issued" });
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
        }
    }
}

fn read_token_request(body: Value) -> Result<(UserId, Option<String>, Vec<String>), Invalid> {
    let mut fields = Fields::of(body)?;
    let user = fields.user("userId");
    let name = fields.optional_text("name");
    let roles = match fields.take("roles") {
        None => Some(Vec::new()),
        Some(roles) => serde_json::from_value(roles).ok(),
    };
    if roles.is_none() {
        fields.problem("roles", "must be an array of strings");
    }
    match (user, roles) {
        (Some(user), Some(roles)) if fields.is_valid() => Ok((user, name, roles)),
        _ => Err(fields.invalid()),
    }
}

fn invalid(problems: Invalid) -> Response {
    let refusal = Refusal::from(problems);
    let body = json!({
        "error": refusal.code,
        "message": "The request body cannot be understood",
        "details": refusal.details,
    });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn file(path: &str) -> Response {
    let Some(file) = Page::get(path) else {
        let text = if path == "index.html" {
            "voice-room is running. This build has no page: run `make build`.\n"
        } else {
            "Not found\n"
        };
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    // Assets carry a hash in their name; the page that names them does not.
    let cache = if path == "index.html" {
        "no-cache"
    } else {
        "public, max-age=31536000, immutable"
    };
    Response::builder()
        .header(header::CONTENT_TYPE, kind.as_ref())
        .header(header::CACHE_CONTROL, cache)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; connect-src 'self' ws: wss: http: https:; img-src 'self' https: data:; media-src 'self' blob: mediastream:",
        )
        .body(Body::from(file.data))
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

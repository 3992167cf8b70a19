//! The description of the HTTP routes, made from their code.

use std::sync::Arc;

use axum::{Json, Router, response::IntoResponse, routing::get};
use utoipa::{
    OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

use super::http::HttpState;

#[derive(OpenApi)]
#[openapi(info(
    title = "voice-room",
    description = "The HTTP side of a voice-room server: media over REST (`/rtc`), and what \
                   operators ask. Events of calls come over the WebSocket `/ws/call`; Socket.IO \
                   and the raw WebSocket `/socket` are described in the project's documentation."
))]
struct Description;

/// The routes with the description of themselves at `/openapi.json`.
pub(super) fn described(routes: OpenApiRouter<HttpState>) -> Router<HttpState> {
    let described = OpenApiRouter::with_openapi(Description::openapi()).merge(routes);
    let (router, mut api) = described.split_for_parts();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    let api = Arc::new(api);
    router.route(
        "/openapi.json",
        get(async move || Json(&*api).into_response()),
    )
}

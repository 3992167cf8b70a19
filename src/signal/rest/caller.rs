//! Who makes a request, and what it does with it.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use super::problem::Problem;
use crate::{
    model::RoomId,
    room::Reason,
    signal::{
        SharedFaces,
        auth::{self, Identity},
        calls::Manner,
        denial::Denial,
        http::HttpState,
        request::Request,
        session::Reply,
    },
};

/// The user behind a request: its token is good and its budget not spent.
pub(super) struct Caller {
    faces: SharedFaces,
    identity: Identity,
}

impl FromRequestParts<HttpState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Problem> {
        let faces = &state.faces;
        let header = parts.headers.get(header::AUTHORIZATION);
        let token = header
            .and_then(|value| value.to_str().ok())
            .and_then(auth::bearer);
        let identity = faces.auth.verify(token.unwrap_or_default())?;
        faces.calls.spend(identity.user.id).map_err(Denial::from)?;
        Ok(Self {
            faces: Arc::clone(faces),
            identity,
        })
    }
}

impl Caller {
    /// Has a request answered by the caller's place in a call.
    pub(super) async fn ask(
        &self,
        call: &RoomId,
        manner: Manner,
        request: impl Fn() -> Request,
    ) -> Result<Reply, Denial> {
        let Self { faces, identity } = self;
        let calls = &faces.calls;
        calls.ask(faces, identity, call, manner, request).await
    }

    /// Has a request answered by whichever of the caller's places it concerns.
    pub(super) async fn ask_any(
        &self,
        label: &'static str,
        unknown: Reason,
        request: impl Fn() -> Request,
    ) -> Result<Reply, Denial> {
        let user = self.identity.user.id;
        self.faces
            .calls
            .ask_any(user, label, unknown, request)
            .await
    }

    /// Does the caller's token allow this call?
    pub(super) fn may_enter(&self, call: &RoomId) -> Result<(), Denial> {
        if self.identity.may_enter(call) {
            Ok(())
        } else {
            Err(Reason::RoomNotAllowed.into())
        }
    }

    /// Is the caller in this call? Whoever is not has no transport there, and a
    /// request that names one changes nothing.
    pub(super) fn in_call(&self, call: &RoomId) -> Result<(), Denial> {
        self.may_enter(call)?;
        if self.faces.calls.has(self.identity.user.id, call) {
            return Ok(());
        }
        Err(if self.faces.rooms.participants(call) > 0 {
            Reason::TransportNotFound.into()
        } else {
            Reason::RoomNotFound.into()
        })
    }
}

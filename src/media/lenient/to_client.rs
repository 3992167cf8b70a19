//! The other direction. The crate's own serialization is what mediasoup-client reads, but for
//! ICE candidates.

use mediasoup::types::data_structures::IceCandidate;
use serde::Serialize;

/// An ICE candidate as clients of every age read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientIceCandidate {
    #[serde(flatten)]
    candidate: IceCandidate,
    /// The older name of `address`.
    ip: String,
}

impl From<&IceCandidate> for ClientIceCandidate {
    fn from(candidate: &IceCandidate) -> Self {
        Self {
            ip: candidate.address.clone(),
            candidate: candidate.clone(),
        }
    }
}

/// A transport's candidates, each with both `address` and `ip`.
#[must_use]
pub fn ice_candidates(candidates: &[IceCandidate]) -> Vec<ClientIceCandidate> {
    candidates.iter().map(ClientIceCandidate::from).collect()
}

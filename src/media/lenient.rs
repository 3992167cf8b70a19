//! Reads the JSON in which clients describe their media: as freely as Node's mediasoup takes it,
//! and nothing that could hurt the worker or another client.
//!
//! The crate's own deserialization is stricter than Node's (it requires fields that have defaults,
//! and one unknown header extension spoils the whole object) and looser where it matters. Here
//! `null` is an absent field, unknown fields, header extensions and feedback are left out,
//! documented defaults are filled in, and the rest is checked. An error names the field.
//!
//! # What these inputs do when nobody checks them
//!
//! Read in `mediasoup` 0.33 and its worker, which runs in this process: an assertion of the worker
//! ends the worker with its rooms; a panic in a notification, or a crash, ends the process.
//!
//! | input | without the check | here |
//! |---|---|---|
//! | DTLS fingerprint of the right length that is not ASCII | slices within a character: panic | refused |
//! | `+F` as two digits of a fingerprint, other separators | taken | refused |
//! | no fingerprint | error of the worker | refused |
//! | `scalabilityMode` of ten thousand characters | recursive regular expression: the worker's 2 MiB stack overflows | only modes of one layer |
//! | `scalabilityMode` with layers | error: audio has none | refused |
//! | more than one encoding | error; from 100 on, `consume` would unwrap an invalid `L100T1` | refused |
//! | MID or RID header extension in packets, not UTF-8 | trace events unwrap it: panic | left out for streams with an SSRC; else see [`trace_is_safe`] |
//! | long `mid` or `rid`, given twice | the worker cuts error and log texts within a character, and the crate unwraps them: panic | 64 visible ASCII characters |
//! | `mid` of a producer that is being replaced | error: MID already exists | left out for streams with an SSRC |
//! | feedback codec (`red`, `rtx`) without `apt` | assertion at the first packet, were it ever negotiated | refused |
//! | the same codec under two payload types | consumers get one payload type twice: nobody can consume | refused |
//! | empty or long `cname` | error, and the transport remembers the name: each later produce fails | absent; at most 255 characters |
//! | header extension with an `id` above 255 | cut to eight bits: 0, or another extension's | refused |
//! | line break in a codec parameter, `cname` or `msid` | a line of the sender's choice in each listener's session description | visible ASCII |
//! | codec parameter above 2³¹ − 1 | becomes negative | handed on as text |
//! | codec parameter that is not whole | refused | handed on as text |

mod capabilities;
mod codec;
mod dtls;
mod parameters;
mod reader;
#[cfg(test)]
mod tests;
mod to_client;

// The one place that names where the types come from.
use mediasoup::types::{
    data_structures::DtlsParameters,
    rtp_parameters::{RtpCapabilities, RtpHeaderExtensionUri as Uri, RtpParameters},
};
use serde_json::Value;
use thiserror::Error;

use self::reader::Node;
pub use self::to_client::{ClientIceCandidate, ice_candidates};

/// What is wrong with a client's JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {problem}")]
pub struct Invalid {
    /// The field, for example `rtpParameters.codecs[0].clockRate`.
    pub path: String,
    /// What it should be, as the end of a sentence that starts with the field.
    pub problem: String,
}

/// Reads the `rtpParameters` of an audio stream that a client wants to send.
///
/// Whether the router has the codecs is for `Transport::produce` to say.
///
/// # Errors
///
/// What Node's mediasoup or its worker would refuse, and what would hurt: see the
/// [table](self#what-these-inputs-do-when-nobody-checks-them).
pub fn rtp_parameters(json: &Value) -> Result<RtpParameters, Invalid> {
    parameters::read(&Node::root("rtpParameters", json)?)
}

/// Reads the `rtpCapabilities` of a client that wants to receive audio; what is not for audio is
/// left out.
///
/// # Errors
///
/// A field that is used has the wrong type or is out of range.
pub fn rtp_capabilities(json: &Value) -> Result<RtpCapabilities, Invalid> {
    capabilities::read(&Node::root("rtpCapabilities", json)?)
}

/// Reads a client's `dtlsParameters`; without `role`, the worker chooses.
///
/// # Errors
///
/// A fingerprint is malformed or of an unknown algorithm, or there is none.
pub fn dtls_parameters(json: &Value) -> Result<DtlsParameters, Invalid> {
    dtls::read(&Node::root("dtlsParameters", json)?)
}

/// Whether RTP trace events may be switched on for a producer with these parameters.
///
/// The worker copies the MID and RID header extensions of a packet into the event as they are,
/// and the crate unwraps them as UTF-8 on the worker's thread, which ends the process. The worker
/// looks for an extension in all packets of a transport as soon as one of its producers has
/// declared it, and never forgets it. So after one producer for which this is false, no producer
/// of its transport may be traced; its first `score` event tells of the first packet too.
#[must_use]
pub fn trace_is_safe(parameters: &RtpParameters) -> bool {
    !parameters.header_extensions.iter().any(|extension| {
        matches!(
            extension.uri,
            Uri::Mid | Uri::RtpStreamId | Uri::RepairRtpStreamId
        )
    })
}

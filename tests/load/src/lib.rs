//! A load generator for voice-room, and for any server of its Socket.IO face.
//!
//! It joins participants with real ICE, DTLS and SRTP (str0m) and real Socket.IO. Speakers
//! send Opus, listeners count what arrives. [`scenario`] has what can be done; the parts
//! serve harnesses of other kinds as well: a [`Stage`] is what is loaded, a
//! [`Participant`] takes a client's steps on it.
//!
//! ```text
//! scenario ── participant ─┬─ signal ── socketio, bare
//!                          └─ media ─── lane ── session ── sockets
//! ```

pub mod bare;
mod error;
mod measure;
pub mod media;
mod participant;
pub mod plan;
pub mod process;
pub mod scenario;
mod server;
mod signal;
pub mod socketio;
mod voice;
mod wire;

pub use error::{LoadError, StepError};
pub use measure::{Durations, Meter, Quantiles};
pub use participant::{Ear, LOUD, Participant, Speaker, Stage, Target};
pub use server::{Access, Server};
pub use voice::{FRAME, Voice};
pub use wire::TransportOffer;

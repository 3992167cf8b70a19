//! sdk

mod action;
mod call;
pub mod events;
mod fields;
mod host;
pub mod kv;
pub mod log;
pub mod metrics;
mod nouns;
mod outcome;
mod plugin;
mod register;
mod roster;
mod settings;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

#[cfg(target_family = "wasm")]
mod guest;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod __guest {
    //! What `register_plugin!` expands to; no part of the interface.
    pub use crate::guest::{Exports, Registered, bindings};
}

pub use action::{Action, Actions, Target};
pub use call::{
    BeforeJoin, BeforeProduce, DescribeRoom, OnCommand, OnFirstRtp, OnJoin, OnLeave, OnNewProducer,
    OnProducerClosed, SpeakerChanged,
};
pub use nouns::{Codec, Participant, Producer, Room, Source, Speaker, UnixMs, User, UserId};
pub use outcome::{Answer, Decision, Denial, Failure, Outcome, Refusal, Reply, allow, refuse};
pub use plugin::Plugin;
pub use roster::{Presence, Roster};
pub use settings::{InitError, Settings};

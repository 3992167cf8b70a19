//! Unit tests of plugins with plain `cargo test`, natively: no WebAssembly, no server.
//!
//! In native builds the imports ([`log`](crate::log), [`kv`](crate::kv), …) work on a small
//! host in memory, one for each thread, whose contents the functions of this module show.
//! [`Stage`] drives a plugin through a scene; the hooks can also be called directly.

pub(crate) mod host;
mod manifest;
mod stage;
mod told;

pub use host::{
    LogLine, Published, Timer, counter, keys, log_lines, published, reset, set_settings,
    set_timer_limit, timers,
};
pub use stage::Stage;
pub use told::{Fired, Joined, Produced};

#[cfg(test)]
mod tests;

//! The plugin host with real components: the fixture guest, told to behave in every way,
//! and the plugins of the product.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod breaker;
mod calls;
mod contract;
mod contract_0_2;
mod grants;
mod hooks;
mod hostile;
mod inspecting;
mod isolation;
mod journal;
mod lanes;
mod loading;
mod misbehaving;
mod offline;
mod recording;
mod replay;
mod rig;
mod rooms;
mod shadow;
mod standard;
mod storing;
mod streams;
mod swapping;
mod timers;
mod versions;
mod watch;
mod watching;

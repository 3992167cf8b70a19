//! voice-room

pub mod config;
pub mod model;
pub mod plugin;
pub mod store;

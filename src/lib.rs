//! voice-room
pub mod config;
pub mod model;

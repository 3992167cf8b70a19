//! voice-room

pub mod media;

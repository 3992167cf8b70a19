//! voice-room

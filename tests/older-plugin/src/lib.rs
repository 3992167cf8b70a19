//! A test guest that was built against version 0.1 of the contract, whose text is beside it
//! in `wit/`: a server of a later minor version must load it and talk to it as ever.
//!
//! It exports every hook that 0.1 had and uses every import.
//!
//! | hook | what it does |
//! |---|---|
//! | `init` | logs the setting `greeting` (default `hello`) |
//! | `before-join` | refuses the user 12 with code `NOT_TWELVE` |
//! | `on-join` | emits `older:joined {userId, greeting}` to the room |
//! | `describe-room` | shows `{participants, userId}` |
//! | `before-produce` | refuses the user 13 with code `UNLUCKY` and details `{source, codec}`, and emits `older:refused {userId}` to them all the same |
//! | `on-first-rtp` | publishes `older.heard {producerId, userId, at}`, writes the key `heard/<producer>`, counts `heard` |
//! | others | nothing |
//!
//! The command `older:history {roomId}` answers `{history: […], heard: […], command,
//! participant, payload}`: what the hooks
//! were told about the room since the instance began, each as
//! `{hook, room, participant, …, at}`, and the keys that begin with `heard/`.

#[cfg(target_family = "wasm")]
mod guest;

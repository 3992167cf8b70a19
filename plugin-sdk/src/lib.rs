//! Write the rules of a voice-room server as sandboxed WebAssembly plugins.
//!
//! A plugin decides who may enter a room and who may speak in it, answers client events of
//! its own, and is told of all that happens. It is a WebAssembly component: it has no files,
//! no network, no clock and no way to harm the server; if it crashes or runs for too long,
//! that one call is answered by a policy and a fresh instance takes its place.
//!
//! # A plugin from zero
//!
//! ```sh
//! rustup target add wasm32-wasip2
//! cargo new --lib quiet-hours && cd quiet-hours
//! ```
//!
//! `Cargo.toml`:
//!
//! ```toml
//! [package]
//! name = "quiet-hours"
//! version = "0.1.0"
//! edition = "2024"
//!
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! serde = { version = "1", features = ["derive"] }
//! serde_json = "1"
//! voice-room-plugin-sdk = { path = "../voice-room/plugin-sdk" }
//!
//! [profile.release]
//! opt-level = "s"
//! lto = true
//! strip = true
//! ```
//!
//! `src/lib.rs`:
//!
//! ```
//! use voice_room_plugin_sdk::{
//!     BeforeProduce, InitError, Plugin, ProduceDecision, Settings, allow, refuse,
//!     register_plugin,
//! };
//!
//! struct QuietHours;
//!
//! impl Plugin for QuietHours {
//!     fn init(_settings: Settings) -> Result<Self, InitError> {
//!         Ok(Self)
//!     }
//!
//!     fn before_produce(&mut self, call: &BeforeProduce) -> ProduceDecision {
//!         let hour = call.at / 3_600_000 % 24;
//!         if hour >= 22 { refuse("QUIET_HOURS", "Quiet hours: come back tomorrow") } else { allow() }
//!     }
//! }
//!
//! register_plugin!(QuietHours: before_produce);
//! ```
//!
//! Build it; the component is `target/wasm32-wasip2/release/quiet_hours.wasm`:
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! ```
//!
//! and name it in the server's configuration. Plugins are asked in the order in which they
//! are listed there, and the first refusal wins.
//!
//! ```toml
//! [[plugins]]
//! name = "quiet-hours"
//! path = "quiet_hours.wasm"
//! ```
//!
//! A client that asks to speak after ten at night is now answered
//! `{success: false, error: "Quiet hours: come back tomorrow", code: "QUIET_HOURS", plugin: "quiet-hours"}`.
//!
//! # Settings
//!
//! A plugin's part of the configuration reaches [`Plugin::init`]. Read it into a type with
//! defaults and without tolerance for unknown keys; a mistake keeps the plugin from loading,
//! and the server's log names the key.
//!
//! ```toml
//! [[plugins]]
//! name = "quiet-hours"
//! path = "quiet_hours.wasm"
//! settings = { from = 23 }
//! ```
//!
//! ```
//! use serde::Deserialize;
//! use voice_room_plugin_sdk::{InitError, Plugin, Settings};
//!
//! #[derive(Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct QuietHours {
//!     from: u64,
//! }
//!
//! impl Default for QuietHours {
//!     fn default() -> Self {
//!         Self { from: 22 }
//!     }
//! }
//!
//! impl Plugin for QuietHours {
//!     fn init(settings: Settings) -> Result<Self, InitError> {
//!         let quiet: Self = settings.parse()?;
//!         if quiet.from > 23 {
//!             return Err(InitError::setting("from", "is no hour of the day"));
//!         }
//!         Ok(quiet)
//!     }
//! }
//!
//! # use serde_json::json;
//! # use voice_room_plugin_sdk::testing::Stage;
//! # let error = |settings| Stage::<QuietHours>::new(settings).unwrap_err().to_string();
//! # assert_eq!(error(json!({ "from": 24 })), "settings: `from`: is no hour of the day");
//! # assert!(error(json!({ "form": 23 })).contains("`form`"));
//! ```
//!
//! # Tests
//!
//! `cargo test` runs natively, without WebAssembly and without a server: in native builds
//! the imports work on a small host in memory. [`testing::Stage`]
//! drives a plugin through a scene, and time passes only when the test says so.
//!
//! ```
//! # use voice_room_plugin_sdk::{BeforeProduce, InitError, Plugin, ProduceDecision, Settings, allow, refuse};
//! # struct QuietHours;
//! # impl Plugin for QuietHours {
//! #     fn init(_: Settings) -> Result<Self, InitError> { Ok(Self) }
//! #     fn before_produce(&mut self, call: &BeforeProduce) -> ProduceDecision {
//! #         if call.at / 3_600_000 % 24 >= 22 { refuse("QUIET_HOURS", "Quiet hours") } else { allow() }
//! #     }
//! # }
//! use serde_json::json;
//! use voice_room_plugin_sdk::{Source, User, testing::Stage};
//!
//! let mut stage = Stage::<QuietHours>::new(json!({})).unwrap();
//! let alice = stage.join("lobby", User::new(7)).unwrap();
//! let mut answers = Vec::new();
//! for _ in 0..24 {
//!     answers.push(stage.produce(&alice, Source::Mic).is_ok());
//!     stage.advance(3_600_000).unwrap();
//! }
//! assert_eq!(answers.iter().filter(|&&may| !may).count(), 2, "from ten to midnight");
//! ```
//!
//! # The hooks
//!
//! Implement those that you need, and name them in [`register_plugin!`]: the server calls no
//! others. Deciding hooks are asked before anything happens; informing hooks are told
//! afterwards, never delay the client, and reach a plugin in order for each room.
//!
//! | hook | when | may refuse | when it fails | what the client sees |
//! |---|---|---|---|---|
//! | [`before_join`](Plugin::before_join) | a user asks to enter a room | yes | denied, unless `on_failure.before_join = "allow"` | the answer to `room:join` |
//! | [`on_join`](Plugin::on_join) | a participant has entered | | logged | its actions |
//! | [`describe_room`](Plugin::describe_room) | a newcomer is shown the room | | nothing is shown | `plugins.<name>` in the answer to `room:join` |
//! | [`on_leave`](Plugin::on_leave) | a participant is gone | | logged | its actions |
//! | [`before_produce`](Plugin::before_produce) | a participant asks to send audio | yes | denied, unless `on_failure.before_produce = "allow"` | the answer to `audio:produce` |
//! | [`on_new_producer`](Plugin::on_new_producer) | a producer has been announced | | logged | its actions |
//! | [`on_first_rtp`](Plugin::on_first_rtp) | a producer's first packet has arrived | | logged | its actions |
//! | [`on_producer_closed`](Plugin::on_producer_closed) | a producer has ended | | logged | its actions |
//! | [`speaker_changed`](Plugin::speaker_changed) | other people speak than before, and at least once a second while anybody does | | logged | its actions |
//! | [`on_command`](Plugin::on_command) | a client sends an event of [`commands`](Plugin::commands) | yes | an error | the answer to that event |
//!
//! A hook fails if it returns a [`Failure`], panics, or takes longer than the server's time
//! budget. Whatever it had written or published is undone, and its actions are not carried
//! out. The message of a [`Failure`] and of a panic is in the server's log.
//!
//! # Refusals, failures, actions
//!
//! A "no" is a [`Refusal`]: a code for programs, a sentence for people, perhaps details. It
//! is not an error. What should not happen is a [`Failure`]. Deciding hooks return both
//! through [`Denial`], so `?` works on everything:
//!
//! ```
//! use serde::Deserialize;
//! use serde_json::json;
//! use voice_room_plugin_sdk::{Actions, Answer, OnCommand, Refusal, kv};
//!
//! #[derive(Deserialize)]
//! struct Vote {
//!     song: String,
//! }
//!
//! /// Answers `jukebox:vote {roomId, song}`.
//! fn vote(call: &OnCommand) -> Answer {
//!     let Vote { song } = call.payload()?; // INVALID_PAYLOAD, naming the field
//!     if song.is_empty() {
//!         return Err(Refusal::new("NO_SUCH_SONG", "There is no such song").into());
//!     }
//!     let key = kv::room_key("votes", &call.room.id, &song);
//!     let votes = kv::get::<u32>(&key)?.unwrap_or(0) + 1; // a failure, if storage fails
//!     kv::set(&key, &votes)?;
//!     let payload = json!({ "song": song, "votes": votes });
//!     Ok(Actions::new().emit_to_room("jukebox:voted", payload).into())
//! }
//! ```
//!
//! A plugin never calls the room: it returns [`Actions`], which the server checks and
//! carries out in their order. Events need a namespace of the plugin's own, such as
//! `jukebox:`; those of the server (`room:`, `audio:`, …) are refused.
//!
//! # What survives
//!
//! **The memory of a plugin may vanish at any time.** After a failure the instance is
//! replaced by a fresh one, several instances run for each plugin, and the server itself may
//! restart. A room is always mapped to the same instance while it lives, and calls about it
//! come one after another; nothing more is promised. So keep caches in the plugin's fields
//! and everything else in [`kv`]; rebuild in [`Plugin::init`] or on demand; and clear
//! what a dead server left of a room when somebody enters it while it is empty
//! (`call.room.participants == 0` in [`before_join`](Plugin::before_join)).
//!
//! # What a plugin can use
//!
//! [`log`] writes into the server's log, [`kv`] stores, [`events`] publishes to the outside,
//! [`metrics`] counts, and [`Settings`] reads the configuration. All of it is bounded for
//! each call and for each plugin. Time is in the arguments of each call, so that recorded
//! calls can be replayed.
//!
//! The contract itself, for plugins in other languages, is `wit/plugin.wit` in this crate.

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
mod permit;
mod plugin;
mod register;
mod settings;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod timers;

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
    BeforeConsume, BeforeJoin, BeforeProduce, DescribeRoom, OnCommand, OnFirstRtp, OnJoin, OnLeave,
    OnNewProducer, OnProducerClosed, OnRoomClosed, OnRoomOpened, OnTimer, SpeakerChanged,
};
pub use nouns::{Codec, Participant, Producer, Room, Source, Speaker, UnixMs, User, UserId};
pub use outcome::{Answer, Decision, Denial, Failure, Outcome, Refusal, Reply, allow, refuse};
pub use permit::{Amendment, Permit, ProduceDecision};
pub use plugin::Plugin;
pub use settings::{InitError, Settings};

/// The example of the project's first page is held to this crate.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

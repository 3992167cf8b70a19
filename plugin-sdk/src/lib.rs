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
//! `plugin.toml`, the plugin's manifest, says what it implements and what it wants to use:
//!
//! ```toml
//! name = "quiet-hours"
//! version = "0.1.0"
//! hooks = ["before-produce"]
//! ```
//!
//! Build it; the component is `target/wasm32-wasip2/release/quiet_hours.wasm`:
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! cp plugin.toml target/wasm32-wasip2/release/quiet_hours.toml
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
//! # Manifest and grants
//!
//! What a plugin may touch is decided twice: its manifest asks, the server's configuration
//! grants. The manifest lies beside the component under the same name, `quiet_hours.toml`
//! beside `quiet_hours.wasm`, and must name every hook that [`register_plugin!`] lists and
//! every command that [`Plugin::commands`] registers.
//!
//! ```toml
//! name = "jukebox"
//! version = "1.0.0"
//! description = "Songs by vote"
//! hooks = ["on-timer", "on-command"]
//! commands = ["jukebox:vote"]
//! topics = ["jukebox.*"]            # what may be published; a `*` at the end is a prefix
//! capabilities = ["key-value", "timers", "publish", "emit"]
//! ```
//!
//! ```toml
//! [[plugins]]
//! name = "jukebox"
//! path = "jukebox.wasm"
//! grants = ["key-value", "timers", "publish", "emit"]   # or ["*"]: all that it asks for
//! ```
//!
//! | capability | for |
//! |---|---|
//! | `key-value` | [`kv`] |
//! | `timers` | [`timers`] |
//! | `publish` | [`events`] |
//! | `metrics` | [`metrics`] |
//! | `emit` | [`Actions::emit_to_user`], [`Actions::emit_to_room`], [`Actions::emit_to_others`] |
//! | `mute` | [`Actions::mute`], [`Actions::unmute`] |
//! | `close` | [`Actions::close`] |
//! | `kick` | [`Actions::kick`] |
//! | `pin-speaker` | [`Actions::pin_speaker`] |
//! | `amend` | [`Permit::start_muted`], [`Permit::priority`], [`Permit::attach`] |
//!
//! [`log`] and [`Settings`] are always there. A component that uses an import which was not
//! asked for or not granted does not load. An action or an amendment that was not granted is
//! dropped, counted and logged; a topic that was not answers [`events::Error::NotGranted`].
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
//! [`Stage::with_manifest`](testing::Stage::with_manifest) holds the plugin to its manifest,
//! and [`Stage::twinned`](testing::Stage::twinned) proves that it keeps nothing in memory that
//! it must not lose.
//!
//! # The hooks
//!
//! Implement those that you need, and name them in [`register_plugin!`]: the server calls no
//! others.
//!
//! | hook | when | may refuse | budget | on failure | order | what the client sees |
//! |---|---|---|---|---|---|---|
//! | [`before_join`](Plugin::before_join) | a user asks to enter a room | yes | 50 ms | deny | before all that it brings about | the answer to `room:join` |
//! | [`on_room_opened`](Plugin::on_room_opened) | the first participant has entered | | 50 ms | drop | before `on_join` of the first | its actions |
//! | [`on_join`](Plugin::on_join) | a participant has entered | | 50 ms | drop | after `before_join` | its actions |
//! | [`describe_room`](Plugin::describe_room) | a newcomer is shown the room | | 50 ms | nothing is shown | after `on_join` of the same participant | `plugins.<name>` in the answer to `room:join` |
//! | [`on_leave`](Plugin::on_leave) | a participant is gone | | 50 ms | retry | the last call about the participant | its actions |
//! | [`before_produce`](Plugin::before_produce) | a participant asks to send audio | yes, and amend | 50 ms | deny | before `on_new_producer` | the answer to `audio:produce`; amendments in `audio:newProducer` |
//! | [`before_consume`](Plugin::before_consume) | a participant asks to receive a producer | yes | 50 ms | deny | after `on_new_producer` | the answer to `audio:consume` |
//! | [`on_new_producer`](Plugin::on_new_producer) | a producer has been announced | | 50 ms | drop | before all others about the producer | its actions |
//! | [`on_first_rtp`](Plugin::on_first_rtp) | a producer's first packet has arrived | | 50 ms | retry | once for each producer | its actions |
//! | [`on_producer_paused`](Plugin::on_producer_paused) | a producer that has begun is paused, or its packets stay out | | 50 ms | retry | after `on_first_rtp`; in turn with the next | its actions |
//! | [`on_producer_resumed`](Plugin::on_producer_resumed) | it flows again | | 50 ms | retry | after `on_producer_paused` | its actions |
//! | [`on_producer_closed`](Plugin::on_producer_closed) | a producer has ended | | 50 ms | retry | the last call about the producer | its actions |
//! | [`speaker_changed`](Plugin::speaker_changed) | other people speak than before, and at least once a second while anybody does | | 50 ms | drop | as it happens | its actions |
//! | [`on_timer`](Plugin::on_timer) | a timer is due | | 50 ms | retry | not before it is due; in order of their time | its actions |
//! | [`on_room_closed`](Plugin::on_room_closed) | a room has ended | | 50 ms | retry | the last call about the room, except for timers | nothing |
//! | [`on_command`](Plugin::on_command) | a client sends an event of [`commands`](Plugin::commands) | yes | 50 ms | an error | as it happens | the answer to that event |
//!
//! *Deciding* hooks, those named `before_…`, are asked before anything happens, and the
//! client waits for them. *Informing* hooks are told afterwards and never delay a client.
//!
//! **Time budget.** The configuration can change it: for all hooks with `time_budget_ms`, for
//! one with `time_budgets_ms = { before_produce = 5 }`. [`Plugin::init`] has a second at
//! least, unless it is named there.
//!
//! **Failure.** A hook fails if it returns a [`Failure`], panics, or takes longer than its
//! budget. Whatever it had written, set or published is undone, its actions are not carried
//! out, and a fresh instance takes its place. The message of a [`Failure`] and of a panic is
//! in the server's log. What happens then is the column "on failure", which the configuration
//! can change: `on_failure = { before_produce = "allow", on_join = "retry" }`. *deny* answers
//! the client with a refusal, *allow* goes on as if the plugin had said yes; *retry* calls
//! again with a fresh instance, up to `retry_limit` times, and then keeps the call as a dead
//! letter, but a fact that is in the server's ledger it tells until the plugin has taken it,
//! and what follows in that room waits; *drop* forgets it.
//!
//! **Order.** Calls about one room reach a plugin one after another, in the order in which
//! things happened, so a deciding hook sees the effects of what the plugin was told before.
//! Different rooms run side by side, on several instances. Actions of one call are carried out
//! before the next call about the room begins.
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
//! # Saying how a producer begins
//!
//! [`before_produce`](Plugin::before_produce) can do more than allow: a [`Permit`] has the
//! producer start muted, gives its stream a priority, or attaches data that listeners get
//! with its announcement.
//!
//! ```
//! use serde_json::json;
//! use voice_room_plugin_sdk::{BeforeProduce, Permit, ProduceDecision, allow};
//!
//! fn before_produce(call: &BeforeProduce) -> ProduceDecision {
//!     if call.participant.user.has_role("guest") {
//!         return Ok(Permit::new().start_muted().attach(json!({ "badge": "guest" })));
//!     }
//!     allow()
//! }
//! ```
//!
//! # What survives
//!
//! **The memory of a plugin may vanish at any time.** After a failure the instance is
//! replaced by a fresh one, several instances run for each plugin, a new version may take
//! over while people talk, and the server itself may restart; with `isolation = "fresh"` in
//! the configuration, every call has an instance of its own. So keep in the plugin's fields
//! what was read from the settings, and perhaps caches. Everything else belongs in [`kv`] and
//! [`timers`], which survive all of that.
//!
//! **Every call is a transaction.** What it writes, sets and publishes counts when the call
//! has succeeded, all of it or nothing. Calls about one room come one after another; where
//! rooms share a key, use [`kv::update`], [`kv::insert`] or [`kv::increment`], and no change
//! is lost. An informing hook may be called again after a failure: nothing of the first call
//! is left, so nothing happens twice.
//!
//! **Time comes with each call,** and a plugin has no clock. To do something later, set a
//! timer: [`timers::set`] calls [`on_timer`](Plugin::on_timer) when it is due, also if the
//! room has closed or the server has been restarted in the meantime.
//!
//! **Clean up** in [`on_room_closed`](Plugin::on_room_closed) what a room leaves behind. Of a
//! room whose server was killed it is told when the server runs again.
//!
//! # Facts that money may hang on
//!
//! That a stream's first packet has come, that it has paused, resumed or ended, and that a
//! room has ended, are written to the server's ledger before a plugin is told, and told until
//! the plugin has taken them: also after a crash of the plugin, of the machine, or a `kill -9`.
//! What such a call writes, sets and publishes is saved together with the note that it was
//! told, so that nothing is lost and nothing counts twice, and the plugin has to do nothing
//! for it. Should it want to tell all the same: `fact_id` is the same each time that a fact is
//! told, and names its entry in the ledger.
//!
//! A server that was killed tells, when it runs again, the end of each stream and of each room
//! that it finds open, with the reason `recovered`; [`at`](OnProducerClosed::at) is then the
//! last moment at which the stream is known to have run.
//!
//! # What a plugin can use
//!
//! [`log`] writes into the server's log, [`kv`] stores, [`timers`] call back, [`events`]
//! publishes to the outside, [`metrics`] counts, and [`Settings`] reads the configuration.
//! All of it is bounded for each call and for each plugin. A command that names somebody by
//! `userId` comes with [`OnCommand::target`]: who that is, if they are in the room.
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

pub use action::{Action, Actions, Pin, Target};
pub use call::{
    BeforeConsume, BeforeJoin, BeforeProduce, DescribeRoom, OnCommand, OnFirstRtp, OnJoin, OnLeave,
    OnNewProducer, OnProducerClosed, OnProducerPaused, OnProducerResumed, OnRoomClosed,
    OnRoomOpened, OnTimer, SpeakerChanged,
};
pub use nouns::{
    Codec, FirstPacket, Media, Participant, Producer, Room, Source, Speaker, UnixMs, User, UserId,
};
pub use outcome::{Answer, Decision, Denial, Failure, Outcome, Refusal, Reply, allow, refuse};
pub use permit::{Amendment, Permit, ProduceDecision};
pub use plugin::Plugin;
pub use settings::{InitError, Settings};

/// The example of the project's first page is held to this crate.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

//! The test guest of voice-room: one component that behaves as its settings tell it,
//! also badly. It speaks the contract without the SDK, so that it can say what the SDK
//! would not.
//!
//! ```json
//! {
//!   "hooks": { "before-produce": "loop", "init": "allow" },
//!   "when": "bad-",
//!   "publish": true,
//!   "commands": ["fixture:run"]
//! }
//! ```
//!
//! `hooks` maps a [`Hook`] to a [`Behaviour`]; a hook that is not named allows. `when` limits
//! all of it, except `init`, to rooms whose id starts with the given text. The command
//! `fixture:behave` does the same for one hook until the instance is replaced. With `publish`
//! every entry of a room's history is also published as `fixture.told`, so that it outlives
//! instances, and counts only if its call does. `commands` are those that it registers;
//! where it is missing, all.
//!
//! Commands, each with `roomId`, for looking at what the guest has seen and for making it
//! use the server:
//!
//! | command | payload | answer |
//! |---|---|---|
//! | `fixture:run` | | whatever `on-command` is told to do |
//! | `fixture:history` | | `{history: […]}`: this room's hooks that do not decide, and `before-consume`, since the instance began, in order, such as `on-join 7` |
//! | `fixture:facts` | | `{facts: […]}`: what came with this room's recorded facts since the instance began, such as `{hook, factId, producer, cause, media, at}` |
//! | `fixture:calls` | | `{calls}`: calls of any hook since the instance began |
//! | `fixture:echo` | anything | `{room, participant, payload, at}` as the guest received them, and `target` where there is one |
//! | `fixture:settings` | | the settings |
//! | `fixture:behave` | `{hook, behaviour}` | |
//! | `fixture:do` | `{actions: […]}`, such as `{"emitToRoom": {"event", "payload", "except"?}}`, `{"mute": {"user": 7}}` | |
//! | `fixture:refuse` | `{code, message, details?, actions?}` | that refusal |
//! | `fixture:kv-set` | `{key, value}` | |
//! | `fixture:kv-set-expiring` | `{key, value, ttlMs}` | |
//! | `fixture:kv-cas` | `{key, expected?, value?}` | `{done}` |
//! | `fixture:kv-increment` | `{key, by}` | `{sum}` |
//! | `fixture:kv-get` | `{key}` | `{value}` |
//! | `fixture:kv-delete` | `{key}` | |
//! | `fixture:kv-list` | `{prefix, after?, limit}` | `{keys}` |
//! | `fixture:kv-set-then-trap` | `{key, value}` | none: it traps |
//! | `fixture:timer-set` | `{key, afterMs, everyMs?, number?}`: with a number, so many timers `key/0`, `key/1`, … | |
//! | `fixture:timer-cancel` | `{key}` | |
//! | `fixture:publish` | `{topic, payload}`, the payload being text | |
//! | `fixture:log` | `{level, message}` | |
//! | `fixture:count` | `{name, by}` | |
//!
//! What an import answers with an error is refused with code `IMPORT_ERROR` and the error's
//! name as message, for example `invalid-key`.

use serde::{Deserialize, Serialize};

#[cfg(target_family = "wasm")]
mod guest;

/// An enum whose variants can be listed and have names on the wire.
macro_rules! listed {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every variant.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in settings and commands.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

listed! {
    /// A function of the guest that the server calls.
    pub enum Hook {
        /// `lifecycle.init`. Refusing it means an error, not a refusal.
        Init = "init",
        /// May refuse.
        BeforeJoin = "before-join",
        /// Informs.
        OnRoomOpened = "on-room-opened",
        /// Informs.
        OnJoin = "on-join",
        /// Answers with JSON.
        DescribeRoom = "describe-room",
        /// Informs.
        OnLeave = "on-leave",
        /// May refuse and amend.
        BeforeProduce = "before-produce",
        /// May refuse.
        BeforeConsume = "before-consume",
        /// Informs.
        OnNewProducer = "on-new-producer",
        /// Informs.
        OnFirstRtp = "on-first-rtp",
        /// Informs.
        OnProducerPaused = "on-producer-paused",
        /// Informs.
        OnProducerResumed = "on-producer-resumed",
        /// Informs.
        OnProducerClosed = "on-producer-closed",
        /// Informs.
        SpeakerChanged = "speaker-changed",
        /// Informs.
        OnTimer = "on-timer",
        /// Informs, and cannot ask for actions.
        OnRoomClosed = "on-room-closed",
        /// May refuse. Its behaviour holds for the command `fixture:run` only, so that the
        /// other commands go on working.
        OnCommand = "on-command",
    }
}

listed! {
    /// What the guest does when a hook is called. Where a hook cannot refuse, whatever
    /// refuses does nothing, and only `before-produce` amends; `init` and `on-room-closed`
    /// cannot return actions or data.
    pub enum Behaviour {
        /// Says yes, and nothing else.
        Allow = "allow",
        /// Refuses with code `DENIED`, message `Denied by the fixture` and details
        /// `{"hook": …}`; `init` fails with that message.
        Deny = "deny",
        /// Runs for ever.
        Loop = "loop",
        /// Executes an unreachable instruction.
        Trap = "trap",
        /// Adds 1 to the key `called/<hook>`, and then traps unless there is the key `well`.
        Unwell = "unwell",
        /// Adds 1 to the key `called/<hook>`, and then traps one time of four, at random.
        Whim = "whim",
        /// Emits `fixture:told`, with the hook's name, to the room.
        Tell = "tell",
        /// Panics with the message `the fixture panics`.
        Panic = "panic",
        /// Calls itself without end.
        StackOverflow = "stack-overflow",
        /// Takes memory until there is none.
        ExhaustMemory = "exhaust-memory",
        /// Takes a megabyte for good, and says yes.
        Leak = "leak",
        /// Returns 20,000 actions, each emitting `fixture:flood` to the room.
        FloodActions = "flood-actions",
        /// Logs without end.
        FloodLogs = "flood-logs",
        /// Writes a million keys, whatever the answer is.
        FloodKv = "flood-kv",
        /// Reads a million times, whatever the answer is.
        FloodKvReads = "flood-kv-reads",
        /// Publishes a million events, whatever the answer is.
        FloodPublish = "flood-publish",
        /// Increments a million counters of different names.
        FloodMetrics = "flood-metrics",
        /// Logs 1024 lines of a megabyte each.
        LogGigabyte = "log-gigabyte",
        /// Reads and writes ten million times, whatever the answer is.
        FloodKvCalls = "flood-kv-calls",
        /// Logs one line of two megabytes.
        HugeLog = "huge-log",
        /// Refuses with a code, a message and details of a megabyte each.
        HugeRefusal = "huge-refusal",
        /// Emits an event whose name and payload are a megabyte each.
        HugeAction = "huge-action",
        /// Answers with two megabytes of JSON where the hook answers with JSON.
        HugeAnswer = "huge-answer",
        /// Stores a value of two megabytes under a key of one, whatever the answer is.
        HugeKv = "huge-kv",
        /// Publishes two megabytes, whatever the answer is.
        HugePublish = "huge-publish",
        /// Gives JSON that is none: in an action's payload and in the hook's own answer.
        InvalidJson = "invalid-json",
        /// Refuses with details that are no JSON.
        InvalidRefusalDetails = "invalid-refusal-details",
        /// Refuses with an empty code and an empty message.
        EmptyRefusal = "empty-refusal",
        /// Emits an event without a name, mutes and closes a producer that does not exist,
        /// and kicks a user who is not there.
        BadAction = "bad-action",
        /// Emits events that only the server may: `room:closed` and `audio:newProducer`.
        SpoofEvent = "spoof-event",
        /// Has the producer start muted.
        AmendMuted = "amend-muted",
        /// Gives the producer the priority 200.
        AmendPriority = "amend-priority",
        /// Attaches `{"by": "fixture"}` to the producer.
        AmendAttach = "amend-attach",
        /// Amends to the priority 0, and attaches JSON that is none.
        AmendBadly = "amend-badly",
        /// Attaches two megabytes of JSON.
        AmendHuge = "amend-huge",
        /// Sets a million timers, whatever the answer is.
        FloodTimers = "flood-timers",
        /// Sets timers with keys and delays that no server takes.
        BadTimer = "bad-timer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_that_serde_reads() {
        for &behaviour in Behaviour::ALL {
            let text = serde_json::to_string(&behaviour).unwrap();
            assert_eq!(text, format!("\"{}\"", behaviour.name()));
            assert_eq!(serde_json::from_str::<Behaviour>(&text).unwrap(), behaviour);
        }
        for &hook in Hook::ALL {
            let text = serde_json::to_string(&hook).unwrap();
            assert_eq!(serde_json::from_str::<Hook>(&text).unwrap(), hook);
        }
    }

    #[test]
    fn the_manifest_names_every_hook() {
        let manifest = include_str!("../plugin.toml");
        for hook in Hook::ALL.iter().filter(|&&hook| hook != Hook::Init) {
            assert!(
                manifest.contains(&format!("\"{}\"", hook.name())),
                "{hook:?}"
            );
        }
    }
}

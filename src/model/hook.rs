//! The points at which plugins are called.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! hooks {
    ($($(#[$meta:meta])* $hook:ident = $name:literal, $key:literal;)*) => {
        /// The functions of a guest that the server calls, in the order of a room's life.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(usize)]
        pub enum Hook {
            $($(#[$meta])* #[serde(rename = $name)] $hook,)*
        }

        impl Hook {
            /// All, each at the place that its number names.
            pub const ALL: &'static [Self] = &[$(Self::$hook),*];

            /// The function's name in the WIT, for example `before-produce`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$hook => $name,)*
                }
            }

            /// The name as a key of the configuration, for example `before_produce`.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$hook => $key,)*
                }
            }
        }
    };
}

hooks! {
    /// Starts an instance.
    Init = "init", "init";
    /// Decides.
    BeforeJoin = "before-join", "before_join";
    /// Informs.
    OnRoomOpened = "on-room-opened", "on_room_opened";
    /// Informs.
    OnJoin = "on-join", "on_join";
    /// Answers.
    DescribeRoom = "describe-room", "describe_room";
    /// Informs.
    OnLeave = "on-leave", "on_leave";
    /// Decides.
    BeforeProduce = "before-produce", "before_produce";
    /// Decides.
    BeforeConsume = "before-consume", "before_consume";
    /// Informs.
    OnNewProducer = "on-new-producer", "on_new_producer";
    /// Informs.
    OnFirstRtp = "on-first-rtp", "on_first_rtp";
    /// Informs.
    OnProducerPaused = "on-producer-paused", "on_producer_paused";
    /// Informs.
    OnProducerResumed = "on-producer-resumed", "on_producer_resumed";
    /// Informs.
    OnProducerClosed = "on-producer-closed", "on_producer_closed";
    /// Informs.
    SpeakerChanged = "speaker-changed", "speaker_changed";
    /// Informs.
    OnTimer = "on-timer", "on_timer";
    /// Informs.
    OnRoomClosed = "on-room-closed", "on_room_closed";
    /// Answers.
    OnCommand = "on-command", "on_command";
}

impl Hook {
    /// By the name in the WIT.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|hook| hook.name() == name)
    }

    /// Whether it may refuse a request.
    #[must_use]
    pub const fn decides(self) -> bool {
        matches!(
            self,
            Self::BeforeJoin | Self::BeforeProduce | Self::BeforeConsume
        )
    }

    /// Whether it tells of something that has happened: nobody waits for it.
    #[must_use]
    pub const fn informs(self) -> bool {
        !self.decides() && !matches!(self, Self::Init | Self::DescribeRoom | Self::OnCommand)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_is_where_its_number_points() {
        for (place, hook) in Hook::ALL.iter().enumerate() {
            assert_eq!(*hook as usize, place);
            assert_eq!(Hook::from_name(hook.name()), Some(*hook));
            assert_eq!(hook.key(), hook.name().replace('-', "_"));
        }
    }
}

//! Writing into the server's log, with the plugin's name beside it.
//!
//! ```
//! use voice_room_plugin_sdk::log;
//!
//! let seat = 3;
//! log::info!("seat {seat} is taken");
//! ```
//!
//! The server limits how much one call may write, and drops what is over the limit.

use std::fmt;

use crate::host;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever works on the plugin.
    Debug,
    /// For whoever runs the server.
    Info,
    /// Something is odd, and the plugin copes.
    Warn,
    /// Something does not work.
    Error,
}

/// Writes one line; the macros of this module are shorter.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(message) => host::log(level, message),
        None => host::log(level, &message.to_string()),
    }
}

macro_rules! level_macros {
    ($($(#[$doc:meta])* $name:ident $exported:ident $level:ident;)*) => {
        level_macros! { @with_dollar ($) $($(#[$doc])* $name $exported $level;)* }
    };
    (@with_dollar ($d:tt) $($(#[$doc:meta])* $name:ident $exported:ident $level:ident;)*) => {$(
        $(#[$doc])*
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $exported {
            ($d($d message:tt)+) => {
                $crate::log::write($crate::log::Level::$level, ::std::format_args!($d($d message)+))
            };
        }
        #[doc(inline)]
        pub use $exported as $name;
    )*};
}

level_macros! {
    /// Writes a line for following every step; takes what `format!` takes.
    trace __log_trace Trace;
    /// Writes a line for whoever works on the plugin; takes what `format!` takes.
    debug __log_debug Debug;
    /// Writes a line for whoever runs the server; takes what `format!` takes.
    info __log_info Info;
    /// Writes a line about something odd; takes what `format!` takes.
    warn __log_warn Warn;
    /// Writes a line about something that does not work; takes what `format!` takes.
    error __log_error Error;
}

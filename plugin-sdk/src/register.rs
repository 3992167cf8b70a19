//! Making a component of a plugin.

/// Makes a component of a [`Plugin`](crate::Plugin): exports its hooks to the server.
///
/// Name the hooks that the plugin implements; the server calls no others, so that a plugin
/// costs nothing where it has nothing to say:
///
/// ```
/// # use voice_room_plugin_sdk::{InitError, Plugin, Settings, register_plugin};
/// # struct Doorman;
/// # impl Plugin for Doorman {
/// #     fn init(_: Settings) -> Result<Self, InitError> { Ok(Self) }
/// # }
/// register_plugin!(Doorman: before_join, on_command);
/// ```
///
/// Without a list, every hook is exported, those with the trait's default as well:
/// `register_plugin!(Doorman);`. In native builds, such as unit tests, nothing is exported.
#[macro_export]
macro_rules! register_plugin {
    ($plugin:ty) => {
        $crate::register_plugin!(
            $plugin: before_join, on_room_opened, on_join, describe_room, on_leave,
            before_produce, before_consume, on_new_producer, on_first_rtp, on_producer_paused,
            on_producer_resumed, on_producer_closed, speaker_changed, on_timer, on_room_closed, on_command
        );
    };
    ($plugin:ty: $($hook:ident),+ $(,)?) => {
        const _: () = {
            const fn must_be_a_plugin<P: $crate::Plugin>() {}
            must_be_a_plugin::<$plugin>();

            #[cfg(target_family = "wasm")]
            impl $crate::__guest::Registered for $plugin {
                fn place() -> &'static ::std::thread::LocalKey<
                    ::std::cell::RefCell<::std::option::Option<Self>>,
                > {
                    ::std::thread_local! {
                        static PLACE: ::std::cell::RefCell<::std::option::Option<$plugin>> =
                            const { ::std::cell::RefCell::new(::std::option::Option::None) };
                    }
                    &PLACE
                }
            }
            #[cfg(target_family = "wasm")]
            type Exports = $crate::__guest::Exports<$plugin>;
            #[cfg(target_family = "wasm")]
            $crate::__guest::bindings::export_lifecycle!(
                Exports with_types_in $crate::__guest::bindings
            );
            $($crate::__export_hook!($hook, Exports);)+
        };
    };
}

macro_rules! export_hook {
    ($($hook:ident $export:ident;)*) => { export_hook! { @with_dollar ($) $($hook $export;)* } };
    (@with_dollar ($d:tt) $($hook:ident $export:ident;)*) => {
        #[doc(hidden)]
        #[macro_export]
        macro_rules! __export_hook {
            $(
                ($hook, $d exports:ident) => {
                    #[cfg(target_family = "wasm")]
                    $d crate::__guest::bindings::$hook::$export!(
                        $d exports with_types_in $d crate::__guest::bindings::$hook
                    );
                };
            )*
            ($d other:ident, $d exports:ident) => {
                ::std::compile_error!(::std::concat!(
                    "there is no hook `", ::std::stringify!($d other), "`"
                ));
            };
        }
    };
}

export_hook! {
    before_join export_before_join;
    on_room_opened export_on_room_opened;
    on_join export_on_join;
    describe_room export_describe_room;
    on_leave export_on_leave;
    before_produce export_before_produce;
    before_consume export_before_consume;
    on_new_producer export_on_new_producer;
    on_first_rtp export_on_first_rtp;
    on_producer_paused export_on_producer_paused;
    on_producer_resumed export_on_producer_resumed;
    on_producer_closed export_on_producer_closed;
    speaker_changed export_speaker_changed;
    on_timer export_on_timer;
    on_room_closed export_on_room_closed;
    on_command export_on_command;
}

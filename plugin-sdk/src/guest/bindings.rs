//! Generated from the WIT: one world for the imports and `lifecycle`, and one for each
//! hook, so that a component exports only the hooks that it registers.

#![allow(
    unsafe_code,
    reason = "generated: the canonical ABI is pointers and lengths"
)]
#![allow(
    missing_docs,
    clippy::all,
    reason = "generated; the documentation is in the WIT"
)]

wit_bindgen::generate!({
    inline: "
        package voice-room:sdk;
        world core {
            import voice-room:plugin/types@0.3.0;
            import voice-room:plugin/log@0.3.0;
            import voice-room:plugin/settings@0.3.0;
            import voice-room:plugin/key-value@0.3.0;
            import voice-room:plugin/timers@0.3.0;
            import voice-room:plugin/events@0.3.0;
            import voice-room:plugin/metrics@0.3.0;
            export voice-room:plugin/lifecycle@0.3.0;
        }
    ",
    path: "wit",
    world: "core",
    generate_all,
    generate_unused_types: true,
    pub_export_macro: true,
    export_macro_name: "export_lifecycle",
});

/// Bindings of one hook: module, macro that exports it, world.
macro_rules! hook_bindings {
    ($($hook:ident, $export:literal, $world:literal;)*) => {$(
        pub mod $hook {
            wit_bindgen::generate!({
                inline: $world,
                path: "wit",
                with: { "voice-room:plugin/types@0.3.0": super::voice_room::plugin::types },
                pub_export_macro: true,
                export_macro_name: $export,
            });
        }
    )*};
}

hook_bindings! {
    before_join, "export_before_join",
    "package voice-room:sdk; world before-join { export voice-room:plugin/before-join@0.3.0; }";
    on_room_opened, "export_on_room_opened",
    "package voice-room:sdk; world on-room-opened { export voice-room:plugin/on-room-opened@0.3.0; }";
    on_join, "export_on_join",
    "package voice-room:sdk; world on-join { export voice-room:plugin/on-join@0.3.0; }";
    describe_room, "export_describe_room",
    "package voice-room:sdk; world describe-room { export voice-room:plugin/describe-room@0.3.0; }";
    on_leave, "export_on_leave",
    "package voice-room:sdk; world on-leave { export voice-room:plugin/on-leave@0.3.0; }";
    before_produce, "export_before_produce",
    "package voice-room:sdk; world before-produce { export voice-room:plugin/before-produce@0.3.0; }";
    before_consume, "export_before_consume",
    "package voice-room:sdk; world before-consume { export voice-room:plugin/before-consume@0.3.0; }";
    on_new_producer, "export_on_new_producer",
    "package voice-room:sdk; world on-new-producer { export voice-room:plugin/on-new-producer@0.3.0; }";
    on_first_rtp, "export_on_first_rtp",
    "package voice-room:sdk; world on-first-rtp { export voice-room:plugin/on-first-rtp@0.3.0; }";
    on_producer_paused, "export_on_producer_paused",
    "package voice-room:sdk; world on-producer-paused { export voice-room:plugin/on-producer-paused@0.3.0; }";
    on_producer_resumed, "export_on_producer_resumed",
    "package voice-room:sdk; world on-producer-resumed { export voice-room:plugin/on-producer-resumed@0.3.0; }";
    on_producer_closed, "export_on_producer_closed",
    "package voice-room:sdk; world on-producer-closed { export voice-room:plugin/on-producer-closed@0.3.0; }";
    speaker_changed, "export_speaker_changed",
    "package voice-room:sdk; world speaker-changed { export voice-room:plugin/speaker-changed@0.3.0; }";
    on_timer, "export_on_timer",
    "package voice-room:sdk; world on-timer { export voice-room:plugin/on-timer@0.3.0; }";
    on_room_closed, "export_on_room_closed",
    "package voice-room:sdk; world on-room-closed { export voice-room:plugin/on-room-closed@0.3.0; }";
    on_command, "export_on_command",
    "package voice-room:sdk; world on-command { export voice-room:plugin/on-command@0.3.0; }";
}

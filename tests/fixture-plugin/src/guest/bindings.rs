//! Generated from the WIT.

#![allow(
    unsafe_code,
    reason = "generated: the canonical ABI is pointers and lengths"
)]
#![allow(clippy::all, reason = "generated")]

wit_bindgen::generate!({
    path: "../../plugin-sdk/wit",
    world: "plugin",
    generate_all,
});

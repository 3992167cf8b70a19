//! Generated from the WIT as it was at 0.1.

#![allow(
    unsafe_code,
    reason = "generated: the canonical ABI is pointers and lengths"
)]
#![allow(clippy::all, reason = "generated")]

wit_bindgen::generate!({
    path: "wit",
    world: "plugin",
    generate_all,
});

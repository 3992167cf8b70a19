//! Generated from the WIT.

#![allow(
    unsafe_code,
    reason = "generated: the canonical ABI is pointers and lengths"
)]
#![allow(clippy::all, reason = "generated")]

#[cfg(not(feature = "contract-0-2"))]
wit_bindgen::generate!({
    path: "../../plugin-sdk/wit",
    world: "plugin",
    generate_all,
});

#[cfg(feature = "contract-0-2")]
wit_bindgen::generate!({
    path: "contract-0.2",
    world: "plugin",
    generate_all,
});

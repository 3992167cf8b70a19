//! The server as the rest of the SDK sees it: imports of the component or, in native
//! builds, the in-memory host of [`testing`](crate::testing).

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::host::{
    increment, kv_compare_and_set, kv_delete, kv_get, kv_increment, kv_list, kv_set,
    kv_set_expiring, log, publish, settings, timer_cancel, timer_set,
};

#[cfg(target_family = "wasm")]
pub(crate) use crate::guest::imports::{
    increment, kv_compare_and_set, kv_delete, kv_get, kv_increment, kv_list, kv_set,
    kv_set_expiring, log, publish, settings, timer_cancel, timer_set,
};

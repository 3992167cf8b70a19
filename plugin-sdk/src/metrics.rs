//! Counters of the plugin's own, shown by the server's metrics page.

use crate::host;

/// Adds to a counter. Names are 1 to 64 characters of `a-z 0-9 _`; others are dropped and
/// logged by the server. Put no ids into names: each name is a time series for ever.
pub fn increment(name: &str, by: u64) {
    host::increment(name, by);
}

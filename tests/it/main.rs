//! Integration tests: one binary.

mod plugins;

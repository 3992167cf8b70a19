#![doc = include_str!("../ARCHITECTURE.md")]

pub mod model;

pub mod config;

pub mod cli;

pub mod telemetry;

pub mod store;

pub mod sinks;

pub mod plugin;

pub mod media;

pub mod room;

pub mod signal;

pub mod reload;

pub mod server;

pub mod tool;

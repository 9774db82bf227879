//! The agent: says what the device is and how loaded it is, and runs what the hub assigns to it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod core;
pub mod engine;
pub mod probe;

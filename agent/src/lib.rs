//! The agent: says what the device is and how loaded it is, and runs what the hub assigns to it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod args;
mod backoff;
pub mod clock;
pub mod config;
pub mod core;
pub mod doctor;
pub mod engine;
pub mod files;
mod guard;
pub mod identity;
mod images;
pub mod join;
mod lease_file;
pub mod leave;
mod logs;
pub mod mesh_file;
pub mod mqtt;
pub mod policy;
pub mod pool;
pub mod probe;
pub mod proxy_link;
pub mod run;
pub mod signals;
pub mod state;
pub mod unseal;
mod watchdog;
mod way;

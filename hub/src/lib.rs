//! The hub: it hears the fleet over MQTT, decides what runs where, keeps it, and serves users over HTTP.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod access;
pub mod allowed;
pub mod announce;
pub mod backup;
pub mod broker;
pub mod broker_config;
pub mod clock;
pub mod config;
mod control;
pub mod core;
pub mod handle;
pub mod history;
pub mod http;
pub mod metrics;
pub mod pki;
pub mod registry;
mod relay;
pub mod run;
pub mod secrets;
pub mod setup;
mod sockets;
pub mod store;

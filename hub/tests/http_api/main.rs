//! The HTTP API over real sockets: a hub in this process, devices that are MQTT clients without containers.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod device;
mod documents;
mod live;
mod network;
mod problems;
mod stacks;
mod support;

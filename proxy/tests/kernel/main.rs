//! Virtual addresses with a real kernel: as root, each device and container in a network namespace of its own.

#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

mod cables;
#[path = "../loopback/datagrams.rs"]
mod datagrams;
mod haproxy;
mod place;
#[path = "../loopback/support.rs"]
mod support;
mod thousand;
mod virtuals;

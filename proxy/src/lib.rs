//! The service network of one device: moves the bytes between containers, devices and the outside, answers DNS, and owns
//! the kernel rules that lead traffic here. Runs as a process of its own (`outrigger-proxy`), so that no stream is
//! cut when the agent restarts; the agent tells it what is wanted ([`control::Wanted`]).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod balance;
mod clock;
pub mod control;
mod dial;
mod dns;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod http;
mod kernel;
mod limits;
mod listen;
pub mod log;
mod mesh;
mod proxy_header;
pub mod relay;
mod run;
mod serve;
mod shared;
mod stream;
mod table;
mod udp;

pub use run::{Control, RunError, Settings, run};

//! The command line of Outrigger: a client of the hub's HTTP API, for people (tables) and programs (`-o json`).
//!
//! One room per task: `args` is what the user may write, `client` and `routes` reach the hub, `commands` has one module
//! per verb, `output` and what stands beside it put answers on the screen. What is shown is made by functions from
//! values to text, so that tests need neither hub nor terminal.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod amounts;
pub mod args;
mod client;
mod clock;
mod commands;
mod compose_input;
mod connect;
mod contexts;
mod dotenv;
mod failure;
mod inert;
mod output;
mod progress;
mod resolve;
mod routes;
mod source_excerpt;
mod style;
mod table;

pub use client::{Address, Client};
pub use commands::run;
pub use failure::{Exit, Failure};
pub use output::{Output, Screen};

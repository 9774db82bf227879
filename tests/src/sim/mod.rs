//! A whole fleet in one thread, from a seed: the hub's core, the agents' cores, and models of all that is around them
//! (broker, links, disks, engines, power, clocks, an operator).
//!
//! A run goes through four phases: a new fleet settles; trouble; all faults end; a settled fleet is watched. Invariants
//! are checked after every event, in true time, by code that shares nothing with the code it judges. The same seed gives
//! the same run, on every machine; `cargo run -p outrigger-tests --bin sim -- --seed X --trace` prints it.

mod agent;
mod bridges;
mod bug;
mod campaign;
mod check;
mod device;
mod disk;
pub mod engine;
mod faults;
mod hub;
mod lost;
mod mesh;
mod naive;
mod net;
mod profile;
mod queue;
pub mod rng;
mod run;
mod settled;
mod show;
mod sometimes;
mod trace;
mod wire;
mod workload;
mod world;

pub use bug::{ALL as ALL_BUGS, Bug};
pub use campaign::{Campaign, Failure, campaign, report};
pub use check::Broken;
pub use profile::Profile;
pub use run::{Outcome, run};
pub use sometimes::{MUST_BE_REACHED, Sometimes};
pub use trace::Detail;
pub use world::Setup;

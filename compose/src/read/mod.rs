//! Typed readers over the marked tree: one room per topic of the Compose specification.
//!
//! Each reader takes what it knows from a mapping's [`Fields`] and reports what is wrong with it; what is left in the end
//! is unknown. So the list of known keys is the code that reads them.

mod at;
mod constraint;
mod depends;
mod deploy;
mod devices;
mod environment;
mod extra_hosts;
mod fields;
mod files;
mod gpu;
mod healthcheck;
mod image;
mod mounts;
mod network;
mod networks;
mod pairs;
mod policy;
mod ports;
mod process;
mod resources;
mod service;
mod stack;
mod tmpfs;
mod unsupported;
mod update;
mod volumes;
mod world;

pub(crate) use at::At;
pub(crate) use fields::Fields;
pub(crate) use stack::read_stack;

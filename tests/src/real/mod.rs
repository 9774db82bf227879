//! Real programs, engines and devices, driven from tests. Blocking and small: a test reads as a list of steps.

pub mod command;
pub mod fleet;
pub mod http;
pub mod lab;
pub mod load;
pub mod place;
pub mod process;

//! Texts → amounts, as Compose writes them. Each returns a message that says what would have been right.

mod number;
mod size;
mod span;
mod words;

pub(crate) use number::{boolean, cpus, integer};
pub(crate) use size::bytes;
pub(crate) use span::duration;
pub(crate) use words::split_words;

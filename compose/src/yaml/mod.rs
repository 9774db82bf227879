//! The smallest layer over a YAML parser: a tree in which every key and value knows its line and column.
//!
//! A serde deserializer loses the place of a value as soon as it has a type, and guesses types before we know which one
//! a key wants. Here scalars stay the text that was written (`010`, `1.0`, `no` and `22:22` mean what a person reads);
//! the reader of a key decides what it is.

mod merge_keys;
mod node;
mod parse;

pub(crate) use node::{Entry, Mark, Node, Rule, Value};
pub(crate) use parse::{Fault, parse};

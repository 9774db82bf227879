//! What the tests of the whole share; the tests themselves are in `tests/tests/`.

pub mod clock;
pub mod real;
pub mod sim;

//! Who may do what through the HTTPS API: every route as everybody, tokens, the first administrator, the audit log, and
//! where secrets do not show up.

#![allow(clippy::unwrap_used, clippy::panic)]

mod audit;
mod door;
mod first_start;
mod kept;
mod rights;
mod secrets;
mod sessions;
mod streams;
mod support;
mod tokens;

//! Nobody gets in who does not belong, and a bad device harms only itself: the broker with real certificates. The letters
//! in front of the facts (S1 …) are those of `docs/security.md`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod authority;
mod codes;
mod connecting;
mod emqx;
mod flooding;
mod joining;
mod sealed;
mod speaking;
mod support;
mod whole;

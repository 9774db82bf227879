//! Compose files → the specification of a stack, with a diagnostic at file:line:column for everything that is wrong,
//! unknown or not supported yet. Pure: whoever calls [`load`] has read the files and variables, [`references`] tells which.
//!
//! The way of a file: text → marked tree (`yaml`) → variables (`interpolate`) → `extends` → typed readers (`read`), which
//! know Compose's keys and build the [`outrigger_protocol::StackSpec`]. All problems are told at once.
//!
//! ```
//! use outrigger_compose::{Sources, load};
//! let sources = Sources::of("compose.yaml", "name: shop\nservices:\n  web:\n    image: nginx\n    prots: ['80:80']\n");
//! let outcome = load(None, &sources);
//! assert_eq!(
//!     outcome.diagnostics[0].to_string(),
//!     "compose.yaml:5:5: error: services.web.prots: unknown key; did you mean `ports`?"
//! );
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod context;
mod diagnostic;
mod env_file;
mod extends;
mod gather;
mod interpolate;
mod load;
mod merge;
mod read;
mod references;
mod sources;
mod suggest;
mod values;
mod yaml;

pub use diagnostic::{Diagnostic, Severity};
pub use gather::gather;
pub use load::{Outcome, load};
pub use references::{References, references};
pub use sources::{FileBytes, Missing, Sources, StackFile, resolve};

/// Bytes of one file. Real Compose files are a few kilobytes.
pub const MAX_TEXT: usize = 1024 * 1024;
/// Nodes of one file after its aliases and merge keys are expanded. Keeps "billion laughs" harmless.
pub const MAX_NODES: u64 = 100_000;
/// Lists and mappings within one another.
pub const MAX_DEPTH: usize = 64;
/// Bytes and nodes that one call of [`load`] may produce from variables, `extends`, environment files and port ranges
/// altogether: each of them can multiply a small text.
pub const MAX_WORK: u64 = 16 * 1024 * 1024;
/// Services of one stack; a thousand are a large installation already.
pub const MAX_SERVICES: usize = 2_000;
/// Problems told at once; nobody reads more.
pub const MAX_DIAGNOSTICS: usize = 100;

//! How the engine in memory behaves.

use std::collections::BTreeMap;
use std::time::Duration;

/// Times, images and failures.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// Time that a pull takes.
    pub pull: Duration,
    /// Time that a start takes.
    pub start: Duration,
    /// Time that a program takes to end when asked; longer than its grace, it is killed.
    pub stop: Duration,
    /// Whether the engine's disk is full: pulls and new containers fail.
    pub disk_full: bool,
    /// Images that differ from the others.
    pub images: BTreeMap<String, ImageBehaviour>,
}

/// How one image behaves.
#[derive(Debug, Clone)]
pub struct ImageBehaviour {
    /// Its size.
    pub bytes: u64,
    /// Why it cannot be pulled.
    pub pull_fails: Option<String>,
    /// Name and password that its registry wants; none: it wants none.
    pub login: Option<(String, String)>,
    /// Why its containers cannot be started.
    pub start_fails: Option<String>,
    /// What its containers do.
    pub program: Program,
}

/// What a container does once it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// It runs until it is told otherwise.
    Runs,
    /// It ends by itself.
    Exits {
        /// After so long.
        after: Duration,
        /// With this code.
        code: i64,
    },
    /// It takes more memory than there is.
    NeedsMoreMemory {
        /// After so long.
        after: Duration,
    },
    /// It runs, and its healthcheck (if it has one) passes.
    BecomesHealthy {
        /// After so long.
        after: Duration,
    },
}

impl Behaviour {
    /// How this image behaves.
    #[must_use]
    pub fn of_image(&self, image: &str) -> ImageBehaviour {
        self.images.get(image).cloned().unwrap_or_default()
    }
}

impl Default for ImageBehaviour {
    /// A small image whose containers run, and are healthy a second later where they have a healthcheck.
    fn default() -> Self {
        Self {
            bytes: 1_000_000,
            pull_fails: None,
            login: None,
            start_fails: None,
            program: Program::BecomesHealthy { after: Duration::from_secs(1) },
        }
    }
}

//! How an engine fails, told apart as far as decisions differ.

use std::time::Duration;

use thiserror::Error;

/// What an engine could not do. The texts inside are the engine's own words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// It does not answer: stopped, restarting, hanging, or its socket is not ours to open.
    #[error("the container engine does not answer: {reason}")]
    Unreachable {
        /// What the connection said.
        reason: String,
    },
    /// It answered nothing in time. The call may still take effect; look before trying again.
    #[error("the container engine has not answered to `{call}` within {} s", after.as_secs())]
    TimedOut {
        /// What was asked.
        call: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The image is not there and must be pulled.
    #[error("the image `{image}` is not on this device")]
    ImageNotFound {
        /// The image as asked for.
        image: String,
    },
    /// The image cannot be pulled.
    #[error("cannot pull `{image}`: {reason}")]
    PullFailed {
        /// The image as asked for.
        image: String,
        /// The engine's or registry's words.
        reason: String,
    },
    /// The engine's disk is full.
    #[error("the disk of the container engine is full: {reason}")]
    NoSpace {
        /// The engine's words.
        reason: String,
    },
    /// A port to be opened on the device is taken.
    #[error("a port is taken: {reason}")]
    PortTaken {
        /// The engine's words; they name the port.
        reason: String,
    },
    /// Another network has addresses of a network that is to be made.
    #[error("another network has its addresses: {reason}")]
    AddressesTaken {
        /// The engine's words.
        reason: String,
    },
    /// A network is not there (any more).
    #[error("a network is not there: {reason}")]
    NetworkNotFound {
        /// The engine's words; they name the network.
        reason: String,
    },
    /// A container that is not ours has the name.
    #[error("the container name `{name}` is taken by a container that is not ours")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// There is no such container (any more).
    #[error("there is no container {id}")]
    NoSuchContainer {
        /// Its id, short.
        id: String,
    },
    /// The owner of the device does not allow it. Trying again changes nothing.
    #[error("{reason}")]
    NotAllowed {
        /// What he does not allow, and how he could.
        reason: String,
    },
    /// Anything else: it cannot do it, now or ever.
    #[error("{reason}")]
    Refused {
        /// The engine's words.
        reason: String,
    },
}

impl EngineError {
    /// Whether the engine as a whole is the problem, and not this one container: nothing else will work either.
    #[must_use]
    pub fn is_engine_down(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

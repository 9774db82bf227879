//! What the settings say about devices without an invite.

/// How devices without an invite find the hub and come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joining {
    /// Whether they may wait with a code.
    pub by_code: bool,
    /// Whether the local network is told where the hub is.
    pub announced: bool,
}

impl Default for Joining {
    /// Without telling the network anything.
    fn default() -> Self {
        Self { by_code: true, announced: false }
    }
}

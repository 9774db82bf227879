//! What the engine is to do, as values.

use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{ContainerSpec, FleetId, NetworkName, NetworkSpec, PlacementId, Platform};

use crate::engine::{Container, ContainerId, EngineError, Network, NetworkId, NewContainer};

/// Names one action under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(pub u64);

/// An image of one platform: what is pulled once, however many copies are made from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageKey {
    /// The reference as the user wrote it.
    pub image: String,
    /// The platform, where there is a choice.
    pub platform: Option<Platform>,
}

/// One thing for the engine to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// See whether an image is there.
    Check(ImageKey),
    /// Fetch an image.
    Pull(ImageKey),
    /// Make a container and start it.
    Create(NewContainer),
    /// Start a container that has ended.
    Start(PlacementId, ContainerId),
    /// End a container's processes, by force after this time.
    Stop(PlacementId, ContainerId, Duration),
    /// Remove a container.
    Remove(PlacementId, ContainerId),
    /// Look at all containers: a call has not been answered, and may have taken effect all the same.
    List,
    /// Look at a container of which no word has come.
    Inspect(PlacementId, ContainerId),
    /// Make a network, with addresses that are free.
    MakeNetwork(NetworkSpec, FleetId),
    /// Remove a network.
    RemoveNetwork(NetworkName, NetworkId),
    /// Look at all networks: one that was thought to be there is not.
    ListNetworks,
    /// Put the secrets and configs of a copy where its container finds them: not the engine's work, but it goes beside it.
    Lay(PlacementId, Arc<ContainerSpec>),
    /// Take them away.
    Clear(PlacementId),
}

/// What came of an action.
pub type Outcome = Result<Success, EngineError>;

/// What came of an action that went well.
#[allow(clippy::large_enum_variant, reason = "one at a time, and soon taken apart")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Success {
    /// Of [`Action::Check`]: the digest, where the image is there.
    Checked(Option<String>),
    /// Of [`Action::Pull`]: the digest.
    Pulled(String),
    /// Of [`Action::Create`].
    Created(ContainerId),
    /// Of [`Action::Start`], [`Action::Stop`], [`Action::Remove`], [`Action::RemoveNetwork`], [`Action::Lay`] and
    /// [`Action::Clear`].
    Done,
    /// Of [`Action::List`].
    Listed(Vec<Container>),
    /// Of [`Action::Inspect`]: the container, where it is there.
    Inspected(Option<Container>),
    /// Of [`Action::MakeNetwork`].
    Made(Box<Network>),
    /// Of [`Action::ListNetworks`].
    Networks(Vec<Network>),
}

impl Action {
    /// What it is, in a word for the log. Never with what it carries: the environment of a container often has passwords.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Check(_) => "check",
            Self::Pull(_) => "pull",
            Self::Create(_) => "create",
            Self::Start(..) => "start",
            Self::Stop(..) => "stop",
            Self::Remove(..) => "remove",
            Self::List => "list",
            Self::Inspect(..) => "inspect",
            Self::MakeNetwork(..) => "make network",
            Self::RemoveNetwork(..) => "remove network",
            Self::ListNetworks => "list networks",
            Self::Lay(..) => "lay files",
            Self::Clear(_) => "clear files",
        }
    }

    /// The copy that it keeps busy; none for images and networks, which many share.
    #[must_use]
    pub fn placement(&self) -> Option<PlacementId> {
        match self {
            Self::MakeNetwork(..) | Self::RemoveNetwork(..) | Self::ListNetworks => None,
            // What is done with files neither waits for what the engine does nor holds it up.
            Self::Check(_) | Self::Pull(_) | Self::List | Self::Lay(..) | Self::Clear(_) => None,
            Self::Create(new) => Some(new.placement),
            Self::Start(placement, _)
            | Self::Stop(placement, ..)
            | Self::Remove(placement, _)
            | Self::Inspect(placement, _) => Some(*placement),
        }
    }

    /// Whether it makes a container run.
    #[must_use]
    pub fn is_start(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Start(..))
    }
}

//! What goes into the core and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{
    Assignment, BootId, ByeReason, Certificate, DownMessage, Epoch, Facts, FleetId, Load, LogsRequest, PlacementId,
    ReplicaName, RequestId, SessionNumber, Stamp, UpMessage, Usage,
};

use outrigger_proxy::control::Mesh as Reach;

use super::action::{Action, ActionId, Outcome};
use super::mesh::{Keep, KeptMesh, ProxyEvent};
use super::renewal::OwnCertificate;
use crate::engine::{ContainerId, EngineEvent, PullProgress};
use crate::policy::Policy;

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The kernel's name for this boot.
    pub boot: BootId,
    /// Made once per installation.
    pub machine: u128,
    /// The device's name, for the environment of its containers.
    pub device: outrigger_protocol::DeviceName,
    /// Time between reports.
    pub heartbeat: Duration,
    /// What the owner of the device allows.
    pub policy: Arc<Policy>,
}

/// What the disk had when the agent started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// There is no file: a new device, or a wiped one.
    Nothing,
    /// There is one that cannot be read. Nothing is started or stopped until the hub has spoken.
    Unreadable,
    /// The last assignment.
    Assignment(Assignment),
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The time of day in milliseconds since 1970, only to be shown. Given before the inputs that show it.
    Wall(u64),
    /// What the device is, where it has changed: the engine has come up, say.
    Facts(Box<Facts>),
    /// A connection stands and its topics are subscribed.
    Connected(SessionNumber),
    /// It stands no more.
    Disconnected,
    /// A message of the hub.
    Down(DownMessage),
    /// The message could not be handed to the connection: its queue is full.
    Unsent(outrigger_protocol::Channel),
    /// The engine says something.
    Engine(EngineEvent),
    /// An [`Effect::Act`] has ended.
    Done(ActionId, Outcome),
    /// A pull goes on.
    Pulling(ActionId, PullProgress),
    /// An [`Effect::Save`] has ended; the reason if it failed.
    Saved(Stamp, Result<(), String>),
    /// The load now.
    Load(Load),
    /// What the replicas use.
    Usage(Vec<Usage>),
    /// An answer ([`Effect::Logs`]) has come to its end.
    Answered(RequestId),
    /// The device has this certificate. Given before [`Self::Connected`], for each connection.
    Certificate(OwnCertificate),
    /// An [`Effect::Adopt`] has ended; the reason if the certificate was of no use.
    Renewed(Result<OwnCertificate, String>),
    /// The proxy says something, or does not answer.
    Proxy(ProxyEvent),
    /// How other devices are reached; none: they are not.
    Reach(Option<Reach>),
    /// Time has passed; due at [`super::Core::wake_at`] at the latest.
    Tick,
    /// The agent ends.
    Stop(ByeReason),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send it on the present connection, or drop it where there is none.
    Publish(UpMessage),
    /// Put it on the disk and say [`Input::Saved`]. Nothing that it brings is begun before that.
    Save(Box<Assignment>),
    /// Have the engine do it, beside others, and say [`Input::Done`].
    Act(ActionId, Action),
    /// Give it up: nobody wants it any more. No [`Input::Done`] is to follow.
    Abort(ActionId),
    /// Answer a question for output, and say [`Input::Answered`] at the end.
    Logs(RequestId, PlacementId, ContainerId, LogsRequest),
    /// The asker has taken the parts up to this one.
    Taken(RequestId, u32),
    /// Check this certificate, put it in the place of the present one, and say [`Input::Renewed`].
    Adopt(Box<Certificate>),
    /// Stop answering. No [`Input::Answered`] is to follow.
    Cancel(RequestId),
    /// Hand this to the proxy; of several the last counts. One that has something to do is started where none runs.
    Proxy(Arc<outrigger_proxy::control::Wanted>),
    /// Keep this for the agent after this one. Nothing waits for it.
    KeepMesh(Box<KeptMesh>, Keep),
}

/// Something that the core has noticed, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// The assignment on the disk cannot be read.
    Unreadable,
    /// It works towards this assignment of so many copies from now on.
    Adopted(Stamp, usize),
    /// An assignment that is older than the one it holds is ignored.
    Older(Stamp),
    /// The hub of another fleet wants to be obeyed, and is not: ours, and the other. Told once for each connection.
    OtherFleet(FleetId, FleetId),
    /// The assignment could not be saved; why.
    Unsaved(Stamp, String),
    /// The device has a new certificate, valid until then (seconds since 1970).
    Renewed(u64),
    /// A certificate came that is of no use; why.
    NotRenewed(String),
    /// The owner of the device does not let a replica run; why.
    Refused(ReplicaName, String),
    /// A copy waits for its secrets or configs; why.
    NoFiles(ReplicaName, String),
    /// A copy has no specification.
    Skipped(PlacementId),
    /// Routes of a lower epoch than was seen are ignored.
    OlderRoutes(Epoch),
}

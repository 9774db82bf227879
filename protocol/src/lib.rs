//! What crosses the wire between hub and agents: names, amounts, topics, messages, limits. Types only, no I/O.
//!
//! Three rules keep old and new releases able to talk (postcard does not describe itself):
//! a message is a variant of [`UpMessage`] or [`DownMessage`] behind a version byte; variants are only ever appended;
//! a struct that has been released is never changed, it gets a successor. `tests/golden.rs` holds one payload of each.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod amount;
mod ask;
mod assignment;
mod certificate;
mod device;
mod file;
mod limits;
mod name;
mod network;
mod payload;
mod platform;
mod report;
mod spec;
mod stack;
mod status;
mod time;
mod topic;
mod version;

pub use amount::{Bytes, MilliCpu, Permille};
pub use ask::{Answer, AnswerBody, Ask, LogChunk, LogStream, LogsRequest, RequestId, WINDOW};
pub use assignment::{Assigned, Assignment, Goal, Lease};
pub use certificate::{Certificate, Renew};
pub use device::{AttachedDevice, CgroupVersion, DeviceKind, Engine, EngineKind, Facts, Hello, MemoryLimits};
pub use file::{
    FileKind, FileMount, FileRef, Item, Login, Sealed, SealedContent, Unseal, canonical_registry, registry_of,
};
pub use limits::{
    MAX_ANSWER, MAX_ASK, MAX_ASSIGNED, MAX_CERTIFICATE, MAX_DETAIL, MAX_FILE, MAX_HELLO, MAX_LEASE, MAX_MESH,
    MAX_RENEW, MAX_REPLICAS_PER_DEVICE, MAX_REPORT, MAX_SEALED, MAX_STATUS, MAX_UNSEAL, MAX_WANT,
};
pub use name::{DeviceName, FileName, NameError, NetworkName, ReplicaName, ServiceName, ServiceRef, StackName};
pub use network::{
    Affinity, Attachment, Endpoint, EndpointState, IngressPort, MeshStatus, NetworkSpec, Peer, PublishMode, Retry,
    Routes, ServiceRoutes, TakenPort, Traffic,
};
pub use payload::{
    DownMessage, PayloadError, UpMessage, decode_down, decode_up, encode_down, encode_up, login_from_bytes,
    login_to_bytes, sealed_context, spec_bytes,
};
pub use platform::{Arch, Platform, PlatformError};
pub use report::{Load, Report, Throttling, Usage};
pub use spec::{
    CgroupLimits, ContainerSpec, DeviceMapping, GpuRequest, Healthcheck, HealthcheckTest, LogConfig, Mount, MountKind,
    PortProtocol, PublishedPort, RestartCondition, RestartPolicy, Ulimit,
};
pub use stack::{
    Constraint, ConstraintKey, GenericResource, LossPolicy, Mode, Order, Reservation, Revision, ServiceSpec, StackSpec,
    UpdateConfig, UpdateFailure, VolumeMove,
};
pub use status::{Bye, ByeReason, EngineState, ExitCause, Observed, Phase, Status};
pub use time::Moment;
pub use topic::{Channel, Topic, TopicError};
pub use version::{BootId, Epoch, FleetId, FleetIdError, Generation, PlacementId, SessionNumber, Stamp};

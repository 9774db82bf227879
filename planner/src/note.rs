//! What happened, for the event log: who, what, why. The planner writes no log; these are it.

use std::fmt;
use std::time::Duration;

use outrigger_protocol::{DeviceName, ReplicaName, ServiceRef, StackName};
use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Sort of thing, such as `device_lost`; stable, for programs.
    pub kind: NoteKind,
    /// Which device.
    pub device: Option<DeviceName>,
    /// Which stack; also set where service or replica are.
    pub stack: Option<StackName>,
    /// Which service; also set where the replica is.
    pub service: Option<ServiceRef>,
    /// Which replica.
    pub replica: Option<ReplicaName>,
    /// What happened, in one line.
    pub message: String,
    /// Why.
    pub reason: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Something changed.
    Info,
    /// Someone should look.
    Warning,
    /// Something does not work.
    Error,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $text:literal, $severity:ident;)*) => {
        /// Sorts of things that happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum NoteKind { $($(#[$doc])* $kind,)* }

        impl NoteKind {
            /// Its stable name, such as `device_lost`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $text,)* }
            }

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$kind => Severity::$severity,)* }
            }
        }
    };
}

kinds! {
    /// A device was heard for the first time ever.
    DeviceJoined = "device_joined", Info;
    /// A device is heard again, or for the first time since the hub's start.
    DeviceUp = "device_up", Info;
    /// A device should have been heard by now.
    DeviceSuspect = "device_suspect", Warning;
    /// A device is lost; its copies are replaced.
    DeviceLost = "device_lost", Error;
    /// A device said that it goes away.
    DeviceBye = "device_bye", Info;
    /// Something else about a device changed: labels, availability, facts.
    DeviceChanged = "device_changed", Info;
    /// A device was forgotten.
    DeviceForgotten = "device_forgotten", Info;
    /// Two machines claim one name.
    NameTaken = "name_taken", Error;
    /// A device was refused.
    DeviceRefused = "device_refused", Error;
    /// The container engine of a device does not answer.
    EngineDown = "engine_down", Error;
    /// The container engine of a device answers again.
    EngineUp = "engine_up", Info;
    /// Local storage of a device has failed or is full.
    StorageFailed = "storage_failed", Error;
    /// Too many devices fell silent at once: nothing moves.
    SafeModeBegan = "safe_mode_began", Error;
    /// Things move again.
    SafeModeEnded = "safe_mode_ended", Info;
    /// A stack was applied.
    StackApplied = "stack_applied", Info;
    /// A stack was removed.
    StackRemoved = "stack_removed", Info;
    /// The wanted number of copies changed.
    ServiceScaled = "service_scaled", Info;
    /// A copy was placed for the first time.
    ReplicaPlaced = "replica_placed", Info;
    /// A copy was placed on another device.
    ReplicaMoved = "replica_moved", Warning;
    /// A copy runs and is healthy.
    ReplicaRunning = "replica_running", Info;
    /// A copy ended, was killed or is unhealthy.
    ReplicaFailed = "replica_failed", Warning;
    /// A copy is dropped.
    ReplicaDropped = "replica_dropped", Info;
    /// A replica has no device, or waits.
    ReplicaPending = "replica_pending", Warning;
    /// A roll began, went on or ended.
    RollChanged = "roll_changed", Info;
    /// A roll stopped because of a failure.
    RollPaused = "roll_paused", Error;
}

impl Note {
    pub(crate) fn new(kind: NoteKind, message: impl Into<String>) -> Self {
        Self { kind, device: None, stack: None, service: None, replica: None, message: message.into(), reason: None }
    }

    pub(crate) fn of_device(kind: NoteKind, device: &DeviceName, message: impl Into<String>) -> Self {
        Self { device: Some(device.clone()), ..Self::new(kind, message) }
    }

    pub(crate) fn of_service(kind: NoteKind, service: &ServiceRef, message: impl Into<String>) -> Self {
        Self { stack: Some(service.stack.clone()), service: Some(service.clone()), ..Self::new(kind, message) }
    }

    pub(crate) fn of_replica(kind: NoteKind, replica: &ReplicaName, message: impl Into<String>) -> Self {
        Self { replica: Some(replica.clone()), ..Self::of_service(kind, &replica.service, message) }
    }

    pub(crate) fn on(self, device: &DeviceName) -> Self {
        Self { device: Some(device.clone()), ..self }
    }

    pub(crate) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.kind.severity()
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

/// A span as people write it: `4 s`, `350 ms`.
pub(crate) fn span(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{}.{:03} s", ms / 1000, ms % 1000) }
}

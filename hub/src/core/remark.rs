//! What happened, for the log, the event list and its live stream: the planner's notes and the hub's own.

use std::net::IpAddr;
use std::time::Duration;

use outrigger_planner::{Note, Severity};
use outrigger_protocol::{DeviceName, ReplicaName, ServiceRef, StackName, TakenPort};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Sort of thing, such as `device_lost`; stable, for programs.
    pub kind: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Which device.
    pub device: Option<DeviceName>,
    /// Which stack.
    pub stack: Option<StackName>,
    /// Which service.
    pub service: Option<ServiceRef>,
    /// Which replica.
    pub replica: Option<ReplicaName>,
    /// What happened, in one line.
    pub message: String,
    /// Why.
    pub reason: Option<String>,
}

impl From<Note> for Remark {
    fn from(note: Note) -> Self {
        Self {
            kind: note.kind.as_str(),
            severity: note.severity(),
            device: note.device,
            stack: note.stack,
            service: note.service,
            replica: note.replica,
            message: note.message,
            reason: note.reason,
        }
    }
}

impl Remark {
    fn of_hub(kind: &'static str, severity: Severity, message: impl Into<String>, reason: Option<&str>) -> Self {
        Self {
            kind,
            severity,
            device: None,
            stack: None,
            service: None,
            replica: None,
            message: message.into(),
            reason: reason.map(str::to_owned),
        }
    }

    pub(super) fn name_taken(device: &DeviceName, by: IpAddr) -> Self {
        let message =
            format!("a second machine at {by} wants the name {device}, whose device is connected; it was turned away");
        let told =
            Self::of_hub("name_taken", Severity::Error, message, Some("a cloned SD card, or a name given twice"));
        Self { device: Some(device.clone()), ..told }
    }

    pub(super) fn cloned(device: &DeviceName) -> Self {
        let message = format!("two machines run under the identity of {device}; neither is let in");
        let why = format!(
            "their boot ids alternate: a copied SD card. Take one off and `outrigger device approve {device}`, or invite it \
             anew with `outrigger device invite --name {device}`"
        );
        let told = Self::of_hub("device_cloned", Severity::Error, message, Some(&why));
        Self { device: Some(device.clone()), ..told }
    }

    pub(super) fn flooding(device: &DeviceName) -> Self {
        let message =
            format!("{device} sends far more than it may; it was slowed down, and its connection was cut for a while");
        let told = Self::of_hub(
            "device_flooding",
            Severity::Error,
            message,
            Some("a fault of its agent, or a stolen identity"),
        );
        Self { device: Some(device.clone()), ..told }
    }

    pub(super) fn garbage(device: &DeviceName, reason: &str) -> Self {
        let message = format!("{device} has sent what cannot be read; it was dropped");
        let told = Self::of_hub("device_garbage", Severity::Error, message, Some(reason));
        Self { device: Some(device.clone()), ..told }
    }

    pub(super) fn fought_over(device: &DeviceName) -> Self {
        let message = format!("several agents connect under the name {device} and push each other off");
        let why = "two agents have one name on one machine, or behind one address: give one of them another `name`";
        let told = Self::of_hub("name_fought_over", Severity::Error, message, Some(why));
        Self { device: Some(device.clone()), ..told }
    }

    pub(super) fn port_taken(device: &DeviceName, taken: &TakenPort, service: Option<&ServiceRef>) -> Self {
        let port = format!("port {}/{}", taken.port, taken.protocol);
        let message = match service {
            Some(service) => format!("{port} of {service} is taken on {device} and not opened there"),
            None => format!("{port} is taken on {device} and not opened there"),
        };
        let told = Self::of_hub("port_taken", Severity::Error, message, Some(&taken.reason));
        Self {
            device: Some(device.clone()),
            stack: service.map(|s| s.stack.clone()),
            service: service.cloned(),
            ..told
        }
    }

    pub(super) fn network_trouble(device: &DeviceName, trouble: Option<&str>) -> Self {
        let told = match trouble {
            Some(_) => {
                let message = format!("the service network does not work on {device}");
                Self::of_hub("network_trouble", Severity::Error, message, trouble)
            }
            None => {
                Self::of_hub("network_works", Severity::Info, format!("the service network works on {device}"), None)
            }
        };
        Self { device: Some(device.clone()), ..told }
    }

    pub(super) fn routes_too_large(device: &DeviceName, reason: &str) -> Self {
        let message = format!(
            "{device} is not told of changes in the service network: it shares networks with too many copies, or too many \
             ports are published; split the networks"
        );
        let told = Self::of_hub("routes_too_large", Severity::Error, message, Some(reason));
        Self { device: Some(device.clone()), ..told }
    }

    pub(super) fn hub_paused(gap: Duration) -> Self {
        let message =
            format!("the hub stood still for {:.1} s; nobody's silence in that time counts", gap.as_secs_f64());
        Self::of_hub("hub_paused", Severity::Warning, message, None)
    }

    pub(super) fn broker_down(reason: &str) -> Self {
        let message = "the broker cannot be reached; nothing moves until it can";
        Self::of_hub("broker_down", Severity::Error, message, Some(reason))
    }

    pub(super) fn broker_up(was: &str) -> Self {
        Self::of_hub("broker_up", Severity::Info, "the broker can be reached", Some(was))
    }

    pub(super) fn store_read_only(reason: &str) -> Self {
        let message = "the store cannot save: nothing is changed or moved until it can";
        Self::of_hub("store_read_only", Severity::Error, message, Some(reason))
    }

    pub(super) fn store_writable() -> Self {
        Self::of_hub("store_writable", Severity::Info, "the store saves again", None)
    }

    /// What the registry says about an image could not be learnt.
    #[must_use]
    pub fn image_unknown(image: &str, reason: &str) -> Self {
        let message =
            format!("the platforms of image `{image}` are not known; copies may be placed where it cannot run");
        Self::of_hub("image_unknown", Severity::Warning, message, Some(reason))
    }
}

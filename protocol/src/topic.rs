//! The topics: one tree per device. Only this file knows their text.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::DeviceName;

/// What precedes every topic: our name and the protocol's number.
const PREFIX: &str = "or/1/";

/// A topic: a device and a channel of it.
///
/// ```
/// use outrigger_protocol::{Channel, Topic};
/// let topic: Topic = "or/1/pi-4/report".parse().unwrap();
/// assert_eq!(topic.channel, Channel::Report);
/// assert_eq!(topic.to_string(), "or/1/pi-4/report");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Whose.
    pub device: DeviceName,
    /// Which.
    pub channel: Channel,
}

/// The channels of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Up, QoS 1: who I am.
    Hello,
    /// Up, QoS 0: heartbeat with load.
    Report,
    /// Up, QoS 1: replicas observed.
    Status,
    /// Up, QoS 1: going away; also the will.
    Bye,
    /// Up, QoS 1: parts of answers.
    Answer,
    /// Down, QoS 1, retained: the assignment.
    Want,
    /// Down, QoS 1, retained: services and endpoints to reach.
    Routes,
    /// Down, QoS 0: lease renewal.
    Lease,
    /// Down, QoS 1: questions.
    Ask,
    /// Up, QoS 1: asks for a new certificate.
    Renew,
    /// Down, QoS 1: a new certificate. Not retained: it is worth nothing to whoever comes later.
    Certificate,
    /// Up, QoS 1: how the service network does.
    Mesh,
    /// Up, QoS 1: asks for a secret, a config or a login.
    Unseal,
    /// Down, QoS 1: a secret, a config or a login, for this device's eyes only. Not retained: the key that opens it is gone
    /// with the question.
    Sealed,
}

/// A topic that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is no topic of a device")]
pub struct TopicError {
    /// The refused topic, cut to 120 characters.
    pub text: String,
}

impl Channel {
    /// All that a device may publish.
    pub const UP: [Self; 8] =
        [Self::Hello, Self::Report, Self::Status, Self::Bye, Self::Answer, Self::Renew, Self::Mesh, Self::Unseal];
    /// All that a device subscribes to.
    pub const DOWN: [Self; 6] = [Self::Want, Self::Routes, Self::Lease, Self::Ask, Self::Certificate, Self::Sealed];

    fn text(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Report => "report",
            Self::Status => "status",
            Self::Bye => "bye",
            Self::Answer => "answer",
            Self::Want => "want",
            Self::Routes => "routes",
            Self::Lease => "lease",
            Self::Ask => "ask",
            Self::Renew => "renew",
            Self::Certificate => "certificate",
            Self::Mesh => "mesh",
            Self::Unseal => "unseal",
            Self::Sealed => "sealed",
        }
    }

    /// Whether the device publishes it.
    #[must_use]
    pub fn is_up(self) -> bool {
        Self::UP.contains(&self)
    }

    /// Whether the broker keeps the last message for who subscribes later.
    #[must_use]
    pub fn is_retained(self) -> bool {
        matches!(self, Self::Want | Self::Routes)
    }

    /// Whether delivery is confirmed (QoS 1). Heartbeats and lease renewals are not: a late one is worth nothing.
    #[must_use]
    pub fn is_confirmed(self) -> bool {
        !matches!(self, Self::Report | Self::Lease)
    }

    /// The filter by which a hub subscribes to this channel of every device.
    #[must_use]
    pub fn of_all_devices(self) -> String {
        format!("{PREFIX}+/{}", self.text())
    }
}

impl Topic {
    /// A channel of a device.
    #[must_use]
    pub fn new(device: &DeviceName, channel: Channel) -> Self {
        Self { device: device.clone(), channel }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.device, self.channel.text())
    }
}

impl FromStr for Topic {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<Self, TopicError> {
        let refused = || TopicError { text: text.chars().take(120).collect() };
        let (device, channel) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/')).ok_or_else(refused)?;
        let device = device.parse().map_err(|_| refused())?;
        let channel = Channel::UP.into_iter().chain(Channel::DOWN).find(|c| c.text() == channel).ok_or_else(refused)?;
        Ok(Self { device, channel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_outside_a_device_tree_are_refused() {
        for bad in ["", "or/1/", "or/1/pi", "or/1/pi/", "or/1/pi/hello/x", "or/2/pi/hello", "or/1/+/hello", "$SYS/x"] {
            assert!(bad.parse::<Topic>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_channel_parses_from_what_it_prints() {
        let device: DeviceName = "pi".parse().unwrap();
        for channel in Channel::UP.into_iter().chain(Channel::DOWN) {
            let topic = Topic::new(&device, channel);
            assert_eq!(topic.to_string().parse::<Topic>().unwrap(), topic);
        }
    }
}

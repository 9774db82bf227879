//! Messages to bytes and back. Only this file knows the bytes: a version byte, then postcard.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Answer, Ask, Assignment, Bye, Certificate, Channel, ContainerSpec, DeviceName, Hello, Item, Lease, Login,
    MAX_ANSWER, MAX_ASK, MAX_CERTIFICATE, MAX_HELLO, MAX_LEASE, MAX_MESH, MAX_RENEW, MAX_REPORT, MAX_SEALED,
    MAX_STATUS, MAX_UNSEAL, MAX_WANT, MeshStatus, Renew, Report, Routes, Sealed, Status, Unseal,
};

/// First byte of every payload. A second wire format gets a second number; both are read for two releases.
const VERSION: u8 = 1;

/// What a device publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpMessage {
    /// On [`Channel::Hello`].
    Hello(Box<Hello>),
    /// On [`Channel::Report`].
    Report(Report),
    /// On [`Channel::Status`].
    Status(Status),
    /// On [`Channel::Bye`].
    Bye(Bye),
    /// On [`Channel::Answer`].
    Answer(Answer),
    /// On [`Channel::Renew`].
    Renew(Renew),
    /// On [`Channel::Mesh`].
    Mesh(MeshStatus),
    /// On [`Channel::Unseal`].
    Unseal(Box<Unseal>),
}

/// What a device receives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownMessage {
    /// On [`Channel::Want`].
    Want(Assignment),
    /// On [`Channel::Lease`].
    Lease(Lease),
    /// On [`Channel::Ask`].
    Ask(Ask),
    /// On [`Channel::Certificate`].
    Certificate(Certificate),
    /// On [`Channel::Routes`].
    Routes(Routes),
    /// On [`Channel::Sealed`].
    Sealed(Sealed),
}

/// A payload that cannot be read, or a message that is too large to send.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// More bytes than the channel allows.
    #[error("{size} bytes on `{channel:?}`, where {limit} are allowed")]
    TooLarge {
        /// Where.
        channel: Channel,
        /// How many there were.
        size: usize,
        /// How many may be.
        limit: usize,
    },
    /// Nothing at all.
    #[error("empty payload")]
    Empty,
    /// A version that this release does not know.
    #[error("payload version {0}, this release reads {VERSION}")]
    Version(u8),
    /// The bytes are no message.
    #[error("malformed payload")]
    Malformed(#[source] postcard::Error),
    /// Bytes behind the message.
    #[error("{0} bytes behind the message")]
    Trailing(usize),
    /// A message of another channel.
    #[error("the message does not belong on `{0:?}`")]
    WrongChannel(Channel),
}

impl Channel {
    /// Most bytes of a payload on it.
    #[must_use]
    pub fn max_payload(self) -> usize {
        match self {
            Self::Hello => MAX_HELLO,
            Self::Report => MAX_REPORT,
            Self::Status => MAX_STATUS,
            Self::Bye | Self::Lease => MAX_LEASE,
            Self::Answer => MAX_ANSWER,
            Self::Want | Self::Routes => MAX_WANT,
            Self::Ask => MAX_ASK,
            Self::Renew => MAX_RENEW,
            Self::Mesh => MAX_MESH,
            Self::Certificate => MAX_CERTIFICATE,
            Self::Unseal => MAX_UNSEAL,
            Self::Sealed => MAX_SEALED,
        }
    }
}

impl UpMessage {
    /// Where it is published.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match self {
            Self::Hello(_) => Channel::Hello,
            Self::Report(_) => Channel::Report,
            Self::Status(_) => Channel::Status,
            Self::Bye(_) => Channel::Bye,
            Self::Answer(_) => Channel::Answer,
            Self::Renew(_) => Channel::Renew,
            Self::Mesh(_) => Channel::Mesh,
            Self::Unseal(_) => Channel::Unseal,
        }
    }
}

impl DownMessage {
    /// Where it is published.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match self {
            Self::Want(_) => Channel::Want,
            Self::Lease(_) => Channel::Lease,
            Self::Ask(_) => Channel::Ask,
            Self::Certificate(_) => Channel::Certificate,
            Self::Routes(_) => Channel::Routes,
            Self::Sealed(_) => Channel::Sealed,
        }
    }
}

/// The bytes of a message from a device.
///
/// # Errors
/// If they are more than the channel allows.
pub fn encode_up(message: &UpMessage) -> Result<Vec<u8>, PayloadError> {
    encode(message, message.channel())
}

/// The bytes of a message to a device.
///
/// # Errors
/// If they are more than the channel allows.
pub fn encode_down(message: &DownMessage) -> Result<Vec<u8>, PayloadError> {
    encode(message, message.channel())
}

/// Bytes that a container's specification takes in an assignment. Each stands there once, however many copies it has.
#[must_use]
pub fn spec_bytes(spec: &ContainerSpec) -> usize {
    postcard::serialize_with_flavor(spec, postcard::ser_flavors::Size::default()).unwrap_or(usize::MAX)
}

/// What both sides must agree on for a sealed answer to open: whose question this is, which one, and for what. It also stands
/// before what the device signs, so that neither can be used for anything else.
#[must_use]
pub fn sealed_context(device: &DeviceName, request: u64, item: &Item) -> Vec<u8> {
    const PURPOSE: &[u8] = b"outrigger sealed 1\0";
    // A few names and numbers: it always serialises.
    postcard::to_extend(&(device, request, item), PURPOSE.to_vec()).unwrap_or_default()
}

/// What is sealed of a login.
#[must_use]
pub fn login_to_bytes(login: &Login) -> Vec<u8> {
    // Two texts: they always serialise.
    postcard::to_extend(login, vec![VERSION]).unwrap_or_default()
}

/// The login in what was sealed; none if it is something else.
#[must_use]
pub fn login_from_bytes(bytes: &[u8]) -> Option<Login> {
    let (&version, body) = bytes.split_first()?;
    if version == VERSION { postcard::from_bytes(body).ok() } else { None }
}

/// The message from a device in `bytes`, which came on `channel`.
///
/// # Errors
/// If the bytes are too many, of another version, no message, or a message of another channel.
pub fn decode_up(channel: Channel, bytes: &[u8]) -> Result<UpMessage, PayloadError> {
    let message: UpMessage = decode(channel, bytes)?;
    if message.channel() == channel { Ok(message) } else { Err(PayloadError::WrongChannel(channel)) }
}

/// The message to a device in `bytes`, which came on `channel`.
///
/// # Errors
/// If the bytes are too many, of another version, no message, or a message of another channel.
pub fn decode_down(channel: Channel, bytes: &[u8]) -> Result<DownMessage, PayloadError> {
    let message: DownMessage = decode(channel, bytes)?;
    if message.channel() == channel { Ok(message) } else { Err(PayloadError::WrongChannel(channel)) }
}

fn check_size(channel: Channel, size: usize) -> Result<(), PayloadError> {
    let limit = channel.max_payload();
    if size > limit { Err(PayloadError::TooLarge { channel, size, limit }) } else { Ok(()) }
}

fn encode<M: Serialize>(message: &M, channel: Channel) -> Result<Vec<u8>, PayloadError> {
    let bytes = postcard::to_extend(message, vec![VERSION]).map_err(PayloadError::Malformed)?;
    check_size(channel, bytes.len())?;
    Ok(bytes)
}

fn decode<'a, M: Deserialize<'a>>(channel: Channel, bytes: &'a [u8]) -> Result<M, PayloadError> {
    check_size(channel, bytes.len())?;
    let (&version, body) = bytes.split_first().ok_or(PayloadError::Empty)?;
    if version != VERSION {
        return Err(PayloadError::Version(version));
    }
    let (message, rest) = postcard::take_from_bytes(body).map_err(PayloadError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(PayloadError::Trailing(rest.len())) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ByeReason, SessionNumber};

    #[test]
    fn an_assignment_takes_what_its_specs_and_copies_take() {
        let spec = ContainerSpec {
            image: "web:1".into(),
            command: Some(vec!["x".repeat(70_000)]),
            ..ContainerSpec::default()
        };
        let one = Assignment { specs: vec![spec.clone()], ..Assignment::default() };
        let two = Assignment { specs: vec![spec.clone(), spec.clone()], ..Assignment::default() };
        let size = |assignment| encode_down(&DownMessage::Want(assignment)).unwrap().len();
        assert_eq!(size(two) - size(one), spec_bytes(&spec));
    }

    fn bye() -> UpMessage {
        UpMessage::Bye(Bye { session: SessionNumber(7), reason: ByeReason::Restart })
    }

    #[test]
    fn a_message_on_the_wrong_channel_is_refused() {
        let bytes = encode_up(&bye()).unwrap();
        assert_eq!(decode_up(Channel::Hello, &bytes), Err(PayloadError::WrongChannel(Channel::Hello)));
    }

    #[test]
    fn trailing_bytes_other_versions_and_nothing_are_refused() {
        let mut bytes = encode_up(&bye()).unwrap();
        bytes.push(0);
        assert_eq!(decode_up(Channel::Bye, &bytes), Err(PayloadError::Trailing(1)));
        assert_eq!(decode_up(Channel::Bye, &[9, 0]), Err(PayloadError::Version(9)));
        assert_eq!(decode_up(Channel::Bye, &[]), Err(PayloadError::Empty));
    }

    #[test]
    fn an_oversized_payload_is_refused_before_it_is_read() {
        let bytes = vec![VERSION; MAX_LEASE + 1];
        assert!(matches!(decode_up(Channel::Bye, &bytes), Err(PayloadError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut framed = vec![VERSION];
            framed.extend(&bytes);
            for channel in Channel::UP {
                let _ = decode_up(channel, &bytes);
                let _ = decode_up(channel, &framed);
            }
            for channel in Channel::DOWN {
                let _ = decode_down(channel, &framed);
            }
        }
    }
}

//! How a stream between devices begins: what is wanted, and the answer.

use std::io;
use std::net::SocketAddr;

use outrigger_protocol::{NetworkName, PlacementId, PortProtocol};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::dial::Request;

/// First byte of each stream. A device that knows another version refuses.
const VERSION: u8 = 1;
/// Longest request: names of 63 bytes, two addresses, and numbers.
const MAX_OPEN: usize = 512;

/// What a stream is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// Whether anybody is there; answered at once.
    Line,
    /// A copy.
    Copy(Open),
}

/// A copy on the called device is asked for.
///
/// It says nothing of devices that it has passed, because there are none: whoever gets it asks copies of its own only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) placement: PlacementId,
    pub(crate) protocol: PortProtocol,
    pub(crate) port: u16,
    /// The network through which the service was found; none: a published port.
    pub(crate) network: Option<NetworkName>,
    /// For copies that want to know who the client is.
    pub(crate) client: SocketAddr,
    pub(crate) dialled: SocketAddr,
}

/// What the called device says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// From the next byte on it is the copy that speaks.
    Ok,
    /// The caller may not.
    Refused,
    /// There is no such copy here.
    NoCopy,
    /// The copy does not take connections.
    Unreachable,
    /// Too many streams.
    Busy,
    /// Another version.
    Unknown,
}

const ANSWERS: [(u8, Answer); 6] = [
    (0, Answer::Ok),
    (1, Answer::Refused),
    (2, Answer::NoCopy),
    (3, Answer::Unreachable),
    (4, Answer::Busy),
    (5, Answer::Unknown),
];

impl Open {
    pub(crate) fn new(placement: PlacementId, request: &Request) -> Self {
        let &Request { client, dialled, ref network, protocol, port } = request;
        Self { placement, protocol, port, network: network.clone(), client, dialled }
    }

    pub(crate) fn request(&self) -> Request {
        let &Self { ref network, client, dialled, protocol, port, .. } = self;
        Request { client, dialled, network: network.clone(), protocol, port }
    }
}

impl Asked {
    pub(crate) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let body = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let length = u16::try_from(body.len()).map_err(io::Error::other)?;
        let mut all = vec![VERSION];
        all.extend(length.to_le_bytes());
        all.extend(body);
        to.write_all(&all).await?;
        to.flush().await
    }

    /// None: it is of another version or makes no sense.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut head = [0; 3];
        from.read_exact(&mut head).await?;
        let [version, low, high] = head;
        let length = usize::from(u16::from_le_bytes([low, high]));
        if version != VERSION || length > MAX_OPEN {
            return Ok(None);
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).await?;
        Ok(postcard::from_bytes(&body).ok())
    }
}

impl Answer {
    pub(crate) async fn write(self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let byte = ANSWERS.iter().find(|(_, answer)| *answer == self).map_or(5, |found| found.0);
        to.write_all(&[byte]).await?;
        to.flush().await
    }

    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let byte = from.read_u8().await?;
        Ok(ANSWERS.iter().find(|(known, _)| *known == byte).map_or(Self::Unknown, |found| found.1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(port: u16, network: Option<&str>) -> Open {
        Open {
            placement: PlacementId(u64::MAX),
            protocol: PortProtocol::Tcp,
            port,
            network: network.map(|name| name.parse().unwrap()),
            client: "[fd00:1:2:3:4:5:6:7]:65535".parse().unwrap(),
            dialled: "[fd00:1:2:3:4:5:6:8]:65535".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn the_longest_request_is_read_as_it_was_written() {
        let longest = "a".repeat(63);
        for asked in [Asked::Line, Asked::Copy(open(80, None)), Asked::Copy(open(65535, Some(&longest)))] {
            let mut wire = vec![];
            asked.write(&mut wire).await.unwrap();
            assert_eq!(Asked::read(&mut wire.as_slice()).await.unwrap(), Some(asked));
        }
    }

    #[tokio::test]
    async fn each_answer_is_read_as_it_was_written_and_others_are_unknown() {
        for (_, answer) in ANSWERS {
            let mut wire = vec![];
            answer.write(&mut wire).await.unwrap();
            assert_eq!(Answer::read(&mut wire.as_slice()).await.unwrap(), answer);
        }
        assert_eq!(Answer::read(&mut [77_u8].as_slice()).await.unwrap(), Answer::Unknown);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(Asked::read(&mut bytes.as_slice()));
        }
    }
}

//! Devices that cannot reach each other meet at the hub. Each keeps one connection with it while it is needed; the hub joins
//! a stream of one with a stream of the other. Inside runs the devices' own TLS, so the hub sees who speaks with whom and
//! how much, and nothing else.

mod device;
mod hub;

use std::io;

use outrigger_protocol::DeviceName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) use device::{Relay, keep};
pub use hub::{Admission, Door, serve};

/// First byte of each stream.
const VERSION: u8 = 1;
/// Streams of one device at a time: it needs one for each other device.
const STREAMS: usize = 64;

/// What the hub says to a device that wants to reach another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    /// The other one hears from now on.
    Here,
    /// It has no connection with the hub.
    Away,
    /// It has too many.
    Busy,
}

pub(crate) async fn write_name(to: &mut (impl AsyncWrite + Unpin), name: &DeviceName) -> io::Result<()> {
    let text = name.as_str().as_bytes();
    let length = u8::try_from(text.len()).map_err(io::Error::other)?;
    to.write_all(&[&[VERSION, length], text].concat()).await?;
    to.flush().await
}

pub(crate) async fn read_name(from: &mut (impl AsyncRead + Unpin)) -> io::Result<DeviceName> {
    let mut head = [0; 2];
    from.read_exact(&mut head).await?;
    let [version, length] = head;
    if version != VERSION {
        return Err(io::Error::other("another version"));
    }
    let mut text = vec![0; usize::from(length)];
    from.read_exact(&mut text).await?;
    String::from_utf8(text).map_err(io::Error::other)?.parse().map_err(io::Error::other)
}

impl Met {
    async fn write(self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let byte = match self {
            Self::Here => 0,
            Self::Away => 1,
            Self::Busy => 2,
        };
        to.write_all(&[byte]).await?;
        to.flush().await
    }

    async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        match from.read_u8().await? {
            0 => Ok(Self::Here),
            1 => Ok(Self::Away),
            2 => Ok(Self::Busy),
            other => Err(io::Error::other(format!("the hub says {other}, which means nothing"))),
        }
    }
}

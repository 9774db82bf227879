//! The agent's end of the control socket.

use std::io;
use std::path::Path;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::frame::{FrameError, read, write};
use super::{Observed, Wanted};

/// Hears the proxy.
#[derive(Debug)]
pub struct Client {
    hears: OwnedReadHalf,
}

/// Speaks to the proxy.
#[derive(Debug)]
pub struct Speaking {
    speaks: OwnedWriteHalf,
}

impl Client {
    /// To the proxy that listens at `path`.
    ///
    /// # Errors
    /// If nobody does, or we must not.
    pub async fn connect(path: &Path) -> io::Result<(Self, Speaking)> {
        let (hears, speaks) = UnixStream::connect(path).await?.into_split();
        Ok((Self { hears }, Speaking { speaks }))
    }

    /// How the proxy does; comes at once after connecting, and then when it changes. None: the proxy has ended, or another
    /// agent has taken this one's place. Not to be cancelled: half a message would be lost.
    ///
    /// # Errors
    /// If the socket fails or what comes makes no sense.
    pub async fn next(&mut self) -> Result<Option<Observed>, FrameError> {
        read(&mut self.hears).await
    }
}

impl Speaking {
    /// Says all that is wanted from now on.
    ///
    /// # Errors
    /// If the proxy is gone.
    pub async fn say(&mut self, wanted: &Wanted) -> Result<(), FrameError> {
        write(&mut self.speaks, wanted).await
    }
}

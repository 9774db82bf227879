//! Messages on the control socket: their length in four bytes (little endian), then postcard.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest message: the largest routes that a hub sends (4 MiB) and as much again for what the device adds.
const MAX_FRAME: usize = 8 * 1024 * 1024;

/// The other side cannot be understood, or is gone.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The socket.
    #[error("the control socket failed")]
    Socket(#[from] io::Error),
    /// Too long.
    #[error("a message of {0} bytes on the control socket is longer than {MAX_FRAME}")]
    TooLong(usize),
    /// Makes no sense.
    #[error("a message on the control socket makes no sense; are agent and proxy of one version?")]
    Malformed(#[source] postcard::Error),
}

/// Reads one message; none: the other side has closed.
pub(crate) async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<T>, FrameError> {
    let mut length = [0; 4];
    if from.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[1..]).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    // Grows with what arrives, not with what was announced.
    let mut body = vec![];
    if from.take(length as u64).read_to_end(&mut body).await? < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    postcard::from_bytes(&body).map(Some).map_err(FrameError::Malformed)
}

/// Writes one message.
pub(crate) async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<(), FrameError> {
    let body = postcard::to_stdvec(message).map_err(FrameError::Malformed)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME);
    let length = length.ok_or(FrameError::TooLong(body.len()))?;
    to.write_all(&length.to_le_bytes()).await?;
    to.write_all(&body).await?;
    Ok(to.flush().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Observed;

    async fn read_from(bytes: &[u8]) -> Result<Option<Observed>, FrameError> {
        read(&mut { bytes }).await
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_an_end_between_messages_is_one() {
        let told = Observed { mesh_port: Some(7643), trouble: Some("no nft".into()), ..Observed::default() };
        let mut wire = vec![];
        write(&mut wire, &told).await.unwrap();
        assert_eq!(read_from(&wire).await.unwrap(), Some(told));
        assert_eq!(read_from(&[]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn half_a_message_a_huge_one_and_nonsense_are_refused() {
        assert!(matches!(read_from(&[9, 0]).await, Err(FrameError::Socket(_))));
        assert!(matches!(read_from(&[9, 0, 0, 0, 1]).await, Err(FrameError::Socket(_))));
        assert!(matches!(read_from(&[255, 255, 255, 255]).await, Err(FrameError::TooLong(_))));
        assert!(matches!(read_from(&[2, 0, 0, 0, 255, 255]).await, Err(FrameError::Malformed(_))));
    }
}

//! Handing questions on to the device's resolvers, as they are, under a number and a port that nobody can guess.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::Question;

/// How long one resolver is waited for before the next is asked; the C library's own patience is 5 s for each.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes of an answer by UDP.
const UDP: usize = 4096;

/// How the question came, and how it is handed on: an answer that was too long for UDP is asked for again by TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// The first answer of these resolvers, asked one after the other; none: nobody has answered.
pub(super) async fn forward(
    question: &Question,
    bytes: &[u8],
    servers: &[SocketAddr],
    transport: Transport,
) -> Option<Vec<u8>> {
    for server in servers {
        let id = fastrand::u16(..);
        let mut asked = bytes.to_vec();
        asked.get_mut(..2)?.copy_from_slice(&id.to_be_bytes());
        let asking = async {
            match transport {
                Transport::Udp => by_udp(question, &asked, id, *server).await,
                Transport::Tcp => by_tcp(question, &asked, id, *server).await,
            }
        };
        if let Ok(Ok(mut answer)) = timeout(PATIENCE, asking).await {
            answer.get_mut(..2)?.copy_from_slice(&question.id().to_be_bytes());
            return Some(answer);
        }
    }
    None
}

async fn by_udp(question: &Question, asked: &[u8], id: u16, server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // Connected: the kernel drops what comes from elsewhere, and tells at once where nobody listens.
    socket.connect(server).await?;
    socket.send(asked).await?;
    let mut buffer = vec![0; UDP];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if question.is_answered_by(answer, id) {
            return Ok(answer.to_vec());
        }
    }
}

async fn by_tcp(question: &Question, asked: &[u8], id: u16, server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(asked.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], asked].concat()).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    if question.is_answered_by(&answer, id) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

//! Many connections at once: what they cost, and that one source does not take all of them.

use std::net::{IpAddr, SocketAddr};

use outrigger_trust::testing::TestAuthority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Copy, Device, LOOPBACK, ask, eventually};

/// A connection from this address that a copy has answered; an error: it was refused.
async fn connect(from: IpAddr, open: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let mut stream = socket.connect(open).await?;
    stream.write_all(b"who\n").await?;
    stream.read_exact(&mut [0]).await?;
    Ok(stream)
}

fn files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_of_one_source_are_held_and_another_source_is_served() {
    let copy = Copy::start("one", [127, 5, 1, 1], 0).await;
    let mut device = Device::start(&TestAuthority::new(), "a").await;
    device.run_copy(1, copy.address);
    device.endpoint(1, None);
    let open = device.publish(copy.port);
    device.want().await;
    eventually(async || ask(open).await.ok()).await;
    // All ends of all connections are files of this one process; where it may have few, fewer are asked for.
    let share = usize::try_from(files()).unwrap_or(usize::MAX).saturating_sub(384) / 2 / 4;
    let wanted = 10_000.min(share.saturating_sub(16)).min(usize::try_from(files() / 5).unwrap_or(usize::MAX));
    let mut held = Vec::with_capacity(wanted);
    while held.len() < wanted {
        held.push(connect(LOOPBACK, open).await.unwrap());
    }
    // All are still there and answered.
    for stream in held.iter_mut().step_by(97) {
        stream.write_all(b"who\n").await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
    }
    let other = connect("127.5.1.2".parse().unwrap(), open).await;
    assert!(other.is_ok(), "somebody else is served while one holds {}", held.len());
    drop(held);
    eventually(async || ask(open).await.ok()).await;
    device.stop().await;
}

//! Many connections at once: what they cost, and that one source does not take all of them.

use std::net::{IpAddr, SocketAddr};

use outrigger_trust::testing::TestAuthority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::{Copy, Device, LONG, LOOPBACK, ask, eventually};

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

/// Different for each connection and at each place of it.
fn answer_to(question: u8) -> Vec<u8> {
    (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 16) as u8 ^ question).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_slow_readers_than_there_are_pipes_each_get_their_own_answer_whole() {
    let listener = TcpListener::bind("127.5.2.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (told, writers) = tokio::sync::watch::channel(0_usize);
    tokio::spawn(async move {
        loop {
            let (mut copy, _) = listener.accept().await.unwrap();
            let told = told.clone();
            tokio::spawn(async move {
                let Ok(question) = copy.read_u8().await else { return };
                let answer = answer_to(question);
                copy.write_all(&answer[..100_000]).await.unwrap();
                told.send_modify(|count| *count += 1);
                copy.write_all(&answer[100_000..]).await.unwrap();
            });
        }
    });
    let mut device = Device::start(&TestAuthority::new(), "a").await;
    device.run_copy(1, at.ip());
    device.endpoint(1, None);
    let open = device.publish(at.port());
    device.want().await;
    let mut readers = vec![];
    for question in 0..80 {
        let mut reader = eventually(async || TcpStream::connect(open).await.ok()).await;
        reader.write_u8(question).await.unwrap();
        readers.push(reader);
    }
    // All are under way before the first one reads.
    let mut writers = writers;
    tokio::time::timeout(LONG, writers.wait_for(|count| *count == readers.len())).await.unwrap().unwrap();
    for (question, mut reader) in (0..).zip(readers) {
        let mut got = vec![];
        reader.read_to_end(&mut got).await.unwrap();
        assert!(got == answer_to(question), "{} bytes of answer {question}", got.len());
    }
    device.stop().await;
}

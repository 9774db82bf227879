//! Services that allow it: requests are sent again to another copy, and only those that may be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use outrigger_protocol::Retry;
use outrigger_trust::testing::TestAuthority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Device, LONG, eventually};

/// What a copy does with a request.
#[derive(Clone, Copy)]
enum Manner {
    Answers,
    /// Closes the connection without a byte.
    HangsUp,
    /// Accepts, reads and never says anything.
    IsMute,
    /// Answers one request of each connection, and closes it when the next one comes.
    AnswersOnce,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn copy(address: [u8; 4], port: u16, manner: Manner) -> (u16, Arc<AtomicUsize>, JoinHandle<()>) {
    let listener = TcpListener::bind(SocketAddr::from((address, port))).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(behave(stream, manner, Arc::clone(&counter)));
        }
    });
    (port, requests, task)
}

async fn behave(mut stream: TcpStream, manner: Manner, requests: Arc<AtomicUsize>) {
    let mut buffer = [0; 4096];
    let mut answered = 0;
    while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
        requests.fetch_add(1, Ordering::SeqCst);
        match manner {
            Manner::HangsUp => return,
            Manner::AnswersOnce if answered == 1 => return,
            Manner::IsMute => std::future::pending().await,
            Manner::Answers | Manner::AnswersOnce => stream.write_all(ANSWER).await.unwrap(),
        }
        answered += 1;
    }
}

async fn device(port: u16, copies: u8, net: u8) -> (Device, SocketAddr) {
    let mut device = Device::start(&TestAuthority::new(), "a").await;
    for number in 1..=copies {
        device.run_copy(number.into(), [127, 4, net, number].into());
        device.endpoint(number.into(), None);
    }
    device.service().traffic.retry = Retry::IdempotentHttp;
    let open = device.publish(port);
    device.want().await;
    eventually(async || TcpStream::connect(open).await.ok()).await;
    (device, open)
}

async fn send(stream: &mut TcpStream, request: &str) -> std::io::Result<Vec<u8>> {
    let sent = async {
        stream.write_all(request.as_bytes()).await?;
        let mut got = vec![0; ANSWER.len()];
        stream.read_exact(&mut got).await?;
        Ok(got)
    };
    tokio::time::timeout(LONG, sent).await.expect("a client was left waiting")
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_be_repeated_is_when_its_copy_hangs_up() {
    let (port, _, _bad) = copy([127, 4, 1, 1], 0, Manner::HangsUp).await;
    let (_, _, _good) = copy([127, 4, 1, 2], port, Manner::Answers).await;
    let (device, open) = device(port, 2, 1).await;
    for _ in 0..50 {
        let mut client = TcpStream::connect(open).await.unwrap();
        assert_eq!(send(&mut client, GET).await.unwrap(), ANSWER);
        let put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(send(&mut client, put).await.unwrap(), ANSWER);
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_must_not_be_repeated_is_sent_once() {
    let (port, bad, _bad) = copy([127, 4, 2, 1], 0, Manner::HangsUp).await;
    let (device, open) = device(port, 1, 2).await;
    let mut client = TcpStream::connect(open).await.unwrap();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    send(&mut client, post).await.unwrap_err();
    assert_eq!(bad.load(Ordering::SeqCst), 1);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_accepts_and_never_answers_is_helped_out_by_another() {
    let (port, mute, _mute) = copy([127, 4, 3, 1], 0, Manner::IsMute).await;
    let (_, _, _good) = copy([127, 4, 3, 2], port, Manner::Answers).await;
    let (device, open) = device(port, 2, 3).await;
    eventually(async || {
        let mut client = TcpStream::connect(open).await.unwrap();
        assert_eq!(send(&mut client, GET).await.unwrap(), ANSWER);
        (mute.load(Ordering::SeqCst) > 0).then_some(())
    })
    .await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_a_connection_is_helped_also_after_its_copy_has_closed() {
    let (port, _, _one) = copy([127, 4, 4, 1], 0, Manner::AnswersOnce).await;
    let (device, open) = device(port, 1, 4).await;
    let mut client = TcpStream::connect(open).await.unwrap();
    for _ in 0..20 {
        assert_eq!(send(&mut client, GET).await.unwrap(), ANSWER);
    }
    // What is no HTTP passes as it comes.
    let mut other = TcpStream::connect(open).await.unwrap();
    assert_eq!(send(&mut other, "\u{1}\u{2}hello\r\n\r\n").await.unwrap(), ANSWER);
    device.stop().await;
}

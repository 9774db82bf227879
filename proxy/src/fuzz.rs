//! What fuzz targets see of the inside: each parser of bytes from containers, other devices and the agent, with what must
//! hold where the bytes make sense. A panic says that something is wrong; the answer, whether they made sense.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a panic is how a target says that something is wrong")]

use std::net::IpAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;

use crate::control::{Mesh, Observed, Wanted, frame};
use crate::dns::message::{Question, Unasked};
use crate::http::request::{Request, Shape, look};
use crate::http::response::{Progress, Response};
use crate::mesh::{Asked, called};
use crate::relay::{read_name, write_name};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// What containers ask the name server.
#[must_use]
pub fn dns(bytes: &[u8]) -> bool {
    let all: Vec<IpAddr> = (0..200).map(|last| IpAddr::from([10, 0, 0, last])).collect();
    match Question::read(bytes) {
        Ok(question) => {
            let room = question.room();
            for answer in [question.addresses(&all), question.pointer("web.shop")] {
                let answer = Question::bytes(&answer, room).unwrap_or_default();
                // A question may fill a datagram by itself; what we add never makes it longer than there is room for.
                assert!(answer.len() <= room.max(bytes.len() + 11), "{} bytes for {}", answer.len(), bytes.len());
            }
            assert!(!question.is_answered_by(bytes, question.id()), "a question passes for an answer");
            true
        }
        Err(Unasked::Answered(answer)) => {
            assert!(answer.len() <= bytes.len(), "nonsense is answered with more than it was");
            false
        }
        Err(Unasked::Silence) => false,
    }
}

/// What clients ask by HTTP, the first byte's lowest bit aside, and what copies answer.
#[must_use]
pub fn http(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    if kind & 1 == 0 { http_request(bytes) } else { http_response(bytes, kind & 2 != 0) }
}

fn http_request(bytes: &[u8]) -> bool {
    let Request::Repeatable { length, .. } = look(bytes) else { return false };
    assert!(0 < length && length <= bytes.len(), "a request of {length} in {} bytes", bytes.len());
    // What follows changes nothing, and less is not the whole.
    assert_eq!(look(&bytes[..length]), look(bytes), "a request depends on what follows it");
    assert!(!matches!(look(&bytes[..length - 1]), Request::Repeatable { .. }), "a request has two ends");
    true
}

/// The same answer must end the same way in whatever pieces it comes.
fn http_response(bytes: &[u8], is_head: bool) -> bool {
    let shape = Shape { is_head, is_last: false };
    let follow = |piece: usize| {
        let mut response = Response::new(shape);
        let mut passed = 0;
        for part in bytes.chunks(piece) {
            passed += part.len();
            match response.pass(part) {
                Progress::More => (),
                end => return (end, passed),
            }
        }
        (Progress::More, passed)
    };
    let (whole, single) = (follow(bytes.len().max(1)), follow(1));
    // In one piece, what follows an end is seen, and the connection is not used again.
    let is_same = whole.0 == single.0 || (whole.0 == Progress::Last && single.1 < bytes.len());
    assert!(is_same, "{whole:?} at once, {single:?} byte by byte");
    single.0 == Progress::Done
}

/// How streams of other devices begin, names at the meeting point, and what agent and proxy say to each other; the first
/// byte says which.
#[must_use]
pub fn frames(bytes: &[u8]) -> bool {
    let Some((kind, mut bytes)) = bytes.split_first() else { return false };
    block_on(async {
        match kind % 4 {
            0 => match Asked::read(&mut bytes).await {
                Ok(Some(asked)) => {
                    let mut wire = vec![];
                    asked.write(&mut wire).await.unwrap();
                    assert_eq!(Asked::read(&mut wire.as_slice()).await.unwrap(), Some(asked));
                    true
                }
                _ => false,
            },
            1 => match read_name(&mut bytes).await {
                Ok(name) => {
                    let mut wire = vec![];
                    write_name(&mut wire, &name).await.unwrap();
                    assert_eq!(read_name(&mut wire.as_slice()).await.unwrap(), name);
                    true
                }
                Err(_) => false,
            },
            2 => control::<Wanted>(bytes).await,
            _ => control::<Observed>(bytes).await,
        }
    })
}

async fn control<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(mut bytes: &[u8]) -> bool {
    let Ok(Some(message)) = frame::read::<T>(&mut bytes).await else { return false };
    let mut wire = vec![];
    frame::write(&mut wire, &message).await.unwrap();
    assert_eq!(frame::read(&mut wire.as_slice()).await.unwrap(), Some(message), "a message changes when it is sent on");
    true
}

/// A connection of another device, with all its streams, whose caller sends this and goes away. Made sense: a stream was
/// opened.
#[must_use]
pub fn streams(bytes: &[u8]) -> bool {
    block_on(async {
        let (mut caller, wire) = tokio::io::duplex(bytes.len().max(64));
        let (give, mut take) = tokio::sync::mpsc::channel(8);
        let serve = tokio::spawn(called(wire, give));
        caller.write_all(bytes).await.unwrap();
        caller.shutdown().await.unwrap();
        // What is answered is read, so that nothing waits for room.
        let read = tokio::spawn(async move { tokio::io::copy(&mut caller, &mut tokio::io::sink()).await });
        let mut opened = 0;
        while let Some(mut stream) = take.recv().await {
            opened += 1;
            let _ = Asked::read(&mut stream).await;
        }
        serve.await.unwrap();
        read.abort();
        opened > 0
    })
}

/// What an agent says to its proxy, and what it hears, as they are sent: where mutations begin.
#[must_use]
pub fn messages() -> (Vec<u8>, Vec<u8>) {
    let wanted = Wanted {
        device: "pi-7".parse().unwrap(),
        mesh: Some(Mesh { identity: "/var/lib/outrigger/agent/identity".into(), port: 7643, hub: "hub.lan".into() }),
        networks: vec![],
        copies: vec![],
        routes: outrigger_protocol::Routes::default(),
    };
    let observed = Observed { mesh_port: Some(7643), trouble: Some("no nft".into()), ..Observed::default() };
    (postcard::to_stdvec(&wanted).unwrap(), postcard::to_stdvec(&observed).unwrap())
}

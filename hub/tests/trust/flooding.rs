//! A device or stranger that does too much harms only itself.

use std::time::Duration;

use outrigger_hub::broker::Happening;
use outrigger_protocol::{Channel, DeviceName, UpMessage};
use rumqttc::v5::mqttbytes::QoS;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::support::{Client, SOON, World, report, topic};

/// Memory of this process in bytes.
fn memory() -> u64 {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// S41: what a packet's header claims costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_claims_to_be_huge_ends_its_connection_and_takes_no_memory() {
    let mut world = World::start().await;
    let (bad, good) = (world.device("bad").await, world.device("good").await);
    let other = good.connect(&world).await;
    let before = memory();
    // 2 MiB, 256 MiB, and the four bytes that say more than a length can.
    for claimed in [&[0x80, 0x80, 0x80, 0x01][..], &[0xff, 0xff, 0xff, 0x7f], &[0xff, 0xff, 0xff, 0xff]] {
        let stream = TcpStream::connect(world.broker.address).await.unwrap();
        let name = rustls::pki_types::ServerName::from(world.broker.address.ip());
        let mut stream = TlsConnector::from(bad.tls()).connect(name, stream).await.unwrap();
        stream.write_all(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03bad").await.unwrap();
        let _ = stream.write_all(&[&[0x30], claimed, &[0; 1024]].concat()).await;
        let mut rest = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("the connection was not ended");
    }
    assert!(memory() < before + 32 * 1024 * 1024, "{} then {}", before, memory());
    assert_eq!(world.garbage_of().await.as_str(), "bad", "the operator hears of it");
    other.report("good", 1).await;
    assert_eq!(world.heard_of("good").await, 1);
}

/// S42: those who never finish their handshake are let go, and do not keep others out.
#[tokio::test(flavor = "multi_thread")]
async fn many_connections_that_say_nothing_disturb_nobody() {
    let mut world = World::start().await;
    let (device, late) = (world.device("pi").await, world.device("late").await);
    let client = device.connect(&world).await;
    let mut idle = Vec::new();
    for _ in 0..1500 {
        match timeout(Duration::from_secs(1), TcpStream::connect(world.broker.address)).await {
            Ok(Ok(stream)) => idle.push(stream),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    assert!(idle.len() > 500, "{}", idle.len());
    client.report("pi", 1).await;
    assert_eq!(world.heard_of("pi").await, 1);
    // The strangers' places are free again after the time that a handshake may take.
    let deadline = outrigger_hub::clock::now() + Duration::from_secs(25);
    while Client::dial(late.options(&world)).answer().await.is_err() {
        assert!(outrigger_hub::clock::now() < deadline, "a device did not get in");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let closed = timeout(SOON, async {
        for stream in &mut idle {
            let _ = stream.read(&mut [0; 16]).await;
        }
    });
    closed.await.expect("a connection that says nothing was not closed");
}

/// S43: the flood is stopped at its own socket. That it is cut off in the end is shown with a clock of its own, beside the
/// code that counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_sends_without_end_is_slowed_down_and_the_others_are_heard_at_once() {
    let mut world = World::start().await;
    let (bad, good) = (world.device("bad").await, world.device("good").await);
    let (flood, other) = (bad.connect(&world).await, good.connect(&world).await);
    let at = topic("bad", Channel::Report);
    let flooding = tokio::spawn(async move {
        let mut sent = 0_u32;
        while flood.client.publish(at.clone(), QoS::AtMostOnce, false, report(sent)).await.is_ok() {
            sent += 1;
        }
    });
    let began = outrigger_hub::clock::now();
    let (mut from_bad, mut slowest) = (0, Duration::ZERO);
    for round in 0..20 {
        let asked = outrigger_hub::clock::now();
        other.report("good", round).await;
        loop {
            let (device, message) = world.heard().await;
            match message {
                UpMessage::Report(report) if device.as_str() == "good" => break assert_eq!(report.sequence, round),
                _ => from_bad += 1,
            }
        }
        slowest = slowest.max(outrigger_hub::clock::now().since(asked));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    flooding.abort();
    let seconds = outrigger_hub::clock::now().since(began).as_secs() + 1;
    assert!(slowest < Duration::from_secs(1), "a well-behaved device waited {slowest:?}");
    assert!(from_bad > 100, "the flood did not come about: {from_bad}");
    assert!(from_bad <= 700 + 100 * seconds, "{from_bad} messages of the flood in {seconds} s");
}

impl World {
    /// The device of whose nonsense the broker tells next.
    async fn garbage_of(&mut self) -> DeviceName {
        match timeout(SOON, self.happenings.recv()).await.expect("nothing was told").unwrap() {
            Happening::Garbage { device, .. } => device,
            other => panic!("{other:?}"),
        }
    }

    /// The number of the next report of this device.
    async fn heard_of(&mut self, device: &str) -> u32 {
        loop {
            if let (heard, UpMessage::Report(report)) = self.heard().await
                && heard.as_str() == device
            {
                return report.sequence;
            }
        }
    }
}

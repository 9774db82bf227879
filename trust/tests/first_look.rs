//! The first look at a hub, against servers that are what they seem and servers that are not (S14).

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use outrigger_trust::testing::TestAuthority;
use outrigger_trust::{
    CertificateDer, ConnectError, DeviceKey, Identity, Pin, PrivateKeyDer, UnixTime, authority_behind, chain_of,
    client_config_for, server_config, shake_hands,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection};

const PATIENCE: Duration = Duration::from_secs(10);

type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What a server saw of one connection.
#[derive(Debug, Default)]
struct Record {
    /// All bytes that came, encrypted or not.
    raw: Vec<u8>,
    /// Bytes that came behind the first message of the handshake.
    behind_hello: usize,
    /// What was said inside the encryption.
    said: Vec<u8>,
}

fn resolver((chain, key): Chain) -> Arc<dyn ResolvesServerCert> {
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
}

/// Serves one connection and tells what it saw.
fn serve(config: ServerConfig) -> (u16, mpsc::Receiver<Record>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
        let mut record = Record::default();
        let mut bytes = [0; 4096];
        loop {
            while tls.wants_write() {
                if tls.write_tls(&mut socket).is_err() {
                    break;
                }
            }
            let Ok(count @ 1..) = socket.read(&mut bytes) else { break };
            if !record.raw.is_empty() {
                record.behind_hello += count;
            }
            record.raw.extend(&bytes[..count]);
            let mut rest = &bytes[..count];
            while !rest.is_empty() {
                if tls.read_tls(&mut rest).is_err() || tls.process_new_packets().is_err() {
                    break;
                }
                let _ = tls.reader().read_to_end(&mut record.said);
            }
        }
        let _ = socket.flush();
        sender.send(record).unwrap();
    });
    (port, receiver)
}

fn hub(chain: Chain) -> (u16, mpsc::Receiver<Record>) {
    serve(server_config(resolver(chain), None).unwrap())
}

#[test]
fn the_pinned_authority_is_found_behind_its_hub() {
    let authority = TestAuthority::new();
    let (port, record) = hub(authority.server(&["localhost", "127.0.0.1"]));
    let pin = Pin::of(&authority.certificate());
    assert_eq!(authority_behind("127.0.0.1", port, pin, PATIENCE).unwrap(), authority.certificate());
    assert_eq!(record.recv().unwrap().said, b"", "nothing is said, even to the right one");
}

#[test]
fn not_a_byte_is_sent_after_a_wrong_pin() {
    let (right, wrong) = (TestAuthority::new(), TestAuthority::new());
    let (port, record) = hub(wrong.server(&["127.0.0.1"]));
    let error = authority_behind("127.0.0.1", port, Pin::of(&right.certificate()), PATIENCE).unwrap_err();
    assert!(matches!(error, ConnectError::OtherAuthority { .. }), "{error}");
    let record = record.recv().unwrap();
    assert_eq!((record.behind_hello, record.said), (0, vec![]), "not even the end of the handshake");
}

#[test]
fn showing_the_right_authority_without_its_signature_is_of_no_use() {
    let (right, wrong) = (TestAuthority::new(), TestAuthority::new());
    let (mut chain, key) = wrong.server(&["127.0.0.1"]);
    chain[1] = right.certificate();
    let (port, record) = hub((chain, key));
    let error = authority_behind("127.0.0.1", port, Pin::of(&right.certificate()), PATIENCE).unwrap_err();
    assert!(matches!(error, ConnectError::NotSigned { .. }), "{error}");
    assert_eq!(record.recv().unwrap().behind_hello, 0);
}

#[test]
fn a_device_of_the_fleet_cannot_play_the_hub() {
    let authority = TestAuthority::new();
    let key = DeviceKey::fresh().unwrap();
    let chain = authority.device(&key.request("pi").unwrap());
    let (port, _record) = hub((chain, key.to_der()));
    let error = authority_behind("127.0.0.1", port, Pin::of(&authority.certificate()), PATIENCE).unwrap_err();
    assert!(matches!(error, ConnectError::NotSigned { .. }), "{error}");
}

#[test]
fn without_a_pin_the_chain_is_shown_and_proves_nothing() {
    let authority = TestAuthority::new();
    let (port, _record) = hub(authority.server(&["elsewhere"]));
    let chain = chain_of("127.0.0.1", port, PATIENCE).unwrap();
    assert_eq!(chain.last(), Some(&authority.certificate()));
}

#[test]
fn what_is_no_hub_is_told_apart() {
    let look = |port| authority_behind("127.0.0.1", port, Pin([0; 32]), Duration::from_millis(300)).unwrap_err();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().port();
    assert!(matches!(look(silent), ConnectError::Broken { .. }), "a server that says nothing");
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut socket, _) = plain.accept().unwrap();
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        socket
    });
    assert!(matches!(look(port), ConnectError::Tls { .. }), "a server without TLS");
    drop(server.join());
    drop(listener);
    assert!(matches!(look(silent), ConnectError::Connect { .. }), "nobody");
    let nameless = authority_behind("no such name", 1, Pin([0; 32]), PATIENCE).unwrap_err();
    assert!(matches!(nameless, ConnectError::Name(_)));
}

fn device(authority: &TestAuthority) -> Identity {
    let key = DeviceKey::fresh().unwrap();
    Identity { chain: authority.device(&key.request("pi").unwrap()), key: key.to_der() }
}

/// A handshake of a device of `devices` with a hub of `hub` that is called `name`, where the device looks for `localhost`.
fn shake(
    hub: &TestAuthority,
    devices: &TestAuthority,
    name: &str,
    floor: Option<UnixTime>,
) -> Result<(), ConnectError> {
    let config = server_config(resolver(hub.server(&[name])), Some(&[hub.certificate()])).unwrap();
    let (port, _record) = serve(config);
    let config = client_config_for("localhost", &[hub.certificate()], Some(device(devices)), floor).unwrap();
    // By its address, as the MQTT crate does: the name in the certificate is what counts.
    shake_hands("127.0.0.1", port, config, PATIENCE)
}

#[test]
fn hub_and_device_of_one_authority_trust_each_other_and_no_others() {
    let (authority, other) = (TestAuthority::new(), TestAuthority::new());
    shake(&authority, &authority, "localhost", None).unwrap();
    let kind = |result: Result<(), ConnectError>| match result.unwrap_err() {
        ConnectError::Tls { source, .. } => outrigger_trust::trouble_of(&source),
        error => panic!("{error}"),
    };
    use outrigger_trust::Trouble::{OursRefused, ServerOtherName};
    assert_eq!(kind(shake(&authority, &other, "localhost", None)), OursRefused);
    assert_eq!(kind(shake(&authority, &authority, "elsewhere", None)), ServerOtherName);
}

#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

#[test]
fn a_port_for_devices_lets_nobody_in_without_a_certificate() {
    let authority = TestAuthority::new();
    let config = server_config(resolver(authority.server(&["localhost"])), Some(&[authority.certificate()])).unwrap();
    let (port, _record) = serve(config);
    let config = client_config_for("localhost", &[authority.certificate()], None, None).unwrap();
    let error = shake_hands("127.0.0.1", port, config, PATIENCE).unwrap_err();
    let ConnectError::Tls { source, .. } = error else { panic!("{error}") };
    assert_eq!(outrigger_trust::trouble_of(&source), outrigger_trust::Trouble::OursMissing);
    assert!(server_config(Arc::new(Nobody), Some(&[])).is_err(), "no authority is no open door");
}

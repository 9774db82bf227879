//! The units give hub and agent no more of the machine than they need, as systemd itself judges; and what systemd does for them
//! works.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use outrigger_tests::clock::eventually;
use outrigger_tests::real::place;
use outrigger_tests::real::process::Process;

/// Tenths of systemd's scale from 0 (nothing to reach) to 10.
const MOST_EXPOSED: f32 = 3.0;

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("systemd").join(name);
    path.to_str().unwrap().to_owned()
}

fn exposure(name: &str) -> f32 {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager", &unit(name)]);
    let output = command.output().expect("systemd-analyze is needed; tests/setup installs it");
    let text = String::from_utf8_lossy(&output.stdout);
    let overall = text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{text}"));
    let number = overall.split_whitespace().find_map(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("{overall}"))
}

#[test]
fn hub_agent_and_proxy_are_little_exposed() {
    for name in ["outrigger-hub.service", "outrigger-agent.service", "outrigger-proxy.service"] {
        let exposure = exposure(name);
        assert!(exposure <= MOST_EXPOSED, "{name}: {exposure}");
    }
}

#[test]
fn the_proxy_starts_when_the_agent_comes_to_its_socket_and_leaves_the_socket_to_systemd() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let folder = tempfile::tempdir().unwrap();
    let (socket, log) = (folder.path().join("control.sock"), folder.path().join("log"));
    let proxy = place::program("outrigger-proxy").unwrap();
    let (listen, proxy) = (socket.to_str().unwrap(), proxy.to_str().unwrap());
    let scope = format!("units_{}", std::process::id());
    let words = ["--listen", listen, proxy, "--scope", &scope];
    // What systemd does for the socket unit: it listens, and hands the socket over when somebody comes.
    let activated = Process::start("systemd-socket-activate".as_ref(), words, &log).unwrap();
    eventually("the socket is there", PATIENCE, || UnixStream::connect(&socket).map(drop)).unwrap();
    let (mut stream, _) = eventually("somebody listens", PATIENCE, || UnixStream::connect(&socket)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap_or_else(|error| {
        panic!("the proxy says nothing of itself: {error}\n{}", std::fs::read_to_string(&log).unwrap_or_default())
    });
    assert!((1..4096).contains(&u32::from_le_bytes(length)), "a message begins with its length: {length:?}");
    activated.stop().unwrap();
    assert!(socket.exists(), "the next one is handed the same socket");
}

//! The proxy as it ships beside HAProxy: how much passes, how long it takes, and what it costs. Prints the table of
//! BENCHMARKS.md. Needs root, and the packages of `tests/setup bench`; `tests/bench network` prepares both.
//!
//! Two devices are network namespaces with a cable; the first has processor 0, the second processor 1. On one device, the
//! proxy has processor 1, client and copy have processor 0. Each proxy has one thread.

#![allow(missing_docs)]

mod clock;
mod figures;
mod held;
mod latency;
mod load;
mod ours;
mod place;
mod program;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use outrigger_trust::testing::TestAuthority;
use outrigger_trust::{DeviceKey, pem_of_certificates};

use load::{Duel, Load, Subject};
use ours::Ours;
use place::Place;
use program::{Haproxy, Program, nginx_config};

const ROUNDS: usize = 5;
const SMALL: Load = Load { path: "/small", connections: 32, is_kept_alive: true };
const FRESH: Load = Load { is_kept_alive: false, ..SMALL };
const PIECE: Load = Load { path: "/64k", ..SMALL };
const LARGE: Load = Load { path: "/64m", connections: 2, is_kept_alive: true };
/// Connections that are held; fewer where a process may not have twice as many files.
const HELD: usize = 10_000;
/// Between devices.
const HELD_STREAMS: usize = 2_000;
/// Files of a proxy beside those of its connections.
const SPARE_FILES: u64 = 1024;

const NGINX: u16 = 8081;
const OURS: &str = "127.0.0.1:9001";
const HAPROXY: &str = "127.0.0.1:9002";

fn main() -> Result<()> {
    // `cargo test --benches` runs this too, and must not need root.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let program = std::env::var_os("OUTRIGGER_PROXY").map(PathBuf::from).context("OUTRIGGER_PROXY names no program")?;
    let rounds = std::env::var("BENCH_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_asked = |part: &str| asked.is_empty() || asked.iter().any(|one| one == part);
    let folder = tempfile::tempdir()?;
    let bench = Bench { program, rounds, folder: folder.path().to_owned(), fleet: TestAuthority::new() };
    figures::head();
    if is_asked("device") {
        bench.one_device(&is_asked)?;
    }
    if is_asked("devices") {
        bench.two_devices(&is_asked)?;
    }
    Ok(())
}

struct Bench {
    program: PathBuf,
    rounds: usize,
    folder: PathBuf,
    fleet: TestAuthority,
}

impl Bench {
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    fn one_device(&self, is_asked: &dyn Fn(&str) -> bool) -> Result<()> {
        let folder = self.folder("device")?;
        let place = Place::new("a")?;
        let _copy = copy(&place, 0, &folder)?;
        let haproxy = Haproxy { listen: HAPROXY, server: &format!("127.0.0.1:{NGINX}") };
        let haproxy = haproxy_at(&place, 1, &haproxy, &folder, "one")?;
        let mut ours = Ours::start(&self.program, &self.fleet, &place, 1, "a", &folder)?;
        ours.publish_local(1, port_of(OURS), NGINX)?;
        let one = Subject { address: OURS, programs: vec![&ours.program] };
        let other = Subject { address: HAPROXY, programs: vec![&haproxy] };
        let duel = |load| Duel::run(self.rounds, load, &place, 0, &one, &other);
        println!("| proxy, RSS, idle | {} KiB | {} KiB | | | | |", ours.program.rss_kib()?, haproxy.rss_kib()?);
        if self.rounds == 0 {
            return self.rest_of_one_device(is_asked, &place, &one, &other);
        }
        figures::requests("one device, kept alive", &duel(SMALL)?, "≥ 0.9");
        figures::requests("one device, a connection for each request", &duel(FRESH)?, "≥ 0.9");
        figures::bytes("one device, answers of 64 KiB", &duel(PIECE)?, "≥ 0.9");
        figures::bytes("one device, answers of 64 MiB", &duel(LARGE)?, "");
        self.rest_of_one_device(is_asked, &place, &one, &other)
    }

    /// What is not counted in rounds at full load.
    fn rest_of_one_device(
        &self,
        is_asked: &dyn Fn(&str) -> bool,
        place: &Place,
        one: &Subject<'_>,
        other: &Subject<'_>,
    ) -> Result<()> {
        if is_asked("latency") {
            self.latency("one device", place, one, other)?;
        }
        if is_asked("held") {
            held("one device", place, held_at_most(), one, other)?;
        }
        Ok(())
    }

    fn two_devices(&self, is_asked: &dyn Fn(&str) -> bool) -> Result<()> {
        let folder = self.folder("devices")?;
        let (a, b) = (Place::new("a")?, Place::new("b")?);
        a.cable("10.77.0.1", &b, "10.77.0.2")?;
        let _copy = copy(&b, 1, &folder)?;
        let (authority, caller, called) = self.certificates(&folder)?;
        let back = Haproxy {
            listen: &format!("10.77.0.2:9443 ssl crt {called} ca-file {authority} verify required ssl-min-ver TLSv1.3"),
            server: &format!("127.0.0.1:{NGINX}"),
        };
        let front = Haproxy {
            listen: HAPROXY,
            server: &format!(
                "10.77.0.2:9443 ssl crt {caller} ca-file {authority} verify required verifyhost b ssl-min-ver TLSv1.3"
            ),
        };
        let back = haproxy_at(&b, 1, &back, &folder, "back")?;
        let front = haproxy_at(&a, 0, &front, &folder, "front")?;
        let mut ours_a = Ours::start(&self.program, &self.fleet, &a, 0, "a", &folder)?;
        let mut ours_b = Ours::start(&self.program, &self.fleet, &b, 1, "b", &folder)?;
        ours_a.publish_remote(1, port_of(OURS), NGINX, "10.77.0.1".parse()?, &mut ours_b, "10.77.0.2".parse()?)?;
        let one = Subject { address: OURS, programs: vec![&ours_a.program, &ours_b.program] };
        let other = Subject { address: HAPROXY, programs: vec![&front, &back] };
        let duel = |load| Duel::run(self.rounds, load, &a, 0, &one, &other);
        if self.rounds > 0 {
            figures::requests("two devices, TLS both ways, kept alive", &duel(SMALL)?, "≥ 0.7");
            figures::requests("two devices, a connection for each request", &duel(FRESH)?, "≥ 0.7");
            figures::bytes("two devices, answers of 64 KiB", &duel(PIECE)?, "≥ 0.7");
            figures::bytes("two devices, answers of 64 MiB", &duel(LARGE)?, "");
        }
        if is_asked("held") {
            held("two devices", &a, HELD_STREAMS, &one, &other)?;
        }
        Ok(())
    }

    /// Added to what the copy alone takes, at half of the load that the slower of both bears.
    fn latency(&self, what: &str, place: &Place, ours: &Subject<'_>, theirs: &Subject<'_>) -> Result<()> {
        let at = |address: &str, rate: f64| latency::at_rate(place, 0, address.parse()?, rate);
        let most = |subject: &Subject<'_>| at(subject.address, f64::INFINITY).map(|seen| seen.requests_per_second);
        let asked = std::env::var("BENCH_RATE").ok().and_then(|text| text.parse().ok());
        let rate = match asked {
            Some(rate) => rate,
            None => most(ours)?.min(most(theirs)?) / 2.0,
        };
        let direct = format!("127.0.0.1:{NGINX}");
        let (mut added, mut their_added) = (vec![], vec![]);
        for _ in 0..self.rounds.max(ROUNDS) {
            let alone = at(&direct, rate)?.p99.as_secs_f64();
            added.push(at(ours.address, rate)?.p99.as_secs_f64() - alone);
            their_added.push(at(theirs.address, rate)?.p99.as_secs_f64() - alone);
        }
        let (ours, theirs) = (figures::median(added) * 1e3, figures::median(their_added) * 1e3);
        println!("| {what}, p99 added at {rate:.0} requests/s | {ours:.2} ms | {theirs:.2} ms | | | | ≤ 0.3 ms |");
        Ok(())
    }

    /// Paths of the authority's certificate, and of those of caller and called with their keys.
    fn certificates(&self, folder: &Path) -> Result<(String, String, String)> {
        let write = |name: &str, text: &str| -> Result<String> {
            let path = folder.join(name);
            std::fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        let authority = write("authority.pem", &pem_of_certificates(&[self.fleet.certificate()]))?;
        let key = DeviceKey::fresh()?;
        let chain = self.fleet.device(&key.request("a")?);
        let caller = write("caller.pem", &format!("{}{}", pem_of_certificates(&chain), key.reveal_pem().as_str()))?;
        let (chain, key) = self.fleet.server(&["b"]);
        let key = outrigger_trust::testing::pem_of_key(&key);
        let called = write("called.pem", &format!("{}{key}", pem_of_certificates(&chain)))?;
        Ok((authority, caller, called))
    }
}

/// What is to be held, as far as a process may have files.
fn held_at_most() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    HELD.min(usize::try_from(files.saturating_sub(SPARE_FILES) / 2).unwrap_or(HELD))
}

fn copy(place: &Place, cpu: usize, folder: &Path) -> Result<Program> {
    let mut command = place.command(cpu, "nginx");
    command.arg("-c").arg(nginx_config(folder, NGINX)?);
    Program::start(command, &folder.join("nginx.log"), Some((place, &format!("127.0.0.1:{NGINX}"))))
}

fn haproxy_at(place: &Place, cpu: usize, haproxy: &Haproxy<'_>, folder: &Path, name: &str) -> Result<Program> {
    let mut command = place.command(cpu, "haproxy");
    command.arg("-db").arg("-f").arg(haproxy.write(folder, name, held_at_most() + 100)?);
    let address = haproxy.listen.split_whitespace().next().unwrap_or_default();
    Program::start(command, &folder.join(format!("{name}.log")), Some((place, address)))
}

fn held(what: &str, place: &Place, connections: usize, ours: &Subject<'_>, theirs: &Subject<'_>) -> Result<()> {
    let one = |subject: &Subject<'_>| held::hold(place, 0, subject.address.parse()?, connections, &subject.programs);
    let (ours, theirs) = (one(ours)?, one(theirs)?);
    println!(
        "| {what}, memory for each of {} connections that rest | {} bytes | {} bytes | | | | ≤ 8 KiB |",
        ours.connections,
        ours.bytes_each(),
        theirs.bytes_each()
    );
    Ok(())
}

fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address of this file has a port")
}

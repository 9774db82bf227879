//! What the service answers, and how it misbehaves.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::http::{self, Request};

const MIB: usize = 1024 * 1024;
const MAX_WAIT_MS: u64 = 10_000;
const DRIP: Duration = Duration::from_millis(100);

struct Service {
    /// The whole answer to `GET /`; nothing in it changes while the process lives.
    about: String,
    healthy: AtomicBool,
    started: AtomicBool,
    eaten: Mutex<Vec<Vec<u8>>>,
}

/// Serves until the process ends; an error means that it could not begin.
pub fn run() -> Result<(), String> {
    let port = setting("PORT").unwrap_or_else(|| "8080".to_owned());
    let listener = listen(&port).map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    let service = Arc::new(Service {
        about: about(),
        healthy: AtomicBool::new(!is_set("UNHEALTHY")),
        started: AtomicBool::new(false),
        eaten: Mutex::default(),
    });
    start_after_delay(&service)?;
    if let Some(port) = setting("UDP_PORT") {
        let socket = UdpSocket::bind(format!("[::]:{port}")).or_else(|_| UdpSocket::bind(format!("0.0.0.0:{port}")));
        let socket = socket.map_err(|error| format!("cannot listen on UDP port {port}: {error}"))?;
        thread::spawn(move || echo(&socket));
    }
    if is_set("CHATTY") {
        thread::spawn(chat);
    }
    println!("web: listens on port {port}");
    for stream in listener.incoming().flatten() {
        let service = Arc::clone(&service);
        thread::spawn(move || {
            // A client that goes away is its own business.
            let _ = service.serve(&stream);
        });
    }
    Ok(())
}

/// Ends the process as a broken program would.
pub fn crash(reason: &str) {
    eprintln!("web: crashes: {reason}");
    std::process::exit(1);
}

impl Service {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        http::limit(stream)?;
        let mut reader = BufReader::new(stream);
        loop {
            if reader.fill_buf()?.is_empty() {
                return Ok(());
            }
            let Some(request) = http::read_request(&mut reader)? else {
                return http::answer(stream, 400, "this is not HTTP/1.1\n", false);
            };
            if request.path == "/drip" {
                return drip(stream);
            }
            let (status, body) = self.respond(&request);
            http::answer(stream, status, &body, request.stays)?;
            if !request.stays {
                return Ok(());
            }
        }
    }

    fn respond(&self, request: &Request) -> (u16, String) {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") => (200, self.about.clone()),
            ("GET", "/wait") => self.wait(&request.query),
            ("GET", "/healthz") => self.health(),
            ("POST", "/unhealthy") => self.turn(false),
            ("POST", "/healthy") => self.turn(true),
            (_, "/crash") => {
                crash("a request asked for it");
                (500, String::new())
            }
            (_, "/eat") => self.eat(&request.query),
            _ => (404, "no such page\n".to_owned()),
        }
    }

    fn health(&self) -> (u16, String) {
        if !self.started.load(Ordering::Relaxed) {
            return (503, "starting\n".to_owned());
        }
        if self.healthy.load(Ordering::Relaxed) {
            (200, "healthy\n".to_owned())
        } else {
            (500, "unhealthy\n".to_owned())
        }
    }

    fn turn(&self, healthy: bool) -> (u16, String) {
        self.healthy.store(healthy, Ordering::Relaxed);
        (200, format!("healthy: {healthy}\n"))
    }

    fn wait(&self, query: &str) -> (u16, String) {
        let Some(ms) = query.strip_prefix("ms=").and_then(|number| number.parse().ok()).filter(|ms| *ms <= MAX_WAIT_MS)
        else {
            return (400, format!("say how long: /wait?ms=N, at most {MAX_WAIT_MS}\n"));
        };
        thread::sleep(Duration::from_millis(ms));
        (200, self.about.clone())
    }

    fn eat(&self, query: &str) -> (u16, String) {
        let Some(mib) = query.strip_prefix("mib=").and_then(|number| number.parse::<usize>().ok()) else {
            return (400, "say how much: /eat?mib=N\n".to_owned());
        };
        for _ in 0..mib {
            // Ones, not zeros: the kernel hands out zeroed pages only when they are touched, and these must count.
            self.eaten.lock().unwrap_or_else(PoisonError::into_inner).push(vec![1; MIB]);
        }
        (200, format!("ate {mib} MiB\n"))
    }
}

fn about() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let field = |name, value: Option<String>| format!("{name}: {}\n", value.as_deref().unwrap_or("-").trim());
    [
        field("hostname", Some(host)),
        field("replica", setting("OUTRIGGER_REPLICA")),
        field("device", setting("OUTRIGGER_DEVICE")),
        field("version", setting("VERSION")),
    ]
    .concat()
}

/// Both families where the kernel has IPv6, otherwise IPv4 alone.
fn listen(port: &str) -> io::Result<TcpListener> {
    TcpListener::bind(format!("[::]:{port}")).or_else(|_| TcpListener::bind(format!("0.0.0.0:{port}")))
}

fn start_after_delay(service: &Arc<Service>) -> Result<(), String> {
    let Some(text) = setting("HEALTHY_AFTER") else {
        service.started.store(true, Ordering::Relaxed);
        return Ok(());
    };
    let delay = crate::seconds(&text)?;
    let service = Arc::clone(service);
    thread::spawn(move || {
        thread::sleep(delay);
        service.started.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Until the client goes away.
fn drip(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n")?;
    for drop in 1_u64.. {
        stream.write_all(format!("drop {drop}\n").as_bytes())?;
        thread::sleep(DRIP);
    }
    Ok(())
}

fn echo(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    let who = [setting("OUTRIGGER_REPLICA"), setting("OUTRIGGER_DEVICE")].map(Option::unwrap_or_default).join(" ");
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        let _ = socket.send_to(format!("{who} {text}").as_bytes(), from);
    }
}

fn chat() {
    for line in 1_u64.. {
        // Nobody reads any more: go on serving.
        if writeln!(io::stdout(), "web: line {line}").is_err() {
            return;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

fn setting(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_set(name: &str) -> bool {
    setting(name).is_some_and(|value| value != "0")
}

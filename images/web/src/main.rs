//! The sample service: says who and where it is, and misbehaves on request.
//!
//! It is the only process of a `FROM scratch` container, so it brings its own health check (`web check URL`), starts in
//! about a millisecond, and ends at once on SIGTERM. What it answers is `key: value` lines, for people and for tests.
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET /` | host name, replica, device, version |
//! | `GET /wait?ms=N` | the same after N milliseconds (at most 10 000), like a page that takes time to make |
//! | `GET /healthz` | 200, or 500 while unhealthy, or 503 before `HEALTHY_AFTER` |
//! | `POST /unhealthy`, `POST /healthy` | changes that answer |
//! | `/crash` | ends with exit code 1 |
//! | `/eat?mib=N` | takes N MiB of memory and keeps it |
//! | `/drip` | an answer without an end: a line each tenth of a second |
//!
//! Settings are environment variables: `PORT` (8080), `UDP_PORT` (answers there with replica, device and what it got; none),
//! `VERSION`, `UNHEALTHY=1`, `HEALTHY_AFTER=SECONDS`, `CHATTY=1`.

mod check;
mod client;
mod http;
mod service;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

const USAGE: &str =
    "usage: web [serve | check URL | crash-after SECONDS | resolve NAME | get URL | udp HOST:PORT TEXT]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] | ["serve"] => serve(None),
        ["check", url] => check::check(url),
        ["resolve", name] => client::resolve(name),
        ["get", url] => client::get(url),
        ["udp", to, text] => client::udp(to, text),
        ["crash-after", text] => seconds(text).and_then(|delay| serve(Some(delay))),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("web: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn serve(crash_after: Option<Duration>) -> Result<(), String> {
    end_on_signals()?;
    if let Some(delay) = crash_after {
        thread::spawn(move || {
            thread::sleep(delay);
            service::crash("it was asked to crash by now");
        });
    }
    service::run()
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().map_err(|_| format!("not a number of seconds: {text}"))?;
    Duration::try_from_secs_f64(number).map_err(|error| format!("not a time to wait: {text}: {error}"))
}

/// Must run before any other thread starts: threads inherit the blocked signals, so that only this one takes them.
fn end_on_signals() -> Result<(), String> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block().map_err(|error| format!("cannot block signals: {error}"))?;
    thread::spawn(move || {
        let signal = signals.wait();
        println!("web: ends ({})", signal.map_or("?", Signal::as_str));
        std::process::exit(0);
    });
    Ok(())
}

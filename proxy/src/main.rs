//! The program `outrigger-proxy`.
//!
//! A program of its own, and not a command of the agent: each of both then has in memory only what it needs itself.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use lexopt::{Arg, ValueExt};
use outrigger_proxy::{Control, RunError, Settings, log};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

/// A line for whoever reads; that he has gone (`| head`) is no fault of ours.
macro_rules! say {
    ($($words:tt)*) => {{ let _ = writeln!(std::io::stdout(), $($words)*); }};
}

const HELP: &str = "\
Moves the bytes of Outrigger's service network on this device. The service manager starts it, or the agent does.

Usage: outrigger-proxy [OPTIONS]

Options:
      --socket <PATH>  Where the agent speaks to it [default: the socket that the service manager hands over]
      --scope <SCOPE>  Tells its rules in the kernel from those of other agents on this device [default: outrigger]
      --detach         Start it as a process that does not end with this one; needs --socket
  -h, --help           Print help
  -V, --version        Print version
";

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Run(Settings),
    Detach { socket: PathBuf, scope: Option<OsString> },
    Help,
    Version,
}

/// Why the program ends at once.
#[derive(Debug, Error)]
enum StartError {
    #[error("the command line makes no sense")]
    Words(#[source] lexopt::Error),
    #[error("--detach needs --socket: nobody hands a socket to a process that detaches itself")]
    NoSocket,
    #[error("cannot start a process that goes on alone")]
    Detach(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Run(#[from] RunError),
}

fn main() -> ExitCode {
    // The device's key, and what users send each other, must not land in a core dump.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        eprintln!("outrigger-proxy: core dumps cannot be turned off: {error}");
    }
    let Err(error) = read(std::env::args_os().skip(1)).and_then(follow) else { return ExitCode::SUCCESS };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    eprintln!("outrigger-proxy: {text}");
    let is_usage = matches!(error, StartError::Words(_) | StartError::NoSocket);
    if is_usage {
        eprintln!("For more information, try '--help'.");
    }
    ExitCode::from(if is_usage { 2 } else { 1 })
}

fn read(words: impl IntoIterator<Item = OsString>) -> Result<Told, StartError> {
    let mut words = lexopt::Parser::from_args(words);
    let (mut socket, mut scope, mut is_detached) = (None, None, false);
    while let Some(word) = words.next().map_err(StartError::Words)? {
        match word {
            Arg::Long("socket") => socket = Some(PathBuf::from(words.value().map_err(StartError::Words)?)),
            Arg::Long("scope") => scope = Some(words.value().map_err(StartError::Words)?),
            Arg::Long("detach") => is_detached = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(Told::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Told::Version),
            _ => return Err(StartError::Words(word.unexpected())),
        }
    }
    if is_detached {
        return socket.map(|socket| Told::Detach { socket, scope }).ok_or(StartError::NoSocket);
    }
    let scope = scope.map(|scope| scope.string().map_err(StartError::Words)).transpose()?;
    let control = socket.map_or(Control::Handed, Control::Path);
    Ok(Told::Run(Settings::new(control, scope.unwrap_or_else(|| "outrigger".to_owned()))))
}

fn follow(told: Told) -> Result<(), StartError> {
    match told {
        Told::Run(settings) => run(settings),
        Told::Detach { socket, scope } => detach(socket, scope).map_err(StartError::Detach),
        Told::Help => {
            say!("{}", HELP.trim_end());
            Ok(())
        }
        Told::Version => {
            say!("outrigger-proxy {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

/// The proxy in a session of its own, as a child of nobody who waits for it: whoever ran this process gets no orphan to
/// look after, and no signal to this process's group or terminal reaches the proxy.
fn detach(socket: PathBuf, scope: Option<OsString>) -> io::Result<()> {
    // An error means that this process leads a group already, which is as good.
    let _ = rustix::process::setsid();
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--socket").arg(socket).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(scope) = scope {
        command.arg("--scope").arg(scope);
    }
    command.spawn().map(drop)
}

fn run(settings: Settings) -> Result<(), StartError> {
    log::to_stderr();
    // One thread moves more than a small board's network does, and each further one costs memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(256 * 1024)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()
        .map_err(StartError::Runtime)?;
    let ran = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
        // It has no settings to read again; without this the signal would end it.
        let _hang_up = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
        let told_to_end = async {
            tokio::select! { // both may be cancelled: a receive loses nothing
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
        };
        Ok(outrigger_proxy::run(settings, told_to_end).await?)
    });
    // What still blocks, such as a name that does not resolve, must not hold up the end.
    runtime.shutdown_background();
    ran
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn told(words: &str) -> Result<Told, String> {
        read(words.split_whitespace().map(OsString::from)).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn it_listens_where_it_is_told_or_where_systemd_listens() {
        assert_eq!(told(""), Ok(Told::Run(Settings::new(Control::Handed, "outrigger".to_owned()))));
        let path = Control::Path("/run/p.sock".into());
        assert_eq!(told("--socket /run/p.sock --scope=a"), Ok(Told::Run(Settings::new(path, "a".to_owned()))));
        let detached = Told::Detach { socket: "/run/p.sock".into(), scope: Some("a".into()) };
        assert_eq!(told("--scope a --detach --socket /run/p.sock"), Ok(detached));
    }

    #[test]
    fn words_that_make_no_sense_are_refused() {
        for words in ["--detach", "--socket", "--sokcet /run/p.sock", "proxy", "-x", "--detach=1 --socket a"] {
            assert!(told(words).is_err(), "{words}");
        }
    }

    #[test]
    fn help_names_every_option() {
        for option in ["--socket", "--scope", "--detach", "-h, --help", "-V, --version"] {
            assert!(HELP.contains(option), "{option}");
        }
        assert_eq!((told("-h"), told("--version")), (Ok(Told::Help), Ok(Told::Version)));
    }
}

//! The program `outrigger-agent`.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use outrigger_agent::args::{Args, Command};
use outrigger_agent::config::{Config, EngineChoice};
use outrigger_agent::engine::docker::{DockerConfig, DockerEngine, Flavour};
use outrigger_agent::engine::memory::{Behaviour, MemoryEngine};
use outrigger_agent::{run, signals};
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    match args.command {
        Some(Command::Version) => {
            println!("outrigger-agent {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        None => (),
    }
    log_to_stderr();
    let config = args.config()?;
    // One thread is enough, and each further one costs memory. Blocking calls (saving, resolving names) are rare and small.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(256 * 1024)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let shutdown = signals::shutdown().context("cannot listen for signals")?;
    let docker = |socket, flavour| {
        let (scope, device) = (config.scope.clone(), config.device.clone());
        DockerEngine::new(DockerConfig { socket, flavour, scope, device })
    };
    match config.engine.clone() {
        EngineChoice::Docker(socket) => run::run(config.clone(), docker(socket, Flavour::Docker), shutdown).await?,
        EngineChoice::Podman(socket) => run::run(config.clone(), docker(socket, Flavour::Podman), shutdown).await?,
        EngineChoice::Memory => {
            let engine = MemoryEngine::new(Behaviour::default());
            run::run(config, engine, shutdown).await?;
        }
    }
    Ok(())
}

fn log_to_stderr() {
    let level = std::env::var("OUTRIGGER_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

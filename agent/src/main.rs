//! The program `outrigger-agent`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use outrigger_agent::args::{self, Args, Asked, Command, JoinArgs};
use outrigger_agent::clock::Clock;
use outrigger_agent::config::{Config, EngineChoice};
use outrigger_agent::doctor::{self, Networking, Subject, Verdict};
use outrigger_agent::engine::Engine;
use outrigger_agent::engine::docker::{DockerConfig, DockerEngine, Flavour};
use outrigger_agent::engine::memory::{Behaviour, MemoryEngine};
use outrigger_agent::files::FilesDir;
use outrigger_agent::identity::IdentityDir;
use outrigger_agent::join::{self, By, Wish};
use outrigger_agent::leave::Leaving;
use outrigger_agent::mqtt::Route;
use outrigger_agent::policy::Policy;
use outrigger_agent::probe::{self, OwnFacts, Root};
use outrigger_agent::signals::{Signals, Told};
use outrigger_agent::state::{StateDir, StateError};
use outrigger_agent::{proxy_link, run};
use outrigger_protocol::{ByeReason, FleetId};
use outrigger_proxy::log;

/// A line for whoever reads; that he has gone (`| head`) is no fault of ours.
macro_rules! say {
    ($($words:tt)*) => {{ let _ = writeln!(std::io::stdout(), $($words)*); }};
}

/// How often a device that has not joined looks whether it has.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Time for the engine to say what runs, before a join.
const ENGINE_PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    // The key, and what containers are told, must not land in a core dump.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        eprintln!("outrigger-agent: core dumps cannot be turned off: {error}");
    }
    let args = match args::read(std::env::args_os().skip(1)) {
        Ok(Asked::Run(args)) => *args,
        Ok(Asked::Help(text)) => {
            say!("{}", text.trim_end());
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Version) => {
            say!("outrigger-agent {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("outrigger-agent: {error}\n\nFor more information, try '--help'.");
            // As programs say that they were called wrongly.
            return ExitCode::from(2);
        }
    };
    match start(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("outrigger-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<ExitCode> {
    // One thread is enough, and each further one costs memory. Blocking calls (saving, resolving names) are rare and small.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(256 * 1024)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()
        .context("cannot start the runtime")?;
    let result = match &args.command {
        Some(Command::Join(how)) => runtime.block_on(join(&args, how)).map(|()| ExitCode::SUCCESS),
        Some(Command::Doctor) => runtime.block_on(examine(args.config()?)),
        Some(Command::Leave { yes }) => runtime.block_on(leave_fleet(args.config()?, *yes)),
        None => {
            log::to_stderr();
            runtime.block_on(serve(&args)).map(|()| ExitCode::SUCCESS)
        }
    };
    // What still blocks, such as a name that does not resolve, must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn join(args: &Args, how: &JoinArgs) -> anyhow::Result<()> {
    let config = args.config_for_join()?;
    let by = match &how.token {
        Some(token) => By::Invite(join::token(token)?),
        None => By::Code { about: about() },
    };
    let url = match &how.url {
        Some(url) => url.parse()?,
        None => {
            let found = tokio::task::spawn_blocking(join::find).await.context("cannot look for hubs")??;
            say!("Found the hub {} at {}.", found.name, found.url);
            found.url
        }
    };
    let holds = holds(&config).await;
    let wish = Wish { url, by, name: config.device, holds, state_dir: config.state_dir, again: how.again };
    let joined = wish.join(|code| show(&wish, code)).await?;
    say!("Joined {} as `{}`. A running agent connects by itself within seconds.", wish.url, joined.device);
    say!(
        "To look at this device: sudo outrigger-agent doctor; to start the agent: sudo systemctl enable --now outrigger-agent"
    );
    Ok(())
}

/// Whoever stands before the device reads the code here and tells it to the hub.
fn show(wish: &Wish, code: &str) {
    say!("\nWhere you work, within a quarter of an hour:\n\n    outrigger device approve {code}\n");
    say!("Waiting for {} to let `{}` in. Ctrl-C gives up.", wish.url, wish.name);
}

/// What the list of devices that wait shows of this one.
fn about() -> String {
    let Some(facts) = probe::facts(&Root::real(), OwnFacts::default()) else { return String::new() };
    let memory = format!("{:.1} GB", facts.memory.0 as f64 / 1e9);
    let parts = [facts.board, Some(facts.os), Some(facts.arch.to_string()), Some(memory)];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The fleet whose replicas the device still has, by what it keeps or by its containers. Where the engine does not answer
/// the hub cannot be warned, and the device says later whose it is.
async fn holds(config: &Config) -> Option<FleetId> {
    if let Some(fleet) = StateDir::fleet_in(&config.state_dir) {
        return Some(fleet);
    }
    let (socket, flavour) = match config.engine.clone() {
        EngineChoice::Docker(socket) => (socket, Flavour::Docker),
        EngineChoice::Podman(socket) => (socket, Flavour::Podman),
        EngineChoice::Memory => return None,
    };
    let engine = docker(config, &Arc::new(config.load_policy()), socket, flavour);
    let listed = tokio::time::timeout(ENGINE_PATIENCE, engine.list()).await.ok()?.ok()?;
    listed.iter().find_map(|container| container.fleet)
}

/// Waits until the device has joined, so that the agent can be installed and started before.
async fn joined(args: &Args) -> anyhow::Result<Config> {
    let mut is_told = false;
    loop {
        let config = args.config()?;
        if config.insecure_local || IdentityDir::of(&config.state_dir).device()?.is_some() {
            return Ok(config);
        }
        if !is_told {
            tracing::warn!(
                "this device has not joined a hub and waits; on the hub `outrigger device invite`, here the line that it prints"
            );
            is_told = true;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let mut config = loop {
        // Both may be cancelled: waiting holds nothing, and no signal is lost. It reads its settings again by itself.
        tokio::select! {
            told = signals.next() => if told != Told::Reload { return Ok(()) },
            config = joined(args) => break config?,
        }
    };
    while serve_once(config.clone(), &mut signals).await? == After::Reload {
        match args.config() {
            Ok(read) => config = read,
            Err(error) => tracing::warn!("the former settings stay in force: {:#}", anyhow::Error::from(error)),
        }
    }
    Ok(())
}

/// What comes after the agent has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    End,
    /// It begins anew in the same process.
    Reload,
}

/// Runs the agent until a signal ends it or has it read its files again. The latter is a restart like any other: the hub is
/// told so, containers go on and are adopted, and everything that depends on a setting or on the owner's policy is made
/// from what the files say then.
async fn serve_once(config: Config, signals: &mut Signals) -> anyhow::Result<After> {
    let policy = Arc::new(config.load_policy());
    let mut after = After::End;
    let shutdown = async {
        match signals.next().await {
            Told::End(reason) => reason,
            Told::Reload => {
                tracing::info!("settings and the owner's policy are read again");
                after = After::Reload;
                ByeReason::Restart
            }
        }
    };
    match config.engine.clone() {
        EngineChoice::Docker(socket) => {
            let engine = docker(&config, &policy, socket, Flavour::Docker);
            run::run(config, policy, engine, shutdown).await?;
        }
        EngineChoice::Podman(socket) => {
            let engine = docker(&config, &policy, socket, Flavour::Podman);
            run::run(config, policy, engine, shutdown).await?;
        }
        EngineChoice::Memory => {
            let engine = MemoryEngine::new(Behaviour::default());
            run::run(config, policy, engine, shutdown).await?;
        }
    }
    Ok(after)
}

/// Exit code 0 if the device belongs to no fleet now, 1 if it was not to be.
async fn leave_fleet(config: Config, is_sure: bool) -> anyhow::Result<ExitCode> {
    let state = match StateDir::open(&config.state_dir) {
        Err(StateError::InUse { .. }) => {
            anyhow::bail!("the agent runs; stop it first: `systemctl stop outrigger-agent`");
        }
        opened => opened?,
    };
    let policy = Arc::new(config.load_policy());
    let engine = |socket, flavour| docker(&config, &policy, socket, flavour);
    match config.engine.clone() {
        EngineChoice::Docker(socket) => leave_with(&config, &state, &engine(socket, Flavour::Docker), is_sure).await,
        EngineChoice::Podman(socket) => leave_with(&config, &state, &engine(socket, Flavour::Podman), is_sure).await,
        EngineChoice::Memory => leave_with(&config, &state, &MemoryEngine::new(Behaviour::default()), is_sure).await,
    }
}

async fn leave_with<E: Engine>(
    config: &Config,
    state: &StateDir,
    engine: &E,
    is_sure: bool,
) -> anyhow::Result<ExitCode> {
    let identity = IdentityDir::of(&config.state_dir);
    let leaving = Leaving::look(state, engine).await?;
    if leaving.is_nothing() && !identity.path().exists() {
        say!("this device belongs to no fleet");
        return Ok(ExitCode::SUCCESS);
    }
    let fleet = leaving.fleet.map_or_else(|| "an unknown fleet".to_owned(), |fleet| format!("fleet {fleet}"));
    say!("this device belongs to {fleet}; leaving it stops and removes {} containers", leaving.containers.len());
    for container in &leaving.containers {
        say!("  {}", container.replica);
    }
    if !is_sure && !is_confirmed()? {
        say!("nothing has been changed");
        return Ok(ExitCode::FAILURE);
    }
    leaving.leave(state, engine).await?;
    FilesDir::of(&config.runtime_dir, config.device.as_str(), &config.state_dir).clear_all()?;
    // The key last: should something before fail, the device can still be heard and tell.
    identity.forget()?;
    say!("left; `outrigger-agent join` lets the device into another fleet");
    Ok(ExitCode::SUCCESS)
}

fn is_confirmed() -> anyhow::Result<bool> {
    anyhow::ensure!(std::io::stdin().is_terminal(), "nobody is there to be asked; --yes says that it is meant");
    write!(std::io::stdout(), "leave? [y/N] ").and_then(|()| std::io::stdout().flush()).context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Exit code 0 if this device is ready, 1 if something is wrong.
async fn examine(config: Config) -> anyhow::Result<ExitCode> {
    let policy = Arc::new(config.load_policy());
    let mut subject = Subject {
        root: Root::real(),
        unix: Clock.unix_ms() / 1_000,
        route: Route::of(&config),
        state_dir: config.state_dir.clone(),
        socket: None,
        policy: Policy::clone(&policy),
        networking: Networking {
            pool: config.network_pool,
            port: config.network_port,
            socket: proxy_link::Place::of(&config).socket().to_owned(),
        },
        files: FilesDir::of(&config.runtime_dir, config.device.as_str(), &config.state_dir).root().to_owned(),
    };
    let seen = match config.engine.clone() {
        EngineChoice::Docker(socket) => {
            subject.socket = Some(socket.clone());
            doctor::inspect(&subject, &docker(&config, &policy, socket, Flavour::Docker)).await
        }
        EngineChoice::Podman(socket) => {
            subject.socket = Some(socket.clone());
            doctor::inspect(&subject, &docker(&config, &policy, socket, Flavour::Podman)).await
        }
        EngineChoice::Memory => doctor::inspect(&subject, &MemoryEngine::new(Behaviour::default())).await,
    };
    let verdict =
        doctor::print(&doctor::findings(&seen), &mut std::io::stdout()).context("cannot write the findings")?;
    Ok(if verdict == Verdict::Wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn docker(config: &Config, policy: &Arc<Policy>, socket: PathBuf, flavour: Flavour) -> DockerEngine {
    let (scope, device) = (config.scope.clone(), config.device.clone());
    let files = FilesDir::of(&config.runtime_dir, device.as_str(), &config.state_dir);
    DockerEngine::new(DockerConfig { socket, flavour, scope, device, policy: Arc::clone(policy), files })
}

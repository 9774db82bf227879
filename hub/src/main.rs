//! `outrigger-hub`: reads flags and settings, runs the library, prints what went wrong once.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use outrigger_hub::allowed::allowed;
use outrigger_hub::broker_config::Devices;
use outrigger_hub::config::{Config, Origin, Raw};
use outrigger_hub::pki::{Authority, Old};
use outrigger_hub::{broker_config, clock, store};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A line for whoever reads; that he has gone (`| head`) is no fault of ours.
macro_rules! say {
    ($($words:tt)*) => {{ let _ = writeln!(std::io::stdout(), $($words)*); }};
}

/// The hub of an Outrigger fleet: it hears the devices, decides what runs where, and serves users.
#[derive(Debug, Parser)]
#[command(name = "outrigger-hub", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write everything in the store to a file, whether the hub runs or not
    Backup {
        /// The file; it must not be there yet
        file: PathBuf,
        #[command(flatten)]
        settings: Settings,
    },
    /// Make the store anew from a backup; the hub must not run
    Restore {
        /// A file that `backup` wrote
        file: PathBuf,
        /// Replace a store that is there
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Make a setup code, with which somebody becomes administrator; earlier codes count no longer
    SetupCode {
        #[command(flatten)]
        settings: Settings,
    },
    /// Put a new authority in place of the present one, whether the hub runs or not; devices move over by themselves
    RotateCa {
        /// Somebody may have the key of the present one: let it count no more, and have every device join anew
        #[arg(long)]
        forget_old: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Write the configuration of another broker, with the same rules as the embedded one
    BrokerConfig {
        /// Which broker
        broker: BrokerKind,
        /// Folder for the configuration, made if it is not there
        folder: PathBuf,
        /// A name or address of the broker, besides those of this machine; may be given several times
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Where it listens
        #[arg(long, default_value_t = 8883)]
        port: u16,
        /// Name the devices of the fleet in the rules, so that a removed one has no rights there (mosquitto); to be run
        /// again when devices have come or gone
        #[arg(long)]
        devices: bool,
        /// With --devices: write only the rules anew, and leave the broker's certificate and configuration as they are
        #[arg(long, requires = "devices")]
        rules_only: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BrokerKind {
    /// Eclipse Mosquitto 2
    Mosquitto,
    /// EMQX 5
    Emqx,
}

/// Each flag overrides the key of the same name in the file.
#[derive(Debug, Args)]
struct Settings {
    /// Settings file [default: /etc/outrigger/hub.toml, if it is there]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Folder of the store [default: /var/lib/outrigger-hub]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// Where the embedded broker listens [default: 0.0.0.0:8883]
    #[arg(long, value_name = "ADDR")]
    mqtt_listen: Option<String>,
    /// Where the HTTP API listens [default: 0.0.0.0:7640]
    #[arg(long, value_name = "ADDR")]
    http_listen: Option<String>,
    /// Port on which devices meet that cannot reach each other; `off`: they do not [default: 7642]
    #[arg(long, value_name = "PORT")]
    relay_port: Option<String>,
    /// Use this broker instead of the embedded one
    #[arg(long, value_name = "HOST:PORT")]
    external_broker: Option<String>,
    /// Interval at which agents report [default: 1s]
    #[arg(long, value_name = "TIME")]
    heartbeat: Option<String>,
    /// Silence after which a device gets nothing new [default: 3s]
    #[arg(long, value_name = "TIME")]
    suspect_after: Option<String>,
    /// Silence after which a device is lost and its replicas are replaced [default: 4s]
    #[arg(long, value_name = "TIME")]
    lost_after: Option<String>,
    /// The same after its connection broke [default: 2s]
    #[arg(long, value_name = "TIME")]
    lost_after_will: Option<String>,
    /// Use this broker only if this authority (a file) has signed its certificate; our own always may
    #[arg(long, value_name = "FILE")]
    external_broker_ca: Option<String>,
    /// Ask nobody who he is: no TLS, no tokens, and only on this machine (127.0.0.1:7640 and 127.0.0.1:1883)
    #[arg(long)]
    insecure_local: bool,
    /// Gone; it says what came instead
    #[arg(long, hide = true)]
    insecure_listen: bool,
}

impl Settings {
    fn load(&self) -> Result<Config> {
        let mut flags = Raw::default();
        let texts = [
            ("state_dir", &self.state_dir),
            ("mqtt_listen", &self.mqtt_listen),
            ("http_listen", &self.http_listen),
            ("relay_port", &self.relay_port),
            ("external_broker", &self.external_broker),
            ("external_broker_ca", &self.external_broker_ca),
            ("heartbeat", &self.heartbeat),
            ("suspect_after", &self.suspect_after),
            ("lost_after", &self.lost_after),
            ("lost_after_will", &self.lost_after_will),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                flags.set(key, value, Origin::Flag);
            }
        }
        for (key, is_given) in [("insecure_local", self.insecure_local), ("insecure_listen", self.insecure_listen)] {
            if is_given {
                flags.set(key, "true", Origin::Flag);
            }
        }
        Ok(Config::load(self.config.as_deref(), flags)?)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match carry_out(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(cli: Cli) -> Result<()> {
    match cli.command {
        None => run(cli.settings.load()?),
        Some(Command::Backup { file, settings }) => backup(&settings.load()?, &file),
        Some(Command::Restore { file, force, settings }) => {
            let restored = store::restore(&settings.load()?.state_dir, &file, force)?;
            let store::Restored { entries, fleet, epoch, path } = restored;
            say!("restored {entries} entries of fleet {fleet} into {}; the epoch is {epoch} now", path.display());
            Ok(())
        }
        Some(Command::SetupCode { settings }) => {
            let text = in_runtime(outrigger_hub::setup::setup_code(&settings.load()?))??;
            say!("{text}");
            Ok(())
        }
        Some(Command::RotateCa { forget_old, settings }) => rotate(&settings.load()?, forget_old),
        Some(Command::BrokerConfig { broker, folder, hosts, port, devices, rules_only, settings }) => {
            let kind = match broker {
                BrokerKind::Mosquitto => broker_config::Kind::Mosquitto,
                BrokerKind::Emqx => broker_config::Kind::Emqx,
            };
            let config = settings.load()?;
            let named = if devices { Some(in_runtime(allowed(&config))??) } else { None };
            let written = match (&named, kind) {
                (Some(named), broker_config::Kind::Mosquitto) if rules_only => {
                    vec![broker_config::write_rules(&folder, named)?]
                }
                (named, kind) => {
                    let devices = named.as_deref().map_or(Devices::All, Devices::Named);
                    broker_config::write(kind, &config.state_dir, &hosts, port, &folder, devices)?
                }
            };
            written.iter().for_each(|path| say!("wrote {}", path.display()));
            Ok(())
        }
        Some(Command::Version) => {
            say!("outrigger-hub {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

fn rotate(config: &Config, forget_old: bool) -> Result<()> {
    let (old, then) = match forget_old {
        false => (Old::Keep, "devices that are connected renew within seconds, the others when they come back"),
        true => (Old::Forget, "every device must join anew: `outrigger device invite --name NAME`"),
    };
    let new = Authority::rotate(&config.state_dir, old, clock::unix_ms() / 1000)?;
    say!("the authority is new; its fingerprint is {}", new.pin());
    say!("{then}");
    Ok(())
}

fn run(config: Config) -> Result<()> {
    start_log();
    // Two workers: one for the control task, one for connections. More cost memory and help only large fleets.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(async {
        let asked = asked_to_stop().context("cannot listen for signals")?;
        Ok(outrigger_hub::run::run(config, asked).await?)
    })
}

fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        // Both may be cancelled: a signal is lost to nobody, for either ends the hub.
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}

fn start_log() {
    // The broker crate logs each connection several times; ours says what matters.
    let asked = std::env::var("OUTRIGGER_LOG").ok().and_then(|text| text.parse().ok());
    // Not `EnvFilter`, which takes regular expressions along, and memory for them as long as the hub runs.
    let filter = asked
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO).with_target("mqtt5", LevelFilter::ERROR));
    let lines = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .finish();
    lines.with(filter).init();
}

fn backup(config: &Config, file: &std::path::Path) -> Result<()> {
    let bytes = in_runtime(outrigger_hub::backup::backup(config, file))??;
    say!("wrote {bytes} bytes to {}", file.display());
    Ok(())
}

fn in_runtime<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("cannot start the runtime")?.block_on(work))
}

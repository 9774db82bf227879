//! What each verb takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::amounts::parse_duration;

/// Which Compose file, and what it is read with.
#[derive(Debug, Args)]
pub struct ComposeFile {
    /// The Compose file; `-` is standard input. Given again, later files are merged over earlier ones [default:
    /// COMPOSE_FILE, else compose.yaml, compose.yml, docker-compose.yaml or docker-compose.yml in this folder, with its
    /// compose.override.yaml]
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also deploy the services of this profile; `*`: of all [default: COMPOSE_PROFILES]
    #[arg(long = "profile", value_name = "NAME")]
    pub profiles: Vec<String>,
    /// Name of the stack [default: COMPOSE_PROJECT_NAME, else the file's `name:`, else its folder]
    #[arg(short, long, visible_alias = "project-name", value_name = "NAME")]
    pub name: Option<String>,
    /// Set a variable of the file; it wins over the environment and `.env`
    #[arg(long = "var", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub variables: Vec<(String, String)>,
    /// Read variables from this file instead of `.env` beside the Compose file
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

/// `deploy`
#[derive(Debug, Args)]
pub struct Deploy {
    /// The file.
    #[command(flatten)]
    pub compose: ComposeFile,
    /// Show what would change and where each copy would run, and change nothing
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    /// Wait until all copies run
    #[arg(short, long)]
    pub wait: bool,
    /// How long to wait at most
    #[arg(long, value_parser = parse_duration, default_value = "5m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `ls`
#[derive(Debug, Args)]
pub struct Ls {
    /// Show the services of this stack
    pub stack: Option<String>,
}

/// `ps`
#[derive(Debug, Args)]
pub struct Ps {
    /// Only of this stack or service; a stack is meant where both have the name
    #[arg(value_name = "STACK|SERVICE")]
    pub of: Option<String>,
    /// Only on this device
    #[arg(short, long)]
    pub device: Option<String>,
}

/// `device …`
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Show all that is known about a device
    Show(DeviceName),
    /// Set labels (`zone=attic`) or take them away (`zone-`)
    Label(DeviceLabel),
    /// Give a device nothing new
    Cordon(DeviceNames),
    /// Give a device work again
    Uncordon(DeviceNames),
    /// Move a device's work elsewhere, gently
    Drain(DeviceDrain),
    /// Tell what would become of a device's replicas if it were lost; changes nothing
    WhatIfLost(DeviceName),
    /// Say that devices are switched off or destroyed, so that their work is replaced at once
    Lost(DeviceNames),
    /// Invite devices: prints the line to run on each
    Invite(super::Invite),
    /// Let a device in: a new one by the code that it shows, or one that is kept in quarantine by its name
    Approve(super::Approve),
    /// List new devices that wait to be let in by a code
    Pending,
    /// Forget a device that is gone
    Rm(DeviceNames),
}

/// One device.
#[derive(Debug, Args)]
pub struct DeviceName {
    /// The device
    pub device: String,
}

/// Devices.
#[derive(Debug, Args)]
pub struct DeviceNames {
    /// The devices
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<String>,
}

/// `device drain`
#[derive(Debug, Args)]
pub struct DeviceDrain {
    /// The devices
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<String>,
    /// Wait until nothing is left on them
    #[arg(short, long)]
    pub wait: bool,
    /// How long to wait at most
    #[arg(long, value_parser = parse_duration, default_value = "5m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `device label`
#[derive(Debug, Args)]
pub struct DeviceLabel {
    /// The device
    pub device: String,
    /// Labels to set or to take away
    #[arg(required = true, value_name = "KEY=VALUE|KEY-", value_parser = parse_label)]
    pub labels: Vec<LabelChange>,
}

/// One label set, or taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelChange {
    /// Its key.
    pub key: String,
    /// Its value; none: it is taken away.
    pub value: Option<String>,
}

/// `scale`
#[derive(Debug, Args)]
pub struct Scale {
    /// Services with the copies they are to have
    #[arg(required = true, value_name = "SERVICE=COPIES", value_parser = parse_scale)]
    pub targets: Vec<(String, u32)>,
    /// How to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// Whether and how long to wait.
#[derive(Debug, Args)]
pub struct Wait {
    /// Wait until all copies run
    #[arg(short, long)]
    pub wait: bool,
    /// How long to wait at most
    #[arg(long, value_parser = parse_duration, default_value = "5m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `restart`
#[derive(Debug, Args)]
pub struct Restart {
    /// The services
    #[arg(required = true, value_name = "SERVICE")]
    pub services: Vec<String>,
    /// How to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// `resume`
#[derive(Debug, Args)]
pub struct Resume {
    /// The services
    #[arg(required = true, value_name = "SERVICE")]
    pub services: Vec<String>,
    /// How to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// `rm`
#[derive(Debug, Args)]
pub struct Rm {
    /// The stacks
    #[arg(required = true, value_name = "STACK")]
    pub stacks: Vec<String>,
}

/// `why`
#[derive(Debug, Args)]
pub struct Why {
    /// The service or replica
    #[arg(value_name = "SERVICE|REPLICA")]
    pub of: String,
}

/// `events`
#[derive(Debug, Args)]
pub struct Events {
    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,
    /// Only those of the last 10m, 2h, …
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub since: Option<Duration>,
    /// Show so many of the latest, at most 1000 [default: 100; 1000 with --since]
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub limit: Option<u32>,
    /// Only about this device
    #[arg(long)]
    pub device: Option<String>,
    /// Only about this stack
    #[arg(long)]
    pub stack: Option<String>,
    /// Only about this service or replica
    #[arg(value_name = "SERVICE|REPLICA")]
    pub of: Option<String>,
    /// Only at least as bad as this: info, warning, error
    #[arg(long, value_enum, value_name = "HOW BAD", hide_possible_values = true)]
    pub severity: Option<SeverityChoice>,
}

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SeverityChoice {
    /// Everything
    Info,
    /// What someone should look at
    Warning,
    /// What does not work
    Error,
}

/// `top`
#[derive(Debug, Args)]
pub struct Top {
    /// Time between two pictures
    #[arg(short, long, value_parser = parse_duration, default_value = "2s", value_name = "TIME")]
    pub interval: Duration,
    /// Show one picture and end, as without a terminal
    #[arg(long)]
    pub once: bool,
}

/// Most replicas that `logs` follows at once: the hub has places for so many.
pub const MAX_FOLLOWED: u16 = 128;

/// `logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// The services and replicas
    #[arg(required = true, value_name = "SERVICE|REPLICA")]
    pub of: Vec<String>,
    /// Go on with what comes, also of copies that are started elsewhere
    #[arg(short, long)]
    pub follow: bool,
    /// With -f: follow at most so many replicas at once (up to 128); which are left out is told
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_FOLLOWED)))]
    pub max_replicas: u16,
    /// Begin so many lines from the end, of each replica
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<u32>,
    /// Only what was written in the last 10m, 2h, …
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub since: Option<Duration>,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// Do not show which replica a line is of
    #[arg(long)]
    pub no_prefix: bool,
}

/// `compose …`
#[derive(Debug, Subcommand)]
pub enum ComposeCommand {
    /// Tell whether a file can be used, and what of it does not take effect
    Check(ComposeFile),
}

/// `completion`
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

fn parse_scale(text: &str) -> Result<(String, u32), String> {
    let (service, copies) = parse_pair(text).map_err(|_| format!("`{text}` is not SERVICE=COPIES, such as web=3"))?;
    let copies = copies.parse().map_err(|_| format!("`{copies}` is no number of copies"))?;
    Ok((service, copies))
}

fn parse_label(text: &str) -> Result<LabelChange, String> {
    if let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) {
        return Ok(LabelChange { key: key.into(), value: Some(value.into()) });
    }
    match text.strip_suffix('-') {
        Some(key) if !key.is_empty() => Ok(LabelChange { key: key.into(), value: None }),
        _ => Err(format!("`{text}` is neither KEY=VALUE (set) nor KEY- (take away)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_with_equals_and_taken_away_with_a_dash() {
        assert_eq!(parse_label("a=b=c"), Ok(LabelChange { key: "a".into(), value: Some("b=c".into()) }));
        assert_eq!(parse_label("a="), Ok(LabelChange { key: "a".into(), value: Some(String::new()) }));
        assert_eq!(parse_label("a-"), Ok(LabelChange { key: "a".into(), value: None }));
        for bad in ["a", "=b", "-", ""] {
            assert!(parse_label(bad).is_err(), "{bad}");
        }
    }
}

//! What the user may write. The doc comments here are the help.

mod access;
mod secrets;
mod verbs;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use access::{
    Approve, Audit, AuditCommand, ContextCommand, Invite, InviteCommand, Login, Logout, RoleChoice, SessionCommand,
    TokenCommand, TokenCreate, UserAdd, UserCommand, UserPasswd,
};
pub use secrets::{FileCommand, FileSet, RegistryCommand, RegistryLogin};
pub use verbs::{
    Completion, ComposeCommand, ComposeFile, Deploy, DeviceCommand, DeviceDrain, DeviceLabel, DeviceName, DeviceNames,
    Events, LabelChange, Logs, Ls, MAX_FOLLOWED, Ps, Restart, Resume, Rm, Scale, SeverityChoice, Top, Wait, Why,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the hub, or it was tried and failed
  2  the command line makes no sense
  3  the hub cannot be reached
  4  no such stack, service, replica or device
  5  what was waited for did not come in time
  6  the Compose file cannot be used
  7  not allowed: not logged in, or the token's role or stacks do not reach so far

A service may be named `web` if only one stack has it, else `shop/web`; a replica `web.2` or `shop/web.2`.";

/// Options of every verb stand together, below those of the verb.
const GLOBAL: &str = "Global options";

/// Run containers across a fleet of devices.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, after_help = EXIT_CODES, max_term_width = 110)]
#[command(disable_help_subcommand = true, infer_subcommands = false)]
pub struct Cli {
    /// Which hub: an address (https://HOST:PORT) or the name of a context [default: the context in use, else
    /// http://127.0.0.1:7640]
    #[arg(long, env = "OUTRIGGER_HUB", value_name = "URL|CONTEXT", global = true, help_heading = GLOBAL)]
    pub hub: Option<String>,
    /// How answers look.
    #[command(flatten)]
    pub shape: Shape,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the hub is if the user does not say.
pub const DEFAULT_HUB: &str = "http://127.0.0.1:7640";

/// How answers look.
#[derive(Debug, Clone, Args)]
pub struct Shape {
    /// Form of answers: table for people, json (the types of the hub's API) for programs
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORM", global = true, help_heading = GLOBAL)]
    #[arg(hide_possible_values = true)]
    pub output: OutputForm,
    /// Names only, one a line
    #[arg(short, long, global = true, conflicts_with = "output", help_heading = GLOBAL)]
    pub quiet: bool,
    /// When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN", global = true, hide_possible_values = true)]
    #[arg(help_heading = GLOBAL)]
    pub color: ColourChoice,
}

impl Shape {
    /// The form of answers.
    #[must_use]
    pub fn format(&self) -> Format {
        match (self.quiet, self.output) {
            (true, _) => Format::Names,
            (false, OutputForm::Table) => Format::Table,
            (false, OutputForm::Json) => Format::Json,
        }
    }
}

/// What `-o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// For people
    Table,
    /// For programs
    Json,
}

/// The form of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Table,
    /// The API's types.
    Json,
    /// One name a line.
    Names,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColourChoice {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or change a stack from a Compose file
    Deploy(Deploy),
    /// List stacks, or the services of one
    Ls(Ls),
    /// List replicas: where each copy runs and how it is
    Ps(Ps),
    /// List devices
    Devices,
    /// Show or change one device
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Change the number of copies of services
    Scale(Scale),
    /// Replace the copies of services, one after another
    Restart(Restart),
    /// Go on with updates that have stopped because a new copy did not become healthy
    Resume(Resume),
    /// Remove stacks: their containers are stopped, volumes stay
    Rm(Rm),
    /// Tell why replicas are where they are, or why they wait, with every device's refusal
    Why(Why),
    /// Show what happened in the fleet
    Events(Events),
    /// Show the load of devices and replicas
    Top(Top),
    /// Show what replicas write
    Logs(Logs),
    /// Log in to a hub, and use it from now on
    Login(Login),
    /// Forget a hub's token on this computer
    Logout(Logout),
    /// Choose between hubs
    #[command(subcommand)]
    Context(ContextCommand),
    /// Tell who the hub takes you for
    Whoami,
    /// Make, list and revoke tokens of users and programs
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make, list and remove users, who log in with a browser
    #[command(subcommand)]
    User(UserCommand),
    /// List browsers that are logged in, and log them out
    #[command(subcommand)]
    Session(SessionCommand),
    /// Set, list and remove secrets, which containers find as files and nobody can read again
    #[command(subcommand)]
    Secret(FileCommand),
    /// Set, list and remove configs, which containers find as files
    #[command(subcommand)]
    Config(FileCommand),
    /// Set, list and forget logins for registries
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// List and revoke invites of devices; `device invite` makes one
    #[command(subcommand)]
    Invite(InviteCommand),
    /// Show who has changed what, or check that nobody has altered that record
    Audit(Audit),
    /// Look at Compose files without deploying them
    #[command(subcommand)]
    Compose(ComposeCommand),
    /// Print the completion script for a shell
    Completion(Completion),
    /// Show the versions of this program and of the hub
    Version,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

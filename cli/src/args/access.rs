//! What the verbs take that are about who may do what.

use std::fmt;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::verbs::parse_pair;
use crate::amounts::parse_duration;

/// `login`
#[derive(Args)]
pub struct Login {
    /// The hub, such as <https://hub.lan:7640>
    #[arg(value_name = "URL")]
    pub url: String,
    /// The token; `-` reads it from standard input [default: OUTRIGGER_TOKEN, else you are asked for it]
    #[arg(long, conflicts_with = "setup_code")]
    pub token: Option<String>,
    /// The code that the hub printed at its first start; `-` reads it from standard input
    #[arg(long, value_name = "CODE")]
    pub setup_code: Option<String>,
    /// Name of your token, when it is made from a setup code [default: USER]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Name of the context [default: the hub's host]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Without token and code.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// `logout`
#[derive(Debug, Args)]
pub struct Logout {
    /// Which [default: the one in use]
    #[arg(value_name = "CONTEXT")]
    pub context: Option<String>,
}

/// `context …`
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List the hubs that you are logged in to
    Ls,
    /// Use this one from now on
    Use {
        /// Its name
        #[arg(value_name = "CONTEXT")]
        context: String,
    },
    /// Forget it, and its token on this computer
    Rm {
        /// Its name
        #[arg(value_name = "CONTEXT")]
        context: String,
    },
}

/// `token …`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    Create(TokenCreate),
    /// List tokens, without their secrets
    Ls,
    /// Make tokens count no longer, at once
    Rm {
        /// Their ids, as `token ls` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// `token create`
#[derive(Debug, Args)]
pub struct TokenCreate {
    /// For whom or what, such as `ci`
    pub name: String,
    /// What its bearer may do: viewer, operator, admin
    #[arg(long, value_enum, default_value = "viewer", hide_possible_values = true)]
    pub role: RoleChoice,
    /// Only for this stack; can be given again
    #[arg(long = "stack", value_name = "STACK")]
    pub stacks: Vec<String>,
    /// How long it counts
    #[arg(long, value_parser = parse_duration, default_value = "90d", value_name = "TIME")]
    pub ttl: Duration,
}

/// `user …`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user, who logs in with a browser
    Add(UserAdd),
    /// List users
    Ls,
    /// Give a user another password; his browsers are logged out
    Passwd(UserPasswd),
    /// Remove users; their browsers are logged out at once
    Rm {
        /// Their names
        #[arg(required = true, value_name = "USER")]
        users: Vec<String>,
    },
}

/// `user add`
#[derive(Debug, Args)]
pub struct UserAdd {
    /// Name to log in with
    pub name: String,
    /// What he may do: viewer, operator, admin
    #[arg(long, value_enum, default_value = "viewer", hide_possible_values = true)]
    pub role: RoleChoice,
    /// Only for this stack; can be given again
    #[arg(long = "stack", value_name = "STACK")]
    pub stacks: Vec<String>,
    /// Read the password from standard input instead of asking for it
    #[arg(long)]
    pub password_stdin: bool,
}

/// `user passwd`
#[derive(Debug, Args)]
pub struct UserPasswd {
    /// His name
    pub name: String,
    /// Read the password from standard input instead of asking for it
    #[arg(long)]
    pub password_stdin: bool,
}

/// `session …`
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List browsers that are logged in
    Ls,
    /// Log browsers out, at once
    Rm {
        /// Their ids, as `session ls` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// What a user or program may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleChoice {
    /// See
    Viewer,
    /// Run things
    Operator,
    /// Everything
    Admin,
}

/// `device invite`
#[derive(Debug, Args)]
pub struct Invite {
    /// How many devices may join with it
    #[arg(long, default_value_t = 1)]
    pub uses: u32,
    /// How long it counts
    #[arg(long, value_parser = parse_duration, default_value = "1h", value_name = "TIME")]
    pub ttl: Duration,
    /// Only for a device of this name, also one that joins anew
    #[arg(long, value_name = "DEVICE")]
    pub name: Option<String>,
    /// Give the devices this label; can be given again
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
}

/// `device approve`
#[derive(Debug, Args)]
pub struct Approve {
    /// Codes as devices show them (in capitals: 7KQ2M-XW4RP), or names of devices in quarantine
    #[arg(required = true, value_name = "CODE|DEVICE")]
    pub what: Vec<String>,
    /// Let the new device in under this name; if another device has it, that one is replaced
    #[arg(long, value_name = "DEVICE")]
    pub name: Option<String>,
    /// Give the new device this label; can be given again
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
}

/// `invite …`
#[derive(Debug, Subcommand)]
pub enum InviteCommand {
    /// List invites, without their secrets
    Ls,
    /// Take invites back; devices that have joined stay
    Rm {
        /// Their ids, as `invite ls` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// `audit`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    /// Show so many of the latest, at most 1000
    #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Instead of showing it
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
}

/// `audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Look whether any record was changed or taken away
    Verify,
}

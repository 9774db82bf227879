//! What the verbs take that set what nobody can read again. Contents and passwords are never arguments: every program on
//! the machine can read those.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `secret …` and `config …`
#[derive(Debug, Subcommand)]
pub enum FileCommand {
    /// Set it; what uses it is replaced, one copy after another
    Set(FileSet),
    /// List them, without what is in them
    Ls,
    /// Remove those that nothing uses
    Rm {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// `secret set` and `config set`
#[derive(Debug, Args)]
pub struct FileSet {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Take the content from this file [default: standard input; on a terminal you are asked for it]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `registry …`
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Set the login that devices pull with
    Login(RegistryLogin),
    /// List the registries with logins, without passwords
    Ls,
    /// Forget the login
    Logout {
        /// Which, such as `registry.lan:5000`
        #[arg(value_name = "REGISTRY")]
        registry: String,
    },
}

/// `registry login`
#[derive(Debug, Args)]
pub struct RegistryLogin {
    /// Which, such as `registry.lan:5000` or `docker.io`
    #[arg(value_name = "REGISTRY")]
    pub registry: String,
    /// Your name there
    #[arg(short, long, value_name = "NAME")]
    pub username: String,
    /// Read the password from standard input [default: you are asked for it]
    #[arg(long)]
    pub password_stdin: bool,
}

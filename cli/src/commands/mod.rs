//! One module per verb: each asks the hub, and turns the answer into text by functions that know no hub.

mod audit;
mod compose;
mod contexts;
mod deploy;
mod devices;
mod events;
mod invites;
mod login;
mod logs;
mod newcomers;
mod ps;
#[cfg(test)]
pub(crate) mod samples;
mod secrets;
mod services;
mod sessions;
mod stacks;
mod tokens;
mod top;
mod users;
mod version;
mod what_if;
mod why;
pub(crate) mod words;

use clap::CommandFactory;

use crate::args::{Cli, Command, Completion, ComposeCommand};
use crate::client::FileKind;
use crate::connect::connect;
use crate::{Exit, Failure, Output};

/// Does what the user asks for.
///
/// # Errors
/// Why it was not done.
pub fn run(cli: Cli, out: &mut Output) -> Result<Exit, Failure> {
    // What needs no hub, or not yet a client of one.
    match &cli.command {
        Command::Completion(args) => return complete(args, out),
        Command::Login(args) => return login::login(args, out),
        Command::Logout(args) => return contexts::logout(args, out),
        Command::Context(command) => return contexts::run(command, out),
        _ => (),
    }
    let client = connect(cli.hub.as_deref());
    if let Command::Version = &cli.command {
        return version::run(client, out);
    }
    let client = client?;
    match &cli.command {
        Command::Whoami => login::whoami(&client, out),
        Command::Token(command) => tokens::run(&client, command, out),
        Command::User(command) => users::run(&client, command, out),
        Command::Session(command) => sessions::run(&client, command, out),
        Command::Secret(command) => secrets::run(&client, FileKind::Secret, command, out),
        Command::Config(command) => secrets::run(&client, FileKind::Config, command, out),
        Command::Registry(command) => secrets::registry(&client, command, out),
        Command::Invite(command) => invites::run(&client, command, out),
        Command::Audit(args) => audit::run(&client, args, out),
        Command::Deploy(args) => deploy::run(&client, args, out),
        Command::Ls(args) => stacks::list(&client, args, out),
        Command::Rm(args) => stacks::remove(&client, args, out),
        Command::Ps(args) => ps::run(&client, args, out),
        Command::Devices => devices::list(&client, out),
        Command::Device(command) => devices::run(&client, command, out),
        Command::Scale(args) => services::scale(&client, args, out),
        Command::Restart(args) => services::restart(&client, args, out),
        Command::Resume(args) => services::resume(&client, args, out),
        Command::Why(args) => why::run(&client, args, out),
        Command::Events(args) => events::run(&client, args, out),
        Command::Top(args) => top::run(&client, args, out),
        Command::Logs(args) => logs::run(&client, args, out),
        Command::Compose(ComposeCommand::Check(args)) => compose::check(&client, args, out),
        // Done above.
        Command::Login(_) | Command::Logout(_) | Command::Context(_) | Command::Completion(_) | Command::Version => {
            Ok(Exit::Ok)
        }
    }
}

fn complete(args: &Completion, out: &mut Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "outrigger", &mut script);
    out.raw(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

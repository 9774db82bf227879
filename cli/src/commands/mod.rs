//! One module per verb: each asks the hub, and turns the answer into text by functions that know no hub.

mod compose;
mod deploy;
mod devices;
mod events;
mod logs;
mod ps;
#[cfg(test)]
pub(crate) mod samples;
mod services;
mod stacks;
mod top;
mod version;
mod what_if;
mod why;
pub(crate) mod words;

use clap::CommandFactory;

use crate::args::{Cli, Command, Completion, ComposeCommand};
use crate::{Client, Exit, Failure, Output};

/// Does what the user asks for.
///
/// # Errors
/// Why it was not done.
pub fn run(cli: Cli, out: &mut Output) -> Result<Exit, Failure> {
    if let Command::Completion(args) = &cli.command {
        return complete(args, out);
    }
    let client = Client::new(&cli.hub)?;
    match &cli.command {
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
        Command::Completion(args) => complete(args, out),
        Command::Version => version::run(&client, out),
    }
}

fn complete(args: &Completion, out: &mut Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "outrigger", &mut script);
    out.raw(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

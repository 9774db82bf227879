//! `outrigger`: see `outrigger --help`.

use std::process::ExitCode;

use clap::Parser;
use outrigger_cli::args::Cli;
use outrigger_cli::{Exit, Output};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::of_process(&cli.shape);
    let exit = match outrigger_cli::run(cli, &mut output) {
        Ok(exit) => exit,
        Err(failure) if failure.is_broken_pipe() => Exit::Ok,
        Err(failure) => {
            output.failure(&failure);
            failure.exit()
        }
    };
    ExitCode::from(exit as u8)
}

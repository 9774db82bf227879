//! Whoever reads what a program prints may go at any time, as `| head` does.

use std::io::pipe;
use std::process::Stdio;

use anyhow::{Result, ensure};

use super::small::program;

#[test]
fn a_reader_that_has_gone_is_no_crash() -> Result<()> {
    for name in ["outrigger", "outrigger-agent", "outrigger-hub", "outrigger-proxy"] {
        for words in ["--help", "--version"] {
            let (reader, writer) = pipe()?;
            drop(reader);
            let mut command = program(name)?;
            let output = command.arg(words).stdout(writer).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
            let told = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code().is_some() && !told.contains("panicked"), "{name} {words}: {output:?}");
        }
    }
    Ok(())
}

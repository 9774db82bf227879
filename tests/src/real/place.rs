//! Where the programs, images and scripts are that the tests use. tests/run says so by environment variables; without
//! them the places are those of a plain `cargo build`.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// One of our programs: `outrigger-hub`, `outrigger-agent`, `outrigger`.
pub fn program(name: &str) -> Result<PathBuf> {
    let folder = match env::var_os("OUTRIGGER_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => build_folder()?,
    };
    existing(folder.join(name), "cargo build --workspace --bins")
}

/// An image that images/build has saved: `web`, `hub`, `agent`.
pub fn image(name: &str) -> Result<PathBuf> {
    let folder = match env::var_os("OUTRIGGER_IMAGES") {
        Some(folder) => PathBuf::from(folder),
        None => build_folder()?.with_file_name("images"),
    };
    existing(folder.join(format!("{name}.tar")), "images/build")
}

/// The script that makes devices.
#[must_use]
pub fn lab_script() -> PathBuf {
    env::var_os("OUTRIGGER_LAB").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("lab"), PathBuf::from)
}

/// A test program is `target/debug/deps/NAME`; our programs are `target/debug/NAME`.
fn build_folder() -> Result<PathBuf> {
    let this = env::current_exe().context("cannot tell where this program is")?;
    this.ancestors().nth(2).map(Path::to_path_buf).context("this program is in no build folder")
}

fn existing(path: PathBuf, made_by: &str) -> Result<PathBuf> {
    ensure!(path.exists(), "{} is not there; `{made_by}` makes it", path.display());
    Ok(path)
}

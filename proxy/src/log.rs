//! How the programs of a device log: to standard error, where the service manager reads it, and so without colours.

use std::io::stderr;

use tracing_subscriber::filter::LevelFilter;

/// Begins to log. `OUTRIGGER_LOG` says from which level on (`info` by default).
pub fn to_stderr() {
    let level = std::env::var("OUTRIGGER_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO);
    tracing_subscriber::fmt().with_max_level(level).with_writer(stderr).init();
}

//! The units give hub and agent no more of the machine than they need, as systemd itself judges.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

/// Tenths of systemd's scale from 0 (nothing to reach) to 10.
const MOST_EXPOSED: f32 = 3.0;

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("systemd").join(name);
    path.to_str().unwrap().to_owned()
}

fn exposure(name: &str) -> f32 {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager", &unit(name)]);
    let output = command.output().expect("systemd-analyze is needed; tests/setup installs it");
    let text = String::from_utf8_lossy(&output.stdout);
    let overall = text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{text}"));
    let number = overall.split_whitespace().find_map(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("{overall}"))
}

#[test]
fn hub_agent_and_proxy_are_little_exposed() {
    for name in ["outrigger-hub.service", "outrigger-agent.service", "outrigger-proxy.service"] {
        let exposure = exposure(name);
        assert!(exposure <= MOST_EXPOSED, "{name}: {exposure}");
    }
}

//! House rules, held by a test: who may depend on whom, what stays pure, how long the tail of a file may grow.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may use which of our crates. Dependencies point one way; the agent knows neither planner nor hub, and the
/// command line sees the API's types and the tokens and pins of `trust` only.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("protocol", &[]),
    ("api", &["protocol"]),
    ("compose", &["protocol"]),
    ("planner", &["protocol"]),
    ("trust", &["protocol"]),
    ("proxy", &["protocol", "trust"]),
    ("agent", &["protocol", "trust", "proxy"]),
    ("hub", &["protocol", "api", "compose", "planner", "trust", "proxy"]),
    ("cli", &["api", "trust"]),
];

/// Folders whose code decides and does nothing else.
const PURE: [&str; 6] = ["protocol/src", "api/src", "compose/src", "planner/src", "agent/src/core", "hub/src/core"];

/// What pure code must not touch. Addresses as values (`std::net::IpAddr`) are fine.
const IMPURE: [&str; 14] = [
    "std::fs", "std::io", "std::env", "std::thread", "std::process", "std::os", "Instant::now", "SystemTime",
    "TcpStream", "UdpSocket", "tokio::", "println!", "tracing::", "rand::",
];

/// Lines of a Rust file, tests included. Longer ones are split by what they are about.
const MAX_FILE: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') && name != "node_modules" {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[track_caller]
fn none(what: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

#[test]
fn dependencies_point_one_way() {
    let mut offenders = vec![];
    for (name, allowed) in MAY_USE {
        let text = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let manifest: BTreeMap<String, toml::Value> = toml::from_str(&text).unwrap();
        let Some(dependencies) = manifest.get("dependencies").and_then(toml::Value::as_table) else { continue };
        for ours in dependencies.keys().filter_map(|key| key.strip_prefix("outrigger-")) {
            if !allowed.contains(&ours) {
                offenders.push(format!("{name} uses {ours}"));
            }
        }
    }
    none("a crate depends on what it must not know", &offenders);
}

/// Code of a file without comments and without what follows the first `#[cfg(test)]`.
fn code_of(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    let code = lines.map(|line| line.split("//").next().unwrap_or_default().to_owned());
    code.enumerate().map(|(index, line)| (index + 1, line)).collect()
}

#[test]
fn pure_code_stays_pure() {
    let mut offenders = vec![];
    for path in PURE.iter().flat_map(|folder| rust_files(&root().join(folder))) {
        for (number, line) in code_of(&path) {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                offenders.push(format!("{}:{number}: `{word}`", shown(&path)));
            }
        }
    }
    none("pure code reaches outside", &offenders);
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut offenders = vec![];
    for path in rust_files(&root()) {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if !first.starts_with("//!") {
            offenders.push(shown(&path));
        }
    }
    none("a module does not begin with `//!`", &offenders);
}

/// A panic prints a value by `{:?}`, and so does many a log line (S47, S50).
#[test]
fn what_carries_a_secret_is_not_printed_by_mistake() {
    let names = ["token", "password", "secret", "setup_code", "login_code", "variables"];
    let texts = ["String", "&", "Option<String>", "Vec<u8>", "BTreeMap<"];
    let mut offenders = vec![];
    for path in rust_files(&root()) {
        // What tests hold are no secrets.
        if shown(&path).contains("tests/") {
            continue;
        }
        let mut has_debug = false;
        for (number, line) in code_of(&path) {
            let line = line.trim();
            if line.starts_with("#[derive(") {
                has_debug = line.contains("Debug");
            } else if line == "}" || line.starts_with("fn ") || line.starts_with("pub fn ") || line.starts_with("impl")
            {
                has_debug = false;
            }
            let field =
                line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ").trim_start_matches("pub ");
            let Some((name, kind)) = field.split_once(": ").filter(|_| has_debug && line.ends_with(',')) else {
                continue;
            };
            if names.contains(&name) && texts.iter().any(|text| kind.starts_with(text)) {
                offenders.push(format!("{}:{number}: `{field}`", shown(&path)));
            }
        }
    }
    none("a secret is printed by a derived `Debug`; give it a type without, such as `SecretText`", &offenders);
}

#[test]
fn no_file_grows_a_tail() {
    let mut offenders = vec![];
    for path in rust_files(&root()) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > MAX_FILE {
            offenders.push(format!("{}: {lines} lines, at most {MAX_FILE}", shown(&path)));
        }
    }
    none("split these by what they are about", &offenders);
}

#[test]
fn only_the_topic_module_knows_topic_text() {
    let mut offenders = vec![];
    for path in rust_files(&root()) {
        // Settings of other brokers and seeds of fuzz targets spell topics out.
        let spells = ["protocol/src/topic.rs", "hub/src/broker_config.rs", "fuzz/src/seeds.rs"];
        if spells.iter().any(|known| path.ends_with(known)) || shown(&path).contains("tests/") {
            continue;
        }
        for (number, line) in code_of(&path) {
            if line.contains("\"or/") {
                offenders.push(format!("{}:{number}", shown(&path)));
            }
        }
    }
    none("topic text outside `protocol/src/topic.rs`", &offenders);
}

#[test]
fn unfinished_work_is_not_left_in_the_code() {
    // Spelled in two parts so that this line does not find itself.
    let marks = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("#[ign", "ore")];
    let mut offenders = vec![];
    for path in rust_files(&root()) {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                offenders.push(format!("{}:{}: `{mark}`", shown(&path), number + 1));
            }
        }
    }
    none("finish it, or leave it out and say so", &offenders);
}

/// Programs that ours start, each with its arguments as a list. There is no shell among them, so no name, tag or version
/// of anybody's is ever read by one.
#[test]
fn nothing_is_handed_to_a_shell() {
    let mut offenders = vec![];
    for path in ["agent", "hub", "proxy", "cli", "trust", "planner", "compose", "api", "protocol"]
        .iter()
        .map(|package| format!("{package}/src"))
        .flat_map(|folder| rust_files(&root().join(folder)))
    {
        for (number, line) in code_of(&path) {
            let starts = line.contains("Command::new(\"") || line.contains("process::Command::new(");
            let is_known = ["timedatectl", "systemctl", "nft", "ip"]
                .iter()
                .any(|name| line.contains(&format!("Command::new(\"{name}\")")));
            if starts && !is_known {
                offenders.push(format!("{}:{number}: {}", shown(&path), line.trim()));
            }
        }
    }
    none("a program is started that this list does not know", &offenders);
}

#[test]
fn no_memory_image_of_hub_or_agent_is_written() {
    for unit in ["outrigger-hub.service", "outrigger-agent.service", "outrigger-proxy.service"] {
        let text = fs::read_to_string(root().join("systemd").join(unit)).unwrap();
        assert!(text.lines().any(|line| line == "LimitCORE=0"), "{unit}");
    }
}

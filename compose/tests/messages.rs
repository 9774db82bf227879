//! Every kind of mistake with its exact message: `files/messages*.txt` hold them as text.
//!
//! A case is a file, or the keys of a service if it has no `services:`, then a line of dashes, then what is told.
//! `OUTRIGGER_BLESS=1` writes what is told now, to be read before it is committed.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

use outrigger_compose::{Sources, load};

const BETWEEN: &str = "====\n";
const TOLD: &str = "----\n";

/// Lines of the keys of a service begin at 5, columns at 5.
fn whole(case: &str) -> String {
    if case.contains("services:") || case.starts_with("file:\n") {
        return case.strip_prefix("file:\n").unwrap_or(case).to_owned();
    }
    let keys: String = case.lines().map(|line| format!("    {line}\n")).collect();
    format!("name: s\nservices:\n  web:\n    image: x\n{keys}  db: {{ image: y }}\nvolumes: {{ data: }}\n")
}

fn told(case: &str) -> String {
    let text = whole(case).replace("<tab>", "\t");
    let mut sources = Sources::of("c.yaml", &text);
    let other =
        "services:\n  a: { image: x, extends: { file: c.yaml, service: web } }\n  bad: { imag: x }\n".to_owned();
    sources.files.insert("other.yaml".to_owned(), other);
    sources.files.insert("broken.yaml".to_owned(), "services: [".to_owned());
    sources.files.insert("bad.env".to_owned(), "A=1\nB = \"x\n".to_owned());
    sources.files.insert("ours.env".to_owned(), "outrigger.x=1\n".to_owned());
    let outcome = load(None, &sources);
    let has_errors = outcome.diagnostics.iter().any(|problem| problem.severity == outrigger_compose::Severity::Error);
    assert_eq!(outcome.stack.is_none(), has_errors, "{text}");
    outcome.diagnostics.iter().map(|problem| format!("{problem}\n")).collect()
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let cases: Vec<(&str, &str)> =
        text.split(BETWEEN).map(|case| case.split_once(TOLD).unwrap_or((case, ""))).collect();
    if std::env::var_os("OUTRIGGER_BLESS").is_some() {
        let blessed: Vec<String> = cases.iter().map(|(case, _)| format!("{case}{TOLD}{}", told(case))).collect();
        fs::write(&path, blessed.join(BETWEEN)).unwrap();
        return;
    }
    assert!(cases.len() > 20, "{}", cases.len());
    for (case, expected) in cases {
        assert_eq!(told(case), expected, "\n{case}");
        assert!(!expected.is_empty(), "nothing is told about:\n{case}");
    }
}

#[test]
fn mistakes_in_a_service_are_told_where_they_are() {
    check("messages-service.txt");
}

#[test]
fn mistakes_in_a_file_are_told_where_they_are() {
    check("messages-file.txt");
}

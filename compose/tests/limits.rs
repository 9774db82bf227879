//! Texts made to hurt: each is refused, or read, quickly and within bounds.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;

use outrigger_compose::{MAX_DEPTH, MAX_DIAGNOSTICS, Outcome, Severity, Sources, load, references};

/// Loads, and takes the references too: both see what a stranger sends.
fn told(text: &str) -> Vec<String> {
    drop(references(text));
    shown(&load(None, &Sources::of("c", text)))
}

fn shown(outcome: &Outcome) -> Vec<String> {
    outcome.diagnostics.iter().map(ToString::to_string).collect()
}

fn services(keys: &str) -> String {
    format!("name: s\nservices:\n  web:\n    image: x\n{keys}")
}

#[test]
fn a_billion_laughs_are_not_heard_out() {
    let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    let problems = told(&text);
    assert_eq!(problems, ["c:5:45: error: the file has more than 100000 values once its aliases are expanded"]);
}

#[test]
fn a_long_text_under_many_aliases_is_counted_each_time() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(1000));
    assert_eq!(told(&text).len(), 1);
    assert!(told(&text)[0].contains("bytes once its aliases are expanded"), "{:?}", told(&text));
}

#[test]
fn merge_keys_cannot_multiply_either() {
    let mut text = "a0: &a0 {k: x}\n".to_owned();
    for level in 1..40 {
        writeln!(text, "a{level}: &a{level} {{ <<: [*a{0}, *a{0}], x{level}: {{ <<: *a{0} }} }}", level - 1).unwrap();
    }
    assert!(told(&text)[0].contains("once its aliases are expanded"), "{:?}", told(&text));
}

#[test]
fn nesting_has_an_end() {
    let at_most = "[".repeat(MAX_DEPTH - 1) + &"]".repeat(MAX_DEPTH - 1);
    assert_eq!(told(&services(&format!("x-a: {at_most}\n")))[..], [""; 0]);
    let more = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
    assert_eq!(told(&services(&format!("x-a: {more}\n"))), ["c:5:69: error: more than 64 levels within one another"]);
    for deep in ["[".repeat(500_000), "{a: ".repeat(200_000), "- ".repeat(400_000), "? ".repeat(400_000)] {
        let problems = told(&deep);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("error: "), "{problems:?}");
    }
    let mut stairs = String::new();
    for level in 0..1000 {
        writeln!(stairs, "{}a:", " ".repeat(level)).unwrap();
    }
    assert_eq!(told(&stairs).len(), 1);
}

#[test]
fn an_alias_to_something_deep_counts_its_depth() {
    let deep = "[".repeat(40) + &"]".repeat(40);
    let text = format!("x-a: &a {deep}\nx-b: {}*a{}\n", "[".repeat(40), "]".repeat(40));
    assert_eq!(told(&text), ["c:2:46: error: more than 64 levels within one another"]);
}

#[test]
fn a_million_keys_are_too_many_and_a_huge_file_is_not_read() {
    let keys: String = (0..110_000).map(|key| format!("k{key}:\n")).collect();
    assert_eq!(told(&keys), ["c:50000:7: error: the file has more than 100000 values once its aliases are expanded"]);
    let huge = format!("a: {}\n", "x".repeat(2 << 20));
    assert_eq!(told(&huge), ["c:1:1: error: the file has 2097156 bytes; at most 1048576 are read"]);
}

#[test]
fn endless_problems_are_told_up_to_a_limit() {
    let keys: String = (0..20_000).map(|key| format!("    imagf{key}: x\n")).collect();
    assert_eq!(told(&services(&keys)).len(), MAX_DIAGNOSTICS);
    let keys: String = (0..20_000).map(|_| "    image: x\n").collect();
    assert_eq!(told(&services(&keys)).len(), MAX_DIAGNOSTICS);
    let names: String = (0..20_000).map(|name| format!("    - $V{name}\n")).collect();
    let text = services(&format!("    command:\n{names}    banana: 1\n"));
    let outcome = load(None, &Sources::of("c", &text));
    let errors = outcome.diagnostics.iter().filter(|problem| problem.severity == Severity::Error).count();
    assert_eq!(outcome.diagnostics.len(), MAX_DIAGNOSTICS + errors, "warnings do not hide errors");
    assert!(shown(&outcome).iter().any(|line| line.contains("banana")));
}

#[test]
fn variables_cannot_blow_up_a_file() {
    let mut sources = Sources::of("c", &services(&format!("    user: {}\n", "$A".repeat(10_000))));
    sources.variables.insert("A".to_owned(), "x".repeat(100_000));
    assert!(shown(&load(None, &sources))[0].contains("the text becomes longer than 1048576 bytes"));
    let texts: String = (0..200).map(|_| "    - $A$A$A\n").collect();
    let mut sources = Sources::of("c", &services(&format!("    cap_add:\n{texts}")));
    sources.variables.insert("A".to_owned(), "x".repeat(300_000));
    assert!(shown(&load(None, &sources))[0].contains("the stack becomes larger than 16777216 bytes here"));
    for bad in ["${".repeat(400_000), "${A:-".repeat(200_000), format!("{}{}", "${A:-".repeat(1000), "}".repeat(1000))]
    {
        let problems = told(&services(&format!("    user: '{bad}'\n")));
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}

#[test]
fn env_files_and_extends_cannot_multiply_a_stack() {
    let many: String = (0..1000).map(|name| format!("  s{name}: {{ image: x, env_file: big.env }}\n")).collect();
    let mut sources = Sources::of("c", &format!("name: s\nservices:\n{many}"));
    sources.files.insert("big.env".to_owned(), format!("A={}\n", "x".repeat(1_000_000)));
    assert!(shown(&load(None, &sources))[0].contains("the stack becomes larger"));
    let many: String = (0..1000).map(|name| format!("  s{name}: {{ extends: big }}\n")).collect();
    let big = format!("  big: {{ image: x, labels: {{ a: {} }} }}\n", "x".repeat(900_000));
    let problems = told(&format!("name: s\nservices:\n{big}{many}"));
    assert!(problems[0].contains("the stack becomes larger"), "{problems:?}");
}

#[test]
fn long_chains_end() {
    let chain: String = (0..1999).map(|name| format!("  s{name}: {{ extends: s{} }}\n", name + 1)).collect();
    let problems = told(&format!("name: s\nservices:\n{chain}"));
    assert!(problems.iter().any(|line| line.contains("more than 32 services extend one another")), "{problems:?}");
    let chain: String =
        (1..2000).map(|name| format!("  s{name}: {{ image: x, depends_on: [s{}] }}\n", name - 1)).collect();
    let text = format!("name: s\nservices:\n  s0: {{ image: x }}\n{chain}");
    assert_eq!(told(&text)[..], [""; 0]);
    let chain: String = (0..2500).map(|name| format!("  s{name}: {{ image: x }}\n")).collect();
    let problems = told(&format!("name: s\nservices:\n{chain}"));
    assert_eq!(problems, ["c:3:3: error: services: there are 2500 services; at most 2000 fit a stack"]);
}

#[test]
fn the_line_ends_and_marks_of_other_systems_are_read() {
    let text = "\u{feff}name: s\r\nservices:\r\n  web:\r\n    image: x\r\n    command: |\r\n      a\r\n      b\r\n";
    let outcome = load(None, &Sources::of("c", text));
    assert_eq!(shown(&outcome), [""; 0]);
    assert_eq!(outcome.stack.unwrap().services[0].container.command.clone().unwrap(), ["a", "b"]);
    assert_eq!(told("name: s\r\nservices:\r\n  web:\r\n    imag: x\r\n").len(), 2);
}

#[test]
fn odd_bytes_are_an_error_and_nothing_worse() {
    for text in [
        "\0", "a: \0", "\u{feff}", "\u{fffe}: x", "%YAML 9.9\n---\na: b", "%TAG ! x\n---\n!a b: c", "--- !!map", "? ?",
        "*", "&", "!", "- -", "{", "@", "`",
    ] {
        let problems = told(text);
        assert!(!problems.is_empty(), "{text:?}");
    }
}

#[test]
fn messages_stay_short_whatever_the_file_says() {
    let long = "y".repeat(100_000);
    let keys = format!(
        "    user: [{long}]\n    {long}: 1\n    restart: {long}\n    ports: ['{long}']\n    ulimits: {{ {long}: 1 }}\n"
    );
    for problem in told(&services(&keys)) {
        assert!(problem.len() < 1000, "{} bytes", problem.len());
    }
    for problem in
        told(&format!("{long}: {{ {long}: 1 }}\nname: {long}\nservices: {{ {long}: {{ depends_on: [{long}] }} }}\n"))
    {
        assert!(problem.len() < 1000, "{} bytes: {problem:.2000}", problem.len());
    }
}

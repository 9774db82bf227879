//! What holds for every text.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use outrigger_compose::{Severity, Sources, load, references, resolve};
use proptest::prelude::*;

/// Pieces from which files that are nearly right are made.
const PIECES: &[&str] = &[
    "name: s\n",
    "services:\n",
    "  web:\n",
    "    image: x\n",
    "    ports:\n",
    "      - 80:80\n",
    "  ",
    "    ",
    "\t",
    "\n",
    "- ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "<<: *a\n",
    "!reset ",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "#",
    "${A:-b}",
    "$",
    "$$",
    "extends: web\n",
    "extends: { file: o, service: web }\n",
    "env_file: e\n",
    "deploy: { replicas: 3 }\n",
    "command: ",
    "~",
    "volumes:\n",
    "data:/d",
    "healthcheck: { test: x }\n",
    "x-outrigger: { on_device_loss: wait }\n",
    "---\n",
    "\u{feff}",
    "é",
    "environment: [A, B=1]\n",
    "labels: { a: b }\n",
    "ulimits: { nofile: 1 }\n",
    "\r\n",
    "0",
    "-1",
    "1.5g",
    "1m30s",
    "? ",
];

fn check(text: &str) {
    let found = references(text);
    let mut sources = Sources::of("c", text);
    sources.files.insert("o".to_owned(), text.to_owned());
    sources.files.insert("e".to_owned(), text.to_owned());
    sources.files.insert(".env".to_owned(), text.to_owned());
    let outcome = load(None, &sources);
    let has_errors = outcome.diagnostics.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(outcome.stack.is_some(), !has_errors, "{text:?}\n{:?}", outcome.diagnostics);
    for problem in &outcome.diagnostics {
        assert!(problem.line > 0 && problem.column > 0);
        assert!(!problem.to_string().contains('\n'), "{problem:?}");
    }
    let again = load(None, &sources);
    assert_eq!(again, outcome, "the same sources give the same outcome");
    drop(found);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn nearly_right_files_are_read_or_refused(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..40)) {
        check(&pieces.concat());
    }

    #[test]
    fn any_value_under_any_key_is_read_or_refused(key in proptest::sample::select(KEYS), value in "\\PC{0,40}") {
        let quoted = value.replace('\'', "''");
        for value in [format!("'{quoted}'"), format!("['{quoted}']"), format!("{{ k: '{quoted}' }}"), value] {
            check(&format!("name: s\nservices:\n  web:\n    image: x\n    {key}: {value}\n"));
        }
    }

    #[test]
    fn a_text_without_variables_stays_as_it_is(text in "[^$\0-\u{1f}\u{7f}-\u{9f}\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}]{1,80}") {
        prop_assert_eq!(expanded(&text, &[]), Some(text));
    }

    #[test]
    fn doubled_dollars_are_the_text_itself(text in "[ -~]{1,80}") {
        prop_assert_eq!(expanded(&text.replace('$', "$$"), &[]), Some(text));
    }

    #[test]
    fn values_are_not_read_again(value in "[ -~]{1,40}", before in "[a-z]{0,5}", after in "[a-z]{0,5}") {
        let text = format!("{before}${{VALUE}}{after}");
        prop_assert_eq!(expanded(&text, &[("VALUE", &value)]), Some(format!("{before}{value}{after}")));
    }

    #[test]
    fn modifiers_choose_as_the_shell_does(value in proptest::option::of("[a-z]{0,3}"), word in "[a-z]{1,3}") {
        let given: Vec<(&str, &str)> = value.iter().map(|value| ("V", value.as_str())).collect();
        let is_set = value.is_some();
        let is_filled = value.as_ref().is_some_and(|value| !value.is_empty());
        let text = value.clone().unwrap_or_default();
        let one = |has: bool, yes: &str, no: &str| Some(if has { yes } else { no }.to_owned());
        prop_assert_eq!(expanded(&format!("=${{V:-{word}}}"), &given), one(is_filled, &format!("={text}"), &format!("={word}")));
        prop_assert_eq!(expanded(&format!("=${{V-{word}}}"), &given), one(is_set, &format!("={text}"), &format!("={word}")));
        prop_assert_eq!(expanded(&format!("=${{V:+{word}}}"), &given), one(is_filled, &format!("={word}"), "="));
        prop_assert_eq!(expanded(&format!("=${{V+{word}}}"), &given), one(is_set, &format!("={word}"), "="));
        prop_assert_eq!(expanded(&format!("=${{V:?{word}}}"), &given), is_filled.then(|| format!("={text}")));
        prop_assert_eq!(expanded(&format!("=${{V?{word}}}"), &given), is_set.then(|| format!("={text}")));
        prop_assert_eq!(expanded(&format!("=${{GONE:-${{V-{word}}}}}"), &given), one(is_set, &format!("={text}"), &format!("={word}")));
    }

    #[test]
    fn every_variable_that_matters_is_among_the_references(text in "(\\$\\{?[A-C](:?[-+?][a-c]?)?\\}?|[a-z $]){0,10}") {
        let file = with_label(&text);
        let outcome = load(None, &Sources::of("c", &file));
        let found = references(&file).variables;
        prop_assert!(outcome.missing.variables.is_subset(&found), "{:?} {:?}", outcome.missing, found);
    }

    #[test]
    fn resolving_a_path_twice_changes_nothing(base in "[a-z./]{0,12}", path in "[a-z./]{1,12}") {
        let once = resolve(&base, &path);
        prop_assert_eq!(resolve("", &once), once);
    }
}

fn with_label(text: &str) -> String {
    format!("name: s\nservices:\n  web:\n    image: x\n    labels:\n      l: '{}'\n", text.replace('\'', "''"))
}

/// What becomes of `text` as a value of the file.
fn expanded(text: &str, variables: &[(&str, &str)]) -> Option<String> {
    let mut sources = Sources::of("c", &with_label(text));
    sources.variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
    let stack = load(None, &sources).stack?;
    Some(stack.services[0].container.labels[0].1.clone())
}

const KEYS: &[&str] = &[
    "image", "platform", "command", "entrypoint", "environment", "env_file", "label_file", "labels", "ports", "expose",
    "volumes", "tmpfs", "healthcheck", "restart", "user", "working_dir", "hostname", "stop_signal",
    "stop_grace_period", "init", "tty", "cap_add", "ulimits", "sysctls", "devices", "gpus", "extra_hosts", "logging",
    "shm_size", "cpus", "mem_limit", "pids_limit", "cpu_quota", "cpu_period", "scale", "deploy", "depends_on",
    "extends", "networks", "network_mode", "dns", "x-outrigger", "profiles", "container_name", "pull_policy", "<<",
    "secrets", "build",
];

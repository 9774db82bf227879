//! The short run of every target (S31, S4, S39), from a fixed seed; `OUTRIGGER_FUZZ_SECONDS` makes it longer.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::Duration;

use outrigger_fuzz::{TARGETS, Target, run};

fn short(name: &str) {
    let target: &Target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seconds = std::env::var("OUTRIGGER_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let seeds = (target.seeds)();
    let make_sense = seeds.iter().filter(|seed| (target.check)(seed)).count();
    assert!(make_sense * 2 >= seeds.len(), "only {make_sense} of {} seeds make sense", seeds.len());
    let inputs = run(target, Duration::from_secs(seconds), 1)
        .unwrap_or_else(|finding| panic!("{}: {}\n{}", finding.target, finding.what, finding.bytes.escape_ascii()));
    assert!(inputs > 10, "only {inputs} inputs");
}

macro_rules! targets {
    ($($fact:ident: $name:literal,)*) => {
        $(#[test] fn $fact() { short($name); })*

        #[test]
        fn every_target_has_its_short_run() {
            assert_eq!([$($name),*].as_slice(), TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
        }
    };
}

targets! {
    payloads_of_devices_and_hubs: "mqtt",
    compose_files: "compose",
    tokens_and_pins: "tokens",
    certificates_and_what_they_name: "certificates",
    names_and_topics: "names",
    bodies_of_requests: "bodies",
    files_of_the_agent: "files",
    answers_with_secrets: "sealed",
    what_devices_and_the_agent_say_to_the_proxy: "frames",
    questions_for_names: "dns",
    requests_and_answers_by_http: "http",
    streams_between_devices: "streams",
}

/// `fuzz/guided` and cargo-fuzz find each target as a program.
#[test]
fn every_target_can_be_guided_by_coverage() {
    let manifest = include_str!("../Cargo.toml");
    for Target { name, .. } in &TARGETS {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "Cargo.toml has no program for {name}"
        );
        let path = format!("{}/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        let program = std::fs::read_to_string(&path).unwrap();
        assert!(program.contains(&format!("check(\"{name}\", bytes)")), "{path} runs another target");
    }
}

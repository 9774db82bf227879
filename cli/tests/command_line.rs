//! The program as a user runs it, against a hub with canned answers.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{FakeHub, answer, ok, problem, program, replica, run, service};
use serde_json::json;

fn stacks() -> serde_json::Value {
    json!({"stacks": [{"name": "shop", "services": 2, "wanted": 3, "running": 3, "pending": 0}]})
}

#[test]
fn help_names_every_verb_and_exit_code() {
    let ran = run(program(&["--help"]));
    assert_eq!(ran.code, 0);
    let golden = include_str!("help.txt");
    assert_eq!(ran.stdout, golden, "if the change is wanted, put this into tests/help.txt:\n{}", ran.stdout);
}

#[test]
fn one_answer_has_three_forms() {
    let hub = FakeHub::with(vec![("GET /v1/stacks", vec![ok(&stacks())])]);
    assert_eq!(hub.run(&["ls"]).stdout, "STACK   SERVICES   RUNNING\nshop    2          3/3\n");
    assert_eq!(hub.run(&["ls", "-q"]).stdout, "shop\n");
    let json: serde_json::Value = serde_json::from_str(&hub.run(&["-o", "json", "ls"]).stdout).unwrap();
    assert_eq!(json, stacks());
    assert_eq!(hub.run(&["ls", "-q", "-o", "json"]).code, 2);
}

#[test]
fn a_hub_that_is_not_there_is_told_with_its_address() {
    let mut command = program(&["ls", "--hub", "http://127.0.0.1:1"]);
    command.env("http_proxy", "http://127.0.0.1:2");
    let ran = run(command);
    assert_eq!(ran.code, 3);
    let expected = "outrigger: cannot reach the hub at http://127.0.0.1:1 (connection refused)\n  \
                    -> is outrigger-hub running? Set --hub or OUTRIGGER_HUB if it is elsewhere\n";
    assert_eq!(ran.stderr, expected);
}

#[test]
fn an_address_that_is_none_is_a_matter_of_usage() {
    let ran = run(program(&["ls", "--hub", "ftp://x"]));
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("https://HOST:PORT"), "{ran:?}");
}

#[test]
fn what_is_not_there_ends_with_4_and_the_hubs_hint() {
    let no = problem(404, "not_found", "there is no device `pi-9`", &json!({"hint": "`outrigger devices` lists them"}));
    let hub = FakeHub::with(vec![
        ("GET /v1/devices/pi-9", vec![no]),
        ("GET /v1/services", vec![ok(&json!({"services": []}))]),
    ]);
    let ran = hub.run(&["device", "show", "pi-9"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""));
    assert_eq!(ran.stderr, "outrigger: there is no device `pi-9`\n  -> `outrigger devices` lists them\n");
    assert_eq!(hub.run(&["why", "web"]).code, 4);
}

#[test]
fn somebody_who_is_no_hub_is_recognised() {
    let hub = FakeHub::with(vec![
        ("GET /v1/stacks", vec![answer(200, "<html>")]),
        ("GET /v1/devices", vec![answer(502, "bad gateway")]),
    ]);
    let ran = hub.run(&["ls"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("/v1/stacks makes no sense"), "{ran:?}");
    assert!(hub.run(&["devices"]).stderr.contains("502"));
}

const COMPOSE: &str = "services:\n  web:\n    image: web:${TAG:-1}\n    env_file: a.env\n    prots: ['80:80']\n";

/// A folder `shop` with a Compose file and what it refers to.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().join("shop");
    std::fs::create_dir(&shop).unwrap();
    std::fs::write(shop.join("compose.yaml"), COMPOSE).unwrap();
    std::fs::write(shop.join("a.env"), "A=1\n").unwrap();
    std::fs::write(shop.join(".env"), "TAG=7\nSECRET=x\n").unwrap();
    folder
}

fn missing() -> common::Answer {
    problem(422, "missing_input", "more is needed", &json!({"files": ["a.env"], "variables": ["TAG", "SECRET"]}))
}

fn unnamed() -> common::Answer {
    problem(422, "compose", "compose.yaml has an error", &json!({}))
}

fn applied(warnings: &serde_json::Value) -> common::Answer {
    ok(&json!({
        "stack": "shop", "dry_run": false, "warnings": warnings,
        "services": [{"name": "web", "change": "created", "wanted": 2}]
    }))
}

fn finding(severity: &str) -> serde_json::Value {
    json!([{
        "severity": severity, "file": "compose.yaml", "line": 5, "column": 5, "path": "services.web.prots",
        "message": "unknown key", "help": "did you mean `ports`?"
    }])
}

#[test]
fn a_file_is_deployed_with_what_it_refers_to_and_nothing_else() {
    let hub = FakeHub::with(vec![
        ("POST /v1/compose/check", vec![missing(), unnamed()]),
        ("PUT /v1/stacks/shop", vec![applied(&finding("warning"))]),
    ]);
    let folder = project();
    let mut command = hub.command(&["deploy", "-f", "shop/compose.yaml"]);
    command.current_dir(folder.path());
    let ran = run(command);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout, "shop deployed\nSERVICE   CHANGE    COPIES\nweb       created   2\n");
    let expected = "\
sending shop/a.env
warning: unknown key
 --> shop/compose.yaml:5:5  (services.web.prots)
5 |     prots: ['80:80']
  |     ^
  = help: did you mean `ports`?
";
    assert_eq!(ran.stderr, expected);
    let sent = hub.asked().pop().unwrap();
    let expected = json!({
        "main": "compose.yaml",
        "files": {"compose.yaml": COMPOSE, "a.env": "A=1\n"},
        "variables": {"TAG": "7"}
    });
    assert_eq!(sent.body, expected, "SECRET is in .env, but the file does not mention it");
}

#[test]
fn several_files_and_profiles_are_sent_in_their_order() {
    let hub = FakeHub::with(vec![(
        "POST /v1/compose/check",
        vec![ok(&json!({"stack": "shop", "services": ["web"], "warnings": []}))],
    )]);
    let folder = project();
    std::fs::write(folder.path().join("prod.yaml"), "services: {web: {init: true}}\n").unwrap();
    let sent = |args: &[&str], variables: &[(&str, &str)], at: &str| {
        let mut command = hub.command(&[&["compose", "check", "--name", "shop"], args].concat());
        command.current_dir(folder.path().join(at)).envs(variables.iter().copied());
        let ran = run(command);
        assert_eq!(ran.code, 0, "{ran:?}");
        let sent = hub.asked().pop().unwrap().body;
        json!([sent["main"], sent["overrides"], sent["profiles"]])
    };
    let args = ["-f", "shop/compose.yaml", "-f", "prod.yaml", "--profile", "debug"];
    let expected = json!(["compose.yaml", ["../prod.yaml"], ["debug"]]);
    assert_eq!(sent(&args, &[("COMPOSE_PROFILES", "not,these")], ""), expected);
    let variables = [("COMPOSE_PROFILES", "a, b"), ("COMPOSE_FILE", "compose.yaml:../prod.yaml")];
    assert_eq!(sent(&[], &variables, "shop"), json!(["compose.yaml", ["../prod.yaml"], ["a", "b"]]));
    std::fs::write(folder.path().join("shop/compose.override.yaml"), "services: {}\n").unwrap();
    assert_eq!(sent(&[], &[], "shop"), json!(["compose.yaml", ["compose.override.yaml"], null]));
}

#[test]
fn a_dry_run_only_plans() {
    let mut plan: serde_json::Value = json!({"stack": "s", "dry_run": true, "warnings": [], "services": []});
    plan["replicas"] = json!([{"replica": "s/web.1", "device": "pi-1", "reason": "most room"}]);
    let hub = FakeHub::with(vec![("POST /v1/stacks/s/plan", vec![ok(&plan)])]);
    let folder = project();
    let mut command = hub.command(&["deploy", "--name", "s", "--dry-run", "--var", "TAG=9"]);
    command.current_dir(folder.path().join("shop"));
    let ran = run(command);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.ends_with("REPLICA   DEVICE   WHY\ns/web.1   pi-1     most room\n"), "{ran:?}");
    assert_eq!(hub.lines(), ["POST /v1/stacks/s/plan"]);
}

#[test]
fn a_file_that_cannot_be_used_ends_with_6_and_shows_where() {
    let refused = problem(422, "compose", "compose.yaml has an error", &json!({"diagnostics": finding("error")}));
    let hub = FakeHub::with(vec![("POST /v1/compose/check", vec![refused])]);
    let folder = project();
    let path = folder.path().join("shop/compose.yaml");
    let ran = hub.run(&["compose", "check", "-f", path.to_str().unwrap()]);
    assert_eq!(ran.code, 6);
    assert!(ran.stderr.starts_with("error: unknown key\n"), "{ran:?}");
    assert!(ran.stderr.ends_with("outrigger: compose.yaml has an error\n"), "{ran:?}");
    let ran = hub.run(&["compose", "check", "-o", "json", "-f", path.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["diagnostics"], finding("error"));
}

#[test]
fn a_name_that_cannot_be_is_not_replaced_by_that_of_the_folder() {
    let bad = json!({"diagnostics": [{
        "severity": "error", "file": "standard input", "line": 1, "column": 7, "path": "name", "message": "no name"
    }]});
    let refused = problem(422, "compose", "standard input has an error", &bad);
    let hub = FakeHub::with(vec![("POST /v1/compose/check", vec![refused])]);
    let mut command = hub.command(&["deploy", "-f", "-"]);
    let folder = project();
    let input = std::fs::File::open(folder.path().join("shop/compose.yaml")).unwrap();
    command.stdin(input).current_dir(folder.path().join("shop"));
    let ran = run(command);
    assert_eq!((ran.code, hub.lines().len()), (6, 1), "{ran:?}");
    assert!(ran.stderr.contains(" --> standard input:1:7  (name)"), "{ran:?}");
}

#[test]
fn a_compose_file_that_is_not_there_is_told_by_name() {
    let hub = FakeHub::with(vec![]);
    let ran = hub.run(&["deploy", "-f", "/nowhere/compose.yaml"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("cannot read /nowhere/compose.yaml: there is no such file"), "{ran:?}");
    let mut command = hub.command(&["deploy"]);
    let folder = tempfile::tempdir().unwrap();
    command.current_dir(folder.path());
    let ran = run(command);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("docker-compose.yml"), "{ran:?}");
    assert!(hub.lines().is_empty());
}

#[test]
fn waiting_ends_when_all_copies_run_and_tells_each_step_once() {
    let at = |state: &str| ok(&json!({"replicas": [replica("shop/web.1", state)]}));
    let hub = FakeHub::with(vec![
        ("GET /v1/services", vec![ok(&json!({"services": [service("shop/web", 1)]}))]),
        ("GET /v1/services/shop/web", vec![ok(&service("shop/web", 1))]),
        ("POST /v1/services/shop/web/scale", vec![ok(&json!({"service": "shop/web", "before": 0, "after": 1}))]),
        ("GET /v1/replicas", vec![at("pulling"), at("pulling"), at("starting"), at("running")]),
    ]);
    let ran = hub.run(&["scale", "web=1", "--wait"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "shop/web: 0 -> 1 copies\n"), "{ran:?}");
    let expected = "shop/web.1: pulling on pi-1\nshop/web.1: starting on pi-1\nshop/web.1: running on pi-1\n\
                    1 of 1 copy running\n";
    assert_eq!(ran.stderr, expected);
}

#[test]
fn waiting_in_vain_ends_with_5() {
    let mut pending = replica("shop/web.1", "pending");
    pending["detail"] = json!("no device has two cameras");
    pending.as_object_mut().unwrap().remove("copy");
    let hub = FakeHub::with(vec![
        ("GET /v1/services", vec![ok(&json!({"services": [service("shop/web", 1)]}))]),
        ("GET /v1/services/shop/web", vec![ok(&service("shop/web", 1))]),
        ("POST /v1/services/shop/web/restart", vec![ok(&json!({"service": "shop/web", "revision": 2}))]),
        ("GET /v1/replicas", vec![ok(&json!({"replicas": [pending]}))]),
    ]);
    let ran = hub.run(&["restart", "web", "--wait", "--timeout", "100ms"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("shop/web.1: pending: no device has two cameras"), "{ran:?}");
}

#[test]
fn names_from_devices_cannot_act_on_a_terminal_and_colours_can_be_had() {
    let replica = replica("shop/web.1", "running");
    let mut evil = replica.clone();
    evil["copy"]["device"] = json!("pi\u{1b}[2J");
    let hub = FakeHub::with(vec![("GET /v1/replicas", vec![ok(&json!({"replicas": [evil]}))])]);
    assert!(!hub.run(&["ps"]).stdout.contains('\u{1b}'));
    let coloured = hub.run(&["ps", "--color", "always"]).stdout;
    assert!(coloured.contains("\u{1b}[32mrunning\u{1b}[0m"), "{coloured}");
    assert!(!coloured.contains("\u{1b}[2J"));
}

#[test]
fn logs_of_several_replicas_say_whose_each_line_is() {
    let frames = |replica: &str| {
        let line = json!({"frame": "line", "replica": replica, "output": "stdout", "text": "hello"});
        answer(200, format!("{line}\n{{\"frame\":\"beat\"}}\n{}\n", json!({"frame": "end", "replica": replica})))
    };
    let hub = FakeHub::with(vec![
        ("GET /v1/services", vec![ok(&json!({"services": [service("shop/web", 2)]}))]),
        (
            "GET /v1/replicas",
            vec![ok(&json!({"replicas": [replica("shop/web.1", "running"), replica("shop/web.2", "running")]}))],
        ),
        ("GET /v1/replicas/shop/web.1/logs", vec![frames("shop/web.1")]),
        ("GET /v1/replicas/shop/web.2/logs", vec![frames("shop/web.2")]),
    ]);
    assert_eq!(hub.run(&["logs", "web"]).stdout, "web.1 | hello\nweb.2 | hello\n");
    assert_eq!(hub.run(&["logs", "web.2", "-n", "5"]).stdout, "hello\n");
    let asked = hub.lines().pop().unwrap();
    assert_eq!(asked, "GET /v1/replicas/shop/web.2/logs?follow=false&tail=5&timestamps=false");
}

#[test]
fn replicas_that_are_not_followed_are_named() {
    let replicas: Vec<_> = (1..=5).map(|number| replica(&format!("shop/web.{number}"), "running")).collect();
    let hub = FakeHub::with(vec![
        ("GET /v1/services", vec![ok(&json!({"services": [service("shop/web", 5), service("blog/db", 1)]}))]),
        ("GET /v1/replicas", vec![ok(&json!({ "replicas": replicas }))]),
        ("GET /v1/replicas/blog/db.1", vec![ok(&replica("blog/db.1", "running"))]),
        (
            "GET /v1/replicas/blog/db.1/logs",
            vec![answer(200, r#"{"frame":"line","replica":"blog/db.1","output":"stdout","text":"hello"}"#)],
        ),
    ]);
    let mut command = hub.command(&["logs", "-f", "db.1", "web", "--max-replicas", "2"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut line, mut told) = (String::new(), String::new());
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut told).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(line, "blog/db.1  | hello\n");
    let expected = "following 2 of 6 replicas, without shop/web.2, shop/web.3, shop/web.4, shop/web.5; \
                    --max-replicas 6 follows all; or name the replicas you want\n";
    assert_eq!(told, expected);
}

#[test]
fn the_output_of_a_copy_that_moves_is_followed_to_its_new_device() {
    let placed = |placement: &str| {
        let mut replica = replica("shop/web.1", "running");
        replica["copy"]["placement"] = json!(placement);
        ok(&replica)
    };
    let frames = |text: &str, time: &str| {
        let line = json!({"frame": "line", "replica": "shop/web.1", "output": "stdout", "time": time, "text": text});
        answer(200, format!("{line}\n"))
    };
    let hub = FakeHub::with(vec![
        ("GET /v1/services", vec![ok(&json!({"services": [service("shop/web", 1)]}))]),
        ("GET /v1/replicas", vec![ok(&json!({"replicas": [replica("shop/web.1", "running")]}))]),
        ("GET /v1/replicas/shop/web.1", vec![placed("2a"), placed("2a"), placed("2b")]),
        (
            "GET /v1/replicas/shop/web.1/logs",
            vec![
                frames("first", "2026-11-22T16:56:34.1Z"),
                frames("first", "2026-11-22T16:56:34.1Z"),
                // The clock of the new device is slow.
                frames("second", "2026-11-22T16:00:00.1Z"),
            ],
        ),
    ]);
    let mut child = hub.command(&["logs", "-f", "web.1", "-n", "9"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(2);
    let lines: Vec<String> = lines.map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(lines, ["first", "second"]);
    let asked: Vec<String> = hub.lines().into_iter().filter(|line| line.contains("/logs")).take(3).collect();
    let query = |rest: &str| format!("GET /v1/replicas/shop/web.1/logs?follow=true{rest}&timestamps=true");
    assert_eq!(asked, [query("&tail=9"), query("&since=1795366594"), query("")]);
}

#[test]
fn a_stream_of_events_that_breaks_is_taken_up_where_it_was() {
    let event = |id: u64| {
        let event =
            json!({"id": id, "at_unix_ms": 0, "kind": "k", "severity": "info", "message": format!("event {id}")});
        format!(": beat\n\nid: {id}\ndata: {event}\n\n")
    };
    let streams = vec![answer(200, event(4) + &event(5)), answer(200, event(6)), answer(200, "")];
    let hub = FakeHub::with(vec![("GET /v1/events/stream", streams)]);
    let mut child = hub.command(&["events", "-f", "-q", "-n", "2"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(3);
    let ids: Vec<String> = lines.map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ids, ["4", "5", "6"]);
    assert_eq!(hub.lines()[..2], ["GET /v1/events/stream?limit=2", "GET /v1/events/stream?since=5"]);
}

#[test]
fn a_follower_that_has_seen_no_event_yet_misses_none_while_the_hub_is_away() {
    // The hub tells where a stream begins, and how far it got in what does not match.
    let event = json!({"id": 12, "at_unix_ms": 0, "kind": "k", "severity": "info", "message": "while away"});
    let streams = vec![
        answer(200, "retry: 2000\nid: 7\n\n"),
        answer(200, "id: 11\n\n"),
        answer(200, format!("id: 12\ndata: {event}\n\n")),
        answer(200, ""),
    ];
    let hub = FakeHub::with(vec![("GET /v1/events/stream", streams)]);
    let mut child = hub.command(&["events", "-f", "-q", "-n", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(line, "12\n");
    let asked = |since: &str| format!("GET /v1/events/stream{since}");
    assert_eq!(hub.lines()[..3], [asked(""), asked("?since=7"), asked("?since=11")]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let replicas: Vec<_> = (1..=5000).map(|number| replica(&format!("shop/web.{number}"), "running")).collect();
    let hub = FakeHub::with(vec![("GET /v1/replicas", vec![ok(&json!({ "replicas": replicas }))])]);
    let mut child = hub.command(&["ps"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_list_in_several_pieces_is_shown_whole() {
    let first = json!({"replicas": [replica("shop/web.1", "running")], "next": "shop/web.1"});
    let second = json!({"replicas": [replica("shop/web.2", "running")], "next": "shop/web.2"});
    let last = json!({"replicas": [replica("shop/web.3", "running")]});
    let hub = FakeHub::with(vec![("GET /v1/replicas", vec![ok(&first), ok(&second), ok(&last)])]);
    assert_eq!(hub.run(&["ps", "-q"]).stdout, "shop/web.1\nshop/web.2\nshop/web.3\n");
    let page = |after: &str| format!("GET /v1/replicas?after=shop%2Fweb.{after}");
    assert_eq!(hub.lines(), ["GET /v1/replicas".to_owned(), page("1"), page("2")]);
}

#[test]
fn completion_needs_no_hub() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(program(&["completion", shell]));
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("uncordon"), "{shell}");
    }
}

#[test]
fn version_tells_its_own_also_without_a_hub() {
    let ran = run(program(&["version", "--hub", "127.0.0.1:1"]));
    assert_eq!(ran.code, 7, "not logged in there: {ran:?}");
    assert!(ran.stdout.starts_with("outrigger "), "{ran:?}");
    assert_eq!(run(program(&["version", "--hub", "http://127.0.0.1:1"])).code, 3);
    let health = json!({"ok": true, "version": "9.9.9", "checks": []});
    let hub = FakeHub::with(vec![("GET /readyz", vec![ok(&health)])]);
    assert!(hub.run(&["version"]).stdout.contains("9.9.9"));
}

//! Several Compose files over one another, and profiles.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use outrigger_compose::{Outcome, Sources, load};
use outrigger_protocol::{Mode, ServiceSpec};

/// The files in their order; the first one is `deploy/compose.yaml`, the next `1.yaml`, `2.yaml` …
fn sources(texts: &[&str]) -> Sources {
    let mut sources = Sources::of("deploy/compose.yaml", texts[0]);
    for (index, text) in texts.iter().enumerate().skip(1) {
        let path = format!("{index}.yaml");
        sources.files.insert(path.clone(), (*text).to_owned());
        sources.overrides.push(path);
    }
    sources
}

fn told(outcome: &Outcome) -> Vec<String> {
    outcome.diagnostics.iter().map(ToString::to_string).collect()
}

fn services(sources: &Sources) -> Vec<ServiceSpec> {
    let outcome = load(None, sources);
    assert!(told(&outcome).is_empty(), "{:#?}", told(&outcome));
    outcome.stack.unwrap().services
}

fn pairs(of: &[(String, String)]) -> Vec<String> {
    of.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

const BASE: &str = "\
name: base
services:
  web:
    image: web:1
    command: [serve, --slow]
    environment: [A=1, B=1]
    ports: ['80:80', '127.0.0.1:90:90/udp']
    volumes: ['/srv/a:/data', '/srv/b:/logs']
    dns: 1.1.1.1
    healthcheck: { test: [CMD, old], retries: 5 }
    deploy: { replicas: 2, labels: { tier: front } }
  db: { image: db:1 }
";

#[test]
fn later_files_are_merged_key_by_key_over_earlier_ones() {
    let over = "\
name: shop
services:
  web:
    image: web:2
    command: [serve]
    environment: { B: 2, C: 3 }
    ports:
      - { target: 80, published: 80, protocol: tcp }
      - 443:443
    volumes: ['/srv/c:/data:ro']
    dns: [9.9.9.9]
    healthcheck: { test: [CMD, new] }
    deploy: { labels: [zone=attic] }
  cache: { image: cache:1 }
volumes: { later: }
";
    let last = "services: { web: { deploy: { replicas: 4 } }, db: { volumes: ['later:/var'] } }\n";
    let sources = sources(&[BASE, over, last]);
    assert_eq!(load(None, &sources).stack.unwrap().name.as_str(), "shop");
    let all = services(&sources);
    let names: Vec<&str> = all.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["cache", "db", "web"]);
    assert_eq!(all[1].container.mounts.len(), 1);
    let web = &all[2];
    let container = &web.container;
    assert_eq!((container.image.as_str(), container.command.as_deref()), ("web:2", Some(&["serve".to_owned()][..])));
    assert_eq!(pairs(&container.environment), ["A=1", "B=2", "C=3"]);
    let ports: Vec<_> = container.ports.iter().map(|port| (port.container, port.host)).collect();
    assert_eq!(ports, [(80, Some(80)), (90, Some(90)), (443, Some(443))], "one port in two forms is one port");
    assert_eq!(container.mounts.len(), 2, "two volumes cannot be at one place");
    assert_eq!(container.dns, ["1.1.1.1", "9.9.9.9"]);
    assert_eq!(container.healthcheck.as_ref().unwrap().retries, Some(5));
    assert_eq!((web.mode, pairs(&web.labels)), (Mode::Replicated(4), vec!["tier=front".into(), "zone=attic".into()]));
}

#[test]
fn tags_reset_and_override_what_earlier_files_say() {
    let over = "\
services:
  web:
    ports: !override ['8080:80']
    command: !reset []
    environment:
      A: !reset null
    dns: !reset
  db: !reset
";
    let all = services(&sources(&[BASE, over]));
    assert_eq!(all.len(), 1);
    let container = &all[0].container;
    assert_eq!(container.ports.iter().map(|port| port.host).collect::<Vec<_>>(), [Some(8080)]);
    assert_eq!((container.command.as_ref(), container.dns.len()), (None, 0));
    assert_eq!(pairs(&container.environment), ["B=1"]);
    let again = "services: { web: { dns: 8.8.8.8 } }";
    assert_eq!(services(&sources(&[BASE, over, again]))[0].container.dns, ["8.8.8.8"]);
}

#[test]
fn a_mistake_is_told_in_the_file_in_which_it_is() {
    let over = "services:\n  web:\n    imge: x\n    environment: { FINE: 1 }\n  db:\n    mem_limit: lots\n";
    let outcome = load(None, &sources(&[BASE, over]));
    assert!(outcome.stack.is_none());
    let expected = ["1.yaml:3:5: error: services.web.imge: unknown key; did you mean `image`?"];
    assert_eq!(told(&outcome)[..1], expected);
    assert!(told(&outcome)[1].starts_with("1.yaml:6:16: error: services.db.mem_limit: "), "{:?}", told(&outcome));
    let mended = "services: { db: { mem_limit: 1g }, web: { imge: !reset } }";
    assert!(told(&load(None, &sources(&[BASE, over, mended]))).is_empty(), "what is replaced is not read");
}

#[test]
fn a_further_file_that_was_not_sent_is_asked_for() {
    let mut sources = sources(&[BASE]);
    sources.overrides.push("prod.yaml".into());
    let outcome = load(None, &sources);
    assert_eq!((outcome.stack, outcome.missing.files), (None, BTreeSet::from(["prod.yaml".to_owned()])));
}

#[test]
fn paths_in_further_files_are_relative_to_the_first() {
    let over = "services: { web: { env_file: app.env, extends: { file: common.yaml, service: shared } } }";
    let mut sources = sources(&[BASE, over]);
    let common = "services: { shared: { init: true } }";
    for (path, text) in [("deploy/common.yaml", common), ("deploy/app.env", "D=4\n")] {
        assert_eq!(load(None, &sources).missing.files, BTreeSet::from([path.to_owned()]));
        sources.files.insert(path.into(), text.into());
    }
    let all = services(&sources);
    let web = &all[1].container;
    assert_eq!((pairs(&web.environment), web.init), (vec!["A=1".into(), "B=1".into(), "D=4".into()], Some(true)));
}

#[test]
fn a_service_with_profiles_counts_if_one_of_them_is_active() {
    let text = "name: s\nservices:\n  a: { image: x }\n  b: { image: x, profiles: [debug, tools] }\n  c: { image: x, profiles: [test] }\n";
    let names = |profiles: &[&str]| {
        let mut sources = Sources::of("c.yaml", text);
        sources.profiles = profiles.iter().map(|&profile| profile.to_owned()).collect();
        let outcome = load(None, &sources);
        let services = outcome.stack.as_ref().unwrap().services.iter();
        (services.map(|service| service.name.to_string()).collect::<Vec<_>>().join(" "), told(&outcome))
    };
    assert_eq!(names(&["tools", "test"]), ("a b c".into(), vec![]));
    assert_eq!(names(&["*"]), ("a b c".into(), vec![]));
    let out =
        "c.yaml:5:3: warning: services.c: left out: none of its `profiles` is active; activate one with --profile test";
    assert_eq!(names(&["debug"]), ("a b".into(), vec![out.into()]));
    let (left, told) = names(&["debig"]);
    assert_eq!(left, "a");
    assert_eq!(told[0], "c.yaml:2:1: warning: services: no service has the profile `debig`; did you mean `debug`?");
}

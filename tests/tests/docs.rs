//! What the documentation says is so: settings, metrics and Compose keys are those of the code, and links lead somewhere.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use outrigger_compose::{Severity, Sources, load};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The part of a page under a heading, up to the next one of the same rank.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let begin = page.find(&format!("\n## {heading}")).unwrap_or_else(|| panic!("no heading `{heading}`"));
    let rest = &page[begin + 4..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

/// The cells of a table's rows, without its head.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines.map(|line| line.split('|').map(str::trim).collect()).filter(|cells: &Vec<&str>| cells[0].starts_with('`'))
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// First cell (one key in backticks) to second.
fn table(text: &str) -> BTreeMap<&str, &str> {
    rows(text).map(|cells| (quoted(cells[0])[0], cells[1])).collect()
}

#[test]
fn the_hubs_settings_are_documented_with_their_defaults() {
    let page = read("docs/operations/settings.md");
    let told: BTreeMap<_, _> = table(section(&page, "Hub"))
        .into_iter()
        .map(|(key, default)| (key, if default == "none" { "" } else { default.trim_matches('`') }))
        .collect();
    let known: BTreeMap<_, _> = outrigger_hub::config::KEYS.iter().copied().collect();
    assert_eq!(told, known);
}

#[test]
fn the_agents_settings_are_documented() {
    let page = read("docs/operations/settings.md");
    let told: BTreeSet<_> = table(section(&page, "Agent")).into_keys().collect();
    assert_eq!(told, BTreeSet::from(outrigger_agent::config::KEYS));
}

/// Names as the code gives them, and as the format writes them: counters and infos have a suffix.
#[test]
fn the_metrics_are_documented() {
    let code = read("hub/src/metrics.rs");
    let is_name = |text: &&str| text.starts_with("outrigger_") && !text.contains(['-', ' ']);
    let known: BTreeSet<_> = code.split('"').filter(is_name).collect();
    let page = read("docs/operations/metrics.md");
    let rows: Vec<_> = rows(&page).collect();
    let told: BTreeSet<_> = rows
        .iter()
        .flat_map(|cells| quoted(cells[0]).into_iter().map(|name| (name, cells[1])))
        .map(|(name, sort)| match sort {
            "counter" => name.strip_suffix("_total").unwrap_or(name),
            "info" => name.strip_suffix("_info").unwrap_or(name),
            _ => name,
        })
        .collect();
    assert!(known.len() > 30, "{known:?}");
    assert_eq!(told, known);
}

/// Values that fit one key or another. None of those that change nothing: the page says of them that they are noted.
const VALUES: &[&str] = &[
    "x", "/x", "1", "0.5", "1s", "1m", "[x]", "{ a: b }", "true", "[/dev/x]", "['/a:/b']", "['80']", "{ core: 1 }",
    "{ replicas: 1 }", "{ test: x }", "{ driver: x }", "other", "[other]", "all", "always", "SIGINT", "host",
    "linux/arm64", "1.1.1.1", "['a:1.2.3.4']", "[default]", "1000",
];

/// The mildest that is said about a key of a service, whatever its value; none: there is a value that is taken.
fn judged(key: &str) -> Option<Severity> {
    let of_value = |value: &&str| {
        let image = if key == "image" { "" } else { "image: y, " };
        let text = format!(
            "name: s\nservices:\n  web: {{ {image}{key}: {value} }}\n  other: {{ image: y }}\nvolumes: {{ data: }}\n\
             secrets: {{ x: {{ external: true }} }}\nconfigs: {{ x: {{ external: true }} }}\n"
        );
        let mut sources = Sources::of("compose.yaml", &text);
        sources.files.insert("x".to_owned(), "A=1".to_owned());
        sources.profiles.insert("*".to_owned());
        let found = load(None, &sources).diagnostics;
        let of_key = found.iter().filter(|found| found.path.starts_with(&format!("services.web.{key}")));
        let service = found.iter().filter(|found| found.path == "services.web");
        of_key.chain(service).map(|found| found.severity == Severity::Error).max()
    };
    let mildest = VALUES.iter().map(of_value).min().flatten();
    mildest.map(|is_error| if is_error { Severity::Error } else { Severity::Warning })
}

#[test]
fn compose_keys_are_in_the_class_that_the_page_gives_them() {
    let page = read("docs/operations/compose.md");
    let mut checked = 0;
    for cells in rows(section(&page, "Services")) {
        for key in quoted(cells[0]) {
            let judged = judged(key);
            let class = match judged {
                None => &["yes", "noted"][..],
                Some(Severity::Error) => &["refused"],
                Some(_) => &["warning"],
            };
            assert!(class.contains(&cells[1]), "`{key}` is said to be {}, and is {class:?}", cells[1]);
            checked += 1;
        }
    }
    let all = quoted_words(&read("compose/tests/specification.rs"));
    let told: BTreeSet<_> =
        rows(section(&page, "Services")).flat_map(|cells| quoted(cells[0])).map(str::to_owned).collect();
    assert_eq!(
        all.difference(&told).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "keys of the specification not told of"
    );
    assert!(checked > 80, "{checked}");
}

/// The keys of a service that the specification has, from the test that holds the reader to them.
fn quoted_words(code: &str) -> BTreeSet<String> {
    let list = code.split("const SERVICE: &str = \"").nth(1).and_then(|rest| rest.split("\";").next()).unwrap();
    list.replace('\\', " ").split_whitespace().map(str::to_owned).collect()
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The anchors of a page's headings, as forges make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let kept = line.trim_start_matches('#').trim().to_lowercase();
        let kept: String = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut all = vec![];
    pages(&root(), &mut all);
    let (mut broken, mut checked) = (vec![], 0);
    for page in &all {
        let text = fs::read_to_string(page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let is_there = path.exists()
                && (anchor.is_empty() || fs::read_to_string(&path).is_ok_and(|page| anchors(&page).contains(anchor)));
            if !is_there {
                broken.push(format!("{}: {target}", page.strip_prefix(root()).unwrap().display()));
            }
            checked += 1;
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(checked > 30, "{checked}");
}

//! `secrets` and `configs`: where their content comes from, where they are found, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic)]

use outrigger_compose::{Outcome, Sources, gather, load, references};
use outrigger_protocol::{FileKind, FileMount};

fn sources(text: &str) -> Sources {
    let mut sources = Sources::of("compose.yaml", text);
    sources.files.insert("db.txt".into(), "pa$SWORD".into());
    sources.variables.insert("TOKEN".into(), "from-the-environment".into());
    sources
}

fn read(text: &str) -> Outcome {
    load(None, &sources(&format!("name: shop\n{text}")))
}

fn mounts(outcome: &Outcome) -> Vec<FileMount> {
    let stack = outcome.stack.as_ref().unwrap_or_else(|| panic!("{:?}", outcome.diagnostics));
    stack.services[0].container.files.clone()
}

fn errors(outcome: &Outcome) -> Vec<String> {
    assert!(outcome.files.is_empty(), "nothing of a file that is refused is used");
    outcome.diagnostics.iter().map(|found| format!("{}: {}", found.path, found.message)).collect()
}

#[test]
fn each_source_gives_its_content_and_each_form_its_place() {
    let outcome = read(
        "services:\n  web:\n    image: x\n    secrets:\n      - db\n      - source: token\n        target: api-token\n        \
         uid: '1000'\n        gid: 1001\n        mode: 0440\n      - { source: tls, target: /etc/tls/key.pem }\n    \
         configs: [app, { source: old, target: /etc/old.conf }]\n\
         secrets:\n  db: { file: ./db.txt }\n  token: { environment: TOKEN }\n  tls: { external: true, name: fleet-tls }\n  \
         idle: { file: ./nowhere.txt }\n\
         configs:\n  app: { content: 'token=${TOKEN}' }\n  old: { external: { name: old-name } }\n",
    );
    let found: Vec<_> = mounts(&outcome)
        .into_iter()
        .map(|one| (one.file.to_string(), one.target, one.uid, one.gid, one.mode, one.file.version))
        .collect();
    let expected = [
        ("secret `shop_db`", "/run/secrets/db", 0, 0, 0o444, 0),
        ("secret `shop_token`", "/run/secrets/api-token", 1000, 1001, 0o440, 0),
        ("secret `fleet-tls`", "/etc/tls/key.pem", 0, 0, 0o444, 0),
        ("config `shop_app`", "/app", 0, 0, 0o444, 0),
        ("config `old-name`", "/etc/old.conf", 0, 0, 0o444, 0),
    ]
    .map(|(file, target, uid, gid, mode, version)| (file.to_owned(), target.to_owned(), uid, gid, mode, version));
    assert_eq!(found, expected);
    let contents: Vec<_> = outcome
        .files
        .iter()
        .map(|one| (one.name.as_str(), one.content.as_ref().map(|bytes| std::str::from_utf8(&bytes.0).unwrap())))
        .collect();
    assert_eq!(
        contents,
        [
            ("shop_db", Some("pa$SWORD")),
            ("fleet-tls", None),
            ("shop_token", Some("from-the-environment")),
            ("shop_app", Some("token=from-the-environment")),
            ("old-name", None),
        ]
    );
    assert!(outcome.missing.files.is_empty(), "what nobody uses need not be there: {:?}", outcome.missing);
}

/// S37: what a secret is called, and where it is put, is never a way out.
#[test]
fn names_and_places_that_are_not_what_they_seem_are_refused() {
    for name in ["../x", "/etc/shadow", "a/b", "..", ".hidden", "\"a\\0b\"", "\"a\\nb\""] {
        let text = format!(
            "services: {{ web: {{ image: x, secrets: [s] }} }}\nsecrets: {{ s: {{ external: true, name: {name} }} }}\n"
        );
        assert_eq!(read(&text).stack, None, "{name}");
    }
    for target in [
        "../x", "a/../../b", "/etc/../x", "/", "/a//b", "./x", "\"a\\0b\"", "/proc/1/root", "/sys/x", "/dev/kmsg", "a/",
    ] {
        let text = format!(
            "services: {{ web: {{ image: x, secrets: [{{ source: s, target: {target} }}] }} }}\n\
             secrets: {{ s: {{ external: true }} }}\n"
        );
        assert_eq!(read(&text).stack, None, "{target}");
    }
    let twins = read(
        "services: { web: { image: x, secrets: [{ source: s, target: db }, { source: s, target: DB }] } }\n\
         secrets: { s: { external: true } }\n",
    );
    assert_eq!(errors(&twins), ["services.web.secrets[1]: something is mounted at `/run/secrets/DB` already"]);
    let under_a_mount = read(
        "services: { web: { image: x, tmpfs: [/run/secrets/db], secrets: [s] } }\n\
         secrets: { s: { external: true } }\n",
    );
    assert!(under_a_mount.stack.is_some(), "beside it is fine");
    let same = read(
        "services: { web: { image: x, tmpfs: [/run/secrets/s], secrets: [s] } }\nsecrets: { s: { external: true } }\n",
    );
    assert_eq!(errors(&same), ["services.web.secrets[0]: something is mounted at `/run/secrets/s` already"]);
}

#[test]
fn slips_are_told_with_their_remedy() {
    for (text, expected) in [
        (
            "services: { web: { image: x, secrets: [bd] } }\nsecrets: { db: { external: true } }\n",
            "services.web.secrets[0]: there is no secret `bd` under the top-level `secrets:`",
        ),
        (
            "services: { web: { image: x, secrets: [db] } }\nsecrets: { db: { file: no.txt } }\n",
            "secrets.db.file: the file `no.txt` was not sent along or does not exist",
        ),
        (
            "services: { web: { image: x, secrets: [db] } }\nsecrets: { db: { environment: NO } }\n",
            "secrets.db.environment: the variable `NO` is not set",
        ),
        (
            "services: { web: { image: x } }\nsecrets: { db: { file: a, external: true } }\n",
            "secrets.db: its content can come from one place only",
        ),
        (
            "services: { web: { image: x, secrets: [{ source: db, mode: 4755 }] } }\nsecrets: { db: { external: true } }\n",
            "services.web.secrets[0].mode: a secret or config has permissions up to `0777`",
        ),
        (
            "services: { web: { image: x, secrets: [{ source: db, uid: root }] } }\nsecrets: { db: { external: true } }\n",
            "services.web.secrets[0].uid: `root` must be a number, such as 1000",
        ),
    ] {
        assert_eq!(errors(&read(text)), [expected], "{text}");
    }
}

#[test]
fn a_content_that_is_too_large_is_refused() {
    let mut sources =
        sources("name: s\nservices: { web: { image: x, configs: [c] } }\nconfigs: { c: { file: big } }\n");
    sources.files.insert("big".into(), "x".repeat(outrigger_protocol::MAX_FILE + 1));
    assert!(load(None, &sources).stack.is_none());
    sources.files.insert("big".into(), "x".repeat(outrigger_protocol::MAX_FILE));
    assert!(load(None, &sources).stack.is_some());
}

/// What looks like a variable in a secret is none: nobody may be asked for it, for the question would tell of the secret.
#[test]
fn a_secret_is_never_searched_for_variables() {
    let text = "services: { web: { image: x, secrets: [db] } }\nsecrets: { db: { file: ./db.txt } }\n";
    let found = references(text);
    assert_eq!(found.contents.into_iter().collect::<Vec<_>>(), ["./db.txt"]);
    assert!(found.files.is_empty() && found.variables.is_empty());
    let mut asked = Vec::new();
    let read = |path: &str| match path {
        "compose.yaml" => Some(text.to_owned()),
        "db.txt" => Some("pa$SWORD".to_owned()),
        _ => None,
    };
    let sources = gather("compose.yaml", read, |name| {
        asked.push(name.to_owned());
        None
    });
    assert_eq!(sources.files["db.txt"], "pa$SWORD");
    assert!(!asked.contains(&"SWORD".to_owned()), "{asked:?}");
    let outcome = load(Some("s".parse().unwrap()), &sources);
    assert!(!format!("{outcome:?}").contains("SWORD"), "and it is never printed");
    assert_eq!(outcome.files[0].kind, FileKind::Secret);
}

//! Logging in to hubs over TLS: the pin comes before the token, the credentials are for nobody else, contexts are chosen.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use outrigger_trust::{CertificateDer, Kind, Pin, PrivateKeyDer, Token};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A hub with an authority of its own that knows everybody, and remembers what it was sent after the handshake.
struct TlsHub {
    url: String,
    pin: Pin,
    heard: Arc<Mutex<Vec<String>>>,
}

impl TlsHub {
    fn start() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone(), authority.clone()];
        let config = ServerConfig::builder_with_provider(outrigger_trust::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (config, told) = (Arc::new(config), Arc::clone(&heard));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, told) = (Arc::clone(&config), Arc::clone(&told));
                thread::spawn(move || {
                    let connection = ServerConnection::new(config).unwrap();
                    serve(StreamOwned::new(connection, stream), &told);
                });
            }
        });
        Self { url, pin: Pin::of(&authority), heard }
    }

    fn token(&self, kind: Kind) -> String {
        Token::fresh(kind, self.pin).reveal()
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// Answers one request. A client that only looks at the certificates sends none.
fn serve(mut stream: impl Read + Write, told: &Mutex<Vec<String>>) {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !has_all(&request) {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => request.extend_from_slice(&piece[..read]),
        }
    }
    if request.is_empty() {
        return;
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let body = if request.starts_with("POST /v1/setup ") {
        let secret = request.split('"').find(|part| part.starts_with("or1.setup.")).unwrap();
        let secret = secret.replacen(".setup.", ".api.", 1);
        format!(
            r#"{{"secret":"{secret}","token":{{"id":"x","name":"ann","role":"admin","created_unix_ms":0,"created_by":"","expires_unix_ms":0}}}}"#
        )
    } else {
        r#"{"who":"ann","role":"admin"}"#.to_owned()
    };
    told.lock().unwrap().push(request);
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
    let _ = stream.flush();
}

fn has_all(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.split("content-length:").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn outrigger(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.args(words).env_clear().env("HOME", home).env("USER", "ann").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_login_keeps_token_and_authority_for_nobody_else_to_read() {
    let (hub, home) = (TlsHub::start(), tempfile::tempdir().unwrap());
    let token = hub.token(Kind::Api);
    let (code, stdout, stderr) = run(&mut outrigger(home.path(), &["login", &hub.url, "--token", &token]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("ann: admin of the whole fleet"), "{stdout}");
    let secret = token.rsplit('.').next().unwrap();
    assert!(!stdout.contains(secret) && !stderr.contains(secret));
    let folder = home.path().join(".config/outrigger");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("contexts.json"))), (0o700, 0o600));

    let (code, stdout, _) = run(&mut outrigger(home.path(), &["whoami"]));
    assert_eq!((code, stdout.as_str()), (0, "ann: admin of the whole fleet\n"));
    assert!(hub.heard().last().unwrap().contains(&format!("Bearer {token}")));

    std::fs::set_permissions(folder.join("contexts.json"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, stderr) = run(&mut outrigger(home.path(), &["whoami"]));
    assert!(code == 1 && stderr.contains("chmod 600"), "{code} {stderr}");
}

#[test]
fn a_server_that_the_token_does_not_pin_hears_nothing() {
    let (hub, other, home) = (TlsHub::start(), TlsHub::start(), tempfile::tempdir().unwrap());
    for word in ["--token", "--setup-code"] {
        let token = hub.token(if word == "--token" { Kind::Api } else { Kind::Setup });
        let (code, _, stderr) = run(&mut outrigger(home.path(), &["login", &other.url, word, &token]));
        assert_eq!(code, 7, "{stderr}");
        assert!(stderr.contains("is not the hub of this token"), "{stderr}");
    }
    let program = run(outrigger(home.path(), &["whoami"])
        .env("OUTRIGGER_HUB", &other.url)
        .env("OUTRIGGER_TOKEN", hub.token(Kind::Api)));
    assert_eq!(program.0, 7, "{program:?}");
    assert_eq!(other.heard(), Vec::<String>::new());
    assert!(!home.path().join(".config").exists());
}

#[test]
fn a_hub_whose_authority_has_changed_hears_nothing_from_who_was_logged_in() {
    let (hub, home) = (TlsHub::start(), tempfile::tempdir().unwrap());
    run(&mut outrigger(home.path(), &["login", &hub.url, "--token", &hub.token(Kind::Api), "--context", "home"]));
    let impostor = TlsHub::start();
    let file = home.path().join(".config/outrigger/contexts.json");
    let text = std::fs::read_to_string(&file).unwrap().replace(&hub.url, &impostor.url);
    std::fs::write(&file, text).unwrap();
    let (code, _, stderr) = run(&mut outrigger(home.path(), &["whoami"]));
    assert_eq!(code, 7, "{stderr}");
    assert!(stderr.contains("is not trusted, and nothing was sent"), "{stderr}");
    assert_eq!(impostor.heard(), Vec::<String>::new());
}

#[test]
fn a_setup_code_becomes_a_token_and_programs_need_no_file() {
    let (hub, home) = (TlsHub::start(), tempfile::tempdir().unwrap());
    let (code, _, stderr) =
        run(&mut outrigger(home.path(), &["login", &hub.url, "--setup-code", &hub.token(Kind::Setup)]));
    assert_eq!(code, 0, "{stderr}");
    let heard = hub.heard();
    assert!(heard[0].starts_with("POST /v1/setup ") && heard[0].contains("\"ann\""), "{heard:?}");
    assert!(!heard[0].to_ascii_lowercase().contains("authorization"), "{heard:?}");
    assert!(heard[1].contains("Bearer or1.api."), "{heard:?}");

    let nowhere = tempfile::tempdir().unwrap();
    let mut program = outrigger(nowhere.path(), &["whoami"]);
    program.env("OUTRIGGER_HUB", &hub.url).env("OUTRIGGER_TOKEN", hub.token(Kind::Api));
    assert_eq!(run(&mut program).0, 0);
    assert!(!nowhere.path().join(".config").exists());
}

#[test]
fn contexts_are_listed_chosen_and_forgotten() {
    let (first, second, home) = (TlsHub::start(), TlsHub::start(), tempfile::tempdir().unwrap());
    for (hub, name) in [(&first, "attic"), (&second, "barn")] {
        run(&mut outrigger(home.path(), &["login", &hub.url, "--token", &hub.token(Kind::Api), "--context", name]));
    }
    let of = |words: &[&str]| run(&mut outrigger(home.path(), words));
    assert_eq!(of(&["context", "ls", "-q"]).1, "attic\nbarn\n");
    assert!(of(&["context", "ls"]).1.lines().any(|line| line.starts_with("barn") && line.ends_with("yes")));
    assert_eq!(of(&["context", "use", "attic"]).0, 0);
    let before = (first.heard().len(), second.heard().len());
    assert_eq!(of(&["whoami"]).0, 0);
    assert_eq!(of(&["--hub", "barn", "whoami"]).0, 0);
    assert_eq!((first.heard().len(), second.heard().len()), (before.0 + 1, before.1 + 1));
    assert_eq!(of(&["logout"]).0, 0);
    assert_eq!(of(&["context", "ls", "-q"]).1, "barn\n");
    assert_eq!(of(&["context", "use", "attic"]).0, 4);
}

#[test]
fn what_cannot_be_a_login_says_why() {
    let (hub, home) = (TlsHub::start(), tempfile::tempdir().unwrap());
    let half = hub.token(Kind::Api);
    for (words, code, wanted) in [
        (vec!["login", &hub.url], 2, "there is neither a token nor anybody to ask"),
        (vec!["login", &hub.url, "--token", &half[..60]], 2, "cut off"),
        (vec!["login", "http://localhost:1", "--token", &half], 2, "plain HTTP"),
        (vec!["--hub", &hub.url, "whoami"], 7, "not logged in"),
        (vec!["login", "https://localhost:1", "--token", &half], 3, "cannot connect"),
    ] {
        let (ended, _, stderr) = run(&mut outrigger(home.path(), &words));
        assert!(ended == code && stderr.contains(wanted), "{words:?}: {ended} {stderr}");
    }
    assert_eq!(hub.heard(), Vec::<String>::new());
}

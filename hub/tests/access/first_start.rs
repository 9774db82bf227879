//! The program itself: what it prints at its first start, and what it opens.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use outrigger_api::TokenCreated;
use outrigger_hub::http::local;
use reqwest::Method;

/// A hub as a program of its own.
struct Program {
    child: Child,
    printed: mpsc::Receiver<String>,
}

impl Program {
    fn start(state: &Path) -> Self {
        let words =
            ["--http-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0", "--relay-port", "0", "--state-dir"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_outrigger-hub"))
            .args(words)
            .arg(state)
            .env("OUTRIGGER_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (line, printed) = mpsc::channel();
        let (out, log) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let logged = line.clone();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).for_each(|text| drop(line.send(format!("out {text}"))));
        });
        std::thread::spawn(move || {
            BufReader::new(log).lines().map_while(Result::ok).for_each(|text| drop(logged.send(format!("log {text}"))));
        });
        Self { child, printed }
    }

    /// Lines up to one that has this.
    fn until(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.contains(text)) {
            let line = self.printed.recv_timeout(Duration::from_secs(30));
            lines.push(line.unwrap_or_else(|_| panic!("no `{text}` after {lines:?}")));
        }
        lines
    }

    /// Ports on which it listens, of all that this machine has.
    fn ports(&self) -> BTreeSet<u16> {
        let sockets: BTreeSet<String> = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let tables = ["tcp", "tcp6", "udp", "udp6"].map(|table| {
            let text = std::fs::read_to_string(format!("/proc/{}/net/{table}", self.child.id())).unwrap_or_default();
            (table, text)
        });
        let mut ports = BTreeSet::new();
        for (table, text) in &tables {
            for line in text.lines().skip(1) {
                let fields: Vec<_> = line.split_whitespace().collect();
                // State 0A is LISTEN; UDP has no such state and listens always.
                let listens = table.starts_with("udp") || fields[3] == "0A";
                if listens && sockets.contains(fields[9]) {
                    ports.insert(u16::from_str_radix(fields[1].rsplit(':').next().unwrap(), 16).unwrap());
                }
            }
        }
        ports
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_hub_prints_a_code_past_its_log_and_opens_what_is_documented() {
    // As any other test of this program may have done; alone, nobody has.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let hub = Program::start(&state);
    let lines = hub.until("prints a new code");
    let code = lines.iter().find_map(|line| line.split(' ').find(|word| word.starts_with("or1.setup."))).unwrap();
    let with_secret: Vec<_> = lines.iter().filter(|line| line.contains(code.rsplit('.').next().unwrap())).collect();
    assert!(with_secret.len() == 1 && with_secret[0].starts_with("out "), "{with_secret:?}");

    // HTTPS, MQTT and where devices meet; for everything else there is the socket in the state folder.
    assert_eq!(hub.ports().len(), 3, "{:?}", hub.ports());
    assert!(local::path(&state).exists());
    drop(hub);

    // Nobody has used it: the next start prints another. With an administrator, none does.
    let hub = Program::start(&state);
    let lines = hub.until("prints a new code");
    assert!(!lines.iter().any(|line| line.contains(code)));
    let body = r#"{"name":"ann","role":"admin"}"#;
    let client = reqwest::Client::builder().unix_socket(local::path(&state)).build().unwrap();
    let request = client.request(Method::POST, "http://localhost/v1/tokens").header("content-type", "application/json");
    let made: TokenCreated = request.body(body).send().await.unwrap().json().await.unwrap();
    assert!(made.secret.0.starts_with("or1.api."));
    drop(hub);
    let hub = Program::start(&state);
    let mut lines = hub.until("the hub runs");
    assert!(Command::new("kill").args(["-TERM", &hub.child.id().to_string()]).status().unwrap().success());
    lines.extend(hub.until("the hub stops"));
    assert!(!lines.iter().any(|line| line.contains("or1.")), "{lines:?}");
}

#[test]
fn a_setup_code_is_made_also_while_the_hub_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let run = || {
        let program = env!("CARGO_BIN_EXE_outrigger-hub");
        let output = Command::new(program).args(["setup-code", "--state-dir"]).arg(&state).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert!(!run().0, "there is no hub yet whose authority could be in it");
    let hub = Program::start(&state);
    hub.until("prints a new code");
    let (done, running) = run();
    assert!(done && running.contains("--setup-code or1.setup."), "{running}");
    drop(hub);
    let (done, stopped) = run();
    assert!(done && stopped.contains("--setup-code or1.setup."), "{stopped}");
    assert_ne!(running, stopped);
}

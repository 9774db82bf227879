//! A canary: secrets of tokens and codes are looked for wherever something is written or told.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::json;

use crate::support::Hub;

/// Everything that is logged, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn files_of(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_of(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn has(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_tokens_and_codes_are_found_nowhere() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    // Others in this process log here too: fine.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());

    let mut hub = Hub::start().await;
    let viewer = hub.token("viewer", &[]).await;
    let code = hub.local(Method::POST, "/v1/setup/code").await["code"].as_str().unwrap().to_owned();
    let canaries: Vec<String> =
        [&hub.admin, &viewer, &code].map(|text| text.rsplit('.').next().unwrap().to_owned()).to_vec();

    // Used well, used badly, and put where they do not belong.
    hub.apply("shop").await;
    hub.get("/v1/stacks", &viewer).await;
    hub.post("/v1/setup", &hub.admin, json!({ "code": viewer, "name": "eve" })).await;
    hub.post("/v1/setup", &hub.admin, json!({ "code": format!("{code}x"), "name": "eve" })).await;
    hub.get("/v1/me", &format!("{viewer}x")).await;
    hub.post("/v1/setup/code", &viewer, json!({})).await;

    let mut told = Vec::new();
    for path in ["/v1/tokens", "/v1/audit", "/v1/events?limit=1000", "/metrics", "/v1/me", "/readyz", "/v1/fleet"] {
        told.push((path.to_owned(), hub.get(path, &hub.admin).await.1.to_string().into_bytes()));
    }
    let backup = hub.ask(Method::GET, "/v1/backup", Some(&hub.admin)).send().await.unwrap().bytes().await.unwrap();
    told.push(("the backup".into(), backup.to_vec()));
    hub.stop().await;
    let mut files = Vec::new();
    files_of(&hub.state_dir(), &mut files);
    assert!(files.len() >= 3, "{files:?}");
    told.extend(files.iter().map(|file| (file.display().to_string(), std::fs::read(file).unwrap())));
    let logged = log.0.lock().unwrap().clone();
    assert!(has(&logged, "a token was made"), "the log is looked at");
    told.push(("the log".into(), logged));
    for (place, bytes) in &told {
        for canary in &canaries {
            assert!(!has(bytes, canary), "a secret is in {place}");
        }
    }
}

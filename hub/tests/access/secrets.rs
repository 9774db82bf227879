//! A canary: secrets of tokens and codes are looked for wherever something is written or told.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

/// Sets a secret, a config and a login in every way that there is, well and badly. What must be found nowhere.
async fn keep_secrets(hub: &Hub, viewer: &str) -> Vec<String> {
    let canaries = ["canary-by-hand", "canary-of-a-file", "canary-variable", "canary-content", "canary-password"];
    let put = |path: &str, token: &str, body: serde_json::Value| {
        hub.send(hub.ask(Method::PUT, path, Some(token)).json(&body))
    };
    let encoded = STANDARD.encode(canaries[0]);
    let by_hand = json!({ "content": encoded });
    for (path, token, body, expected) in [
        ("/v1/secrets/by-hand", &hub.admin[..], by_hand.clone(), 200),
        ("/v1/secrets/by-hand", viewer, by_hand.clone(), 403),
        ("/v1/secrets/BY-HAND", &hub.admin, by_hand.clone(), 409),
        ("/v1/secrets/other", &hub.admin, json!({ "content": format!("{encoded}!") }), 400),
        ("/v1/secrets/other", &hub.admin, json!({ "content": encoded, "canary-variable": 1 }), 400),
        ("/v1/registries/hub.lan", &hub.admin, json!({ "username": "ann", "password": canaries[4] }), 200),
        ("/v1/registries/nohost", &hub.admin, json!({ "username": "ann", "password": canaries[4] }), 400),
    ] {
        let (status, told) = put(path, token, body).await;
        assert_eq!(status, expected, "{path}: {told}");
        // An unknown key is the client's own slip, and is named.
        assert!(
            told["detail"].as_str().is_some_and(|text| text.contains("unknown field"))
                || !told.to_string().contains("canary")
        );
    }
    let text = "services:\n  web: { image: 'nginx:1', secrets: [hand, file, variable], configs: [content] }\nsecrets:\n  \
                hand: { external: true, name: by-hand }\n  file: { file: f }\n  variable: { environment: V }\nconfigs:\n  \
                content: { content: canary-content }\n";
    let body = json!({
        "main": "c.yaml",
        "files": { "c.yaml": text, "f": "$canary-of-a-file" },
        "variables": { "V": "canary-variable" },
    });
    let (status, planned) = hub.post("/v1/stacks/vault/plan", &hub.admin, body.clone()).await;
    assert_eq!(status, 200, "{planned}");
    let (status, applied) = put("/v1/stacks/vault", &hub.admin, body).await;
    assert_eq!(status, 200, "{applied}");
    assert!(!format!("{planned}{applied}").contains("canary"), "{planned} {applied}");
    canaries.into_iter().map(str::to_owned).chain([encoded]).collect()
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
    let mut canaries: Vec<String> =
        [&hub.admin, &viewer, &code].map(|text| text.rsplit('.').next().unwrap().to_owned()).to_vec();
    canaries.extend(keep_secrets(&hub, &viewer).await);

    // Used well, used badly, and put where they do not belong.
    hub.apply("shop").await;
    hub.get("/v1/stacks", &viewer).await;
    hub.post("/v1/setup", &hub.admin, json!({ "code": viewer, "name": "eve" })).await;
    hub.post("/v1/setup", &hub.admin, json!({ "code": format!("{code}x"), "name": "eve" })).await;
    hub.get("/v1/me", &format!("{viewer}x")).await;
    hub.post("/v1/setup/code", &viewer, json!({})).await;

    let mut told = Vec::new();
    for path in
        ["/v1/secrets", "/v1/configs", "/v1/registries", "/v1/stacks/vault", "/v1/services/vault/web", "/v1/replicas"]
    {
        told.push((path.to_owned(), hub.get(path, &hub.admin).await.1.to_string().into_bytes()));
    }
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

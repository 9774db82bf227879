//! A hub that asks for tokens, and clients of its HTTPS API that trust its authority and nothing else.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use outrigger_hub::config::{Broker, Config, Joining, Security};
use outrigger_hub::run::{Running, start};
use outrigger_planner::Policy;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

pub struct Hub {
    running: Option<Running>,
    config: Config,
    _folder: TempDir,
    pub admin: String,
    client: reqwest::Client,
}

/// A hub's settings with everything on free ports.
pub fn config(folder: &TempDir) -> Config {
    Config {
        state_dir: folder.path().join("state"),
        http_listen: "127.0.0.1:0".parse().unwrap(),
        broker: Broker::Embedded("127.0.0.1:0".parse().unwrap()),
        policy: Policy { start_grace: Duration::ZERO, ..Policy::default() },
        names: vec!["hub.test".into()],
        security: Security::Tls,
        insecure_registries: vec![],
        joining: Joining::default(),
        relay_port: None,
    }
}

impl Hub {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let running = start(config.clone()).await.unwrap();
        let client = client(&config);
        let mut hub = Self { running: Some(running), config, _folder: folder, admin: String::new(), client };
        let code = hub.local(Method::POST, "/v1/setup/code").await["code"].as_str().unwrap().to_owned();
        let (status, made) =
            hub.send(hub.ask(Method::POST, "/v1/setup", None).json(&json!({ "code": code, "name": "ann" }))).await;
        assert_eq!(status, 200, "{made}");
        hub.admin = made["secret"].as_str().unwrap().to_owned();
        hub
    }

    /// Stops it and starts it anew with the same folder.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.running = Some(start(self.config.clone()).await.unwrap());
    }

    /// Why it does not start.
    pub async fn fails_to_start(&self) -> String {
        start(self.config.clone()).await.expect_err("it starts").to_string()
    }

    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.config.state_dir.clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.running().handle().addresses().http
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address().port())
    }

    /// Through the socket in the state folder.
    pub async fn local(&self, method: Method, path: &str) -> Value {
        outrigger_hub::http::local::ask(&self.config.state_dir, method, path).await.unwrap().json().await.unwrap()
    }

    pub fn ask(&self, method: Method, path: &str, token: Option<&str>) -> RequestBuilder {
        let request = self.client.request(method, self.url(path));
        token.into_iter().fold(request, |request, token| request.bearer_auth(token))
    }

    pub async fn send(&self, request: RequestBuilder) -> (u16, Value) {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|_| json!({ "text": text })))
    }

    pub async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        self.send(self.ask(Method::GET, path, Some(token))).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> (u16, Value) {
        self.send(self.ask(Method::POST, path, Some(token)).json(&body)).await
    }

    /// A new token's text.
    pub async fn token(&self, role: &str, stacks: &[&str]) -> String {
        self.token_for(role, stacks, 3600).await["secret"].as_str().unwrap().to_owned()
    }

    pub async fn token_for(&self, role: &str, stacks: &[&str], ttl_s: u64) -> Value {
        let body = json!({ "name": format!("a-{role}"), "role": role, "stacks": stacks, "ttl_s": ttl_s });
        let (status, made) = self.post("/v1/tokens", &self.admin, body).await;
        assert_eq!(status, 200, "{made}");
        made
    }

    /// Applies a stack with one service `web` that nobody runs.
    pub async fn apply(&self, stack: &str) {
        let body = json!({ "main": "c.yaml", "files": { "c.yaml": "services:\n  web:\n    image: nginx:1\n" } });
        let request = self.ask(Method::PUT, &format!("/v1/stacks/{stack}"), Some(&self.admin)).json(&body);
        let (status, applied) = self.send(request).await;
        assert_eq!(status, 200, "{applied}");
    }
}

/// A client that trusts this hub's authority and nobody else.
fn client(config: &Config) -> reqwest::Client {
    let authority = std::fs::read(config.state_dir.join("pki/authority.pem")).unwrap();
    let text = String::from_utf8(authority).unwrap();
    let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap();
    let certificate = reqwest::Certificate::from_pem(&text.as_bytes()[begin..]).unwrap();
    reqwest::Client::builder().tls_certs_only([certificate]).build().unwrap()
}

/// Waits for something that must come.
pub async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok(), "not within 30 s: {what}");
}

//! A hub with an empty state folder on free ports, and a client of its API.

use std::future::Future;
use std::time::Duration;

use outrigger_hub::config::{Broker, Config, Joining, Security};
use outrigger_hub::run::{Running, start};
use outrigger_planner::Policy;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::device::Device;

pub struct Hub {
    running: Running,
    base: String,
    client: reqwest::Client,
    _folder: TempDir,
}

impl Hub {
    pub async fn start() -> Self {
        // The first test to come here installs it; the client wants one even where nothing is encrypted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            state_dir: folder.path().join("state"),
            http_listen: "127.0.0.1:0".parse().unwrap(),
            broker: Broker::Embedded("127.0.0.1:0".parse().unwrap()),
            policy: Policy { start_grace: Duration::ZERO, ..Policy::default() },
            names: vec!["hub.test".into()],
            security: Security::InsecureLocal,
            insecure_registries: vec![],
            joining: Joining::default(),
            relay_port: None,
        };
        let running = start(config).await.unwrap();
        let base = format!("http://{}", running.handle().addresses().http);
        Self { running, base, client: reqwest::Client::new(), _folder: folder }
    }

    /// A device that has joined.
    pub async fn device(&self, name: &str) -> Device {
        let device = Device::connect(name, self.running.handle().addresses().mqtt.unwrap());
        eventually(&format!("{name} is online"), || async {
            self.get(&format!("/v1/devices/{name}")).await.1["state"] == "online"
        })
        .await;
        device
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.running.handle().addresses().http
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.client.get(self.url(path))).await
    }

    pub async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.client.put(self.url(path)).json(&body)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.client.post(self.url(path)).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.client.patch(self.url(path)).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.client.delete(self.url(path))).await
    }

    pub async fn stop(self) {
        self.running.stop().await;
    }

    /// Waits until so many replicas of a service run.
    pub async fn runs(&self, service: &str, replicas: u32) {
        eventually(&format!("{replicas} replicas of {service} run"), || async {
            let shown = self.get(&format!("/v1/services/{service}")).await.1;
            shown["running"] == replicas && shown["wanted"] == replicas
        })
        .await;
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| json!({ "text": text })))
}

/// A body for apply: one Compose file that needs nothing else.
pub fn compose(text: &str) -> Value {
    json!({ "main": "compose.yaml", "files": { "compose.yaml": text } })
}

/// Waits for something that must come.
pub async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let deadline = tokio::time::sleep(Duration::from_secs(30));
    tokio::pin!(deadline);
    loop {
        if holds().await {
            return;
        }
        tokio::select! {
            () = &mut deadline => panic!("not within 30 s: {what}"),
            () = tokio::time::sleep(Duration::from_millis(20)) => (),
        }
    }
}

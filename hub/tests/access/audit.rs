//! The audit log has each change once, and shows when somebody has been at it.

use std::os::unix::fs::PermissionsExt;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Hub;

async fn records(hub: &Hub) -> Vec<Value> {
    hub.get("/v1/audit?limit=1000", &hub.admin).await.1["records"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_there_exactly_once_with_who_from_where_and_what() {
    let hub = Hub::start().await;
    let before = records(&hub).await.len();
    hub.apply("shop").await;
    hub.post("/v1/services/shop/web/scale", &hub.admin, json!({ "replicas": 3 })).await;
    let viewer = hub.token("viewer", &[]).await;
    hub.post("/v1/services/shop/web/scale", &viewer, json!({ "replicas": 9 })).await;
    // None of these changes anything.
    hub.get("/v1/stacks", &viewer).await;
    hub.send(hub.ask(Method::POST, "/v1/services/shop/web/scale", None).json(&json!({ "replicas": 9 }))).await;
    hub.send(hub.ask(Method::DELETE, "/v1/stacks/shop", Some(&hub.admin))).await;

    let all = records(&hub).await;
    let told: Vec<_> = all[before..]
        .iter()
        .map(|record| (record["what"].as_str().unwrap(), record["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("PUT /v1/stacks/shop", 200),
            ("POST /v1/services/shop/web/scale", 200),
            ("POST /v1/tokens", 200),
            ("POST /v1/services/shop/web/scale", 403),
            ("DELETE /v1/stacks/shop", 200),
        ]
    );
    assert_eq!(all[before + 1]["detail"], "1 -> 3 replicas");
    assert!(all[before]["who"].as_str().unwrap().starts_with("ann ("), "{}", all[before]);
    assert_eq!(all[before]["from"], "127.0.0.1");
    let numbers: Vec<_> = all.iter().map(|record| record["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(hub.get("/v1/audit/check", &hub.admin).await.1["ok"], true);
    let file = hub.state_dir().join("audit.log");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_line_a_missing_one_and_a_cut_end_are_found() {
    type Harm = fn(Vec<String>) -> Vec<String>;
    let harms: [(&str, Harm); 5] = [
        ("changed", |mut lines| {
            lines[2] = lines[2].replace("shop", "shot");
            lines
        }),
        ("taken out", |mut lines| {
            lines.remove(1);
            lines
        }),
        ("cut off", |mut lines| {
            lines.pop();
            lines
        }),
        ("last changed", |mut lines| {
            let last = lines.pop().unwrap();
            lines.push(last.replace("200", "500"));
            lines
        }),
        ("emptied", |_| Vec::new()),
    ];
    let mut hub = Hub::start().await;
    hub.apply("shop").await;
    hub.post("/v1/services/shop/web/scale", &hub.admin, json!({ "replicas": 3 })).await;
    let file = hub.state_dir().join("audit.log");
    let whole = std::fs::read_to_string(&file).unwrap();
    for (harm, make) in harms {
        let lines = make(whole.lines().map(str::to_owned).collect());
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, text).unwrap();
        let (_, check) = hub.get("/v1/audit/check", &hub.admin).await;
        assert_eq!(check["ok"], false, "{harm}");
        assert!(!check["problems"].as_array().unwrap().is_empty(), "{harm}: {check}");
    }
    // It stays found, whatever is written afterwards.
    hub.restart().await;
    hub.apply("blog").await;
    assert_eq!(hub.get("/v1/audit/check", &hub.admin).await.1["ok"], false);
    std::fs::write(&file, &whole).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_line_that_a_crash_left_is_mended() {
    let mut hub = Hub::start().await;
    hub.apply("shop").await;
    let file = hub.state_dir().join("audit.log");
    hub.stop().await;
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("{\"number\":99,\"at_u");
    std::fs::write(&file, text).unwrap();
    hub.restart().await;
    assert_eq!(hub.get("/v1/audit/check", &hub.admin).await.1["ok"], true);
    hub.apply("shop").await;
    assert_eq!(hub.get("/v1/audit/check", &hub.admin).await.1["ok"], true);
}

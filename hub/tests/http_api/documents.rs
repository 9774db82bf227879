//! The documents that the hub serves about itself: OpenAPI, health, metrics, history, backup, the front page.

use serde_json::{Value, json};

use crate::support::{Hub, answer, eventually};

/// Every operation of the document: path and method.
fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
        methods.map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_lists_every_route_and_every_listed_route_is_there() {
    let hub = Hub::start().await;
    let (status, document) = hub.get("/v1/openapi.json").await;
    assert_eq!(status, 200);
    let operations = operations(&document);

    // Handlers that are documented in the source are served, and the other way round.
    let sources = [
        "stacks", "compose", "services", "replicas", "logs", "devices", "events", "health", "access", "join",
        "network", "knock", "sessions", "users", "secrets",
    ];
    let described: usize = sources
        .iter()
        .map(|name| std::fs::read_to_string(format!("{}/src/http/{name}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap())
        .map(|text| text.matches("#[utoipa::path(").count())
        .sum();
    assert_eq!(operations.len(), described, "{operations:?}");

    let names: std::collections::BTreeSet<_> = operations
        .iter()
        .map(|(path, method)| document["paths"][path][method]["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), operations.len(), "each has a name of its own: {names:?}");

    for (path, method) in operations {
        let url = hub.url(&path.replace("{replica}", "web.1").replace("{", "").replace("}", ""));
        let method: reqwest::Method = method.to_uppercase().parse().unwrap();
        let response = hub.client().request(method.clone(), &url).send().await.unwrap();
        let status = response.status().as_u16();
        assert_ne!(status, 405, "{method} {path}");
        if status == 404 {
            let problem: Value = response.json().await.unwrap();
            let title = problem["title"].as_str().unwrap();
            assert!(!title.contains("no route"), "{method} {path}: {title}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reference_in_the_document_leads_somewhere() {
    let hub = Hub::start().await;
    let document = hub.get("/v1/openapi.json").await.1;
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let target = document.pointer(reference.strip_prefix('#').unwrap());
        assert!(target.is_some(), "{reference}");
    }
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_says_whether_it_is_ready_and_what_it_is() {
    let hub = Hub::start().await;
    assert_eq!(hub.get("/healthz").await.1["ok"], true);
    eventually("the hub is ready", || async { hub.get("/readyz").await.0 == 200 }).await;
    let names: Vec<_> = hub.get("/readyz").await.1["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["control", "store", "broker"]);
    let page = hub.client().get(hub.url("/")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Outrigger hub") && page.contains("/v1/openapi.json"), "{page}");
    let fleet = hub.get("/v1/fleet").await.1;
    assert_eq!((&fleet["devices"], &fleet["safe_mode"]), (&json!(0), &Value::Null), "{fleet}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_openmetrics_text_with_each_devices_load() {
    let hub = Hub::start().await;
    let _device = hub.device("pi").await;
    eventually("the load is shown", || async {
        let response = hub.client().get(hub.url("/metrics")).send().await.unwrap();
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
        let text = response.text().await.unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        text.contains("outrigger_device_cpu_ratio{device=\"pi\"} 0.25")
            && text.contains("outrigger_device_temperature_celsius{device=\"pi\"} 48.1")
            && text.contains("outrigger_devices_online 1")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_a_device_can_be_drawn() {
    let hub = Hub::start().await;
    let _device = hub.device("pi").await;
    eventually("ten seconds are drawn", || async {
        let past = hub.get("/v1/devices/pi/history?range=1h").await.1;
        let cpu = past["series"].as_array().unwrap().iter().find(|series| series["dimension"] == "cpu_permille");
        cpu.is_some_and(|cpu| past["step_s"] == 10 && cpu["values"][0] == 250.0)
    })
    .await;
    assert_eq!(hub.get("/v1/devices/pi/history?range=1y").await.0, 400);
    assert_eq!(hub.get("/v1/devices/other/history").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_can_be_taken_away_as_a_file() {
    let hub = Hub::start().await;
    let response = hub.client().get(hub.url("/v1/backup")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    assert!(!response.bytes().await.unwrap().is_empty());
    let posted = hub.client().post(hub.url("/v1/backup"));
    assert_eq!(answer(posted).await.0, 405);
}

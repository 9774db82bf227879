//! What the hub tells of the service network: endpoints, Traefik's configuration, Prometheus' targets, and taken ports.

use serde_json::json;

use crate::support::{Hub, compose, eventually};

const SHOP: &str = "\
services:
  web:
    image: web:1
    deploy: { mode: global }
    ports: ['8080:80']
    labels:
      traefik.enable: 'true'
      traefik.http.routers.shop.rule: Host(`shop.test`)
      traefik.http.routers.shop.entryPoints: web,websecure
      traefik.http.services.shop.loadBalancer.server.port: '80'
      prometheus.io/scrape: 'true'
      prometheus.io/path: /stats
  metrics:
    image: metrics:1
    deploy:
      mode: global
      labels: { prometheus.io/scrape: 'true', prometheus.io/port: '9100' }
    ports: [{ target: 9100, published: 9100, mode: host }]
  quiet:
    image: quiet:1
";

async fn shop() -> (Hub, [crate::device::Device; 2]) {
    let hub = Hub::start().await;
    let devices = [hub.device("pi-1").await, hub.device("pi-2").await];
    let (status, answer) = hub.put("/v1/stacks/shop", compose(SHOP)).await;
    assert_eq!(status, 200, "{answer}");
    for service in ["shop/web", "shop/metrics"] {
        hub.runs(service, 2).await;
    }
    (hub, devices)
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_the_copies_that_take_requests() {
    let (hub, _devices) = shop().await;
    let (status, shown) = hub.get("/v1/services/shop/web/endpoints").await;
    assert_eq!(status, 200);
    assert_eq!(shown["networks"], json!(["shop_default"]));
    assert_eq!(shown["published"], json!([{ "port": 8080, "target": 80, "protocol": "tcp" }]));
    let endpoints = shown["endpoints"].as_array().unwrap();
    let mut on: Vec<_> = endpoints.iter().map(|one| one["device"].as_str().unwrap()).collect();
    on.sort_unstable();
    assert_eq!(on, ["pi-1", "pi-2"]);
    assert!(endpoints.iter().all(|one| one["state"] == "ready" && one["replica"].is_string()), "{shown}");
    assert_eq!(hub.get("/v1/services/shop/none/endpoints").await.0, 404);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_is_told_routers_from_labels_and_servers_from_endpoints() {
    let (hub, devices) = shop().await;
    let told = hub.get("/v1/providers/traefik").await.1;
    let expected = json!({ "http": {
        "routers": { "shop": {
            "rule": "Host(`shop.test`)", "entrypoints": ["web", "websecure"], "service": "shop",
        } },
        "services": { "shop": { "loadbalancer": { "servers": [
            { "url": "http://192.0.2.1:8080" }, { "url": "http://192.0.2.2:8080" },
        ] } } },
    } });
    assert_eq!(told, expected);
    // A device that could not open the port is left out.
    devices[0].has_port_taken(8080);
    eventually("one server is left", || async {
        let told = hub.get("/v1/providers/traefik").await.1;
        told["http"]["services"]["shop"]["loadbalancer"]["servers"] == json!([{ "url": "http://192.0.2.2:8080" }])
    })
    .await;
    hub.delete("/v1/stacks/shop").await;
    assert_eq!(hub.get("/v1/providers/traefik").await.1, json!({}));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_is_told_each_copy_that_can_be_reached() {
    let (hub, _devices) = shop().await;
    let told = hub.get("/v1/sd/prometheus").await.1;
    let mut targets: Vec<_> =
        told.as_array().unwrap().iter().map(|group| group["targets"][0].as_str().unwrap()).collect();
    targets.sort_unstable();
    assert_eq!(targets, ["192.0.2.1:8080", "192.0.2.1:9100", "192.0.2.2:8080", "192.0.2.2:9100"]);
    let of = |target: &str| {
        let groups = told.as_array().unwrap();
        groups.iter().find(|group| group["targets"][0] == target).unwrap()["labels"].clone()
    };
    let web = json!({ "__meta_outrigger_stack": "shop", "__meta_outrigger_service": "shop/web",
        "__meta_outrigger_device": "pi-1", "__metrics_path__": "/stats" });
    assert_eq!(of("192.0.2.1:8080"), web);
    assert!(of("192.0.2.2:9100")["__meta_outrigger_replica"].as_str().unwrap().starts_with("shop/metrics."));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_told_wherever_somebody_looks() {
    let (hub, devices) = shop().await;
    devices[1].has_port_taken(8080);
    let note = "port 8080/tcp is taken on pi-2: Address in use";
    eventually("the explanation says so", || async {
        hub.get("/v1/services/shop/web/explain").await.1["notes"]
            .as_array()
            .is_some_and(|notes| notes.contains(&note.into()))
    })
    .await;
    assert_eq!(hub.get("/v1/services/shop/web").await.1["notes"], json!([note]));
    assert_eq!(hub.get("/v1/stacks/shop").await.1["services"][2]["notes"], json!([note]));
    let device = hub.get("/v1/devices/pi-2").await.1;
    assert_eq!(device["network"]["taken"][0]["port"], 8080);
    assert_eq!(device["warnings"][0]["message"], "port 8080/tcp is taken: Address in use");
    let events = hub.get("/v1/events").await.1;
    let taken = events["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "port_taken").count();
    assert_eq!(taken, 1);
    // Another stack that wants the port is refused, with the name of who has it.
    let other = compose("services: { door: { image: x, ports: ['8080:1'] } }");
    let (status, problem) = hub.put("/v1/stacks/other", other).await;
    assert_eq!(status, 409);
    assert!(problem.to_string().contains("shop/web"), "{problem}");
    hub.stop().await;
}

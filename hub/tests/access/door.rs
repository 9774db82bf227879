//! What comes to the port: HTTPS, plain HTTP, nothing, other hosts' names, packed bodies.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Hub;

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_told_that_this_port_speaks_https() {
    let hub = Hub::start().await;
    let mut stream = TcpStream::connect(hub.address()).await.unwrap();
    stream.write_all(b"GET /v1/stacks HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("this port speaks HTTPS"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_keep_nobody_out() {
    let hub = Hub::start().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(hub.address()).await.unwrap());
    }
    let asked = tokio::time::timeout(Duration::from_secs(5), hub.get("/v1/me", &hub.admin));
    assert_eq!(asked.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_that_only_https_counts_and_that_nothing_is_to_be_kept() {
    let hub = Hub::start().await;
    let response = hub.ask(Method::GET, "/v1/stacks", None).send().await.unwrap();
    assert_eq!(response.headers()["strict-transport-security"], "max-age=31536000");
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"outrigger\"");
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_hosts_names_are_refused_also_where_nothing_is_secret() {
    let hub = Hub::start().await;
    for path in ["/healthz", "/readyz", "/", "/v1/openapi.json", "/v1/stacks"] {
        let request = hub.ask(Method::GET, path, Some(&hub.admin)).header("host", "attacker.example");
        assert_eq!(hub.send(request).await.0, 421, "{path}");
    }
    let named = hub.ask(Method::GET, "/v1/stacks", Some(&hub.admin)).header("host", "hub.test");
    assert_eq!(hub.send(named).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_change_nothing_and_open_no_stream() {
    let hub = Hub::start().await;
    for (method, path) in [
        (Method::GET, "/v1/events/stream"),
        (Method::GET, "/v1/services/shop/web/logs"),
        (Method::POST, "/v1/services/shop/web/restart"),
        (Method::DELETE, "/v1/stacks/shop"),
    ] {
        let request = hub.ask(method.clone(), path, Some(&hub.admin)).header("origin", "https://attacker.example");
        assert_eq!(hub.send(request).await.1["kind"], "wrong_origin", "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_bodies_are_not_unpacked() {
    let hub = Hub::start().await;
    for packing in ["gzip", "deflate", "br", "zstd"] {
        let request = hub.ask(Method::PUT, "/v1/stacks/shop", Some(&hub.admin)).header("content-encoding", packing);
        let request = request.header("content-type", "application/json").body(vec![0x1f, 0x8b, 8, 0]);
        let (status, problem) = hub.send(request).await;
        assert_eq!((status, problem["kind"].as_str()), (415, Some("unsupported_media_type")), "{packing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_strangers_whether_and_not_why() {
    let hub = Hub::start().await;
    let (_, stranger) = hub.send(hub.ask(Method::GET, "/readyz", None)).await;
    assert_eq!((stranger["ok"].as_bool(), stranger["checks"].as_array().map(Vec::len)), (Some(true), Some(0)));
    let (_, known) = hub.get("/readyz", &hub.admin).await;
    assert_eq!(known["checks"].as_array().map(Vec::len), Some(3), "{known}");
}

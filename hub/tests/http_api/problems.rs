//! What is wrong is told in one form, with what, where and what next; and nothing else is harmed.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Hub, answer};

/// Sends bytes as they are and reads until the hub closes.
async fn raw(hub: &Hub, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(hub.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_has_one_form() {
    let hub = Hub::start().await;
    let cases: [(&str, (u16, Value), Value); 8] = [
        (
            "an unknown route",
            hub.get("/v1/nodes").await,
            json!({ "kind": "not_found", "status": 404, "title": "there is no route `/v1/nodes`",
                "hint": "GET /v1/openapi.json lists all routes" }),
        ),
        (
            "another method",
            hub.delete("/v1/events").await,
            json!({ "kind": "method_not_allowed", "status": 405, "title": "`/v1/events` does not take DELETE",
                "hint": "GET /v1/openapi.json lists the methods of all routes" }),
        ),
        (
            "a service that is not there",
            hub.get("/v1/services/shop/web").await,
            json!({ "kind": "not_found", "status": 404, "title": "there is no service `shop/web`" }),
        ),
        (
            "a replica that is not there",
            hub.get("/v1/replicas/shop/web.1").await,
            json!({ "kind": "not_found", "status": 404, "title": "there is no replica `shop/web.1`" }),
        ),
        (
            "a name that cannot be",
            hub.get("/v1/devices/Pi%204").await,
            json!({ "kind": "malformed", "status": 400, "title": "`Pi 4` cannot be the name of a device: \
                it must be 1 to 63 of a-z, 0-9 and -, with a letter or digit first and last" }),
        ),
        (
            "a key that is not known",
            hub.post("/v1/services/shop/web/scale", json!({ "replica": 3 })).await,
            json!({ "kind": "malformed", "status": 400, "title": "the body is not what this route takes",
                "detail": "replica: unknown field `replica`, expected `replicas` at line 1 column 10" }),
        ),
        (
            "a value of the wrong sort",
            hub.patch("/v1/devices/pi", json!({ "labels": { "zone": 3 } })).await,
            json!({ "kind": "malformed", "status": 400, "title": "the body is not what this route takes",
                "detail": "labels.zone: the number `3` is given, a text is wanted at line 1 column 19" }),
        ),
        (
            "a query that is not known",
            hub.get("/v1/replicas?node=pi").await,
            json!({ "kind": "malformed", "status": 400, "title": "the query is not what this route takes",
                "detail": "node: unknown field `node`, expected one of `stack`, `service`, `after`, `device`" }),
        ),
    ];
    for (what, (status, problem), wanted) in cases {
        assert_eq!(problem, wanted, "{what}");
        assert_eq!(u64::from(status), wanted["status"].as_u64().unwrap(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_and_declared() {
    let hub = Hub::start().await;
    let large = json!({ "main": "a", "files": { "a": "x".repeat(3 * 1024 * 1024) } });
    let (status, problem) = hub.put("/v1/stacks/shop", large).await;
    assert_eq!((status, &problem["kind"]), (413, &json!("too_large")), "{problem}");
    let plain = hub.client().put(hub.url("/v1/stacks/shop")).body("{}");
    let (status, problem) = answer(plain).await;
    assert_eq!((status, &problem["kind"]), (415, &json!("unsupported_media_type")), "{problem}");
    let text =
        hub.client().put(hub.url("/v1/stacks/shop")).header("content-type", "application/json").body("{\"main\":");
    let (status, problem) = answer(text).await;
    assert_eq!((status, &problem["kind"]), (400, &json!("malformed")), "{problem}");
    assert_eq!(hub.get("/v1/stacks").await.0, 200, "the hub goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn web_pages_of_others_are_kept_out() {
    let hub = Hub::start().await;
    let stacks = hub.url("/v1/stacks");
    let (status, problem) = answer(hub.client().get(&stacks).header("host", "evil.example:7640")).await;
    assert_eq!((status, &problem["kind"]), (421, &json!("wrong_host")));
    let restart = hub.client().post(hub.url("/v1/services/shop/web/restart")).header("origin", "https://evil.example");
    assert_eq!(answer(restart).await.1["kind"], "wrong_origin");
    let response = hub.client().get(&stacks).header("origin", "https://evil.example").send().await.unwrap();
    let headers = response.headers();
    assert!(headers.get("access-control-allow-origin").is_none(), "{headers:?}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_answered_or_cut_and_harms_nobody() {
    let hub = Hub::start().await;
    let garbage = raw(&hub, "\u{1}\u{2} what is this\r\n\r\n").await;
    assert!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    let no_host = raw(&hub, "GET /v1/stacks HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(no_host.starts_with("HTTP/1.1 400"), "{no_host}");
    let huge = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut stream = tokio::net::TcpStream::connect(hub.address()).await.unwrap();
    // The hub may close before all is written.
    let _ = stream.write_all(huge.as_bytes()).await;
    let mut answered = Vec::new();
    let _ = stream.read_to_end(&mut answered).await;
    assert!(answered.is_empty() || answered.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answered));
    let deep = format!("{{\"main\":{}", "[".repeat(200_000));
    let request = hub.client().put(hub.url("/v1/stacks/shop")).header("content-type", "application/json").body(deep);
    assert_eq!(answer(request).await.0, 400);
    assert_eq!(hub.get("/readyz").await.1["ok"], true);
}

/// Every route that takes a body, from the document that the hub serves.
async fn routes_with_bodies(hub: &Hub) -> Vec<(String, String)> {
    let (_, document) = hub.get("/v1/openapi.json").await;
    let mut found = vec![];
    for (path, methods) in document["paths"].as_object().unwrap() {
        let with_body = methods.as_object().unwrap().iter().filter(|(_, method)| !method["requestBody"].is_null());
        found.extend(with_body.map(|(method, _)| (method.to_uppercase(), path.clone())));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_the_wrong_shape_is_told_in_words_that_its_sender_knows() {
    let hub = Hub::start().await;
    let routes = routes_with_bodies(&hub).await;
    assert!(routes.len() >= 10, "{routes:?}");
    for (method, path) in routes {
        let filled = path.split('/').map(|part| if part.starts_with('{') { "x1" } else { part }).collect::<Vec<_>>();
        let url = hub.url(&filled.join("/"));
        for body in ["", "[]", "[[]]", "\"x\"", "3", "null", "true", "{\"no_such_key\":1}", "{"] {
            let request = hub.client().request(method.parse().unwrap(), &url);
            let (status, problem) = answer(request.header("content-type", "application/json").body(body)).await;
            let told = problem.to_string();
            assert!((400..500).contains(&status), "{method} {path} {body}: {status} {told}");
            for ours in
                ["struct ", "enum ", "variant", "sequence", "invalid type", "invalid length", "tuple", "element"]
            {
                assert!(!told.contains(ours), "{method} {path} {body}: {told}");
            }
        }
    }
}

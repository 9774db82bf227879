//! Streams end with the token that opened them.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;

use crate::support::Hub;

/// Reads until the stream ends; whether it did within ten seconds.
async fn ends(response: reqwest::Response) -> bool {
    let mut stream = response.bytes_stream();
    tokio::time::timeout(Duration::from_secs(10), async { while stream.next().await.is_some() {} }).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_its_streams() {
    let hub = Hub::start().await;
    let made = hub.token_for("viewer", &[], 3600).await;
    let stream = hub.ask(Method::GET, "/v1/events/stream", made["secret"].as_str()).send().await.unwrap();
    let other = hub.ask(Method::GET, "/v1/events/stream", Some(&hub.admin)).send().await.unwrap();
    assert_eq!((stream.status(), other.status()), (reqwest::StatusCode::OK, reqwest::StatusCode::OK));
    let path = format!("/v1/tokens/{}", made["token"]["id"].as_str().unwrap());
    assert_eq!(hub.send(hub.ask(Method::DELETE, &path, Some(&hub.admin))).await.0, 200);
    assert!(ends(stream).await, "it is still open after ten seconds");
    let mut other = other.bytes_stream();
    let next = tokio::time::timeout(Duration::from_millis(200), other.next()).await;
    assert!(!matches!(next, Ok(None)), "a stream of another token was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_runs_out_ends_its_streams() {
    let hub = Hub::start().await;
    let made = hub.token_for("viewer", &[], 2).await;
    let stream = hub.ask(Method::GET, "/v1/events/stream", made["secret"].as_str()).send().await.unwrap();
    assert_eq!(stream.status(), reqwest::StatusCode::OK);
    assert!(ends(stream).await, "it is still open after ten seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_token_hears_only_of_its_stacks() {
    let hub = Hub::start().await;
    let token = hub.token("viewer", &["mine"]).await;
    let stream = hub.ask(Method::GET, "/v1/events/stream", Some(&token)).send().await.unwrap();
    hub.apply("other").await;
    hub.apply("mine").await;
    let mut heard = String::new();
    let mut stream = stream.bytes_stream();
    while !heard.contains("\"stack\":\"mine\"") {
        let piece = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap().unwrap().unwrap();
        heard.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(!heard.contains("other"), "{heard}");
}

//! Tokens are made, listed, revoked, and end; the first administrator comes in with a code, once.

use reqwest::Method;
use serde_json::json;

use crate::support::{Hub, eventually};

/// The same with another secret.
fn altered(token: &str) -> String {
    let (most, last) = token.split_at(token.len() - 1);
    format!("{most}{}", if last == "A" { "E" } else { "A" })
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_listed_without_their_secrets_survive_a_restart_and_can_be_revoked() {
    let mut hub = Hub::start().await;
    let made = hub.token_for("viewer", &[], 3600).await;
    let (secret, id) = (made["secret"].as_str().unwrap().to_owned(), made["token"]["id"].as_str().unwrap().to_owned());
    let (_, listed) = hub.get("/v1/tokens", &hub.admin).await;
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2, "{listed}");
    assert!(!listed.to_string().contains(secret.rsplit('.').next().unwrap()));

    hub.restart().await;
    assert_eq!(hub.get("/v1/me", &secret).await.1["role"], "viewer");
    let (status, revoked) = hub.send(hub.ask(Method::DELETE, &format!("/v1/tokens/{id}"), Some(&hub.admin))).await;
    assert_eq!((status, revoked["id"].as_str()), (200, Some(id.as_str())));
    assert_eq!(hub.get("/v1/me", &secret).await.0, 401);
    hub.restart().await;
    assert_eq!(hub.get("/v1/me", &secret).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_over_or_altered_lets_nobody_in() {
    let hub = Hub::start().await;
    let short = hub.token_for("admin", &[], 1).await["secret"].as_str().unwrap().to_owned();
    eventually("the token is over", || async { hub.get("/v1/me", &short).await.0 == 401 }).await;
    assert!(hub.get("/v1/me", &short).await.1["title"].as_str().unwrap().contains("expired"));
    let altered = altered(&hub.admin);
    let code = hub.local(Method::POST, "/v1/setup/code").await["code"].as_str().unwrap().to_owned();
    for bad in [altered.as_str(), "", "x", code.as_str(), &hub.admin[..hub.admin.len() - 1]] {
        assert_eq!(hub.get("/v1/me", bad).await.0, 401, "{bad}");
    }
    let basic = hub.ask(Method::GET, "/v1/me", None).basic_auth("admin", Some("admin"));
    assert_eq!(hub.send(basic).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_token_that_makes_no_sense_is_refused() {
    let hub = Hub::start().await;
    for body in [
        json!({ "name": "", "role": "viewer" }),
        json!({ "name": "a b", "role": "viewer" }),
        json!({ "name": "a", "role": "root" }),
        json!({ "name": "a", "role": "admin", "stacks": ["shop"] }),
        json!({ "name": "a", "role": "viewer", "stacks": ["Shop!"] }),
        json!({ "name": "a", "role": "viewer", "ttl_s": 0 }),
        json!({ "name": "a", "role": "viewer", "ttl_s": u64::MAX }),
    ] {
        assert_eq!(hub.post("/v1/tokens", &hub.admin, body.clone()).await.0, 400, "{body}");
    }
    assert_eq!(hub.get("/v1/tokens", &hub.admin).await.1["tokens"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_code_makes_one_administrator_also_under_a_hundred_racing_tries() {
    let hub = Hub::start().await;
    let code = hub.local(Method::POST, "/v1/setup/code").await["code"].as_str().unwrap().to_owned();
    let body = json!({ "code": code, "name": "bob" });
    let tries = (0..100).map(|_| hub.send(hub.ask(Method::POST, "/v1/setup", None).json(&body)));
    let answers = futures_util::future::join_all(tries).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1);
    let (_, listed) = hub.get("/v1/tokens", &hub.admin).await;
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2, "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_code_nobody_becomes_administrator() {
    let hub = Hub::start().await;
    let code = hub.local(Method::POST, "/v1/setup/code").await["code"].as_str().unwrap().to_owned();
    let newer = hub.local(Method::POST, "/v1/setup/code").await["code"].as_str().unwrap().to_owned();
    let wrong = altered(&newer);
    for bad in [code.as_str(), wrong.as_str(), hub.admin.as_str(), "", "setup"] {
        let request = hub.ask(Method::POST, "/v1/setup", None).json(&json!({ "code": bad, "name": "eve" }));
        let (status, problem) = hub.send(request).await;
        assert!([400, 403].contains(&status), "{status} {problem}");
    }
    let over_the_network = hub.post("/v1/setup/code", &hub.admin, json!({})).await;
    assert_eq!(over_the_network.0, 403, "{over_the_network:?}");
    assert_eq!(hub.send(hub.ask(Method::POST, "/v1/setup/code", None)).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_too_often_has_to_wait_and_a_good_token_goes_on() {
    let hub = Hub::start().await;
    let bad = altered(&hub.admin);
    let mut last = 0;
    for _ in 0..40 {
        last = hub.get("/v1/me", &bad).await.0;
    }
    assert_eq!(last, 429);
    let code = hub.local(Method::POST, "/v1/setup/code").await["code"].as_str().unwrap().to_owned();
    let setup = hub.ask(Method::POST, "/v1/setup", None).json(&json!({ "code": code, "name": "eve" }));
    assert_eq!(hub.send(setup).await.0, 429, "codes are not tried at all from there");
    assert_eq!(hub.get("/v1/me", &hub.admin).await.0, 200, "a neighbour locks nobody out");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_limited_is_told_so() {
    let hub = Hub::start().await;
    let token = hub.token("operator", &["shop", "blog"]).await;
    let (_, me) = hub.get("/v1/me", &token).await;
    assert_eq!((&me["role"], &me["stacks"]), (&json!("operator"), &json!(["blog", "shop"])));
    let (status, problem) = hub.get("/metrics", &token).await;
    assert_eq!((status, &problem["kind"]), (403, &json!("forbidden")), "{problem}");
    assert!(problem["title"].as_str().unwrap().contains("limited to some stacks"), "{problem}");
}

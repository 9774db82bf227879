//! Every route × everybody, against the table in `src/access/rights.txt`, which the hub itself reads.

use std::collections::BTreeSet;

use outrigger_hub::access::{Need, Reach, Rights};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Hub;

/// Methods that HTTP clients know. `HEAD` is a `GET` whose answer nobody reads.
const METHODS: [&str; 6] = ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"];

/// Every operation of the OpenAPI document.
fn documented(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
        methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    paths.flat_map(of_path).collect()
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let document = serde_json::to_value(outrigger_hub::http::openapi()).unwrap();
    let rows: BTreeSet<_> =
        Rights::ours().rows().map(|(method, path, _)| (method.to_owned(), path.to_owned())).collect();
    let undocumented = ["/", "/page.css", "/v1/openapi.json"].map(|path| ("GET".to_owned(), path.to_owned()));
    let routes: BTreeSet<_> = documented(&document).into_iter().chain(undocumented).collect();
    assert_eq!(routes.difference(&rows).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "no row in rights.txt");
    assert_eq!(rows.difference(&routes).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "no such route");
}

#[test]
fn the_document_says_of_each_route_what_it_needs() {
    let document = serde_json::to_value(outrigger_hub::http::openapi()).unwrap();
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    for (method, path, right) in Rights::ours().rows() {
        let operation = &document["paths"][path][method.to_lowercase()];
        if operation.is_null() {
            continue;
        }
        assert_eq!(operation["x-right"], right.need.to_string(), "{method} {path}");
        let is_open = operation["security"] == json!([]);
        assert_eq!(is_open, right.need == Need::Open, "{method} {path}: {}", operation["security"]);
    }
}

/// Somebody, with what he is answered by a route of this need: `None` is anything but a refusal.
struct Somebody {
    who: &'static str,
    token: Option<String>,
    is: u8,
    limited: bool,
}

fn refusal(somebody: &Somebody, need: Need, reach: Reach, is_his: bool) -> Option<u16> {
    let least = match need {
        Need::Open => return None,
        Need::Role(role) => role as u8 + 1,
        Need::Local => 9,
    };
    match (somebody.is, somebody.limited, reach) {
        (0, _, _) => Some(401),
        (_, true, Reach::Stack) if !is_his => Some(404),
        (_, true, Reach::Fleet) => Some(403),
        (is, _, _) if is < least => Some(403),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_everybody_as_the_table_says() {
    let hub = Hub::start().await;
    let everybody = [
        Somebody { who: "nobody", token: None, is: 0, limited: false },
        Somebody { who: "viewer", token: Some(hub.token("viewer", &[]).await), is: 1, limited: false },
        Somebody { who: "operator", token: Some(hub.token("operator", &[]).await), is: 2, limited: false },
        Somebody { who: "admin", token: Some(hub.token("admin", &[]).await), is: 3, limited: false },
        Somebody { who: "viewer of mine", token: Some(hub.token("viewer", &["mine"]).await), is: 1, limited: true },
        Somebody { who: "operator of mine", token: Some(hub.token("operator", &["mine"]).await), is: 2, limited: true },
    ];
    for (method, path, right) in Rights::ours().rows() {
        for stack in ["mine", "other", "min", "mine2"] {
            if stack != "other" && right.reach != Reach::Stack {
                continue;
            }
            let path = path.replace("{stack}", stack).replace("{device}", "no-such").replace("{service}", "no-such");
            let path =
                path.replace("{replica}", "no-such.1").replace("{token}", "ffffffffffff").replace("{invite}", "x");
            let path = path.replace("{user}", "no-such").replace("{session}", "ffffffffffff");
            for somebody in &everybody {
                let wanted = refusal(somebody, right.need, right.reach, stack == "mine");
                let method: Method = method.parse().unwrap();
                // No body: who may go on is told that, or that there is no such thing, and nothing is changed.
                let response = hub.ask(method.clone(), &path, somebody.token.as_deref()).send().await.unwrap();
                let status = response.status().as_u16();
                let what = format!("{method} {path} as {}", somebody.who);
                match wanted {
                    Some(wanted) => assert_eq!(status, wanted, "{what}"),
                    None => assert!(![401, 403, 405].contains(&status), "{what}: {status}"),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_without_a_row_reaches_nobody() {
    let hub = Hub::start().await;
    let paths: BTreeSet<_> = Rights::ours().rows().map(|(_, path, _)| path).collect();
    for path in paths {
        for method in METHODS.into_iter().filter(|method| Rights::ours().of(method, path).is_none()) {
            let (status, _) = hub.send(hub.ask(method.parse().unwrap(), path, Some(&hub.admin))).await;
            assert_eq!(status, 405, "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_a_limited_token_only_what_is_its_own() {
    let hub = Hub::start().await;
    for stack in ["mine", "mine2", "other"] {
        hub.apply(stack).await;
    }
    let token = hub.token("viewer", &["mine"]).await;
    for (path, list, key) in [
        ("/v1/stacks", "stacks", "name"),
        ("/v1/services", "services", "stack"),
        ("/v1/replicas", "replicas", "service"),
        ("/v1/replicas?stack=other", "replicas", "service"),
        ("/v1/events?limit=1000", "events", "stack"),
        ("/v1/events?limit=1000&stack=other", "events", "stack"),
    ] {
        let (status, shown) = hub.get(path, &token).await;
        assert_eq!(status, 200, "{path}: {shown}");
        let mine = |entry: &Value| entry[key].as_str().is_some_and(|name| name == "mine" || name == "mine/web");
        let entries = shown[list].as_array().unwrap();
        assert!(entries.iter().all(mine), "{path}: {shown}");
        assert_eq!(entries.is_empty(), path.contains("stack=other"), "{path}: {shown}");
        let all = hub.get(path, &hub.admin).await.1;
        assert!(all.to_string().contains("other"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_token_is_told_of_its_own_routers_and_targets_only() {
    let hub = Hub::start().await;
    for stack in ["mine", "mine2"] {
        let labels = format!("{{ traefik.http.routers.{stack}.rule: 'Host(`x`)', prometheus.io/scrape: 'true' }}");
        let text = format!("services: {{ web: {{ image: nginx:1, labels: {labels} }} }}");
        let body = json!({ "main": "c.yaml", "files": { "c.yaml": text } });
        let request = hub.ask(Method::PUT, &format!("/v1/stacks/{stack}"), Some(&hub.admin)).json(&body);
        assert_eq!(hub.send(request).await.0, 200);
    }
    let token = hub.token("viewer", &["mine"]).await;
    let routers = |told: &Value| told["http"]["routers"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(routers(&hub.get("/v1/providers/traefik", &token).await.1), ["mine"]);
    assert_eq!(routers(&hub.get("/v1/providers/traefik", &hub.admin).await.1), ["mine", "mine2"]);
    assert_eq!(hub.get("/v1/sd/prometheus", &token).await, (200, json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_token_comes_into_no_network_of_another_stack_and_is_not_told_of_it() {
    let hub = Hub::start().await;
    let token = hub.token("operator", &["mine"]).await;
    let apply = async |stack: &str, token: &str, text: &str| {
        let body = json!({ "main": "c.yaml", "files": { "c.yaml": text } });
        hub.send(hub.ask(Method::PUT, &format!("/v1/stacks/{stack}"), Some(token)).json(&body)).await
    };
    let secret = "services: { web: { image: nginx:1, ports: ['80:80'] } }";
    assert_eq!(apply("secret", &hub.admin, secret).await.0, 200);
    let joins = |name: &str| {
        format!(
            "services: {{ web: {{ image: x, networks: [n] }} }}\nnetworks: {{ n: {{ external: true, name: {name} }} }}"
        )
    };
    let (status, there) = apply("mine", &token, &joins("secret_default")).await;
    assert_eq!(status, 409, "{there}");
    let (_, not_there) = apply("mine", &token, &joins("nobody_default")).await;
    assert_eq!(there.to_string().replace("secret", "nobody"), not_there.to_string());
    let same = "services: { web: { image: x, networks: [n] } }\nnetworks: { n: { name: secret_default } }";
    let port = "services: { web: { image: x, ports: ['80:8080'] } }";
    for text in [same, port] {
        let (status, problem) = apply("mine", &token, text).await;
        assert_eq!(status, 409, "{problem}");
        assert!(!problem.to_string().contains("secret/") && !problem.to_string().contains("`secret`"), "{problem}");
    }
    // Who may know of both may join.
    assert_eq!(apply("mine", &hub.admin, &joins("secret_default")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ones_own_looks_like_what_is_not_there() {
    let hub = Hub::start().await;
    hub.apply("other").await;
    let token = hub.token("operator", &["mine"]).await;
    for path in ["/v1/stacks/", "/v1/services/", "/v1/replicas/"] {
        let rest = |stack: &str| match path {
            "/v1/stacks/" => stack.to_owned(),
            "/v1/services/" => format!("{stack}/web"),
            _ => format!("{stack}/web.1"),
        };
        let there = hub.get(&format!("{path}{}", rest("other")), &token).await;
        let not_there = hub.get(&format!("{path}{}", rest("nosuch")), &token).await;
        assert_eq!(there.0, 404);
        assert_eq!(there.1.to_string().replace("other", "nosuch"), not_there.1.to_string());
    }
    assert_eq!(hub.get("/v1/stacks/other", &hub.admin).await.0, 200, "and it is still there");
}

//! Secrets, configs and logins: set by whoever may, used by stacks, and read back by nobody.

use outrigger_hub::secrets::FILE;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Hub;

/// "hunter2" and what a stack brings along.
const CANARY: &str = "aHVudGVyMg==";

async fn put(hub: &Hub, path: &str, token: &str, body: Value) -> (u16, Value) {
    hub.send(hub.ask(Method::PUT, path, Some(token)).json(&body)).await
}

async fn delete(hub: &Hub, path: &str, token: &str) -> (u16, Value) {
    hub.send(hub.ask(Method::DELETE, path, Some(token))).await
}

/// Applies a stack whose service uses `secrets: [db]`, defined like this.
async fn apply(hub: &Hub, stack: &str, token: &str, defined: &str) -> (u16, Value) {
    let text =
        format!("services: {{ web: {{ image: 'nginx:1', secrets: [db] }} }}\nsecrets: {{ db: {{ {defined} }} }}\n");
    let body = json!({ "main": "c.yaml", "files": { "c.yaml": text, "db.txt": "pa$SWORD" } });
    put(hub, &format!("/v1/stacks/{stack}"), token, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_written_by_operators_and_read_by_nobody() {
    let hub = Hub::start().await;
    let (viewer, operator) = (hub.token("viewer", &[]).await, hub.token("operator", &[]).await);
    for kind in ["secrets", "configs"] {
        let path = format!("/v1/{kind}/db");
        assert_eq!(put(&hub, &path, &viewer, json!({ "content": CANARY })).await.0, 403);
        let (status, set) = put(&hub, &path, &operator, json!({ "content": CANARY })).await;
        assert_eq!((status, &set["name"]), (200, &json!("db")), "{set}");
        for token in [&viewer, &operator, &hub.admin] {
            let (status, list) = hub.get(&format!("/v1/{kind}"), token).await;
            assert_eq!((status, &list["files"][0]["name"]), (200, &json!("db")));
            let keys: Vec<_> = list["files"][0].as_object().unwrap().keys().cloned().collect();
            assert_eq!(keys, ["name", "readable", "set_by", "set_unix_ms"], "and nothing about its content");
            assert_eq!(hub.get(&path, token).await.0, 405, "there is no way to read it");
        }
        assert_eq!(delete(&hub, &path, &viewer).await.0, 403);
        assert_eq!(delete(&hub, &path, &operator).await.0, 200);
        assert_eq!(delete(&hub, &path, &operator).await.0, 404);
    }
    let login = json!({ "username": "ann", "password": "hunter2" });
    assert_eq!(put(&hub, "/v1/registries/hub.lan:5000", &viewer, login.clone()).await.0, 403);
    assert_eq!(put(&hub, "/v1/registries/hub.lan:5000", &operator, login).await.0, 200);
    let (_, list) = hub.get("/v1/registries", &viewer).await;
    assert_eq!(
        (&list["registries"][0]["registry"], &list["registries"][0]["username"]),
        (&json!("hub.lan:5000"), &json!("ann"))
    );
    assert!(!list.to_string().contains("hunter2"), "{list}");
    assert_eq!(hub.get("/v1/registries/hub.lan:5000", &viewer).await.0, 405);
    assert_eq!(delete(&hub, "/v1/registries/hub.lan:5000", &operator).await.0, 200);
}

/// S37.
#[tokio::test(flavor = "multi_thread")]
async fn a_secrets_name_is_no_path_and_no_twin_of_another() {
    let hub = Hub::start().await;
    let body = json!({ "content": CANARY });
    for bad in ["..%2Fx", "%2Fetc%2Fshadow", "a%00b", "..", "a%2Fb", ".hidden", "a%0Ab", "%C3%A4", &"x".repeat(128)] {
        let (status, told) = put(&hub, &format!("/v1/secrets/{bad}"), &hub.admin, body.clone()).await;
        // Clients fold `..` into another path before they send it.
        assert!(matches!(status, 400 | 404 | 405), "{bad}: {status} {told}");
    }
    assert_eq!(put(&hub, "/v1/secrets/Db", &hub.admin, body.clone()).await.0, 200);
    let (status, told) = put(&hub, "/v1/secrets/db", &hub.admin, body.clone()).await;
    assert_eq!((status, told["kind"].as_str()), (409, Some("conflict")), "{told}");
    assert_eq!(put(&hub, "/v1/configs/db", &hub.admin, body.clone()).await.0, 200, "a config is no secret");
    assert_eq!(hub.get("/v1/secrets", &hub.admin).await.1["files"].as_array().unwrap().len(), 1);
    for bad in ["https:%2F%2Fhub.lan", "nohost", "hub.lan%2Fshop"] {
        let body = json!({ "username": "a", "password": "b" });
        assert_eq!(put(&hub, &format!("/v1/registries/{bad}"), &hub.admin, body).await.0, 400, "{bad}");
    }
    let (status, told) = put(&hub, "/v1/secrets/x", &hub.admin, json!({ "content": "hunter2!" })).await;
    assert!(status == 400 && !told.to_string().contains("hunter2"), "what is wrong is not repeated: {told}");
    let large = "QUFB".repeat(500 * 1024 / 3 + 1);
    assert_eq!(put(&hub, "/v1/secrets/x", &hub.admin, json!({ "content": large })).await.0, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_brings_its_own_secrets_along_and_uses_others_only_if_it_may() {
    let hub = Hub::start().await;
    let limited = hub.token("operator", &["shop"]).await;
    let (status, told) = apply(&hub, "shop", &limited, "file: ./db.txt").await;
    assert_eq!(status, 200, "{told}");
    let (_, list) = hub.get("/v1/secrets", &hub.admin).await;
    let first = &list["files"][0];
    assert_eq!(
        (&first["name"], &first["stack"], &first["used_by"]),
        (&json!("shop_db"), &json!("shop"), &json!(["shop/web"]))
    );
    // Neither by hand nor by another stack's file.
    assert_eq!(put(&hub, "/v1/secrets/shop_db", &hub.admin, json!({ "content": CANARY })).await.0, 409);
    assert_eq!(apply(&hub, "other", &hub.admin, "file: ./db.txt, name: shop_db").await.0, 409);
    let (status, told) = delete(&hub, "/v1/secrets/shop_db", &hub.admin).await;
    assert!(status == 409 && told["title"].as_str().unwrap().contains("shop/web"), "{told}");
    // What is not there is told; whoever is limited is told the same of what is.
    let (status, told) = apply(&hub, "shop", &hub.admin, "external: true, name: fleet-db").await;
    assert!(status == 409 && told["hint"].as_str().unwrap().contains("outrigger secret set fleet-db"), "{told}");
    let foreign = apply(&hub, "shop", &limited, "external: true, name: fleet-db").await;
    assert_eq!(foreign.0, 403);
    assert_eq!(put(&hub, "/v1/secrets/fleet-db", &hub.admin, json!({ "content": CANARY })).await.0, 200);
    assert_eq!(apply(&hub, "shop", &limited, "external: true, name: fleet-db").await, foreign);
    // Nor does a file of his take the name of another's, or tell whether there is one, and whose.
    assert_eq!(apply(&hub, "vault", &hub.admin, "file: ./db.txt, name: theirs").await.0, 200);
    let taken = apply(&hub, "shop", &limited, "file: ./db.txt, name: theirs").await;
    let (twin, free) = ("file: ./db.txt, name: THEIRS", "file: ./db.txt, name: nobodys");
    for definition in [twin, free] {
        let told = apply(&hub, "shop", &limited, definition).await;
        let name = definition.rsplit(' ').next().unwrap();
        assert_eq!((told.0, told.1.to_string()), (403, taken.1.to_string().replace("theirs", name)), "{definition}");
    }
    assert!(taken.0 == 403 && !taken.1.to_string().contains("vault"), "{taken:?}");
    // Once somebody who may has let the stack use it, the limited one may go on with it.
    assert_eq!(apply(&hub, "shop", &hub.admin, "external: true, name: fleet-db").await.0, 200);
    assert_eq!(apply(&hub, "shop", &limited, "external: true, name: fleet-db").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_is_no_change_another_is_and_a_plan_changes_nothing() {
    let hub = Hub::start().await;
    let stack = |content: &str| {
        json!({ "main": "c.yaml", "files": {
            "c.yaml": "services: { web: { image: 'nginx:1', configs: [app] } }\nconfigs: { app: { file: app.conf } }\n",
            "app.conf": content,
        }})
    };
    let change = |answer: (u16, Value)| answer.1["services"][0]["change"].as_str().unwrap_or_default().to_owned();
    let plan = |body: Value| hub.post("/v1/stacks/shop/plan", &hub.admin, body);
    assert_eq!(plan(stack("a")).await.0, 200);
    assert_eq!(hub.get("/v1/configs", &hub.admin).await.1["files"], json!([]), "a plan keeps nothing");
    assert_eq!(put(&hub, "/v1/stacks/shop", &hub.admin, stack("a")).await.0, 200);
    let same = change(put(&hub, "/v1/stacks/shop", &hub.admin, stack("a")).await);
    let planned = change(plan(stack("b")).await);
    let other = change(put(&hub, "/v1/stacks/shop", &hub.admin, stack("b")).await);
    assert_ne!(same, other);
    assert_eq!(planned, other);
    assert_eq!(change(plan(stack("b")).await), same);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_survive_a_restart_and_are_worth_nothing_without_their_key() {
    let mut hub = Hub::start().await;
    put(&hub, "/v1/secrets/db", &hub.admin, json!({ "content": CANARY })).await;
    hub.restart().await;
    assert_eq!(hub.get("/v1/secrets", &hub.admin).await.1["files"][0]["readable"], json!(true));
    hub.stop().await;
    // As after a restore from a backup, which has no key.
    std::fs::remove_file(hub.state_dir().join(FILE)).unwrap();
    hub.restart().await;
    assert_eq!(hub.get("/v1/secrets", &hub.admin).await.1["files"][0]["readable"], json!(false));
    put(&hub, "/v1/secrets/db", &hub.admin, json!({ "content": CANARY })).await;
    assert_eq!(hub.get("/v1/secrets", &hub.admin).await.1["files"][0]["readable"], json!(true), "set again, it is");
    hub.stop().await;
    std::fs::write(hub.state_dir().join(FILE), "damaged").unwrap();
    assert!(hub.fails_to_start().await.contains("holds no key of secrets"));
}

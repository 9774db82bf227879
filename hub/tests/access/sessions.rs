//! People with browsers: users, passwords, sessions in cookies (S26, S27, S46).

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Hub, eventually};

const PASSWORD: &str = "correct horse battery";

/// A browser that is logged in.
struct Browser<'a> {
    hub: &'a Hub,
    cookie: String,
    csrf: String,
}

async fn add(hub: &Hub, name: &str, role: &str, stacks: &[&str]) {
    let body = json!({ "name": name, "role": role, "stacks": stacks, "password": PASSWORD });
    let (status, made) = hub.post("/v1/users", &hub.admin, body).await;
    assert_eq!(status, 200, "{made}");
}

fn login(hub: &Hub, user: &str, password: &str) -> RequestBuilder {
    hub.ask(Method::POST, "/v1/session", None).json(&json!({ "user": user, "password": password }))
}

impl<'a> Browser<'a> {
    async fn open(hub: &'a Hub, user: &str) -> Self {
        let response = login(hub, user, PASSWORD).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let set = response.headers()["set-cookie"].to_str().unwrap().to_owned();
        for flag in ["__Host-outrigger=or1.session.", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
            assert!(set.contains(flag), "{set}");
        }
        assert!(!set.contains("Domain"), "{set}");
        let body: Value = response.json().await.unwrap();
        let csrf = body["csrf"].as_str().unwrap().to_owned();
        Self { hub, cookie: set.split(';').next().unwrap().to_owned(), csrf }
    }

    /// As its page asks.
    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.hub.ask(method, path, None).header("cookie", &self.cookie);
        request.header("x-outrigger-csrf", &self.csrf).header("sec-fetch-site", "same-origin")
    }

    async fn send(&self, method: Method, path: &str) -> (u16, Value) {
        self.hub.send(self.ask(method, path)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_does_what_his_role_allows_and_logs_out() {
    let hub = Hub::start().await;
    hub.apply("shop").await;
    add(&hub, "ann", "operator", &[]).await;
    let browser = Browser::open(&hub, "ann").await;
    let (status, who) = browser.send(Method::GET, "/v1/session").await;
    assert_eq!(
        (status, who["who"]["role"].as_str(), who["csrf"].as_str()),
        (200, Some("operator"), Some(&*browser.csrf))
    );
    assert!(who["who"]["who"].as_str().unwrap().starts_with("ann (session "));
    let scale = browser.ask(Method::POST, "/v1/services/shop/web/scale").json(&json!({ "replicas": 3 }));
    assert_eq!(hub.send(scale).await.0, 200);
    assert_eq!(browser.send(Method::GET, "/v1/users").await.0, 403, "he is no administrator");
    assert_eq!(browser.send(Method::DELETE, "/v1/session").await.0, 200);
    assert_eq!(browser.send(Method::GET, "/v1/stacks").await.0, 401);
    let records = hub.get("/v1/audit?limit=1000", &hub.admin).await.1["records"].to_string();
    for what in ["logged in", "logged out", "POST /v1/services/shop/web/scale", "ann (session "] {
        assert!(records.contains(what), "{what}: {records}");
    }
    assert!(!records.contains(PASSWORD) && !records.contains("or1.session."));
}

/// S27
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_for_a_page_that_does_not_know_the_sessions_own_word() {
    let hub = Hub::start().await;
    hub.apply("shop").await;
    add(&hub, "ann", "admin", &[]).await;
    let (browser, other) = (Browser::open(&hub, "ann").await, Browser::open(&hub, "ann").await);
    let plain = |method: Method, path: &str| hub.ask(method, path, None).header("cookie", &browser.cookie);
    let changes = [
        (Method::DELETE, "/v1/stacks/shop"),
        (Method::POST, "/v1/services/shop/web/restart"),
        (Method::POST, "/v1/tokens"),
        (Method::PATCH, "/v1/devices/pi"),
        (Method::PUT, "/v1/session/password"),
        (Method::DELETE, "/v1/session"),
    ];
    for (method, path) in changes {
        for csrf in [None, Some(""), Some("x"), Some(other.csrf.as_str())] {
            let request = csrf
                .into_iter()
                .fold(plain(method.clone(), path), |request, csrf| request.header("x-outrigger-csrf", csrf));
            let (status, problem) = hub.send(request).await;
            assert_eq!((status, problem["kind"].as_str()), (403, Some("wrong_origin")), "{method} {path} {csrf:?}");
        }
    }
    assert_eq!(hub.get("/v1/stacks/shop", &hub.admin).await.0, 200, "it is still there");
    assert_eq!(hub.send(plain(Method::GET, "/v1/stacks")).await.0, 200, "looking needs no word");
    assert_eq!(browser.send(Method::DELETE, "/v1/stacks/shop").await.0, 200);
}

/// S26
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_opens_for_the_hubs_own_page_only() {
    let hub = Hub::start().await;
    add(&hub, "ann", "viewer", &[]).await;
    let browser = Browser::open(&hub, "ann").await;
    let stream = || hub.ask(Method::GET, "/v1/events/stream", None).header("cookie", &browser.cookie);
    let own = format!("https://localhost:{}", hub.address().port());
    for (name, value, wanted) in [
        ("x-nothing", "", 403),
        ("origin", "https://attacker.example", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "none", 403),
        ("origin", own.as_str(), 200),
        ("sec-fetch-site", "same-origin", 200),
    ] {
        let response = stream().header(name, value).send().await.unwrap();
        assert_eq!(response.status(), wanted, "{name}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_session() {
    let hub = Hub::start().await;
    add(&hub, "ann", "viewer", &[]).await;
    for end in ["logout", "end", "remove"] {
        let browser = Browser::open(&hub, "ann").await;
        let mut stream = browser.ask(Method::GET, "/v1/events/stream").send().await.unwrap();
        assert_eq!(stream.status(), 200);
        match end {
            "logout" => assert_eq!(browser.send(Method::DELETE, "/v1/session").await.0, 200),
            "end" => {
                let list = hub.get("/v1/sessions", &hub.admin).await.1;
                let id = list["sessions"][0]["id"].as_str().unwrap().to_owned();
                let end = hub.ask(Method::DELETE, &format!("/v1/sessions/{id}"), Some(&hub.admin));
                assert_eq!(hub.send(end).await.0, 200);
            }
            _ => {
                let remove = hub.ask(Method::DELETE, "/v1/users/ann", Some(&hub.admin));
                assert_eq!(hub.send(remove).await.0, 200);
            }
        }
        let ended = async { while stream.chunk().await.unwrap().is_some() {} };
        assert!(tokio::time::timeout(Duration::from_secs(10), ended).await.is_ok(), "{end}");
        assert_eq!(browser.send(Method::GET, "/v1/stacks").await.0, 401, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_some_stacks_sees_those_and_a_token_goes_before_a_cookie() {
    let hub = Hub::start().await;
    for stack in ["mine", "other"] {
        hub.apply(stack).await;
    }
    add(&hub, "ann", "viewer", &["mine"]).await;
    let browser = Browser::open(&hub, "ann").await;
    let (_, list) = browser.send(Method::GET, "/v1/stacks").await;
    assert_eq!(list["stacks"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(browser.send(Method::GET, "/v1/stacks/other").await.0, 404);
    let both = browser.ask(Method::GET, "/v1/stacks/other").bearer_auth(&hub.admin);
    assert_eq!(hub.send(both).await.0, 200);
    let forged = browser.ask(Method::GET, "/v1/stacks").bearer_auth("or1.api.x.y.z");
    assert_eq!(hub.send(forged).await.0, 401, "a bad token is not made good by a cookie");
}

/// S46
#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_passwords_has_to_wait_and_tokens_go_on() {
    let hub = Hub::start().await;
    add(&hub, "ann", "viewer", &[]).await;
    let mut answers = Vec::new();
    for number in 0..12 {
        let (status, problem) = hub.send(login(&hub, "ann", &format!("wrong password {number}"))).await;
        assert!(!problem.to_string().contains("wrong password"), "{problem}");
        answers.push(status);
    }
    assert_eq!((&answers[..10], &answers[10..]), (&[401; 10][..], &[429; 2][..]));
    assert_eq!(hub.send(login(&hub, "ann", PASSWORD)).await.0, 429, "the right one too, for now");
    let (status, nobody) = hub.send(login(&hub, "nobody", PASSWORD)).await;
    assert_eq!((status, nobody["title"].as_str()), (401, Some("no such user, or another password")));
    assert_eq!(hub.get("/v1/me", &hub.admin).await.0, 200);
    // An administrator who gives the user another password ends the wait.
    let body = json!({ "password": "another good one" });
    let set = hub.ask(Method::PUT, "/v1/users/ann/password", Some(&hub.admin)).json(&body);
    assert_eq!(hub.send(set).await.0, 200);
    assert_eq!(hub.send(login(&hub, "ann", "another good one")).await.0, 200);
}

/// S46: a hundred at once cost what one costs at a time, and nobody else waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn many_logins_at_once_keep_nobody_else_waiting() {
    let hub = std::sync::Arc::new(Hub::start().await);
    add(&hub, "ann", "viewer", &[]).await;
    let mut logins = tokio::task::JoinSet::new();
    for number in 0..100 {
        let hub = std::sync::Arc::clone(&hub);
        logins.spawn(async move { hub.send(login(&hub, &format!("user-{number}"), PASSWORD)).await.0 });
    }
    let asked = tokio::time::timeout(Duration::from_secs(5), hub.get("/v1/me", &hub.admin));
    assert_eq!(asked.await.expect("others are answered meanwhile").0, 200);
    assert!(logins.join_all().await.iter().all(|status| [401, 429].contains(status)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_the_other_sessions_and_needs_the_old_one() {
    let hub = Hub::start().await;
    add(&hub, "ann", "viewer", &[]).await;
    let (here, there) = (Browser::open(&hub, "ann").await, Browser::open(&hub, "ann").await);
    let change = |old: &str| {
        here.ask(Method::PUT, "/v1/session/password").json(&json!({ "old": old, "password": "quite another one" }))
    };
    assert_eq!(hub.send(change("something else")).await.0, 403);
    assert_eq!(there.send(Method::GET, "/v1/me").await.0, 200);
    assert_eq!(hub.send(change(PASSWORD)).await.0, 200);
    assert_eq!(here.send(Method::GET, "/v1/me").await.0, 200);
    assert_eq!(there.send(Method::GET, "/v1/me").await.0, 401);
    assert_eq!(hub.send(login(&hub, "ann", PASSWORD)).await.0, 401);
    assert_eq!(hub.send(login(&hub, "ann", "quite another one")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_outlive_a_restart_sessions_do_not_and_no_password_is_kept() {
    let mut hub = Hub::start().await;
    add(&hub, "ann", "viewer", &[]).await;
    let twice = json!({ "name": "ann", "role": "viewer", "password": PASSWORD });
    assert_eq!(hub.post("/v1/users", &hub.admin, twice).await.0, 409);
    let short = json!({ "name": "bob", "role": "viewer", "password": "short" });
    assert_eq!(hub.post("/v1/users", &hub.admin, short).await.0, 400);
    let cookie = Browser::open(&hub, "ann").await.cookie;
    hub.restart().await;
    let with_cookie = hub.ask(Method::GET, "/v1/me", None).header("cookie", &cookie);
    assert_eq!(hub.send(with_cookie).await.0, 401);
    Browser::open(&hub, "ann").await;
    let listed = hub.get("/v1/users", &hub.admin).await.1;
    assert_eq!(listed["users"].as_array().unwrap().len(), 1, "{listed}");
    assert!(!listed.to_string().contains("argon2"), "{listed}");
    hub.stop().await;
    let store = std::fs::read(hub.state_dir().join("hub.redb")).unwrap();
    let has = |needle: &str| store.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(has("$argon2id$v=19$m=19456,t=2,p=1$") && !has(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_administrator_can_become_a_user_by_the_setup_code() {
    let hub = Hub::start().await;
    let code = hub.local(Method::POST, "/v1/setup/code").await["code"].as_str().unwrap().to_owned();
    let set_up = |password: &str| {
        let body = json!({ "code": code, "name": "root", "password": password });
        hub.ask(Method::POST, "/v1/setup", None).json(&body)
    };
    assert_eq!(hub.send(set_up("short")).await.0, 400, "and the code is not used up");
    assert_eq!(hub.send(set_up(PASSWORD)).await.0, 200);
    let browser = Browser::open(&hub, "root").await;
    assert_eq!(browser.send(Method::GET, "/v1/users").await.0, 200);
    eventually("its token is listed", || async {
        hub.get("/v1/tokens", &hub.admin).await.1.to_string().contains("root")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_run_and_style_nothing_that_stands_in_them() {
    let hub = Hub::start().await;
    let page = hub.ask(Method::GET, "/", None).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = page.text().await.unwrap();
    assert!(!text.contains("<style") && !text.contains("<script") && !text.contains(" on"), "{text}");
    let style = hub.ask(Method::GET, "/page.css", None).send().await.unwrap();
    assert_eq!(
        (style.status().as_u16(), style.headers()["content-type"].to_str().unwrap()),
        (200, "text/css; charset=utf-8")
    );
}

//! Applying, planning, scaling, removing; labels and drains. Effects are looked for on the devices.

use serde_json::json;

use crate::support::{Hub, compose, eventually};

const WEB: &str = "services:\n  web:\n    image: nginx:1\n    deploy:\n      replicas: 2\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_applied_scaled_changed_and_removed() {
    let hub = Hub::start().await;
    let device = hub.device("pi").await;

    let (status, applied) = hub.put("/v1/stacks/shop", compose(WEB)).await;
    assert_eq!(status, 200, "{applied}");
    assert_eq!(applied["services"], json!([{ "name": "web", "change": "created", "wanted": 2 }]));
    hub.runs("shop/web", 2).await;
    assert_eq!(device.images(), ["nginx:1", "nginx:1"]);

    let again = hub.put("/v1/stacks/shop", compose(WEB)).await.1;
    assert_eq!(again["services"][0]["change"], "unchanged");

    let (_, scaled) = hub.post("/v1/services/shop/web/scale", json!({ "replicas": 3 })).await;
    assert_eq!(scaled, json!({ "service": "shop/web", "before": 2, "after": 3 }));
    hub.runs("shop/web", 3).await;

    let changed = WEB.replace("nginx:1", "nginx:2");
    let (status, plan) = hub.post("/v1/stacks/shop/plan", compose(&changed)).await;
    assert_eq!((status, &plan["dry_run"]), (200, &json!(true)), "{plan}");
    assert_eq!(plan["services"][0]["parts"], json!(["image", "deploy.replicas"]));
    assert_eq!(hub.get("/v1/services/shop/web").await.1["image"], "nginx:1", "a plan changes nothing");

    let (status, removed) = hub.delete("/v1/stacks/shop").await;
    assert_eq!((status, removed), (200, json!({ "name": "shop", "services": ["web"] })));
    eventually("the device runs nothing", || async { device.images().is_empty() }).await;
    assert_eq!(hub.get("/v1/stacks").await.1, json!({ "stacks": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_where_each_replica_would_run_and_runs_none() {
    let hub = Hub::start().await;
    let device = hub.device("pi").await;
    let (_, plan) = hub.post("/v1/stacks/shop/plan", compose(WEB)).await;
    let places: Vec<_> = plan["replicas"].as_array().unwrap().iter().map(|replica| &replica["device"]).collect();
    assert_eq!(places, ["pi", "pi"], "{plan}");
    assert!(device.images().is_empty());
    assert_eq!(hub.get("/v1/services").await.1, json!({ "services": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_refers_to_is_asked_for_and_then_used() {
    let hub = Hub::start().await;
    let device = hub.device("pi").await;
    let file = "services:\n  web:\n    image: nginx:${TAG:-1}\n    env_file: web.env\n";
    let (status, problem) = hub.put("/v1/stacks/shop", compose(file)).await;
    assert_eq!(status, 422);
    assert_eq!(
        problem,
        json!({
            "kind": "missing_input",
            "status": 422,
            "title": "the Compose file refers to more than was sent",
            "hint": "send it again with these files and variables; `null` for one that there is not",
            "files": ["web.env"],
            "variables": ["TAG"],
        })
    );
    let body = json!({
        "main": "compose.yaml",
        "files": { "compose.yaml": file, "web.env": "COLOUR=blue\n" },
        "variables": { "TAG": "3" },
    });
    let (status, applied) = hub.put("/v1/stacks/shop", body).await;
    assert_eq!(status, 200, "{applied}");
    eventually("the variable's value is in the image", || async { device.images() == ["nginx:3"] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_file_is_told_with_its_place_and_changes_nothing() {
    let hub = Hub::start().await;
    let file = "services:\n  web:\n    image: nginx\n    prots: ['80:80']\n";
    let (status, problem) = hub.put("/v1/stacks/shop", compose(file)).await;
    assert_eq!(status, 422);
    assert_eq!(
        problem,
        json!({
            "kind": "compose",
            "status": 422,
            "title": "compose.yaml has an error",
            "diagnostics": [{
                "severity": "error",
                "file": "compose.yaml",
                "line": 4,
                "column": 5,
                "path": "services.web.prots",
                "message": "unknown key",
                "help": "did you mean `ports`?",
            }],
        })
    );
    assert_eq!(hub.get("/v1/stacks").await.1, json!({ "stacks": [] }));
    let (_, checked) = hub.post("/v1/compose/check?name=shop", compose(&file.replace("prots", "ports"))).await;
    assert_eq!(checked["services"], json!(["web"]), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_tells_where_it_is_and_why_or_why_nobody_takes_it() {
    let hub = Hub::start().await;
    let _device = hub.device("pi").await;
    hub.put("/v1/stacks/shop", compose(WEB)).await;
    hub.runs("shop/web", 2).await;
    let (_, replica) = hub.get("/v1/replicas/shop/web.1").await;
    assert_eq!((&replica["state"], &replica["copy"]["device"]), (&json!("running"), &json!("pi")));
    let (_, why) = hub.get("/v1/replicas/shop/web.1/explain").await;
    assert_eq!((&why["replicas"][0]["verdict"], &why["replicas"][0]["device"]), (&json!("placed"), &json!("pi")));

    let picky = "services:\n  db:\n    image: postgres\n    deploy:\n      placement:\n        constraints: [node.labels.disk == ssd]\n";
    hub.put("/v1/stacks/picky", compose(picky)).await;
    eventually("the replica is refused with a reason", || async {
        let why = hub.get("/v1/services/picky/db/explain").await.1;
        let replica = &why["replicas"][0];
        replica["verdict"] == "pending" && replica["refusals"][0]["device"] == "pi"
    })
    .await;

    let (status, device) = hub.patch("/v1/devices/pi", json!({ "labels": { "disk": "ssd" } })).await;
    assert_eq!((status, &device["labels"]), (200, &json!({ "disk": "ssd" })));
    hub.runs("picky/db", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_read_in_pieces_without_loss() {
    let hub = Hub::start().await;
    // Nobody is there to take them: they wait, and are listed all the same.
    let many = "services:\n  a:\n    image: x\n    deploy: {replicas: 15000}\n  b:\n    image: x\n    deploy: {replicas: 8000}\n";
    assert_eq!(hub.put("/v1/stacks/many", compose(many)).await.0, 200);
    let first = hub.get("/v1/replicas?stack=many").await.1;
    assert_eq!(first["next"], "many/b.5000");
    let rest = hub.get("/v1/replicas?stack=many&after=many/b.5000").await.1;
    let count = |list: &serde_json::Value| list["replicas"].as_array().unwrap().len();
    assert_eq!((count(&first), count(&rest), &rest["next"]), (20_000, 3_000, &serde_json::Value::Null));
    assert_eq!(rest["replicas"][0]["name"], "many/b.5001");
    let why = hub.get("/v1/services/many/b/explain").await.1;
    assert_eq!(count(&why), 50);
    assert!(why["notes"].to_string().contains("50 of 8000 replicas are explained"), "{}", why["notes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_device_is_emptied_and_a_forgotten_one_is_gone() {
    let hub = Hub::start().await;
    let (first, second) = (hub.device("first").await, hub.device("second").await);
    hub.put("/v1/stacks/shop", compose(WEB)).await;
    hub.runs("shop/web", 2).await;

    let (_, shown) = hub.patch("/v1/devices/first", json!({ "availability": "drain" })).await;
    assert_eq!(shown["availability"], "drain");
    eventually("everything is on the second", || async { first.images().is_empty() && second.images().len() == 2 })
        .await;

    let (status, problem) = hub.delete("/v1/devices/first").await;
    assert_eq!((status, &problem["kind"]), (409, &json!("conflict")), "{problem}");
    let has_metrics = || async {
        let response = hub.client().get(hub.url("/metrics")).send().await.unwrap();
        response.text().await.unwrap().contains("outrigger_device_online{device=\"first\"}")
    };
    assert!(has_metrics().await);
    first.cut();
    eventually("the first can be forgotten", || async { hub.delete("/v1/devices/first").await.0 == 200 }).await;
    assert_eq!(hub.get("/v1/devices/first").await.0, 404);
    assert!(!has_metrics().await, "metrics vanish with their device");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_devices_are_changed_at_once_or_not_at_all_and_a_loss_can_be_thought_through() {
    let hub = Hub::start().await;
    let devices = [hub.device("first").await, hub.device("second").await, hub.device("third").await];
    hub.put("/v1/stacks/shop", compose(WEB)).await;
    hub.runs("shop/web", 2).await;

    let labels = json!({ "zone": "attic", "disk": "ssd" });
    let change = json!({ "devices": ["first", "nowhere"], "availability": "drain", "labels": labels });
    let (status, problem) = hub.patch("/v1/devices", change).await;
    assert_eq!((status, &problem["kind"]), (404, &json!("not_found")), "{problem}");
    assert!(problem.to_string().contains("there is no device `nowhere`; nothing was changed"), "{problem}");
    let untouched = hub.get("/v1/devices/first").await.1;
    assert_eq!((&untouched["availability"], &untouched["labels"]), (&json!("active"), &json!({})));

    let running: Vec<usize> = devices.iter().map(|device| device.images().len()).collect();
    let (status, told) = hub.get("/v1/devices/first/what-if-lost").await;
    assert_eq!((status, told["replicas"].as_array().unwrap().len()), (200, running[0]), "{told}");
    for replica in told["replicas"].as_array().unwrap() {
        assert_eq!((&replica["outcome"], &replica["device"]), (&json!("moves"), &json!("third")), "{told}");
    }
    assert_eq!(hub.get("/v1/devices/nowhere/what-if-lost").await.0, 404);

    let change = json!({ "devices": ["first", "second"], "availability": "drain", "labels": labels });
    let (status, changed) = hub.patch("/v1/devices", change).await;
    assert_eq!(status, 200, "{changed}");
    for device in changed["devices"].as_array().unwrap() {
        assert_eq!((&device["availability"], &device["labels"]), (&json!("drain"), &labels));
    }
    eventually("everything is on the third", || async { devices[2].images().len() == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn further_files_are_merged_and_their_mistakes_bear_their_names() {
    let hub = Hub::start().await;
    let project = |over: &str| {
        json!({
            "main": "compose.yaml", "overrides": ["../prod.yaml"], "profiles": ["debug"],
            "files": { "compose.yaml": WEB, "../prod.yaml": over },
        })
    };
    let over = "services:\n  web: { env_file: prod.env }\n  spy: { image: spy, profiles: [debug] }\n";
    let (status, missing) = hub.post("/v1/compose/check?name=shop", project(over)).await;
    assert_eq!((status, &missing["files"]), (422, &json!(["prod.env"])), "{missing}");
    let (status, checked) =
        hub.post("/v1/compose/check?name=shop", project(&over.replace("env_file: prod.env", ""))).await;
    assert_eq!((status, &checked["services"]), (200, &json!(["spy", "web"])), "{checked}");
    let (_, refused) = hub.post("/v1/compose/check?name=shop", project("services:\n  web: { imge: x }\n")).await;
    assert_eq!(refused["title"], "../prod.yaml has an error");
    let told = refused["diagnostics"].as_array().unwrap();
    assert!(
        told.iter().any(|found| (&found["file"], &found["line"]) == (&json!("../prod.yaml"), &json!(2))),
        "{told:?}"
    );
    let mut lacking = project("");
    lacking["overrides"] = json!(["other.yaml"]);
    assert_eq!(hub.post("/v1/compose/check", lacking).await.0, 400);
}

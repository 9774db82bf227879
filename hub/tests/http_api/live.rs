//! Live streams: events that are taken up where a reader left off, and output of replicas.

use futures_util::StreamExt;
use outrigger_api::{Event, LogFrame, LogOutput};
use reqwest::Response;
use serde_json::json;

use crate::support::{Hub, compose, eventually};

const WEB: &str = "services:\n  web:\n    image: nginx:1\n    deploy:\n      replicas: 2\n";

/// Reads a stream line by line.
struct Lines {
    response: Response,
    text: String,
}

impl Lines {
    async fn open(hub: &Hub, path: &str, header: Option<(&str, &str)>) -> Self {
        let mut request = hub.client().get(hub.url(path));
        if let Some((key, value)) = header {
            request = request.header(key, value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, text: String::new() }
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(line);
            }
            let piece = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The next event of an SSE stream; none when the stream ends.
    async fn event(&mut self) -> Option<Event> {
        loop {
            let line = self.next().await?;
            if let Some(data) = line.strip_prefix("data: ").filter(|data| data.starts_with('{')) {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    async fn frame(&mut self) -> Option<LogFrame> {
        Some(serde_json::from_str(&self.next().await?).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_back_gets_what_it_missed_and_then_what_happens() {
    let hub = Hub::start().await;
    let mut live = Lines::open(&hub, "/v1/events/stream", None).await;
    let _device = hub.device("pi").await;
    let seen = live.event().await.unwrap();
    assert_eq!(seen.device.as_deref(), Some("pi"));
    drop(live);

    hub.put("/v1/stacks/shop", compose(WEB)).await;
    hub.runs("shop/web", 2).await;
    let since = seen.id.to_string();
    let mut live = Lines::open(&hub, "/v1/events/stream", Some(("last-event-id", &since))).await;
    let listed = hub.get(&format!("/v1/events?since={since}&limit=1000")).await.1;
    let listed: Vec<Event> = serde_json::from_value(listed["events"].clone()).unwrap();
    assert!(listed.len() >= 3, "{listed:?}");
    for event in &listed {
        assert_eq!(live.event().await.as_ref(), Some(event), "replayed in order, each once");
    }
    hub.delete("/v1/stacks/shop").await;
    let next = live.event().await.unwrap();
    assert!(next.id > listed.last().unwrap().id);
    hub.stop().await;
    while live.event().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_another_past_is_told_of_the_gap() {
    let hub = Hub::start().await;
    let _device = hub.device("pi").await;
    let foreign = u64::MAX.to_string();
    let mut live = Lines::open(&hub, "/v1/events/stream?device=pi", Some(("last-event-id", &foreign))).await;
    assert_eq!(live.next().await.as_deref(), Some("event: gap"));
    assert_eq!(live.event().await.unwrap().device.as_deref(), Some("pi"));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_found_by_what_they_are_about() {
    let hub = Hub::start().await;
    let _device = hub.device("pi").await;
    hub.put("/v1/stacks/shop", compose(WEB)).await;
    hub.runs("shop/web", 2).await;
    let kinds = |events: &serde_json::Value| -> Vec<String> {
        let events = events["events"].as_array().unwrap();
        events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    };
    let applied = hub.get("/v1/events?kind=stack_applied").await.1;
    assert_eq!(kinds(&applied), ["stack_applied"]);
    let (_, one) = hub.get("/v1/events?replica=shop/web.1&limit=1").await;
    assert_eq!((kinds(&one).len(), &one["truncated"]), (1, &json!(true)));
    assert!(kinds(&hub.get("/v1/events?device=other").await.1).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let hub = Hub::start().await;
    let mut open = Vec::new();
    let refused = loop {
        let response = hub.client().get(hub.url("/v1/events/stream")).send().await.unwrap();
        match response.status().as_u16() {
            200 => open.push(response),
            _ => break response.json::<serde_json::Value>().await.unwrap(),
        }
        assert!(open.len() < 1000);
    };
    assert_eq!(refused["kind"], "too_many");
    assert_eq!(hub.get("/v1/devices").await.0, 200, "everything else goes on");
    open.pop();
    eventually("there is room again", || async {
        hub.client().get(hub.url("/v1/events/stream")).send().await.unwrap().status() == 200
    })
    .await;
}

fn line(replica: &str, output: LogOutput, text: &str) -> LogFrame {
    LogFrame::Line { replica: replica.into(), output, time: None, text: text.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_comes_in_whole_lines_of_one_replica_or_of_all() {
    let hub = Hub::start().await;
    let _device = hub.device("pi").await;
    hub.put("/v1/stacks/shop", compose(WEB)).await;
    hub.runs("shop/web", 2).await;

    let mut one = Lines::open(&hub, "/v1/replicas/shop/web.1/logs?tail=10", None).await;
    let wanted = [
        line("shop/web.1", LogOutput::Stdout, "first"),
        line("shop/web.1", LogOutput::Stderr, "oops"),
        line("shop/web.1", LogOutput::Stdout, "second"),
        LogFrame::End { replica: "shop/web.1".into(), error: None },
    ];
    for frame in wanted {
        assert_eq!(one.frame().await, Some(frame));
    }
    assert_eq!(one.frame().await, None);

    let mut all = Lines::open(&hub, "/v1/services/shop/web/logs", None).await;
    let mut frames = Vec::new();
    while let Some(frame) = all.frame().await {
        frames.push(frame);
    }
    assert_eq!(frames.len(), 8, "{frames:?}");
    for replica in ["shop/web.1", "shop/web.2"] {
        assert!(frames.contains(&line(replica, LogOutput::Stdout, "second")), "{frames:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_gets_new_lines_and_who_leaves_stops_the_device() {
    let hub = Hub::start().await;
    let device = hub.device("pi").await;
    hub.put("/v1/stacks/shop", compose(&WEB.replace("replicas: 2", "replicas: 1"))).await;
    hub.runs("shop/web", 1).await;
    let mut live = Lines::open(&hub, "/v1/replicas/shop/web.1/logs?follow=true", None).await;
    for _ in 0..3 {
        live.frame().await.unwrap();
    }
    eventually("the device follows", || async { device.is_followed() }).await;
    device.write(1, "later\n");
    assert_eq!(live.frame().await, Some(line("shop/web.1", LogOutput::Stderr, "later")));
    drop(live);
    eventually("the device is told to stop", || async { device.cancelled() == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_a_device_that_is_gone_is_a_problem_not_a_wait() {
    let hub = Hub::start().await;
    let device = hub.device("pi").await;
    hub.put("/v1/stacks/shop", compose(WEB)).await;
    hub.runs("shop/web", 2).await;
    device.cut();
    eventually("the device is lost", || async { hub.get("/v1/devices/pi").await.1["state"] == "lost" }).await;
    let (status, problem) = hub.get("/v1/replicas/shop/web.1/logs").await;
    assert_eq!(status, 503, "{problem}");
    assert_eq!(problem["kind"], "device_unreachable");
    let mut all = hub.client().get(hub.url("/v1/services/shop/web/logs")).send().await.unwrap().bytes_stream();
    let piece = all.next().await.unwrap().unwrap();
    assert!(std::str::from_utf8(&piece).unwrap().contains("\"frame\":\"end\""), "{piece:?}");
}

//! The engine in memory does what every engine does, and fails on demand.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod engine_common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine_common::{Bench, Watched, new};
use outrigger_agent::engine::memory::{Behaviour, ImageBehaviour, MemoryEngine, Program};
use outrigger_agent::engine::{ContainerState, Engine, EngineError, EngineEvent, PullProgress};
use outrigger_protocol::{ContainerSpec, Healthcheck, HealthcheckTest, LogStream, PlacementId};
use tokio::sync::watch;

struct Memory(Arc<MemoryEngine>);

impl Memory {
    fn new() -> Self {
        let after = Duration::from_millis(300);
        let does = |program| ImageBehaviour { program, ..ImageBehaviour::default() };
        let fails = |pull: Option<&str>, start: Option<&str>| ImageBehaviour {
            pull_fails: pull.map(str::to_owned),
            start_fails: start.map(str::to_owned),
            ..ImageBehaviour::default()
        };
        let images = BTreeMap::from([
            ("crash".to_owned(), does(Program::Exits { after, code: 1 })),
            ("greedy".to_owned(), does(Program::NeedsMoreMemory { after })),
            ("broken".to_owned(), fails(None, Some("exec: /nothing: no such file or directory"))),
            ("missing".to_owned(), fails(Some("manifest for missing:latest not found"), None)),
        ]);
        let (start, stop) = (Duration::from_millis(5), Duration::from_millis(5));
        let engine = MemoryEngine::new(Behaviour { images, start, stop, ..Behaviour::default() });
        for image in ["web", "crash", "greedy", "broken"] {
            engine.add_image(image);
        }
        Self(Arc::new(engine))
    }

    fn of(image: &str) -> ContainerSpec {
        ContainerSpec { image: image.to_owned(), ..ContainerSpec::default() }
    }
}

impl Bench for Memory {
    type E = MemoryEngine;
    fn engine(&self) -> Arc<MemoryEngine> {
        Arc::clone(&self.0)
    }
    fn runs(&self) -> ContainerSpec {
        Self::of("web")
    }
    fn crashes(&self) -> ContainerSpec {
        Self::of("crash")
    }
    fn is_greedy(&self) -> ContainerSpec {
        Self::of("greedy")
    }
    fn is_healthy(&self) -> ContainerSpec {
        let check = Healthcheck {
            test: HealthcheckTest::Inherited,
            interval: None,
            timeout: None,
            retries: None,
            start_period: None,
            start_interval: None,
        };
        ContainerSpec { healthcheck: Some(check), ..Self::of("web") }
    }
    fn cannot_start(&self) -> ContainerSpec {
        Self::of("broken")
    }
    fn missing_image(&self) -> String {
        "missing".to_owned()
    }
    fn port(&self) -> u16 {
        80
    }
    fn chats(&self) -> ContainerSpec {
        Self::of("web")
    }
    fn chat(&self, placement: PlacementId) {
        self.0.write(placement, LogStream::Stdout, b"web: line 1\n");
        self.0.write(placement, LogStream::Stderr, b"web: line 2\n");
    }
}

#[allow(clippy::unused_async, reason = "a real engine's bench waits")]
async fn bench() -> Memory {
    Memory::new()
}

engine_facts!(tokio::test(start_paused = true));

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_down_is_told_once_and_its_return_with_the_whole_list() {
    let bench = Memory::new();
    let mut watched = Watched::new(bench.engine()).await;
    let id = watched.start(&new(bench.runs())).await;
    watched.until_state(&id, |state| state.is_running()).await;
    bench.0.go_down("it crashed");
    let reason = watched.until(|event| if let EngineEvent::Lost(reason) = event { Some(reason) } else { None }).await;
    assert!(reason.contains("it crashed"), "{reason}");
    let refused = watched.engine.list().await;
    assert!(refused.unwrap_err().is_engine_down());

    // What happens meanwhile is in the list afterwards, and nothing else of containers is told before it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let placement = bench.0.containers()[0].placement;
    assert!(bench.0.exit(placement, 3));
    bench.0.come_back();
    let networks = watched.events.recv().await.unwrap();
    assert_eq!(networks, EngineEvent::Networks(vec![]), "networks come before what is in them");
    let next = watched.events.recv().await.unwrap();
    let EngineEvent::Listed(list) = next else { panic!("{next:?}") };
    assert_eq!(list[0].state, ContainerState::Exited { code: 3, out_of_memory: false });
    watched.clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_tells_its_progress_and_a_full_disk_ends_it() {
    let bench = Memory::new();
    bench.0.set_behaviour(|behaviour| behaviour.pull = Duration::from_secs(4));
    let (sender, mut progress) = watch::channel(PullProgress::default());
    let engine = bench.engine();
    let pull = tokio::spawn(async move { engine.pull("new", None, None, sender).await });
    let half =
        progress.wait_for(|progress| progress.done > 0 && progress.done < progress.total).await.map(|held| *held);
    assert!(half.is_ok());
    assert_eq!(pull.await.unwrap().unwrap(), bench.0.image("new").await.unwrap().unwrap());

    bench.0.set_behaviour(|behaviour| behaviour.disk_full = true);
    let (sender, _) = watch::channel(PullProgress::default());
    let refused = bench.0.pull("newer", None, None, sender).await;
    assert!(matches!(refused, Err(EngineError::NoSpace { .. })));
    assert!(matches!(bench.0.create_and_start(&new(bench.runs())).await, Err(EngineError::NoSpace { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_ends_all_containers() {
    let bench = Memory::new();
    bench.0.create_and_start(&new(bench.runs())).await.unwrap();
    bench.0.create_and_start(&new(bench.runs())).await.unwrap();
    bench.0.cut_power();
    assert!(bench.0.containers().iter().all(|one| matches!(one.state, ContainerState::Exited { .. })));
    assert_eq!(bench.0.starts_and_stops(), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_image_goes_only_without_containers_and_only_if_it_is_still_the_same() {
    let bench = Memory::new();
    let digest = bench.0.image("web").await.unwrap().unwrap();
    let id = bench.0.create_and_start(&new(bench.runs())).await.unwrap();
    assert!(matches!(bench.0.remove_image("web", &digest).await, Err(EngineError::Refused { .. })));
    bench.0.remove(&id).await.unwrap();
    assert!(matches!(bench.0.remove_image("web", "sha256:0").await, Err(EngineError::Refused { .. })));
    bench.0.remove_image("web", &digest).await.unwrap();
    assert_eq!(bench.0.image("web").await.unwrap(), None);
    assert!(matches!(bench.0.remove_image("web", &digest).await, Err(EngineError::ImageNotFound { .. })));
}

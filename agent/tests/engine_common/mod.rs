//! What every container engine must do, as facts that run against any of them: against the engine in memory always,
//! against Docker or Podman where `OUTRIGGER_TEST_ENGINE` names their socket.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outrigger_agent::engine::{Container, ContainerId, ContainerState, Engine, EngineEvent, LossLabel, NewContainer};
use outrigger_protocol::{ContainerSpec, PlacementId};
use tokio::sync::mpsc;

pub mod facts;

/// Longest wait for an effect: a busy machine with a real engine needs some.
const DEADLINE: Duration = Duration::from_secs(60);

/// An engine, and specifications that make something happen on it.
pub trait Bench: Sync {
    type E: Engine;
    fn engine(&self) -> Arc<Self::E>;
    /// Runs until stopped.
    fn runs(&self) -> ContainerSpec;
    /// Ends by itself, with code 1.
    fn crashes(&self) -> ContainerSpec;
    /// Takes more memory than it may.
    fn is_greedy(&self) -> ContainerSpec;
    /// Has a healthcheck that passes after a moment.
    fn is_healthy(&self) -> ContainerSpec;
    /// Whether its engine runs healthchecks here. Podman leaves them to systemd.
    fn runs_healthchecks(&self) -> bool {
        true
    }
    /// Cannot be started, though its image is there.
    fn cannot_start(&self) -> ContainerSpec;
    /// An image that is neither there nor to be had.
    fn missing_image(&self) -> String;
    /// A port that is free on the engine's device.
    fn port(&self) -> u16;
    /// Runs and writes lines `web: line 1`, `web: line 2` …
    fn chats(&self) -> ContainerSpec;
    /// Makes a chatting container write, where it does not by itself.
    fn chat(&self, placement: PlacementId);
}

/// Its own containers on the bench, removed at the end of the fact.
pub struct Watched<E> {
    pub engine: Arc<E>,
    pub events: mpsc::Receiver<EngineEvent>,
    made: Vec<ContainerId>,
}

/// Numbers that no other container of this run has, and no leftover of an earlier run is likely to have.
fn placement() -> PlacementId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let run = u64::from(std::process::id()) << 24;
    PlacementId(run + NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn new(spec: ContainerSpec) -> NewContainer {
    NewContainer {
        fleet: outrigger_protocol::FleetId(0xf1ee7),
        device: "bench".parse().unwrap(),
        placement: placement(),
        replica: "shop/web.1".parse().unwrap(),
        loss: LossLabel::Exclusive,
        spec: Arc::new(spec),
        name_servers: vec![],
        files: vec![],
    }
}

impl<E: Engine> Watched<E> {
    pub async fn new(engine: Arc<E>) -> Self {
        let (sender, events) = mpsc::channel(256);
        let watching = Arc::clone(&engine);
        tokio::spawn(async move { watching.watch(sender).await });
        let mut watched = Self { engine, events, made: Vec::new() };
        watched.until(|event| matches!(event, EngineEvent::Listed(_)).then_some(())).await;
        watched
    }

    /// The first event of which `wanted` makes something.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(EngineEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("watching has ended");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(DEADLINE, search).await.expect("the event did not come")
    }

    /// The container once it is told to be in such a state.
    pub async fn until_state(&mut self, id: &ContainerId, wanted: impl Fn(ContainerState) -> bool) -> Container {
        self.until(|event| match event {
            EngineEvent::Changed(container) => (container.id == *id && wanted(container.state)).then_some(container),
            EngineEvent::Listed(list) => list.into_iter().find(|one| one.id == *id && wanted(one.state)),
            EngineEvent::Gone(_) | EngineEvent::Lost(_) | EngineEvent::Networks(_) => None,
        })
        .await
    }

    pub async fn start(&mut self, new: &NewContainer) -> ContainerId {
        let id = self.engine.create_and_start(new).await.unwrap();
        self.made.push(id.clone());
        id
    }

    pub async fn clean(self) {
        for id in &self.made {
            self.engine.remove(id).await.unwrap();
            assert_eq!(self.engine.inspect(id).await.unwrap(), None);
        }
    }
}

pub async fn eventually<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    let search = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, search).await.expect("it did not happen")
}

//! An engine in memory: containers are entries in a map. For tests, for `--engine memory`, and for fleets of thousands of
//! agents in one process. It behaves like Docker where decisions depend on it (names and ports collide, images must be
//! pulled, stopping takes time, events name what changed), and fails on demand.
//!
//! It waits with tokio's clock alone, so under paused time it costs none.

use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{CgroupVersion, EngineKind, LogChunk, LogStream, Login, LogsRequest, PlacementId, Platform};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{
    Container, ContainerId, ContainerState, Description, Engine, EngineError, EngineEvent, FileBind, Health, Network,
    NetworkId, Networks, NewContainer, NewNetwork, PullProgress,
};

mod behaviour;
mod networks;
mod world;

pub use behaviour::{Behaviour, ImageBehaviour, Program};
use world::World;

/// An engine in memory. Clones are handles to the same one, so that a test can keep one while the agent has the other.
#[derive(Debug, Clone)]
pub struct MemoryEngine {
    world: Arc<World>,
}

/// Steps in which the progress of a pull is told.
const PULL_STEPS: u32 = 4;
/// How often a lost engine is looked at.
const RETRY: Duration = Duration::from_millis(100);

impl MemoryEngine {
    /// An engine without containers and images.
    #[must_use]
    pub fn new(behaviour: Behaviour) -> Self {
        Self { world: Arc::new(World::new(behaviour)) }
    }

    /// Changes how it behaves from now on.
    pub fn set_behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        self.world.change_behaviour(change);
    }

    /// The engine's process ends: every call fails with `reason` until [`Self::come_back`]. Containers go on.
    pub fn go_down(&self, reason: &str) {
        self.world.set_down(Some(reason.to_owned()));
    }

    /// The engine answers again.
    pub fn come_back(&self) {
        self.world.set_down(None);
    }

    /// The device loses power: all containers have ended when it is back. Nobody hears of it.
    pub fn cut_power(&self) {
        self.world.end_all();
    }

    /// The process of this placement ends with `code`. False where it does not run.
    pub fn exit(&self, placement: PlacementId, code: i64) -> bool {
        self.world.end_placement(placement, code, false)
    }

    /// The kernel kills the process of this placement for memory.
    pub fn kill_for_memory(&self, placement: PlacementId) -> bool {
        self.world.end_placement(placement, 137, true)
    }

    /// The healthcheck of this placement says so from now on.
    pub fn set_health(&self, placement: PlacementId, health: Health) -> bool {
        self.world.set_health(placement, health)
    }

    /// The process of this placement writes.
    pub fn write(&self, placement: PlacementId, stream: LogStream, bytes: &[u8]) {
        self.world.write(placement, LogChunk { stream, bytes: bytes.to_vec() });
    }

    /// An image that is there as if pulled.
    pub fn add_image(&self, image: &str) {
        self.world.add_image(image);
    }

    /// All containers as they are now, also while the engine is down: what a test looks at.
    #[must_use]
    pub fn containers(&self) -> Vec<Container> {
        self.world.containers()
    }

    /// The secrets and configs that the container of this placement was made with.
    #[must_use]
    pub fn files(&self, placement: PlacementId) -> Vec<FileBind> {
        self.world.files(placement)
    }

    /// Starts and stops since the beginning: a test for "stops nothing" counts them.
    #[must_use]
    pub fn starts_and_stops(&self) -> (u64, u64) {
        self.world.starts_and_stops()
    }

    /// What the program does once it runs.
    fn run_program(&self, id: &ContainerId, start: u64) {
        let Some(container) = self.world.container(id) else { return };
        match self.world.behaviour().of_image(&container.image).program {
            Program::Runs => {}
            Program::Exits { after, code } => {
                self.later(id, after, move |world, id| world.end_start(id, start, code, false))
            }
            Program::NeedsMoreMemory { after } => {
                self.later(id, after, move |world, id| world.end_start(id, start, 137, true));
            }
            Program::BecomesHealthy { after } => {
                if container.state == (ContainerState::Running { health: Health::Starting }) {
                    self.later(id, after, move |world, id| world.set_health_of_start(id, start, Health::Healthy));
                }
            }
        }
    }

    /// Does something with a container after a while, if the engine still exists then.
    fn later(&self, id: &ContainerId, after: Duration, what: impl FnOnce(&World, &ContainerId) + Send + 'static) {
        let (world, id) = (Arc::downgrade(&self.world), id.clone());
        tokio::spawn(async move {
            sleep(after).await;
            if let Some(world) = world.upgrade() {
                what(&world, &id);
            }
        });
    }

    async fn tell_list(&self, events: &mpsc::Sender<EngineEvent>) -> Result<(), Heard> {
        let networks = self.networks().await.map_err(Heard::EngineDown)?.ours;
        events.send(EngineEvent::Networks(networks)).await.map_err(|_| Heard::ByNobody)?;
        match self.list().await {
            Ok(list) => events.send(EngineEvent::Listed(list)).await.map_err(|_| Heard::ByNobody),
            Err(error) => Err(Heard::EngineDown(error)),
        }
    }

    async fn tell_changes(&self, events: &mpsc::Sender<EngineEvent>, has_listed: &mut bool) -> Heard {
        let mut changes = self.world.changes();
        if let Err(heard) = self.tell_list(events).await {
            return heard;
        }
        *has_listed = true;
        loop {
            // Both may be cancelled: a broadcast loses nothing it has not handed out, and nobody listening stays so.
            let change = tokio::select! {
                change = changes.recv() => change,
                () = events.closed() => return Heard::ByNobody,
            };
            let told = match change {
                Ok(Some(id)) => match self.world.container(&id) {
                    Some(container) => EngineEvent::Changed(container),
                    None => EngineEvent::Gone(id),
                },
                Ok(None) | Err(RecvError::Lagged(_)) => match self.list().await {
                    Ok(list) => EngineEvent::Listed(list),
                    Err(error) => return Heard::EngineDown(error),
                },
                Err(RecvError::Closed) => return Heard::ByNobody,
            };
            if events.send(told).await.is_err() {
                return Heard::ByNobody;
            }
        }
    }
}

/// Why telling has ended.
enum Heard {
    /// Nobody listens.
    ByNobody,
    /// The engine is down.
    EngineDown(EngineError),
}

impl Engine for MemoryEngine {
    async fn describe(&self) -> Result<Description, EngineError> {
        self.world.check_up()?;
        Ok(Description {
            kind: EngineKind::Memory,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            arch: None,
            cgroup: CgroupVersion::V2,
            memory_limit: true,
            root_dir: None,
        })
    }

    async fn list(&self) -> Result<Vec<Container>, EngineError> {
        self.world.check_up()?;
        Ok(self.world.containers())
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Option<Container>, EngineError> {
        self.world.check_up()?;
        Ok(self.world.container(id))
    }

    async fn image(&self, image: &str) -> Result<Option<String>, EngineError> {
        self.world.check_up()?;
        Ok(self.world.has_image(image).then(|| world::digest(image)))
    }

    async fn pull(
        &self,
        image: &str,
        _platform: Option<Platform>,
        login: Option<&Login>,
        progress: watch::Sender<PullProgress>,
    ) -> Result<String, EngineError> {
        self.world.check_up()?;
        let behaviour = self.world.behaviour();
        let pulled = behaviour.of_image(image);
        for step in 0..PULL_STEPS {
            let done = pulled.bytes * u64::from(step) / u64::from(PULL_STEPS);
            progress.send_replace(PullProgress { done, total: pulled.bytes });
            sleep(behaviour.pull / PULL_STEPS).await;
            self.world.check_up()?;
        }
        let shown = login.map(|login| (login.username.as_str(), login.password.as_str()));
        if let Some((name, password)) = &pulled.login
            && shown != Some((name, password))
        {
            return Err(EngineError::PullFailed { image: image.to_owned(), reason: "authentication required".into() });
        }
        if let Some(reason) = pulled.pull_fails {
            return Err(EngineError::PullFailed { image: image.to_owned(), reason });
        }
        if behaviour.disk_full {
            return Err(world::no_space());
        }
        progress.send_replace(PullProgress { done: pulled.bytes, total: pulled.bytes });
        self.world.add_image(image);
        Ok(world::digest(image))
    }

    async fn remove_image(&self, image: &str, digest: &str) -> Result<(), EngineError> {
        self.world.check_up()?;
        if digest != world::digest(image) {
            return Err(EngineError::Refused { reason: format!("`{image}` is another one by now") });
        }
        self.world.remove_image(image)
    }

    async fn create_and_start(&self, new: &NewContainer) -> Result<ContainerId, EngineError> {
        let id = self.world.create(new)?;
        if let Err(error) = self.start(&id).await {
            self.world.remove(&id);
            return Err(error);
        }
        Ok(id)
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.world.check_up()?;
        sleep(self.world.behaviour().start).await;
        if let Some(start) = self.world.start(id)? {
            self.run_program(id, start);
        }
        Ok(())
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        self.world.check_up()?;
        let Some(container) = self.world.container(id).filter(|one| one.state.is_running()) else { return Ok(()) };
        let needed = self.world.behaviour().stop;
        sleep(needed.min(grace)).await;
        self.world.check_up()?;
        let code = if needed > grace { 137 } else { 143 };
        self.world.stop(&container.id, code);
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.world.check_up()?;
        self.world.remove(id);
        Ok(())
    }

    async fn networks(&self) -> Result<Networks, EngineError> {
        self.world.check_up()?;
        Ok(self.world.networks())
    }

    async fn create_network(&self, new: &NewNetwork) -> Result<Network, EngineError> {
        self.world.check_up()?;
        self.world.create_network(new)
    }

    async fn remove_network(&self, id: &NetworkId) -> Result<(), EngineError> {
        self.world.check_up()?;
        self.world.remove_network(id)
    }

    async fn watch(&self, events: mpsc::Sender<EngineEvent>) {
        let mut is_lost = false;
        loop {
            let mut has_listed = false;
            match self.tell_changes(&events, &mut has_listed).await {
                Heard::ByNobody => return,
                Heard::EngineDown(error) => {
                    let is_news = has_listed || !is_lost;
                    if is_news && events.send(EngineEvent::Lost(error.to_string())).await.is_err() {
                        return;
                    }
                    is_lost = true;
                }
            }
            tokio::select! {
                () = events.closed() => return,
                () = sleep(RETRY) => (),
            }
        }
    }

    async fn logs(
        &self,
        id: &ContainerId,
        request: &LogsRequest,
        chunks: mpsc::Sender<LogChunk>,
    ) -> Result<(), EngineError> {
        self.world.check_up()?;
        let mut changes = self.world.changes();
        let mut at = self.world.logs_start(id, request.tail)?;
        loop {
            let (new, is_running) = self.world.logs_from(id, at);
            at += new.len();
            for chunk in new {
                if chunks.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
            if !request.follow || !is_running {
                return Ok(());
            }
            // Both may be cancelled: what was written stays in the container's log.
            tokio::select! {
                () = chunks.closed() => return Ok(()),
                changed = changes.recv() => if matches!(changed, Err(RecvError::Closed)) { return Ok(()) },
            }
        }
    }
}

impl ContainerState {
    fn ended(code: i64, out_of_memory: bool) -> Self {
        Self::Exited { code, out_of_memory }
    }
}

//! The containers and images of an engine in memory, behind one lock that is never held while waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use outrigger_protocol::{HealthcheckTest, LogChunk, PlacementId, PortProtocol, PublishMode, PublishedPort};
use tokio::sync::broadcast;

use super::super::{Container, ContainerId, ContainerState, EngineError, FileBind, Health, NewContainer};
use super::Behaviour;
use super::networks::Bridges;

/// Changes that a slow listener may be behind before it gets the whole list instead.
const BACKLOG: usize = 16;
/// Chunks of output kept for each container.
const LOG_CHUNKS: usize = 1_000;
/// First port that the engine picks itself, as Linux does.
const FIRST_FREE_PORT: u16 = 32_768;

#[derive(Debug)]
pub(super) struct World {
    inside: Mutex<Inside>,
    /// Which container changed; none: look at all.
    changes: broadcast::Sender<Option<ContainerId>>,
}

#[derive(Debug)]
struct Inside {
    behaviour: Behaviour,
    down: Option<String>,
    containers: BTreeMap<ContainerId, Entry>,
    images: BTreeSet<String>,
    bridges: Bridges,
    /// Counts containers made, for their ids.
    made: u64,
    starts: u64,
    stops: u64,
}

#[derive(Debug)]
struct Entry {
    container: Container,
    wanted_ports: Vec<PublishedPort>,
    files: Vec<FileBind>,
    has_healthcheck: bool,
    start_fails: Option<String>,
    /// Which start of the engine's is the last one of this container: timers of earlier ones do nothing.
    start: u64,
    log: VecDeque<LogChunk>,
    /// Chunks that have fallen out of `log`.
    forgotten: usize,
}

impl World {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        let inside = Inside {
            behaviour,
            down: None,
            containers: BTreeMap::new(),
            images: BTreeSet::new(),
            bridges: Bridges::default(),
            made: 0,
            starts: 0,
            stops: 0,
        };
        Self { inside: Mutex::new(inside), changes: broadcast::channel(BACKLOG).0 }
    }

    pub(super) fn with_bridges<T>(&self, what: impl FnOnce(&mut Bridges, &[Container]) -> T) -> T {
        let inside = &mut *self.inside();
        let containers: Vec<Container> = inside.containers.values().map(|entry| entry.container.clone()).collect();
        what(&mut inside.bridges, &containers)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody listening is no error.
    fn tell(&self, change: Option<ContainerId>) {
        drop(self.changes.send(change));
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<Option<ContainerId>> {
        self.changes.subscribe()
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        self.inside().behaviour.clone()
    }

    pub(super) fn change_behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.inside().behaviour);
    }

    pub(super) fn set_down(&self, reason: Option<String>) {
        self.inside().down = reason;
        self.tell(None);
    }

    pub(super) fn check_up(&self) -> Result<(), EngineError> {
        match &self.inside().down {
            None => Ok(()),
            Some(reason) => Err(EngineError::Unreachable { reason: reason.clone() }),
        }
    }

    pub(super) fn containers(&self) -> Vec<Container> {
        self.inside().containers.values().map(|entry| entry.container.clone()).collect()
    }

    pub(super) fn container(&self, id: &ContainerId) -> Option<Container> {
        self.inside().containers.get(id).map(|entry| entry.container.clone())
    }

    pub(super) fn files(&self, placement: PlacementId) -> Vec<FileBind> {
        let inside = self.inside();
        let found = inside.containers.values().find(|entry| entry.container.placement == placement);
        found.map(|entry| entry.files.clone()).unwrap_or_default()
    }

    pub(super) fn starts_and_stops(&self) -> (u64, u64) {
        let inside = self.inside();
        (inside.starts, inside.stops)
    }

    pub(super) fn has_image(&self, image: &str) -> bool {
        self.inside().images.contains(image)
    }

    pub(super) fn add_image(&self, image: &str) {
        self.inside().images.insert(image.to_owned());
    }

    /// As Docker has it: not while there is a container of it.
    pub(super) fn remove_image(&self, image: &str) -> Result<(), EngineError> {
        let mut inside = self.inside();
        if inside.containers.values().any(|entry| entry.container.image == image) {
            return Err(EngineError::Refused { reason: format!("conflict: a container is using {image}") });
        }
        match inside.images.remove(image) {
            true => Ok(()),
            false => Err(EngineError::ImageNotFound { image: image.to_owned() }),
        }
    }

    /// The container of a placement, made now or left over.
    pub(super) fn create(&self, new: &NewContainer) -> Result<ContainerId, EngineError> {
        self.check_up()?;
        let mut inside = self.inside();
        if let Some(id) = inside.of_placement(new.placement) {
            return Ok(id);
        }
        if !inside.images.contains(&new.spec.image) {
            return Err(EngineError::ImageNotFound { image: new.spec.image.clone() });
        }
        if inside.behaviour.disk_full {
            return Err(no_space());
        }
        inside.bridges.check(&new.spec.networks)?;
        inside.made += 1;
        // Ids differ at the front, as Docker's do.
        let id = ContainerId(format!("{:012x}{:052x}", inside.made, new.placement.0).into());
        let entry = inside.entry(new, id.clone());
        inside.containers.insert(id.clone(), entry);
        Ok(id)
    }

    /// Starts a container and returns the number of that start; none where it runs already.
    pub(super) fn start(&self, id: &ContainerId) -> Result<Option<u64>, EngineError> {
        self.check_up()?;
        let start = self.inside().start(id)?;
        if start.is_some() {
            self.tell(Some(id.clone()));
        }
        Ok(start)
    }

    pub(super) fn stop(&self, id: &ContainerId, code: i64) {
        if self.inside().end(id, None, ContainerState::ended(code, false)) {
            self.inside().stops += 1;
            self.tell(Some(id.clone()));
        }
    }

    pub(super) fn remove(&self, id: &ContainerId) {
        let removed = self.inside().containers.remove(id);
        let Some(entry) = removed else { return };
        if entry.container.state.is_running() {
            self.inside().stops += 1;
        }
        self.tell(Some(id.clone()));
    }

    pub(super) fn end_placement(&self, placement: PlacementId, code: i64, out_of_memory: bool) -> bool {
        let Some(id) = self.inside().of_placement(placement) else { return false };
        let ended = self.inside().end(&id, None, ContainerState::ended(code, out_of_memory));
        if ended {
            self.tell(Some(id));
        }
        ended
    }

    /// The program of one start ends; a container that was started again since goes on.
    pub(super) fn end_start(&self, id: &ContainerId, start: u64, code: i64, out_of_memory: bool) {
        if self.inside().end(id, Some(start), ContainerState::ended(code, out_of_memory)) {
            self.tell(Some(id.clone()));
        }
    }

    pub(super) fn end_all(&self) {
        let mut inside = self.inside();
        let ids: Vec<ContainerId> = inside.containers.keys().cloned().collect();
        for id in ids {
            inside.end(&id, None, ContainerState::ended(255, false));
        }
    }

    pub(super) fn set_health(&self, placement: PlacementId, health: Health) -> bool {
        let Some(id) = self.inside().of_placement(placement) else { return false };
        let changed = self.inside().set_health(&id, None, health);
        if changed {
            self.tell(Some(id));
        }
        changed
    }

    pub(super) fn set_health_of_start(&self, id: &ContainerId, start: u64, health: Health) {
        if self.inside().set_health(id, Some(start), health) {
            self.tell(Some(id.clone()));
        }
    }

    pub(super) fn write(&self, placement: PlacementId, chunk: LogChunk) {
        let mut inside = self.inside();
        let Some(id) = inside.of_placement(placement) else { return };
        let Some(entry) = inside.containers.get_mut(&id) else { return };
        if entry.log.len() >= LOG_CHUNKS {
            entry.log.pop_front();
            entry.forgotten += 1;
        }
        entry.log.push_back(chunk);
        drop(inside);
        self.tell(Some(id));
    }

    /// Where the output asked for begins, counted from the container's first chunk.
    pub(super) fn logs_start(&self, id: &ContainerId, tail: Option<u32>) -> Result<usize, EngineError> {
        let inside = self.inside();
        let entry = inside.containers.get(id).ok_or_else(|| no_container(id))?;
        let kept = tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(usize::MAX).min(entry.log.len());
        Ok(entry.forgotten + entry.log.len() - kept)
    }

    /// Chunks from there on, and whether more may come.
    pub(super) fn logs_from(&self, id: &ContainerId, at: usize) -> (Vec<LogChunk>, bool) {
        let inside = self.inside();
        let Some(entry) = inside.containers.get(id) else { return (Vec::new(), false) };
        let skip = at.saturating_sub(entry.forgotten);
        (entry.log.iter().skip(skip).cloned().collect(), entry.container.state.is_running())
    }
}

impl Inside {
    fn of_placement(&self, placement: PlacementId) -> Option<ContainerId> {
        let found = self.containers.values().find(|entry| entry.container.placement == placement);
        found.map(|entry| entry.container.id.clone())
    }

    fn entry(&self, new: &NewContainer, id: ContainerId) -> Entry {
        let check = new.spec.healthcheck.as_ref();
        Entry {
            container: Container {
                id,
                placement: new.placement,
                fleet: Some(new.fleet),
                replica: new.replica.clone(),
                loss: new.loss,
                state: ContainerState::Created,
                since_unix: None,
                image: new.spec.image.clone(),
                digest: digest(&new.spec.image),
                ports: Vec::new(),
                pid: None,
                joined: self.bridges.join(&new.spec.networks, self.made),
            },
            // Those of the other mode are the proxy's.
            wanted_ports: new.spec.ports.iter().filter(|port| port.mode == PublishMode::Host).cloned().collect(),
            files: new.files.clone(),
            has_healthcheck: check.is_some_and(|check| check.test != HealthcheckTest::Disabled),
            start_fails: self.behaviour.of_image(&new.spec.image).start_fails,
            start: 0,
            log: VecDeque::new(),
            forgotten: 0,
        }
    }

    fn start(&mut self, id: &ContainerId) -> Result<Option<u64>, EngineError> {
        let entry = self.containers.get(id).ok_or_else(|| no_container(id))?;
        if entry.container.state.is_running() {
            return Ok(None);
        }
        if let Some(reason) = &entry.start_fails {
            return Err(EngineError::Refused { reason: reason.clone() });
        }
        let ports = self.open(&entry.wanted_ports)?;
        self.starts += 1;
        let start = self.starts;
        let entry = self.containers.get_mut(id).ok_or_else(|| no_container(id))?;
        let health = if entry.has_healthcheck { Health::Starting } else { Health::None };
        entry.container.state = ContainerState::Running { health };
        entry.container.ports = ports;
        entry.start = start;
        Ok(Some(start))
    }

    /// Ports as opened, or the one that is taken.
    fn open(&self, wanted: &[PublishedPort]) -> Result<Vec<(u16, u16, PortProtocol)>, EngineError> {
        let running = self.containers.values().filter(|entry| entry.container.state.is_running());
        let mut taken: BTreeSet<(u16, PortProtocol)> = running
            .flat_map(|entry| entry.container.ports.iter().map(|(_, host, protocol)| (*host, *protocol)))
            .collect();
        let mut opened = Vec::new();
        for port in wanted {
            let free = |host: &u16| !taken.contains(&(*host, port.protocol));
            let host = match port.host {
                Some(host) => Some(host).filter(free),
                None => (FIRST_FREE_PORT..=u16::MAX).find(free),
            };
            let Some(host) = host else {
                let reason = format!("Bind for 0.0.0.0:{} failed: port is already allocated", port.host.unwrap_or(0));
                return Err(EngineError::PortTaken { reason });
            };
            taken.insert((host, port.protocol));
            opened.push((port.container, host, port.protocol));
        }
        Ok(opened)
    }

    /// Whether it ran (and, where given, in that start).
    fn end(&mut self, id: &ContainerId, start: Option<u64>, state: ContainerState) -> bool {
        let Some(entry) = self.containers.get_mut(id) else { return false };
        if !entry.container.state.is_running() || start.is_some_and(|start| start != entry.start) {
            return false;
        }
        entry.container.state = state;
        entry.container.ports.clear();
        true
    }

    fn set_health(&mut self, id: &ContainerId, start: Option<u64>, health: Health) -> bool {
        let Some(entry) = self.containers.get_mut(id) else { return false };
        let is_of_start = start.is_none_or(|start| start == entry.start);
        let state = ContainerState::Running { health };
        if !entry.has_healthcheck || !is_of_start || !entry.container.state.is_running() {
            return false;
        }
        std::mem::replace(&mut entry.container.state, state) != state
    }
}

/// Each image has a digest of its own, and always the same.
pub(super) fn digest(image: &str) -> String {
    // FNV-1a, 64 bit: no security rests on it.
    let hash = image
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("sha256:{hash:064x}")
}

pub(super) fn no_space() -> EngineError {
    EngineError::NoSpace { reason: "write: no space left on device".to_owned() }
}

fn no_container(id: &ContainerId) -> EngineError {
    EngineError::NoSuchContainer { id: id.short().to_owned() }
}

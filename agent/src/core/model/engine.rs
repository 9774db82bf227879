//! A model of a container engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{FleetId, LossPolicy, Moment, NetworkName, NetworkSpec};

use super::{one, spec};
use crate::core::action::{Outcome, Success};
use crate::engine::{
    Container, ContainerId, ContainerState, EngineError, EngineEvent, Health, Joined, Network, NetworkId, NewContainer,
};
use crate::pool::Pool;

/// The engine.
#[derive(Default)]
pub struct ModelEngine {
    pub containers: BTreeMap<ContainerId, (Container, u64)>,
    pub images: BTreeSet<String>,
    pub refused: BTreeMap<String, String>,
    pub is_silent: bool,
    pub loses_events: bool,
    pub pull_time: Duration,
    pub start_time: Duration,
    /// Time that a program takes to end when asked.
    pub end_time: Duration,
    /// Time after which each program ends by itself, with code 1.
    pub lives_for: Option<Duration>,
    pub starts: u64,
    pub stops: u64,
    pub pulls: Vec<String>,
    pub graces: Vec<Duration>,
    pub most_at_once: usize,
    pub most_starts: usize,
    pub most_pulls: usize,
    pub ended: BTreeMap<u64, Moment>,
    pub fails: Option<EngineError>,
    /// The next create takes effect so long after its answer.
    pub late: Option<Duration>,
    pub events: Vec<EngineEvent>,
    pub made: u64,
    pub now: Moment,
    pub networks: BTreeMap<NetworkName, Network>,
    /// Why the next network cannot be made.
    pub network_fails: Option<EngineError>,
    /// Every network made or removed, in order.
    pub network_history: Vec<String>,
    /// Copies whose secrets and configs are there.
    pub laid: BTreeSet<u64>,
    /// Why they cannot be had.
    pub no_files: Option<EngineError>,
}

impl ModelEngine {
    pub fn made(&self) -> u64 {
        self.made
    }

    pub fn refuse_pull(&mut self, image: &str, why: &str) {
        self.refused.insert(image.into(), why.into());
    }

    pub fn fail_next_start(&mut self, error: EngineError) {
        self.fails = Some(error);
    }

    pub fn add_running(&mut self, placement: u64, loss: LossPolicy) {
        let ((placement, replica), spec, _) = one(placement, spec());
        let device = "pi".parse().unwrap();
        let id = self.make(&NewContainer {
            device,
            placement,
            fleet: FleetId(0),
            replica,
            loss: loss.into(),
            spec: Arc::new(spec),
            name_servers: vec![],
            files: vec![],
        });
        self.start(&id);
        self.starts = 0;
        self.events.clear();
    }

    pub fn end(&mut self, placement: u64, code: i64) {
        self.end_with(placement, ContainerState::Exited { code, out_of_memory: false });
    }

    pub fn end_for_memory(&mut self, placement: u64) {
        self.end_with(placement, ContainerState::Exited { code: 137, out_of_memory: true });
    }

    pub fn set_health(&mut self, placement: u64, health: Health) {
        self.end_with(placement, ContainerState::Running { health });
    }

    pub fn ended_at(&self, placement: u64) -> Moment {
        *self.ended.get(&placement).unwrap()
    }

    pub fn running(&self) -> Vec<u64> {
        let running = self.containers.values().filter(|(one, _)| one.state.is_running());
        let mut ids: Vec<u64> = running.map(|(one, _)| one.placement.0).collect();
        ids.sort_unstable();
        ids
    }

    fn end_with(&mut self, placement: u64, state: ContainerState) {
        let found = self.containers.values().find(|(one, _)| one.placement.0 == placement).unwrap();
        let id = found.0.id.clone();
        self.change(&id, state);
    }

    pub fn change(&mut self, id: &ContainerId, state: ContainerState) {
        let Some((container, _)) = self.containers.get_mut(id) else { return };
        if container.state.is_running() && !state.is_running() {
            self.ended.insert(container.placement.0, self.now);
        }
        container.state = state;
        let event = EngineEvent::Changed(container.clone());
        self.tell(event);
    }

    fn tell(&mut self, event: EngineEvent) {
        if !self.is_silent && !self.loses_events {
            self.events.push(event);
        }
    }

    pub fn make(&mut self, new: &NewContainer) -> ContainerId {
        if let Some((old, _)) = self.containers.values().find(|(one, _)| one.placement == new.placement) {
            return old.id.clone();
        }
        self.made += 1;
        let id = ContainerId(format!("{:064x}", self.made).into());
        let ports = new.spec.ports.iter().map(|port| (port.container, port.host.unwrap_or(40_000), port.protocol));
        let container = Container {
            id: id.clone(),
            placement: new.placement,
            fleet: Some(new.fleet),
            replica: new.replica.clone(),
            loss: new.loss,
            state: ContainerState::Created,
            since_unix: None,
            image: new.spec.image.clone(),
            digest: "sha256:1".into(),
            ports: ports.collect(),
            pid: Some(4711),
            joined: self.join(new),
        };
        self.containers.insert(id.clone(), (container, 0));
        id
    }

    fn join(&self, new: &NewContainer) -> Vec<Joined> {
        let address = |network: &Network| std::net::Ipv4Addr::from(u32::from(network.v4.base) + 1 + self.made as u32);
        let networks = new.spec.networks.iter().map(|one| self.networks.get(&one.network).expect("it was made before"));
        networks
            .map(|one| Joined { network: Some(one.spec.name.clone()), addresses: vec![address(one).into()] })
            .collect()
    }

    pub fn make_network(&mut self, spec: &NetworkSpec) -> Outcome {
        if let Some(error) = self.network_fails.take() {
            return Err(error);
        }
        let v4 = Pool::default().pick(spec.name.as_str(), &[]).expect("the pool is not full");
        let id = NetworkId(spec.name.as_str().into());
        let network =
            Network { id, spec: spec.clone(), fleet: None, bridge: format!("br-{}", spec.name), v4, v6: None };
        self.networks.insert(spec.name.clone(), network.clone());
        self.network_history.push(format!("+{}", spec.name));
        Ok(Success::Made(Box::new(network)))
    }

    pub fn remove_network(&mut self, name: &NetworkName) -> Outcome {
        self.networks.remove(name);
        self.network_history.push(format!("-{name}"));
        Ok(Success::Done)
    }

    pub fn start(&mut self, id: &ContainerId) {
        self.starts += 1;
        self.change(id, ContainerState::Running { health: Health::None });
        if let Some((_, start)) = self.containers.get_mut(id) {
            *start = self.starts;
        }
        self.most_at_once = self.most_at_once.max(self.running().len());
    }

    pub fn remove(&mut self, id: &ContainerId) {
        self.change(id, ContainerState::Dead);
        self.containers.remove(id);
        self.tell(EngineEvent::Gone(id.clone()));
    }
}

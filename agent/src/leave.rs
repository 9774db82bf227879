//! `outrigger-agent leave`: the device leaves its fleet, and is free for another. Its replicas end, and what the agent kept of
//! them is forgotten. Volumes and images stay. The only way out of a fleet: no message of any hub can do it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use outrigger_protocol::{FleetId, PlacementId};
use thiserror::Error;

use crate::core::Held;
use crate::engine::{Container, Engine, EngineError};
use crate::state::{StateDir, StateError};

/// Time to end for a container whose specification is not known. Docker's own.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// Containers stopped at a time.
const AT_ONCE: usize = 8;

/// What leaving means on this device.
#[derive(Debug)]
pub struct Leaving {
    /// The fleet; none where nothing says which it was.
    pub fleet: Option<FleetId>,
    /// Its containers here.
    pub containers: Vec<Container>,
    graces: BTreeMap<PlacementId, Duration>,
    has_state: bool,
}

/// The device has not left.
#[derive(Debug, Error)]
pub enum LeaveError {
    /// The engine cannot say what runs.
    #[error("the containers cannot be listed, so nothing has been changed")]
    List(#[source] EngineError),
    /// A container could not be ended. The device still belongs to its fleet.
    #[error("{replica} could not be stopped and removed; the device still belongs to its fleet")]
    Stop {
        /// Which replica.
        replica: String,
        /// The engine's words.
        source: EngineError,
    },
    /// What is kept cannot be removed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Leaving {
    /// Looks at what there is to leave. Changes nothing.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn look<E: Engine>(state: &StateDir, engine: &E) -> Result<Self, LeaveError> {
        let containers = engine.list().await.map_err(LeaveError::List)?;
        let mut graces = BTreeMap::new();
        let held = match state.held() {
            Held::Nothing | Held::Unreadable => None,
            Held::Assignment(assignment) => Some(assignment),
        };
        for one in held.iter().flat_map(|held| &held.replicas) {
            let spec = held.as_ref().and_then(|held| held.spec_of(one));
            graces.extend(spec.map(|spec| (one.placement, spec.stop_grace)));
        }
        let of_containers = || containers.iter().find_map(|container| container.fleet);
        let fleet = held.as_ref().map(|held| held.fleet).or_else(of_containers);
        Ok(Self { fleet, containers, graces, has_state: held.is_some() })
    }

    /// Whether there is nothing to leave.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.containers.is_empty() && !self.has_state
    }

    /// Ends and removes the containers, then forgets the fleet. Can be tried again where it fails.
    ///
    /// # Errors
    /// If a container does not end, or the disk refuses. The device belongs to its fleet until all is done.
    pub async fn leave<E: Engine>(&self, state: &StateDir, engine: &E) -> Result<(), LeaveError> {
        let ends = self.containers.iter().map(|container| self.end(container, engine));
        let ended: Vec<_> = futures_util::stream::iter(ends).buffer_unordered(AT_ONCE).collect().await;
        ended.into_iter().collect::<Result<(), _>>()?;
        Ok(state.forget()?)
    }

    async fn end<E: Engine>(&self, container: &Container, engine: &E) -> Result<(), LeaveError> {
        let failed = |source| LeaveError::Stop { replica: container.replica.to_string(), source };
        let grace = self.graces.get(&container.placement).copied().unwrap_or(DEFAULT_GRACE);
        engine.stop(&container.id, grace).await.map_err(failed)?;
        engine.remove(&container.id).await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use outrigger_protocol::{Assignment, ContainerSpec};

    use super::*;
    use crate::engine::memory::{Behaviour, MemoryEngine};
    use crate::engine::{LossLabel, NewContainer};

    const FLEET: FleetId = FleetId(0xf1ee7);

    async fn device() -> (tempfile::TempDir, StateDir, MemoryEngine) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        state.saver().save(&Assignment { fleet: FLEET, ..Assignment::default() }).unwrap();
        let engine = MemoryEngine::new(Behaviour::default());
        engine.add_image("web:1");
        let new = NewContainer {
            device: "pi".parse().unwrap(),
            placement: PlacementId(1),
            fleet: FLEET,
            replica: "shop/web.1".parse().unwrap(),
            loss: LossLabel::Available,
            spec: Arc::new(ContainerSpec { image: "web:1".into(), ..ContainerSpec::default() }),
            name_servers: vec![],
            files: vec![],
        };
        engine.create_and_start(&new).await.unwrap();
        (folder, state, engine)
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_leaves_runs_nothing_of_its_fleet_and_knows_none() {
        let (_folder, state, engine) = device().await;
        let leaving = Leaving::look(&state, &engine).await.unwrap();
        assert_eq!((leaving.fleet, leaving.containers.len()), (Some(FLEET), 1));
        leaving.leave(&state, &engine).await.unwrap();
        assert!(engine.containers().is_empty());
        assert_eq!(state.held(), Held::Nothing);
        assert!(Leaving::look(&state, &engine).await.unwrap().is_nothing());
    }

    #[tokio::test(start_paused = true)]
    async fn the_fleet_is_known_by_its_containers_where_the_assignment_is_lost() {
        let (_folder, state, engine) = device().await;
        state.forget().unwrap();
        let leaving = Leaving::look(&state, &engine).await.unwrap();
        assert_eq!(leaving.fleet, Some(FLEET));
        assert!(!leaving.is_nothing());
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_whose_engine_does_not_answer_stays_in_its_fleet() {
        let (_folder, state, engine) = device().await;
        let leaving = Leaving::look(&state, &engine).await.unwrap();
        engine.go_down("it crashed");
        assert!(matches!(Leaving::look(&state, &engine).await, Err(LeaveError::List(_))));
        assert!(matches!(leaving.leave(&state, &engine).await, Err(LeaveError::Stop { .. })));
        assert!(matches!(state.held(), Held::Assignment(_)));
    }
}

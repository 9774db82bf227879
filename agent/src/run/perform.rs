//! Carrying actions out on the engine, and the log of it.

use std::sync::Arc;

use outrigger_protocol::{ContainerSpec, FleetId, Item, Login, NetworkSpec, PlacementId, registry_of};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::{PROGRESS_EVERY, Told, with_causes};
use crate::core::{Action, ActionId, ImageKey, Input, Outcome, Remark, Success};
use crate::engine::{Engine, EngineError, Networks, NewContainer, NewNetwork, PullProgress};
use crate::files::{FilesDir, FilesError};
use crate::pool::{self, Pool};
use crate::probe::Root;
use crate::unseal::Unsealer;

/// Subnets that are tried where the engine refuses them, before it is told.
const SUBNET_TRIES: u32 = 16;

pub(super) fn tell(remark: &Remark) {
    match remark {
        Remark::Unreadable => {
            warn!("the assignment on the disk cannot be read; nothing is started or stopped before the hub speaks");
        }
        Remark::Adopted(stamp, replicas) => info!(%stamp, replicas, "assignment"),
        Remark::Older(stamp) => warn!(%stamp, "an older assignment is ignored"),
        Remark::OtherFleet(own, asking) => warn!(
            fleet = %own, %asking,
            "the hub of another fleet is not obeyed; what runs here goes on. If this device is to join that fleet, run \
             `outrigger-agent leave` here; if that hub has lost its store, run `outrigger-hub restore` there"
        ),
        Remark::Unsaved(stamp, reason) => warn!(%stamp, reason, "the assignment is not saved; nothing new is started"),
        Remark::Renewed(until) => info!(valid_until = until, "a new certificate"),
        Remark::NotRenewed(reason) => warn!(reason, "a new certificate is of no use; the present one stays"),
        Remark::Refused(replica, reason) => warn!(%replica, reason, "not allowed here"),
        Remark::OlderRoutes(epoch) => warn!(%epoch, "routes of an older hub are ignored"),
        Remark::NoFiles(replica, reason) => warn!(%replica, reason, "waits for its secrets and configs"),
        Remark::Skipped(placement) => warn!(%placement, "a replica without a specification is skipped"),
    }
}

/// One line for each decision that changes something, for the person at night.
pub(super) fn announce(action: &Action) {
    match action {
        Action::Pull(key) => info!(image = %key.image, "pulling"),
        Action::Create(new) => info!(replica = %new.replica, placement = %new.placement, "starting"),
        Action::Start(placement, id) => info!(%placement, container = id.short(), "restarting"),
        Action::Stop(placement, id, grace) => {
            info!(%placement, container = id.short(), grace_ms = grace.as_millis(), "stopping");
        }
        Action::Remove(placement, id) => info!(%placement, container = id.short(), "removing"),
        Action::List => info!("a call was not answered in time: looking at all containers"),
        Action::MakeNetwork(spec, _) => info!(network = %spec.name, "making a network"),
        Action::RemoveNetwork(name, _) => info!(network = %name, "removing a network that nothing uses"),
        Action::Clear(placement) => info!(%placement, "its secrets and configs are taken away"),
        Action::Check(_) | Action::Inspect(..) | Action::Lay(..) | Action::ListNetworks => (),
    }
}

/// What actions are carried out with.
pub(super) struct Hands<E> {
    pub engine: Arc<E>,
    pub networking: Networking,
    pub files: FilesDir,
    pub unsealer: Unsealer,
    pub results: mpsc::Sender<Told>,
}

impl<E> Clone for Hands<E> {
    fn clone(&self) -> Self {
        let (networking, files) = (self.networking.clone(), self.files.clone());
        let (engine, unsealer) = (Arc::clone(&self.engine), self.unsealer.clone());
        Self { engine, networking, files, unsealer, results: self.results.clone() }
    }
}

impl<E: Engine> Hands<E> {
    pub(super) async fn perform(&self, id: ActionId, action: &Action) -> Outcome {
        let engine = self.engine.as_ref();
        match action {
            Action::Check(key) => engine.image(&key.image).await.map(Success::Checked),
            Action::Pull(key) => self.pull(id, key).await,
            Action::Create(new) => {
                let files = self.files.binds(new.placement, &new.spec);
                engine.create_and_start(&NewContainer { files, ..new.clone() }).await.map(Success::Created)
            }
            Action::Start(_, container) => engine.start(container).await.map(|()| Success::Done),
            Action::Stop(_, container, grace) => engine.stop(container, *grace).await.map(|()| Success::Done),
            Action::Remove(_, container) => engine.remove(container).await.map(|()| Success::Done),
            Action::List => engine.list().await.map(Success::Listed),
            Action::Inspect(_, container) => engine.inspect(container).await.map(Success::Inspected),
            Action::MakeNetwork(spec, fleet) => make_network(engine, &self.networking, spec, *fleet).await,
            Action::RemoveNetwork(_, id) => engine.remove_network(id).await.map(|()| Success::Done),
            Action::ListNetworks => engine.networks().await.map(|all| Success::Networks(all.ours)),
            Action::Lay(placement, spec) => self.lay(*placement, spec).await.map(|()| Success::Done),
            Action::Clear(placement) => self.files.clear(*placement).map(|()| Success::Done).map_err(refused),
        }
    }

    /// Fetches all files of a copy. They are in memory, so writing them waits for no disk.
    async fn lay(&self, placement: PlacementId, spec: &ContainerSpec) -> Result<(), EngineError> {
        let mut filling = self.files.begin(placement).map_err(refused)?;
        for mount in &spec.files {
            let content = self.unsealer.fetch(&Item::File(mount.file.clone())).await.map_err(|error| {
                if error.will_pass() {
                    return EngineError::Unreachable { reason: error.to_string() };
                }
                EngineError::Refused { reason: format!("{}: {error}", mount.file) }
            })?;
            filling.add(mount, &content).map_err(refused)?;
        }
        filling.finish().map_err(refused)
    }

    /// Without a login first: most images need none, and the hub is not asked for what is not needed. A registry that says
    /// no is shown the login that the hub has for it, if any; its words without one are told otherwise.
    async fn pull(&self, id: ActionId, key: &ImageKey) -> Outcome {
        match self.pull_with(id, key, None).await {
            Err(error @ EngineError::PullFailed { .. }) => match self.unsealer.login(registry_of(&key.image)).await {
                Some(login) => self.pull_with(id, key, Some(&login)).await,
                None => Err(error),
            },
            outcome => outcome,
        }
    }

    async fn pull_with(&self, id: ActionId, key: &ImageKey, login: Option<&Login>) -> Outcome {
        let (progress, mut seen) = watch::channel(PullProgress::default());
        let mut pull = std::pin::pin!(self.engine.pull(&key.image, key.platform, login, progress));
        loop {
            // The sleep may be cancelled, it holds nothing; the pull is only polled on.
            tokio::select! {
                outcome = &mut pull => return outcome.map(Success::Pulled),
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    if seen.has_changed().unwrap_or(false) {
                        let progress = *seen.borrow_and_update();
                        let _ = self.results.try_send(Told::Core(Input::Pulling(id, progress)));
                    }
                }
            }
        }
    }
}

/// Where networks get their addresses.
#[derive(Debug, Clone)]
pub(super) struct Networking {
    pub(super) pool: Pool,
    /// The installation's number, from which the prefix of IPv6 is made.
    pub(super) machine: u128,
    pub(super) root: Root,
}

/// Makes a network with addresses that neither the engine nor the device has a use for at this moment. One that is there
/// already, because an earlier call was not answered, is as good.
async fn make_network<E: Engine>(engine: &E, from: &Networking, spec: &NetworkSpec, fleet: FleetId) -> Outcome {
    let Networks { ours, mut taken } = engine.networks().await?;
    if let Some(there) = ours.into_iter().find(|network| network.spec.name == spec.name) {
        return Ok(Success::Made(Box::new(there)));
    }
    taken.extend(pool::routes(&from.root.read("/proc/net/route").unwrap_or_default()));
    for _ in 0..SUBNET_TRIES {
        let picked = from.pool.pick(spec.name.as_str(), &taken);
        let v4 = picked.map_err(|error| EngineError::Refused { reason: error.to_string() })?;
        let v6 = spec.ipv6.then(|| pool::v6(from.machine, &v4));
        match engine.create_network(&NewNetwork { spec: spec.clone(), fleet, v4, v6 }).await {
            // Another agent on the same engine has been quicker, or the engine knows of something that we do not.
            Err(EngineError::AddressesTaken { .. }) => taken.push((v4.base.into(), v4.prefix)),
            made => return made.map(|network| Success::Made(Box::new(network))),
        }
    }
    Err(EngineError::Refused { reason: format!("the engine refused {SUBNET_TRIES} subnets of {}", from.pool) })
}

fn refused(error: FilesError) -> EngineError {
    EngineError::Refused { reason: with_causes(&error) }
}

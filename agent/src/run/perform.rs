//! Carrying actions out on the engine, and the log of it.

use outrigger_protocol::{FleetId, NetworkSpec};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::{PROGRESS_EVERY, Told};
use crate::core::{Action, ActionId, ImageKey, Input, Outcome, Remark, Success};
use crate::engine::{Engine, EngineError, Networks, NewNetwork, PullProgress};
use crate::pool::{self, Pool};
use crate::probe::Root;

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
        Action::Check(_) | Action::Inspect(..) | Action::ListNetworks => (),
    }
}

pub(super) async fn perform<E: Engine>(
    engine: &E,
    id: ActionId,
    action: &Action,
    networking: &Networking,
    results: &mpsc::Sender<Told>,
) -> Outcome {
    match action {
        Action::Check(key) => engine.image(&key.image).await.map(Success::Checked),
        Action::Pull(key) => pull(engine, id, key, results).await,
        Action::Create(new) => engine.create_and_start(new).await.map(Success::Created),
        Action::Start(_, container) => engine.start(container).await.map(|()| Success::Done),
        Action::Stop(_, container, grace) => engine.stop(container, *grace).await.map(|()| Success::Done),
        Action::Remove(_, container) => engine.remove(container).await.map(|()| Success::Done),
        Action::List => engine.list().await.map(Success::Listed),
        Action::Inspect(_, container) => engine.inspect(container).await.map(Success::Inspected),
        Action::MakeNetwork(spec, fleet) => make_network(engine, networking, spec, *fleet).await,
        Action::RemoveNetwork(_, id) => engine.remove_network(id).await.map(|()| Success::Done),
        Action::ListNetworks => engine.networks().await.map(|all| Success::Networks(all.ours)),
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

async fn pull<E: Engine>(engine: &E, id: ActionId, key: &ImageKey, results: &mpsc::Sender<Told>) -> Outcome {
    let (progress, mut seen) = watch::channel(PullProgress::default());
    let mut pull = std::pin::pin!(engine.pull(&key.image, key.platform, progress));
    loop {
        // The sleep may be cancelled, it holds nothing; the pull is only polled on.
        tokio::select! {
            outcome = &mut pull => return outcome.map(Success::Pulled),
            () = tokio::time::sleep(PROGRESS_EVERY) => {
                if seen.has_changed().unwrap_or(false) {
                    let progress = *seen.borrow_and_update();
                    let _ = results.try_send(Told::Core(Input::Pulling(id, progress)));
                }
            }
        }
    }
}

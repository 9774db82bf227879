//! `x-outrigger` of a service: the few things that Compose has no word for.

use std::time::Duration;

use outrigger_protocol::{Affinity, LossPolicy, Order, Retry, Traffic, VolumeMove};

use super::Fields;
use super::deploy::Deploy;

/// Lease of an exclusive replica where none is written: long enough for a hub's restart, short enough to wait for.
const LEASE: Duration = Duration::from_secs(30);
/// Below this a late message would stop a healthy replica.
const SHORTEST_LEASE: Duration = Duration::from_secs(5);
/// One heartbeat.
const SHORTEST_LOSS: Duration = Duration::from_secs(1);
/// What is longer is a slip.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What happens when a device is lost, and how requests are spread.
pub(crate) struct Policy {
    pub(crate) loss: LossPolicy,
    pub(crate) lost_after: Option<Duration>,
    pub(crate) volume_move: VolumeMove,
    pub(crate) traffic: Traffic,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Available,
    Exclusive,
    Wait,
}

pub(crate) fn read(service: &mut Fields<'_>, deploy: &Deploy) -> Policy {
    let traffic = Traffic::default();
    let mut policy = Policy { loss: LossPolicy::Available, lost_after: None, volume_move: VolumeMove::Stay, traffic };
    let Some(at) = service.take("x-outrigger") else { return policy };
    let Some(mut fields) = Fields::of(&at) else { return policy };
    const LOSSES: &[(&str, Loss)] =
        &[("available", Loss::Available), ("exclusive", Loss::Exclusive), ("wait", Loss::Wait)];
    const MOVES: &[(&str, VolumeMove)] = &[("stay", VolumeMove::Stay), ("allow", VolumeMove::Allow)];
    let loss_at = fields.take("on_device_loss");
    let loss = match &loss_at {
        Some(at) => at.choice(LOSSES),
        None => Some(Loss::Available),
    };
    let mut span = |key: &'static str, least: Duration| {
        let at = fields.take(key)?;
        let span = at.duration()?;
        if !(least..=LONGEST).contains(&span) {
            at.error(format!("must be between {least:?} and 7 days"));
        }
        Some((at, span))
    };
    let lease = span("lease", SHORTEST_LEASE);
    policy.lost_after = span("lost_after", SHORTEST_LOSS).map(|(_, span)| span);
    policy.volume_move = fields.take("volume_move").and_then(|at| at.choice(MOVES)).unwrap_or(VolumeMove::Stay);
    policy.traffic = traffic_of(&mut fields);
    fields.finish();
    policy.loss = match loss {
        None | Some(Loss::Available) => LossPolicy::Available,
        Some(Loss::Wait) => LossPolicy::Wait,
        Some(Loss::Exclusive) => LossPolicy::Exclusive { lease: lease.as_ref().map_or(LEASE, |(_, lease)| *lease) },
    };
    if let Some((at, _)) = lease.filter(|_| matches!(loss, Some(Loss::Available | Loss::Wait))) {
        at.error("a lease is for `on_device_loss: exclusive` only");
    }
    if let Some(at) = loss_at.filter(|_| loss == Some(Loss::Exclusive) && deploy.update.order == Order::StartFirst) {
        at.error("an exclusive service never runs twice, so `deploy.update_config.order` must be `stop-first`");
    }
    policy
}

fn traffic_of(fields: &mut Fields<'_>) -> Traffic {
    const AFFINITIES: &[(&str, Affinity)] = &[("none", Affinity::None), ("client", Affinity::ClientAddress)];
    const RETRIES: &[(&str, Retry)] = &[("connect", Retry::Connect), ("idempotent", Retry::IdempotentHttp)];
    Traffic {
        affinity: fields.take("affinity").and_then(|at| at.choice(AFFINITIES)).unwrap_or_default(),
        proxy_protocol: fields.take("proxy_protocol").and_then(|at| at.boolean()).unwrap_or(false),
        retry: fields.take("retry").and_then(|at| at.choice(RETRIES)).unwrap_or_default(),
    }
}

//! One entry of `services:`.

use std::time::Duration;

use outrigger_protocol::{ContainerSpec, ServiceName, ServiceSpec};

use super::networks::Link;
use super::world::World;
use super::{At, Fields};
use super::{
    depends, deploy, devices, environment, files, healthcheck, image, mounts, network, networks, policy, process,
    unsupported,
};

/// Docker's own default.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Reads one service; none if it can have no specification at all. Problems are reported in either case.
/// Its links are given too: they change other services.
pub(crate) fn read<'a>(at: &At<'a>, world: &World<'_>) -> Option<(ServiceSpec, Vec<Link<'a>>)> {
    let key = at.key()?;
    let name = key.parse::<ServiceName>();
    if let Err(error) = &name {
        at.report_key(crate::Severity::Error, error.to_string());
    }
    let mut fields = Fields::of(at)?;
    // They have been looked at already: the stack leaves services of other profiles out, `extends` is resolved. What is no
    // list of profiles is told here.
    if let Some(at) = fields.take("profiles") {
        at.items();
    }
    fields.take("extends");
    let mut container = ContainerSpec { stop_grace: STOP_GRACE, ..ContainerSpec::default() };
    image::read(&mut fields, &mut container);
    process::read(&mut fields, &mut container);
    environment::read(&mut fields, &mut container);
    network::read(&mut fields, world, &mut container);
    mounts::read(&mut fields, world, &mut container);
    files::read(&mut fields, world, &mut container);
    devices::read(&mut fields, &mut container);
    container.healthcheck = fields.take("healthcheck").and_then(|at| healthcheck::read(&at));
    let deploy = deploy::read(&mut fields, &mut container);
    let ours = policy::read(&mut fields, &deploy);
    let mut depends_on = fields.take("depends_on").map(|at| depends::read(&at, world)).unwrap_or_default();
    let links = fields.take("links").map(|at| networks::read_links(&at, world)).unwrap_or_default();
    // Who links to a service waits for it, in Compose too.
    depends_on.extend(links.iter().map(|link| link.to.clone()));
    depends_on.sort();
    depends_on.dedup();
    unsupported::read(&mut fields, &deploy);
    fields.finish();
    let spec = ServiceSpec {
        name: name.ok()?,
        container,
        mode: deploy.mode,
        reservation: deploy.reservation,
        constraints: deploy.constraints,
        spread: deploy.spread,
        max_per_device: deploy.max_per_device,
        platforms: None,
        loss: ours.loss,
        lost_after: ours.lost_after,
        volume_move: ours.volume_move,
        update: deploy.update,
        depends_on,
        labels: deploy.labels,
        traffic: ours.traffic,
    };
    Some((spec, links))
}

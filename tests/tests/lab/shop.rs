//! The stack that the tests of the lab deploy.

use anyhow::Result;
use outrigger_tests::real::fleet::Fleet;

/// `shop/web`: so many copies of the sample application on port 8080 of their devices (opened by the engines, so that each
/// port is one copy), one at most on each.
pub fn web(replicas: u32) -> String {
    format!(
        r#"
services:
  web:
    image: outrigger-web:1
    ports: [{{ target: 8080, published: 8080, mode: host }}]
    stop_grace_period: 1s
    healthcheck:
      test: ["CMD", "/web", "check", "http://127.0.0.1:8080/healthz"]
      interval: 1s
      timeout: 1s
      retries: 2
    deploy:
      replicas: {replicas}
      placement: {{ max_replicas_per_node: 1 }}
"#
    )
}

/// A fleet on which `shop/web` runs with so many copies.
pub fn fleet_with_web(devices: u8, replicas: u32) -> Result<Fleet> {
    let fleet = Fleet::up(devices, &["web"])?;
    fleet.deploy("shop", &web(replicas))?;
    fleet.eventually_settled("shop/web", usize::try_from(replicas)?)?;
    Ok(fleet)
}

/// What runs where, as the engines have it: one entry for each container, `(device number, replica, container id)`.
pub fn running(fleet: &Fleet) -> Result<Vec<(u8, String, String)>> {
    let mut all = vec![];
    for device in fleet.lab.devices() {
        all.extend(fleet.running_on(device)?.into_iter().map(|(replica, id)| (device.number(), replica, id)));
    }
    Ok(all)
}

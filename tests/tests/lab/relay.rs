//! Devices that cannot see each other but both see the hub: requests go on by way of the hub, and directly when they can.

use anyhow::{Context, Result, ensure};
use outrigger_api::Device as DeviceView;
use outrigger_tests::clock::eventually;
use outrigger_tests::real::fleet::{Fleet, PATIENCE};
use outrigger_tests::real::lab::Device;

use super::network::{answering, eventually_served, fleet_with_shop, port_8080, without_copy};

/// A router before a device: whatever the device begins gets out and is answered, no other device gets in to it. Connections
/// that stood before are forgotten.
const NAT: &str = "table inet lab_nat { chain in { type filter hook input priority -5; \
    iifname \"eth0\" tcp dport 7643 drop; iifname \"eth0\" ct state new drop; }; }";

/// The devices that this one reaches through the hub.
fn relayed(fleet: &Fleet, device: Device<'_>) -> Result<Vec<String>> {
    let view: DeviceView = serde_json::from_str(&fleet.ask(&format!("GET /v1/devices/{}", device.name()), "")?)?;
    Ok(view.network.with_context(|| format!("{} takes no part in the network", device.name()))?.relayed)
}

#[test]
fn devices_that_cannot_reach_each_other_meet_at_the_hub_until_they_can() -> Result<()> {
    let fleet = fleet_with_shop(3, 2)?;
    eventually_served(&fleet)?;
    let front = without_copy(&fleet, 2)?;
    let [apart, behind_nat] = [fleet.device_of("shop/web.1")?, fleet.device_of("shop/web.2")?];
    let address = port_8080(front)?;
    ensure!(relayed(&fleet, front)?.is_empty(), "directly at first");

    front.partition_from(apart)?;
    behind_nat.run(&["nft", NAT])?;
    let mut both = [apart.name(), behind_nat.name()].to_vec();
    both.sort();
    let (_, took) = eventually("both copies answer through the hub", PATIENCE, || {
        let (copies, relayed) = (answering(&address, 12)?, relayed(&fleet, front)?);
        ensure!(copies == ["shop/web.1", "shop/web.2"] && relayed == both, "{copies:?} {relayed:?}");
        Ok(())
    })?;
    eprintln!("both copies answered through the hub after {took:?}");
    answering(&address, 100)?;
    let why = fleet.outrigger(&["why", "shop/web"])?;
    let shown = fleet.outrigger(&["device", "show", &front.name()])?;
    for other in &both {
        ensure!(why.contains(&format!("{} reaches {other} through the hub, not directly", front.name())), "{why}");
        ensure!(shown.contains("through the hub to") && shown.contains(other), "{shown}");
    }

    front.heal()?;
    behind_nat.run(&["nft", "delete table inet lab_nat"])?;
    // Also the one from which the shop's client asks.
    let (_, took) = eventually("all are reached directly again, and no request fails on the way", PATIENCE, || {
        answering(&address, 1)?;
        let why = fleet.outrigger(&["why", "shop/web"])?;
        ensure!(!why.contains("through the hub") && relayed(&fleet, front)?.is_empty(), "{why}");
        Ok(())
    })?;
    eprintln!("all were reached directly again after {took:?}");
    answering(&address, 20)?;
    Ok(())
}

//! More than half the fleet silent at once is the hub's own fault until proven otherwise: nothing moves.

use std::collections::BTreeSet;

use outrigger_protocol::DeviceName;

use crate::fleet::Fleet;
use crate::plan::{Change, Liveness};
use crate::table::DeviceIx;

/// Why nothing moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Safe {
    pub why: String,
    pub silent: BTreeSet<DeviceIx>,
    pub of: u32,
}

/// Whether safe mode begins with what is about to be declared, or ends.
pub(crate) fn judge(fleet: &Fleet, turning: &[(DeviceIx, Liveness)]) -> Option<Change> {
    match &fleet.safe {
        Some(safe) => ended(fleet, safe),
        None => begun(fleet, turning),
    }
}

fn begun(fleet: &Fleet, turning: &[(DeviceIx, Liveness)]) -> Option<Change> {
    let device = |ix: DeviceIx| fleet.devices.get(ix).filter(|device| !device.is_absent_on_purpose());
    let lost = turning.iter().filter(|(_, liveness)| *liveness == Liveness::Lost);
    let first = lost.filter_map(|&(ix, _)| device(ix)).map(|device| device.heard_at).min()?;
    // Silent at once: those heard last at about the time when the first of these was. Older losses are old news.
    let from = first - fleet.policy.safe_window;
    let turning = turning.iter().filter(|(_, liveness)| *liveness != Liveness::Up).map(|&(ix, _)| ix);
    let turning: BTreeSet<DeviceIx> = turning.filter(|&ix| device(ix).is_some()).collect();
    let known = fleet.silent.range((from, DeviceIx(0))..).map(|&(_, ix)| ix);
    let silent: BTreeSet<DeviceIx> = known.chain(turning.iter().copied()).collect();
    let still_up = |ix: &&DeviceIx| device(**ix).is_some_and(|device| device.liveness == Liveness::Up);
    let turned = u32::try_from(turning.iter().filter(still_up).count()).unwrap_or(0);
    let count = u32::try_from(silent.len()).unwrap_or(u32::MAX);
    let of = fleet.up.saturating_sub(turned) + count;
    if of < fleet.policy.safe_from || count * 2 <= of {
        return None;
    }
    let why = format!(
        "{count} of {of} devices fell silent at once; that looks like a fault of the hub or its network, so nothing moves \
         until half are back or an operator confirms the loss"
    );
    Some(Change::SafeMode { begins: Some(why), silent: names(fleet, &silent), of })
}

fn ended(fleet: &Fleet, safe: &Safe) -> Option<Change> {
    let still = |ix: &&DeviceIx| {
        fleet.devices.get(**ix).is_some_and(|device| device.liveness != Liveness::Up && !device.is_absent_on_purpose())
    };
    let silent: BTreeSet<DeviceIx> = safe.silent.iter().filter(still).copied().collect();
    let count = u32::try_from(silent.len()).unwrap_or(u32::MAX);
    (count * 2 <= safe.of).then(|| Change::SafeMode { begins: None, silent: names(fleet, &silent), of: safe.of })
}

fn names(fleet: &Fleet, devices: &BTreeSet<DeviceIx>) -> Vec<DeviceName> {
    let mut names: Vec<_> = devices.iter().filter_map(|ix| fleet.devices.get(*ix)).map(|d| d.name.clone()).collect();
    names.sort();
    names
}

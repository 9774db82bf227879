//! More than half the fleet silent at once is the hub's own fault until proven otherwise: nothing moves.

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_protocol::{DeviceName, Moment};

use crate::device::Device;
use crate::fleet::Fleet;
use crate::liveness::Judgement;
use crate::plan::{Change, Liveness};
use crate::table::DeviceIx;

/// While nobody is heard, a loss is thought over so often.
const LISTEN: Duration = Duration::from_millis(250);
/// Heartbeats of a device that must fit into the suspect limit: one that was heard without saying how often it speaks is
/// taken to speak so often.
const BEATS: u32 = 3;

/// Why nothing moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Safe {
    pub why: String,
    pub silent: BTreeSet<DeviceIx>,
    pub of: u32,
}

impl Fleet {
    /// What a device is now, as far as the hub can tell. The heartbeats of devices do not fall together: when the line to
    /// the hub breaks, the one that was heard first is silent for too long while the others do not even count as suspect.
    /// So nobody is lost by silence while nobody at all is heard: within seconds somebody is, or all are silent.
    pub(crate) fn judge_device(&self, device: &Device, now: Moment) -> Judgement {
        let judgement = device.judge(&self.policy, now);
        let turns = judgement.liveness == Liveness::Lost && device.liveness != Liveness::Lost;
        match self.hears_nobody(now) {
            Some(again) if turns && !device.is_absent_on_purpose() => {
                let liveness = if device.liveness == Liveness::Up { Liveness::Suspect } else { device.liveness };
                Judgement { liveness, next: Some(again), ..judgement }
            }
            Some(_) | None => judgement,
        }
    }

    /// When to listen again, if even the device that was heard last should have been heard again by now. Below the size
    /// for safe mode that is nothing special.
    pub(crate) fn hears_nobody(&self, now: Moment) -> Option<Moment> {
        let (at, patience) = self.last_word?;
        (self.up + 1 >= self.policy.safe_from && now.since(at) > patience).then_some(now + LISTEN)
    }

    /// Something was heard of a device.
    pub(crate) fn note_word(&mut self, ix: DeviceIx, now: Moment) {
        let Some(device) = self.devices.get(ix) else { return };
        let beat = device.heartbeat.max(self.policy.suspect_after / BEATS);
        self.last_word = Some((now, beat + beat / 2));
    }
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

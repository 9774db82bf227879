//! More than half the fleet silent at once is the hub's own fault until proven otherwise: nothing moves.

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_protocol::{DeviceName, Moment};

use crate::device::Device;
use crate::fleet::Fleet;
use crate::note::span;
use crate::plan::{Change, Liveness};
use crate::policy::Policy;
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
    /// Since when half of the fleet is back.
    pub back_at: Option<Moment>,
}

impl Safe {
    /// When it ends, as far as can be said: devices behind one line do not return in the same moment, so what is still
    /// silent when half are back gets as long to be heard as makes a device suspect.
    pub(crate) fn ends_at(&self, policy: &Policy) -> Option<Moment> {
        self.back_at.map(|at| at + policy.suspect_after)
    }
}

impl Fleet {
    /// When to listen again, if even the device that was heard last should have been heard again by now: then the hub may
    /// be deaf, and no service's own limit counts, which may be shorter than the one that leads to safe mode. In a fleet
    /// too small for safe mode that is nothing special.
    pub(crate) fn hears_nobody(&self, now: Moment) -> Option<Moment> {
        let (at, patience) = self.last_word?;
        if now.since(at) <= patience {
            return None;
        }
        let enough = self.policy.safe_from;
        let silent = self.silent.range((now - self.policy.safe_window, DeviceIx(0))..).take(enough as usize).count();
        (self.up as usize + silent >= enough as usize).then_some(now + LISTEN)
    }

    /// Something was heard of a device.
    pub(crate) fn note_word(&mut self, ix: DeviceIx, now: Moment) {
        let patience = self.devices.get(ix).map(|device| self.patience(device));
        self.last_word = patience.map(|patience| (now, patience)).or(self.last_word);
    }

    /// Silence after which a device must have missed a heartbeat.
    fn patience(&self, device: &Device) -> Duration {
        let beat = device.heartbeat.max(self.policy.suspect_after / BEATS);
        beat + beat / 2
    }

    /// Devices that have missed a heartbeat and do not count as suspect yet.
    fn overdue(&self, now: Moment) -> impl Iterator<Item = (DeviceIx, &Device)> {
        let is_late = move |device: &Device| now.since(device.heard_at) > self.patience(device);
        self.devices.iter().filter(move |(_, device)| device.liveness == Liveness::Up && is_late(device))
    }
}

/// Whether safe mode begins with what is about to be declared, or ends.
pub(crate) fn judge(fleet: &Fleet, turning: &[(DeviceIx, Liveness)], now: Moment) -> Vec<Change> {
    match &fleet.safe {
        Some(safe) => ended(fleet, safe, now).into_iter().collect(),
        None => begun(fleet, turning, now).unwrap_or_default(),
    }
}

/// Heartbeats of devices do not fall together: when a line breaks, the device that was heard first is silent for too long
/// while others behind the same line do not even count as suspect. So who has missed a heartbeat by then counts as well,
/// and is suspect from then on; if it was mere chance, the next heartbeat ends it.
fn begun(fleet: &Fleet, turning: &[(DeviceIx, Liveness)], now: Moment) -> Option<Vec<Change>> {
    let device = |ix: DeviceIx| fleet.devices.get(ix).filter(|device| !device.is_absent_on_purpose());
    let lost = turning.iter().filter(|(_, liveness)| *liveness == Liveness::Lost);
    let first = lost.filter_map(|&(ix, _)| device(ix)).map(|device| device.heard_at).min()?;
    // Silent at once: those heard last at about the time when the first of these was. Older losses are old news.
    let from = first - fleet.policy.safe_window;
    let turning = turning.iter().filter(|(_, liveness)| *liveness != Liveness::Up).map(|&(ix, _)| ix);
    let mut turning: BTreeSet<DeviceIx> = turning.filter(|&ix| device(ix).is_some()).collect();
    let overdue: Vec<(DeviceIx, &Device)> = fleet.overdue(now).filter(|(ix, _)| !turning.contains(ix)).collect();
    turning.extend(overdue.iter().map(|(ix, _)| *ix));
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
    let begins = Change::SafeMode { begins: Some(why), silent: names(fleet, &silent), of };
    let suspect = overdue.into_iter().map(|(_, device)| {
        let why = format!("not heard for {}", span(now.since(device.heard_at)));
        Change::Liveness { device: device.name.clone(), now: Liveness::Suspect, why }
    });
    Some(std::iter::once(begins).chain(suspect).collect())
}

fn ended(fleet: &Fleet, safe: &Safe, now: Moment) -> Option<Change> {
    let still = |ix: &&DeviceIx| {
        fleet.devices.get(**ix).is_some_and(|device| device.liveness != Liveness::Up && !device.is_absent_on_purpose())
    };
    let silent: BTreeSet<DeviceIx> = safe.silent.iter().filter(still).copied().collect();
    let count = u32::try_from(silent.len()).unwrap_or(u32::MAX);
    let are_back = count * 2 <= safe.of;
    // All are back, or the operator has said which ones are off: nobody is waited for.
    let is_over = silent.is_empty() || safe.ends_at(&fleet.policy).is_some_and(|at| now >= at);
    match (are_back, safe.back_at) {
        (true, _) if is_over => Some(Change::SafeMode { begins: None, silent: names(fleet, &silent), of: safe.of }),
        (true, None) => Some(Change::HalfBack(true)),
        (false, Some(_)) => Some(Change::HalfBack(false)),
        (true, Some(_)) | (false, None) => None,
    }
}

fn names(fleet: &Fleet, devices: &BTreeSet<DeviceIx>) -> Vec<DeviceName> {
    let mut names: Vec<_> = devices.iter().filter_map(|ix| fleet.devices.get(*ix)).map(|d| d.name.clone()).collect();
    names.sort();
    names
}

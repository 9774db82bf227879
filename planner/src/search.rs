//! The best device for a copy, exactly, without looking at all of them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use outrigger_protocol::{ConstraintKey, Moment, Platform};

use crate::device::Device;
use crate::filter::{self, Refused};
use crate::index::{self, Entry, POINT, Shape};
use crate::need::Use;
use crate::score::Score;
use crate::scratch::Scratch;
use crate::service::{Content, Service};
use crate::table::DeviceIx;
use crate::volumes::Together;

/// Points for having the image already. Worth about two small copies: enough to decide between equals, not enough to
/// crowd one device.
pub(crate) const IMAGE: i32 = 50;
/// Devices that have the image are looked at one by one if they are so few. Tests have small fleets.
const FEW: usize = if cfg!(test) { 2 } else { 64 };

/// What is looked for.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    pub service: &'a Service,
    pub content: &'a Content,
    pub platforms: Option<&'a [Platform]>,
    /// Devices that have a copy of the replica already.
    pub barred: &'a [DeviceIx],
    /// The only device that will do.
    pub home: Option<DeviceIx>,
    /// Where it may be because of volumes that its service shares.
    pub together: Option<&'a Together<'a>>,
    /// Whether devices on which the service kept failing will do.
    pub avoid: Avoid,
    pub now: Moment,
}

/// What to do about devices on which the service kept failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Avoid {
    /// They will not do.
    Strictly,
    /// They will do if no other does.
    IfPossible,
}

/// How good a device is; the least is the best.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Worth {
    spread: Vec<u32>,
    copies: u32,
    lost: i64,
    rank: u64,
}

/// The best device for one copy.
pub(crate) fn best(scratch: &Scratch<'_>, query: &Query<'_>) -> Option<(DeviceIx, Score)> {
    let strict = Query { avoid: Avoid::Strictly, ..*query };
    let found = best_of(scratch, &strict);
    let found = match (found, query.avoid) {
        (None, Avoid::IfPossible) if !query.service.avoid.is_empty() => best_of(scratch, query),
        (found, _) => found,
    };
    found.map(|ix| (ix, score(scratch, query, ix)))
}

/// The best devices for so many copies, one after another; the copies are given to the scratch as they are found.
pub(crate) fn best_many(scratch: &mut Scratch<'_>, query: &Query<'_>, wanted: usize) -> Vec<(DeviceIx, Score)> {
    let needs_all = !query.content.spec.spread.is_empty() && least_spread(scratch, query.content).is_none();
    let worth_a_heap = wanted > 4 && (wanted * 16 > scratch.fleet.index.len || needs_all);
    if worth_a_heap && query.service.avoid.is_empty() && query.home.is_none() {
        return by_heap(scratch, query, wanted);
    }
    let mut found = Vec::with_capacity(wanted);
    while found.len() < wanted {
        let Some((ix, score)) = best(scratch, query) else { break };
        scratch.give(query.content, ix);
        found.push((ix, score));
    }
    found
}

/// A device's worth only falls while copies are given away, so one heap with late corrections gives the exact order.
fn by_heap(scratch: &mut Scratch<'_>, query: &Query<'_>, wanted: usize) -> Vec<(DeviceIx, Score)> {
    let mut heap: BinaryHeap<Reverse<(Worth, DeviceIx)>> = BinaryHeap::new();
    for shape in scratch.fleet.index.shapes.keys().filter(|shape| may_run(scratch, query, shape)) {
        let worths =
            scratch.entries(shape).filter_map(|entry| Some((worth(scratch, query, entry.device)?, entry.device)));
        heap.extend(worths.map(Reverse));
    }
    let mut found = Vec::with_capacity(wanted);
    while found.len() < wanted {
        let Some(Reverse((before, ix))) = heap.pop() else { break };
        let Some(now) = worth(scratch, query, ix) else { continue };
        if now != before {
            heap.push(Reverse((now, ix)));
            continue;
        }
        let score = score(scratch, query, ix);
        scratch.give(query.content, ix);
        found.push((ix, score));
        if let Some(next) = worth(scratch, query, ix) {
            heap.push(Reverse((next, ix)));
        }
    }
    found
}

fn best_of(scratch: &Scratch<'_>, query: &Query<'_>) -> Option<DeviceIx> {
    let of = |devices: &mut dyn Iterator<Item = DeviceIx>| {
        devices.filter_map(|ix| Some((worth(scratch, query, ix)?, ix))).min().map(|(_, ix)| ix)
    };
    if let Some(home) = query.home {
        return of(&mut std::iter::once(home));
    }
    if let Some(only) = query.together.and_then(Together::devices) {
        return of(&mut only.iter().copied());
    }
    if let Some(narrow) = narrow(scratch, query.content) {
        return of(&mut narrow.into_iter());
    }
    let holders = scratch.fleet.holders.get(&query.content.spec.container.image);
    let mut best: Option<(Worth, DeviceIx)> = None;
    let few = holders.is_none_or(|holders| holders.len() <= FEW);
    if few {
        let held = holders.into_iter().flatten().filter_map(|&ix| Some((worth(scratch, query, ix)?, ix)));
        best = held.min();
    }
    let walk = Walk {
        least_copies: least_copies(scratch, query),
        least_spread: least_spread(scratch, query.content),
        bonus: if few { 0 } else { i64::from(IMAGE) * POINT },
    };
    let shapes = scratch.fleet.index.shapes.keys().filter(|shape| may_run(scratch, query, shape));
    let (covered, open): (Vec<&Shape>, Vec<&Shape>) =
        shapes.partition(|shape| scratch.is_covered(query.service, shape));
    for shape in open {
        walk.shape(scratch, query, shape, &mut best);
    }
    // A device without a copy of the service beats any that has one, unless evenness over something else comes first.
    if best.as_ref().is_some_and(|(best, _)| best.spread.is_empty() && best.copies == 0) {
        return best.map(|(_, ix)| ix);
    }
    for shape in covered {
        walk.shape(scratch, query, shape, &mut best);
    }
    best.map(|(_, ix)| ix)
}

/// A walk through the orders of all shapes, which ends where nothing better can follow.
struct Walk {
    /// No device has fewer copies of the service than this.
    least_copies: u32,
    /// No device shares a value with fewer copies than this; none: that is not known.
    least_spread: Option<u32>,
    /// Most points that a device can have more than its place in the order says.
    bonus: i64,
}

impl Walk {
    fn shape(&self, scratch: &Scratch<'_>, query: &Query<'_>, shape: &Shape, best: &mut Option<(Worth, DeviceIx)>) {
        let cost = shape.worth(query.content.need.weight);
        for entry in scratch.entries(shape) {
            if best.as_ref().is_some_and(|(best, _)| self.is_over(best, entry, cost)) {
                return;
            }
            // Most of what is looked at has a copy already; that is quickly seen.
            let first = best.as_ref().is_some_and(|(best, _)| best.spread.is_empty() && best.copies == 0);
            if first && scratch.has(query.service, entry.device) {
                continue;
            }
            let Some(worth) = worth(scratch, query, entry.device) else { continue };
            if best.as_ref().is_none_or(|(least, _)| worth < *least) {
                *best = Some((worth, entry.device));
            }
        }
    }

    fn is_over(&self, best: &Worth, entry: &Entry, cost: i64) -> bool {
        // Entries are in the order of lost points and rank, so none that follows can be better either.
        let least = (entry.lost + cost - self.bonus, entry.rank);
        self.is_even(best) && best.copies <= self.least_copies && least > (best.lost, best.rank)
    }
}

impl Walk {
    /// Whether nothing can be more even than this.
    fn is_even(&self, best: &Worth) -> bool {
        match (best.spread.as_slice(), self.least_spread) {
            ([], _) => true,
            ([one], Some(least)) => *one <= least,
            (_, None | Some(_)) => false,
        }
    }
}

/// A lower bound for the copies that share a value with a device, where they are spread over one label.
fn least_spread(scratch: &Scratch<'_>, content: &Content) -> Option<u32> {
    let [ConstraintKey::NodeLabel(label)] = content.spec.spread.as_slice() else { return None };
    let labelled = scratch.fleet.labelled.range((label.clone(), String::new())..);
    let sets: Vec<usize> =
        labelled.take_while(|((key, _), _)| key == label).map(|(_, devices)| devices.len()).collect();
    let without = scratch.fleet.devices.len().saturating_sub(sets.iter().sum());
    let values = sets.len() + usize::from(without > 0);
    Some(scratch.least_shared(values))
}

/// A lower bound for the copies of the service that a device has.
fn least_copies(scratch: &Scratch<'_>, query: &Query<'_>) -> u32 {
    let shapes = scratch.fleet.index.shapes.iter().filter(|(shape, _)| may_run(scratch, query, shape));
    let pool: usize = shapes.map(|(_, order)| order.len()).sum();
    if scratch.covered(query.service) < pool {
        return 0;
    }
    let devices = query.service.on.keys().copied().chain(scratch.given());
    let open = |ix: &DeviceIx| scratch.fleet.devices.get(*ix).is_some_and(|device| device.indexed.is_some());
    let counts: Vec<u32> =
        devices.filter(open).collect::<BTreeSet<_>>().into_iter().map(|ix| scratch.copies(query.service, ix)).collect();
    if counts.len() < pool { 0 } else { counts.into_iter().min().unwrap_or(0) }
}

/// Whether any device of a shape can run the image.
fn may_run(scratch: &Scratch<'_>, query: &Query<'_>, shape: &Shape) -> bool {
    // Boards that run further architectures say so one by one; with such in the fleet every shape is looked at.
    let runs = |platform: &Platform| shape.arch.runs(platform.arch);
    scratch.fleet.index.also_runs > 0
        || match (&query.content.spec.container.platform, query.platforms) {
            (Some(platform), _) => runs(platform),
            (None, Some(platforms)) => platforms.iter().any(runs),
            (None, None) => true,
        }
}

/// The devices that a rule on names or labels leaves, if it leaves few.
fn narrow(scratch: &Scratch<'_>, content: &Content) -> Option<Vec<DeviceIx>> {
    let fleet = scratch.fleet;
    let mut least: Option<Vec<DeviceIx>> = None;
    for constraint in content.spec.constraints.iter().filter(|constraint| constraint.equal) {
        let value = constraint.value.to_ascii_lowercase();
        let found: Vec<DeviceIx> = match &constraint.key {
            ConstraintKey::Name => value.parse().ok().and_then(|name| fleet.devices.find(&name)).into_iter().collect(),
            ConstraintKey::NodeLabel(key) if !value.is_empty() => {
                let found = fleet.labelled.get(&(key.clone(), value));
                if found.is_some_and(|found| found.len() * 8 > fleet.index.len.max(FEW * 8)) {
                    continue;
                }
                found.into_iter().flatten().copied().collect()
            }
            _ => continue,
        };
        if least.as_ref().is_none_or(|least| found.len() < least.len()) {
            least = Some(found);
        }
    }
    least
}

/// How good a device is; none: it cannot take the copy.
pub(crate) fn worth(scratch: &Scratch<'_>, query: &Query<'_>, ix: DeviceIx) -> Option<Worth> {
    let device = scratch.fleet.devices.get(ix)?;
    let using = scratch.using(ix)?;
    refusal(scratch, query, ix, device, using).ok()?;
    let spread = if query.content.spec.spread.is_empty() { Vec::new() } else { scratch.spread(query.content, ix) };
    let (shape, entry) = index::entry(ix, device, using.weight)?;
    let image = if device.images.contains(&query.content.spec.container.image) { i64::from(IMAGE) * POINT } else { 0 };
    let lost = entry.lost + shape.worth(query.content.need.weight) - image;
    Some(Worth { spread, copies: scratch.copies(query.service, ix), lost, rank: device.rank })
}

/// Why a device cannot take a copy.
pub(crate) fn refusal<'a>(
    scratch: &Scratch<'a>,
    query: &Query<'a>,
    ix: DeviceIx,
    device: &'a Device,
    using: &Use,
) -> Result<(), Refused<'a>> {
    filter::open(device)?;
    if let Some(home) = query.home.filter(|home| *home != ix) {
        let home = scratch.fleet.devices.get(home).map_or("another device", |device| device.name.as_str());
        return Err(Refused::Home(home));
    }
    if query.barred.contains(&ix) {
        return Err(Refused::Taken);
    }
    filter::suits(device, query.content, query.platforms)?;
    if let Some(why) = query.service.refusal_of(ix, query.content) {
        return Err(Refused::Owner(why));
    }
    filter::fits(device, using, query.content, scratch.copies(query.service, ix))?;
    if let Some(together) = query.together {
        together.admits(scratch.fleet, query.content, (ix, device), using)?;
    }
    filter::carries(using, query.content)?;
    let failing = query.service.avoid.get(&ix).is_some_and(|until| *until > query.now);
    if failing && query.avoid == Avoid::Strictly { Err(Refused::Failing) } else { Ok(()) }
}

/// What speaks for a device, in the words of the user.
pub(crate) fn score(scratch: &Scratch<'_>, query: &Query<'_>, ix: DeviceIx) -> Score {
    let Some((device, using)) = scratch.fleet.devices.get(ix).zip(scratch.using(ix)) else { return Score::default() };
    let Some(facts) = &device.facts else { return Score::default() };
    let shape = Shape::of(facts);
    let free = index::free(facts, &shape, using.weight) - shape.worth(query.content.need.weight);
    let unsteady = if device.returned_at.is_some() { index::UNSTEADY } else { 0 };
    let has_image = device.images.contains(&query.content.spec.container.image);
    Score {
        spread: scratch.spread(query.content, ix),
        copies: scratch.copies(query.service, ix),
        free: i32::try_from(free.div_euclid(POINT)).unwrap_or(i32::MIN),
        load: device.smooth.lost(),
        trouble: device.smooth.trouble() + unsteady,
        image: if has_image { IMAGE } else { 0 },
    }
}

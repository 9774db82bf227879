//! A million replicas on five thousand devices: planned, saved, and published. The hub's own core, store and broker do all of
//! it, one after the other, as its control task has them do it; only the devices are not there to listen.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use outrigger_hub::broker::{Answers, Door, Inbox, Outgoing, start_embedded};
use outrigger_hub::core::{Effect, HubCore, Input, WishId};
use outrigger_hub::store::Store;
use outrigger_planner::{Policy, Wish};
use outrigger_protocol::{
    BootId, Bytes, ContainerSpec, Hello, LossPolicy, MilliCpu, Mode, Moment, Reservation, ServiceSpec, SessionNumber,
    StackSpec, Traffic, UpMessage, UpdateConfig, VolumeMove,
};
use outrigger_tests::clock::{eventually, monotonic};
use tokio::sync::mpsc;

use super::Table;
use super::crowd::name;
use super::device::facts;
use super::scenes::{mebibytes, seconds};

const NOW: Moment = Moment(1_000_000);
/// The same devices are not lost in between: no time passes for the core.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one pass through the hub took.
#[derive(Default)]
struct Spent {
    deciding: Duration,
    saving: Duration,
    records: usize,
    sends: Vec<Outgoing>,
}

/// Measures it.
pub fn measure(devices: usize, services: usize, replicas: u32, table: &mut Table) -> Result<()> {
    let folder = tempfile::tempdir_in(std::env::current_exe()?.parent().context("a folder")?)?;
    let mut store = Store::open(folder.path())?;
    let loaded = store.load()?;
    let (mut core, _) = HubCore::restore(loaded.records, Policy::default(), loaded.fleet, loaded.epoch, NOW);
    let mut spent = Spent::default();
    let hellos = (0..devices).map(|number| Ok(Input::Heard { device: name(number)?, message: hello(number) }));
    let hellos = [Ok(Input::LinkUp)].into_iter().chain(hellos).collect::<Result<Vec<_>>>()?;
    round(&mut core, &mut store, hellos, &mut spent)?;
    let wish = Wish::Apply { stack: stack(services, replicas), applied_unix_ms: None };
    let mut spent = Spent::default();
    let begin = monotonic();
    round(&mut core, &mut store, vec![Input::Wish { id: WishId(1), wish }], &mut spent)?;
    let messages = std::mem::take(&mut spent.sends);
    let assigned = messages.len();
    ensure!(assigned >= devices, "{assigned} assignments for {devices} devices");
    let publishing = publish(messages)?;
    let all = begin.elapsed();
    let total = services * replicas as usize;
    table.row(format!("{total} replicas on {devices} devices: decided"), seconds(spent.deciding), "");
    table.row(format!("… {} records saved, durable", spent.records), seconds(spent.saving), "");
    let bytes = std::fs::metadata(folder.path().join(outrigger_hub::store::FILE))?.len();
    table.row("… size of the store", mebibytes(bytes), "");
    table.row(format!("… {assigned} assignments encoded and handed to the broker"), seconds(publishing), "");
    table.row("… planned, saved and published", seconds(all), "≤ 30 s");
    let running = super::hub::taken(std::process::id())?;
    table.row("… RSS of hub's core, store and broker", mebibytes(running.rss), "");
    Ok(())
}

/// Feeds the core and does what it wants saved, until it wants nothing more.
fn round(core: &mut HubCore, store: &mut Store, mut inputs: Vec<Input>, spent: &mut Spent) -> Result<()> {
    while !inputs.is_empty() {
        let begin = monotonic();
        let effects = core.step_all(NOW, std::mem::take(&mut inputs));
        spent.deciding += begin.elapsed();
        for effect in effects {
            match effect {
                Effect::Save { batch, records } => {
                    let begin: Instant = monotonic();
                    let events: [std::sync::Arc<outrigger_api::Event>; 0] = [];
                    store.save(&records, &events)?;
                    spent.saving += begin.elapsed();
                    spent.records += records.len();
                    inputs.push(Input::Saved(batch));
                }
                Effect::Send { device, message } => spent.sends.push(Outgoing::Send { device, message }),
                Effect::Reply { result, .. } => result?,
                Effect::Clear { .. } | Effect::Quarantine { .. } | Effect::Remark(_) => (),
            }
        }
    }
    Ok(())
}

/// Hands all to a broker of the hub, and waits until it has taken them.
fn publish(messages: Vec<Outgoing>) -> Result<Duration> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (inbox, _happenings) = Inbox::new(Answers::default());
    let counters = inbox.counters().clone();
    let (outgoing, to_broker) = mpsc::channel(1024);
    let broker = runtime.block_on(start_embedded("127.0.0.1:0".parse()?, Door::Plain, inbox, to_broker))?;
    let begin = monotonic();
    let count = messages.len() as u64;
    runtime.block_on(async {
        for message in messages {
            outgoing.send(message).await.context("the broker has ended")?;
        }
        anyhow::Ok(())
    })?;
    eventually("the broker has taken everything", PATIENCE, || {
        let sent = counters.totals().sent;
        ensure!(sent >= count, "{sent} of {count}");
        Ok(())
    })?;
    let took = begin.elapsed();
    ensure!(counters.totals().too_large == 0, "some were too large");
    drop(broker);
    Ok(took)
}

fn hello(number: usize) -> UpMessage {
    UpMessage::Hello(Box::new(Hello {
        boot: BootId(number as u128),
        session: SessionNumber(1),
        machine: number as u128,
        fleet: None,
        held: None,
        unix_ms: 0,
        heartbeat_ms: 1000,
        facts: facts(),
    }))
}

fn stack(services: usize, replicas: u32) -> StackSpec {
    let service = |number: usize| ServiceSpec {
        name: format!("s{number:05}").parse().expect("it is a name"),
        container: ContainerSpec { image: format!("image-{number}"), ..ContainerSpec::default() },
        mode: Mode::Replicated(replicas),
        reservation: Reservation { cpu: MilliCpu(1), memory: Bytes(1 << 20), generic: vec![] },
        constraints: vec![],
        spread: vec![],
        max_per_device: None,
        platforms: None,
        loss: LossPolicy::Available,
        lost_after: None,
        volume_move: VolumeMove::Stay,
        update: UpdateConfig::default(),
        depends_on: vec![],
        labels: vec![],
        traffic: Traffic::default(),
    };
    StackSpec {
        name: "bench".parse().expect("it is a name"),
        services: (0..services).map(service).collect(),
        networks: vec![],
    }
}

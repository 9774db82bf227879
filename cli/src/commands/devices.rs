//! `devices` and `device …`: what each device is, how it is, and whether it gets work.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use outrigger_api::{
    Availability, Device, DeviceChange, DeviceList, DeviceNetwork, DeviceState, DevicesChange, Forgotten,
};

use super::{invites, newcomers, what_if, words};
use crate::args::{DeviceCommand, DeviceDrain, DeviceLabel, Format};
use crate::clock::Deadline;
use crate::output::Look;
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, amounts, row};

/// Between two looks at a device that is drained.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) fn list(client: &Client, out: &mut Output) -> Result<Exit, Failure> {
    out.answer(&client.devices()?, names, |list, look| look.table(&table(&list.devices)))?;
    tell_safe_mode(client, out);
    Ok(Exit::Ok)
}

/// People who look at the fleet should know when nothing moves in it. Programs ask for it themselves.
pub(super) fn tell_safe_mode(client: &Client, out: &mut Output) {
    if out.format() != Format::Table {
        return;
    }
    if let Ok(Some(reason)) = client.fleet().map(|fleet| fleet.safe_mode) {
        out.note(Tone::Warning, &format!("safe mode, nothing moves: {reason}"));
    }
}

pub(crate) fn run(client: &Client, command: &DeviceCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        DeviceCommand::Show(args) => {
            let device = client.device(&args.device)?;
            out.answer(&device, |device| vec![device.name.clone()], all_of)?;
        }
        DeviceCommand::Label(args) => label(client, args, out)?,
        DeviceCommand::Cordon(args) => set_availability(client, &args.devices, Availability::Cordon, out)?,
        DeviceCommand::Uncordon(args) => set_availability(client, &args.devices, Availability::Active, out)?,
        DeviceCommand::Drain(args) => drain(client, args, out)?,
        DeviceCommand::WhatIfLost(args) => what_if::tell(client, &args.device, out)?,
        DeviceCommand::Lost(args) => confirm_loss(client, &args.devices, out)?,
        DeviceCommand::Invite(args) => invites::invite(client, args, out)?,
        DeviceCommand::Approve(args) => newcomers::approve(client, args, out)?,
        DeviceCommand::Pending => newcomers::list(client, out)?,
        DeviceCommand::Rm(args) => forget(client, &args.devices, out)?,
    }
    Ok(Exit::Ok)
}

fn label(client: &Client, args: &DeviceLabel, out: &mut Output) -> Result<(), Failure> {
    let labels = args.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect();
    let device = client.change_device(&args.device, &DeviceChange { availability: None, labels })?;
    out.answer(
        &device,
        |device| vec![device.name.clone()],
        |device, look| {
            let labels = if device.labels.is_empty() { "no labels".into() } else { pairs(&device.labels) };
            vec![format!("{}: {}", look.paint.text(Tone::Strong, &device.name), look.paint.text(Tone::Plain, &labels))]
        },
    )
}

fn set_availability(client: &Client, names: &[String], to: Availability, out: &mut Output) -> Result<(), Failure> {
    // One wish, so that none of them is given what leaves another.
    let change = DevicesChange { devices: names.to_vec(), availability: Some(to), labels: BTreeMap::new() };
    for device in client.change_devices(&change)?.devices {
        out.answer(
            &device,
            |device| vec![device.name.clone()],
            |device, look| {
                let what = match device.availability {
                    Availability::Active => "gets work",
                    Availability::Cordon => "keeps what it has and gets nothing new",
                    Availability::Drain => "is emptied: its replicas move elsewhere",
                };
                vec![format!("{} {what}", look.paint.text(Tone::Strong, &device.name))]
            },
        )?;
    }
    Ok(())
}

fn drain(client: &Client, args: &DeviceDrain, out: &mut Output) -> Result<(), Failure> {
    set_availability(client, &args.devices, Availability::Drain, out)?;
    if !args.wait {
        return Ok(());
    }
    let deadline = Deadline::after(args.timeout);
    for name in &args.devices {
        let mut shown = None;
        loop {
            let left = match client.device(name) {
                Ok(device) => device.replicas,
                // A hub that restarts goes on with it.
                Err(Failure::Unreachable { .. } | Failure::Interrupted { .. }) if !deadline.is_over() => {
                    thread::sleep(PAUSE);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if left == 0 {
                break;
            }
            if deadline.is_over() {
                return Err(Failure::TimedOut {
                    message: format!("after {:?} {name} still has replicas: {left}", args.timeout),
                    hint: format!("`outrigger ps --device {name}` shows them, `outrigger why REPLICA` why they stay"),
                });
            }
            if shown != Some(left) {
                out.note(
                    Tone::Busy,
                    &format!("{name}: {left} {} left", if left == 1 { "replica" } else { "replicas" }),
                );
                shown = Some(left);
            }
            thread::sleep(PAUSE);
        }
        out.note(Tone::Good, &format!("{name}: nothing left"));
    }
    Ok(())
}

fn confirm_loss(client: &Client, names: &[String], out: &mut Output) -> Result<(), Failure> {
    let mut list = client.confirm_loss(names)?;
    list.devices.retain(|device| names.contains(&device.name));
    out.answer(&list, self::names, |list, look| look.table(&table(&list.devices)))
}

fn forget(client: &Client, names: &[String], out: &mut Output) -> Result<(), Failure> {
    for name in names {
        let forgotten = client.remove_device(name)?;
        out.answer(
            &forgotten,
            |forgotten: &Forgotten| vec![forgotten.device.clone()],
            |forgotten, look| {
                let name = look.paint.text(Tone::Strong, &forgotten.device);
                let moved = match forgotten.replicas.as_slice() {
                    [] => "it had no replicas".to_owned(),
                    replicas => format!("placed elsewhere: {}", replicas.join(", ")),
                };
                vec![format!("{name} is forgotten; {}", look.paint.text(Tone::Plain, &moved))]
            },
        )?;
    }
    Ok(())
}

fn names(list: &DeviceList) -> Vec<String> {
    list.devices.iter().map(|device| device.name.clone()).collect()
}

pub(super) fn table(devices: &[Device]) -> Table {
    let mut table =
        Table::new(["DEVICE", "STATE", "WORK", "ARCH", "CPU", "MEMORY", "DISK", "TEMP", "REPLICAS", "HEARD", "NOTE"]);
    for device in devices {
        let load = device.load.as_ref();
        table.push(row![
            &device.name,
            words::cell(words::device_state(device.state)),
            words::cell(words::availability(device.availability)),
            device.arch.as_deref().unwrap_or_default(),
            load.map_or_else(Default::default, |load| share_of(load.cpu_permille)),
            load.map_or_else(Default::default, |load| share_of(load.memory_permille)),
            load.map_or_else(Default::default, |load| share_of(load.disk_permille)),
            load.map_or_else(Default::default, temperature),
            words::share(device.running, device.replicas),
            device.heard_ms_ago.map(|ms| format!("{} ago", amounts::age_ms(ms))).unwrap_or_default(),
            note(device),
        ]);
    }
    table
}

/// A share of the whole, coloured when it is nearly all.
fn share_of(permille: u16) -> Cell {
    let tone = match permille {
        0..800 => Tone::Plain,
        800..950 => Tone::Warning,
        950.. => Tone::Bad,
    };
    Cell::toned(tone, amounts::percent(permille))
}

fn temperature(load: &outrigger_api::Load) -> Cell {
    let Some(celsius) = load.temperature_celsius else { return Cell::default() };
    let tone = if load.throttled { Tone::Bad } else { Tone::Plain };
    Cell::toned(tone, format!("{celsius:.0} °C"))
}

/// What someone should know: the state's reason, the engine's trouble, the first warning.
fn note(device: &Device) -> Cell {
    if let Some(why) = &device.quarantined {
        return Cell::toned(Tone::Bad, format!("in quarantine: {why}"));
    }
    if let Some(detail) = device.detail.as_ref().filter(|_| device.state != DeviceState::Online) {
        return Cell::from(detail);
    }
    if let Some(engine) = device.engine.as_ref().filter(|engine| !engine.up) {
        return Cell::toned(Tone::Bad, format!("engine down: {}", engine.detail.as_deref().unwrap_or("no answer")));
    }
    match device.load {
        Some(load) if load.undervoltage => return Cell::toned(Tone::Bad, "its power supply is too weak"),
        Some(load) if load.throttled => return Cell::toned(Tone::Bad, "slows itself down"),
        Some(_) | None => (),
    }
    match device.warnings.as_slice() {
        [] => device.network.as_ref().map(detours).unwrap_or_default(),
        [one] => Cell::toned(Tone::Warning, &one.message),
        [first, others @ ..] => Cell::toned(Tone::Warning, format!("{} (and {} more)", first.message, others.len())),
    }
}

/// What requests from a device have to get around, in few words; `device show` names the others.
fn detours(network: &DeviceNetwork) -> Cell {
    let several = |what: &[String]| match what {
        [] => None,
        [one] => Some(one.clone()),
        [first, others @ ..] => Some(format!("{first} and {} more", others.len())),
    };
    let relayed = several(&network.relayed).map(|others| format!("reaches {others} through the hub"));
    let ejected = several(&network.ejected).map(|copies| format!("gets no answer from {copies}"));
    let told: Vec<String> = ejected.into_iter().chain(relayed).collect();
    if told.is_empty() { Cell::default() } else { Cell::toned(Tone::Warning, told.join("; ")) }
}

fn pairs(pairs: &BTreeMap<String, String>) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// Everything about one device, a line each; what is not known is left out.
fn all_of(device: &Device, look: Look) -> Vec<String> {
    let mut lines: Vec<(&str, Tone, String)> = Vec::new();
    let (tone, state) = words::device_state(device.state);
    let worth_saying = device.detail.as_ref().filter(|_| device.state != DeviceState::Online);
    let detail = worth_saying.map(|detail| format!(" ({detail})")).unwrap_or_default();
    lines.push(("device", Tone::Strong, device.name.clone()));
    lines.push(("state", tone, format!("{state}{detail}")));
    let (tone, work) = words::availability(device.availability);
    lines.push(("work", tone, work.into()));
    lines.extend(what_it_is(device).into_iter().map(|(key, text)| (key, Tone::Plain, text)));
    lines.extend(how_it_is(device).into_iter().map(|(key, text)| (key, Tone::Plain, text)));
    for warning in &device.warnings {
        lines.push(("warning", Tone::Warning, format!("{}; {}", warning.message, warning.help)));
    }
    let width = lines.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
    let known = lines.into_iter().filter(|(_, _, text)| !text.is_empty());
    known
        .map(|(key, tone, text)| {
            let key = format!("{key:width$}");
            format!("{}  {}", look.paint.text(Tone::Dim, &key), look.paint.text(tone, &text))
        })
        .collect()
}

fn what_it_is(device: &Device) -> Vec<(&'static str, String)> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let engine = device.engine.as_ref().map(|engine| {
        let down = if engine.up { "" } else { ", does not work: " };
        format!("{} {}{down}{}", engine.kind, engine.version, engine.detail.as_deref().unwrap_or_default())
    });
    let generic: Vec<String> = device.generic.iter().map(|(kind, count)| format!("{kind}={count}")).collect();
    let attached: Vec<String> = device.attached.iter().map(|a| format!("{} ({})", a.path, a.kind)).collect();
    let network = device.network.as_ref().map(network).unwrap_or_default();
    vec![
        ("board", text(&device.board)),
        ("arch", text(&device.arch)),
        ("os", text(&device.os)),
        ("kernel", text(&device.kernel)),
        ("engine", engine.unwrap_or_default()),
        ("agent", text(&device.agent)),
        ("address", text(&device.address)),
        ("network", network),
        ("labels", pairs(&device.labels)),
        ("engine labels", pairs(&device.engine_labels)),
        ("resources", generic.join(", ")),
        ("attached", attached.join(", ")),
    ]
}

/// How the service network does there; what is wrong stands among the warnings.
fn network(network: &DeviceNetwork) -> String {
    let mut parts = vec![if network.in_step { "in step" } else { "has not taken its latest routes yet" }.to_owned()];
    if !network.relayed.is_empty() {
        parts.push(format!("through the hub to {}", network.relayed.join(", ")));
    }
    if !network.ejected.is_empty() {
        parts.push(format!("sends nothing to {}, which did not answer", network.ejected.join(", ")));
    }
    parts.join("; ")
}

fn how_it_is(device: &Device) -> Vec<(&'static str, String)> {
    let heard = device.heard_ms_ago.map(|ms| format!("{} ago", amounts::age_ms(ms))).unwrap_or_default();
    let limit = device.lost_after_ms.map(|ms| format!("after {} of silence", amounts::age_ms(ms))).unwrap_or_default();
    let reserved = &device.reserved;
    let mut lines = vec![
        ("heard", heard),
        ("lost", limit),
        (
            "cpu",
            format!("{} of {} cores reserved", amounts::cores(reserved.cpu_milli), amounts::cores(device.cpu_milli)),
        ),
        (
            "memory",
            format!("{} of {} reserved", amounts::bytes(reserved.memory_bytes), amounts::bytes(device.memory_bytes)),
        ),
        ("replicas", format!("{} assigned, {} running", device.replicas, device.running)),
        ("in step", if device.in_step { "yes" } else { "no: it has not taken its latest assignment yet" }.into()),
    ];
    if let Some(load) = &device.load {
        let percent = amounts::percent;
        let temperature = load.temperature_celsius.map(|celsius| format!(", {celsius:.1} °C")).unwrap_or_default();
        lines.push((
            "load",
            format!(
                "cpu {}, memory {}, swap {}, disk {}, load {:.2}, net {} kB/s in {} kB/s out{temperature}",
                percent(load.cpu_permille),
                percent(load.memory_permille),
                percent(load.swap_permille),
                percent(load.disk_permille),
                load.load1,
                load.rx_kbps,
                load.tx_kbps,
            ),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use outrigger_api::DeviceWarning;

    use super::*;
    use crate::commands::samples;

    #[test]
    fn what_keeps_a_device_out_or_in_the_way_is_told_in_the_list() {
        let why = "two machines with one identity".to_owned();
        let lost = Device { state: DeviceState::Lost, detail: Some("not heard".into()), ..samples::device("pi-1") };
        let cloned = Device { quarantined: Some(why), ..lost };
        assert_eq!(note(&cloned).text(), "in quarantine: two machines with one identity");
        let network = DeviceNetwork {
            in_step: true,
            taken: Vec::new(),
            relayed: vec!["pi-2".into(), "pi-3".into()],
            ejected: vec!["shop/web.1".into()],
            trouble: None,
        };
        let behind = Device { network: Some(network), ..samples::device("pi-4") };
        let told = "gets no answer from shop/web.1; reaches pi-2 and 1 more through the hub";
        assert_eq!(note(&behind).text(), told);
    }

    #[test]
    fn a_fleet_fits_in_a_table() {
        let lost = Device {
            state: DeviceState::Lost,
            detail: Some("not heard for 4 s".into()),
            heard_ms_ago: Some(75_000),
            load: None,
            running: 0,
            ..samples::device("pi-2")
        };
        let mut warned = samples::device("pi-3");
        warned.availability = Availability::Drain;
        warned.warnings =
            vec![DeviceWarning { message: "memory limits do not work".into(), help: "cgroup_enable=memory".into() }];
        let devices = [samples::device("pi-1"), lost, warned];
        let expected = "\
DEVICE   STATE    WORK     ARCH    CPU     MEMORY   DISK    TEMP    REPLICAS   HEARD      NOTE
pi-1     online   active   arm64   12.5%   40.0%    61.0%   48 °C   2/2        0.4s ago
pi-2     lost     active   arm64                                    0/2        1m ago     not heard for 4 s
pi-3     online   drain    arm64   12.5%   40.0%    61.0%   48 °C   2/2        0.4s ago   memory limits do not work";
        assert_eq!(Look::PLAIN.table(&table(&devices)).join("\n"), expected);
    }

    #[test]
    fn one_device_is_shown_whole() {
        let expected = "\
device         pi-1
state          online
work           active
board          Raspberry Pi 4 Model B Rev 1.4
arch           arm64
os             Debian GNU/Linux 12 (bookworm)
kernel         6.6.51
engine         docker 27.1.1
agent          0.1.0
address        10.0.0.4
labels         zone=attic
heard          0.4s ago
lost           after 4.0s of silence
cpu            0.5 of 4 cores reserved
memory         256.0 MiB of 4.0 GiB reserved
replicas       2 assigned, 2 running
in step        yes
load           cpu 12.5%, memory 40.0%, swap 0.0%, disk 61.0%, load 0.50, net 3 kB/s in 1 kB/s out, 48.2 °C";
        assert_eq!(all_of(&samples::device("pi-1"), Look::PLAIN).join("\n"), expected);
    }
}

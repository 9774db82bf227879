//! What is measured, in this order.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use outrigger_api::{ApplyRequest, ReplicaList};
use outrigger_tests::clock::{eventually, monotonic, rest};

use super::crowd::Crowd;
use super::hub::{Hub, taken};
use super::{Scale, Table, api, routes};

/// Longest that a whole fleet may take for anything.
const PATIENCE: Duration = Duration::from_secs(300);
/// Time in which the hub settles before it is measured at rest.
const SETTLE: Duration = Duration::from_secs(10);
/// How often the fleet is looked at while it changes. Each look takes the hub some microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Files that are no connections.
const SPARE_FILES: usize = 100;

/// Everything that runs.
pub struct Stage {
    /// The hub.
    pub hub: Hub,
    /// The devices.
    pub crowd: Crowd,
    /// How large it is.
    pub scale: Scale,
}

/// Hub and devices, and the parts that were asked for; none: all.
pub fn all(scale: &Scale, asked: &[String], table: &mut Table) -> Result<()> {
    let is_asked = |part: &str| asked.is_empty() || asked.iter().any(|one| one == part);
    if let Some(unknown) = asked.iter().find(|one| !PARTS.contains(&one.as_str())) {
        bail!("there is no part `{unknown}`; there are {}", PARTS.join(", "));
    }
    // A connection takes one file of each side; the hub has some more of its own.
    if let Some(limit) = open_files().filter(|limit| *limit < scale.devices + SPARE_FILES) {
        bail!("{} devices need more open files than the {limit} that are allowed (ulimit -n)", scale.devices);
    }
    let folder = tempfile::tempdir_in(std::env::current_exe()?.parent().unwrap_or(std::path::Path::new(".")))?;
    let identities = tempfile::tempdir_in("/dev/shm")?;
    let (mut hub, join) = Hub::prepare(folder.path(), identities.path(), scale.devices, scale.heartbeat)?;
    table.row("a device joins, store in memory", millis(join), "");
    let start = hub.start()?;
    rest(Duration::from_secs(2));
    let empty = hub.taken()?.rss;
    table.row("hub starts and answers, nobody connected", seconds(start), "");
    table.row("hub, RSS, nobody connected", mebibytes(empty), "≤ 20 MiB");
    let (begin, before) = (monotonic(), hub.taken()?);
    let crowd = Crowd::start(scale.devices, identities.path(), scale.heartbeat)?;
    let mut stage = Stage { hub, crowd, scale: *scale };
    let all = stage.online(begin)?;
    let cpu = stage.hub.taken()?.cpu - before.cpu;
    table.row("all connected for the first time and known to the hub", seconds(all), "");
    table.row("hub, processor time for each of them", millis(Duration::from_secs_f64(cpu / scale.devices as f64)), "");
    if is_asked("idle") {
        stage.idle(empty, table)?;
    }
    if is_asked("deploy") || is_asked("api") || is_asked("restart") {
        stage.deploy("bench", &plain(scale), scale.devices * scale.replicas, table)?;
    }
    if is_asked("api") {
        api::times(&stage, table)?;
    }
    if is_asked("restart") {
        stage.restart(table)?;
    }
    if is_asked("network") {
        stage.deploy("net", "services: { web: { image: 'web:1', deploy: { mode: global } } }", scale.devices, table)?;
    }
    if is_asked("routes") {
        routes::converge(&mut stage, table)?;
    }
    for line in stage.hub.complaints().iter().take(20) {
        eprintln!("  the hub said: {line}");
    }
    Ok(())
}

/// What can be asked for.
const PARTS: [&str; 6] = ["idle", "deploy", "api", "restart", "network", "routes"];

/// Services of a hundred replicas each that take no part in the service network.
fn plain(scale: &Scale) -> String {
    let all = scale.devices * scale.replicas;
    let mut text = "services:\n".to_owned();
    for number in 0..all.div_ceil(100) {
        let replicas = (all - number * 100).min(100);
        text += &format!(
            "  s{number}: {{ image: 'web:1', network_mode: none, environment: {{ LEVEL: info, PORT: '8080' }}, \
             deploy: {{ replicas: {replicas} }} }}\n"
        );
    }
    text
}

impl Stage {
    /// Waits until the hub knows all devices to be there; how long that took.
    fn online(&self, begin: Instant) -> Result<Duration> {
        eventually("all devices are online", PATIENCE, || {
            rest(LOOK_EVERY);
            let connected = self.crowd.shared.connected.load(Ordering::Relaxed);
            ensure!(connected == self.scale.devices, "{connected} are connected");
            let fleet = self.hub.fleet()?;
            ensure!(fleet.devices_online as usize == self.scale.devices, "{fleet:?}");
            Ok(())
        })?;
        Ok(begin.elapsed())
    }

    fn idle(&self, empty: u64, table: &mut Table) -> Result<()> {
        rest(SETTLE);
        let (hub, own, counts) = (self.hub.taken()?, taken(std::process::id())?, self.counts()?);
        rest(self.scale.idle);
        let (hub_after, own_after, counts_after) = (self.hub.taken()?, taken(std::process::id())?, self.counts()?);
        let each = hub_after.rss.saturating_sub(empty) / self.scale.devices as u64;
        table.row("hub, RSS, all connected", mebibytes(hub_after.rss), "≤ 40 MiB at 100");
        table.row("the same for each device", format!("{} KiB", each / 1024), "");
        let messages = counts_after.0 - counts.0;
        let cpu = hub_after.cpu_since(&hub);
        let each = (hub_after.cpu - hub.cpu) * 1e6 / messages.max(1) as f64;
        table.row(
            "hub, CPU, nothing but heartbeats",
            format!("{cpu:.1} % of a core ({each:.0} µs for each message)"),
            "",
        );
        table.row("heartbeats shed meanwhile", (counts_after.1 - counts.1).to_string(), "0");
        table.row(
            "hub, bytes written to disk meanwhile",
            (hub_after.written - hub.written).to_string(),
            "≤ 1 MB a day",
        );
        table.row("(the devices' process, CPU)", format!("{:.1} % of a core", own_after.cpu_since(&own)), "");
        let fleet = self.hub.fleet()?;
        ensure!(fleet.devices_online as usize == self.scale.devices, "some were lost meanwhile: {fleet:?}");
        Ok(())
    }

    /// Messages received, and heartbeats shed.
    fn counts(&self) -> Result<(u64, u64)> {
        let text = self.hub.ask("GET /metrics", "")?;
        let value =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0);
        Ok((value("outrigger_broker_received_total "), value("outrigger_broker_heartbeats_shed_total ")))
    }

    /// Applies a stack, and waits until the hub knows every copy to run.
    pub fn deploy(&self, stack: &str, compose: &str, copies: usize, table: &mut Table) -> Result<()> {
        let request = ApplyRequest {
            main: "compose.yaml".to_owned(),
            files: [("compose.yaml".to_owned(), Some(compose.to_owned()))].into(),
            ..ApplyRequest::default()
        };
        let (before, wanted) = (self.hub.taken()?, self.hub.fleet()?.wanted as usize + copies);
        let (store, routes) = (self.hub.store_bytes()?, self.crowd.shared.routes.load(Ordering::Relaxed));
        let begin = monotonic();
        self.hub.ask(&format!("PUT /v1/stacks/{stack}"), &serde_json::to_string(&request)?)?;
        let accepted = begin.elapsed();
        eventually("all copies run", PATIENCE, || {
            rest(LOOK_EVERY);
            let fleet = self.hub.fleet()?;
            ensure!(fleet.wanted as usize == wanted && fleet.running as usize == wanted, "{fleet:?}");
            Ok(())
        })?;
        let all = begin.elapsed();
        rest(Duration::from_secs(2));
        let (after, grown) = (self.hub.taken()?, self.hub.store_bytes()?.saturating_sub(store));
        let told = self.crowd.shared.routes.load(Ordering::Relaxed) - routes;
        table.row(format!("stack `{stack}` of {copies} copies: accepted"), seconds(accepted), "");
        table.row("… all confirmed to run", seconds(all), "");
        table.row("… hub, processor time", format!("{:.2} s", after.cpu - before.cpu), "");
        table.row("… hub, RSS", mebibytes(after.rss), "");
        table.row("… store grows by", mebibytes(grown), "");
        table.row("… routes told", told.to_string(), "");
        Ok(())
    }

    /// The hub ends and starts: everybody comes back at once, and nothing is stopped or moved.
    fn restart(&mut self, table: &mut Table) -> Result<()> {
        let (places, ended) = (self.places()?, self.crowd.shared.ended.load(Ordering::Relaxed));
        self.hub.stop()?;
        eventually("every device has seen that the hub is away", PATIENCE, || {
            let left = self.crowd.shared.connected.load(Ordering::Relaxed);
            ensure!(left == 0, "{left} are connected");
            Ok(())
        })?;
        self.crowd.shared.connects.store(0, Ordering::Relaxed);
        let begin = monotonic();
        let start = self.hub.start()?;
        let all = self.online(begin)?;
        let cpu = self.hub.taken()?.cpu;
        let connects = self.crowd.shared.connects.load(Ordering::Relaxed);
        rest(SETTLE);
        table.row("hub restarts and answers", seconds(start), "");
        table.row("… half of the devices connected", seconds(self.crowd.shared.stood_within(begin, 500)), "");
        table.row("… 99 % connected", seconds(self.crowd.shared.stood_within(begin, 990)), "");
        table.row("… all connected and known to the hub", seconds(all), "");
        let rate = connects as f64 / self.crowd.shared.stood_within(begin, 1000).as_secs_f64().max(0.001);
        table.row("… connections made", format!("{connects}, {rate:.0} /s"), "");
        table.row("… hub, processor time for each", millis(Duration::from_secs_f64(cpu / connects.max(1) as f64)), "");
        table.row("… hub, RSS afterwards", mebibytes(self.hub.taken()?.rss), "");
        let now_ended = self.crowd.shared.ended.load(Ordering::Relaxed) - ended;
        let moved = self.places()?.iter().zip(&places).filter(|(now, before)| now != before).count();
        table.row("… containers stopped, copies moved", format!("{now_ended}, {moved}"), "0, 0");
        ensure!(now_ended == 0 && moved == 0, "a restart of the hub stops and moves nothing");
        Ok(())
    }

    /// Every replica with the copy that does its work.
    fn places(&self) -> Result<Vec<(String, String)>> {
        let mut places = Vec::new();
        let mut after = String::new();
        loop {
            let list: ReplicaList = serde_json::from_str(&self.hub.ask(&format!("GET /v1/replicas{after}"), "")?)?;
            places.extend(list.replicas.into_iter().map(|one| {
                (one.name, one.copy.map_or_else(String::new, |copy| format!("{} {}", copy.placement, copy.device)))
            }));
            match list.next {
                Some(next) => after = format!("?after={next}"),
                None => return Ok(places),
            }
        }
    }
}

/// Seconds, for a table.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Milliseconds, for a table.
pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Mebibytes, for a table.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// What the kernel allows this process, so that a run that is too large says so before it begins.
fn open_files() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

//! From a wish, or from a killed process, to an answer over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outrigger_tests::clock::{eventually, monotonic, rest};
use outrigger_tests::real::fleet::Fleet;
use outrigger_tests::real::http;
use outrigger_tests::real::lab::Device;

use super::figures::{Figures, Series};

const PATIENCE: Duration = Duration::from_secs(120);
const FLOOR_PORT: u16 = 8090;
/// How often the engines are asked while they start a hundred containers.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// `docker run` and `outrigger deploy`, each until the first answer; the image is there.
pub fn deploy_to_answer(fleet: &Fleet, runs: usize, figures: &mut Figures) -> Result<()> {
    let (mut ours, mut floor) = (Series::default(), Series::default());
    let device = fleet.lab.device(1);
    for _ in 0..runs {
        let begin = monotonic();
        let container = docker_run(device, "floor", &[])?;
        answers(device, FLOOR_PORT)?;
        floor.add(begin.elapsed());
        device.docker(&["rm", "-f", &container])?;

        let begin = monotonic();
        fleet.deploy("bench", &one_on(device))?;
        answers(device, 8080)?;
        ours.add(begin.elapsed());
        fleet.outrigger(&["rm", "bench"])?;
        empty(fleet)?;
    }
    figures.time("deploy → HTTP 200, image present", "≤ floor + 0.15 s", &ours, Some(&floor));
    Ok(())
}

/// The process of a container is killed; `--restart always` and the agent bring it back.
pub fn killed_to_answer(fleet: &Fleet, runs: usize, figures: &mut Figures) -> Result<()> {
    let (mut ours, mut floor) = (Series::default(), Series::default());
    let device = fleet.lab.device(1);
    let container = docker_run(device, "floor", &["--restart=always"])?;
    fleet.deploy("bench", &one_on(device))?;
    answers(device, 8080)?;
    answers(device, FLOOR_PORT)?;
    // An engine doubles its pause for a container that has not run for ten seconds.
    let pause = Duration::from_secs(11);
    for _ in 0..runs {
        rest(pause);
        floor.add(kill_and_wait(device, &container, FLOOR_PORT)?);
        let ours_id = fleet.running_on(device)?.into_iter().next().context("it runs")?.1;
        ours.add(kill_and_wait(device, &ours_id, 8080)?);
    }
    device.docker(&["rm", "-f", &container])?;
    fleet.outrigger(&["rm", "bench"])?;
    empty(fleet)?;
    figures.time("container killed → answers again", "≤ floor + 0.1 s", &ours, Some(&floor));
    Ok(())
}

/// A hundred containers on all devices, all running. Both are watched in the same way.
pub fn hundred_replicas(fleet: &Fleet, runs: usize, figures: &mut Figures) -> Result<()> {
    let (mut ours, mut floor) = (Series::default(), Series::default());
    let sockets: Vec<PathBuf> = fleet.lab.devices().map(Device::socket).collect::<Result<_>>()?;
    for _ in 0..runs {
        let begin = monotonic();
        std::thread::scope(|scope| {
            let work: Vec<_> = fleet.lab.devices().map(|device| scope.spawn(move || run_25(device))).collect();
            hundred_run(&sockets, "floor")?;
            floor.add(begin.elapsed());
            work.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a run panicked"))?)
        })?;
        for device in fleet.lab.devices() {
            device.run(&["bash", "-c", "docker ps -aq --filter label=floor | xargs -r docker rm -f >/dev/null"])?;
        }

        let begin = monotonic();
        fleet.deploy("bench", "services: { web: { image: 'outrigger-web:1', deploy: { replicas: 100 } } }")?;
        hundred_run(&sockets, "outrigger.scope")?;
        ours.add(begin.elapsed());
        fleet.outrigger(&["rm", "bench"])?;
        empty(fleet)?;
    }
    figures.time("100 replicas on 4 devices, all running", "≤ 1.1 × floor", &ours, Some(&floor));
    Ok(())
}

/// Waits until the engines say that a hundred containers with this label run. They are asked over their sockets and now
/// and then only: a client started for each look would take the processor from what is measured.
fn hundred_run(sockets: &[PathBuf], label: &str) -> Result<()> {
    let running = format!("/containers/json?filters=%7B%22label%22%3A%5B%22{label}%22%5D%7D");
    eventually("100 containers run", PATIENCE, || {
        rest(LOOK_EVERY);
        let mut count = 0;
        for socket in sockets {
            let containers: Vec<serde_json::Value> = serde_json::from_str(&http::fetch_from_socket(socket, &running)?)?;
            count += containers.len();
        }
        ensure!(count == 100, "{count} run");
        Ok(())
    })?;
    Ok(())
}

fn run_25(device: Device<'_>) -> Result<()> {
    // Eight at a time, as our agent does it.
    let all = "seq 25 | xargs -P 8 -I{} docker run -d --label floor=1 outrigger-web:1 >/dev/null";
    device.run(&["bash", "-c", all]).map(drop)
}

fn docker_run(device: Device<'_>, name: &str, flags: &[&str]) -> Result<String> {
    let publish = format!("--publish={FLOOR_PORT}:8080");
    let name = format!("--name={name}");
    let words = [&["run", "-d", &publish, &name], flags, &["outrigger-web:1"]].concat();
    device.docker(&words)
}

fn one_on(device: Device<'_>) -> String {
    format!(
        "services:\n  web:\n    image: outrigger-web:1\n    ports: [{{ target: 8080, published: 8080, mode: host }}]\n    stop_grace_period: 1s\n    \
         deploy: {{ placement: {{ constraints: ['node.hostname == {}'] }} }}\n",
        device.name()
    )
}

fn kill_and_wait(device: Device<'_>, container: &str, port: u16) -> Result<Duration> {
    let pid = device.docker(&["inspect", "--format", "{{.State.Pid}}", container])?;
    let begin = monotonic();
    device.run(&["kill", "-9", &pid])?;
    answers(device, port)?;
    Ok(begin.elapsed())
}

fn answers(device: Device<'_>, port: u16) -> Result<()> {
    let address = format!("{}:{port}", device.address()?);
    eventually("it answers", PATIENCE, || http::fetch(&address, "/"))?;
    Ok(())
}

/// Waits until no container of ours is left.
fn empty(fleet: &Fleet) -> Result<()> {
    for device in fleet.lab.devices() {
        eventually("nothing is left", PATIENCE, || {
            let left = device.docker(&["ps", "-aq", "--filter", "label=outrigger.scope"])?;
            ensure!(left.is_empty(), "{left}");
            Ok(())
        })?;
    }
    Ok(())
}

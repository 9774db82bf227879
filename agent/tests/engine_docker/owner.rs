//! A hub in the wrong hands asks for everything and gets nothing beyond what the owner of the device allows.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::RemoveVolumeOptions;
use outrigger_agent::engine::docker::DockerEngine;
use outrigger_agent::engine::{ContainerId, Engine, EngineError, NewContainer};
use outrigger_agent::policy::{Guarded, Policy};
use outrigger_protocol::{ContainerSpec, DeviceMapping, GpuRequest, LogConfig, Mount, MountKind, Ulimit};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::engine_common::{Bench, new};
use super::{Real, bench, client, engine_under};

pub fn policy(text: &str) -> Policy {
    let policy = Policy::of(text, "/etc/outrigger/policy.toml".into(), Guarded::default());
    assert!(!policy.is_broken(), "{}", policy.trouble());
    policy
}

fn under(bench: &Real, text: &str) -> Arc<DockerEngine> {
    engine_under(&bench.socket, bench.flavour, "bench", policy(text))
}

fn mount(kind: MountKind) -> Mount {
    Mount { kind, target: "/data".into(), read_only: false }
}

fn bind(source: &str) -> Mount {
    mount(MountKind::Bind { source: source.into(), create: true })
}

fn volume(name: &str, options: &[(&str, &str)]) -> Mount {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    mount(MountKind::Volume { name: name.into(), driver: None, options })
}

async fn refused(engine: &DockerEngine, wanted: &NewContainer) -> String {
    match engine.create_and_start(wanted).await {
        Err(EngineError::NotAllowed { reason }) => reason,
        other => panic!("{:?} gave {other:?}", wanted.spec),
    }
}

async fn pid_of(engine: &DockerEngine, id: &ContainerId) -> u32 {
    engine.inspect(id).await.unwrap().unwrap().pid.unwrap()
}

/// Everything that is dangerous, one by one.
fn everything(plain: &ContainerSpec) -> Vec<ContainerSpec> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let with = |change: &dyn Fn(&mut ContainerSpec)| {
        let mut spec = plain.clone();
        change(&mut spec);
        spec
    };
    let paths =
        ["/", "/var/run/docker.sock", "/var/run", "/run/docker.sock", "/proc/1/root", "/etc", "/srv", "/sys", "/dev"];
    let binds = paths.iter().map(|path| with(&|spec| spec.mounts = vec![bind(path)]));
    let options = [("type", "none"), ("o", "bind"), ("device", "/")];
    let device = DeviceMapping { host: "/dev/null".into(), container: "/dev/x".into(), permissions: "rwm".into() };
    let gpu = GpuRequest { driver: None, count: None, ids: vec![], capabilities: vec![] };
    let ulimit = Ulimit { name: "rtprio".into(), soft: 99, hard: 99 };
    let others = [
        with(&|spec| spec.privileged = true),
        with(&|spec| spec.network_mode = Some("host".into())),
        with(&|spec| spec.cap_add = words(&["SYS_ADMIN"])),
        with(&|spec| spec.cap_add = words(&["ALL"])),
        with(&|spec| spec.security_opt = words(&["seccomp=unconfined"])),
        with(&|spec| spec.security_opt = words(&["apparmor:unconfined"])),
        with(&|spec| spec.mounts = vec![volume("outrigger-owner-root", &options)]),
        with(&|spec| spec.devices = vec![device.clone()]),
        with(&|spec| spec.gpus = vec![gpu.clone()]),
        with(&|spec| spec.sysctls = vec![("net.core.somaxconn".into(), "1".into())]),
        with(&|spec| spec.ulimits = vec![ulimit.clone()]),
        with(&|spec| spec.logging = Some(LogConfig { driver: "syslog".into(), options: vec![] })),
    ];
    binds.chain(others).collect()
}

#[tokio::test]
async fn a_hub_in_the_wrong_hands_gets_nothing_beyond_the_policy() {
    let bench = bench().await;
    for spec in everything(&bench.runs()) {
        let wanted = new(spec);
        refused(&bench.engine, &wanted).await;
        let left = bench.engine.list().await.unwrap();
        assert!(left.iter().all(|one| one.placement != wanted.placement), "{:?}", wanted.spec);
    }
    assert!(client(&bench.socket).inspect_volume("outrigger-owner-root").await.is_err());
}

#[tokio::test]
async fn a_container_has_few_capabilities_no_way_to_more_and_a_bound_on_its_processes() {
    let bench = bench().await;
    let id = bench.engine.create_and_start(&new(bench.runs())).await.unwrap();
    let pid = pid_of(&bench.engine, &id).await;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let inspected = client(&bench.socket).inspect_container(&id.0, None).await.unwrap();
    bench.engine.remove(&id).await.unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7, SETPCAP 8, NET_BIND_SERVICE 10, SETFCAP 31.
    assert_eq!(u64::from_str_radix(&field("CapBnd:"), 16).unwrap(), 0x8000_05fb);
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(inspected.host_config.unwrap().pids_limit, Some(2048));
}

#[tokio::test]
async fn an_allowed_folder_is_mounted_and_a_link_to_elsewhere_is_not() {
    let bench = bench().await;
    let folder = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(folder.path()).unwrap().display().to_string();
    fs::create_dir(format!("{root}/real")).unwrap();
    symlink("/", format!("{root}/link")).unwrap();
    let engine = under(&bench, &format!("binds = ['{root}/*']"));
    let with = |name: &str| new(ContainerSpec { mounts: vec![bind(&format!("{root}/{name}"))], ..bench.runs() });

    let id = engine.create_and_start(&with("real")).await.unwrap();
    let seen = seen_by(pid_of(&engine, &id).await);
    engine.remove(&id).await.unwrap();
    assert_eq!(seen, identity(Path::new(&format!("{root}/real"))));

    assert!(refused(&engine, &with("link")).await.contains("is a link"));
    // One that is missing is made by the engine, as Compose has it.
    let id = engine.create_and_start(&with("new")).await.unwrap();
    engine.remove(&id).await.unwrap();
    assert!(Path::new(&format!("{root}/new")).is_dir());
}

fn seen_by(pid: u32) -> (u64, u64) {
    identity(Path::new(&format!("/proc/{pid}/root/data")))
}

fn identity(path: &Path) -> (u64, u64) {
    let found = fs::metadata(path).unwrap();
    (found.dev(), found.ino())
}

/// Worse than a container can do: somebody on the device itself puts a link in the place of the folder in the very moment
/// between the agent's look and the engine's own. What then runs sees elsewhere, and is gone at once.
#[tokio::test]
async fn a_link_put_there_between_look_and_start_is_noticed_and_the_container_removed() {
    let bench = bench().await;
    let folder = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(folder.path()).unwrap().display().to_string();
    let data = format!("{root}/data");
    fs::create_dir(&data).unwrap();
    let door = format!("{root}/door.sock");
    let swap = {
        let data = data.clone();
        move || {
            fs::rename(&data, format!("{data}.real")).unwrap();
            symlink("/etc", &data).unwrap();
        }
    };
    let guard = swap_before_start(Path::new(&door), &bench.socket, swap);
    let engine = engine_under(&door, bench.flavour, "bench", policy(&format!("binds = ['{data}']")));
    let wanted = new(ContainerSpec { mounts: vec![bind(&data)], ..bench.runs() });
    let reason = refused(&engine, &wanted).await;
    assert!(reason.contains("led elsewhere"), "{reason}");
    let left = bench.engine.list().await.unwrap();
    assert!(left.iter().all(|one| one.placement != wanted.placement));
    guard.abort();
}

/// Between agent and engine: hands everything on, and swaps just before a start.
fn swap_before_start(path: &Path, socket: &str, swap: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    let socket = socket.trim_start_matches("unix://").to_owned();
    tokio::spawn(async move {
        let mut swap = Some(swap);
        let mut connections = JoinSet::new();
        while let Ok((mut outside, _)) = listener.accept().await {
            let mut first = vec![0; 16 * 1024];
            let length = outside.read(&mut first).await.unwrap();
            let line = String::from_utf8_lossy(&first[..length]).lines().next().unwrap_or_default().to_owned();
            if line.contains("/start")
                && let Some(swap) = swap.take()
            {
                swap();
            }
            let mut inside = UnixStream::connect(&socket).await.unwrap();
            inside.write_all(&first[..length]).await.unwrap();
            connections.spawn(async move { drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await) });
        }
    })
}

#[tokio::test]
async fn volumes_of_others_need_the_owners_word_and_our_own_do_not() {
    let bench = bench().await;
    let docker = client(&bench.socket);
    let (theirs, ours) = ("outrigger-owner-theirs", "outrigger-owner-ours");
    let request = VolumeCreateRequest { name: Some(theirs.to_owned()), ..VolumeCreateRequest::default() };
    docker.create_volume(request).await.unwrap();
    let with = |name: &str| new(ContainerSpec { mounts: vec![volume(name, &[])], ..bench.runs() });

    let reason = refused(&bench.engine, &with(theirs)).await;
    assert!(reason.contains(r#"volumes = ["outrigger-owner-theirs"]"#), "{reason}");
    let allowing = under(&bench, &format!("volumes = ['{theirs}']"));
    for (engine, name) in [(&allowing, theirs), (&bench.engine, ours), (&bench.engine, ours)] {
        let id = engine.create_and_start(&with(name)).await.unwrap();
        engine.remove(&id).await.unwrap();
    }
    for name in [theirs, ours] {
        docker.remove_volume(name, None::<RemoveVolumeOptions>).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_made_under_a_wider_policy_does_not_start_under_a_stricter_one() {
    let bench = bench().await;
    let wide = under(&bench, "host = ['network']\nprivileged = true");
    let spec = ContainerSpec { network_mode: Some("host".into()), privileged: true, ..bench.runs() };
    let wanted = new(spec);
    let id = wide.create_and_start(&wanted).await.unwrap();
    wide.stop(&id, std::time::Duration::ZERO).await.unwrap();
    let started = bench.engine.start(&id).await;
    // Nor is it taken for the container of a harmless specification with the same number.
    let harmless = NewContainer { spec: Arc::new(bench.runs()), ..wanted };
    let taken_over = bench.engine.create_and_start(&harmless).await;
    bench.engine.remove(&id).await.unwrap();
    assert!(matches!(started, Err(EngineError::NotAllowed { .. })), "{started:?}");
    assert!(matches!(taken_over, Err(EngineError::NotAllowed { .. })), "{taken_over:?}");
}

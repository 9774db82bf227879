//! A real Docker Engine (or Podman) does what every engine does. Runs where `OUTRIGGER_TEST_ENGINE` names its socket, such
//! as `unix:///run/docker.sock`, and the engine has the sample image (`images/build web`; another name in
//! `OUTRIGGER_TEST_IMAGE`). With `OUTRIGGER_TEST_REGISTRY` (`host:port` of a registry that the engine may use without
//! TLS) pulls are tried too, with `OUTRIGGER_TEST_PRIVATE_REGISTRY` those that need a password. It touches only containers of its own scope.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod engine_common;
#[path = "engine_docker/owner.rs"]
mod owner;
#[path = "engine_docker/secrets.rs"]
mod secrets;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, PushImageOptions, RemoveContainerOptions, RemoveImageOptions, TagImageOptions,
};
use engine_common::{Bench, Watched, new};
use futures_util::StreamExt;
use outrigger_agent::engine::docker::{DockerConfig, DockerEngine, Flavour};
use outrigger_agent::engine::{Engine, EngineError, EngineEvent, PullProgress};
use outrigger_agent::files::FilesDir;
use outrigger_agent::policy::Policy;
use outrigger_agent::probe::{Root, UsageSampler};
use outrigger_protocol::{
    Bytes, CgroupLimits, ContainerSpec, EngineKind, Healthcheck, HealthcheckTest, LogConfig, Moment, PlacementId,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

struct Real {
    engine: Arc<DockerEngine>,
    socket: String,
    flavour: Flavour,
}

async fn bench() -> Real {
    let socket = std::env::var("OUTRIGGER_TEST_ENGINE")
        .expect("OUTRIGGER_TEST_ENGINE names the engine's socket; `tests/run engine` sets it");
    let probe = engine(&socket, Flavour::Docker, "bench");
    let flavour = match probe.describe().await.unwrap().kind {
        EngineKind::Docker => Flavour::Docker,
        EngineKind::Podman => Flavour::Podman,
        EngineKind::Memory => panic!("a socket leads to an engine in memory"),
    };
    Real { engine: engine(&socket, flavour, "bench"), socket, flavour }
}

fn engine(socket: &str, flavour: Flavour, scope: &str) -> Arc<DockerEngine> {
    engine_under(socket, flavour, scope, Policy::default())
}

fn engine_under(socket: &str, flavour: Flavour, scope: &str, policy: Policy) -> Arc<DockerEngine> {
    let device = "bench".parse().unwrap();
    Arc::new(DockerEngine::new(DockerConfig {
        socket: PathBuf::from(socket),
        flavour,
        scope: scope.to_owned(),
        device,
        policy: Arc::new(policy),
        files: files(),
    }))
}

/// Where the engine and the test see the same memory.
fn files() -> FilesDir {
    FilesDir::of(Path::new("/run"), "outrigger-bench", Path::new("/nowhere"))
}

fn image() -> String {
    std::env::var("OUTRIGGER_TEST_IMAGE").unwrap_or_else(|_| "outrigger-web:1".to_owned())
}

fn check(test: HealthcheckTest) -> Healthcheck {
    Healthcheck {
        test,
        interval: Some(Duration::from_millis(500)),
        timeout: Some(Duration::from_secs(10)),
        retries: Some(20),
        start_period: None,
        start_interval: None,
    }
}

/// The sample asks itself: no network of the test's own is needed.
fn asks(path: &str) -> HealthcheckTest {
    HealthcheckTest::Exec(["/web", "check", &format!("http://127.0.0.1:8080{path}")].map(str::to_owned).to_vec())
}

impl Bench for Real {
    type E = DockerEngine;
    fn engine(&self) -> Arc<DockerEngine> {
        Arc::clone(&self.engine)
    }
    fn runs(&self) -> ContainerSpec {
        ContainerSpec {
            image: image(),
            stop_grace: Duration::from_secs(10),
            healthcheck: Some(check(HealthcheckTest::Disabled)),
            ..ContainerSpec::default()
        }
    }
    fn crashes(&self) -> ContainerSpec {
        ContainerSpec { command: Some(vec!["crash-after".to_owned(), "0.3".to_owned()]), ..self.runs() }
    }
    fn is_greedy(&self) -> ContainerSpec {
        let limits = CgroupLimits { memory: Some(Bytes(24 << 20)), ..CgroupLimits::default() };
        ContainerSpec { healthcheck: Some(check(asks("/eat?mib=64"))), limits, ..self.runs() }
    }
    fn is_healthy(&self) -> ContainerSpec {
        let environment = vec![("HEALTHY_AFTER".to_owned(), "0.7".to_owned())];
        ContainerSpec { healthcheck: Some(check(asks("/healthz"))), environment, ..self.runs() }
    }
    fn runs_healthchecks(&self) -> bool {
        self.flavour == Flavour::Docker || Path::new("/run/systemd/system").exists()
    }
    fn cannot_start(&self) -> ContainerSpec {
        ContainerSpec { entrypoint: Some(vec!["/nothing".to_owned()]), ..self.runs() }
    }
    fn missing_image(&self) -> String {
        // Port 9 discards: nothing answers there.
        "127.0.0.1:9/outrigger-missing:1".to_owned()
    }
    fn port(&self) -> u16 {
        28_000 + u16::try_from(std::process::id() % 1_000).unwrap()
    }
    fn chats(&self) -> ContainerSpec {
        ContainerSpec { environment: vec![("CHATTY".to_owned(), "1".to_owned())], ..self.runs() }
    }
    fn chat(&self, _placement: PlacementId) {}
}

engine_facts!(tokio::test);

fn client(socket: &str) -> Docker {
    Docker::connect_with_unix(socket, 60, bollard::API_DEFAULT_VERSION).unwrap()
}

#[tokio::test]
async fn a_container_of_somebody_else_is_neither_seen_nor_touched() {
    let bench = bench().await;
    let docker = client(&bench.socket);
    let wanted = new(bench.runs());
    // It even has the name that ours would get, and labels of another scope.
    let name = format!("shop_web.1.{}", wanted.placement);
    let labels = HashMap::from([
        ("outrigger.scope".to_owned(), "another".to_owned()),
        ("outrigger.placement".to_owned(), wanted.placement.to_string()),
        ("outrigger.replica".to_owned(), "shop/web.1".to_owned()),
    ]);
    let body = ContainerCreateBody { image: Some(image()), labels: Some(labels), ..ContainerCreateBody::default() };
    let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
    let foreign = docker.create_container(Some(options), body).await.unwrap().id;

    let refused = bench.engine.create_and_start(&wanted).await;
    let listed = bench.engine.list().await.unwrap();
    let still_there = docker.inspect_container(&foreign, None).await.is_ok();
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    docker.remove_container(&foreign, Some(options)).await.unwrap();

    assert_eq!(refused, Err(EngineError::NameTaken { name }));
    assert!(listed.iter().all(|one| one.placement != wanted.placement));
    assert!(still_there);
}

#[tokio::test]
async fn an_agent_with_another_scope_has_containers_of_its_own() {
    let bench = bench().await;
    let other = engine(&bench.socket, bench.flavour, "bench-b");
    let wanted = new(bench.runs());
    let ours = bench.engine.create_and_start(&wanted).await.unwrap();
    let theirs = other.create_and_start(&wanted).await.unwrap();
    assert_ne!(ours, theirs);
    assert_eq!(other.inspect(&ours).await.unwrap(), None);
    assert!(other.list().await.unwrap().iter().all(|one| one.id != ours));
    bench.engine.remove(&ours).await.unwrap();
    other.remove(&theirs).await.unwrap();
}

/// A door in front of the engine that can be shut, as its restart would.
struct Door {
    path: PathBuf,
    guard: JoinHandle<()>,
}

impl Door {
    fn open(path: &Path, socket: &str) -> Self {
        drop(std::fs::remove_file(path));
        let listener = UnixListener::bind(path).unwrap();
        let socket = socket.trim_start_matches("unix://").to_owned();
        let guard = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut outside, _)) = listener.accept().await {
                let socket = socket.clone();
                connections.spawn(async move {
                    if let Ok(mut inside) = UnixStream::connect(socket).await {
                        drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await);
                    }
                });
            }
        });
        Self { path: path.to_owned(), guard }
    }

    async fn shut(self) {
        self.guard.abort();
        drop(self.guard.await);
        std::fs::remove_file(&self.path).unwrap();
    }
}

#[tokio::test]
async fn an_engine_that_restarts_is_told_and_what_happened_meanwhile_is_listed() {
    let bench = bench().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let door = Door::open(&path, &bench.socket);
    let mut watched = Watched::new(engine(path.to_str().unwrap(), bench.flavour, "bench")).await;
    let id = watched.start(&new(bench.runs())).await;
    watched.until_state(&id, |state| state.is_running()).await;

    door.shut().await;
    let lost = |event| if let EngineEvent::Lost(reason) = event { Some(reason) } else { None };
    let reason = watched.until(lost).await;
    assert!(reason.contains("does not answer"), "{reason}");
    assert!(watched.engine.list().await.unwrap_err().is_engine_down());

    bench.engine.stop(&id, Duration::ZERO).await.unwrap();
    let _door = Door::open(&path, &bench.socket);
    watched.until_state(&id, |state| matches!(state, outrigger_agent::engine::ContainerState::Exited { .. })).await;
    watched.clean().await;
}

/// Needs no engine: a socket that is accepted from and never answered, in virtual time.
#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_is_given_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let engine = engine(path.to_str().unwrap(), Flavour::Docker, "bench");
    assert!(matches!(engine.list().await, Err(EngineError::TimedOut { .. })));
    assert!(matches!(engine.create_and_start(&new(ContainerSpec::default())).await, Err(EngineError::TimedOut { .. })));
}

#[tokio::test]
async fn an_engine_that_was_never_there_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let engine = engine(path.to_str().unwrap(), Flavour::Docker, "bench");
    let error = engine.describe().await.unwrap_err();
    assert!(error.is_engine_down() && error.to_string().contains("docker.sock"), "{error}");
}

/// Puts the sample into the registry under a name of its own and takes it off the engine again.
async fn publish(docker: &Docker, registry: &str) -> String {
    let repository = format!("{registry}/outrigger-pull-{}", std::process::id());
    let tag = TagImageOptions { repo: Some(repository.clone()), tag: Some("1".to_owned()) };
    docker.tag_image(&image(), Some(tag)).await.unwrap();
    let push = PushImageOptions { tag: Some("1".to_owned()), ..PushImageOptions::default() };
    // Without credentials Docker 20.10 wants an empty set of them.
    let pushed: Vec<_> = docker.push_image(&repository, Some(push), Some(Default::default())).collect().await;
    assert!(pushed.iter().all(Result::is_ok), "{pushed:?}");
    forget(docker, &format!("{repository}:1")).await;
    repository
}

async fn forget(docker: &Docker, image: &str) {
    docker.remove_image(image, None::<RemoveImageOptions>, None).await.unwrap();
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_by_digest_and_a_refusal_keeps_its_reason() {
    let bench = bench().await;
    let registry = std::env::var("OUTRIGGER_TEST_REGISTRY")
        .expect("OUTRIGGER_TEST_REGISTRY names an empty registry; `tests/run engine` starts one");
    let docker = client(&bench.socket);
    let repository = publish(&docker, &registry).await;
    let by_tag = format!("{repository}:1");
    assert_eq!(bench.engine.image(&by_tag).await.unwrap(), None);

    let (progress, told) = watch::channel(PullProgress::default());
    let digest = bench.engine.pull(&by_tag, None, None, progress).await.unwrap();
    assert_eq!(bench.engine.image(&by_tag).await.unwrap(), Some(digest.clone()));
    assert_eq!(told.borrow().done, told.borrow().total);

    let by_digest = format!("{repository}@{digest}");
    assert_eq!(
        bench.engine.pull(&by_digest, None, None, watch::channel(PullProgress::default()).0).await.unwrap(),
        digest
    );
    let mut watched = Watched::new(bench.engine()).await;
    let id = watched.start(&new(ContainerSpec { image: by_digest.clone(), ..bench.runs() })).await;
    let told = watched.until_state(&id, |state| state.is_running()).await;
    assert_eq!(told.digest, digest);
    watched.clean().await;
    let kept = bench.engine.remove_image(&by_tag, "sha256:another").await;
    assert!(matches!(kept, Err(EngineError::Refused { .. })), "the name means another image by now: {kept:?}");
    bench.engine.remove_image(&by_tag, &digest).await.unwrap();
    assert_eq!(bench.engine.image(&by_tag).await.unwrap(), None);
    drop(docker.remove_image(&by_digest, None::<RemoveImageOptions>, None).await);

    let unknown = format!("{repository}:nothing");
    let refused = bench.engine.pull(&unknown, None, None, watch::channel(PullProgress::default()).0).await;
    let Err(EngineError::PullFailed { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("manifest unknown") || reason.contains("not found"), "{reason}");
}

#[tokio::test]
async fn usage_is_read_from_the_containers_cgroup() {
    let bench = bench().await;
    let mut watched = Watched::new(bench.engine()).await;
    let wanted = new(bench.runs());
    let id = watched.start(&wanted).await;
    let pid = watched.until_state(&id, |state| state.is_running()).await.pid.unwrap();
    let group = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if group.contains(id.short()) {
        let mut sampler = UsageSampler::new(&Root::real());
        sampler.sample(Moment(0), [(wanted.placement, pid)]);
        let usage = sampler.sample(Moment(1_000), [(wanted.placement, pid)]);
        assert_eq!(usage[0].placement, wanted.placement);
        assert!((4_096..64 << 20).contains(&usage[0].memory.0), "{usage:?}");
        assert!(usage[0].cpu_milli < 1_000, "{usage:?}");
    } else {
        eprintln!("left out: the engine's processes are not in this process namespace");
    }
    watched.clean().await;
}

#[tokio::test]
async fn a_log_driver_that_there_is_not_is_refused_at_once() {
    let real = bench().await;
    let logging = Some(LogConfig { driver: "nope".to_owned(), options: Vec::new() });
    let wanted = new(ContainerSpec { logging, ..real.runs() });
    // The owner allows it; the engine does not have it.
    let allowing = owner::policy("log_drivers = ['nope']");
    let engine = engine_under(&real.socket, real.flavour, "bench", allowing);
    let refused = engine.create_and_start(&wanted);
    // Docker itself looks for a plugin for 15 s.
    let refused = tokio::time::timeout(Duration::from_secs(10), refused).await.expect("it takes the engine's own time");
    let EngineError::Refused { reason } = refused.unwrap_err() else { panic!("not refused") };
    assert!(reason.contains("nope"), "{reason}");
}

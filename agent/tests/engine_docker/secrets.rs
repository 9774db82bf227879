//! Secrets in a real container: what it sees, what `inspect` and `/proc` tell, and a registry that wants a password.

use bollard::auth::DockerCredentials;
use outrigger_agent::engine::{ContainerId, NewContainer};
use outrigger_protocol::{FileKind, FileMount, FileRef, Login, Mount, MountKind};

use super::*;

const CANARY: &str = "hunter2-canary";
/// As `tests/run` writes them for the registry.
const USER: &str = "bench";
const PASSWORD: &str = "canary-of-the-registry";

fn mount(target: &str, uid: u32, mode: u32) -> FileMount {
    let file = FileRef { kind: FileKind::Secret, name: "db".parse().unwrap(), version: 1 };
    FileMount { file, target: target.to_owned(), uid, gid: uid, mode }
}

/// Lays the files of a copy as the agent does, and says how its container is made.
fn with_files(bench: &Real, mounts: Vec<FileMount>) -> NewContainer {
    let mut wanted = new(ContainerSpec { files: mounts.clone(), ..bench.runs() });
    let mut filling = files().begin(wanted.placement).unwrap();
    mounts.iter().for_each(|mount| filling.add(mount, CANARY.as_bytes()).unwrap());
    filling.finish().unwrap();
    wanted.files = files().binds(wanted.placement, &wanted.spec);
    wanted
}

async fn inspected(bench: &Real, id: &ContainerId) -> String {
    let found = client(&bench.socket).inspect_container(&id.0, None).await.unwrap();
    serde_json::to_string(&found).unwrap()
}

/// S48, and the engine's part of S47.
#[tokio::test]
async fn a_container_sees_its_secret_in_memory_and_nothing_else_tells_of_it() {
    use std::os::unix::fs::MetadataExt;
    let bench = bench().await;
    let mut watched = Watched::new(bench.engine()).await;
    let wanted = with_files(&bench, vec![mount("/run/secrets/db", 1000, 0o440), mount("/etc/app/token", 0, 0o444)]);
    let id = watched.start(&wanted).await;
    let pid = watched.until_state(&id, |state| state.is_running()).await.pid.unwrap();
    let inside = |path: &str| PathBuf::from(format!("/proc/{pid}/root{path}"));
    for (path, uid, mode) in [("/run/secrets/db", 1000, 0o440), ("/etc/app/token", 0, 0o444)] {
        let seen = inside(path);
        assert_eq!(std::fs::read_to_string(&seen).unwrap(), CANARY);
        let meta = std::fs::metadata(&seen).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (uid, uid, mode), "{path}");
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let line =
            mounts.lines().find(|line| line.split(' ').nth(4) == Some(path)).unwrap_or_else(|| panic!("{mounts}"));
        assert!(line.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{line}");
        assert!(line.contains(" - tmpfs "), "{line}");
    }
    for place in ["environ", "cmdline"] {
        let bytes = std::fs::read(format!("/proc/{pid}/{place}")).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(CANARY), "{place}");
    }
    let told = inspected(&bench, &id).await;
    assert!(told.contains("/run/secrets/db") && !told.contains(CANARY), "{told}");
    // It starts again with the same file, and without it not at all.
    bench.engine.stop(&id, Duration::from_secs(1)).await.unwrap();
    bench.engine.start(&id).await.unwrap();
    bench.engine.stop(&id, Duration::from_secs(1)).await.unwrap();
    files().clear(wanted.placement).unwrap();
    assert!(!wanted.files[0].source.exists());
    let refused = bench.engine.start(&id).await;
    assert!(refused.is_err(), "nothing is made in the place of a secret that is not there");
    assert!(!wanted.files[0].source.exists());
    watched.clean().await;
}

/// A hub that is not to be trusted cannot mount the secrets of one copy into another.
#[tokio::test]
async fn the_secrets_of_another_copy_are_mounted_nowhere() {
    let bench = bench().await;
    let owner = with_files(&bench, vec![mount("/run/secrets/db", 0, 0o444)]);
    let source = owner.files[0].source.display().to_string();
    let kind = MountKind::Bind { source: source.clone(), create: false };
    let mounts = vec![Mount { kind, target: "/stolen".to_owned(), read_only: true }];
    let thief = new(ContainerSpec { mounts, ..bench.runs() });
    let refused = bench.engine.create_and_start(&thief).await;
    assert!(matches!(refused, Err(EngineError::NotAllowed { .. })), "{refused:?}");
    // Nor by a mistake of ours.
    let mistaken = NewContainer { files: owner.files.clone(), ..new(bench.runs()) };
    let refused = bench.engine.create_and_start(&mistaken).await;
    assert!(matches!(refused, Err(EngineError::NotAllowed { .. })), "{refused:?}");
    files().clear(owner.placement).unwrap();
}

#[tokio::test]
async fn a_registry_with_a_password_gives_its_images_to_whoever_has_it() {
    let bench = bench().await;
    let registry = std::env::var("OUTRIGGER_TEST_PRIVATE_REGISTRY")
        .expect("OUTRIGGER_TEST_PRIVATE_REGISTRY names a registry with a password; `tests/run engine` starts one");
    let docker = client(&bench.socket);
    let repository = format!("{registry}/outrigger-private-{}", std::process::id());
    let tag = TagImageOptions { repo: Some(repository.clone()), tag: Some("1".to_owned()) };
    docker.tag_image(&image(), Some(tag)).await.unwrap();
    let push = PushImageOptions { tag: Some("1".to_owned()), ..PushImageOptions::default() };
    let shown = DockerCredentials {
        username: Some(USER.to_owned()),
        password: Some(PASSWORD.to_owned()),
        serveraddress: Some(registry.clone()),
        ..DockerCredentials::default()
    };
    let pushed: Vec<_> = docker.push_image(&repository, Some(push), Some(shown)).collect().await;
    assert!(pushed.iter().all(Result::is_ok), "{pushed:?}");
    let by_tag = format!("{repository}:1");
    forget(&docker, &by_tag).await;
    let login = |password: &str| Login { username: USER.to_owned(), password: password.to_owned() };
    let progress = || watch::channel(PullProgress::default()).0;
    for refused in [
        bench.engine.pull(&by_tag, None, None, progress()).await,
        bench.engine.pull(&by_tag, None, Some(&login("another")), progress()).await,
    ] {
        let Err(EngineError::PullFailed { reason, .. }) = refused else { panic!("{refused:?}") };
        assert!(!reason.contains(PASSWORD), "{reason}");
    }
    let digest = bench.engine.pull(&by_tag, None, Some(&login(PASSWORD)), progress()).await.unwrap();
    assert_eq!(bench.engine.image(&by_tag).await.unwrap(), Some(digest));
    forget(&docker, &by_tag).await;
    let again = bench.engine.pull(&by_tag, None, None, progress()).await;
    assert!(matches!(again, Err(EngineError::PullFailed { .. })), "the engine has kept the login: {again:?}");
}

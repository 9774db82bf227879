//! Secrets, configs and logins on a device: asked of the hub, in memory for their container alone, and gone with it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;

use outrigger_agent::engine::memory::ImageBehaviour;
use outrigger_protocol::{
    FileKind, FileMount, FileRef, Item, Login, Sealed, SealedContent, Unseal, login_to_bytes, sealed_context,
};
use outrigger_trust::seal;

use super::*;

const CANARY: &str = "hunter2-canary";
const IMAGE: &str = "hub.lan:5000/web:1";

fn with_secret(generation: u64, placements: &[u64]) -> DownMessage {
    let DownMessage::Want(mut want) = want(generation, placements) else { unreachable!() };
    let me = std::fs::metadata("/proc/self").unwrap();
    let file = FileRef { kind: FileKind::Secret, name: "db".parse().unwrap(), version: 9 };
    let target = "/run/secrets/db".to_owned();
    want.specs[0].files = vec![FileMount { file, target, uid: me.uid(), gid: me.gid(), mode: 0o440 }];
    DownMessage::Want(want)
}

async fn question(hub: &mut FakeHub) -> Unseal {
    hub.message("question", |message| if let UpMessage::Unseal(question) = message { Some(*question) } else { None })
        .await
}

fn answer(hub: &FakeHub, device: &Device, question: &Unseal, context_of: &str, content: &[u8]) {
    let context = sealed_context(&context_of.parse().unwrap(), question.request, &question.item);
    let (from, bytes) = seal(&question.to, &context, content).unwrap();
    let content = SealedContent::Here { from, bytes };
    hub.send(&device.config.device, &DownMessage::Sealed(Sealed { request: question.request, content }));
}

fn holds_canary(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds_canary(&path);
        }
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
    })
}

/// A device whose copy 1 runs with a secret, and where that is.
async fn device_with_a_secret() -> (FakeHub, Device, std::path::PathBuf) {
    let mut hub = FakeHub::start().await;
    let mut device = Device::new(hub.address);
    device.start();
    hub.send(&device.config.device, &with_secret(1, &[1]));
    let asked = question(&mut hub).await;
    answer(&hub, &device, &asked, "pi", CANARY.as_bytes());
    until_running(&mut hub, &[1]).await;
    let files = device.engine.files(PlacementId(1));
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].target, "/run/secrets/db");
    (hub, device, files[0].source.clone())
}

#[tokio::test]
async fn a_secret_is_in_memory_for_its_container_and_gone_within_five_seconds_of_its_leaving() {
    let (hub, device, source) = device_with_a_secret().await;
    assert_eq!(std::fs::read_to_string(&source).unwrap(), CANARY);
    assert_eq!(std::fs::metadata(&source).unwrap().permissions().mode() & 0o7777, 0o440);
    assert!(source.starts_with(device.memory.path()), "{source:?}");
    assert!(!holds_canary(&device.config.state_dir), "nothing of it is on the disk");
    hub.send(&device.config.device, &want(2, &[2]));
    let gone = device.eventually("the secret is gone", |_| !source.exists());
    timeout(Duration::from_secs(5), gone).await.expect("within five seconds");
    assert!(!holds_canary(device.memory.path()));
}

#[tokio::test]
async fn an_agent_that_restarts_finds_its_secrets_again_and_needs_no_hub_for_them() {
    let (hub, mut device, source) = device_with_a_secret().await;
    device.kill().await;
    drop(hub);
    device.start();
    device.eventually("it looks", |engine| running(engine) == [1]).await;
    let (starts, _) = device.engine.starts_and_stops();
    assert!(device.engine.exit(PlacementId(1), 1));
    device.eventually("it runs again", |engine| engine.starts_and_stops().0 > starts && running(engine) == [1]).await;
    assert_eq!(std::fs::read_to_string(&source).unwrap(), CANARY);
}

#[tokio::test]
async fn what_was_sealed_for_another_device_does_not_open_and_the_copy_waits() {
    let mut hub = FakeHub::start().await;
    let mut device = Device::new(hub.address);
    device.start();
    hub.send(&device.config.device, &with_secret(1, &[1]));
    let first = question(&mut hub).await;
    answer(&hub, &device, &first, "pi-2", CANARY.as_bytes());
    let reason = hub
        .message("a reason", |message| match &status(message)?.replicas.first()?.phase {
            Phase::BackOff { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert!(reason.contains("secret `db`") && reason.contains("does not open"), "{reason}");
    assert!(running(&device.engine).is_empty() && !holds_canary(device.memory.path()));
    let second = question(&mut hub).await;
    assert_ne!((first.request, first.to), (second.request, second.to), "each question has a key of its own");
    answer(&hub, &device, &second, "pi", CANARY.as_bytes());
    until_running(&mut hub, &[1]).await;
}

#[tokio::test]
async fn a_registry_that_wants_a_login_is_shown_the_hubs_and_no_disk_has_it() {
    let mut hub = FakeHub::start().await;
    let mut device = Device::new(hub.address);
    let login = Some(("ann".to_owned(), CANARY.to_owned()));
    device.engine.set_behaviour(|behaviour| {
        behaviour.images.insert(IMAGE.into(), ImageBehaviour { login, ..ImageBehaviour::default() });
    });
    device.start();
    let DownMessage::Want(mut wanted) = want(1, &[1]) else { unreachable!() };
    wanted.specs[0].image = IMAGE.into();
    hub.send(&device.config.device, &DownMessage::Want(wanted));
    let asked = question(&mut hub).await;
    assert_eq!(asked.item, Item::Login("hub.lan:5000".into()));
    let login = Login { username: "ann".into(), password: CANARY.into() };
    answer(&hub, &device, &asked, "pi", &login_to_bytes(&login));
    until_running(&mut hub, &[1]).await;
    assert!(!holds_canary(&device.config.state_dir) && !holds_canary(device.memory.path()));
}

/// What this thread says at the finest level from now on; everything in these tests runs on one.
fn journal() -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
    #[derive(Clone)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Arc::<Mutex<Vec<u8>>>::default();
    let to = Lines(Arc::clone(&lines));
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || to.clone());
    (lines, tracing::subscriber::set_default(subscriber.finish()))
}

/// Where secrets come in, with a login that is wrong at first, and with the answer for somebody else.
#[tokio::test]
async fn the_journal_tells_neither_a_secret_nor_a_login() {
    let (journal, _until_the_end) = journal();
    let mut hub = FakeHub::start().await;
    let mut device = Device::new(hub.address);
    let right = Some(("ann".to_owned(), CANARY.to_owned()));
    device.engine.set_behaviour(|behaviour| {
        behaviour.images.insert(IMAGE.into(), ImageBehaviour { login: right, ..ImageBehaviour::default() });
    });
    device.start();
    let DownMessage::Want(mut wanted) = with_secret(1, &[1]) else { unreachable!() };
    wanted.specs[0].image = IMAGE.into();
    wanted.specs[0].environment = vec![("PASSWORD".into(), CANARY.into())];
    hub.send(&device.config.device, &DownMessage::Want(wanted));
    let (mut answers, mut logins, mut told) = (0, 0, false);
    while !told {
        match hub.next().await {
            Heard::Message(UpMessage::Unseal(question)) => {
                answers += 1;
                let wrong = Login { username: "ann".into(), password: format!("{CANARY}-of-yesterday") };
                let right = Login { username: "ann".into(), password: CANARY.into() };
                logins += u32::from(matches!(question.item, Item::Login(_)));
                let login = login_to_bytes(if logins < 2 { &wrong } else { &right });
                let content = if matches!(question.item, Item::Login(_)) { &login[..] } else { CANARY.as_bytes() };
                // The first one is sealed for another device.
                answer(&hub, &device, &question, if answers == 1 { "pi-2" } else { "pi" }, content);
            }
            Heard::Message(message) => {
                told =
                    status(message).is_some_and(|status| status.replicas.iter().any(|one| one.phase == Phase::Running));
            }
            _ => (),
        }
    }
    assert!(answers > 3 && logins > 1, "each way was gone: {answers}, {logins}");
    let journal = String::from_utf8(journal.lock().unwrap().clone()).unwrap();
    assert!(journal.contains("DEBUG") && journal.contains("does not open"), "it is fine enough: {journal}");
    assert!(!journal.contains(CANARY), "{}", journal.lines().find(|line| line.contains(CANARY)).unwrap_or_default());
}

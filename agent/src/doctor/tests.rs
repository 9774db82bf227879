//! Every finding, and what makes it.

use std::path::PathBuf;

use outrigger_protocol::{Arch, CgroupVersion, EngineKind, MemoryLimits, Throttling};

use super::*;
use crate::config::HubAddress;
use crate::engine::memory::{Behaviour, MemoryEngine};
use crate::engine::{Description, EngineError};
use crate::mqtt::Route;
use crate::policy::{Guarded, Policy};
use crate::probe::Root;

fn described(kind: EngineKind, version: &str) -> Description {
    Description {
        kind,
        version: version.to_owned(),
        arch: Some(Arch::Arm64),
        cgroup: CgroupVersion::V2,
        memory_limit: true,
        root_dir: None,
    }
}

fn joined() -> Seen {
    Seen {
        device: "pi".parse().unwrap(),
        begins_s: 1_794_000_000,
        ends_s: 1_794_000_000 + 90 * 86_400,
        key_is_private: true,
        handshake: Some(Ok(())),
    }
}

/// A device on which all is well.
fn well() -> Inspection {
    let space = |path: &str| Some(Space { path: PathBuf::from(path), free: 20 << 30, total: 32 << 30 });
    Inspection {
        unix: 1_795_000_000,
        is_synchronised: Some(true),
        cgroup: CgroupVersion::V2,
        memory_limits: MemoryLimits::Work,
        command_line: None,
        throttling: Throttling(0),
        engine: Ok(described(EngineKind::Docker, "20.10.24+dfsg1")),
        socket: Some(PathBuf::from("/var/run/docker.sock")),
        engine_space: space("/var/lib/docker"),
        state_dir: PathBuf::from("/var/lib/outrigger-agent"),
        state: StateDir::Writable,
        state_space: space("/var/lib/outrigger-agent"),
        trust: Trust::Joined(joined()),
        hub: Some(HubAddress { host: "hub.local".to_owned(), port: 8883 }),
        policy: Policy::default(),
        reach: Reach::Accepts,
        secrets: SecretsSeen {
            folder: PathBuf::from("/run/outrigger-agent"),
            place: Some(Place { is_memory: true, is_read_only: false, is_trusting: false, free: 400 << 20 }),
            is_open: false,
            swap: vec![],
        },
        network: NetworkSeen {
            pool: Default::default(),
            clashes: vec![],
            room: 128,
            port: 7643,
            is_port_taken: false,
            missing: vec![],
        },
    }
}

fn text(seen: &Inspection) -> (String, Verdict) {
    let mut out = Vec::new();
    let verdict = print(&findings(seen), &mut out).unwrap();
    (String::from_utf8(out).unwrap(), verdict)
}

/// The one thing that is wrong.
fn wrong(change: impl FnOnce(&mut Inspection)) -> String {
    let mut seen = well();
    change(&mut seen);
    let (text, verdict) = text(&seen);
    assert_eq!(verdict, Verdict::Wrong, "{text}");
    assert_eq!(text.matches('✗').count(), 1, "{text}");
    text
}

#[test]
fn a_device_on_which_all_is_well_is_ready() {
    let (text, verdict) = text(&well());
    assert_eq!(verdict, Verdict::Fine);
    assert!(!text.contains(['✗', '!', '→']), "{text}");
    assert!(text.ends_with("This device is ready.\n"), "{text}");
}

#[test]
fn a_raspberry_pi_without_the_memory_cgroup_gets_the_exact_fix() {
    let text = wrong(|seen| {
        seen.memory_limits = MemoryLimits::Off;
        seen.command_line = Some(PathBuf::from("/boot/firmware/cmdline.txt"));
    });
    let fix = "sudo sed -i '1s/$/ cgroup_enable=memory cgroup_memory=1/' /boot/firmware/cmdline.txt && sudo reboot";
    assert!(text.contains(fix), "{text}");
}

#[test]
fn an_engine_that_cannot_be_had_is_told_apart_by_its_reason() {
    let unreachable = |reason: &str| Err(EngineError::Unreachable { reason: reason.to_owned() });
    let denied = wrong(|seen| seen.engine = unreachable("client error (Connect): Permission denied (os error 13)"));
    assert!(denied.contains("usermod -aG docker"), "{denied}");
    let missing = wrong(|seen| seen.engine = unreachable("there is no socket /var/run/docker.sock"));
    assert!(missing.contains("apt-get install docker.io"), "{missing}");
    let dead = wrong(|seen| seen.engine = unreachable("client error (Connect): Connection refused (os error 111)"));
    assert!(dead.contains("journalctl -u docker"), "{dead}");
}

#[test]
fn an_engine_that_is_too_old_is_refused_and_a_strange_version_is_not() {
    wrong(|seen| seen.engine = Ok(described(EngineKind::Docker, "19.03.15")));
    wrong(|seen| seen.engine = Ok(described(EngineKind::Podman, "3.4.4")));
    for (kind, version) in [(EngineKind::Docker, "29.0.1"), (EngineKind::Podman, "5.4.2"), (EngineKind::Docker, "dev")]
    {
        let seen = Inspection { engine: Ok(described(kind, version)), ..well() };
        assert_eq!(text(&seen).1, Verdict::Fine, "{version}");
    }
}

#[test]
fn secrets_need_memory_that_is_no_disk_and_that_nobody_else_sees() {
    fn place(seen: &mut Inspection) -> &mut Place {
        seen.secrets.place.as_mut().unwrap()
    }
    assert!(wrong(|seen| place(seen).is_memory = false).contains("mount -t tmpfs -o mode=0700,nosuid,nodev"));
    assert!(wrong(|seen| place(seen).is_read_only = true).contains("remount,rw"));
    assert!(wrong(|seen| place(seen).free = 1 << 20).contains("too little"));
    assert!(wrong(|seen| seen.secrets.is_open = true).contains("sudo rm -r /run/outrigger-agent/*.files"));
    let noted = |change: fn(&mut Inspection)| {
        let mut seen = well();
        change(&mut seen);
        let (text, verdict) = text(&seen);
        assert_eq!(verdict, Verdict::Fine, "{text}");
        text
    };
    assert!(noted(|seen| place(seen).is_trusting = true).contains("remount,nosuid,nodev"));
    assert!(noted(|seen| seen.secrets.swap = vec!["/var/swap".into()]).contains("swapoff -a"));
}

#[test]
fn what_is_seen_of_the_place_of_secrets_is_what_is_there() {
    let device = tempfile::tempdir().unwrap();
    let put = |text: &str| {
        std::fs::create_dir_all(device.path().join("proc")).unwrap();
        std::fs::write(device.path().join("proc/swaps"), text).unwrap();
    };
    put("Filename Type Size Used Priority\n/dev/zram0 partition 100 0 100\n/var/swap file 100 0 -2\n");
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let own = memory.path().join("pi-0.files");
    let look = || super::secrets::look(&Root::at(device.path()), &own);
    let seen = look();
    assert_eq!((seen.swap.as_slice(), seen.is_open), (["/var/swap".to_owned()].as_slice(), false));
    assert_eq!(seen.folder, memory.path());
    assert!(seen.place.is_some_and(|place| place.is_memory && !place.is_read_only && place.free > 0));
    std::fs::create_dir(&own).unwrap();
    std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(look().is_open);
    let on_disk = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("no-such-folder/pi-0.files");
    assert!(super::secrets::look(&Root::at(device.path()), &on_disk).place.is_some_and(|place| !place.is_memory));
}

#[test]
fn clock_power_disk_state_and_hub_are_judged() {
    assert!(wrong(|seen| seen.unix = 0).contains("date -s"));
    assert!(wrong(|seen| seen.is_synchronised = Some(false)).contains("set-ntp true"));
    assert!(wrong(|seen| seen.throttling = Throttling(Throttling::UNDERVOLTAGE)).contains("supply"));
    let full = Some(Space { path: PathBuf::from("/var/lib/docker"), free: 1 << 20, total: 32 << 30 });
    assert!(wrong(|seen| seen.engine_space = full).contains("prune"));
    assert!(wrong(|seen| seen.state = StateDir::Refused("Read-only file system".to_owned())).contains("dmesg"));
    assert!(wrong(|seen| seen.reach = Reach::Refused).contains("nothing listens at hub.local:8883"));
    assert!(wrong(|seen| seen.reach = Reach::NoAnswer("timed out".to_owned())).contains("TCP port 8883"));
}

#[test]
fn identity_expiry_clock_and_handshake_are_judged() {
    assert!(wrong(|seen| (seen.trust, seen.hub) = (Trust::NotJoined, None)).contains("device invite"));
    assert!(wrong(|seen| seen.trust = Trust::Damaged("line 3".to_owned())).contains("--again"));
    let change = |change: fn(&mut Seen)| {
        let mut seen = joined();
        change(&mut seen);
        wrong(|all| all.trust = Trust::Joined(seen))
    };
    assert!(change(|seen| seen.ends_s = 1_794_500_000).contains("has ended"));
    assert!(change(|seen| seen.key_is_private = false).contains("chmod 600"));
    assert!(change(|seen| seen.handshake = Some(Err("no".to_owned()))).contains("TLS"));
    let mut seen = well();
    seen.trust = Trust::Joined(Seen { begins_s: 1_795_900_000, ends_s: 1_799_000_000, ..joined() });
    let (told, verdict) = text(&seen);
    assert!(
        verdict == Verdict::Fine && told.contains("! identity") && told.contains("before the certificate"),
        "{told}"
    );
    seen.trust = Trust::Joined(Seen { ends_s: 1_795_000_000 + 5 * 86_400, ..joined() });
    assert!(text(&seen).0.contains("5 days"));
}

#[tokio::test]
async fn looking_at_a_device_changes_nothing_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let subject = Subject {
        root: Root::at(folder.path()),
        unix: 1_795_000_000,
        route: Route::Local(HubAddress { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() }),
        state_dir: folder.path().join("a/b"),
        socket: None,
        policy: Policy::default(),
        files: PathBuf::from("/run/outrigger-agent/pi-0.files"),
        networking: Networking { pool: Default::default(), port: 0, socket: "/nowhere/proxy.sock".into() },
    };
    let seen = inspect(&subject, &MemoryEngine::new(Behaviour::default())).await;
    assert_eq!((&seen.reach, &seen.state), (&Reach::Accepts, &StateDir::CanBeMade));
    assert!(seen.state_space.is_some());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    drop(listener);
    let again = inspect(&subject, &MemoryEngine::new(Behaviour::default())).await;
    assert_eq!(again.reach, Reach::Refused);
}

#[test]
fn the_owners_policy_is_told_and_a_broken_one_is_wrong() {
    let of = |file: &str| Policy::of(file, "/etc/outrigger/policy.toml".into(), Guarded::default());
    let seen = Inspection { policy: of("binds = ['/srv/a:ro']\nhost = ['network']"), ..well() };
    let (told, verdict) = text(&seen);
    assert_eq!(verdict, Verdict::Fine);
    assert!(told.contains("host: network\n") && told.contains("binds: /srv/a:ro\n"), "{told}");
    let told = wrong(|seen| seen.policy = of("privilegd = true"));
    assert!(
        told.contains("strict default holds: line 1: unknown key `privilegd`; did you mean `privileged`?"),
        "{told}"
    );
}

#[test]
fn a_pool_that_clashes_a_taken_port_and_missing_programs_are_named() {
    let all = wrong(|seen| {
        seen.network.clashes = vec![("10.0.0.0".parse().unwrap(), 8)];
        seen.network.room = 0;
    });
    assert!(all.contains("10.212.0.0/14 is all in 10.0.0.0/8") && all.contains("network_pool"), "{all}");
    let port = wrong(|seen| seen.network.is_port_taken = true);
    assert!(port.contains("port 7643 is taken") && port.contains("network_port"), "{port}");
    let mut seen = well();
    seen.network.clashes = vec![("10.212.0.0".parse().unwrap(), 16)];
    seen.network.room = 96;
    seen.network.missing = vec![("nft", "nftables")];
    let (text, verdict) = text(&seen);
    assert_eq!(verdict, Verdict::Fine, "{text}");
    assert!(text.contains("room for 96 networks") && text.contains("sudo apt-get install nftables"), "{text}");
}

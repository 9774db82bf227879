//! The judgement: for each thing seen whether it is right, and if not what to do, as exactly as can be known.

use outrigger_protocol::{Bytes, CgroupVersion, EngineKind, MemoryLimits, Throttling};

use super::inspect::{Inspection, Reach, Space, StateDir};
use super::{Finding, Verdict, network, secrets, trust};
use crate::config::HubAddress;
use crate::engine::{Description, EngineError};
use crate::policy::Origin;

/// 2026-01-01: before this release was made. A board without a battery starts with an older date.
const NOT_BEFORE: u64 = 1_767_225_600;
/// The oldest Docker Engine that is tested.
const OLDEST_DOCKER: (u32, u32) = (20, 10);
/// The oldest Podman whose service has all that is used.
const OLDEST_PODMAN: (u32, u32) = (4, 0);
/// Less free space than this is too little for an image.
const LITTLE_SPACE: u64 = 512 << 20;
/// So much is always enough, however large the disk.
const MUCH_SPACE: u64 = 20 << 30;
/// The agent's state is small; it needs room for two copies of an assignment.
const LITTLE_STATE_SPACE: u64 = 16 << 20;

/// What to say about what was seen, in the order in which to put it right.
#[must_use]
pub fn findings(seen: &Inspection) -> Vec<Finding> {
    let mut findings = vec![clock(seen), cgroups(seen)];
    findings.extend(power(seen.throttling));
    findings.push(engine(seen));
    findings.extend(seen.engine_space.as_ref().map(images));
    findings.push(state(seen));
    findings.extend(network::findings(&seen.network));
    findings.extend(secrets::findings(&seen.secrets));
    findings.push(policy(seen));
    findings.extend(trust::identity(seen));
    findings.extend(seen.hub.as_ref().map(|address| hub(seen, address)));
    findings.extend(trust::handshake(seen));
    findings
}

pub(super) fn fine(about: &'static str, text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Fine, about, text: text.into(), fix: None }
}

pub(super) fn note(about: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Note, about, text: text.into(), fix: Some(fix.into()) }
}

pub(super) fn wrong(about: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Wrong, about, text: text.into(), fix: Some(fix.into()) }
}

fn clock(seen: &Inspection) -> Finding {
    const ABOUT: &str = "clock";
    const FIX: &str = "sudo timedatectl set-ntp true";
    if seen.unix < NOT_BEFORE {
        let text = "it is before 2026: image registries will be refused, and certificates are judged by a guess";
        return wrong(ABOUT, text, format!("{FIX}\nor, without a network: sudo date -s 'YYYY-MM-DD hh:mm'"));
    }
    match seen.is_synchronised {
        Some(true) => fine(ABOUT, "synchronised"),
        Some(false) => wrong(ABOUT, "not synchronised with a time server", FIX),
        None => note(
            ABOUT,
            "plausible; nobody says whether it is synchronised",
            "install chrony or systemd-timesyncd if it drifts",
        ),
    }
}

fn cgroups(seen: &Inspection) -> Finding {
    const ABOUT: &str = "cgroups";
    let version = match seen.cgroup {
        CgroupVersion::V1 => "version 1",
        CgroupVersion::V2 => "version 2",
        CgroupVersion::Unknown => {
            return wrong(
                ABOUT,
                "not mounted: containers cannot be limited, and their usage is not known",
                "run the agent on the device itself, or in a container with /sys/fs/cgroup mounted",
            );
        }
    };
    match seen.memory_limits {
        MemoryLimits::Work => fine(ABOUT, format!("{version}, memory limits work")),
        MemoryLimits::Off => wrong(
            ABOUT,
            format!(
                "{version}, but the memory cgroup is off: memory limits do nothing, and one replica can starve all"
            ),
            memory_fix(seen),
        ),
    }
}

/// Raspberry Pi OS keeps the kernel's command line in one line of a file; a second line would be ignored.
fn memory_fix(seen: &Inspection) -> String {
    const WORDS: &str = "cgroup_enable=memory cgroup_memory=1";
    match &seen.command_line {
        Some(path) => format!(
            "append {WORDS} to the one line of {path} and reboot:\nsudo sed -i '1s/$/ {WORDS}/' {path} && sudo reboot",
            path = path.display()
        ),
        None => {
            format!("add {WORDS} to the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub) and reboot")
        }
    }
}

fn power(throttling: Throttling) -> Option<Finding> {
    const ABOUT: &str = "power";
    let has = |bit: u8| throttling.0 & bit != 0;
    if has(Throttling::UNDERVOLTAGE) {
        return Some(wrong(
            ABOUT,
            "the supply is too weak: the board slows down, and its SD card may lose data",
            "use the supply that the board's maker names, with a short cable",
        ));
    }
    (throttling.is_any()).then(|| {
        note(ABOUT, "the processor is too hot and is slowed down", "give the board a heat sink, a fan, or more air")
    })
}

fn engine(seen: &Inspection) -> Finding {
    const ABOUT: &str = "engine";
    let described = match &seen.engine {
        Ok(described) => described,
        Err(error) => return no_engine(seen, error),
    };
    let name = match described.kind {
        EngineKind::Docker => "Docker Engine",
        EngineKind::Podman => "Podman",
        EngineKind::Memory => return note(ABOUT, "in memory: nothing really runs", "choose --engine docker"),
    };
    let text = format!("{name} {} answers", described.version);
    match too_old(described) {
        None => fine(ABOUT, text),
        Some(oldest) => wrong(
            ABOUT,
            format!("{text}, but is older than {}.{}", oldest.0, oldest.1),
            "upgrade it: sudo apt-get update && sudo apt-get install --only-upgrade docker.io podman",
        ),
    }
}

fn no_engine(seen: &Inspection, error: &EngineError) -> Finding {
    const ABOUT: &str = "engine";
    let socket = seen.socket.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let words = error.to_string();
    let fix = if words.contains("Permission denied") {
        format!("run the agent as root, or let its user open {socket}: sudo usermod -aG docker USER, then log in again")
    } else if words.contains("there is no socket") || words.contains("No such file") {
        format!(
            "install or start it: sudo apt-get install docker.io, sudo systemctl enable --now docker\n\
             (podman: sudo systemctl enable --now podman.socket); if it listens elsewhere than at {socket}: --engine-socket PATH"
        )
    } else {
        "see what it says: sudo systemctl status docker, sudo journalctl -u docker -n 50".to_owned()
    };
    wrong(ABOUT, words, fix)
}

/// The oldest version that would do, if this one is older. A version that cannot be read is let pass.
fn too_old(described: &Description) -> Option<(u32, u32)> {
    let oldest = match described.kind {
        EngineKind::Docker => OLDEST_DOCKER,
        EngineKind::Podman => OLDEST_PODMAN,
        EngineKind::Memory => return None,
    };
    let mut numbers = described.version.split('.').map(|part| part.parse::<u32>().ok());
    let version = (numbers.next()??, numbers.next()??);
    (version < oldest).then_some(oldest)
}

fn images(space: &Space) -> Finding {
    const ABOUT: &str = "disk";
    let text = free(space);
    let share = u128::from(space.free) * 100 / u128::from(space.total.max(1));
    if space.free < LITTLE_SPACE {
        wrong(ABOUT, format!("{text}: too little for images"), "sudo docker system prune --all")
    } else if share < 5 && space.free < MUCH_SPACE {
        note(ABOUT, format!("{text}: soon full"), "sudo docker system prune --all")
    } else {
        fine(ABOUT, text)
    }
}

fn free(space: &Space) -> String {
    format!("{} of {} free in {}", Bytes(space.free), Bytes(space.total), space.path.display())
}

fn state(seen: &Inspection) -> Finding {
    const ABOUT: &str = "state";
    let path = seen.state_dir.display();
    if let StateDir::Refused(reason) = &seen.state {
        let fix = if reason.contains("Read-only") {
            "the file system is read-only, often because an SD card fails: see `dmesg | tail -50`".to_owned()
        } else {
            format!("run the agent as root, or: sudo install -d -o USER {path}")
        };
        return wrong(ABOUT, format!("{path} cannot be written ({reason})"), fix);
    }
    match &seen.state_space {
        Some(space) if space.free < LITTLE_STATE_SPACE => wrong(
            ABOUT,
            format!("{}: the assignment cannot be kept", free(space)),
            "make room: sudo journalctl --vacuum-size=100M, sudo apt-get clean",
        ),
        Some(_) | None if seen.state == StateDir::CanBeMade => fine(ABOUT, format!("{path} will be made")),
        Some(_) | None => fine(ABOUT, format!("{path} can be written")),
    }
}

fn policy(seen: &Inspection) -> Finding {
    const ABOUT: &str = "policy";
    let path = seen.policy.path.display();
    match &seen.policy.origin {
        Origin::Absent => fine(ABOUT, format!("strict, the default: there is no {path}")),
        Origin::Broken(_) => wrong(
            ABOUT,
            format!("{path} cannot be used, so the strict default holds: {}", seen.policy.trouble()),
            format!("correct {path}, then: sudo systemctl restart outrigger-agent"),
        ),
        Origin::File => {
            let lines = seen.policy.rules.lines();
            match lines.is_empty() {
                true => fine(ABOUT, format!("{path} allows no more than the default")),
                false => fine(ABOUT, format!("{path} allows beyond the default:\n      {}", lines.join("\n      "))),
            }
        }
    }
}

fn hub(seen: &Inspection, hub: &HubAddress) -> Finding {
    const ABOUT: &str = "hub";
    let port = hub.port;
    match &seen.reach {
        Reach::Accepts => fine(ABOUT, format!("{hub} accepts connections")),
        Reach::Refused => {
            wrong(ABOUT, format!("nothing listens at {hub}"), "start the hub there, or correct `hub` (--hub HOST:PORT)")
        }
        Reach::NoSuchName(reason) => wrong(
            ABOUT,
            format!("the name in {hub} is not known: {reason}"),
            "correct `hub` (--hub HOST:PORT), or the name servers in /etc/resolv.conf",
        ),
        Reach::NoAnswer(reason) => wrong(
            ABOUT,
            format!("{hub} does not answer: {reason}"),
            format!("check this device's network (ip route, ping) and the hub's firewall (TCP port {port})"),
        ),
    }
}

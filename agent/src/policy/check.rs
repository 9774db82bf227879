//! From what was written to rules that make sense. All that is wrong is told at once.

use super::Rules;
use super::bind::{Bind, Guarded, plain};
use super::demand::{Host, bare_capability};
use super::pattern::Pattern;
use super::raw::Raw;
use crate::config::{Placed, Problem};

/// Values of all lists together.
const MOST_VALUES: usize = 1_000;
/// Characters of one.
const LONGEST_VALUE: usize = 512;
/// What Linux has.
const CAPABILITIES: &str = "ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN \
    DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD \
    NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT \
    SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM";

/// The rules, and all that is wrong with them.
pub(super) fn check(raw: Raw, guarded: &Guarded) -> (Rules, Vec<Problem>) {
    let mut checks = Checks { rules: Rules::default(), problems: raw.problems, binds: Vec::new() };
    if raw.lists.len() > MOST_VALUES {
        checks.wrong(None, format!("{} values, where {MOST_VALUES} are allowed", raw.lists.len()));
    }
    for (key, flag) in raw.flags {
        let place = match key {
            "privileged" => &mut checks.rules.privileged,
            "gpus" => &mut checks.rules.gpus,
            "exec" => &mut checks.rules.exec,
            _ => &mut checks.rules.self_update,
        };
        *place = flag.value;
    }
    for (key, value) in raw.lists {
        if let Err(text) = checks.take(key, &value, guarded) {
            checks.wrong(value.line, format!("{key}: {text}"));
        }
    }
    checks.overlaps();
    (checks.rules, checks.problems)
}

struct Checks {
    rules: Rules,
    problems: Vec<Problem>,
    /// With their lines.
    binds: Vec<(Bind, Option<usize>)>,
}

impl Checks {
    fn wrong(&mut self, line: Option<usize>, text: String) {
        self.problems.push(Problem { line, text });
    }

    fn take(&mut self, key: &str, value: &Placed<String>, guarded: &Guarded) -> Result<(), String> {
        let text = value.value.as_str();
        if text.is_empty() || text.len() > LONGEST_VALUE || text.chars().any(char::is_control) {
            return Err(format!("`{}` must be 1 to {LONGEST_VALUE} visible characters", super::judge::shown(text)));
        }
        let rules = &mut self.rules;
        let (own, pattern) = (text.to_owned(), Pattern::new(text));
        match key {
            "host" => {
                rules.host.insert(host(text)?);
            }
            "capabilities" => rules.capabilities.push(known_capability(text)?),
            "binds" => {
                let bind = Bind::parse(text, guarded)?;
                rules.binds.push(bind.clone());
                self.binds.push((bind, value.line));
            }
            "devices" => {
                plain(text)?;
                if !text.starts_with("/dev/") {
                    return Err(format!("`{text}` must be a path beneath /dev"));
                }
                rules.devices.push(pattern);
            }
            "sysctls" => rules.sysctls.push(pattern),
            "ulimits" => rules.ulimits.push(own.to_ascii_lowercase()),
            "security_options" => rules.security_options.push(Pattern::new(&text.replacen(':', "=", 1))),
            "runtimes" => rules.runtimes.push(own),
            "cgroup_parents" => rules.cgroup_parents.push(pattern),
            "volume_drivers" => rules.volume_drivers.push(own),
            "volumes" => rules.volumes.push(pattern),
            "log_drivers" => rules.log_drivers.push(own),
            _ => rules.images.push(pattern),
        }
        Ok(())
    }

    /// What may be written must not lie above what may be mounted: a container could put a link in its place.
    fn overlaps(&mut self) {
        let mut found = Vec::new();
        for (above, _) in &self.binds {
            for (below, line) in self.binds.iter().filter(|(below, _)| above.undermines(below)) {
                let text = format!(
                    "binds: containers may write `{}`, so they could put a link in the place of `{}`; make the first \
                     `:ro`, or allow only one of the two",
                    above.path, below.path
                );
                found.push(Problem { line: *line, text });
            }
        }
        self.problems.extend(found);
    }
}

fn host(text: &str) -> Result<Host, String> {
    let words = Host::ALL.map(Host::word);
    Host::ALL
        .into_iter()
        .find(|host| host.word() == text)
        .ok_or_else(|| format!("`{text}` must be one of {}", words.join(", ")))
}

fn known_capability(text: &str) -> Result<String, String> {
    let name = bare_capability(text);
    match CAPABILITIES.split_ascii_whitespace().any(|known| known == name) {
        true => Ok(name),
        false => Err(format!("`{text}` is no capability, such as NET_ADMIN")),
    }
}

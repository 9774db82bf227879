//! What every container gets unless its file says otherwise: few capabilities, no way to more of them, and a bound on its
//! processes.

use std::collections::BTreeSet;

use outrigger_protocol::ContainerSpec;

use crate::policy::{DEFAULT_CAPABILITIES, DEFAULT_PIDS, bare_capability};

/// What is said to the engine: everything dropped, then what it is to have.
pub(super) struct Capabilities {
    pub(super) added: Vec<String>,
    pub(super) dropped: Vec<String>,
}

/// As Docker reckons: added beats dropped, `ALL` dropped leaves only what is added, `ALL` added takes the dropped away.
pub(super) fn capabilities(spec: &ContainerSpec) -> Capabilities {
    let bare = |names: &[String]| names.iter().map(|name| bare_capability(name)).collect::<BTreeSet<_>>();
    let (added, dropped) = (bare(&spec.cap_add), bare(&spec.cap_drop));
    if spec.privileged || added.contains("ALL") {
        return Capabilities { added: added.into_iter().collect(), dropped: dropped.into_iter().collect() };
    }
    let default = DEFAULT_CAPABILITIES.into_iter().filter(|name| !dropped.contains(*name) && !dropped.contains("ALL"));
    let all: BTreeSet<String> = default.map(str::to_owned).chain(added).collect();
    Capabilities { added: all.into_iter().collect(), dropped: vec!["ALL".to_owned()] }
}

/// Nothing in it gains rights by a set-user-id program, unless its file says so or it has all of them anyway.
pub(super) fn security_options(spec: &ContainerSpec) -> Vec<String> {
    const NO_NEW: &str = "no-new-privileges";
    let is_said = spec.security_opt.iter().any(|option| option.to_ascii_lowercase().starts_with(NO_NEW));
    let ours = (!is_said && !spec.privileged).then(|| NO_NEW.to_owned());
    spec.security_opt.iter().cloned().chain(ours).collect()
}

/// Engines take -1 for no bound.
pub(super) fn pids(spec: &ContainerSpec) -> i64 {
    match spec.limits.pids {
        None => DEFAULT_PIDS,
        Some(0) => -1,
        Some(most) => i64::from(most),
    }
}

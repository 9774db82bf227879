//! Keys of a service that Compose knows and we do not support yet. A warning where the container still does its work
//! without; an error where it would not, or would be open to what the user meant to close.

use outrigger_protocol::Mode;

use super::deploy::Deploy;
use super::{At, Fields};
use crate::context::clip;
use crate::diagnostic::Severity::{self, Error, Warning};

const UNSUPPORTED: &[(&str, Severity, &str)] = &[
    ("annotations", Warning, "containers get no annotations"),
    ("attach", Warning, "output is read with `outrigger logs`"),
    ("blkio_config", Warning, "disk input and output are not limited"),
    ("cgroup_parent", Warning, "containers are in the engine's default cgroup"),
    ("cpu_count", Warning, "it is for Windows; use `cpus`"),
    ("cpu_percent", Warning, "it is for Windows; use `cpus`"),
    ("cpu_rt_period", Warning, "there is no real-time scheduling"),
    ("cpu_rt_runtime", Warning, "there is no real-time scheduling"),
    ("cpu_shares", Warning, "all containers have the same weight"),
    ("cpuset", Warning, "containers run on all cores; `cpus` limits their time"),
    ("credential_spec", Error, "it is for Windows"),
    ("develop", Warning, "it is for `docker compose watch`"),
    ("device_cgroup_rules", Error, "the container would not reach its devices; name them in `devices`"),
    ("dns_opt", Warning, "the engine's options apply"),
    ("dns_search", Warning, "names are not completed"),
    ("domainname", Warning, "the container has no domain name"),
    ("external_links", Error, "the container would not find the others"),
    ("mac_address", Warning, "the engine chooses the address"),
    ("mem_swappiness", Warning, "the kernel's default applies"),
    ("memswap_limit", Warning, "the engine's default applies to swap"),
    ("models", Error, "there are no models to run"),
    ("oom_kill_disable", Warning, "a container that exceeds its memory is killed"),
    ("oom_score_adj", Warning, "the engine's default applies"),
    ("pid", Error, "containers have a process namespace of their own"),
    ("post_start", Error, "the command would never run"),
    ("pre_stop", Error, "the command would never run"),
    ("provider", Error, "the service would not run anywhere"),
    ("pull_refresh_after", Warning, "images are pulled where they are missing"),
    ("stdin_open", Warning, "nobody can type into a container that runs somewhere else"),
    ("storage_opt", Warning, "the engine's default applies"),
    ("use_api_socket", Error, "the container would not reach the engine"),
    ("userns_mode", Error, "the engine's user namespace applies"),
    ("uts", Error, "containers have a host name of their own"),
    ("volumes_from", Error, "the container would start without its files; name the volumes in `volumes`"),
];

/// Keys with values that change nothing for the container itself; every other one is an error.
const USUAL: &[(&str, &[&str], &str)] = &[
    ("cgroup", &["private"], "containers have a cgroup namespace of their own"),
    ("ipc", &["private", "shareable"], "containers have a namespace of their own for shared memory"),
    ("isolation", &["default"], "it is for Windows"),
    ("runtime", &["runc"], "another runtime; for GPUs use `gpus: all`"),
];

pub(crate) fn read(fields: &mut Fields<'_>, deploy: &Deploy) {
    if let Some(at) = fields.take("container_name") {
        container_name(&at, deploy);
    }
    if let Some(at) = fields.take("pull_policy") {
        pull_policy(&at);
    }
    for &(key, usual, consequence) in USUAL {
        if let Some(at) = fields.take(key).filter(|at| at.text().is_none_or(|text| !usual.contains(&text))) {
            at.report_key(Error, format!("not supported yet: {consequence}"));
        }
    }
    fields.name_unsupported(UNSUPPORTED);
}

/// Copies are named after their service and number, so that an agent can tell its containers apart.
fn container_name(at: &At<'_>, deploy: &Deploy) {
    if at.filled().is_none() {
        return;
    }
    match deploy.mode {
        Mode::Replicated(0 | 1) => {
            at.report_key(Warning, "ignored: containers are named after stack, service and number")
        }
        Mode::Replicated(_) | Mode::Global => {
            at.report_key(Error, "several copies cannot have one name; remove `container_name`");
        }
    }
}

fn pull_policy(at: &At<'_>) {
    match at.text() {
        Some("missing" | "if_not_present") | None => (),
        Some(text)
            if matches!(text, "always" | "never" | "refresh" | "daily" | "weekly") || text.starts_with("every_") =>
        {
            at.report_key(Warning, "ignored: images are pulled where they are missing");
        }
        Some("build") => at.error("images are not built here: devices pull them"),
        Some(other) => at.error(format!("`{}` is no pull policy", clip(other))),
    }
}

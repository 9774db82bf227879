//! Every key of the Compose specification is either supported or named with what happens to it: none is unknown.
#![allow(clippy::unwrap_used, clippy::panic)]

use outrigger_compose::{Sources, load};

/// Keys of a service in the specification's schema.
const SERVICE: &str = "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs \
    container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset \
    credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint \
    env_file environment expose extends external_links extra_hosts gpus group_add healthcheck hostname image init ipc \
    isolation label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models \
    network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop privileged \
    profiles provider pull_policy pull_refresh_after read_only restart runtime scale secrets security_opt shm_size \
    stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts \
    volumes volumes_from working_dir";
const TOP: &str = "configs include models name networks secrets services version volumes";
const DEPLOY: &str =
    "endpoint_mode labels mode placement replicas resources restart_policy rollback_config update_config";
const RESOURCES: &str = "limits reservations";
const LIMITS: &str = "cpus memory pids";
const RESERVATIONS: &str = "cpus devices generic_resources memory";
const DEVICE: &str = "capabilities count device_ids driver options";
const PLACEMENT: &str = "constraints max_replicas_per_node preferences";
const RESTART: &str = "condition delay max_attempts window";
const UPDATE: &str = "delay failure_action max_failure_ratio monitor order parallelism";
const HEALTHCHECK: &str = "disable interval retries start_interval start_period test timeout";
const PORT: &str = "app_protocol host_ip mode name protocol published target";
const MOUNT: &str = "bind consistency image read_only source target tmpfs type volume";
const BIND: &str = "create_host_path propagation recursive selinux";
const VOLUME_OF_MOUNT: &str = "labels nocopy subpath";
const TMPFS: &str = "mode size";
const VOLUME: &str = "driver driver_opts external labels name";
const ENV_FILE: &str = "format path required";
const DEPENDS: &str = "condition required restart";
const LOGGING: &str = "driver options";
const ULIMIT: &str = "hard soft";
const DEVICE_MAPPING: &str = "permissions source target";
const EXTENDS: &str = "file service";
const SECRET: &str = "driver driver_opts environment external file labels name template_driver";
const CONFIG: &str = "content environment external file labels name template_driver";
const FILE_OF_SERVICE: &str = "gid mode source target uid";

/// Where a key stands: `KEY` is replaced by each with a value that has the right shape for one of them at least.
const PLACES: &[(&str, &str)] = &[
    (SERVICE, "services: { web: { KEY: VALUE } }"),
    (TOP, "KEY: VALUE"),
    (DEPLOY, "services: { web: { image: x, deploy: { KEY: VALUE } } }"),
    (RESOURCES, "services: { web: { image: x, deploy: { resources: { KEY: VALUE } } } }"),
    (LIMITS, "services: { web: { image: x, deploy: { resources: { limits: { KEY: VALUE } } } } }"),
    (RESERVATIONS, "services: { web: { image: x, deploy: { resources: { reservations: { KEY: VALUE } } } } }"),
    (DEVICE, "services: { web: { image: x, deploy: { resources: { reservations: { devices: [{ KEY: VALUE }] } } } } }"),
    (DEVICE, "services: { web: { image: x, gpus: [{ KEY: VALUE }] } }"),
    (PLACEMENT, "services: { web: { image: x, deploy: { placement: { KEY: VALUE } } } }"),
    (RESTART, "services: { web: { image: x, deploy: { restart_policy: { KEY: VALUE } } } }"),
    (UPDATE, "services: { web: { image: x, deploy: { update_config: { KEY: VALUE } } } }"),
    (UPDATE, "services: { web: { image: x, deploy: { rollback_config: { KEY: VALUE } } } }"),
    (HEALTHCHECK, "services: { web: { image: x, healthcheck: { KEY: VALUE } } }"),
    (PORT, "services: { web: { image: x, ports: [{ KEY: VALUE }] } }"),
    (MOUNT, "services: { web: { image: x, volumes: [{ KEY: VALUE }] } }"),
    (BIND, "services: { web: { image: x, volumes: [{ type: bind, bind: { KEY: VALUE } }] } }"),
    (VOLUME_OF_MOUNT, "services: { web: { image: x, volumes: [{ type: volume, volume: { KEY: VALUE } }] } }"),
    (TMPFS, "services: { web: { image: x, volumes: [{ type: tmpfs, tmpfs: { KEY: VALUE } }] } }"),
    (VOLUME, "services: { web: { image: x } }\nvolumes: { data: { KEY: VALUE } }"),
    (ENV_FILE, "services: { web: { image: x, env_file: [{ KEY: VALUE }] } }"),
    (DEPENDS, "services: { web: { image: x, depends_on: { web: { KEY: VALUE } } } }"),
    (LOGGING, "services: { web: { image: x, logging: { KEY: VALUE } } }"),
    (ULIMIT, "services: { web: { image: x, ulimits: { core: { KEY: VALUE } } } }"),
    (DEVICE_MAPPING, "services: { web: { image: x, devices: [{ KEY: VALUE }] } }"),
    (SECRET, "services: { web: { image: x } }\nsecrets: { s: { KEY: VALUE } }"),
    (CONFIG, "services: { web: { image: x } }\nconfigs: { s: { KEY: VALUE } }"),
    (FILE_OF_SERVICE, "services: { web: { image: x, secrets: [{ KEY: VALUE }] } }"),
    (FILE_OF_SERVICE, "services: { web: { image: x, configs: [{ KEY: VALUE }] } }"),
    (EXTENDS, "services: { web: { image: x, extends: { KEY: VALUE } } }"),
];

#[test]
fn no_key_of_the_specification_is_unknown() {
    let mut checked = 0;
    for (keys, place) in PLACES {
        for key in keys.split_whitespace() {
            for value in ["x", "1", "[x]", "{ a: b }", "true"] {
                let text = place.replace("KEY", key).replace("VALUE", value);
                let outcome = load(None, &Sources::of("c", &text));
                for problem in outcome.diagnostics {
                    let is_ours = problem.path.ends_with(&format!(".{key}")) || problem.path == key;
                    assert!(!(is_ours && problem.message.contains("unknown")), "{text}\n{problem}");
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 700, "{checked}");
}

#[test]
fn a_key_that_is_in_no_specification_is_unknown_everywhere() {
    for (_, place) in PLACES {
        // What is ignored as a whole is not looked into.
        if place.contains("rollback_config") {
            continue;
        }
        let text = place.replace("KEY", "no_such_key").replace("VALUE", "x");
        let told = load(None, &Sources::of("c", &text)).diagnostics;
        assert!(told.iter().any(|problem| problem.message == "unknown key"), "{text}\n{told:?}");
    }
}

#[test]
fn an_unsupported_key_is_never_silent() {
    let silent: Vec<&str> = SERVICE
        .split_whitespace()
        .filter(|key| {
            ["x", "1", "[x]", "{ a: b }", "true", "host"].iter().all(|value| {
                let text = format!("name: s\nservices: {{ web: {{ image: x, {key}: {value} }} }}");
                load(None, &Sources::of("c", &text)).diagnostics.is_empty()
            })
        })
        .collect();
    assert_eq!(silent, [""; 0], "keys that take anything without a word");
}

//! From a specification to the body of Docker's `create`: every field of it.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, HealthConfig, HostConfig, HostConfigLogConfig, PortBinding,
    PortMap, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use outrigger_protocol::{
    ContainerSpec, GpuRequest, Healthcheck, HealthcheckTest, LogConfig, PublishMode, PublishedPort,
};

use super::super::{NewContainer, label, port_protocol_text};
use super::{DockerConfig, Flavour};

mod guard;
mod mounts;

/// The container's name: readable, and unique by the placement.
pub(super) fn name(new: &NewContainer, config: &DockerConfig) -> String {
    let service = &new.replica.service;
    let plain = format!("{}_{}.{}.{}", service.stack, service.service, new.replica.number, new.placement);
    if config.scope == config.device.as_str() { plain } else { format!("{}_{plain}", config.scope) }
}

/// The body of the request.
pub(super) fn body(new: &NewContainer, config: &DockerConfig) -> ContainerCreateBody {
    let spec = &*new.spec;
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: spec.command.clone(),
        entrypoint: spec.entrypoint.clone().map(reset_if_empty),
        env: Some(environment(new)),
        labels: Some(labels(new, config)),
        exposed_ports: some(spec.ports.iter().map(port_key).collect()),
        healthcheck: spec.healthcheck.as_ref().map(healthcheck),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        hostname: spec.hostname.clone(),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: i64::try_from(spec.stop_grace.as_millis().div_ceil(1000)).ok(),
        tty: Some(spec.tty),
        host_config: Some(host_config(new, config)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(new: &NewContainer, config: &DockerConfig) -> HostConfig {
    let (spec, flavour) = (&*new.spec, config.flavour);
    let (binds, mut mounts) = mounts::split(&spec.mounts);
    mounts.extend(new.files.iter().map(mounts::file));
    let caps = guard::capabilities(spec);
    HostConfig {
        binds: some(binds),
        mounts: some(mounts),
        port_bindings: some_map(port_bindings(&spec.ports)),
        // The agent restarts: it knows back-off, leases and assignments, and is faster (Docker waits 0.1 s and doubles).
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        cap_add: some(caps.added),
        cap_drop: some(caps.dropped),
        privileged: Some(spec.privileged),
        readonly_rootfs: Some(spec.read_only),
        init: spec.init,
        ulimits: some(spec.ulimits.iter().map(ulimit).collect()),
        sysctls: some_map(spec.sysctls.iter().cloned().collect()),
        devices: some(spec.devices.iter().map(device).collect()),
        device_requests: some(spec.gpus.iter().map(device_request).collect()),
        extra_hosts: some(spec.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        log_config: Some(log_config(spec.logging.as_ref(), flavour)),
        shm_size: spec.shm_size.map(|size| signed(size.0)),
        nano_cpus: spec.limits.cpu.map(|cpu| i64::from(cpu.0) * 1_000_000),
        memory: spec.limits.memory.map(|memory| signed(memory.0)),
        pids_limit: Some(guard::pids(spec)),
        network_mode: network_mode(spec, config),
        security_opt: some(guard::security_options(spec)),
        dns: some(name_servers(new)),
        group_add: some(spec.group_add.clone()),
        ..HostConfig::default()
    }
}

/// The first network of the fleet, so that the container begins in it; the others are joined before the start.
fn network_mode(spec: &ContainerSpec, config: &DockerConfig) -> Option<String> {
    let first = spec.networks.first().map(|first| super::networks::name(&first.network, config));
    first.or_else(|| spec.network_mode.clone())
}

/// What the user says goes before the service network's own.
fn name_servers(new: &NewContainer) -> Vec<String> {
    if !new.spec.dns.is_empty() || new.spec.networks.is_empty() {
        return new.spec.dns.clone();
    }
    new.name_servers.iter().map(ToString::to_string).collect()
}

/// Docker takes an absent entrypoint for the image's, and so do some versions an empty list; one empty word resets it.
fn reset_if_empty(entrypoint: Vec<String>) -> Vec<String> {
    if entrypoint.is_empty() { vec![String::new()] } else { entrypoint }
}

/// The user's variables, then ours; of one name the last counts.
fn environment(new: &NewContainer) -> Vec<String> {
    let service = &new.replica.service;
    let ours = [
        ("OUTRIGGER_REPLICA", new.replica.to_string()),
        ("OUTRIGGER_STACK", service.stack.to_string()),
        ("OUTRIGGER_SERVICE", service.service.to_string()),
        ("OUTRIGGER_DEVICE", new.device.to_string()),
        ("OUTRIGGER_PLACEMENT", new.placement.to_string()),
    ];
    let mut names: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    let users = new.spec.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in users.chain(ours.iter().map(|(name, value)| (*name, value.as_str()))) {
        let line = format!("{name}={value}");
        match names.iter().position(|known| *known == name) {
            Some(at) => lines[at] = line,
            None => {
                names.push(name);
                lines.push(line);
            }
        }
    }
    lines
}

/// The user's labels, then ours, which nobody else can set.
fn labels(new: &NewContainer, config: &DockerConfig) -> HashMap<String, String> {
    let service = &new.replica.service;
    let ours = [
        (label::SCOPE, config.scope.clone()),
        (label::PLACEMENT, new.placement.to_string()),
        (label::FLEET, new.fleet.to_string()),
        (label::REPLICA, new.replica.to_string()),
        (label::STACK, service.stack.to_string()),
        (label::SERVICE, service.service.to_string()),
        (label::LOSS, new.loss.text().to_owned()),
    ];
    let users = new.spec.labels.iter().cloned();
    users.chain(ours.map(|(name, value)| (name.to_owned(), value))).collect()
}

fn port_key(port: &PublishedPort) -> String {
    format!("{}/{}", port.container, port_protocol_text(port.protocol))
}

fn port_bindings(ports: &[PublishedPort]) -> PortMap {
    let mut map = PortMap::new();
    // Those of the other mode are opened by the proxy, on every device.
    for port in ports.iter().filter(|port| port.mode == PublishMode::Host) {
        let binding = PortBinding {
            host_ip: port.address.map(|address| address.to_string()),
            // An empty port lets the engine pick a free one.
            host_port: Some(port.host.map(|host| host.to_string()).unwrap_or_default()),
        };
        map.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    map
}

fn healthcheck(check: &Healthcheck) -> HealthConfig {
    let nanoseconds = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let words = |first: &str, rest: &[String]| [&[first.to_owned()], rest].concat();
    HealthConfig {
        test: Some(match &check.test {
            HealthcheckTest::Disabled => words("NONE", &[]),
            HealthcheckTest::Inherited => Vec::new(),
            HealthcheckTest::Exec(program) => words("CMD", program),
            HealthcheckTest::Shell(line) => words("CMD-SHELL", std::slice::from_ref(line)),
        }),
        interval: check.interval.map(nanoseconds),
        timeout: check.timeout.map(nanoseconds),
        retries: check.retries.map(i64::from),
        start_period: check.start_period.map(nanoseconds),
        start_interval: check.start_interval.map(nanoseconds),
    }
}

fn ulimit(limit: &outrigger_protocol::Ulimit) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(limit.name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

fn device(device: &outrigger_protocol::DeviceMapping) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.host.clone()),
        path_in_container: Some(device.container.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    }
}

fn device_request(gpu: &GpuRequest) -> DeviceRequest {
    /// Docker's number for all of them.
    const ALL: i64 = -1;
    let default = || vec!["gpu".to_owned()];
    let capabilities = if gpu.capabilities.is_empty() { default() } else { gpu.capabilities.clone() };
    DeviceRequest {
        driver: gpu.driver.clone(),
        // Count and ids exclude each other.
        count: if gpu.ids.is_empty() { Some(gpu.count.map_or(ALL, i64::from)) } else { None },
        device_ids: some(gpu.ids.clone()),
        capabilities: Some(vec![capabilities]),
        options: None,
    }
}

/// Unbounded logs kill SD cards: where the user says nothing, 30 MB per container are kept, in the form that costs the
/// fewest writes. Podman has no `local` driver.
fn log_config(logging: Option<&LogConfig>, flavour: Flavour) -> HostConfigLogConfig {
    if let Some(logging) = logging {
        return HostConfigLogConfig {
            typ: Some(logging.driver.clone()),
            config: some_map(logging.options.iter().cloned().collect()),
        };
    }
    let options = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let (driver, options) = match flavour {
        Flavour::Docker => ("local", options(&[("max-size", "10m"), ("max-file", "3")])),
        Flavour::Podman => ("k8s-file", options(&[("max-size", "30m")])),
    };
    HostConfigLogConfig { typ: Some(driver.to_owned()), config: Some(options) }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}

fn some_map<V>(map: HashMap<String, V>) -> Option<HashMap<String, V>> {
    if map.is_empty() { None } else { Some(map) }
}

#[cfg(test)]
mod tests;

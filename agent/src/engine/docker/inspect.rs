//! What Docker tells about containers and images, as ours.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use outrigger_protocol::{Arch, CgroupVersion, EngineKind, PortProtocol};
use serde::de::DeserializeOwned;

use super::super::{
    Container, ContainerId, ContainerState, Description, EngineError, Health, Joined, LossLabel, label, port_protocol,
};
use super::ask::{ask, encode};
use super::{ASK, DIGESTS, DockerConfig, DockerEngine};

mod answer;

use answer::{Image, Info, Inspected, Listed, Port, State, Version};

/// Containers looked at at a time: more make the engine slower for everybody.
const AT_ONCE: usize = 8;
/// How often a list is asked for that fails because of a container removed meanwhile.
const LIST_TRIES: u32 = 10;

impl DockerEngine {
    pub(super) async fn ask<T: DeserializeOwned>(&self, path: &str, call: &'static str) -> Result<T, EngineError> {
        ask(&self.socket, path, call, ASK).await
    }

    pub(super) async fn describe_engine(&self) -> Result<Description, EngineError> {
        let (version, info): (Version, Info) =
            tokio::try_join!(self.ask("/version", "version"), self.ask("/info", "info"))?;
        if let Some(root) = info.docker_root_dir.as_ref().filter(|root| !root.is_empty()) {
            let _ = self.root.set(PathBuf::from(root));
        }
        let is_podman = version.components.iter().flatten().any(|component| component.name.contains("Podman"));
        Ok(Description {
            kind: if is_podman { EngineKind::Podman } else { EngineKind::Docker },
            version: version.version,
            arch: version.arch.parse::<Arch>().ok(),
            cgroup: match info.cgroup_version.as_str() {
                // Engines that say nothing know only the first.
                "1" | "v1" | "" => CgroupVersion::V1,
                "2" | "v2" => CgroupVersion::V2,
                _ => CgroupVersion::Unknown,
            },
            memory_limit: info.memory_limit,
            root_dir: info.docker_root_dir.map(PathBuf::from),
        })
    }

    pub(super) async fn list_ours(&self) -> Result<Vec<Container>, EngineError> {
        let filters = format!(r#"{{"label":["{}"]}}"#, self.scope_label());
        let path = format!("/containers/json?all=true&filters={}", encode(&filters));
        let mut tries = 0;
        let found: Vec<Listed> = loop {
            tries += 1;
            match self.ask(&path, "list containers").await {
                // Podman fails as a whole when one is removed while it lists.
                Err(EngineError::NoSuchContainer { .. }) if tries < LIST_TRIES => {}
                found => break found?,
            }
        };
        // The list itself does not say how a container ended, or which process to look at.
        let details = stream::iter(found).map(|one| async move { self.inspect_by(&one.id).await });
        let details = details.buffer_unordered(AT_ONCE);
        let mut containers: Vec<Container> = details.try_filter_map(async |one| Ok(one)).try_collect().await?;
        containers.sort_by(|a, b| a.placement.cmp(&b.placement).then_with(|| a.id.cmp(&b.id)));
        Ok(containers)
    }

    pub(super) fn scope_label(&self) -> String {
        format!("{}={}", label::SCOPE, self.config.scope)
    }

    pub(super) async fn inspect_by(&self, id: &str) -> Result<Option<Container>, EngineError> {
        let answer = match self.ask(&format!("/containers/{}/json", encode(id)), "inspect container").await {
            Err(EngineError::NoSuchContainer { .. }) => return Ok(None),
            other => other?,
        };
        let Some(mut container) = ours(answer, &self.config) else { return Ok(None) };
        // Here the digest is still the image's id.
        if let Some(digest) = self.digest_by_id(&container.digest).await? {
            container.digest = digest;
        }
        Ok(Some(container))
    }

    async fn digest_by_id(&self, image_id: &str) -> Result<Option<String>, EngineError> {
        if let Some(known) = self.digests().get(image_id) {
            return Ok(Some(known.clone()));
        }
        let digest = self.digest_of(image_id).await?;
        if let Some(digest) = &digest {
            let mut digests = self.digests();
            if digests.len() >= DIGESTS {
                digests.clear();
            }
            digests.insert(image_id.to_owned(), digest.clone());
        }
        Ok(digest)
    }

    fn digests(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn digest_of(&self, image: &str) -> Result<Option<String>, EngineError> {
        let found: Image = match self.ask(&format!("/images/{}/json", encode(image)), "inspect image").await {
            Err(EngineError::ImageNotFound { .. }) => return Ok(None),
            other => other?,
        };
        let digests = found.repo_digests.unwrap_or_default();
        Ok(choose_digest(image, &digests).or_else(|| Some(with_algorithm(found.id))))
    }
}

/// Podman leaves out what the hash is of.
fn with_algorithm(id: String) -> String {
    if id.contains(':') { id } else { format!("sha256:{id}") }
}

/// An image that was pulled under several names may have several digests: the one of the name asked for counts.
fn choose_digest(image: &str, repo_digests: &[String]) -> Option<String> {
    let name = super::pull::repository(image);
    let parts = || repo_digests.iter().filter_map(|entry| entry.split_once('@'));
    let of_name = parts().find(|(repository, _)| *repository == name || repository.ends_with(&format!("/{name}")));
    of_name.or_else(|| parts().next()).map(|(_, digest)| digest.to_owned())
}

/// The container if its labels make it ours. Labels that we cannot have written make it somebody else's.
fn ours(answer: Inspected, config: &DockerConfig) -> Option<Container> {
    let labels = answer.config.labels?;
    if *labels.get(label::SCOPE)? != config.scope {
        return None;
    }
    let joined = joined(&answer.network_settings, config);
    let state = answer.state;
    let since = if state.running { &state.started_at } else { &state.finished_at };
    Some(Container {
        id: ContainerId(answer.id.into()),
        placement: label::placement(labels.get(label::PLACEMENT)?)?,
        fleet: labels.get(label::FLEET).and_then(|text| text.parse().ok()),
        replica: labels.get(label::REPLICA)?.parse().ok()?,
        loss: labels.get(label::LOSS).and_then(|text| LossLabel::from_text(text)).unwrap_or(LossLabel::Available),
        since_unix: unix_seconds(since),
        state: state_of(&state),
        image: answer.config.image,
        digest: with_algorithm(answer.image),
        ports: answer.network_settings.ports.map(open_ports).unwrap_or_default(),
        pid: u32::try_from(state.pid).ok().filter(|&pid| pid != 0),
        joined,
    })
}

/// In the order of the networks' names: engines tell them in any.
fn joined(settings: &answer::Network, config: &DockerConfig) -> Vec<Joined> {
    let mut networks: Vec<_> = settings.networks.iter().flatten().collect();
    networks.sort_by_key(|(name, _)| *name);
    let one = |(name, endpoint): (&String, &Option<answer::Endpoint>)| {
        let texts = endpoint.iter().flat_map(|endpoint| [&endpoint.ip_address, &endpoint.global_ipv6_address]);
        let addresses = texts.flatten().filter_map(|text| text.parse().ok());
        // It shares the device's own network.
        let shared = (name == "host").then_some(IpAddr::from(Ipv4Addr::LOCALHOST));
        Joined { network: super::networks::fleets_name(name, config), addresses: addresses.chain(shared).collect() }
    };
    networks.into_iter().map(one).collect()
}

fn state_of(state: &State) -> ContainerState {
    if state.running {
        return ContainerState::Running { health: health_of(state) };
    }
    match state.status.as_str() {
        "dead" | "removing" => ContainerState::Dead,
        "created" | "configured" | "initialized" => ContainerState::Created,
        // The flag stays when a child was killed for memory and the main process went on to end well.
        _ => ContainerState::Exited { code: state.exit_code, out_of_memory: state.oom_killed && state.exit_code != 0 },
    }
}

fn health_of(state: &State) -> Health {
    match state.health.as_ref().map(|health| health.status.as_str()) {
        Some("starting") => Health::Starting,
        Some("healthy") => Health::Healthy,
        Some("unhealthy") => Health::Unhealthy,
        Some(_) | None => Health::None,
    }
}

/// One entry for each port, though Docker names it once for IPv4 and once for IPv6.
fn open_ports(map: HashMap<String, Option<Vec<Port>>>) -> Vec<(u16, u16, PortProtocol)> {
    let mut ports = Vec::new();
    for (key, bindings) in map {
        let Some((container, protocol)) = key.split_once('/') else { continue };
        let (Ok(container), Some(protocol)) = (container.parse(), port_protocol(protocol)) else { continue };
        let hosts = bindings.into_iter().flatten().filter_map(|binding| binding.host_port.parse().ok());
        ports.extend(hosts.map(|host| (container, host, protocol)));
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Seconds since 1970 of `2026-11-22T16:58:01.123456789Z`, or of the same with an offset; Docker's zero time is none.
/// The civil-date formula is Howard Hinnant's `days_from_civil`.
fn unix_seconds(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = year.div_euclid(400) * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year
        - 719_468;
    let local = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(local - offset_seconds(text.get(19..)?)?)
}

/// The offset behind the seconds and their fraction: `.123Z`, `+02:00`.
fn offset_seconds(rest: &str) -> Option<i64> {
    let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    if zone == "Z" || zone.is_empty() {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let seconds = hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().ok()? * 60;
    match sign {
        "+" => Some(seconds),
        "-" => Some(-seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

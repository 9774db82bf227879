//! How the container is reached and whom it reaches: ports, network mode, names.

use std::net::IpAddr;

use outrigger_protocol::ContainerSpec;

use super::world::World;
use super::{At, Fields, extra_hosts, networks, ports};
use crate::context::clip;
use crate::diagnostic::Severity::{Error, Warning};

pub(crate) fn read(fields: &mut Fields<'_>, world: &World<'_>, container: &mut ContainerSpec) {
    container.network_mode = fields.take_filled("network_mode").and_then(|at| mode(&at));
    let networks = fields.take("networks");
    match (&container.network_mode, &networks) {
        (Some(mode), Some(at)) => {
            at.report_key(Error, format!("`network_mode: {mode}` and `networks` contradict each other"))
        }
        (Some(_), None) => (),
        (None, at) => container.networks = networks::read_attachments(at.as_ref(), world),
    }
    if let Some(at) = fields.take("ports") {
        let joins = container.network_mode.is_none();
        container.ports = ports::read(&at, joins);
        let mode = container.network_mode.as_deref().filter(|mode| *mode != "bridge");
        if let Some(mode) = mode.filter(|_| !container.ports.is_empty()) {
            at.report_key(Warning, format!("ignored: with `network_mode: {mode}` there is nothing to publish"));
            container.ports.clear();
        }
    }
    if let Some(at) = fields.take("expose") {
        expose(&at);
    }
    container.hostname = fields.take_filled("hostname").and_then(|at| host_name(&at));
    container.dns = fields.take("dns").map(|at| name_servers(&at)).unwrap_or_default();
    container.extra_hosts = fields.take("extra_hosts").map(|at| extra_hosts::read(&at)).unwrap_or_default();
}

fn mode(at: &At<'_>) -> Option<String> {
    let text = at.filled()?;
    match text.as_str() {
        "host" | "none" | "bridge" => Some(text),
        _ if text.starts_with("service:") || text.starts_with("container:") => {
            at.error("not supported yet: sharing the network of another container");
            None
        }
        _ => {
            at.error(format!("`{}` must be one of `host`, `none`, `bridge`", clip(&text)));
            None
        }
    }
}

/// Says which ports others may use; nothing is opened by it, in Docker neither.
fn expose(at: &At<'_>) {
    for item in at.items() {
        let Some(text) = item.text() else { continue };
        let port = text.split_once('/').map_or(text, |(port, _)| port);
        let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
        if !port.split('-').all(is_port) || port.split('-').count() > 2 {
            item.error(format!("`{}` is no port", clip(text)));
        }
    }
}

/// As it was written: the container itself sees it.
fn host_name(at: &At<'_>) -> Option<String> {
    let text = at.filled()?;
    at.check(networks::host_name(&text)).map(|_| text)
}

fn name_servers(at: &At<'_>) -> Vec<String> {
    let mut servers = Vec::new();
    for item in at.one_or_items() {
        let Some(text) = item.text() else { continue };
        if text.parse::<IpAddr>().is_ok() {
            servers.push(text.to_owned());
        } else {
            item.error(format!("`{}` is no address of a name server", clip(text)));
        }
    }
    servers
}

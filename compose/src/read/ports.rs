//! `ports`: `8080:80`, ranges, addresses, protocols, and the long form.
//!
//! A port with a number and without an address is opened on every device and leads to all copies. The rest is the engine's:
//! what listens on one address, or on a port that the engine chooses, is a matter of the device where a copy runs.

use std::collections::HashSet;
use std::net::IpAddr;

use outrigger_protocol::{PortProtocol, PublishMode, PublishedPort};

use super::{At, Fields};
use crate::context::clip;

/// Ports of one service once its ranges are expanded. Each is a listening socket on the device.
const MAX_PORTS: usize = 1_000;

const PROTOCOLS: &[(&str, PortProtocol)] =
    &[("tcp", PortProtocol::Tcp), ("udp", PortProtocol::Udp), ("sctp", PortProtocol::Sctp)];

const MODES: &[(&str, PublishMode)] = &[("host", PublishMode::Host), ("ingress", PublishMode::Ingress)];

/// First and last port.
type Range = (u16, u16);

/// `joins`: whether the service joins networks of the fleet. Only then can other devices lead to its copies.
pub(crate) fn read(at: &At<'_>, joins: bool) -> Vec<PublishedPort> {
    let mut ports: Vec<PublishedPort> = Vec::new();
    let mut taken = HashSet::new();
    for item in at.items() {
        let (found, mode) = match item.is_map() {
            true => read_long(&item),
            false => (item.text().and_then(|text| item.check(parse(text))), None),
        };
        for mut port in found.unwrap_or_default() {
            port.mode = item.check(mode_of(&port, mode, joins)).unwrap_or_default();
            if port.mode == PublishMode::Ingress {
                // `0.0.0.0` is every address.
                port.address = None;
            }
            if let Some(host) = port.host
                && !taken.insert((host, port.address, port.protocol))
            {
                item.error(format!("port {host} of the device is published twice"));
                break;
            }
            ports.push(port);
        }
        if ports.len() > MAX_PORTS {
            at.error(format!("more than {MAX_PORTS} ports are published"));
            return Vec::new();
        }
    }
    ports
}

/// The ports, and the mode where it is written.
fn read_long(at: &At<'_>) -> (Option<Vec<PublishedPort>>, Option<PublishMode>) {
    let mut mode = None;
    (read_fields(at, &mut mode), mode)
}

/// Who opens a port: what is written, else whoever can.
fn mode_of(port: &PublishedPort, written: Option<PublishMode>, joins: bool) -> Result<PublishMode, String> {
    let hindrance = if port.host.is_none() {
        "it has no fixed number, so the engine chooses one where a copy runs"
    } else if port.address.is_some_and(|address| !address.is_unspecified()) {
        "it listens on one address, which is one device's"
    } else if port.protocol == PortProtocol::Sctp {
        "SCTP is not led from device to device"
    } else if !joins {
        "the container joins no network of the fleet"
    } else {
        return Ok(written.unwrap_or(PublishMode::Ingress));
    };
    match written {
        Some(PublishMode::Ingress) => Err(format!("`mode: ingress` opens the port on every device, but {hindrance}")),
        Some(PublishMode::Host) | None => Ok(PublishMode::Host),
    }
}

fn read_fields(at: &At<'_>, mode: &mut Option<PublishMode>) -> Option<Vec<PublishedPort>> {
    let mut fields = Fields::of(at)?;
    let target = fields.take("target");
    let published = fields.take("published").and_then(|at| at.filled().and_then(|text| at.check(host_range(&text))));
    let address = fields.take("host_ip").and_then(|at| at.filled().and_then(|text| at.check(address(&text))));
    let protocol = fields.take("protocol").and_then(|at| at.choice(PROTOCOLS)).unwrap_or(PortProtocol::Tcp);
    *mode = fields.take("mode").and_then(|at| at.choice(MODES));
    // They describe the port to people and proxies; the engine does nothing with them.
    fields.take("name");
    fields.take("app_protocol");
    fields.finish();
    let Some(target) = target else {
        at.error("`target` is missing: which port of the container?");
        return None;
    };
    let target = target.check(range(target.text()?, 1))?;
    at.check(expand(published.flatten(), target, address, protocol))
}

/// `[[address:][host[-host]]:]container[-container][/protocol]`
fn parse(text: &str) -> Result<Vec<PublishedPort>, String> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = PROTOCOLS.iter().find(|(name, _)| *name == protocol).map(|(_, protocol)| *protocol);
    let protocol = protocol.ok_or_else(|| format!("`{}` does not end with `/tcp`, `/udp` or `/sctp`", clip(text)))?;
    let (head, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (ip, host) = if let Some(bracketed) = head.strip_prefix('[') {
        let (ip, host) =
            bracketed.split_once(']').ok_or_else(|| format!("`{}` lacks a closing bracket", clip(text)))?;
        (Some(ip), host.strip_prefix(':').ok_or_else(|| format!("`{}` lacks a port of the device", clip(text)))?)
    } else {
        head.rsplit_once(':').map_or((None, head), |(ip, host)| (Some(ip), host))
    };
    let ip = ip.map(address).transpose()?;
    let host = if host.is_empty() { None } else { host_range(host)? };
    expand(host, range(container, 1)?, ip, protocol)
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| match text.contains(':') {
        true => format!("`{}` is no address of the device; IPv6 stands in brackets: `[::1]:8080:80`", clip(text)),
        false => format!("`{}` is no address of the device", clip(text)),
    })
}

/// Ports of the device; 0 leaves the choice to the engine.
fn host_range(text: &str) -> Result<Option<Range>, String> {
    range(text, 0).map(|range| (range != (0, 0)).then_some(range))
}

fn range(text: &str, least: u16) -> Result<Range, String> {
    let wrong = || format!("`{}` must be a port from 1 to 65535 or a range such as `8000-8005`", clip(text));
    let port = |text: &str| match text.bytes().all(|c| c.is_ascii_digit()) {
        true => text.parse::<u16>().ok().filter(|port| *port >= least).ok_or_else(wrong),
        false => Err(wrong()),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last || (first == 0 && last > 0) {
        return Err(format!("the range `{}` goes backwards", clip(text)));
    }
    Ok((first, last))
}

fn expand(
    host: Option<Range>,
    container: Range,
    address: Option<IpAddr>,
    protocol: PortProtocol,
) -> Result<Vec<PublishedPort>, String> {
    let length = |range: Range| usize::from(range.1 - range.0) + 1;
    if length(container) > MAX_PORTS {
        return Err(format!("the range has {} ports; at most {MAX_PORTS} are published", length(container)));
    }
    if let Some(host) = host.filter(|host| length(*host) != length(container)) {
        let (many, few) = (length(host), length(container));
        return Err(format!("{many} ports of the device and {few} of the container do not pair up"));
    }
    let ports = (container.0..=container.1).enumerate().map(|(index, port)| PublishedPort {
        container: port,
        host: host.and_then(|host| u16::try_from(usize::from(host.0) + index).ok()),
        address,
        protocol,
        mode: PublishMode::Host,
    });
    Ok(ports.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |port: PublishedPort| {
            let host = port.host.map_or("-".to_owned(), |host| host.to_string());
            let address = port.address.map_or("*".to_owned(), |address| address.to_string());
            format!("{address} {host} {} {:?}", port.container, port.protocol)
        };
        parse(text).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn every_short_form_of_the_specification_is_read() {
        assert_eq!(shown("3000"), ["* - 3000 Tcp"]);
        assert_eq!(shown("3000-3001"), ["* - 3000 Tcp", "* - 3001 Tcp"]);
        assert_eq!(shown("8000:80"), ["* 8000 80 Tcp"]);
        assert_eq!(shown("9090-9091:8080-8081"), ["* 9090 8080 Tcp", "* 9091 8081 Tcp"]);
        assert_eq!(shown("127.0.0.1:8001:8002"), ["127.0.0.1 8001 8002 Tcp"]);
        assert_eq!(shown("127.0.0.1::5000"), ["127.0.0.1 - 5000 Tcp"]);
        assert_eq!(shown("[::1]:80:81/udp"), ["::1 80 81 Udp"]);
        assert_eq!(shown("0:53/udp"), ["* - 53 Udp"]);
        assert_eq!(shown("22:22"), ["* 22 22 Tcp"]);
    }

    #[test]
    fn what_is_no_port_says_why() {
        for (text, message) in [
            ("80:", "`` must be a port from 1 to 65535 or a range such as `8000-8005`"),
            ("http", "`http` must be a port from 1 to 65535 or a range such as `8000-8005`"),
            ("70000:80", "`70000` must be a port from 1 to 65535 or a range such as `8000-8005`"),
            ("80:80/icmp", "`80:80/icmp` does not end with `/tcp`, `/udp` or `/sctp`"),
            ("90-80:80-90", "the range `90-80` goes backwards"),
            ("8000-8010:80", "11 ports of the device and 1 of the container do not pair up"),
            ("pi:80:80", "`pi` is no address of the device"),
            ("::1:80:80", "`::1` is no address"),
            ("1-65535", "the range has 65535 ports; at most 1000 are published"),
        ] {
            let error = parse(text).map(drop).err();
            if text == "::1:80:80" {
                assert!(error.is_none_or(|error| error.contains("address")));
                continue;
            }
            assert_eq!(error.as_deref(), Some(message), "{text}");
        }
    }
}

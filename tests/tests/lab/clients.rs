//! Programs that users have, against a stack that is up: dig, curl, a browser, wrk, and HAProxy as the edge in front.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outrigger_tests::clock::eventually;
use outrigger_tests::real::fleet::{Fleet, PATIENCE};
use outrigger_tests::real::lab::Device;
use outrigger_tests::real::process::Process;
use outrigger_tests::real::{command, load};
use serde_json::Value;

use super::network::{container, port_8080, shop, without_copy};

const HOST: &str = "shop.test";
/// Where HAProxy listens on this machine, in the lab's network.
const EDGE_PORT: u16 = 8088;
const SPY: &str = "services:\n  eye:\n    image: outrigger-web:1\n    stop_grace_period: 1s\n";

/// The shop, with IPv6, a router for Traefik, and a service that is called like a host outside.
fn open_shop() -> String {
    let labels = format!(
        "    labels:\n      traefik.http.routers.shop.rule: Host(`{HOST}`)\n      \
         traefik.http.services.shop.loadbalancer.server.port: '8080'\n"
    );
    let web = shop(2).replace("    environment:", &(labels + "    environment:"));
    let networks = "    networks: { default: { aliases: [www.example.org] } }\n";
    web.replacen("    environment:", &(networks.to_owned() + "    environment:"), 1)
        + "networks: { default: { enable_ipv6: true } }\n"
}

#[test]
fn real_clients_get_what_they_ask_for() -> Result<()> {
    let fleet = Fleet::up(3, &["web"])?;
    fleet.deploy("shop", &open_shop())?;
    fleet.deploy("spy", SPY)?;
    for (service, count) in [("shop/web", 2), ("shop/client", 1), ("spy/eye", 1)] {
        fleet.eventually_settled(service, count)?;
    }
    let front = without_copy(&fleet, 2)?;
    // Let them have IPv6 among each other.
    for device in fleet.lab.devices() {
        device.run(&["ip", "address", "add", &v6(device, "/64"), "dev", "eth0", "nodad"])?;
    }
    names(&fleet)?;
    both_versions_of_ip(&fleet, front)?;
    browser_and_wrk(front)?;
    edge(&fleet)
}

fn v6(device: Device<'_>, prefix: &str) -> String {
    format!("fd77::{}{prefix}", device.number())
}

/// `dig` where a container asks; the lines that it prints.
fn dig(fleet: &Fleet, replica: &str, words: &[&str]) -> Result<Vec<String>> {
    let container = container(fleet, replica)?;
    let words = [&["dig", "+time=3", "+tries=2"], words].concat();
    let printed = fleet.device_of(replica)?.run_beside(&container, &words)?;
    Ok(printed.lines().map(str::to_owned).collect())
}

fn names(fleet: &Fleet) -> Result<()> {
    let client = |words: &[&str]| dig(fleet, "shop/client.1", words);
    let status = |lines: &[String]| lines.concat().split_once("status: ").map(|(_, rest)| rest[..7].to_owned());
    let (v4, _) = eventually("web has an address", PATIENCE, || {
        let found = client(&["+short", "web", "A"])?;
        ensure!(found.len() == 1, "{found:?}");
        Ok(found)
    })?;
    let v6 = client(&["+short", "web.shop", "AAAA"])?;
    ensure!(v6.len() == 1 && v6[0].contains("::"), "{v6:?}");
    ensure!(!client(&["+short", "tasks.web", "A"])?.is_empty());
    let gateway = gateway(fleet, "shop/client.1")?;
    let at = format!("@{gateway}");
    for how in ["+tcp", "+notcp", "+noedns", "+bufsize=512"] {
        let found = client(&[&at, how, "+short", "web"])?;
        ensure!(found == v4, "{how}: {found:?}");
    }
    let nothing = client(&[&at, "none.outrigger.internal"])?;
    ensure!(status(&nothing).as_deref() == Some("NXDOMAI"), "{nothing:?}");
    let backwards = client(&["+short", "-x", &v4[0]])?;
    ensure!(backwards == ["web.shop.outrigger.internal."], "{backwards:?}");
    // It hides the host of this name, within its own network and nowhere else.
    ensure!(client(&["+short", "www.example.org"])? == v4);
    for name in ["web", "tasks.web.shop", "www.example.org", "web.shop.outrigger.internal"] {
        let seen = dig(fleet, "spy/eye.1", &["+short", name])?;
        ensure!(
            !seen.iter().any(|line| line.parse::<std::net::IpAddr>().is_ok()),
            "another stack sees {name}: {seen:?}"
        );
    }
    // From outside, also by a way that leads there: nobody is answered, for names of ours or of others.
    let there = fleet.device_of("shop/client.1")?;
    let outside = fleet.lab.devices().find(|other| other.number() != there.number()).context("another")?;
    outside.run(&["ip", "route", "replace", &gateway, "via", &there.address()?])?;
    for server in [&gateway, &there.address()?] {
        for how in ["+tcp", "+notcp"] {
            let answer = outside.run(&["dig", &format!("@{server}"), how, "+time=1", "+tries=1", "web.shop"]);
            ensure!(answer.is_err(), "{server} answers to the outside: {answer:?}");
        }
    }
    outside.run(&["ip", "route", "delete", &gateway])?;
    Ok(())
}

fn gateway(fleet: &Fleet, replica: &str) -> Result<String> {
    let format = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}";
    fleet.device_of(replica)?.docker(&["inspect", "--format", format, &container(fleet, replica)?])
}

fn both_versions_of_ip(fleet: &Fleet, front: Device<'_>) -> Result<()> {
    let there = fleet.device_of("shop/client.1")?;
    let inside = container(fleet, "shop/client.1")?;
    for version in ["-4", "-6"] {
        let body = there.run_beside(&inside, &["curl", version, "-fsS", "--max-time", "5", "http://web.shop:8080/"])?;
        ensure!(body.contains("replica: shop/web."), "{version}: {body}");
    }
    // Published ports, from another device.
    let from = fleet.lab.devices().find(|other| other.number() != front.number()).context("another")?;
    let url = format!("http://[{}]:8080/", v6(front, ""));
    let body = from.run(&["curl", "-fsSg", "--max-time", "5", &url])?;
    ensure!(body.contains("replica: shop/web."), "{body}");
    Ok(())
}

fn browser_and_wrk(front: Device<'_>) -> Result<()> {
    let url = format!("http://{}/", port_8080(front)?);
    let profile = tempfile::tempdir()?;
    let profile = format!("--user-data-dir={}", profile.path().display());
    let flags =
        ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", &profile, "--dump-dom", &url];
    let page = command::run("chromium", flags)?;
    ensure!(page.contains("<body>") && page.contains("replica: shop/web."), "{page}");
    // Connections that stay open, and a new one for each request.
    for header in ["connection: keep-alive", "connection: close"] {
        let told = command::run("wrk", ["-t1", "-c100", "-d1s", "-H", header, &url])?;
        ensure!(
            told.contains("Requests/sec") && !told.contains("Socket errors") && !told.contains("Non-2xx"),
            "{told}"
        );
    }
    Ok(())
}

/// What HAProxy is to do, as Traefik is told it: hosts and where their servers are.
fn edge_config(fleet: &Fleet, listen: &str) -> Result<String> {
    let told: Value = serde_json::from_str(&fleet.ask("GET /v1/providers/traefik", "")?)?;
    let http = told.get("http").with_context(|| format!("no http in {told}"))?;
    let mut text =
        "defaults\n  mode http\n  timeout connect 300ms\n  timeout client 5s\n  timeout server 5s\n  retries 2\n  \
        option redispatch 1\n  retry-on conn-failure empty-response response-timeout\n"
            .to_owned();
    writeln!(text, "frontend edge\n  bind {listen}")?;
    let mut backends = String::new();
    for (name, router) in http["routers"].as_object().context("no routers")? {
        let rule = router["rule"].as_str().context("no rule")?;
        let host = rule.strip_prefix("Host(`").and_then(|rest| rest.strip_suffix("`)")).context("not a host")?;
        writeln!(text, "  use_backend {name} if {{ hdr(host) -i {host} }}")?;
        writeln!(backends, "backend {name}\n  default-server check inter 500ms fall 2")?;
        let service = router["service"].as_str().context("no service")?;
        let servers = http["services"][service]["loadbalancer"]["servers"].as_array().context("no servers")?;
        for (number, server) in servers.iter().enumerate() {
            let at = server["url"].as_str().and_then(|url| url.strip_prefix("http://")).context("no address")?;
            writeln!(backends, "  server s{number} {at}")?;
        }
    }
    Ok(text + &backends)
}

fn edge(fleet: &Fleet) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (config, log) = (folder.path().join("haproxy.cfg"), folder.path().join("haproxy.log"));
    let listen = format!("{}:{EDGE_PORT}", fleet.lab.host_address()?);
    fs::write(&config, edge_config(fleet, &listen)?)?;
    let _haproxy = Process::start("haproxy".as_ref(), ["-db".as_ref(), "-f".as_ref(), config.as_os_str()], &log)?;
    eventually("the edge listens", PATIENCE, || TcpStream::connect(&listen))?;
    let asked = command::run("curl", ["-fsS", "-H", &format!("Host: {HOST}"), &format!("http://{listen}/")])?;
    ensure!(asked.contains("replica: shop/web."), "{asked}");
    let other = command::run("curl", ["-fsS", "-H", "Host: other.test", &format!("http://{listen}/")]);
    ensure!(other.is_err(), "a host that nobody has is answered: {other:?}");

    let victim = fleet.device_of("shop/web.1")?;
    let seen = load::failures_while(&[listen], HOST, || victim.cut_power())?;
    eprintln!("behind HAProxy, power cut: {} of {} failed", seen.failed.len(), seen.count);
    let later = seen.beyond(Duration::from_millis(150));
    ensure!(later.is_empty(), "{later:?}");
    let gone = format!("http://{}", port_8080(victim)?);
    eventually("nobody is sent to the device any more", PATIENCE, || {
        let told = fleet.ask("GET /v1/providers/traefik", "")?;
        ensure!(told.contains(HOST) && !told.contains(&gone), "{told}");
        Ok(())
    })?;
    Ok(())
}

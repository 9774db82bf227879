//! Every supported key of a service, in its short and in its long form.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use outrigger_compose::{Sources, load};
use outrigger_protocol::{
    Attachment, Bytes, ContainerSpec, DeviceMapping, GpuRequest, Healthcheck, HealthcheckTest, LossPolicy, MilliCpu,
    Mode, Mount, MountKind, Order, PortProtocol, PublishMode, PublishedPort, RestartCondition, RestartPolicy,
    ServiceSpec, Traffic, UpdateFailure, VolumeMove,
};

/// The service of a file in which `keys` stand under it, with a few volumes and a second service around.
fn service(keys: &str) -> ServiceSpec {
    let indented: String = keys.lines().map(|line| format!("    {line}\n")).collect();
    let text = format!(
        "name: s\nservices:\n  web:\n    image: x\n{indented}  db: {{ image: y }}\n  other-1: {{ image: y }}\n\
         volumes: {{ data: , shared: {{ external: true }}, nfs: {{ driver: local, driver_opts: {{ type: nfs }} }}, \
         named: {{ name: its-own }}, outside: {{ external: {{ name: older }} }}, \
         both: {{ external: true, name: real }} }}\n"
    );
    let mut sources = Sources::of("compose.yaml", &text);
    sources.files.insert("a.env".to_owned(), "A=1\nB=1\n".to_owned());
    sources.files.insert("b.env".to_owned(), "B='2'\n".to_owned());
    sources.variables.insert("HOST".to_owned(), "pi".to_owned());
    let outcome = load(None, &sources);
    let shown: Vec<String> = outcome.diagnostics.iter().map(ToString::to_string).collect();
    assert!(shown.is_empty(), "{text}\n{shown:#?}");
    outcome.stack.unwrap().services.into_iter().find(|service| service.name.as_str() == "web").unwrap()
}

fn container(keys: &str) -> ContainerSpec {
    service(keys).container
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn words(of: &[&str]) -> Vec<String> {
    of.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn nothing_but_an_image_gets_the_defaults() {
    let plain = service("");
    let expected = ContainerSpec {
        image: "x".to_owned(),
        stop_grace: Duration::from_secs(10),
        networks: vec![Attachment { network: "s_default".parse().unwrap(), aliases: vec![] }],
        ..ContainerSpec::default()
    };
    assert_eq!(plain.traffic, Traffic::default());
    assert_eq!(plain.container, expected);
    assert_eq!((plain.mode, plain.loss, plain.lost_after), (Mode::Replicated(1), LossPolicy::Available, None));
    assert_eq!(plain.volume_move, VolumeMove::Stay);
    assert_eq!(plain.container.restart.condition, RestartCondition::Any);
}

#[test]
fn commands_are_lines_or_lists_and_empty_ones_reset() {
    assert_eq!(container("command: sh -c 'echo \"a b\"'").command, Some(words(&["sh", "-c", "echo \"a b\""])));
    assert_eq!(container("command: [sh, -c, echo a b, 5]").command, Some(words(&["sh", "-c", "echo a b", "5"])));
    assert_eq!(container("command: >-\n  a\n  b").command, Some(words(&["a", "b"])));
    assert_eq!(container("command:").command, None);
    assert_eq!(container("entrypoint: ''").entrypoint, Some(vec![]));
    assert_eq!(container("entrypoint: []").entrypoint, Some(vec![]));
    assert_eq!(container("entrypoint: /run.sh -v").entrypoint, Some(words(&["/run.sh", "-v"])));
}

#[test]
fn environment_is_a_list_or_a_mapping_over_files() {
    let expected = pairs(&[("A", "x=y"), ("B", ""), ("HOST", "pi"), ("N", "010"), ("T", "yes")]);
    assert_eq!(container("environment: [A=x=y, B=, HOST, GONE, N=010, T=yes]").environment, expected);
    assert_eq!(container("environment: { A: x=y, B: '', HOST: , GONE: , N: 010, T: yes }").environment, expected);
    assert_eq!(container("env_file: a.env").environment, pairs(&[("A", "1"), ("B", "1")]));
    assert_eq!(container("env_file: [a.env, ./b.env]").environment, pairs(&[("A", "1"), ("B", "2")]));
    let long = "env_file:\n  - path: a.env\n  - { path: none.env, required: false }\n  - { path: b.env, format: raw }";
    assert_eq!(container(long).environment, pairs(&[("A", "1"), ("B", "'2'")]));
    assert_eq!(container("env_file: a.env\nenvironment: [A]").environment, pairs(&[("B", "1")]));
    assert_eq!(container("env_file: a.env\nenvironment: { A: 3 }").environment, pairs(&[("A", "3"), ("B", "1")]));
}

#[test]
fn labels_are_a_list_or_a_mapping_or_a_file() {
    let expected = pairs(&[("a.b", "c"), ("on", ""), ("x", "true")]);
    assert_eq!(container("labels: [a.b=c, on, x=true]").labels, expected);
    assert_eq!(container("labels: { x: true, a.b: c, on: }").labels, expected);
    assert_eq!(container("label_file: a.env\nlabels: { A: 2 }").labels, pairs(&[("A", "2"), ("B", "1")]));
}

#[test]
fn ports_are_short_or_long() {
    let port = |host, container| PublishedPort {
        container,
        host,
        address: None,
        protocol: PortProtocol::Tcp,
        // A fixed number without an address is opened everywhere.
        mode: if host.is_some() { PublishMode::Ingress } else { PublishMode::Host },
    };
    assert_eq!(container("ports: [80, '8080:81']").ports, [port(None, 80), port(Some(8080), 81)]);
    let range = container("ports: ['8000-8002:80-82']").ports;
    assert_eq!(range, [port(Some(8000), 80), port(Some(8001), 81), port(Some(8002), 82)]);
    let long = "ports:\n  - target: 53\n    published: 5353\n    host_ip: '::1'\n    protocol: udp\n    mode: host\n    name: dns\n    app_protocol: dns";
    let expected = PublishedPort {
        container: 53,
        host: Some(5353),
        address: Some("::1".parse().unwrap()),
        protocol: PortProtocol::Udp,
        mode: PublishMode::Host,
    };
    assert_eq!(container(long).ports, [expected]);
    assert_eq!(container("ports: [{ target: 80, published: '8080' }]").ports, [port(Some(8080), 80)]);
    let host = PublishedPort { mode: PublishMode::Host, ..port(Some(8080), 80) };
    assert_eq!(container("ports: [{ target: 80, published: '8080', mode: host }]").ports, std::slice::from_ref(&host));
    assert_eq!(container("network_mode: bridge\nports: ['8080:80']").ports, std::slice::from_ref(&host));
    assert_eq!(container("ports: ['0.0.0.0:8080:80']").ports, [port(Some(8080), 80)]);
    let local = PublishedPort { address: Some("127.0.0.1".parse().unwrap()), ..host };
    assert_eq!(container("ports: ['127.0.0.1:8080:80']").ports, [local]);
    assert_eq!(container("expose: [80, '90-91/udp']").ports, []);
}

fn volume(name: &str) -> MountKind {
    MountKind::Volume { name: name.to_owned(), driver: None, options: vec![] }
}

fn mounts(keys: &str) -> Vec<Mount> {
    container(keys).mounts
}

#[test]
fn volumes_are_short_or_long() {
    let mount = |kind, target: &str, read_only| Mount { kind, target: target.to_owned(), read_only };
    assert_eq!(mounts("volumes: ['data:/d']"), [mount(volume("s_data"), "/d", false)]);
    assert_eq!(mounts("volumes: ['shared:/d:ro']"), [mount(volume("shared"), "/d", true)]);
    assert_eq!(mounts("volumes: ['named:/d:rw,cached']"), [mount(volume("its-own"), "/d", false)]);
    assert_eq!(mounts("volumes: ['outside:/d']"), [mount(volume("older"), "/d", false)]);
    assert_eq!(mounts("volumes: ['both:/d']"), [mount(volume("real"), "/d", false)]);
    assert_eq!(mounts("volumes: [/cache]"), [mount(MountKind::Anonymous, "/cache", false)]);
    let bind = |create| MountKind::Bind { source: "/srv".to_owned(), create };
    assert_eq!(mounts("volumes: ['/srv:/d:ro']"), [mount(bind(true), "/d", true)]);
    let nfs = MountKind::Volume {
        name: "s_nfs".to_owned(),
        driver: Some("local".to_owned()),
        options: pairs(&[("type", "nfs")]),
    };
    let long = "volumes:\n  - { type: volume, source: nfs, target: /d, read_only: true }\n  - { type: volume, target: /e }\n  \
                - { type: bind, source: /srv, target: /f, bind: { create_host_path: false }, consistency: cached }\n  \
                - { type: bind, source: /srv, target: /g }\n  \
                - { type: tmpfs, target: /h, tmpfs: { size: 64m, mode: 01777 } }\n  - { type: tmpfs, target: /i }";
    assert_eq!(
        mounts(long),
        [
            mount(nfs, "/d", true),
            mount(MountKind::Anonymous, "/e", false),
            mount(bind(false), "/f", false),
            mount(bind(true), "/g", false),
            mount(MountKind::Tmpfs { size: Some(Bytes(64 << 20)), mode: Some(0o1777) }, "/h", false),
            mount(MountKind::Tmpfs { size: None, mode: None }, "/i", false),
        ]
    );
    assert_eq!(mounts("tmpfs: /run"), [mount(MountKind::Tmpfs { size: None, mode: None }, "/run", false)]);
    let sized = MountKind::Tmpfs { size: Some(Bytes(1 << 20)), mode: Some(0o755) };
    assert_eq!(mounts("tmpfs: ['/run:size=1m,mode=755,ro']"), [mount(sized, "/run", true)]);
}

#[test]
fn healthchecks_are_lists_lines_or_switched_off() {
    let check = |keys: &str| container(keys).healthcheck.unwrap();
    let test = |keys: &str| check(keys).test;
    assert_eq!(
        check(
            "healthcheck: { test: [CMD, curl, -f, http://x], interval: 1m30s, timeout: 10s, retries: 3, start_period: 40s, \
             start_interval: 5s }"
        ),
        Healthcheck {
            test: HealthcheckTest::Exec(words(&["curl", "-f", "http://x"])),
            interval: Some(Duration::from_secs(90)),
            timeout: Some(Duration::from_secs(10)),
            retries: Some(3),
            start_period: Some(Duration::from_secs(40)),
            start_interval: Some(Duration::from_secs(5)),
        }
    );
    let shell = HealthcheckTest::Shell("curl -f x || exit 1".to_owned());
    assert_eq!(test("healthcheck: { test: curl -f x || exit 1 }"), shell);
    assert_eq!(test("healthcheck: { test: [CMD-SHELL, curl -f x || exit 1] }"), shell);
    assert_eq!(test("healthcheck: { test: [NONE] }"), HealthcheckTest::Disabled);
    assert_eq!(test("healthcheck: { disable: true }"), HealthcheckTest::Disabled);
    assert_eq!(test("healthcheck: { interval: 5s }"), HealthcheckTest::Inherited);
}

#[test]
fn restart_has_an_older_and_a_newer_form() {
    let policy = |keys: &str| container(keys).restart;
    let plain = |condition| RestartPolicy { condition, ..RestartPolicy::default() };
    assert_eq!(policy("restart: no"), plain(RestartCondition::None));
    assert_eq!(policy("restart: 'no'"), plain(RestartCondition::None));
    assert_eq!(policy("restart: always"), plain(RestartCondition::Any));
    assert_eq!(policy("restart: unless-stopped"), plain(RestartCondition::Any));
    assert_eq!(policy("restart: on-failure"), plain(RestartCondition::OnFailure));
    assert_eq!(policy("restart: on-failure:5").max_attempts, Some(5));
    let newer = "restart: no\ndeploy: { restart_policy: { condition: any, delay: 1s, max_attempts: 0, window: 2m } }";
    let expected = RestartPolicy {
        condition: RestartCondition::Any,
        delay: Some(Duration::from_secs(1)),
        max_attempts: None,
        window: Some(Duration::from_secs(120)),
    };
    assert_eq!(policy(newer), expected);
}

#[test]
fn the_process_is_as_the_file_says() {
    let spec = container(
        "user: 1000:1000\nworking_dir: /app\nhostname: web.lan\nplatform: linux/arm64/v8\ncap_add: [NET_ADMIN]\ncap_drop: \
         [ALL]\nread_only: true\ninit: true\ntty: true\nprivileged: true\nstop_signal: SIGINT\nstop_grace_period: 1m30s\n\
         security_opt: ['no-new-privileges:true']\ngroup_add: [dialout, 44]\ndns: 1.1.1.1\nshm_size: 64mb\nnetwork_mode: host",
    );
    assert_eq!((spec.user.as_deref(), spec.working_dir.as_deref()), (Some("1000:1000"), Some("/app")));
    assert_eq!((spec.hostname.as_deref(), spec.network_mode.as_deref()), (Some("web.lan"), Some("host")));
    assert_eq!(spec.platform.unwrap().to_string(), "linux/arm64");
    assert_eq!((spec.cap_add, spec.cap_drop), (words(&["NET_ADMIN"]), words(&["ALL"])));
    assert!(spec.read_only && spec.tty && spec.privileged && spec.init == Some(true));
    assert_eq!((spec.stop_signal.as_deref(), spec.stop_grace), (Some("SIGINT"), Duration::from_secs(90)));
    assert_eq!(spec.security_opt, words(&["no-new-privileges:true"]));
    assert_eq!(spec.group_add, words(&["dialout", "44"]));
    assert_eq!((spec.dns, spec.shm_size), (words(&["1.1.1.1"]), Some(Bytes(64 << 20))));
    assert_eq!(container("dns: [1.1.1.1, '::1']").dns, words(&["1.1.1.1", "::1"]));
    assert_eq!(container("user: 1000").user.as_deref(), Some("1000"));
}

#[test]
fn kernel_settings_are_pairs() {
    let sysctls = pairs(&[("net.core.somaxconn", "1024"), ("net.ipv4.tcp_syncookies", "0")]);
    assert_eq!(container("sysctls: { net.core.somaxconn: 1024, net.ipv4.tcp_syncookies: 0 }").sysctls, sysctls);
    assert_eq!(container("sysctls: [net.ipv4.tcp_syncookies=0, net.core.somaxconn=1024]").sysctls, sysctls);
    let limits = container("ulimits: { nproc: 65535, nofile: { soft: 100, hard: -1 }, core: -1 }").ulimits;
    let shown: Vec<_> = limits.iter().map(|limit| (limit.name.as_str(), limit.soft, limit.hard)).collect();
    assert_eq!(shown, [("core", -1, -1), ("nofile", 100, -1), ("nproc", 65535, 65535)]);
}

#[test]
fn devices_are_short_or_long() {
    let device = |host: &str, container: &str, permissions: &str| DeviceMapping {
        host: host.to_owned(),
        container: container.to_owned(),
        permissions: permissions.to_owned(),
    };
    let short = "devices: [/dev/a, '/dev/b:/dev/c', '/dev/b:/dev/d:r', '/dev/e:rw']";
    let expected = [
        device("/dev/a", "/dev/a", "rwm"),
        device("/dev/b", "/dev/c", "rwm"),
        device("/dev/b", "/dev/d", "r"),
        device("/dev/e", "/dev/e", "rw"),
    ];
    assert_eq!(container(short).devices, expected);
    let long = "devices: [{ source: /dev/a, target: /dev/b, permissions: rw }, { source: /dev/a }]";
    assert_eq!(container(long).devices, [device("/dev/a", "/dev/b", "rw"), device("/dev/a", "/dev/a", "rwm")]);
}

#[test]
fn gpus_are_all_or_named_and_are_reserved() {
    let all = service("gpus: all");
    let request = |count, ids: &[&str], driver: Option<&str>| GpuRequest {
        driver: driver.map(str::to_owned),
        count,
        ids: words(ids),
        capabilities: words(&["gpu"]),
    };
    assert_eq!(all.container.gpus, [request(None, &[], None)]);
    assert_eq!((all.reservation.generic[0].kind.as_str(), all.reservation.generic[0].count), ("gpu", 1));
    let two = service("gpus: [{ count: 2 }, { device_ids: ['0', '3', '4'], driver: nvidia }]");
    assert_eq!(two.container.gpus, [request(Some(2), &[], None), request(None, &["0", "3", "4"], Some("nvidia"))]);
    assert_eq!(two.reservation.generic[0].count, 5);
    let deployed =
        service("deploy: { resources: { reservations: { devices: [{ capabilities: [gpu], count: all }] } } }");
    assert_eq!(deployed.container.gpus, [request(None, &[], None)]);
}

#[test]
fn extra_hosts_are_a_list_or_a_mapping() {
    let expected = pairs(&[("a", "1.2.3.4"), ("b", "::1"), ("gate", "host-gateway")]);
    assert_eq!(container("extra_hosts: ['a:1.2.3.4', 'b=::1', 'gate:host-gateway']").extra_hosts, expected);
    assert_eq!(container("extra_hosts: { a: 1.2.3.4, b: '[::1]', gate: host-gateway }").extra_hosts, expected);
    let several = pairs(&[("a", "1.2.3.4"), ("a", "::1")]);
    assert_eq!(container("extra_hosts: { a: [1.2.3.4, '::1'] }").extra_hosts, several);
}

#[test]
fn logging_takes_a_driver_and_options() {
    let log =
        container("logging: { driver: syslog, options: { syslog-address: 'tcp://1.2.3.4:123' } }").logging.unwrap();
    assert_eq!((log.driver.as_str(), log.options), ("syslog", pairs(&[("syslog-address", "tcp://1.2.3.4:123")])));
    let log = container("logging: { options: { max-size: 1m } }").logging.unwrap();
    assert_eq!(log.driver, "json-file");
}

#[test]
fn limits_have_an_older_and_a_newer_form() {
    for keys in [
        "cpus: 0.5\nmem_limit: 1.5g\npids_limit: 10\nmem_reservation: 512m",
        "cpu_quota: 50000\ncpu_period: 100000\nmem_limit: 1536m\npids_limit: 10\nmem_reservation: 512m",
        "deploy: { resources: { limits: { cpus: '0.5', memory: 1.5gb, pids: 10 }, reservations: { memory: 512M } } }",
        "cpus: 0.50\ndeploy: { resources: { limits: { cpus: 0.5, memory: 1536m, pids: 10 }, reservations: { memory: 512M } } }",
    ] {
        let service = service(keys);
        let limits = service.container.limits;
        let expected = (Some(MilliCpu(500)), Some(Bytes(3 << 29)), Some(10));
        assert_eq!((limits.cpu, limits.memory, limits.pids), expected, "{keys}");
        assert_eq!(service.reservation.memory, Bytes(512 << 20), "{keys}");
    }
    assert_eq!(container("cpus: 0\nmem_limit: 0").limits, ContainerSpec::default().limits);
    for none in ["pids_limit: -1", "pids_limit: 0", "deploy: { resources: { limits: { pids: -1 } } }"] {
        assert_eq!(container(none).limits.pids, Some(0), "{none}");
    }
}

#[test]
fn copies_are_counted_in_three_ways() {
    assert_eq!(service("scale: 3").mode, Mode::Replicated(3));
    assert_eq!(service("deploy: { replicas: 4 }").mode, Mode::Replicated(4));
    assert_eq!(service("deploy: { replicas: 0, mode: replicated }").mode, Mode::Replicated(0));
    assert_eq!(service("scale: 2\ndeploy: { replicas: \"${N:-2}\" }").mode, Mode::Replicated(2));
    assert_eq!(service("deploy: { mode: global }").mode, Mode::Global);
}

#[test]
fn updates_go_as_the_file_says() {
    let config = |keys: &str| service(&format!("deploy: {{ update_config: {{ {keys} }} }}")).update;
    let plain = config("");
    assert_eq!((plain.parallelism, plain.order, plain.failure), (1, Order::StopFirst, UpdateFailure::Pause));
    let full = config("parallelism: 0, delay: 10s, failure_action: continue, monitor: 1m, order: start-first");
    assert_eq!((full.parallelism, full.order, full.failure), (0, Order::StartFirst, UpdateFailure::Continue));
    assert_eq!((full.delay, full.monitor), (Duration::from_secs(10), Duration::from_secs(60)));
}

#[test]
fn dependencies_are_a_list_or_a_mapping() {
    for keys in [
        "depends_on: [other-1, db]",
        "depends_on: { db: { condition: service_healthy }, other-1: , gone: { required: false } }",
    ] {
        let names: Vec<String> = service(keys).depends_on.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["db", "other-1"], "{keys}");
    }
}

#[test]
fn our_own_keys_stand_under_x_outrigger() {
    let ours = service("x-outrigger: { on_device_loss: exclusive, lost_after: 10s, volume_move: allow }");
    assert_eq!(ours.loss, LossPolicy::Exclusive { lease: Duration::from_secs(30) });
    assert_eq!((ours.lost_after, ours.volume_move), (Some(Duration::from_secs(10)), VolumeMove::Allow));
    assert_eq!(service("x-outrigger:\n  on_device_loss: wait").loss, LossPolicy::Wait);
    assert_eq!(service("x-mine: [1, 2]\nx-other: { a: $$b }").loss, LossPolicy::Available);
}

#[test]
fn a_service_extends_another_one_key_by_key() {
    let text = "name: s\nservices:\n  base:\n    image: a\n    command: [a, b]\n    environment: [A=1, B=1]\n    labels: { l: 1 }\n    \
                ports: ['80:80']\n    volumes: ['/a:/d', '/b:/e']\n    dns: 1.1.1.1\n    cap_add: [X]\n    ulimits: { core: 1 }\n    \
                logging: { driver: syslog, options: { tag: x } }\n    healthcheck: { test: [CMD, a], retries: 2 }\n    \
                deploy: { replicas: 2, labels: [d=1] }\n  web:\n    extends: { service: base }\n    command: [c]\n    \
                environment: { B: 2, C: 3 }\n    labels: [m=2]\n    ports: ['80:80', '81:81']\n    volumes: ['/c:/e:ro']\n    \
                dns: [1.0.0.1]\n    cap_add: [Y, X]\n    ulimits: { core: 2, nofile: 3 }\n    logging: { driver: json-file }\n    \
                healthcheck: { test: [CMD, b] }\n    deploy: { labels: { e: 2 } }\n    user:\n  third:\n    extends: web\n";
    let outcome = load(None, &Sources::of("compose.yaml", text));
    let shown: Vec<String> = outcome.diagnostics.iter().map(ToString::to_string).collect();
    assert!(shown.is_empty(), "{shown:#?}");
    let services = outcome.stack.unwrap().services;
    let web = services.iter().find(|service| service.name.as_str() == "third").unwrap();
    let spec = &web.container;
    assert_eq!((spec.image.as_str(), spec.command.clone()), ("a", Some(words(&["c"]))));
    assert_eq!(spec.environment, pairs(&[("A", "1"), ("B", "2"), ("C", "3")]));
    assert_eq!(spec.labels, pairs(&[("l", "1"), ("m", "2")]));
    assert_eq!(spec.ports.iter().map(|port| port.container).collect::<Vec<_>>(), [80, 81]);
    let targets: Vec<_> = spec.mounts.iter().map(|mount| (mount.target.as_str(), mount.read_only)).collect();
    assert_eq!(targets, [("/d", false), ("/e", true)]);
    assert_eq!(spec.dns, words(&["1.1.1.1", "1.0.0.1"]));
    assert_eq!(spec.cap_add, words(&["X", "Y"]));
    assert_eq!(spec.ulimits.iter().map(|limit| limit.soft).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(spec.logging.as_ref().unwrap().options, []);
    let check = spec.healthcheck.as_ref().unwrap();
    assert_eq!((&check.test, check.retries), (&HealthcheckTest::Exec(words(&["b"])), Some(2)));
    assert_eq!((web.mode, web.labels.clone()), (Mode::Replicated(2), pairs(&[("d", "1"), ("e", "2")])));
}

#[test]
fn templates_merge_with_the_nearest_key_winning() {
    let text = "name: s\nx-a: &a { image: a, user: a, working_dir: /a }\nx-b: &b { user: b, hostname: b }\nservices:\n  one:\n    \
                <<: [*a, *b]\n    working_dir: /mine\n  two:\n    <<: *b\n    image: ${IMAGE:-c}\n    environment: &env { A: 1 }\n  \
                three:\n    image: d\n    environment: { <<: *env, B: 2 }\n";
    let outcome = load(None, &Sources::of("compose.yaml", text));
    assert_eq!(outcome.diagnostics, []);
    let services = outcome.stack.unwrap().services;
    let one = &services[0].container;
    assert_eq!((one.image.as_str(), one.user.as_deref(), one.hostname.as_deref()), ("a", Some("a"), Some("b")));
    assert_eq!(one.working_dir.as_deref(), Some("/mine"));
    assert_eq!(services[1].container.environment, pairs(&[("A", "1"), ("B", "2")]));
    assert_eq!(services[2].container.user.as_deref(), Some("b"));
}

#[test]
fn the_given_name_wins_over_the_files() {
    let sources = Sources::of("c.yaml", "name: a\nservices: { w: { image: x } }\nvolumes: { v: }\n");
    assert_eq!(load(Some("b".parse().unwrap()), &sources).stack.unwrap().name.as_str(), "b");
    assert_eq!(load(None, &sources).stack.unwrap().name.as_str(), "a");
}

#[test]
fn the_variable_of_compose_names_the_stack_and_tells_its_name() {
    let mut sources = Sources::of("c.yaml", "name: a\nservices: { w: { image: x, user: $COMPOSE_PROJECT_NAME } }\n");
    let named = |sources: &Sources, given: Option<&str>| {
        let stack = load(given.map(|name| name.parse().unwrap()), sources).stack.unwrap();
        (stack.name.to_string(), stack.services[0].container.user.clone().unwrap())
    };
    let both = |name: &str| (name.to_owned(), name.to_owned());
    assert_eq!(named(&sources, None), both("a"));
    assert_eq!(named(&sources, Some("b")), both("b"));
    sources.files.insert(".env".to_owned(), "COMPOSE_PROJECT_NAME=c".to_owned());
    assert_eq!(named(&sources, None), both("c"));
    assert_eq!(named(&sources, Some("b")), both("b"));
    sources.variables.insert("COMPOSE_PROJECT_NAME".to_owned(), "d".to_owned());
    assert_eq!(named(&sources, None), both("d"));
}

#[test]
fn the_callers_variables_win_over_the_file_beside() {
    let mut sources = Sources::of("c.yaml", "name: a\nservices: { w: { image: 'x:$TAG' } }\n");
    let image = |sources: &Sources| load(None, sources).stack.unwrap().services[0].container.image.clone();
    sources.files.insert(".env".to_owned(), "TAG=1".to_owned());
    assert_eq!(image(&sources), "x:1");
    sources.variables.insert("TAG".to_owned(), "2".to_owned());
    assert_eq!(image(&sources), "x:2");
}

#[test]
fn gathering_follows_files_into_files() {
    let read = |path: &str| {
        let text = match path {
            "app/compose.yaml" => "name: s\nservices: { w: { extends: { file: ../base/a.yaml, service: a } } }",
            "base/a.yaml" => "services: { a: { extends: { file: b.yaml, service: b }, env_file: $E.env } }",
            "base/b.yaml" => "services: { b: { image: 'x:$TAG', env_file: [{ path: no.env, required: false }] } }",
            "base/prod.env" => "A=${B:-1}",
            "app/.env" => "E=prod",
            _ => return None,
        };
        Some(text.to_owned())
    };
    let variable = |name: &str| ["TAG", "B"].contains(&name).then(|| "7".to_owned());
    let sources = outrigger_compose::gather("app/compose.yaml", read, variable);
    let outcome = load(None, &sources);
    assert_eq!(outcome.diagnostics, []);
    let spec = &outcome.stack.unwrap().services[0].container;
    assert_eq!((spec.image.as_str(), spec.environment.clone()), ("x:7", pairs(&[("A", "7")])));
}

#[test]
fn the_order_of_the_file_changes_no_container() {
    let one =
        "name: a\nservices:\n  b: { image: x, environment: [A=1, B=2], labels: { k: v, l: w } }\n  a: { image: y }\n";
    let other =
        "name: a\nservices:\n  a: { image: y }\n  b: { labels: [l=w, k=v], environment: { B: 2, A: 1 }, image: x }\n";
    assert_eq!(load(None, &Sources::of("c", one)).stack, load(None, &Sources::of("c", other)).stack);
}

//! Every field of a specification reaches the engine.

use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{
    Attachment, Bytes, CgroupLimits, ContainerSpec, DeviceMapping as Mapping, MilliCpu, Mount, MountKind, PlacementId,
    PortProtocol, PublishMode, Ulimit,
};

use super::super::super::LossLabel;
use super::*;
use crate::engine::FileBind;
use crate::files::FilesDir;

fn config(scope: &str, flavour: Flavour) -> DockerConfig {
    let device = "pi-4".parse().unwrap();
    let files = FilesDir::of(std::path::Path::new("/run/x"), "pi", std::path::Path::new("/var/x"));
    DockerConfig {
        socket: "/run/docker.sock".into(),
        flavour,
        scope: scope.to_owned(),
        device,
        policy: Arc::default(),
        files,
    }
}

fn new(spec: ContainerSpec) -> NewContainer {
    NewContainer {
        fleet: outrigger_protocol::FleetId(0xf1ee7),
        device: "pi-4".parse().unwrap(),
        placement: PlacementId(0x1_0000_002a),
        replica: "shop/web.v2.10".parse().unwrap(),
        loss: LossLabel::Exclusive,
        spec: Arc::new(spec),
        name_servers: vec!["10.212.8.1".parse().unwrap()],
        files: vec![],
    }
}

fn json(spec: ContainerSpec) -> serde_json::Value {
    serde_json::to_value(body(&new(spec), &config("pi-4", Flavour::Docker))).unwrap()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn a_name_is_unique_by_its_placement_and_says_its_scope_where_that_is_not_the_device() {
    let new = new(ContainerSpec::default());
    assert_eq!(name(&new, &config("pi-4", Flavour::Docker)), "shop_web.v2.10.10000002a");
    assert_eq!(name(&new, &config("a", Flavour::Docker)), "a_shop_web.v2.10.10000002a");
}

#[test]
fn the_plainest_container_has_labels_environment_capped_logs_and_no_restart_by_the_engine() {
    let body = json(ContainerSpec { image: "web:1".to_owned(), ..ContainerSpec::default() });
    assert_eq!(body["Image"], "web:1");
    assert_eq!(body["Labels"]["outrigger.scope"], "pi-4");
    assert_eq!(body["Labels"]["outrigger.placement"], "10000002a");
    assert_eq!(body["Labels"]["outrigger.replica"], "shop/web.v2.10");
    assert_eq!(body["Labels"]["outrigger.stack"], "shop");
    assert_eq!(body["Labels"]["outrigger.service"], "web.v2");
    assert_eq!(body["Labels"]["outrigger.loss"], "exclusive");
    let environment = words(&[
        "OUTRIGGER_REPLICA=shop/web.v2.10",
        "OUTRIGGER_STACK=shop",
        "OUTRIGGER_SERVICE=web.v2",
        "OUTRIGGER_DEVICE=pi-4",
        "OUTRIGGER_PLACEMENT=10000002a",
    ]);
    assert_eq!(body["Env"], serde_json::json!(environment));
    let host = &body["HostConfig"];
    assert_eq!(host["RestartPolicy"]["Name"], "no");
    assert_eq!(host["LogConfig"], serde_json::json!({"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}}));
    // What the user did not say is left to the image.
    assert!(body.get("Cmd").is_none() && body.get("Entrypoint").is_none() && body.get("Healthcheck").is_none());
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    assert_eq!(host["CapAdd"], serde_json::json!(crate::policy::DEFAULT_CAPABILITIES));
    assert_eq!((&host["SecurityOpt"], &host["PidsLimit"]), (&serde_json::json!(["no-new-privileges"]), &2048.into()));
    assert!(host.get("Binds").is_none() && host.get("Memory").is_none() && host.get("NetworkMode").is_none());
}

#[test]
fn podman_has_another_capped_log_driver_and_the_users_choice_stands() {
    let podman = log_config(None, Flavour::Podman);
    assert_eq!(podman.typ.as_deref(), Some("k8s-file"));
    let chosen = LogConfig { driver: "journald".to_owned(), options: Vec::new() };
    let config = log_config(Some(&chosen), Flavour::Docker);
    assert_eq!((config.typ.as_deref(), config.config), (Some("journald"), None));
}

#[test]
fn nobody_else_sets_our_labels_and_variables_and_of_a_name_the_last_counts() {
    let body = json(ContainerSpec {
        environment: pairs(&[("A", "1"), ("OUTRIGGER_DEVICE", "lie"), ("B", "x=y"), ("A", "2")]),
        labels: pairs(&[("outrigger.scope", "lie"), ("team", "blue")]),
        ..ContainerSpec::default()
    });
    let environment = body["Env"].as_array().unwrap();
    assert_eq!(environment[..3], [serde_json::json!("A=2"), "OUTRIGGER_DEVICE=pi-4".into(), "B=x=y".into()]);
    assert_eq!(environment.len(), 7);
    assert_eq!(body["Labels"]["outrigger.scope"], "pi-4");
    assert_eq!(body["Labels"]["team"], "blue");
}

#[test]
fn every_field_of_a_process_is_said() {
    let body = json(ContainerSpec {
        command: Some(words(&["serve", "-v"])),
        entrypoint: Some(Vec::new()),
        user: Some("65532:65532".to_owned()),
        working_dir: Some("/srv".to_owned()),
        hostname: Some("web".to_owned()),
        stop_signal: Some("SIGINT".to_owned()),
        stop_grace: Duration::from_millis(1_500),
        tty: true,
        ..ContainerSpec::default()
    });
    assert_eq!(body["Cmd"], serde_json::json!(["serve", "-v"]));
    assert_eq!(body["Entrypoint"], serde_json::json!([""]));
    assert_eq!((&body["User"], &body["WorkingDir"]), (&"65532:65532".into(), &"/srv".into()));
    assert_eq!((&body["Hostname"], &body["StopSignal"]), (&"web".into(), &"SIGINT".into()));
    assert_eq!((&body["StopTimeout"], &body["Tty"]), (&2.into(), &true.into()));
}

#[test]
fn every_field_of_the_host_is_said() {
    let device =
        Mapping { host: "/dev/ttyUSB0".to_owned(), container: "/dev/zigbee".to_owned(), permissions: "rw".to_owned() };
    let host = json(ContainerSpec {
        cap_add: words(&["NET_ADMIN"]),
        cap_drop: words(&["ALL"]),
        privileged: true,
        read_only: true,
        init: Some(true),
        ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 1_024, hard: -1 }],
        sysctls: pairs(&[("net.core.somaxconn", "1024")]),
        devices: vec![device],
        extra_hosts: pairs(&[("db", "10.0.0.7")]),
        shm_size: Some(Bytes(64 << 20)),
        limits: CgroupLimits { cpu: Some(MilliCpu(1_500)), memory: Some(Bytes(256 << 20)), pids: Some(100) },
        network_mode: Some("host".to_owned()),
        security_opt: words(&["no-new-privileges:true"]),
        dns: words(&["9.9.9.9"]),
        group_add: words(&["video"]),
        ..ContainerSpec::default()
    });
    let expected = serde_json::json!({
        "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"], "Privileged": true, "ReadonlyRootfs": true, "Init": true,
        "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": -1}],
        "Sysctls": {"net.core.somaxconn": "1024"},
        "Devices": [{"PathOnHost": "/dev/ttyUSB0", "PathInContainer": "/dev/zigbee", "CgroupPermissions": "rw"}],
        "ExtraHosts": ["db:10.0.0.7"], "ShmSize": 67_108_864, "NanoCpus": 1_500_000_000_i64, "Memory": 268_435_456,
        "PidsLimit": 100, "NetworkMode": "host", "SecurityOpt": ["no-new-privileges:true"], "Dns": ["9.9.9.9"],
        "GroupAdd": ["video"],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&host["HostConfig"][key], value, "{key}");
    }
}

#[test]
fn ports_are_exposed_and_bound_and_one_without_a_number_is_left_to_the_engine() {
    let port = |container, host, address: Option<&str>, protocol| PublishedPort {
        container,
        host,
        address: address.map(|text| text.parse().unwrap()),
        protocol,
        mode: PublishMode::Host,
    };
    let body = json(ContainerSpec {
        ports: vec![
            port(80, Some(8080), Some("127.0.0.1"), PortProtocol::Tcp),
            port(80, Some(8081), None, PortProtocol::Tcp),
            port(53, None, None, PortProtocol::Udp),
        ],
        ..ContainerSpec::default()
    });
    assert_eq!(
        body["HostConfig"]["PortBindings"],
        serde_json::json!({
            "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostPort": "8081"}],
            "53/udp": [{"HostPort": ""}],
        })
    );
    assert!(body["ExposedPorts"].get("80/tcp").is_some() && body["ExposedPorts"].get("53/udp").is_some());
}

#[test]
fn every_kind_of_mount_is_said_and_a_missing_bind_is_made_only_where_asked() {
    let mount = |kind, target: &str, read_only| Mount { kind, target: target.to_owned(), read_only };
    let bind = |source: &str, create| MountKind::Bind { source: source.to_owned(), create };
    let volume = |driver: Option<&str>, options| MountKind::Volume {
        name: "shop_data".to_owned(),
        driver: driver.map(str::to_owned),
        options,
    };
    let host = json(ContainerSpec {
        mounts: vec![
            mount(bind("/srv/data", true), "/data", true),
            mount(bind("/etc/localtime", false), "/etc/localtime", true),
            mount(bind("/srv/a:b", true), "/b", false),
            mount(volume(None, Vec::new()), "/var/lib", false),
            mount(volume(None, pairs(&[("type", "nfs")])), "/nfs", false),
            mount(MountKind::Anonymous, "/cache", false),
            mount(MountKind::Tmpfs { size: Some(Bytes(1 << 20)), mode: Some(0o1777) }, "/tmp", false),
        ],
        ..ContainerSpec::default()
    });
    assert_eq!(host["HostConfig"]["Binds"], serde_json::json!(["/srv/data:/data:ro"]));
    let expected = serde_json::json!([
        {"Type": "bind", "Source": "/etc/localtime", "Target": "/etc/localtime", "ReadOnly": true},
        {"Type": "bind", "Source": "/srv/a:b", "Target": "/b", "ReadOnly": false},
        {"Type": "volume", "Source": "shop_data", "Target": "/var/lib", "ReadOnly": false},
        {"Type": "volume", "Source": "shop_data", "Target": "/nfs", "ReadOnly": false,
            "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"type": "nfs"}}}},
        {"Type": "volume", "Target": "/cache", "ReadOnly": false},
        {"Type": "tmpfs", "Target": "/tmp", "ReadOnly": false, "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 1023}},
    ]);
    assert_eq!(host["HostConfig"]["Mounts"], expected);
}

#[test]
fn every_kind_of_healthcheck_is_said() {
    let check = |test| Healthcheck {
        test,
        interval: Some(Duration::from_secs(5)),
        timeout: None,
        retries: Some(3),
        start_period: Some(Duration::from_millis(1)),
        start_interval: None,
    };
    let said = |test| serde_json::to_value(healthcheck(&check(test))).unwrap()["Test"].clone();
    assert_eq!(said(HealthcheckTest::Disabled), serde_json::json!(["NONE"]));
    assert_eq!(said(HealthcheckTest::Inherited), serde_json::json!([]));
    assert_eq!(said(HealthcheckTest::Exec(words(&["/web", "check"]))), serde_json::json!(["CMD", "/web", "check"]));
    assert_eq!(said(HealthcheckTest::Shell("curl x".to_owned())), serde_json::json!(["CMD-SHELL", "curl x"]));
    let times = healthcheck(&check(HealthcheckTest::Inherited));
    assert_eq!((times.interval, times.start_period, times.retries), (Some(5_000_000_000), Some(1_000_000), Some(3)));
}

#[test]
fn gpus_are_asked_for_by_number_by_name_or_all() {
    let gpu = |count, ids: &[&str]| GpuRequest {
        driver: Some("nvidia".to_owned()),
        count,
        ids: words(ids),
        capabilities: Vec::new(),
    };
    let said = |gpu| serde_json::to_value(device_request(&gpu)).unwrap();
    assert_eq!(said(gpu(None, &[])), serde_json::json!({"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}));
    assert_eq!(said(gpu(Some(2), &[]))["Count"], 2);
    assert_eq!(said(gpu(None, &["0", "2"]))["DeviceIDs"], serde_json::json!(["0", "2"]));
}

fn host_of(spec: ContainerSpec) -> serde_json::Value {
    json(spec)["HostConfig"].take()
}

#[test]
fn capabilities_are_added_and_dropped_as_docker_reckons() {
    let caps = |added: &[&str], dropped: &[&str]| {
        let host =
            host_of(ContainerSpec { cap_add: words(added), cap_drop: words(dropped), ..ContainerSpec::default() });
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
        host["CapAdd"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(caps(&["CAP_NET_RAW"], &[]), 11);
    assert_eq!(caps(&["chown"], &["CHOWN", "cap_kill"]), 9);
    assert_eq!((caps(&["SYS_CHROOT"], &["ALL"]), caps(&[], &["all"])), (1, 0));
    let all =
        host_of(ContainerSpec { cap_add: words(&["ALL"]), cap_drop: words(&["SYS_BOOT"]), ..ContainerSpec::default() });
    assert_eq!((&all["CapAdd"], &all["CapDrop"]), (&serde_json::json!(["ALL"]), &serde_json::json!(["SYS_BOOT"])));
}

#[test]
fn what_is_the_default_can_be_taken_back() {
    let limits = CgroupLimits { pids: Some(0), ..CgroupLimits::default() };
    let security_opt = words(&["no-new-privileges:false"]);
    let host = host_of(ContainerSpec { limits, security_opt, ..ContainerSpec::default() });
    assert_eq!(
        (&host["SecurityOpt"], &host["PidsLimit"]),
        (&serde_json::json!(["no-new-privileges:false"]), &(-1).into())
    );
    let host = host_of(ContainerSpec { privileged: true, ..ContainerSpec::default() });
    assert!(host.get("SecurityOpt").is_none() && host.get("CapDrop").is_none());
}

#[test]
fn a_container_begins_in_its_first_network_and_asks_its_name_server_unless_the_user_names_one() {
    let attachment = |name: &str| Attachment { network: name.parse().unwrap(), aliases: vec![] };
    let networks = vec![attachment("shop_front"), attachment("shop_back")];
    let joins = ContainerSpec { networks, network_mode: Some("bridge".into()), ..ContainerSpec::default() };
    let body = json(joins.clone());
    assert_eq!(body["HostConfig"]["NetworkMode"], "outrigger_shop_front");
    assert_eq!(body["HostConfig"]["Dns"], serde_json::json!(["10.212.8.1"]));
    let own = json(ContainerSpec { dns: vec!["9.9.9.9".into()], ..joins });
    assert_eq!(own["HostConfig"]["Dns"], serde_json::json!(["9.9.9.9"]));
    let none = json(ContainerSpec { network_mode: Some("none".into()), ..ContainerSpec::default() });
    assert_eq!(none["HostConfig"]["NetworkMode"], "none");
    assert_eq!(none["HostConfig"]["Dns"], serde_json::Value::Null);
}

#[test]
fn the_engine_opens_only_the_ports_that_are_its_own() {
    let port = |host, mode| PublishedPort {
        container: 80,
        host: Some(host),
        address: None,
        protocol: PortProtocol::Tcp,
        mode,
    };
    let ports = vec![port(8080, PublishMode::Ingress), port(8081, PublishMode::Host)];
    let body = json(ContainerSpec { ports, ..ContainerSpec::default() });
    assert_eq!(body["HostConfig"]["PortBindings"], serde_json::json!({"80/tcp": [{"HostPort": "8081"}]}));
}

#[test]
fn secrets_are_mounted_read_only_and_nothing_of_them_stands_in_the_environment() {
    let bind = FileBind { source: "/run/x/pi.files/42/0".into(), target: "/run/secrets/db".to_owned() };
    let new = NewContainer { files: vec![bind], ..new(ContainerSpec::default()) };
    let made = serde_json::to_value(body(&new, &config("pi-4", Flavour::Docker))).unwrap();
    let expected = serde_json::json!([{
        "Type": "bind", "Source": "/run/x/pi.files/42/0", "Target": "/run/secrets/db", "ReadOnly": true,
    }]);
    assert_eq!(made["HostConfig"]["Mounts"], expected);
    assert!(!made["Env"].to_string().contains("secrets"), "{}", made["Env"]);
}

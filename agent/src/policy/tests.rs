//! What a hub in the wrong hands asks for, and what it gets.

use outrigger_protocol::{ContainerSpec, DeviceMapping, GpuRequest, LogConfig, Mount, MountKind, Ulimit};

use super::*;

fn policy(text: &str) -> Policy {
    let policy = Policy::of(text, DEFAULT_PATH.into(), Guarded(vec!["/var/lib/outrigger-agent".into()]));
    assert!(!policy.is_broken(), "{text}: {}", policy.trouble());
    policy
}

fn strict() -> Policy {
    policy("")
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn mounts(kind: MountKind, read_only: bool) -> ContainerSpec {
    ContainerSpec { mounts: vec![Mount { kind, target: "/data".into(), read_only }], ..ContainerSpec::default() }
}

fn bind(source: &str) -> ContainerSpec {
    mounts(MountKind::Bind { source: source.into(), create: true }, false)
}

fn volume(driver: Option<&str>, options: &[(&str, &str)]) -> ContainerSpec {
    let kind = MountKind::Volume { name: "shop_data".into(), driver: driver.map(Into::into), options: pairs(options) };
    mounts(kind, false)
}

fn device(host: &str) -> ContainerSpec {
    let device = DeviceMapping { host: host.into(), container: "/dev/x".into(), permissions: "rwm".into() };
    ContainerSpec { devices: vec![device], ..ContainerSpec::default() }
}

fn logs(driver: &str, options: &[(&str, &str)]) -> ContainerSpec {
    let logging = Some(LogConfig { driver: driver.into(), options: pairs(options) });
    ContainerSpec { logging, ..ContainerSpec::default() }
}

fn option(text: &str) -> ContainerSpec {
    ContainerSpec { security_opt: words(&[text]), ..ContainerSpec::default() }
}

fn ulimit(name: &str) -> ContainerSpec {
    ContainerSpec { ulimits: vec![Ulimit { name: name.into(), soft: 1, hard: 1 }], ..ContainerSpec::default() }
}

fn sysctl(name: &str) -> ContainerSpec {
    ContainerSpec { sysctls: pairs(&[(name, "1")]), ..ContainerSpec::default() }
}

fn network(mode: &str) -> ContainerSpec {
    ContainerSpec { network_mode: Some(mode.into()), ..ContainerSpec::default() }
}

fn caps(names: &[&str]) -> ContainerSpec {
    ContainerSpec { cap_add: words(names), ..ContainerSpec::default() }
}

fn gpu() -> ContainerSpec {
    let gpu = GpuRequest { driver: None, count: None, ids: vec![], capabilities: vec![] };
    ContainerSpec { gpus: vec![gpu], ..ContainerSpec::default() }
}

/// All that needs the owner's word, with the line that gives it.
fn asked() -> Vec<(ContainerSpec, &'static str)> {
    vec![
        (ContainerSpec { privileged: true, ..ContainerSpec::default() }, "privileged = true"),
        (network("host"), r#"host = ["network"]"#),
        (caps(&["NET_ADMIN"]), r#"capabilities = ["NET_ADMIN"]"#),
        (caps(&["cap_sys_admin"]), r#"capabilities = ["SYS_ADMIN"]"#),
        (caps(&["ALL"]), r#"capabilities = ["ALL"]"#),
        (bind("/srv/data"), r#"binds = ["/srv/data"]"#),
        (device("/dev/ttyUSB0"), r#"devices = ["/dev/ttyUSB0"]"#),
        (gpu(), "gpus = true"),
        (sysctl("net.core.somaxconn"), r#"sysctls = ["net.core.somaxconn"]"#),
        (ulimit("rtprio"), r#"ulimits = ["rtprio"]"#),
        (option("seccomp:unconfined"), r#"security_options = ["seccomp=unconfined"]"#),
        (option("apparmor=unconfined"), r#"security_options = ["apparmor=unconfined"]"#),
        (option("systempaths=unconfined"), r#"security_options = ["systempaths=unconfined"]"#),
        (option("label:disable"), r#"security_options = ["label=disable"]"#),
        (volume(Some("rclone"), &[]), r#"volume_drivers = ["rclone"]"#),
        (volume(None, &[("type", "nfs"), ("device", ":/x"), ("o", "addr=10.0.0.1")]), r#"volume_drivers = ["local"]"#),
        (logs("syslog", &[]), r#"log_drivers = ["syslog"]"#),
        (logs("json-file", &[("path", "/etc/cron.d/x")]), r#"log_drivers = ["json-file"]"#),
    ]
}

#[test]
fn each_option_that_reaches_the_device_is_refused_by_name_with_the_line_that_allows_it() {
    for (spec, line) in asked() {
        let refusal = strict().refuses(&spec).unwrap_or_else(|| panic!("{line} is not needed for {spec:?}"));
        assert!(refusal.reason.contains(line), "{line} not in: {}", refusal.reason);
        assert!(refusal.reason.contains(DEFAULT_PATH) && refusal.stops, "{}", refusal.reason);
        assert_eq!(policy(line).refuses(&spec), None, "{line} does not allow it");
    }
}

#[test]
fn a_line_allows_what_it_says_and_nothing_else() {
    for (index, (_, line)) in asked().iter().enumerate() {
        let allowed = asked().iter().filter(|(spec, _)| policy(line).refuses(spec).is_none()).count();
        // Several of the cases above ask for the same; all privileges and all capabilities include others.
        assert!((1..=8).contains(&allowed), "{index}: {line} allows {allowed}");
    }
}

#[test]
fn ordinary_containers_need_no_word_of_the_owner() {
    let ordinary = [
        ContainerSpec { image: "nginx".into(), user: Some("0".into()), ..ContainerSpec::default() },
        volume(None, &[]),
        volume(Some("local"), &[]),
        mounts(MountKind::Anonymous, false),
        mounts(MountKind::Tmpfs { size: None, mode: Some(0o1777) }, false),
        caps(&["CHOWN", "CAP_AUDIT_WRITE", "sys_chroot", "MKNOD"]),
        ContainerSpec { cap_drop: words(&["ALL"]), ..ContainerSpec::default() },
        network("bridge"),
        network("none"),
        ulimit("nofile"),
        option("no-new-privileges:false"),
        logs("json-file", &[("max-size", "1m")]),
        logs("none", &[]),
    ];
    for spec in ordinary {
        assert_eq!(strict().refuses(&spec), None, "{spec:?}");
    }
}

/// Whatever the policy says, these give the device away.
#[test]
fn what_gives_the_device_away_is_refused_under_the_widest_policy() {
    let widest = policy(
        "privileged = true\nhost = ['network', 'pid', 'ipc', 'uts', 'user']\ncapabilities = ['ALL']\nbinds = ['/srv/*', '/opt/a:ro']\n\
         devices = ['/dev/*']\ngpus = true\nsysctls = ['*']\nulimits = ['rtprio']\nsecurity_options = ['*']\n\
         volume_drivers = ['local', 'x']\nvolumes = ['*']\nlog_drivers = ['syslog']\nimages = ['*']\n",
    );
    let never = [
        bind("/"),
        bind("/var/run/docker.sock"),
        bind("/var/run"),
        bind("/run/docker.sock"),
        bind("/run"),
        bind("/proc"),
        bind("/proc/1/root"),
        bind("/sys"),
        bind("/etc"),
        bind("/etc/shadow"),
        bind("/dev"),
        bind("/dev/sda"),
        bind("/srv/../etc"),
        bind("/srv/a/.."),
        bind("//"),
        bind("/srv//a"),
        bind("/srv/a/"),
        bind("srv"),
        bind(""),
        bind("/srv"),
        bind("/srv/a/b"),
        bind("/srv/a:/etc"),
        bind("/srv/a\n"),
        bind("/var/lib/outrigger-agent/identity"),
        bind("/var/lib/docker"),
        bind("/opt/a"),
        volume(None, &[("type", "none"), ("o", "bind"), ("device", "/")]),
        volume(None, &[("type", "none"), ("o", "rbind"), ("device", "/etc")]),
        volume(Some("local"), &[("o", "BIND"), ("device", "/var/run/docker.sock")]),
        volume(None, &[("type", "nfs"), ("o", "bind"), ("device", "/etc")]),
        volume(None, &[("type", "tmpfs"), ("o", "size=1m,bind"), ("device", "/")]),
        volume(None, &[("device", "/etc")]),
        volume(None, &[("type", "overlay"), ("o", "lowerdir=/,upperdir=/tmp/u,workdir=/tmp/w"), ("device", "overlay")]),
        volume(None, &[("type", "proc"), ("device", "proc")]),
        volume(None, &[("mountpoint", "/etc")]),
        mounts(MountKind::Volume { name: "/etc".into(), driver: None, options: vec![] }, false),
        mounts(MountKind::Volume { name: "../x".into(), driver: None, options: vec![] }, false),
        device("/etc/shadow"),
        device("/dev/../etc"),
        device("/dev"),
        device("/dev/mapper/root"),
        device("ttyUSB0"),
        network("container:abc"),
        network("service:x"),
        network("ns:/proc/1/ns/net"),
    ];
    for spec in never {
        assert!(widest.refuses(&spec).is_some(), "{spec:?}");
    }
    assert_eq!(widest.refuses(&bind("/srv/a")), None);
    assert_eq!(widest.refuses(&volume(None, &[("o", "bind"), ("device", "/srv/a")])), None);
}

#[test]
fn a_volume_that_is_a_path_or_a_disk_is_judged_as_such() {
    let path = volume(None, &[("type", "none"), ("o", "bind,ro"), ("device", "/srv/a")]);
    assert!(policy("volume_drivers = ['local']").refuses(&path).is_some());
    assert_eq!(policy("volume_drivers = ['local']\nbinds = ['/srv/a:ro']").refuses(&path), None);
    let disk = volume(None, &[("type", "ext4"), ("device", "/dev/sda1")]);
    assert!(policy("volume_drivers = ['local']\nbinds = ['/srv/a']").refuses(&disk).is_some());
    assert_eq!(policy("volume_drivers = ['local']\ndevices = ['/dev/sda1']").refuses(&disk), None);
}

#[test]
fn images_are_known_by_their_full_names() {
    let image = |name: &str| ContainerSpec { image: name.into(), ..ContainerSpec::default() };
    let rules = policy("images = ['ghcr.io/me/*', 'docker.io/library/nginx', 'nas.lan:5000/x:1.*']");
    for (name, allowed) in [
        ("ghcr.io/me/app:1", true),
        ("ghcr.io/me/app@sha256:00", true),
        ("ghcr.io/mean/app", false),
        ("nginx", true),
        ("nginx:1.27", true),
        ("library/nginx", true),
        ("docker.io/library/nginx@sha256:00", true),
        ("nginx2", false),
        ("evil/nginx", false),
        ("evil.io/ghcr.io/me/app", false),
        ("nas.lan:5000/x:1.2", true),
        ("nas.lan:5000/x:2", false),
        ("localhost/nginx", false),
    ] {
        assert_eq!(rules.refuses(&image(name)).is_none(), allowed, "{name}");
    }
    assert!(rules.refuses(&image("redis:7")).unwrap().reason.contains(r#"images = ["docker.io/library/redis"]"#));
}

#[test]
fn all_that_is_wrong_with_the_file_is_told_at_once_with_its_lines_and_none_of_it_holds() {
    let text = "privileged = true\nbind = ['/x']\nhost = ['net']\ncapabilities = ['NET_ADMINN']\ngpus = 'yes'\n\
        binds = [\n  '/srv/a',\n  '/srv/a/b',\n  '/var/run/docker.sock',\n  '/',\n]\ndevices = ['ttyUSB0']\nexec = \n";
    let policy = Policy::of(text, DEFAULT_PATH.into(), Guarded::default());
    let trouble = policy.trouble();
    for part in [
        "line 2: unknown key `bind`; did you mean `binds`?",
        "line 3: host: `net` must be one of network",
        "line 4: capabilities: `NET_ADMINN` is no capability",
        "line 5: gpus must be true or false",
        "line 8: binds: containers may write `/srv/a`, so they could put a link in the place of `/srv/a/b`",
        "line 9: binds: `/var/run/docker.sock` can never be allowed",
        "line 10: binds: `/` is the whole device",
        "line 12: devices: `ttyUSB0` must be an absolute path",
        "line 13:",
    ] {
        assert!(trouble.contains(part), "{part} in {trouble}");
    }
    assert_eq!(policy.rules, Rules::default());
    let refusal = policy.refuses(&ContainerSpec { privileged: true, ..ContainerSpec::default() }).unwrap();
    assert!(!refusal.stops && refusal.reason.contains("that file cannot be used"), "{}", refusal.reason);
}

#[test]
fn a_file_that_is_missing_unreadable_or_not_the_owners_is_strict() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let load = || Policy::load(&path, Guarded::default());
    assert_eq!((load().origin, load().rules), (Origin::Absent, Rules::default()));
    std::fs::write(&path, "privileged = true\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(load().rules.privileged && load().origin == Origin::File);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    assert!(load().is_broken() && !load().rules.privileged);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    for bad in [&b"privileged = true\n\xff"[..], b"\xef\xbb\xbfprivileged true", b"privileged = tr", b"[privileged]\n"]
    {
        std::fs::write(&path, bad).unwrap();
        assert!(load().is_broken() && !load().rules.privileged, "{bad:?}");
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(load().is_broken());
}

#[test]
fn what_the_engine_has_made_is_judged_like_what_was_asked() {
    let made = |json: &str| strict().judge(&made_demands(&serde_json::from_str(json).unwrap()));
    let plain = r#"{"HostConfig": {"Privileged": false, "NetworkMode": "bridge", "PidMode": "", "IpcMode": "private",
        "UTSMode": "", "UsernsMode": "", "CapAdd": ["CAP_CHOWN", "KILL"], "SecurityOpt": ["no-new-privileges"], "Devices": null,
        "DeviceRequests": null, "VolumesFrom": null}, "Config": {"Image": "web:1"},
        "Mounts": [{"Type": "volume", "Name": "a", "Driver": "local", "RW": true}, {"Type": "tmpfs"}]}"#;
    assert_eq!(made(plain), None);
    for host in [
        r#""Privileged": true"#,
        r#""NetworkMode": "host""#,
        r#""NetworkMode": "container:x""#,
        r#""PidMode": "host""#,
        r#""IpcMode": "host""#,
        r#""IpcMode": "container:x""#,
        r#""UTSMode": "host""#,
        r#""UsernsMode": "host""#,
        r#""CapAdd": ["CAP_SYS_ADMIN"]"#,
        r#""SecurityOpt": ["seccomp=unconfined"]"#,
        r#""Sysctls": {"net.a": "1"}"#,
        r#""Devices": [{"PathOnHost": "/dev/sda"}]"#,
        r#""DeviceRequests": [{"Count": -1}]"#,
        r#""DeviceCgroupRules": ["c *:* rwm"]"#,
        r#""VolumesFrom": ["x"]"#,
    ] {
        assert!(made(&format!(r#"{{"HostConfig": {{{host}}}}}"#)).is_some(), "{host}");
    }
    for mount in [
        r#"{"Type": "bind", "Source": "/srv/a", "RW": true}"#,
        r#"{"Type": "volume", "Driver": "x"}"#,
        r#"{"Type": "npipe"}"#,
        r#"{"Type": "image"}"#,
    ] {
        assert!(made(&format!(r#"{{"Mounts": [{mount}]}}"#)).is_some(), "{mount}");
    }
}

#[test]
fn a_refusal_is_short_and_clean_whatever_the_hub_sent() {
    let mut spec = bind(&format!("/srv/\u{1b}[31m{}", "x".repeat(10_000)));
    spec.cap_add = (0..1000).map(|n| format!("X{n}\n")).collect();
    let reason = strict().refuses(&spec).unwrap().reason;
    assert!(reason.len() < 2_000 && !reason.contains(char::is_control), "{reason:?}");
    assert!(reason.contains("and 998 more"), "{reason}");
}

#[test]
fn the_digest_differs_where_what_is_allowed_differs_and_nowhere_else() {
    let of = |text: &str| Policy::of(text, "/etc/outrigger/policy.toml".into(), Guarded::default()).digest();
    assert_ne!(of("privileged = true"), of(""));
    assert_eq!(of("# only a remark"), of(""));
    assert_eq!(of("privilegd = true"), of(""), "a broken file allows as much as none");
    assert_eq!(Policy::strict("/elsewhere".into(), Guarded::default()).digest(), of(""));
}

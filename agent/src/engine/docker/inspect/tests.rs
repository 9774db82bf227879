//! What engines answered, recorded, and what is read from it.

use super::*;

/// As Docker 20.10 answers, less what is not read.
fn config(scope: &str) -> DockerConfig {
    DockerConfig {
        socket: "/x".into(),
        flavour: super::super::Flavour::Docker,
        scope: scope.to_owned(),
        device: scope.parse().unwrap(),
        policy: std::sync::Arc::default(),
        files: crate::files::FilesDir::of(std::path::Path::new("/run/x"), scope, std::path::Path::new("/var/x")),
    }
}

fn recorded(state: &str) -> Inspected {
    let text = r#"{
      "Id": "f00d5e3a8c4b1f00d5e3a8c4b1f00d5e3a8c4b1f00d5e3a8c4b1f00d5e3a8c4b",
      "Created": "2026-11-22T16:58:01.123456789Z",
      "State": STATE,
      "Image": "sha256:94c2c75c6056",
      "Name": "/shop_web.1.2a", "RestartCount": 0,
      "HostConfig": {"LogConfig": {"Type": "local", "Config": {}}, "NetworkMode": "default",
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "CgroupnsMode": "host", "Isolation": ""},
      "Config": {"Image": "web:1", "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"outrigger.scope": "pi-4", "outrigger.placement": "2a", "outrigger.replica": "shop/web.1",
          "outrigger.loss": "wait"}},
      "NetworkSettings": {"Ports": {"9/udp": null,
        "8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}, {"HostIp": "::", "HostPort": "80"}]}}
    }"#;
    serde_json::from_str(&text.replace("STATE", state)).unwrap()
}

fn state(text: &str) -> ContainerState {
    ours(recorded(text), &config("pi-4")).unwrap().state
}

#[test]
fn a_running_container_is_read_whole() {
    let running = r#"{"Status": "running", "Running": true, "Pid": 4711, "ExitCode": 0, "OOMKilled": false,
      "StartedAt": "2026-11-22T16:58:02.5Z", "FinishedAt": "0001-01-01T00:00:00Z",
      "Health": {"Status": "unhealthy", "FailingStreak": 3, "Log": []}}"#;
    let container = ours(recorded(running), &config("pi-4")).unwrap();
    assert_eq!(container.placement.0, 0x2a);
    assert_eq!(container.replica.to_string(), "shop/web.1");
    assert_eq!(container.loss, LossLabel::Wait);
    assert_eq!(container.state, ContainerState::Running { health: Health::Unhealthy });
    assert_eq!(container.since_unix, Some(1_795_366_682));
    assert_eq!((container.image.as_str(), container.digest.as_str()), ("web:1", "sha256:94c2c75c6056"));
    assert_eq!(container.ports, [(8080, 80, PortProtocol::Tcp)]);
    assert_eq!((container.pid, container.id.short()), (Some(4711), "f00d5e3a8c4b"));
}

#[test]
fn endings_are_told_apart() {
    let ended = |code: i64, killed: bool| {
        state(&format!(
            r#"{{"Status": "exited", "Running": false, "Pid": 0, "ExitCode": {code}, "OOMKilled": {killed}}}"#
        ))
    };
    assert_eq!(ended(1, false), ContainerState::Exited { code: 1, out_of_memory: false });
    assert_eq!(ended(137, true), ContainerState::Exited { code: 137, out_of_memory: true });
    // A child was killed for memory, and the main process ended well.
    assert_eq!(ended(0, true), ContainerState::Exited { code: 0, out_of_memory: false });
    assert_eq!(state(r#"{"Status": "created", "Running": false}"#), ContainerState::Created);
    assert_eq!(state(r#"{"Status": "removing", "Running": false}"#), ContainerState::Dead);
}

#[test]
fn what_another_scope_or_nobody_labelled_is_not_ours() {
    let running = r#"{"Status": "running", "Running": true}"#;
    assert_eq!(ours(recorded(running), &config("pi-5")), None);
    let mut bare = recorded(running);
    bare.config.labels = None;
    assert_eq!(ours(bare, &config("pi-4")), None);
    let mut strange = recorded(running);
    let labels = strange.config.labels.as_mut().unwrap();
    labels.insert("outrigger.placement".to_owned(), "not a number".to_owned());
    assert_eq!(ours(strange, &config("pi-4")), None);
}

#[test]
fn times_are_read_with_their_offset() {
    assert_eq!(unix_seconds("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(unix_seconds("2024-02-29T12:00:00.123456789Z"), Some(1_709_208_000));
    assert_eq!(unix_seconds("2024-02-29T14:30:00+02:30"), Some(1_709_208_000));
    assert_eq!(unix_seconds("2024-02-29T11:00:00.5-01:00"), Some(1_709_208_000));
    for nothing in ["0001-01-01T00:00:00Z", "", "yesterday", "2024-02-29T12:00:00+xx:00"] {
        assert_eq!(unix_seconds(nothing), None, "{nothing}");
    }
}

#[test]
fn the_digest_is_that_of_the_name_asked_for() {
    let digests = ["docker.io/library/web@sha256:aa".to_owned(), "registry:5000/web@sha256:bb".to_owned()];
    assert_eq!(choose_digest("registry:5000/web:2", &digests).as_deref(), Some("sha256:bb"));
    assert_eq!(choose_digest("library/web", &digests).as_deref(), Some("sha256:aa"));
    // By id there is no name: any of them.
    assert_eq!(choose_digest("sha256:94c2", &digests).as_deref(), Some("sha256:aa"));
    assert_eq!(choose_digest("web", &[]), None);
}

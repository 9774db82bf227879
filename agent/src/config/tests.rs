//! What the settings mean, and how mistakes in them are told.

use super::*;

fn around() -> Surroundings {
    Surroundings { host_name: "Pi-4.lan".into(), ..Surroundings::default() }
}

fn check(text: &str) -> Result<Config, ConfigError> {
    Config::check("agent.toml", Raw::parse(text), Raw::default(), &around())
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = check("").unwrap();
    assert_eq!((config.device.as_str(), config.scope.as_str()), ("pi-4", "pi-4"));
    assert_eq!((config.hub, config.insecure_local), (None, false));
    assert_eq!(config.engine, EngineChoice::Docker(DEFAULT_DOCKER.into()));
    assert_eq!(config.heartbeat, Duration::from_secs(1));
}

#[test]
fn everything_can_be_said_in_the_file() {
    let text = "name = 'attic'\nhub = '[fd00::1]:1884'\nscope = 'a'\nstate_dir = '/s'\nengine = 'podman'\n\
            engine_socket = 'unix:///p'\nheartbeat = '500ms'\n[labels]\nzone = 'roof'\n[generic]\ncamera = 2\n";
    let config = check(text).unwrap();
    assert_eq!(config.hub, Some(HubAddress { host: "fd00::1".into(), port: 1884 }));
    assert_eq!(config.engine, EngineChoice::Podman("/p".into()));
    assert_eq!(config.labels, [("zone".to_owned(), "roof".to_owned())]);
    assert_eq!(config.generic, [GenericResource { kind: "camera".into(), count: 2 }]);
    assert_eq!(config.heartbeat, Duration::from_millis(500));
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_line() {
    let error =
        check("hubb = 'x'\nheartbeat = '0s'\nname = 'A b'\nengine = 'lxc'\n[generic]\ncam = 'x'\n").unwrap_err();
    let text = error.to_string();
    for part in [
        "line 1: unknown key `hubb`; did you mean `hub`?",
        "line 2: heartbeat (0s) must be between 100ms and 5m",
        "line 3: `A b` cannot be the name of a device",
        "line 4: engine (`lxc`) must be docker, podman or memory",
        "line 6: ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let lines: Vec<&str> = text.lines().filter_map(|line| line.trim().split(':').next()).skip(1).collect();
    assert_eq!(lines, ["- line 1", "- line 2", "- line 3", "- line 4", "- line 6"], "in the order of the file");
}

#[test]
fn a_mistake_in_a_flag_does_not_accuse_the_file() {
    let flags = Raw { name: Some(Placed { value: "Bad Name".into(), line: None }), ..Raw::default() };
    let error = Config::check("agent.toml", Raw::parse(""), flags, &around()).unwrap_err().to_string();
    assert!(error.starts_with("the settings do not make sense:\n  - `Bad Name` cannot be"), "{error}");
    let error = check("name = 'Bad Name'\n").unwrap_err().to_string();
    assert!(error.starts_with("agent.toml does not make sense:\n  - line 1: `Bad Name` cannot be"), "{error}");
}

/// Otherwise the identity would be gone with the container.
#[test]
fn the_image_keeps_the_state_where_the_agent_puts_it() {
    let dockerfile = include_str!("../../../images/agent/Dockerfile");
    for line in [format!("COPY state {DEFAULT_STATE_DIR}"), format!("VOLUME {DEFAULT_STATE_DIR}")] {
        assert!(dockerfile.lines().any(|found| found == line), "no `{line}`");
    }
}

#[test]
fn images_are_kept_or_removed_within_limits_that_make_sense() {
    let limits = |text: &str| check(text).map(|config| config.images.map(|l| (l.above.value(), l.down_to.value())));
    assert_eq!(limits("").unwrap(), Some((850, 800)));
    assert_eq!(limits("image_gc_above = 90\n").unwrap(), Some((900, 850)));
    assert_eq!(limits("image_gc_above = '70%'\nimage_gc_to = '60%'\n").unwrap(), Some((700, 600)));
    assert_eq!(limits("image_gc_above = 'off'\n").unwrap(), None);
    for (bad, told) in [
        ("image_gc_above = 100\n", "line 1: image_gc_above (`100`) must be 1% to 99%, or `off`"),
        ("image_gc_to = 90\n", "line 1: image_gc_to (90%) must not be above image_gc_above (85%)"),
    ] {
        let error = limits(bad).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn text_that_is_no_toml_is_told_with_its_line() {
    let text = check("name = 'a'\nhub = = 3\n").unwrap_err().to_string();
    assert!(text.contains("line 2"), "{text}");
}

#[test]
fn flags_win_over_the_file() {
    let flag = |text: &str| Some(Placed { value: text.to_owned(), line: None });
    let flags = Raw { name: flag("b"), labels: vec![("zone".into(), flag("cellar").unwrap())], ..Raw::default() };
    let file = Raw::parse("name = 'a'\n[labels]\nzone = 'roof'\nrack = '1'\n");
    let config = Config::check("agent.toml", file, flags, &around()).unwrap();
    assert_eq!(config.device.as_str(), "b");
    assert_eq!(config.labels, [("rack".into(), "1".into()), ("zone".into(), "cellar".into())]);
}

#[test]
fn the_name_of_the_certificate_is_the_name_of_the_device() {
    let around = Surroundings { joined: Some("attic".parse().unwrap()), ..around() };
    let check = |text: &str| Config::check("agent.toml", Raw::parse(text), Raw::default(), &around);
    assert_eq!(check("").unwrap().device.as_str(), "attic");
    let error = check("name = 'cellar'").unwrap_err().to_string();
    assert!(error.contains("line 1: name (cellar) is not the name under which this device has joined (attic)"));
    assert_eq!(check("name = 'cellar'\ninsecure_local = true").unwrap().device.as_str(), "cellar");
}

#[test]
fn without_tls_there_is_no_hub_but_one_on_this_device() {
    let config = check("insecure_local = true").unwrap();
    assert_eq!(config.hub.unwrap().to_string(), "127.0.0.1:1883");
    for hub in ["localhost", "127.0.0.7:1", "[::1]:1884"] {
        assert!(check(&format!("insecure_local = true\nhub = '{hub}'")).is_ok(), "{hub}");
    }
    for hub in ["hub.local", "10.0.0.1:1883", "localhost.evil.example", "0.0.0.0"] {
        let error = check(&format!("insecure_local = true\nhub = '{hub}'")).unwrap_err().to_string();
        assert!(error.contains("is not on this device"), "{error}");
    }
    assert!(check("insecure_local = 'perhaps'").unwrap_err().to_string().contains("must be true or false"));
    assert_eq!(check("hub = 'hub.local'").unwrap().hub.unwrap().to_string(), "hub.local:8883");
}

#[test]
fn the_environment_names_the_engine_where_nothing_else_does() {
    let around = Surroundings { docker_host: Some("unix:///run/d.sock".into()), ..around() };
    let config = Config::check("x", Raw::default(), Raw::default(), &around).unwrap();
    assert_eq!(config.engine, EngineChoice::Docker("/run/d.sock".into()));
}

#[test]
fn addresses_and_times_have_several_forms() {
    let address = |text| parse_address(text, Some(1883)).map(|address| (address.host, address.port));
    assert_eq!(address("hub.local"), Some(("hub.local".into(), 1883)));
    assert_eq!(address("::1"), Some(("::1".into(), 1883)));
    assert_eq!(address("[::1]"), Some(("::1".into(), 1883)));
    assert_eq!(parse_address("hub.local", None), None);
    for bad in ["", ":1", "a:x", "a:0", "mqtt://a:1", "[::1]x", "[::1", "a b"] {
        assert_eq!(address(bad), None, "{bad}");
    }
    assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
    for bad in ["", "1", "s", "1h", "-1s", "1.5s", "99999999999999999999s"] {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
}

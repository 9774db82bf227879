//! What a settings file may say, and how mistakes in it are told.

use super::*;

fn load(text: &str) -> Result<Config, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), Raw::default())
}

fn problems(text: &str) -> Vec<String> {
    load(text).unwrap_err().problems
}

#[test]
fn an_empty_file_gives_the_promised_defaults() {
    let config = load("").unwrap();
    assert_eq!(config.http_listen, "0.0.0.0:7640".parse().unwrap());
    assert!(matches!(config.broker, Broker::Embedded(address) if address.port() == 8883));
    assert_eq!(config.security, Security::Tls);
    assert_eq!(config.policy.lost_after, Duration::from_secs(4));
    assert_eq!(config.joining, Joining { by_code: true, announced: true });
}

#[test]
fn the_network_is_told_of_a_hub_that_it_can_reach_and_only_if_that_is_wanted() {
    for text in ["http_listen = \"127.0.0.1:7640\"", "mdns = false", "mdns = \"false\"", "insecure_local = true"] {
        assert!(!load(text).unwrap().joining.announced, "{text}");
    }
    assert!(!load("join_codes = false").unwrap().joining.by_code);
    assert!(problems("mdns = \"maybe\"")[0].contains("neither true nor false"));
}

/// Otherwise the fleet would be gone with the container, or the hub could not even start.
#[test]
fn the_image_keeps_the_state_where_the_hub_puts_it() {
    let dockerfile = include_str!("../../../images/hub/Dockerfile");
    let state_dir = super::default("state_dir");
    for line in [format!("COPY --chown=65532:65532 state {state_dir}"), format!("VOLUME {state_dir}")] {
        assert!(dockerfile.lines().any(|found| found == line), "no `{line}`");
    }
}

#[test]
fn all_problems_are_told_at_once_with_their_line() {
    let text =
        "heartbeat = \"3s\"\nsuspect_after = \"2s\"\nbrocker = \"x\"\nlost_after = 4\nlost_after_will = \"soon\"\n";
    assert_eq!(
        problems(text),
        [
            "line 2: suspect_after (2s) must be longer than heartbeat (3s)",
            "line 3: unknown key `brocker`; did you mean `external_broker`?",
            "line 4: lost_after must be a text in quotes",
            "line 5: lost_after_will: `soon` is no duration, such as 500ms, 4s or 2m",
        ]
    );
}

#[test]
fn who_asks_nobody_is_reached_by_nobody_else() {
    let config = load("insecure_local = true").unwrap();
    assert_eq!((config.http_listen, config.security), ("127.0.0.1:7640".parse().unwrap(), Security::InsecureLocal));
    assert!(matches!(config.broker, Broker::Embedded(address) if address == "127.0.0.1:1883".parse().unwrap()));
    for key in ["http_listen", "mqtt_listen"] {
        let refused = problems(&format!("insecure_local = true\n{key} = \"0.0.0.0:7640\""));
        assert!(refused[0].contains("can be reached from other machines"), "{refused:?}");
    }
    let refused = problems("insecure_local = true\nexternal_broker = \"mqtt.lan:1883\"");
    assert!(refused[0].contains("is not on this machine"), "{refused:?}");
}

#[test]
fn keys_that_are_gone_say_what_came_instead() {
    let refused = problems("insecure_listen = true\nhttp_names = [\"hub\"]");
    assert!(refused[0].starts_with("line 1: insecure_listen is gone"), "{refused:?}");
    assert!(refused[1].starts_with("line 2: http_names is gone: it is called `names` now"), "{refused:?}");
}

/// S54: what is cut off or came from elsewhere is refused with its line.
#[test]
fn an_authority_file_that_is_not_whole_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    for (text, told) in [("", "empty"), ("\n", "line 1"), ("-----BEGIN CERTIFICATE-----\n", "line 1")] {
        std::fs::write(&file, text).unwrap();
        let settings = format!("external_broker = \"mqtt.lan:8883\"\nexternal_broker_ca = \"{}\"", file.display());
        let refused = problems(&settings);
        assert!(refused[0].starts_with("line 2: external_broker_ca") && refused[0].contains(told), "{refused:?}");
    }
}

#[test]
fn flags_go_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.toml");
    std::fs::write(&file, "lost_after = \"9s\"\nstate_dir = \"/here\"").unwrap();
    let mut flags = Raw::default();
    flags.set("lost_after", "7s", Origin::Flag);
    let config = Config::load(Some(&file), flags).unwrap();
    assert_eq!((config.policy.lost_after.as_secs(), config.state_dir), (7, PathBuf::from("/here")));
}

#[test]
fn devices_with_a_label_have_their_own_limit() {
    let config = load("lost_after_of = [\"link=wifi 10s\"]").unwrap();
    assert_eq!(config.policy.lost_after_of[0].lost_after, Duration::from_secs(10));
    assert_eq!(problems("lost_after_of = [\"wifi\"]").len(), 1);
}

#[test]
fn broken_text_is_told_with_its_line() {
    assert!(problems("\nx = = 1")[0].starts_with("line 2: "));
}

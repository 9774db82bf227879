//! Every parser that takes bytes from outside, with what must hold where they make sense.

use outrigger_agent::config::{Config, Raw, Surroundings};
use outrigger_agent::identity::HubFile;
use outrigger_agent::join::{self, HubUrl};
use outrigger_agent::policy::{Guarded, Origin, Policy};
use outrigger_api as api;
use outrigger_compose::{Sources, load};
use outrigger_protocol::{
    Channel, DeviceName, ReplicaName, ServiceName, ServiceRef, StackName, Topic, decode_down, decode_up, encode_down,
    encode_up, login_from_bytes, login_to_bytes,
};
use outrigger_proxy::fuzz;
use outrigger_trust::{
    Certificate, CertificateDer, JoinCode, Pin, Proof, ReaderKey, Token, certificates_from_pem, verify_device_chain,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::seeds;

/// One parser, or a few that are alike.
#[derive(Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Inputs that make sense.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Parses, checks, and says whether the bytes made sense.
    pub check: fn(&[u8]) -> bool,
    /// Largest input: a little more than what the parser lets in, so that its limit is tried, too.
    pub largest: usize,
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    Target { name: "mqtt", seeds: seeds::mqtt, check: mqtt, largest: 70_000 },
    Target { name: "compose", seeds: seeds::compose, check: compose, largest: 70_000 },
    Target { name: "tokens", seeds: seeds::tokens, check: tokens, largest: 300 },
    Target { name: "certificates", seeds: seeds::certificates, check: certificates, largest: 8_000 },
    Target { name: "names", seeds: seeds::names, check: names, largest: 300 },
    Target { name: "bodies", seeds: seeds::bodies, check: bodies, largest: 8_000 },
    Target { name: "files", seeds: seeds::files, check: files, largest: 8_000 },
    Target { name: "sealed", seeds: seeds::sealed, check: sealed, largest: 2_000 },
    Target { name: "frames", seeds: seeds::frames, check: fuzz::frames, largest: 4_000 },
    Target { name: "dns", seeds: seeds::dns, check: fuzz::dns, largest: 2_000 },
    Target { name: "http", seeds: seeds::http, check: fuzz::http, largest: 20_000 },
    Target { name: "streams", seeds: seeds::streams, check: fuzz::streams, largest: 4_000 },
];

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The first byte is the channel.
fn mqtt(bytes: &[u8]) -> bool {
    let Some((channel, payload)) = bytes.split_first() else { return false };
    let all: Vec<Channel> = Channel::UP.into_iter().chain(Channel::DOWN).collect();
    let channel = all[usize::from(*channel) % all.len()];
    if channel.is_up() {
        let Ok(message) = decode_up(channel, payload) else { return false };
        if let Ok(again) = encode_up(&message) {
            assert_eq!(decode_up(channel, &again).as_ref(), Ok(&message), "a message changes when it is sent on");
        }
        true
    } else {
        let Ok(message) = decode_down(channel, payload) else { return false };
        if let Ok(again) = encode_down(&message) {
            assert_eq!(decode_down(channel, &again).as_ref(), Ok(&message), "a message changes when it is sent on");
        }
        true
    }
}

fn compose(bytes: &[u8]) -> bool {
    load("shop".parse().ok(), &Sources::of("compose.yaml", &text(bytes))).stack.is_some()
}

fn tokens(bytes: &[u8]) -> bool {
    let text = text(bytes);
    if let Ok(pin) = text.parse::<Pin>() {
        assert_eq!(pin.to_string(), text, "a pin has two texts");
    }
    if let Ok(code) = text.parse::<JoinCode>() {
        let again = code.reveal().parse::<JoinCode>().expect("a code is understood as it is shown");
        assert_eq!(again.reveal(), code.reveal(), "a code has two meanings");
    }
    let _ = text.parse::<Proof>();
    match text.parse::<Token>() {
        Ok(token) => {
            assert_eq!(token.reveal(), text, "a token has two texts");
            true
        }
        Err(error) => {
            assert!(error.to_string().len() < 200, "an error repeats what was pasted");
            false
        }
    }
}

fn certificates(bytes: &[u8]) -> bool {
    let der = CertificateDer::from(bytes.to_vec());
    let chain = [der.clone()];
    let _ = verify_device_chain(&chain, &chain);
    let read = Certificate::read(&der);
    if let Some(name) = read.as_ref().ok().and_then(|read| read.common_name.as_ref()) {
        let _ = name.parse::<DeviceName>();
    }
    let pem = certificates_from_pem(&text(bytes));
    if let Ok(certificates) = &pem {
        assert_eq!(outrigger_trust::pem_of_certificates(certificates).len(), bytes.len(), "PEM has two texts");
    }
    read.is_ok() || pem.is_ok()
}

fn names(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let same = |shown: String| {
        assert_eq!(shown, text, "a name has two texts");
        assert!(!shown.contains(['+', '#', '$', '\0', ' ', ';', '`', '\n']), "{shown:?}");
        true
    };
    let names = [
        text.parse::<DeviceName>().map(|name| name.to_string()).ok(),
        text.parse::<StackName>().map(|name| name.to_string()).ok(),
        text.parse::<ServiceName>().map(|name| name.to_string()).ok(),
        text.parse::<ServiceRef>().map(|name| name.to_string()).ok(),
        text.parse::<ReplicaName>().map(|name| name.to_string()).ok(),
        text.parse::<Topic>().map(|topic| topic.to_string()).ok(),
    ];
    let is_url = text.parse::<HubUrl>().is_ok_and(|url| url.to_string().parse() == Ok(url));
    names.into_iter().flatten().map(same).count() > 0 || is_url
}

fn body<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return false };
    let text = serde_json::to_string(&value).unwrap();
    let again: T = serde_json::from_str(&text).expect("what was understood is understood again");
    assert_eq!(serde_json::to_string(&again).unwrap(), text, "a body changes when it is sent on");
    true
}

fn bodies(bytes: &[u8]) -> bool {
    let understood = [
        body::<api::JoinRequest>(bytes),
        body::<api::KnockRequest>(bytes),
        body::<api::CodeApproval>(bytes),
        body::<api::UserRequest>(bytes),
        body::<api::LoginRequest>(bytes),
        body::<api::PasswordRequest>(bytes),
        body::<api::InviteRequest>(bytes),
        body::<api::TokenRequest>(bytes),
        body::<api::SetupRequest>(bytes),
        body::<api::ApplyRequest>(bytes),
        body::<api::ScaleRequest>(bytes),
        body::<api::DeviceChange>(bytes),
        body::<api::DevicesChange>(bytes),
        body::<api::FileRequest>(bytes),
        body::<api::RegistryLoginRequest>(bytes),
        body::<api::LossConfirmation>(bytes),
        // The agent's side: what a hub answers.
        body::<join::Response>(bytes),
    ];
    understood.contains(&true)
}

fn files(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let hub = text.parse::<HubFile>();
    if let Ok(hub) = &hub {
        assert_eq!(hub.to_string().parse().as_ref(), Ok(hub), "hub.toml changes when it is written");
    }
    let around = Surroundings { host_name: "pi".into(), ..Surroundings::default() };
    let config = Config::check("agent.toml", Raw::parse(&text), Raw::default(), &around);
    let policy = Policy::of(&text, "policy.toml".into(), Guarded::default());
    hub.is_ok() || config.is_ok() || matches!(policy.origin, Origin::File)
}

/// What a device makes of an answer to its question: nothing that is not sealed to it opens, and a login is bytes from a
/// hub that may be in the wrong hands.
fn sealed(bytes: &[u8]) -> bool {
    if let Some((from, rest)) = bytes.split_first_chunk::<32>() {
        let opened = ReaderKey::fresh().unwrap().open(b"context", from, rest);
        assert!(opened.is_err(), "what was sealed for nobody opens");
    }
    let Some(login) = login_from_bytes(bytes) else { return false };
    assert_eq!(login_from_bytes(&login_to_bytes(&login)), Some(login), "a login changes when it is sent on");
    true
}

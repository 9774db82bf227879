//! Where mutations begin: inputs that make sense, and pieces that are known to hurt.

use outrigger_protocol::{
    Ask, Assignment, Bye, ByeReason, Certificate, Channel, DownMessage, Epoch, Lease, Load, LogsRequest, Permille,
    PlacementId, Renew, Report, RequestId, SessionNumber, Throttling, UpMessage, encode_down, encode_up,
};
use outrigger_trust::testing::TestAuthority;
use outrigger_trust::{DeviceKey, Kind, Pin, Token, pem_of_certificates};

/// Pieces that parsers of text and bytes stumble over.
#[must_use]
pub fn dictionary() -> Vec<&'static [u8]> {
    vec![
        b"{",
        b"[",
        b"]",
        b"}",
        b"\"",
        b"'",
        b"\\u0000",
        b"null",
        b"-",
        b"1e999",
        b"99999999999999999999",
        b"0x",
        b"~",
        b"&a ",
        b"*a",
        b"<<: ",
        b"- ",
        b": ",
        b"? ",
        b"|\n",
        b">-\n",
        b"!!binary ",
        b"%YAML 1.2\n",
        b"---\n",
        b"...\n",
        b"\t",
        b"\r\n",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\x00",
        "рi".as_bytes(),
        "\u{202e}".as_bytes(),
        b"${A:-${B}}",
        b"$$",
        b"../",
        b"/",
        b"+",
        b"#",
        b"$SYS/",
        b"$share/a/",
        b"or/1/",
        b".",
        b"or1.",
        b"-----BEGIN X-----\n",
        b"\x30\x80",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x83\xff\xff\xff",
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"; reboot",
        b"`id`",
        b"$(id)",
        b"\x1b[2J",
    ]
}

/// A channel's number and a payload on it.
pub(crate) fn mqtt() -> Vec<Vec<u8>> {
    let session = SessionNumber(77);
    let load = Load {
        cpu: Permille::new(1),
        memory: Permille::new(2),
        swap: Permille::new(3),
        disk: Permille::new(4),
        load1: 5,
        rx_kbps: 6,
        tx_kbps: 7,
        temperature: Some(8),
        throttling: Throttling(0),
    };
    let up = [
        UpMessage::Bye(Bye { session, reason: ByeReason::Restart }),
        UpMessage::Report(Report { session, sequence: 1, statuses: 1, held: None, load: Some(load), usage: vec![] }),
        UpMessage::Renew(Renew { session, request: vec![0x30, 0] }),
    ];
    let logs =
        LogsRequest { placement: PlacementId(1), tail: Some(1), since_unix: None, follow: true, timestamps: true };
    let down = [
        DownMessage::Want(Assignment::default()),
        DownMessage::Lease(Lease { epoch: Epoch(1), session, sequence: 1 }),
        DownMessage::Ask(Ask::Logs(RequestId(1), logs)),
        DownMessage::Ask(Ask::Renew),
        DownMessage::Certificate(Certificate { chain: vec![vec![1]], authorities: vec![vec![2]] }),
    ];
    let number = |channel: Channel| {
        let all = Channel::UP.into_iter().chain(Channel::DOWN);
        u8::try_from(all.into_iter().position(|one| one == channel).unwrap()).unwrap()
    };
    let framed = |channel, bytes: Vec<u8>| [vec![number(channel)], bytes].concat();
    let up = up.iter().map(|message| framed(message.channel(), encode_up(message).unwrap()));
    let down = down.iter().map(|message| framed(message.channel(), encode_down(message).unwrap()));
    // A hello and a status are too long to be written here: their golden payloads, as old devices send them.
    let hello = "010087e002c0c407fe950301e7bd3c0101ac0280d8c1a28c34e80705302e312e300101020644656269616e03362e31010e5261737062657272792050692034a01f80808080100100023238010101047a6f6e65056174746963010572656c61790201010c2f6465762f747479555342300101000a000004";
    let status = "0102c0c407030101ac02000185808080100473686f7003776562020690030465786974030901010c303132333435363738396162097368613235363a30300150903f0001057765623a31";
    up.chain(down).chain([framed(Channel::Hello, unhex(hello)), framed(Channel::Status, unhex(status))]).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(crate) fn compose() -> Vec<Vec<u8>> {
    let files: [&str; 5] = [
        include_str!("../../compose/tests/files/nextcloud.yaml"),
        include_str!("../../compose/tests/files/home-assistant.yaml"),
        include_str!("../../compose/tests/files/whoami.yaml"),
        include_str!("../../tests/demo.compose.yaml"),
        "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nservices:\n  w: { <<: [*b], image: w, deploy: { replicas: ${N:-2} } }\n",
    ];
    files.map(|file| file.as_bytes().to_vec()).to_vec()
}

pub(crate) fn tokens() -> Vec<Vec<u8>> {
    [Kind::Join, Kind::Setup, Kind::Api].map(|kind| Token::fresh(kind, Pin([7; 32])).reveal().into_bytes()).to_vec()
}

/// Certificates as DER, and the same as PEM.
pub(crate) fn certificates() -> Vec<Vec<u8>> {
    let authority = TestAuthority::new();
    let key = DeviceKey::fresh().unwrap();
    let chain = authority.device(&key.request("pi-7").unwrap());
    let (server, _) = authority.server(&["hub.local", "10.0.0.1"]);
    let pem = pem_of_certificates(&chain).into_bytes();
    chain.iter().chain(&server).map(|one| one.as_ref().to_vec()).chain([pem]).collect()
}

pub(crate) fn names() -> Vec<Vec<u8>> {
    ["pi-7", "shop/web.2", "shop/web", "a", "or/1/pi/hello", "https://hub:7640"].map(|text| text.into()).to_vec()
}

pub(crate) fn bodies() -> Vec<Vec<u8>> {
    [
        r#"{"token":"or1.join.x","name":"pi","csr":"-----BEGIN"}"#,
        r#"{"uses":3,"ttl_s":60,"name":"pi","labels":{"zone":"attic"}}"#,
        r#"{"name":"ci","role":"viewer","stacks":["shop"],"ttl_s":60}"#,
        r#"{"compose":"services: {}","files":{"a":"b"},"variables":{"A":null}}"#,
        r#"{"replicas":2}"#,
        r#"{"availability":"drain","labels":{"a":null}}"#,
        r#"{"name":"pi","certificate":"-","authorities":"-","mqtt":["a:1"],"fleet":"x"}"#,
    ]
    .map(|text| text.into())
    .to_vec()
}

pub(crate) fn files() -> Vec<Vec<u8>> {
    [
        "url = \"https://hub:7640\"\nmqtt = [\"hub:8883\", \"[fd00::1]:8883\"]\nfleet = \"home\"\n",
        "name = 'a'\nhub = 'h:1'\nheartbeat = '1s'\n[labels]\na = 'b'\n[generic]\ncam = 1\n",
    ]
    .map(|text| text.into())
    .to_vec()
}

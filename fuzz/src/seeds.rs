//! Where mutations begin: inputs that make sense, and pieces that are known to hurt.

use outrigger_protocol::{
    Ask, Assignment, Bye, ByeReason, Certificate, Channel, DownMessage, Epoch, Lease, Load, Login, LogsRequest,
    Permille, PlacementId, Renew, Report, RequestId, SessionNumber, Throttling, UpMessage, encode_down, encode_up,
    login_to_bytes,
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
    // So are the service network's and those of secrets.
    let hello = "010087e002c0c407fe950301e7bd3c0101ac0280d8c1a28c34e80705302e312e300101020644656269616e03362e31010e5261737062657272792050692034a01f80808080100100023238010101047a6f6e65056174746963010572656c61790201010c2f6465762f747479555342300101000a000004";
    let status = "0102c0c407030101ac02000185808080100473686f7003776562020690030465786974030901010c303132333435363738396162097368613235363a30300150903f0001057765623a31";
    let routes = "0104e7bd3c010901da3b010470692d3202000a00000201fd000000000000000000000000000002db3b010473686f7003776562010c73686f705f64656661756c74010377777701903f5000010101028580808010000086808080100100010100";
    let mesh = "0106c0c407010901903f000e4164647265737320696e20757365010470692d32018680808010010b6e6f206e667461626c6573";
    let unseal =
        "010706010c6875622e6c616e3a3530303009090909090909090909090909090909090909090909090909090909090909090000";
    let sealed = "010505000707070707070707070707070707070707070707070707070707070707070707020102";
    let golden = [
        (Channel::Hello, hello),
        (Channel::Status, status),
        (Channel::Answer, "010404010001010368690a"),
        (Channel::Routes, routes),
        (Channel::Mesh, mesh),
        (Channel::Unseal, unseal),
        (Channel::Sealed, sealed),
    ];
    up.chain(down).chain(golden.map(|(channel, hex)| framed(channel, unhex(hex)))).collect()
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
        r#"{"content":"c2VjcmV0","labels":{"a":"b"}}"#,
        r#"{"username":"ann","password":"x"}"#,
        r#"{"user":"ann","password":"x"}"#,
        r#"{"code":"A1B2-C3D4","name":"pi","labels":{}}"#,
        r#"{"devices":["a","b"],"availability":"drain"}"#,
        r#"{"availability":"drain","labels":{"a":null}}"#,
        r#"{"name":"pi","certificate":"-","authorities":"-","mqtt":["a:1"],"fleet":"x"}"#,
    ]
    .map(|text| text.into())
    .to_vec()
}

pub(crate) fn files() -> Vec<Vec<u8>> {
    [
        "url = \"https://hub:7640\"\nmqtt = [\"hub:8883\", \"[fd00::1]:8883\"]\nfleet = \"home\"\n",
        "privileged = true\nbinds = ['/srv/media:ro']\ndevices = ['/dev/ttyUSB*']\ncapabilities = ['NET_ADMIN']\n",
        "name = 'a'\nhub = 'h:1'\nheartbeat = '1s'\n[labels]\na = 'b'\n[generic]\ncam = 1\n",
    ]
    .map(|text| text.into())
    .to_vec()
}

/// The bytes of a login, and what could be a key with something sealed.
pub(crate) fn sealed() -> Vec<Vec<u8>> {
    let login = Login { username: "ann".into(), password: "x".into() };
    vec![login_to_bytes(&login).to_vec(), login_to_bytes(&Login { password: String::new(), ..login }).to_vec()]
}

/// The first byte says what follows: how a stream begins, a name, a message to the proxy, one of it.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let open = b"\x00\x01\x1e\x00\x07\x00P\x01\x04shop\x00\x0a\x00\x00\x01\xd2\x09\x00\x0a\x00\x00\x02P";
    let mut open = open.to_vec();
    open[2] = u8::try_from(open.len() - 4).unwrap_or_default();
    let name = b"\x01\x01\x04pi-7".to_vec();
    let control = |kind: u8, body: Vec<u8>| {
        [vec![kind], u32::try_from(body.len()).unwrap().to_le_bytes().to_vec(), body].concat()
    };
    let (wanted, observed) = outrigger_proxy::fuzz::messages();
    vec![open, name, control(2, wanted), control(3, observed)]
}

/// Questions for addresses, for a name, with an announced size.
pub(crate) fn dns() -> Vec<Vec<u8>> {
    let head = |extra: u8| [b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00".to_vec(), vec![extra]].concat();
    let pointer = b"\x011\x010\x010\x0210\x07in-addr\x04arpa\x00\x00\x0c\x00\x01".to_vec();
    vec![
        [head(0), b"\x03web\x00\x00\x01\x00\x01".to_vec()].concat(),
        [head(0), b"\x05tasks\x03web\x00\x00\x1c\x00\x01".to_vec()].concat(),
        [head(0), pointer].concat(),
        [head(1), b"\x03web\x00\x00\xff\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00".to_vec()].concat(),
    ]
}

/// Bit 0 of the first byte: an answer; bit 1: to a HEAD request.
pub(crate) fn http() -> Vec<Vec<u8>> {
    [
        "\x00GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "\x00PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /",
        "\x01HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "\x03HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "\x01HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        "\x01HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
    ]
    .map(|text| text.into())
    .to_vec()
}

/// Frames of yamux: a stream is opened and says something, its window grows, a ping, the end.
pub(crate) fn streams() -> Vec<Vec<u8>> {
    let frame = |kind: u8, flags: u8, stream: u8, length: u8| vec![0, kind, 0, flags, 0, 0, 0, stream, 0, 0, 0, length];
    let open = [frame(0, 1, 1, 5), b"\x01\x02\x00ab".to_vec()].concat();
    vec![
        open.clone(),
        [frame(1, 1, 1, 200), open.clone(), frame(0, 4, 1, 0)].concat(),
        [open.clone(), frame(2, 1, 0, 7), frame(0, 1, 3, 0), frame(0, 8, 3, 0)].concat(),
        [open, frame(3, 0, 0, 0)].concat(),
    ]
}

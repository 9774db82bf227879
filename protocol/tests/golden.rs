//! One payload of each message and version, byte for byte. A change here is a change of the wire: old agents and new
//! hubs must still understand each other, so it needs a new variant and a page in `docs/decisions/`, not a new constant.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use outrigger_protocol::{
    Affinity, Answer, AnswerBody, Arch, Ask, Assigned, Assignment, AttachedDevice, Attachment, BootId, Bye, ByeReason,
    Bytes, Certificate, CgroupVersion, Channel, ContainerSpec, DeviceKind, DownMessage, Endpoint, EndpointState,
    Engine, EngineKind, EngineState, Epoch, ExitCause, Facts, FileKind, FileMount, FileRef, FleetId, Generation,
    GenericResource, Goal, Hello, IngressPort, Item, Lease, Load, LogChunk, LogStream, Login, LogsRequest, LossPolicy,
    MemoryLimits, MeshStatus, MilliCpu, NetworkSpec, Observed, Peer, Permille, Phase, PlacementId, PortProtocol,
    PublishMode, PublishedPort, Renew, Report, RequestId, Retry, Routes, Sealed, SealedContent, ServiceRoutes,
    SessionNumber, Stamp, Status, TakenPort, Throttling, Traffic, Unseal, UpMessage, Usage, decode_down, decode_up,
    encode_down, encode_up, login_from_bytes, login_to_bytes, sealed_context,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn stamp() -> Stamp {
    Stamp { epoch: Epoch(1), generation: Generation(300) }
}

fn hello() -> UpMessage {
    UpMessage::Hello(Box::new(Hello {
        boot: BootId(0xb007),
        session: SessionNumber(123_456),
        machine: 0xcafe,
        fleet: Some(FleetId(0xf1ee7)),
        held: Some(stamp()),
        unix_ms: 1_790_000_000_000,
        heartbeat_ms: 1000,
        facts: Facts {
            agent: "0.1.0".into(),
            arch: Arch::Arm64,
            also_runs: vec![Arch::ArmV7],
            os: "Debian".into(),
            kernel: "6.1".into(),
            board: Some("Raspberry Pi 4".into()),
            cpu: MilliCpu(4000),
            memory: Bytes(4 << 30),
            engine: Some(Engine { kind: EngineKind::Docker, version: "28".into() }),
            cgroup: CgroupVersion::V2,
            memory_limits: MemoryLimits::Off,
            labels: vec![("zone".into(), "attic".into())],
            generic: vec![GenericResource { kind: "relay".into(), count: 2 }],
            devices: vec![AttachedDevice { kind: DeviceKind::Serial, path: "/dev/ttyUSB0".into() }],
            root_on_flash: true,
            address: Some("10.0.0.4".parse().unwrap()),
            mesh_port: None,
            policy: 7,
        },
    }))
}

fn load() -> Load {
    Load {
        cpu: Permille::new(125),
        memory: Permille::new(500),
        swap: Permille::new(0),
        disk: Permille::new(730),
        load1: 42,
        rx_kbps: 3,
        tx_kbps: 2,
        temperature: Some(512),
        throttling: Throttling(Throttling::UNDERVOLTAGE),
    }
}

fn report() -> UpMessage {
    UpMessage::Report(Report {
        session: SessionNumber(123_456),
        sequence: 77,
        statuses: 3,
        held: Some(stamp()),
        load: Some(load()),
        usage: vec![Usage { placement: PlacementId(0x1_0000_0005), cpu_milli: 120, memory: Bytes(5_000_000) }],
    })
}

fn status() -> UpMessage {
    UpMessage::Status(Status {
        session: SessionNumber(123_456),
        number: 3,
        held: Some(stamp()),
        engine: EngineState::Up,
        replicas: vec![Observed {
            placement: PlacementId(0x1_0000_0005),
            replica: "shop/web.2".parse().unwrap(),
            phase: Phase::BackOff { retry_ms: 400, reason: "exit".into() },
            restarts: 3,
            since_s: 9,
            last_exit: Some(ExitCause::OutOfMemory),
            container: "0123456789ab".into(),
            digest: "sha256:00".into(),
            ports: vec![(80, 8080, PortProtocol::Tcp)],
        }],
        images: vec!["web:1".into()],
    })
}

fn bye() -> UpMessage {
    UpMessage::Bye(Bye { session: SessionNumber(123_456), reason: ByeReason::Restart })
}

fn answer() -> UpMessage {
    let chunk = LogChunk { stream: LogStream::Stderr, bytes: b"hi\n".to_vec() };
    UpMessage::Answer(Answer { request: RequestId(4), sequence: 1, body: AnswerBody::Logs(vec![chunk]) })
}

fn db() -> FileRef {
    FileRef { kind: FileKind::Secret, name: "shop_db".parse().unwrap(), version: 300 }
}

fn want() -> DownMessage {
    let spec = ContainerSpec {
        image: "web:1".into(),
        environment: vec![("A".into(), "b".into())],
        ports: vec![PublishedPort {
            container: 80,
            host: Some(8080),
            address: None,
            protocol: PortProtocol::Tcp,
            mode: PublishMode::Host,
        }],
        stop_grace: Duration::from_secs(10),
        networks: vec![shop_default()],
        files: vec![FileMount { file: db(), target: "/run/secrets/db".into(), uid: 0, gid: 0, mode: 0o444 }],
        ..ContainerSpec::default()
    };
    DownMessage::Want(Assignment {
        fleet: FleetId(0xf1ee7),
        stamp: stamp(),
        specs: vec![spec],
        replicas: vec![Assigned {
            placement: PlacementId(0x1_0000_0005),
            replica: "shop/web.2".parse().unwrap(),
            spec: 0,
            goal: Goal::Run,
            loss: LossPolicy::Exclusive { lease: Duration::from_secs(30) },
        }],
        networks: vec![NetworkSpec { name: "shop_default".parse().unwrap(), internal: false, ipv6: true }],
    })
}

fn shop_default() -> Attachment {
    Attachment { network: "shop_default".parse().unwrap(), aliases: vec!["www".into()] }
}

fn routes() -> DownMessage {
    DownMessage::Routes(Routes {
        fleet: FleetId(0xf1ee7),
        epoch: Epoch(1),
        number: 9,
        relay_port: Some(7642),
        peers: vec![Peer {
            device: "pi-2".parse().unwrap(),
            addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            port: 7643,
        }],
        services: vec![ServiceRoutes {
            service: "shop/web".parse().unwrap(),
            networks: vec![shop_default()],
            published: vec![IngressPort { port: 8080, target: 80, protocol: PortProtocol::Tcp }],
            traffic: Traffic { affinity: Affinity::ClientAddress, proxy_protocol: true, retry: Retry::IdempotentHttp },
            endpoints: vec![
                Endpoint { placement: PlacementId(0x1_0000_0005), peer: None, state: EndpointState::Ready },
                Endpoint { placement: PlacementId(0x1_0000_0006), peer: Some(0), state: EndpointState::Draining },
            ],
            callers: vec![0],
        }],
        admitted: Some(vec!["pi-2".parse().unwrap(), "pi-3".parse().unwrap()]),
    })
}

fn mesh() -> UpMessage {
    UpMessage::Mesh(MeshStatus {
        session: SessionNumber(123_456),
        held: Some(9),
        taken: vec![TakenPort { port: 8080, protocol: PortProtocol::Tcp, reason: "Address in use".into() }],
        relayed: vec!["pi-2".parse().unwrap()],
        ejected: vec![PlacementId(0x1_0000_0006)],
        trouble: Some("no nftables".into()),
    })
}

fn lease() -> DownMessage {
    DownMessage::Lease(Lease { epoch: Epoch(1), session: SessionNumber(123_456), sequence: 77 })
}

fn ask() -> DownMessage {
    let logs = LogsRequest {
        placement: PlacementId(0x1_0000_0005),
        tail: Some(100),
        since_unix: None,
        follow: true,
        timestamps: false,
    };
    DownMessage::Ask(Ask::Logs(RequestId(4), logs))
}

#[track_caller]
fn up(channel: Channel, message: &UpMessage, golden: &str) {
    let bytes = encode_up(message).unwrap();
    assert_eq!(hex(&bytes), golden);
    assert_eq!(&decode_up(channel, &bytes).unwrap(), message);
}

#[track_caller]
fn down(channel: Channel, message: &DownMessage, golden: &str) {
    let bytes = encode_down(message).unwrap();
    assert_eq!(hex(&bytes), golden);
    assert_eq!(&decode_down(channel, &bytes).unwrap(), message);
}

#[test]
fn hello_1() {
    up(
        Channel::Hello,
        &hello(),
        "010087e002c0c407fe950301e7bd3c0101ac0280d8c1a28c34e80705302e312e300101020644656269616e03362e31010e5261737062657272792050692034a01f80808080100100023238010101047a6f6e65056174746963010572656c61790201010c2f6465762f747479555342300101000a0000040007",
    );
}

#[test]
fn report_1() {
    up(Channel::Report, &report(), "0101c0c4074d030101ac02017df40300da052a03020180080101858080801078c096b102");
}

#[test]
fn status_1() {
    up(
        Channel::Status,
        &status(),
        "0102c0c407030101ac02000185808080100473686f7003776562020690030465786974030901010c303132333435363738396162097368613235363a30300150903f0001057765623a31",
    );
}

#[test]
fn bye_1() {
    up(Channel::Bye, &bye(), "0103c0c40701");
}

#[test]
fn answer_1() {
    up(Channel::Answer, &answer(), "010404010001010368690a");
}

#[test]
fn want_1() {
    down(
        Channel::Want,
        &want(),
        "0100e7bd3c01ac0201057765623a31000000010141016200015001903f0000010000000000000000000000000000000a00000000000000000000000000000000010c73686f705f64656661756c74010377777701000773686f705f6462ac020f2f72756e2f736563726574732f64620000a4020185808080100473686f7003776562020001011e00010c73686f705f64656661756c740001",
    );
}

#[test]
fn lease_1() {
    down(Channel::Lease, &lease(), "010101c0c4074d");
}

#[test]
fn ask_1() {
    down(Channel::Ask, &ask(), "0102010485808080100164000100");
}

#[test]
fn renew_1() {
    let renew = Renew { session: SessionNumber(123_456), request: vec![0x30, 0x00] };
    up(Channel::Renew, &UpMessage::Renew(renew), "0105c0c407023000");
}

#[test]
fn certificate_1() {
    let certificate = Certificate { chain: vec![vec![1], vec![2, 3]], authorities: vec![vec![4]] };
    down(Channel::Certificate, &DownMessage::Certificate(certificate), "0103020101020203010104");
}

#[test]
fn ask_renew_1() {
    down(Channel::Ask, &DownMessage::Ask(Ask::Renew), "010204");
}

#[test]
fn a_heartbeat_with_load_is_a_few_tens_of_bytes() {
    let message = UpMessage::Report(Report {
        session: SessionNumber(86_400_000 * 365),
        sequence: 1_000_000,
        statuses: 1_000,
        held: Some(Stamp { epoch: Epoch(3), generation: Generation(100_000) }),
        load: Some(load()),
        usage: vec![],
    });
    assert!(encode_up(&message).unwrap().len() <= 40);
}

#[test]
fn routes_1() {
    down(
        Channel::Routes,
        &routes(),
        "0104e7bd3c010901da3b010470692d3202000a00000201fd000000000000000000000000000002db3b010473686f7003776562010c73686f705f64656661756c74010377777701903f500001010102858080801000008680808010010001010001020470692d320470692d33",
    );
}

#[test]
fn mesh_1() {
    up(
        Channel::Mesh,
        &mesh(),
        "0106c0c407010901903f000e4164647265737320696e20757365010470692d32018680808010010b6e6f206e667461626c6573",
    );
}

#[test]
fn unseal_1() {
    let unseal = Unseal { request: 5, item: Item::File(db()), to: [9; 32], signer: vec![4, 1], signature: vec![0x30] };
    up(
        Channel::Unseal,
        &UpMessage::Unseal(Box::new(unseal)),
        "01070500000773686f705f6462ac0209090909090909090909090909090909090909090909090909090909090909090204010130",
    );
    let login =
        Unseal { request: 6, item: Item::Login("hub.lan:5000".into()), to: [9; 32], signer: vec![], signature: vec![] };
    up(
        Channel::Unseal,
        &UpMessage::Unseal(Box::new(login)),
        "010706010c6875622e6c616e3a3530303009090909090909090909090909090909090909090909090909090909090909090000",
    );
}

#[test]
fn sealed_1() {
    let here = Sealed { request: 5, content: SealedContent::Here { from: [7; 32], bytes: vec![1, 2] } };
    down(
        Channel::Sealed,
        &DownMessage::Sealed(here),
        "010505000707070707070707070707070707070707070707070707070707070707070707020102",
    );
    let withheld = Sealed { request: 6, content: SealedContent::Withheld("no".into()) };
    down(Channel::Sealed, &DownMessage::Sealed(withheld), "01050601026e6f");
}

#[test]
fn login_1() {
    let login = Login { username: "ann".into(), password: "pw".into() };
    assert_eq!(hex(&login_to_bytes(&login)), "0103616e6e027077");
    assert_eq!(login_from_bytes(&login_to_bytes(&login)), Some(login.clone()));
    assert_eq!(login_from_bytes(&[2, 0, 0]), None);
    assert!(!format!("{login:?}").contains("pw"));
}

/// Both sides must agree on it, or nothing that was sealed opens.
#[test]
fn context_of_what_is_sealed_1() {
    let context = sealed_context(&"pi-1".parse().unwrap(), 5, &Item::File(db()));
    assert_eq!(hex(&context), "6f7574726967676572207365616c65642031000470692d310500000773686f705f6462ac02");
}

/// Later phases come after earlier ones, so that these keep their numbers.
#[test]
fn a_refused_copy() {
    let UpMessage::Status(mut status) = status() else { panic!("a status") };
    status.replicas[0].phase = Phase::Refused { reason: "no".into() };
    let bytes = encode_up(&UpMessage::Status(status)).unwrap();
    assert!(hex(&bytes).contains("0b026e6f"), "{}", hex(&bytes));
}

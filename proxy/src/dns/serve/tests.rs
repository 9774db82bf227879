//! The sockets on loopback addresses: who is answered, what is handed on, and what is bounded.

use std::net::Ipv4Addr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use outrigger_protocol::{Attachment, Routes, ServiceRoutes};

use super::*;
use crate::control::{Subnet, Virtual};

/// All of `127.77.0.0/16`, which needs no interface.
fn network() -> LocalNetwork {
    let v4 = |c, d| Ipv4Addr::new(127, 77, c, d);
    LocalNetwork {
        name: "lan".parse().unwrap(),
        bridge: "lo".to_owned(),
        v4: Subnet { base: v4(0, 0), prefix: 16, gateway: v4(0, 1), virtual_base: v4(128, 0), virtual_prefix: 17 },
        v6: None,
        services: vec![Virtual { service: "shop/web".parse().unwrap(), v4: v4(128, 7), v6: None }],
    }
}

fn wanted() -> Wanted {
    let networks = vec![Attachment { network: "lan".parse().unwrap(), aliases: vec![] }];
    let service = "shop/web".parse().unwrap();
    let (published, endpoints, callers) = (vec![], vec![], vec![]);
    let web = ServiceRoutes { service, networks, published, traffic: Default::default(), endpoints, callers };
    let routes = Routes { services: vec![web], ..Routes::default() };
    Wanted { device: "pi".parse().unwrap(), mesh: None, networks: vec![network()], copies: vec![], routes }
}

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_utf8(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

struct Running {
    udp: SocketAddr,
    tcp: SocketAddr,
    _folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
    _senders: (watch::Sender<Arc<Names>>, watch::Sender<BTreeSet<IpAddr>>),
}

/// A server on ports of the kernel's choice, which asks the resolvers in this text.
async fn running(resolvers: &str, port: u16) -> Running {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("resolv.conf"), resolvers).unwrap();
    let (names, names_inbox) = watch::channel(Arc::new(Names::of(&wanted())));
    let (own, own_inbox) = watch::channel(BTreeSet::from([IpAddr::from([127, 77, 0, 1])]));
    let resolvers = Resolvers::at(folder.path().join("resolv.conf"), port);
    let answerer = Arc::new(Answerer { names: names_inbox, resolvers, own: own_inbox });
    let server = Server { answerer, limits: Limits::default(), trouble: Arc::new(watch::channel(None).0) };
    let at: SocketAddr = ([127, 77, 0, 1], 0).into();
    let (udp, tcp) = bind(at).await.unwrap();
    let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let (mut tasks, network) = (JoinSet::new(), Arc::new(network()));
    tasks.spawn(server.clone().serve_udp(Arc::new(udp), Arc::clone(&network)));
    tasks.spawn(server.serve_tcp(tcp, network));
    Running { udp: udp_at, tcp: tcp_at, _folder: folder, _tasks: tasks, _senders: (names, own) }
}

/// The answer to who asks from this address; none within a moment.
async fn ask(to: SocketAddr, from: [u8; 4], bytes: &[u8], patience: Duration) -> Option<Message> {
    let socket = UdpSocket::bind(SocketAddr::from((from, 0))).await.unwrap();
    socket.send_to(bytes, to).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(patience, socket.recv(&mut buffer)).await.ok()?.ok()?;
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

const SOON: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_millis(300);

#[tokio::test]
async fn containers_are_answered_and_nobody_else_is() {
    let server = running("nameserver 127.0.0.1\n", 1).await;
    let answer = ask(server.udp, [127, 77, 0, 9], &query("web.shop."), SOON).await.unwrap();
    let addresses: Vec<_> = answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
    assert_eq!(addresses, [IpAddr::from([127, 77, 128, 7])]);
    assert_eq!((answer.metadata.id, answer.answers[0].ttl), (4711, 5));
    assert!(ask(server.udp, [127, 78, 0, 9], &query("web.shop."), NEVER).await.is_none(), "an open resolver");
}

#[tokio::test]
async fn a_question_by_tcp_is_answered_and_one_that_never_ends_holds_nothing_up() {
    let server = running("nameserver 127.0.0.1\n", 1).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 77, 0, 9], 0).into()).unwrap();
    let mut hanging = socket.connect(server.tcp).await.unwrap();
    hanging.write_all(&[0, 200, 1]).await.unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 77, 0, 9], 0).into()).unwrap();
    let mut stream = socket.connect(server.tcp).await.unwrap();
    for _ in 0..2 {
        let question = query("web.");
        stream.write_u16(u16::try_from(question.len()).unwrap()).await.unwrap();
        stream.write_all(&question).await.unwrap();
        let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
    }
}

#[tokio::test]
async fn without_a_resolver_that_answers_who_asks_hears_so() {
    // The first is ourselves and is not asked; nobody listens at the second.
    let server = running("nameserver 127.77.0.1\nnameserver 127.77.0.2\n", 1).await;
    let answer = ask(server.udp, [127, 77, 0, 9], &query("debian.org."), SOON).await.unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn a_flood_of_one_container_leaves_others_their_answers() {
    // A resolver that takes questions and never answers: each of them waits.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = running("nameserver 127.0.0.1\n", silent.local_addr().unwrap().port()).await;
    let loud = UdpSocket::bind("127.77.0.66:0").await.unwrap();
    for _ in 0..2_000 {
        loud.send_to(&query("debian.org."), server.udp).await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = ask(server.udp, [127, 77, 0, 9], &query("web."), SOON).await;
    assert_eq!(answer.map(|answer| answer.answers.len()), Some(1));
}

#[tokio::test]
async fn what_is_not_ours_is_answered_by_the_devices_resolver_and_by_nobody_who_guesses() {
    let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = running("nameserver 127.0.0.1\n", resolver.local_addr().unwrap().port()).await;
    let resolving = tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, from) = resolver.recv_from(&mut buffer).await.unwrap();
        let asked = Message::from_vec(&buffer[..length]).unwrap();
        let mut answer = Message::new(asked.metadata.id.wrapping_add(1), MessageType::Response, OpCode::Query);
        answer.queries.clone_from(&asked.queries);
        answer.metadata.response_code = ResponseCode::Refused;
        // A guess that misses the number; then the answer.
        resolver.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        answer.metadata.id = asked.metadata.id;
        answer.metadata.response_code = ResponseCode::NXDomain;
        resolver.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    });
    let answer = ask(server.udp, [127, 77, 0, 9], &query("nothing.example."), SOON).await.unwrap();
    assert_eq!((answer.metadata.response_code, answer.metadata.id), (ResponseCode::NXDomain, 4711));
    resolving.await.unwrap();
}

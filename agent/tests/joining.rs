//! A device joins, connects with its certificate, renews it, and says what is wrong where something is (S14, S17, S18).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod fake_hub;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_hub::{DEADLINE, FakeHub, Heard};
use outrigger_agent::config::{Config, EngineChoice, HubAddress};
use outrigger_agent::engine::memory::{Behaviour, MemoryEngine};
use outrigger_agent::identity::{HubFile, IdentityDir, Joined};
use outrigger_agent::join::{By, JoinError, Knock, KnockAnswer, KnockJoined, Request, Response, Wish};
use outrigger_protocol::{Ask, ByeReason, Certificate as NewCertificate, DeviceName, DownMessage, UpMessage};
use outrigger_trust::testing::TestAuthority;
use outrigger_trust::{
    Between, Certificate, CertificateDer, ConnectError, JoinCode, Kind, Pin, Prover, Token, pem_of_certificates,
    read_key, server_config,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};

fn tls(authority: &TestAuthority, clients: Option<&[CertificateDer<'_>]>) -> ServerConfig {
    let (chain, key) = authority.server(&["127.0.0.1", "localhost"]);
    let certified = CertifiedKey::new(chain, any_supported_type(&key).unwrap());
    server_config(Arc::new(SingleCertAndKey::from(certified)), clients).unwrap()
}

/// The hub's HTTPS port: answers each request as it is told, and keeps what was said inside TLS.
struct Door {
    address: SocketAddr,
    said: Arc<Mutex<Vec<u8>>>,
}

type Reply = Box<dyn Fn(&[u8]) -> (u16, String) + Send>;

impl Door {
    async fn open(authority: &TestAuthority, replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls(authority, None)));
        let said = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&said);
        tokio::spawn(async move {
            let mut replies = VecDeque::from(replies);
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut socket) = acceptor.accept(socket).await else { continue };
                let Some(body) = read_request(&mut socket, &record).await else { continue };
                let (status, body) = replies.pop_front().unwrap()(&body);
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
                socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                socket.flush().await.unwrap();
            }
        });
        Self { address, said }
    }

    fn wish(&self, authority: &TestAuthority, folder: &Path) -> Wish {
        Wish {
            url: format!("https://{}", self.address).parse().unwrap(),
            by: By::Invite(Token::fresh(Kind::Join, Pin::of(&authority.certificate()))),
            holds: None,
            name: "pi-7".parse().unwrap(),
            state_dir: folder.to_owned(),
            again: false,
        }
    }
}

async fn read_request(socket: &mut (impl AsyncReadExt + Unpin), record: &Mutex<Vec<u8>>) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let before = all.len();
        if socket.read_buf(&mut all).await.ok()? == 0 {
            return None;
        }
        record.lock().unwrap().extend(&all[before..]);
        let text = String::from_utf8_lossy(&all);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(
            head.starts_with("POST /v1/join HTTP/1.1\r\n") || head.starts_with("POST /v1/join/knock HTTP/1.1\r\n"),
            "{head}"
        );
        let length = head.to_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().to_owned();
        if body.len() >= length.parse::<usize>().unwrap() {
            return Some(body.as_bytes().to_vec());
        }
    }
}

/// Signs whatever is asked, as this authority, and says that these are to be trusted.
fn accept(authority: &Arc<TestAuthority>, trusted: Vec<CertificateDer<'static>>) -> Reply {
    let authority = Arc::clone(authority);
    Box::new(move |body| {
        let request: Request = serde_json::from_slice(body).unwrap();
        (201, serde_json::to_string(&response(&authority, &trusted, &request.name, &request.csr)).unwrap())
    })
}

fn response(authority: &TestAuthority, trusted: &[CertificateDer<'static>], name: &str, csr: &str) -> Response {
    Response {
        name: name.to_owned(),
        certificate: pem_of_certificates(&authority.device(csr)),
        authorities: pem_of_certificates(trusted),
        mqtt: vec!["hub.local:8883".into(), "10.0.0.1:8883".into()],
        fleet: Some("home".into()),
    }
}

/// Without a code to show.
fn quiet(_: &str) {}

fn authority() -> Arc<TestAuthority> {
    Arc::new(TestAuthority::new())
}

fn text_of(wish: &Wish) -> String {
    let By::Invite(token) = &wish.by else { panic!("no invite") };
    token.reveal()
}

#[tokio::test]
async fn a_device_joins_and_its_key_never_leaves_it() {
    let (authority, folder) = (authority(), tempfile::tempdir().unwrap());
    let door = Door::open(&authority, vec![accept(&authority, vec![authority.certificate()])]).await;
    let wish = door.wish(&authority, folder.path());
    wish.join(quiet).await.unwrap();
    let joined = IdentityDir::of(folder.path()).read().unwrap().unwrap();
    assert_eq!(joined.device.as_str(), "pi-7");
    let addresses: Vec<_> = joined.hub.mqtt.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1:8883", "hub.local:8883", "10.0.0.1:8883"], "what was reached comes first");
    assert_eq!(joined.hub.fleet.as_deref(), Some("home"));

    let said = door.said.lock().unwrap().clone();
    let has = |part: &[u8]| said.windows(part.len()).any(|window| window == part);
    assert!(has(text_of(&wish).as_bytes()), "the token went to the hub that it pins");
    let path = folder.path().join("identity/key.pem");
    let key = read_key(&path).unwrap();
    // The private number stands at a fixed place of the PKCS #8 form: 36 bytes in, 32 long.
    assert!(!has(&key.secret_der()[36..68]) && !has(b"PRIVATE KEY"));
    let pem = std::fs::read_to_string(&path).unwrap();
    assert!(!pem.lines().filter(|line| !line.starts_with("--")).any(|line| has(line.as_bytes())));
}

#[tokio::test]
async fn nothing_of_the_token_goes_to_a_hub_that_it_does_not_pin() {
    let (right, wrong, folder) = (authority(), authority(), tempfile::tempdir().unwrap());
    let door = Door::open(&wrong, vec![]).await;
    let error = door.wish(&right, folder.path()).join(quiet).await.unwrap_err();
    assert!(matches!(error, JoinError::Look(ConnectError::OtherAuthority { .. })), "{error}");
    assert!(door.said.lock().unwrap().is_empty());
    assert!(!folder.path().join("identity").exists());
}

#[tokio::test]
async fn a_refusal_is_told_in_the_hubs_words_and_the_next_try_has_the_same_key() {
    let (authority, folder) = (authority(), tempfile::tempdir().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let refuse = Arc::clone(&seen);
    let refuse: Reply = Box::new(move |body| {
        let request: Request = serde_json::from_slice(body).unwrap();
        refuse.lock().unwrap().push(request.csr);
        (403, r#"{"kind":"refused","status":403,"title":"this invite is used up","hint":"make another"}"#.to_owned())
    });
    let door = Door::open(&authority, vec![refuse, accept(&authority, vec![authority.certificate()])]).await;
    let wish = door.wish(&authority, folder.path());
    let error = wish.join(quiet).await.unwrap_err().to_string();
    assert!(error.contains("refuses: this invite is used up; make another"), "{error}");
    assert!(!error.contains(&text_of(&wish)[60..]));
    let joined = wish.join(quiet).await.unwrap();
    let first = seen.lock().unwrap()[0].clone();
    let again = Joined::new(authority.device(&first), vec![authority.certificate()], joined.key, joined.hub);
    again.expect("the first request was made with the same key");
}

#[tokio::test]
async fn who_has_joined_joins_anew_only_when_told_to() {
    let (authority, folder) = (authority(), tempfile::tempdir().unwrap());
    let reply = || accept(&authority, vec![authority.certificate()]);
    let door = Door::open(&authority, vec![reply(), reply()]).await;
    let mut wish = door.wish(&authority, folder.path());
    let first = wish.join(quiet).await.unwrap().key.digest();
    let error = wish.join(quiet).await.unwrap_err().to_string();
    assert!(error.contains("already, as `pi-7`") && error.contains("--again"), "{error}");
    wish.again = true;
    assert_ne!(wish.join(quiet).await.unwrap().key.digest(), first, "with a new key");
}

#[tokio::test]
async fn a_token_of_another_kind_is_not_sent_at_all() {
    let (authority, folder) = (authority(), tempfile::tempdir().unwrap());
    let door = Door::open(&authority, vec![]).await;
    let mut wish = door.wish(&authority, folder.path());
    wish.by = By::Invite(Token::fresh(Kind::Api, Pin::of(&authority.certificate())));
    let error = wish.join(quiet).await.unwrap_err().to_string();
    assert!(error.contains("device invite"), "{error}");
    assert!(door.said.lock().unwrap().is_empty());
}

/// Answers a knock as somebody who knows this code, or thinks so; before that it lets the device wait.
fn let_in(authority: &Arc<TestAuthority>, code: &Arc<Mutex<Option<String>>>, hub: Pin) -> Reply {
    let (authority, code) = (Arc::clone(authority), Arc::clone(code));
    Box::new(move |body| {
        let knock: Knock = serde_json::from_slice(body).unwrap();
        let nonce: Pin = knock.nonce.parse().unwrap();
        let told: JoinCode = code.lock().unwrap().clone().expect("the code was shown").parse().unwrap();
        let certificate = authority.device(&knock.csr);
        let device = Certificate::read(&certificate[0]).unwrap().key_digest;
        let between = Between { hub, device, nonce: nonce.0 };
        let key = told.key(&nonce.0);
        let is_true = key.is_proven(Prover::Device, &between, &knock.proof.parse().unwrap());
        assert_eq!(is_true, hub == Pin::of(&authority.certificate()), "the device proves it to this hub only");
        let response = response(&authority, &[authority.certificate()], &knock.name, &knock.csr);
        let joined = Some(KnockJoined { proof: key.prove(Prover::Hub, &between).to_string(), response });
        (200, serde_json::to_string(&KnockAnswer { again_ms: 100, joined }).unwrap())
    })
}

fn wait() -> Reply {
    Box::new(|_| (200, r#"{"again_ms":100}"#.to_owned()))
}

/// Joins by a code, and keeps what was shown.
async fn by_code(
    door: &Door,
    authority: &TestAuthority,
    folder: &Path,
    code: &Arc<Mutex<Option<String>>>,
) -> Result<Joined, JoinError> {
    let wish = Wish { by: By::Code { about: "a board".into() }, ..door.wish(authority, folder) };
    wish.join(|shown| *code.lock().unwrap() = Some(shown.to_owned())).await
}

#[tokio::test]
async fn a_device_joins_by_the_code_that_it_shows_and_never_sends() {
    let (authority, folder, code) = (authority(), tempfile::tempdir().unwrap(), Arc::default());
    let pin = Pin::of(&authority.certificate());
    let door = Door::open(&authority, vec![wait(), wait(), let_in(&authority, &code, pin)]).await;
    let joined = by_code(&door, &authority, folder.path(), &code).await.unwrap();
    assert_eq!(joined.device.as_str(), "pi-7");
    let said = String::from_utf8_lossy(&door.said.lock().unwrap()).into_owned();
    let shown = code.lock().unwrap().clone().unwrap();
    assert!(said.contains("a board") && !said.contains(&shown) && !said.contains(&shown.replace('-', "")));
}

/// Whoever answers for the hub can say that the device is in. Only who was told the code can prove it.
#[tokio::test]
async fn a_hub_that_was_not_told_the_code_gets_no_device() {
    let (authority, folder) = (authority(), tempfile::tempdir().unwrap());
    let forged = || {
        let authority = Arc::clone(&authority);
        move |proof: String| -> Reply {
            Box::new(move |body| {
                let knock: Knock = serde_json::from_slice(body).unwrap();
                let response = response(&authority, &[authority.certificate()], &knock.name, &knock.csr);
                // An empty proof stands for the device's own, sent back.
                let proof = if proof == "echo" { knock.proof } else { proof.clone() };
                let joined = Some(KnockJoined { proof, response });
                (200, serde_json::to_string(&KnockAnswer { again_ms: 100, joined }).unwrap())
            })
        }
    };
    for proof in ["", "echo", &Pin([7; 32]).to_string()] {
        let door = Door::open(&authority, vec![wait(), forged()(proof.to_owned())]).await;
        let error = by_code(&door, &authority, folder.path(), &Arc::default()).await.unwrap_err();
        assert!(matches!(error, JoinError::FalseHub { .. }), "{error}");
        assert!(!folder.path().join("identity").exists());
    }
}

/// Somebody between device and hub passes on what he can: the hub's proof is for another authority than the device sees.
#[tokio::test]
async fn the_proof_of_the_true_hub_is_of_no_use_to_somebody_in_between() {
    let (between, truly, folder, code) = (authority(), authority(), tempfile::tempdir().unwrap(), Arc::default());
    let door = Door::open(&between, vec![wait(), let_in(&between, &code, Pin::of(&truly.certificate()))]).await;
    let error = by_code(&door, &between, folder.path(), &code).await.unwrap_err();
    assert!(matches!(error, JoinError::FalseHub { .. }), "{error}");
    assert!(!folder.path().join("identity").exists());
}

#[tokio::test]
async fn a_hub_that_takes_no_codes_has_none_shown() {
    let (authority, folder, code) = (authority(), tempfile::tempdir().unwrap(), Arc::default());
    let refuse: Reply = Box::new(|_| (403, r#"{"title":"by invites only"}"#.to_owned()));
    let door = Door::open(&authority, vec![refuse]).await;
    let error = by_code(&door, &authority, folder.path(), &code).await.unwrap_err().to_string();
    assert!(error.contains("by invites only"), "{error}");
    assert!(code.lock().unwrap().is_none());
}

#[tokio::test]
async fn an_answer_that_does_not_fit_the_token_is_not_kept() {
    let (authority, other, folder) = (authority(), authority(), tempfile::tempdir().unwrap());
    let nonsense: Reply = Box::new(|_| (201, "{}".to_owned()));
    let replies =
        vec![accept(&other, vec![other.certificate()]), accept(&other, vec![authority.certificate()]), nonsense];
    let door = Door::open(&authority, replies).await;
    for _ in 0..3 {
        assert!(door.wish(&authority, folder.path()).join(quiet).await.is_err());
        assert!(!folder.path().join("identity").exists());
    }
}

/// An agent that has joined `hub`.
struct Device {
    folder: TempDir,
    name: DeviceName,
    stop: Option<oneshot::Sender<ByeReason>>,
}

impl Device {
    fn start(hub: &FakeHub, authority: &TestAuthority, until: i32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (dir, name) = (IdentityDir::of(folder.path()), "pi".parse::<DeviceName>().unwrap());
        let key = dir.key_for_join().unwrap();
        let chain = authority.device_until(&key.request("pi").unwrap(), until);
        let mqtt = vec![HubAddress { host: "localhost".into(), port: hub.address.port() }];
        let file = HubFile { url: "https://localhost:7640".into(), mqtt, fleet: None };
        dir.put(&Joined::new(chain, vec![authority.certificate()], key, file).unwrap()).unwrap();
        let config = Config {
            device: name.clone(),
            hub: None,
            insecure_local: false,
            scope: "pi".into(),
            state_dir: folder.path().to_owned(),
            runtime_dir: folder.path().join("run"),
            engine: EngineChoice::Memory,
            policy: "/nowhere/policy.toml".into(),
            heartbeat: Duration::from_millis(200),
            images: None,
            network_pool: Default::default(),
            network_port: 0,
            proxy_socket: None,
            labels: vec![],
            generic: vec![],
        };
        let policy = Arc::new(config.load_policy());
        let (stop, stopped) = oneshot::channel();
        let engine = MemoryEngine::new(Behaviour::default());
        tokio::spawn(outrigger_agent::run::run(config, policy, engine, async { stopped.await.unwrap() }));
        Self { folder, name, stop: Some(stop) }
    }

    fn identity(&self) -> Joined {
        IdentityDir::of(self.folder.path()).read().unwrap().unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(ByeReason::Restart);
    }
}

async fn shown(hub: &mut FakeHub) -> Vec<u8> {
    hub.wait_for("certificate", |heard| if let Heard::Shown(leaf) = heard { leaf } else { None }).await
}

#[tokio::test]
async fn a_renewed_certificate_and_a_new_authority_count_from_the_next_connection_on() {
    let (old, new) = (authority(), authority());
    let mut hub = FakeHub::start_tls(tls(&old, Some(&[old.certificate(), new.certificate()]))).await;
    let device = Device::start(&hub, &old, 2030);
    let before = device.identity();
    assert_eq!(shown(&mut hub).await, before.chain[0].as_ref());
    hub.message("hello", |message| matches!(message, UpMessage::Hello(_)).then_some(())).await;

    hub.send(&device.name, &DownMessage::Ask(Ask::Renew));
    let pick = |message| if let UpMessage::Renew(renew) = message { Some(renew) } else { None };
    let renew = hub.message("request", pick).await;
    let pem = outrigger_trust::testing::pem_of_request(&renew.request);
    let chain = new.device(&pem);
    let der = |all: &[CertificateDer<'_>]| all.iter().map(|one| one.as_ref().to_vec()).collect::<Vec<_>>();
    let authorities = der(&[old.certificate(), new.certificate()]);
    hub.send(&device.name, &DownMessage::Certificate(NewCertificate { chain: der(&chain), authorities }));
    let kept = async {
        while device.identity().chain != chain {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, kept).await.unwrap();
    assert_eq!(device.identity().key.digest(), before.key.digest(), "the key stays");

    hub.drop_connection();
    assert_eq!(shown(&mut hub).await, chain[0].as_ref());
}

#[tokio::test]
async fn a_device_whose_certificate_has_ended_is_not_let_in_and_runs_on() {
    let authority = authority();
    let mut hub = FakeHub::start_tls(tls(&authority, Some(&[authority.certificate()]))).await;
    let device = Device::start(&hub, &authority, 2026);
    let heard = tokio::time::timeout(Duration::from_secs(1), hub.next_or_nothing()).await;
    assert!(heard.is_err(), "{heard:?}");
    assert!(!device.stop.as_ref().unwrap().is_closed(), "the agent runs on");
    // And as soon as it has joined anew, it connects without a restart.
    let dir = IdentityDir::of(device.folder.path());
    let before = device.identity();
    let key = dir.key_for_join().unwrap();
    let chain = authority.device(&key.request("pi").unwrap());
    dir.put(&Joined::new(chain.clone(), vec![authority.certificate()], key, before.hub).unwrap()).unwrap();
    assert_eq!(shown(&mut hub).await, chain[0].as_ref());
}

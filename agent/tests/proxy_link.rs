//! The way to the proxy, against a double that listens in its place and records what it is told.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outrigger_agent::core::ProxyEvent;
use outrigger_agent::proxy_link::{self, Place};
use outrigger_protocol::{Routes, ServiceRoutes};
use outrigger_proxy::control::{Observed, Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

fn wanted(number: u64, services: &[&str]) -> Option<Arc<Wanted>> {
    let service = |name: &&str| ServiceRoutes {
        service: name.parse().unwrap(),
        networks: vec![],
        published: vec![],
        traffic: Default::default(),
        endpoints: vec![],
        callers: vec![],
    };
    let routes = Routes { number, services: services.iter().map(service).collect(), ..Routes::default() };
    let (networks, copies) = (vec![], vec![]);
    Some(Arc::new(Wanted { device: "pi".parse().unwrap(), mesh: None, networks, copies, routes }))
}

/// A proxy's end of a connection.
struct Double(UnixStream);

impl Double {
    async fn accept(listener: &UnixListener) -> Self {
        Self(timeout(SOON, listener.accept()).await.expect("nobody comes").unwrap().0)
    }

    /// The number of the routes that it is told next.
    async fn told(&mut self) -> u64 {
        let length = timeout(SOON, self.0.read_u32_le()).await.expect("nothing is told").unwrap();
        let mut bytes = vec![0; length.try_into().unwrap()];
        self.0.read_exact(&mut bytes).await.unwrap();
        postcard::from_bytes::<Wanted>(&bytes).unwrap().routes.number
    }

    async fn say(&mut self, observed: &Observed) {
        let bytes = postcard::to_stdvec(observed).unwrap();
        self.0.write_u32_le(bytes.len().try_into().unwrap()).await.unwrap();
        self.0.write_all(&bytes).await.unwrap();
    }
}

struct Link {
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    events: mpsc::Receiver<ProxyEvent>,
    _task: JoinSet<()>,
}

impl Link {
    fn to(socket: &Path, may_run: bool) -> Self {
        Self::at(Place::Managed(socket.to_owned()), may_run)
    }

    fn at(place: Place, may_run: bool) -> Self {
        let (wanted, inbox) = watch::channel(None);
        let (sender, events) = mpsc::channel(16);
        let mut task = JoinSet::new();
        task.spawn(proxy_link::run(place, inbox, may_run, sender));
        Self { wanted, events, _task: task }
    }

    async fn event(&mut self) -> ProxyEvent {
        timeout(SOON, self.events.recv()).await.expect("nothing is heard").unwrap()
    }
}

fn listen(folder: &tempfile::TempDir) -> (std::path::PathBuf, UnixListener) {
    let path = folder.path().join("control.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    (path, listener)
}

#[tokio::test]
async fn a_proxy_is_told_the_newest_and_what_it_says_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let (path, listener) = listen(&folder);
    let mut link = Link::to(&path, false);
    link.wanted.send_replace(wanted(1, &["shop/web"]));
    let mut double = Double::accept(&listener).await;
    assert_eq!(double.told().await, 1);
    let observed = Observed { held: Some(1), mesh_port: Some(7643), ..Observed::default() };
    double.say(&observed).await;
    assert_eq!(link.event().await, ProxyEvent::Told(Box::new(observed)));
    link.wanted.send_replace(wanted(2, &["shop/web"]));
    assert_eq!(double.told().await, 2);
}

#[tokio::test]
async fn a_proxy_that_dies_is_told_of_and_the_next_one_gets_all_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, listener) = listen(&folder);
    let mut link = Link::to(&path, false);
    link.wanted.send_replace(wanted(1, &["shop/web"]));
    let mut double = Double::accept(&listener).await;
    assert_eq!(double.told().await, 1);
    drop((double, listener));
    assert!(matches!(link.event().await, ProxyEvent::Lost(_)));
    let (_, listener) = listen(&folder);
    let mut double = Double::accept(&listener).await;
    assert_eq!(double.told().await, 1);
}

#[tokio::test]
async fn nobody_is_asked_for_where_nothing_is_needed_and_a_leftover_hears_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let (path, listener) = listen(&folder);
    let link = Link::to(&path, false);
    link.wanted.send_replace(wanted(1, &[]));
    assert!(timeout(Duration::from_millis(300), listener.accept()).await.is_err(), "a proxy was asked for");
    drop(link);

    let mut link = Link::to(&path, true);
    link.wanted.send_replace(wanted(2, &[]));
    let mut double = Double::accept(&listener).await;
    assert_eq!(double.told().await, 2);
    drop(double);
    assert_eq!(link.event().await, ProxyEvent::Ended);
    assert!(timeout(Duration::from_millis(300), listener.accept()).await.is_err(), "it was asked for again");
}

#[tokio::test]
async fn nonsense_from_a_proxy_of_another_version_ends_the_connection_and_not_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (path, listener) = listen(&folder);
    let mut link = Link::to(&path, false);
    link.wanted.send_replace(wanted(1, &["shop/web"]));
    let mut double = Double::accept(&listener).await;
    double.0.write_all(&[3, 0, 0, 0, 255, 255, 255]).await.unwrap();
    assert!(matches!(link.event().await, ProxyEvent::Lost(_)));
    let mut double = Double::accept(&listener).await;
    assert_eq!(double.told().await, 1);
}

#[tokio::test]
async fn a_proxy_that_is_not_installed_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Own { socket: folder.path().join("proxy.sock"), scope: "pi".to_owned() };
    let mut link = Link::at(place, false);
    link.wanted.send_replace(wanted(1, &["shop/web"]));
    // Beside this test's program there is none.
    let said = link.event().await;
    let ProxyEvent::Lost(said) = said else { panic!("{said:?}") };
    assert!(said.contains("/outrigger-proxy: ") && said.contains("belongs beside outrigger-agent"), "{said}");
}

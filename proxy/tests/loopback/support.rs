//! Devices of a fleet in one process: real proxies, real certificates, real sockets on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outrigger_protocol::{
    Endpoint, EndpointState, IngressPort, Peer, PlacementId, PortProtocol, Routes, ServiceRef, ServiceRoutes, Traffic,
};
use outrigger_proxy::control::{Client, LocalCopy, Mesh, Observed, Speaking, Wanted};
use outrigger_proxy::{Control, Settings, run};
use outrigger_trust::testing::TestAuthority;
use outrigger_trust::{DeviceKey, pem_of_certificates, write_private};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// However busy the machine is.
pub const LONG: Duration = Duration::from_secs(30);

pub fn web() -> ServiceRef {
    "shop/web".parse().unwrap()
}

/// A device with a proxy.
pub struct Device {
    pub name: &'static str,
    pub folder: TempDir,
    pub observed: watch::Receiver<Observed>,
    pub wanted: Wanted,
    speaking: Speaking,
    hearing: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
    pub running: JoinHandle<()>,
}

impl Device {
    pub async fn start(fleet: &TestAuthority, name: &'static str) -> Self {
        Self::start_with(fleet, name, LONG).await
    }

    pub async fn start_with(fleet: &TestAuthority, name: &'static str, idle: Duration) -> Self {
        Self::start_in(fleet, name, idle, || ()).await
    }

    /// `enter` is called in the thread in which the proxy is going to run.
    pub async fn start_in(
        fleet: &TestAuthority,
        name: &'static str,
        idle: Duration,
        enter: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self::start_so(fleet, name, |settings| settings.idle = idle, enter).await
    }

    /// `set` changes the usual settings.
    pub async fn start_so(
        fleet: &TestAuthority,
        name: &'static str,
        set: impl FnOnce(&mut Settings),
        enter: impl FnOnce() + Send + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = DeviceKey::fresh().unwrap();
        let chain = fleet.device(&key.request(name).unwrap());
        write_private(&folder.path().join("key.pem"), &key.reveal_pem()).unwrap();
        write_private(&folder.path().join("certificate.pem"), &pem_of_certificates(&chain)).unwrap();
        let authorities = pem_of_certificates(&[fleet.certificate()]);
        write_private(&folder.path().join("authorities.pem"), &authorities).unwrap();
        let path = folder.path().join("proxy.sock");
        let scope = format!("test_{}_{name}", std::process::id());
        let mut settings = Settings::new(Control::Path(path.clone()), scope);
        set(&mut settings);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(in_thread(enter, async move || {
            run(settings, async { drop(stopped.await) }).await.unwrap();
        }));
        let (client, speaking) = eventually(async || Client::connect(&path).await.ok()).await;
        let (observed, hearing) = hear(client);
        let mesh = Some(Mesh { identity: folder.path().to_owned(), port: 0, hub: "localhost".into() });
        let routes = Routes::default();
        let wanted = Wanted { device: name.parse().unwrap(), mesh, networks: vec![], copies: vec![], routes };
        Self { name, folder, observed, wanted, speaking, hearing, stop: Some(stop), running }
    }

    /// Says what is wanted and waits until it is in force.
    pub async fn want(&mut self) {
        self.wanted.routes.number += 1;
        let number = self.wanted.routes.number;
        self.speaking.say(&self.wanted).await.unwrap();
        self.see(|observed| observed.held == Some(number)).await;
    }

    /// Waits until the proxy says this of itself.
    pub async fn see(&mut self, what: impl FnMut(&Observed) -> bool) -> Observed {
        let mut observed = self.observed.clone();
        let seen = tokio::time::timeout(LONG, observed.wait_for(what)).await;
        let Ok(seen) = seen else { panic!("the proxy does not say so, but {:?}", self.observed.borrow()) };
        seen.expect("the proxy is gone").clone()
    }

    pub async fn mesh_port(&mut self) -> u16 {
        self.see(|observed| observed.mesh_port.is_some()).await.mesh_port.unwrap()
    }

    pub async fn peer(&mut self) -> Peer {
        Peer { device: self.name.parse().unwrap(), addresses: vec![LOOPBACK], port: self.mesh_port().await }
    }

    /// A copy of the web service on this device.
    pub fn run_copy(&mut self, number: u64, address: IpAddr) {
        let copy = LocalCopy { placement: PlacementId(number), service: web(), addresses: vec![(None, address)] };
        self.wanted.copies.push(copy);
    }

    pub fn service(&mut self) -> &mut ServiceRoutes {
        if self.wanted.routes.services.is_empty() {
            self.wanted.routes.services.push(ServiceRoutes {
                service: web(),
                networks: vec![],
                published: vec![],
                traffic: Traffic::default(),
                endpoints: vec![],
                callers: vec![],
            });
        }
        &mut self.wanted.routes.services[0]
    }

    /// The device opens a port for the service.
    pub fn publish(&mut self, target: u16) -> SocketAddr {
        self.publish_with(target, PortProtocol::Tcp)
    }

    pub fn publish_with(&mut self, target: u16, protocol: PortProtocol) -> SocketAddr {
        let port = free_port();
        self.service().published.push(IngressPort { port, target, protocol });
        SocketAddr::new(LOOPBACK, port)
    }

    pub fn endpoint(&mut self, number: u64, peer: Option<u16>) {
        let endpoint = Endpoint { placement: PlacementId(number), peer, state: EndpointState::Ready };
        self.service().endpoints.push(endpoint);
    }

    /// The agent dies; the proxy's task, its stop and its folder are left.
    pub fn agent_goes(self) -> (JoinHandle<()>, Option<oneshot::Sender<()>>, TempDir) {
        self.hearing.abort();
        (self.running, self.stop, self.folder)
    }

    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(LONG, &mut self.running).await.unwrap().unwrap();
    }
}

/// In a thread with a runtime of its own, so that whatever it starts ends with it, as with a process.
pub async fn in_thread<T: Send + 'static>(
    enter: impl FnOnce() + Send + 'static,
    act: impl AsyncFnOnce() -> T + Send + 'static,
) -> T {
    let (give, take) = oneshot::channel();
    std::thread::spawn(move || {
        enter();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let done = runtime.block_on(act());
        drop(runtime);
        drop(give.send(done));
    });
    take.await.expect("the thread panicked")
}

fn hear(mut client: Client) -> (watch::Receiver<Observed>, JoinHandle<()>) {
    let (tell, told) = watch::channel(Observed::default());
    let hearing = tokio::spawn(async move {
        while let Ok(Some(observed)) = client.next().await {
            tell.send_replace(observed);
        }
    });
    (told, hearing)
}

pub async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, looking).await.expect("it does not come about")
}

/// Each port once in a process, and none that somebody uses.
pub fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let base = 20_000 + (std::process::id() as usize * 37) % 10_000;
    loop {
        let port = u16::try_from(base + NEXT.fetch_add(1, Ordering::Relaxed)).unwrap();
        if std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// A copy that answers each line with its name, and counts its connections.
pub struct Copy {
    pub address: IpAddr,
    pub port: u16,
    pub accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Copy {
    pub async fn start(name: &'static str, address: [u8; 4], port: u16) -> Self {
        let address = IpAddr::from(address);
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                open.spawn(speak(stream, name));
            }
        });
        Self { address, port, accepted, task }
    }

    /// As if its power were cut: its connections are closed, and nobody listens any more.
    pub fn kill(&self) {
        self.task.abort();
    }

    pub fn count(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn speak(mut stream: TcpStream, name: &'static str) {
    let mut buffer = vec![0; 4096];
    while let Ok(n) = stream.read(&mut buffer).await {
        if n == 0 || stream.write_all(name.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Asks once on a connection of its own. An error: it was refused or broke off.
pub async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"who\n").await?;
        let mut buffer = [0; 64];
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
    };
    tokio::time::timeout(LONG, asked).await.expect("a client was left waiting")
}

/// A port that leads to another one.
pub struct Door {
    pub port: u16,
    came: Arc<AtomicUsize>,
    stalls: watch::Sender<()>,
}

impl Door {
    /// Coming in `takes` so long.
    pub async fn start(to: u16, takes: Duration) -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (came, stalls) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(()));
        let (counter, stalling) = (Arc::clone(&came), stalls.clone());
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let mut stalled = stalling.subscribe();
                tokio::spawn(async move {
                    tokio::time::sleep(takes).await;
                    let mut to = TcpStream::connect((LOOPBACK, to)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => (),
                        Ok(()) = stalled.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { port, came, stalls }
    }

    /// How many have come.
    pub fn count(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }

    /// Whoever is in gets and sends nothing any more, and is not told so.
    pub fn stall(&self) {
        self.stalls.send_replace(());
    }
}

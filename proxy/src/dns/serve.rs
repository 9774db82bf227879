//! The sockets: one for UDP and one for TCP at each gateway of each network, as long as the network is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::answer::Answerer;
use super::forward::Transport;
use super::limits::Limits;
use super::names::{Names, contains};
use super::resolvers::Resolvers;
use crate::control::{LocalNetwork, Wanted};

const PORT: u16 = 53;
/// Bytes of a question. Larger ones are dropped: nobody asks so much.
const LARGEST_QUESTION: usize = 4096;
/// A bridge that was just made has its address in a moment; a port that is taken may be given up.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// A connection that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// Answers for the networks of what is `wanted`, from now on. `trouble` says what does not work; none: all does.
pub async fn run(mut wanted: watch::Receiver<Option<Arc<Wanted>>>, trouble: watch::Sender<Option<String>>) {
    let (names, names_inbox) = watch::channel(Arc::new(Names::default()));
    let (own, own_inbox) = watch::channel(BTreeSet::new());
    let answerer = Arc::new(Answerer { names: names_inbox, resolvers: Resolvers::of_device(), own: own_inbox });
    let server = Server { answerer, limits: Limits::default(), trouble: Arc::new(trouble) };
    let mut tasks = JoinSet::new();
    let mut served: BTreeMap<IpAddr, (LocalNetwork, AbortHandle)> = BTreeMap::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        let networks = now.as_deref().map(|wanted| wanted.networks.clone()).unwrap_or_default();
        names.send_replace(Arc::new(now.as_deref().map(Names::of).unwrap_or_default()));
        drop(now);
        let at: BTreeMap<IpAddr, LocalNetwork> = networks.into_iter().flat_map(gateways).collect();
        own.send_replace(at.keys().copied().collect());
        served.retain(|address, (network, task)| {
            let stays = at.get(address).is_some_and(|now| is_same(now, network));
            if !stays {
                task.abort();
            }
            stays
        });
        for (address, network) in at {
            served.entry(address).or_insert_with_key(|address| {
                let task = tasks.spawn(server.clone().serve(SocketAddr::new(*address, PORT), network.clone()));
                (network, task)
            });
        }
        if served.is_empty() {
            server.trouble.send_if_modified(|trouble| trouble.take().is_some());
        }
        while tasks.try_join_next().is_some() {}
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// A network at each of its gateways.
fn gateways(network: LocalNetwork) -> impl Iterator<Item = (IpAddr, LocalNetwork)> {
    let v6 = network.v6.map(|v6| IpAddr::V6(v6.gateway));
    let all: Vec<IpAddr> = std::iter::once(IpAddr::V4(network.v4.gateway)).chain(v6).collect();
    all.into_iter().map(move |address| (address, network.clone()))
}

/// Whether sockets made for one serve the other. A bridge that was made anew has lost its sockets' address for a while, and
/// got it back: they work on.
fn is_same(a: &LocalNetwork, b: &LocalNetwork) -> bool {
    (&a.name, a.v4, a.v6) == (&b.name, b.v4, b.v6)
}

#[derive(Debug, Clone)]
struct Server {
    answerer: Arc<Answerer>,
    limits: Limits,
    trouble: Arc<watch::Sender<Option<String>>>,
}

impl Server {
    async fn serve(self, at: SocketAddr, network: LocalNetwork) {
        let network = Arc::new(network);
        let mut told = None;
        let (udp, tcp) = loop {
            match bind(at).await {
                Ok(bound) => break bound,
                Err(error) => {
                    let text = format!("names are not answered at {at} ({}): {error}", network.name);
                    if told.as_ref() != Some(&text) {
                        debug!(%error, %at, "cannot listen");
                        // A bridge without its address yet is no trouble; one that keeps without is told the next time.
                        if told.is_some() || error.kind() != io::ErrorKind::AddrNotAvailable {
                            warn!(text);
                            self.trouble.send_replace(Some(text.clone()));
                        }
                        told = Some(text);
                    }
                    sleep(BIND_AGAIN).await;
                }
            }
        };
        if told.is_some() {
            self.trouble.send_if_modified(|trouble| {
                let is_ours = *trouble == told;
                if is_ours {
                    *trouble = None;
                }
                is_ours
            });
        }
        debug!(%at, network = %network.name, "answers names");
        let udp = self.clone().serve_udp(Arc::new(udp), Arc::clone(&network));
        tokio::join!(udp, self.serve_tcp(tcp, network));
    }

    async fn serve_udp(self, socket: Arc<UdpSocket>, network: Arc<LocalNetwork>) {
        // One byte more: a question that fills it is too long.
        let mut buffer = vec![0; LARGEST_QUESTION + 1];
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An earlier answer has found nobody. Whatever else it is must not make this a busy loop.
                Err(error) => {
                    debug!(%error, "a question is lost");
                    sleep(Duration::from_millis(1)).await;
                    continue;
                }
            };
            if length > LARGEST_QUESTION || !contains(&network, from.ip()) {
                continue;
            }
            let Some(permit) = self.limits.permit(from.ip()) else { continue };
            let question = buffer.get(..length).unwrap_or_default().to_vec();
            let (answerer, socket, network) = (Arc::clone(&self.answerer), Arc::clone(&socket), Arc::clone(&network));
            tasks.spawn(async move {
                if let Some(answer) = answerer.answer(&network.name, from.ip(), &question, Transport::Udp).await {
                    let _ = socket.send_to(&answer, from).await;
                }
                drop(permit);
            });
        }
    }

    async fn serve_tcp(self, listener: TcpListener, network: Arc<LocalNetwork>) {
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    debug!(%error, "a connection is lost");
                    sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            if !contains(&network, from.ip()) {
                continue;
            }
            let Some(permit) = self.limits.permit(from.ip()) else { continue };
            let (answerer, network) = (Arc::clone(&self.answerer), Arc::clone(&network));
            tasks.spawn(async move {
                let _ = converse(stream, &answerer, &network, from.ip()).await;
                drop(permit);
            });
        }
    }
}

async fn bind(at: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind(at).await?, TcpListener::bind(at).await?))
}

/// Questions of one connection, one after the other.
async fn converse(mut stream: TcpStream, answerer: &Answerer, network: &LocalNetwork, from: IpAddr) -> io::Result<()> {
    loop {
        let reading = async {
            let length = usize::from(stream.read_u16().await?);
            if length > LARGEST_QUESTION {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            let mut question = vec![0; length];
            stream.read_exact(&mut question).await?;
            Ok(question)
        };
        let question = timeout(IDLE, reading).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let answer = answerer.answer(&network.name, from, &question, Transport::Tcp).await;
        let Some(answer) = answer else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(IDLE, stream.write_all(&framed)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
}

#[cfg(test)]
mod tests;

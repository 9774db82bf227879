//! For services that say so: HTTP/1.1 requests that may be sent a second time are, on another copy, if the first has not
//! answered with a single byte. Everything else passes as it comes.

pub(crate) mod request;
pub(crate) mod response;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use outrigger_protocol::PlacementId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep_until;

use crate::clock;
use crate::dial::{DialError, Reached, Request as Wish, reach};
use crate::shared::Shared;
use crate::stream::{End as _, join};
use crate::table::Service;
use request::{Request, Shape, look};
use response::{Progress, Response};

/// Another copy is asked as well if one has not said a byte for this long. Longer than pages take that are worth waiting
/// for; a request that is answered even later is answered by whichever copy comes first.
const PATIENCE: Duration = Duration::from_secs(5);
/// Copies that are asked for one request.
const ATTEMPTS: usize = 4;
/// Copies that are asked at the same time.
const AT_ONCE: usize = 2;
/// What is read at once.
const PIECE: usize = 16 * 1024;

/// Serves a client to its end.
pub(crate) async fn serve(shared: Arc<Shared>, mut client: TcpStream, service: Arc<Service>, wish: Wish) {
    let mut held = vec![];
    let mut copy = None;
    loop {
        let (length, shape) = match next(&mut client, &mut held).await {
            Ok(Some(found)) => found,
            Ok(None) => return pass(&shared, client, &service, &wish, copy, held).await,
            Err(_) => return,
        };
        let question: Vec<u8> = held.drain(..length).collect();
        let asked = Box::pin(ask(&shared, &service, &wish, &question, copy.take())).await;
        let (mut reached, first) = match asked {
            Ok(answered) => answered,
            Err(error) => {
                shared.note_failure(&service.name, &error);
                return client.spoil();
            }
        };
        drop(question);
        match forward(&mut client, &mut reached, first, shape).await {
            Ok(Progress::Done) => copy = Some(reached),
            // What is left on either side passes as it comes: the end of the connection, or another protocol.
            Ok(Progress::Last | Progress::More) => {
                return pass(&shared, client, &service, &wish, Some(reached), held).await;
            }
            Err(_) => return client.spoil(),
        }
    }
}

/// The next request, whole, at the beginning of `held`. None: what comes is none that may be repeated.
async fn next(client: &mut TcpStream, held: &mut Vec<u8>) -> io::Result<Option<(usize, Shape)>> {
    loop {
        match look(held) {
            Request::Repeatable { length, shape } => return Ok(Some((length, shape))),
            Request::Opaque => return Ok(None),
            Request::Partial => (),
        }
        // A client that says nothing holds nothing.
        client.readable().await?;
        let before = held.len();
        held.resize(before + PIECE, 0);
        let read = client.try_read(held.get_mut(before..).unwrap_or_default());
        held.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) if held.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => return Ok(None),
            Ok(_) => (),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
            Err(error) => return Err(error),
        }
        held.shrink_to_fit();
    }
}

type Answered = Result<(Reached, Vec<u8>), Silent>;

/// A copy that did not answer.
#[derive(Debug, Clone, Copy)]
struct Silent {
    placement: PlacementId,
    /// The connection was an old one, which its copy may have closed meanwhile: that says nothing about the copy.
    is_old: bool,
}

/// Sends the request, and waits for the first bytes of the answer.
async fn try_one(mut reached: Reached, question: &[u8], is_old: bool) -> Answered {
    let begun = clock::instant();
    let mut first = vec![0; PIECE];
    let answered = async {
        reached.stream.write_all(question).await?;
        reached.stream.flush().await?;
        match reached.stream.read(&mut first).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            length => Ok(length),
        }
    };
    match answered.await {
        Ok(length) => {
            first.truncate(length);
            let took = begun.elapsed();
            reached.lease.tell(|balancer, placement| balancer.answered(placement, took, clock::now()));
            Ok((reached, first))
        }
        Err(_) => {
            if !is_old {
                reached.lease.tell(|balancer, placement| balancer.stayed_mute(placement, clock::now()));
            }
            Err(Silent { placement: reached.lease.placement, is_old })
        }
    }
}

type Reaching<'a> = Pin<Box<dyn Future<Output = (Result<Reached, DialError>, Vec<PlacementId>)> + Send + 'a>>;

/// The first copy that answers, with the first bytes of its answer.
async fn ask(
    shared: &Arc<Shared>,
    service: &Arc<Service>,
    wish: &Wish,
    question: &[u8],
    kept: Option<Reached>,
) -> Result<(Reached, Vec<u8>), DialError> {
    let begun = clock::instant();
    let mut asked = FuturesUnordered::new();
    let mut waiting: Vec<PlacementId> = vec![];
    let mut tried: Vec<PlacementId> = vec![];
    let mut next_at = begun;
    if let Some(kept) = kept {
        waiting.push(kept.lease.placement);
        kept.lease.tell(|balancer, _| balancer.goes_on(clock::now()));
        asked.push(try_one(kept, question, true));
        next_at += PATIENCE;
    }
    let mut reaching: Option<Reaching<'_>> = None;
    loop {
        let may_ask = reaching.is_none() && tried.len() < ATTEMPTS;
        let is_late = may_ask && !asked.is_empty() && asked.len() < AT_ONCE && next_at <= clock::instant();
        let may_repeat =
            || shared.balance(&service.name, |balancer| balancer.may_repeat(clock::now())).unwrap_or(false);
        if is_late && !may_repeat() {
            next_at = clock::instant() + PATIENCE;
        } else if may_ask && (asked.is_empty() || is_late) {
            let mut known = tried.clone();
            known.extend(waiting.iter().filter(|placement| !tried.contains(placement)));
            reaching = Some(Box::pin(async move { (reach(shared, service, wish, &mut known).await, known) }));
        } else if reaching.is_none() && asked.is_empty() {
            return Err(DialError::Mute(tried.len()));
        }
        let is_waiting = reaching.is_none() && asked.len() < AT_ONCE && tried.len() < ATTEMPTS;
        tokio::select! { // all may be cancelled: a connection that is dropped is closed
            Some(answered) = asked.next() => match answered {
                Ok((reached, first)) => {
                    let now = clock::now();
                    for placement in waiting.into_iter().filter(|placement| *placement != reached.lease.placement) {
                        shared.tell(&service.name, placement, |balancer| balancer.late(placement, begun.elapsed(), now));
                    }
                    return Ok((reached, first));
                }
                Err(silent) => {
                    waiting.retain(|waiting| *waiting != silent.placement);
                    if !silent.is_old && !tried.contains(&silent.placement) {
                        tried.push(silent.placement);
                    }
                    next_at = clock::instant();
                }
            },
            (reached, known) = async {
                match reaching.as_mut() {
                    Some(reaching) => reaching.await,
                    None => std::future::pending().await,
                }
            } => {
                reaching = None;
                tried = known;
                next_at = clock::instant() + PATIENCE;
                match reached {
                    Ok(reached) => {
                        waiting.push(reached.lease.placement);
                        asked.push(try_one(reached, question, false));
                    }
                    Err(error) if asked.is_empty() => return Err(error),
                    Err(_) => tried.resize(tried.len().max(ATTEMPTS), PlacementId(0)),
                }
            }
            () = sleep_until(next_at), if is_waiting => (),
        }
    }
}

/// Leads the answer to the client, as far as its end can be known.
async fn forward(
    client: &mut TcpStream,
    reached: &mut Reached,
    mut bytes: Vec<u8>,
    shape: Shape,
) -> io::Result<Progress> {
    let mut response = Response::new(shape);
    loop {
        let progress = response.pass(&bytes);
        client.write_all(&bytes).await?;
        if progress != Progress::More {
            return Ok(progress);
        }
        bytes.resize(PIECE, 0);
        let length = reached.stream.read(&mut bytes).await?;
        bytes.truncate(length);
        if length == 0 {
            // The answer is cut off, and must not look whole.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// From here on nothing is looked at.
async fn pass(
    shared: &Arc<Shared>,
    mut client: TcpStream,
    service: &Arc<Service>,
    wish: &Wish,
    copy: Option<Reached>,
    held: Vec<u8>,
) {
    let mut tried = vec![];
    let reached = match copy {
        Some(reached) => Ok(reached),
        None => Box::pin(reach(shared, service, wish, &mut tried)).await,
    };
    match reached {
        Ok(Reached { mut stream, lease }) => {
            if stream.write_all(&held).await.is_err() {
                return client.spoil();
            }
            drop(held);
            join(&mut client, &mut stream, |_| ()).await;
            drop(lease);
        }
        Err(error) => {
            shared.note_failure(&service.name, &error);
            client.spoil();
        }
    }
}

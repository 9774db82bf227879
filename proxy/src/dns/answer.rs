//! From a question's bytes to its answer's.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use outrigger_protocol::NetworkName;
use tokio::sync::watch;

use super::forward::{Transport, forward};
use super::message::{Question, Unasked};
use super::names::{Meaning, Names};
use super::resolvers::Resolvers;
use crate::clock;

/// Bytes of an answer by TCP.
const TCP_ROOM: usize = 65_535;

/// Answers for all networks.
#[derive(Debug)]
pub(super) struct Answerer {
    pub(super) names: watch::Receiver<Arc<Names>>,
    pub(super) resolvers: Resolvers,
    /// Our own addresses: a device whose resolver is one of them would ask itself for ever.
    pub(super) own: watch::Receiver<BTreeSet<IpAddr>>,
}

impl Answerer {
    /// The answer to who asks from `address` through the bridge of `network`; none: silence.
    pub(super) async fn answer(
        &self,
        network: &NetworkName,
        address: IpAddr,
        bytes: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let question = match Question::read(bytes) {
            Ok(question) => question,
            Err(Unasked::Silence) => return None,
            Err(Unasked::Answered(bytes)) => return Some(bytes),
        };
        let room = match transport {
            Transport::Udp => question.room(),
            Transport::Tcp => TCP_ROOM,
        };
        let names = Arc::clone(&self.names.borrow());
        let answer = match names.ask(network, address, &question.name()) {
            Meaning::Addresses(all) => question.addresses(&all),
            Meaning::Name(name) => question.pointer(&name),
            Meaning::Nothing => question.answer(ResponseCode::NXDomain),
            Meaning::Foreign => match forward(&question, bytes, &self.servers(), transport).await {
                Some(answer) => return Some(answer),
                None => question.answer(ResponseCode::ServFail),
            },
        };
        Question::bytes(&answer, room)
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let own = self.own.borrow();
        let all = self.resolvers.servers(clock::instant());
        all.into_iter().filter(|server| !own.contains(&server.ip())).collect()
    }
}

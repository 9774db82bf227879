//! Which port a container has asked for, where the kernel has led its datagram to ours. For TCP a socket can be asked; for
//! UDP only the kernel's table of connections knows (`ctnetlink`, `linux/netfilter/nfnetlink_conntrack.h`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::netlink::NETFILTER;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::Way;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`
const GET: u16 = 0x0101;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`
const NEW: u16 = 0x0100;
const REQUEST: u16 = 1;
const NESTED: u16 = 0x8000;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;
const UDP: u8 = 17;
/// Length of the headers of netlink and of netfilter in it.
const HEADERS: usize = 16 + 4;

/// The port at `way.here` that the client has sent to, where we have received it at `ours`.
pub(super) fn asked_port(way: Way, ours: u16) -> io::Result<u16> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
    // The kernel answers while we ask; this is for a kernel that does not.
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(100)))?;
    send(&socket, &question(way, ours), SendFlags::empty())?;
    let mut buffer = [0; 4096];
    let (length, _) = recv(&socket, &mut buffer, RecvFlags::empty())?;
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "the kernel does not know this flow");
    buffer.get(..length).and_then(answer).ok_or_else(unknown)
}

fn question(way: Way, ours: u16) -> Vec<u8> {
    let (family, source, destination) = match (way.here, way.client) {
        (IpAddr::V4(here), SocketAddr::V4(client)) => {
            (2, attribute(1, &here.octets()), attribute(2, &client.ip().octets()))
        }
        (IpAddr::V6(here), SocketAddr::V6(client)) => {
            (10, attribute(3, &here.octets()), attribute(4, &client.ip().octets()))
        }
        // The kernel will find nothing, as there is nothing.
        _ => (0, vec![], vec![]),
    };
    let ip = attribute(TUPLE_IP | NESTED, &[source, destination].concat());
    let ports = [
        attribute(PROTO_NUM, &[UDP]),
        attribute(PROTO_SRC_PORT, &ours.to_be_bytes()),
        attribute(PROTO_DST_PORT, &way.client.port().to_be_bytes()),
    ];
    let proto = attribute(TUPLE_PROTO | NESTED, &ports.concat());
    let tuple = attribute(TUPLE_REPLY | NESTED, &[ip, proto].concat());
    let length = u32::try_from(HEADERS + tuple.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(GET.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]); // number and sender: one question, one answer
    message.extend([family, 0, 0, 0]);
    message.extend(tuple);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The port in the original direction.
fn answer(message: &[u8]) -> Option<u16> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    if kind != NEW {
        return None;
    }
    let tuple = find(message.get(HEADERS..)?, TUPLE_ORIG)?;
    let port = find(find(tuple, TUPLE_PROTO)?, PROTO_DST_PORT)?;
    Some(u16::from_be_bytes(port.get(..2)?.try_into().ok()?))
}

fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?) & !NESTED;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn way() -> Way {
        Way { client: "10.99.0.2:40000".parse().unwrap(), here: [10, 99, 0, 130].into() }
    }

    #[test]
    fn the_port_is_found_in_what_the_kernel_says() {
        let ports = [attribute(PROTO_NUM, &[UDP]), attribute(PROTO_DST_PORT, &53_u16.to_be_bytes())].concat();
        let tuple = [attribute(TUPLE_IP | NESTED, &[]), attribute(TUPLE_PROTO | NESTED, &ports)].concat();
        let mut message = question(way(), 4000)[..HEADERS].to_vec();
        message[4..6].copy_from_slice(&NEW.to_ne_bytes());
        message.extend(attribute(TUPLE_ORIG | NESTED, &tuple));
        assert_eq!(answer(&message), Some(53));
        message[4] = 2;
        assert_eq!(answer(&message), None, "an error is no answer");
    }

    #[test]
    fn a_question_has_the_length_that_it_says() {
        let question = question(way(), 4000);
        assert_eq!(question[..4], u32::try_from(question.len()).unwrap().to_ne_bytes());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = answer(&bytes);
            let _ = find(&bytes, 1);
        }
    }
}

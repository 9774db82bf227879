//! A socket that knows at which of the device's addresses a datagram has arrived, and answers from there.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Datagrams that the kernel holds for us while we are busy.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// Of one address family.
#[derive(Debug)]
pub(crate) struct Port {
    socket: UdpSocket,
    is_v4: bool,
}

/// A datagram's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    /// Who has sent it.
    pub(crate) client: SocketAddr,
    /// Which address of ours it was sent to.
    pub(crate) here: IpAddr,
}

impl Port {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        // The kernel gives what it may; less is no reason to refuse.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.bind(&address.into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, is_v4: address.is_ipv4() })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next datagram.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Way)> {
        self.socket.async_io(Interest::READABLE, || self.try_receive(buffer)).await
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Way)> {
        let mut parts = [IoSliceMut::new(buffer)];
        let mut space = nix::cmsg_space!(libc::in6_pktinfo);
        let fd = self.socket.as_raw_fd();
        let got = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), MsgFlags::empty())?;
        let nameless = || io::Error::from(io::ErrorKind::InvalidData);
        let client = got.address.as_ref().and_then(address_of).ok_or_else(nameless)?;
        let here = got.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
            _ => None,
        });
        Ok((got.bytes, Way { client, here: here.ok_or_else(nameless)? }))
    }

    /// Answers from where the client has sent to. A full queue loses the datagram, as networks do.
    pub(crate) fn answer(&self, way: Way, datagram: &[u8]) {
        let sent = self.socket.try_io(Interest::WRITABLE, || Ok(self.try_answer(way, datagram)?));
        if let Err(error) = sent {
            tracing::trace!(%error, client = %way.client, "a datagram was lost");
        }
    }

    fn try_answer(&self, way: Way, datagram: &[u8]) -> nix::Result<()> {
        let parts = [IoSlice::new(datagram)];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::empty();
        match (way.client, way.here) {
            (SocketAddr::V4(client), IpAddr::V4(here)) if self.is_v4 => {
                let address = libc::in_addr { s_addr: u32::from_ne_bytes(here.octets()) };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: address };
                let from = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmsg(fd, &parts, &from, flags, Some(&SockaddrIn::from(client)))?;
            }
            (SocketAddr::V6(client), IpAddr::V6(here)) => {
                let address = libc::in6_addr { s6_addr: here.octets() };
                let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
                let from = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmsg(fd, &parts, &from, flags, Some(&SockaddrIn6::from(client)))?;
            }
            _ => return Err(nix::errno::Errno::EAFNOSUPPORT),
        }
        Ok(())
    }
}

fn address_of(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
}

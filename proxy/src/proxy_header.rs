//! The PROXY protocol, version 2 (HAProxy, `doc/proxy-protocol.txt`, section 2.2): who the client is, in front of its bytes.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header for a connection over TCP. Addresses of two families are both written as IPv6.
pub(crate) fn of(client: SocketAddr, dialled: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(PROXY);
    match (client.ip().to_canonical(), dialled.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([TCP4, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        (from, to) => {
            header.extend([TCP6, 0, 36]);
            header.extend(v6(from));
            header.extend(v6(to));
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(dialled.port().to_be_bytes());
    header
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_the_specification() {
        let v4 = of("10.1.2.3:4660".parse().unwrap(), "[::ffff:192.0.2.1]:80".parse().unwrap());
        let expected = [
            13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x21, 0x11, 0, 12, 10, 1, 2, 3, 192, 0, 2, 1, 0x12, 0x34, 0,
            80,
        ];
        assert_eq!(v4, expected);
        let v6 = of("[fd00::1]:1".parse().unwrap(), "10.0.0.1:2".parse().unwrap());
        assert_eq!((v6.len(), v6[13..16].to_vec()), (52, vec![0x21, 0, 36]));
        assert_eq!(v6[32..48], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1]);
    }
}

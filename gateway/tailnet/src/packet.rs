//! What we read of an IP packet: its addresses, its ports, where its headers end.
//!
//! Packets come from devices, and are hostile until proven dull: nothing here panics, loops or allocates, whatever the
//! bytes. Sources: RFC 791, RFC 8200, RFC 9293, RFC 768.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Protocol;

/// The outline of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// The protocol above IP and its extension headers.
    pub(crate) protocol: u8,
    /// Where that protocol's header begins.
    pub(crate) payload_at: usize,
    /// The packet's length by its own account, never past the bytes.
    pub(crate) length: usize,
    pub(crate) fragment: Fragment,
}

/// Whether a packet is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fragment {
    /// Not a fragment.
    Whole,
    /// The first of several: it has the ports.
    First,
    /// A later one: what looks like ports is somebody's data.
    Later,
}

impl Outline {
    /// Reads a packet, or says that it is none.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        Self::read_head(packet, packet.len())
    }

    /// Reads the head of a packet that is `whole` bytes long.
    pub(crate) fn read_head(packet: &[u8], whole: usize) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::read_v4(packet, whole),
            6 => Self::read_v6(packet, whole),
            _ => None,
        }
    }

    fn read_v4(packet: &[u8], whole: usize) -> Option<Self> {
        let header: [u8; IPV4_HEADER] = array(packet, 0)?;
        let header_length = usize::from(header[0] & 0x0f) * 4;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_length < IPV4_HEADER || length < header_length || length > whole {
            return None;
        }
        let offset = u16::from_be_bytes([header[6], header[7]]);
        let fragment = match (offset & 0x1fff, offset & 0x2000) {
            (0, 0) => Fragment::Whole,
            (0, _) => Fragment::First,
            _ => Fragment::Later,
        };
        Some(Self {
            source: IpAddr::V4(Ipv4Addr::new(header[12], header[13], header[14], header[15])),
            destination: IpAddr::V4(Ipv4Addr::new(header[16], header[17], header[18], header[19])),
            protocol: header[9],
            payload_at: header_length,
            length,
            fragment,
        })
    }

    fn read_v6(packet: &[u8], whole: usize) -> Option<Self> {
        let length = IPV6_HEADER + usize::from(be16(packet, 4)?);
        let mut outline = Self {
            source: IpAddr::V6(Ipv6Addr::from(array::<16>(packet, 8)?)),
            destination: IpAddr::V6(Ipv6Addr::from(array::<16>(packet, 24)?)),
            protocol: *packet.get(6)?,
            payload_at: IPV6_HEADER,
            length,
            fragment: Fragment::Whole,
        };
        if length > whole {
            return None;
        }
        for _ in 0..MAX_EXTENSIONS {
            let at = outline.payload_at;
            let (extension, next) = match outline.protocol {
                // Hop-by-hop options, routing, destination options (RFC 8200, section 4).
                0 | 43 | 60 => (8 + usize::from(*packet.get(at + 1)?) * 8, *packet.get(at)?),
                // Authentication (RFC 4302, section 2.2).
                51 => (8 + usize::from(*packet.get(at + 1)?) * 4, *packet.get(at)?),
                44 => {
                    let offset = be16(packet, at + 2)?;
                    outline.fragment = match (offset & 0xfff8, offset & 1) {
                        (0, 0) => Fragment::Whole,
                        (0, _) => Fragment::First,
                        _ => Fragment::Later,
                    };
                    (8, *packet.get(at)?)
                }
                _ => return Some(outline),
            };
            outline.payload_at = at + extension;
            outline.protocol = next;
            if outline.payload_at > length {
                return None;
            }
            if outline.fragment == Fragment::Later {
                return Some(outline);
            }
        }
        None
    }

    /// Both ends, with ports where the protocol has them and this packet shows them.
    pub(crate) fn ends(&self, packet: &[u8]) -> (SocketAddr, SocketAddr) {
        let ports = match (Protocol::from(self.protocol), self.fragment) {
            (Protocol::Other(_), _) | (_, Fragment::Later) => None,
            _ => array::<4>(packet, self.payload_at).filter(|_| self.payload_at + 4 <= self.length),
        };
        let [a, b, c, d] = ports.unwrap_or_default();
        (
            SocketAddr::new(self.source, u16::from_be_bytes([a, b])),
            SocketAddr::new(self.destination, u16::from_be_bytes([c, d])),
        )
    }

    /// The flags of a TCP header, where this packet shows one.
    pub(crate) fn tcp_flags(&self, packet: &[u8]) -> Option<u8> {
        let shown = self.protocol == TCP && self.fragment != Fragment::Later;
        let at = self.payload_at + TCP_FLAGS;
        packet.get(at).copied().filter(|_| shown && at < self.length)
    }
}

/// The destination alone, for choosing the peer.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => array::<4>(packet, 16).map(IpAddr::from),
        6 => array::<16>(packet, 24).map(IpAddr::from),
        _ => None,
    }
}

/// `N` bytes at `at`.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// Two bytes in network order.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// Four bytes in network order.
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// Overwrites bytes at `at`; nothing, where they do not fit.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// IPv4's header without options, in bytes.
pub(crate) const IPV4_HEADER: usize = 20;
/// IPv6's header without extensions, in bytes.
pub(crate) const IPV6_HEADER: usize = 40;
/// TCP's header without options, in bytes.
pub(crate) const TCP_HEADER: usize = 20;
/// UDP's header, in bytes.
pub(crate) const UDP_HEADER: usize = 8;
/// Where TCP's flags are in its header.
pub(crate) const TCP_FLAGS: usize = 13;
/// TCP's protocol number.
pub(crate) const TCP: u8 = 6;
/// UDP's protocol number.
pub(crate) const UDP: u8 = 17;
/// TCP flags (RFC 9293, section 3.1).
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const CWR: u8 = 0x80;
/// Extension headers that we walk past before we call a packet garbage. Real ones have one or two.
const MAX_EXTENSIONS: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 10.0.0.1:1000 → 10.0.0.2:22, SYN.
    const V4: [u8; 40] = [
        0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x03, 0xe8, 0, 22, 0, 0, 0, 0, 0, 0, 0,
        0, 0x50, 2, 0, 0, 0, 0, 0, 0,
    ];

    fn v6(extensions: &[u8], first: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(extensions.len() + payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], first, 64];
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend(Ipv6Addr::UNSPECIFIED.octets());
        packet.extend(extensions);
        packet.extend(payload);
        packet
    }

    #[test]
    fn reads_ends_and_flags_of_ipv4() {
        let outline = Outline::read(&V4).unwrap();
        let ends = ("10.0.0.1:1000".parse().unwrap(), "10.0.0.2:22".parse().unwrap());
        assert_eq!((outline.ends(&V4), outline.tcp_flags(&V4)), (ends, Some(SYN)));
        assert_eq!(destination(&V4), Some(ends.1.ip()));
    }

    #[test]
    fn walks_past_extension_headers() {
        // Hop-by-hop options of 8 bytes, then destination options of 16 bytes, then UDP.
        let mut extensions = vec![60, 0, 0, 0, 0, 0, 0, 0];
        extensions.extend([17, 1].iter().chain(&[0; 14]));
        let packet = v6(&extensions, 0, &[0, 53, 0, 54, 0, 8, 0, 0]);
        let outline = Outline::read(&packet).unwrap();
        assert_eq!((outline.protocol, outline.payload_at), (UDP, 64));
        assert_eq!(outline.ends(&packet).0.port(), 53);
    }

    #[test]
    fn gives_up_on_an_endless_chain_of_extension_headers() {
        let extensions = [60, 0, 0, 0, 0, 0, 0, 0].repeat(100);
        assert_eq!(Outline::read(&v6(&extensions, 60, &[])), None);
    }

    #[test]
    fn sees_no_ports_in_later_fragments() {
        let mut packet = V4;
        packet[7] = 1;
        let outline = Outline::read(&packet).unwrap();
        assert_eq!(outline.fragment, Fragment::Later);
        assert_eq!((outline.ends(&packet).0.port(), outline.tcp_flags(&packet)), (0, None));
    }

    #[test]
    fn refuses_lengths_that_lie() {
        for (name, at, value) in
            [("longer than the bytes", 3, 41), ("shorter than the header", 3, 19), ("header of 16 bytes", 0, 0x44)]
        {
            let mut packet = V4;
            packet[at] = value;
            assert_eq!(Outline::read(&packet), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), version in 4u8..8) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | (*first & 0x0f);
            }
            if let Some(outline) = Outline::read(&bytes) {
                prop_assert!(outline.payload_at <= outline.length && outline.length <= bytes.len());
                outline.ends(&bytes);
                outline.tcp_flags(&bytes);
            }
        }
    }
}

//! Packets that the stack writes itself: resets, pings' answers, datagrams.

use std::net::{IpAddr, SocketAddr};

use crate::offload::{finish_transport, renew_ipv4};
use crate::packet::{ACK, FIN, IPV4_HEADER, Outline, RST, SYN, TCP, TCP_HEADER, UDP, UDP_HEADER, be32, put};

/// The reset for a segment of no connection (RFC 9293, 3.5.2, group 1); `None` for a reset.
pub(super) fn reset(packet: &[u8], outline: &Outline) -> Option<Vec<u8>> {
    let flags = outline.tcp_flags(packet)?;
    if flags & RST != 0 {
        return None;
    }
    let segment = packet.get(outline.payload_at..)?;
    let header = usize::from(*segment.get(12)? >> 4) * 4;
    let payload = segment.len().checked_sub(header.max(TCP_HEADER))?;
    let mut answer = [0; TCP_HEADER];
    put(&mut answer, 0, segment.get(2..4)?);
    put(&mut answer, 2, segment.get(0..2)?);
    let kind = if flags & ACK != 0 {
        put(&mut answer, 4, segment.get(8..12)?);
        RST
    } else {
        let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let next = be32(segment, 4)?.wrapping_add(u32::try_from(payload).ok()?).wrapping_add(controls);
        put(&mut answer, 8, &next.to_be_bytes());
        RST | ACK
    };
    put(&mut answer, 12, &[0x50, kind]);
    packet_of(outline.destination, outline.source, TCP, &answer)
}

/// The answer to a ping (RFC 792; RFC 4443, section 4).
pub(super) fn pong(packet: &[u8], outline: &Outline) -> Option<Vec<u8>> {
    let mut message = packet.get(outline.payload_at..)?.to_vec();
    let answer = match (outline.source, message.first()?) {
        (IpAddr::V4(_), 8) => 0,
        (IpAddr::V6(_), 128) => 129,
        _ => return None,
    };
    put(&mut message, 0, &[answer, 0]);
    packet_of(outline.destination, outline.source, outline.protocol, &message)
}

/// Both ends of the segment of ours that an "unreachable" quotes: the one here first.
pub(super) fn quoted(packet: &[u8], outline: &Outline) -> Option<(SocketAddr, SocketAddr)> {
    let message = packet.get(outline.payload_at..)?;
    match (outline.source, message.first()?) {
        (IpAddr::V4(_), 3) | (IpAddr::V6(_), 1) => {}
        _ => return None,
    }
    let quote = message.get(ICMP_HEADER..)?;
    let inner = Outline::read_head(quote, usize::from(u16::MAX))?;
    (inner.protocol == TCP).then(|| inner.ends(quote))
}

/// A UDP datagram.
pub(super) fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let mut datagram = Vec::with_capacity(usize::from(length));
    for field in [from.port(), to.port(), length, 0] {
        datagram.extend_from_slice(&field.to_be_bytes());
    }
    datagram.extend_from_slice(payload);
    packet_of(from.ip(), to.ip(), UDP, &datagram)
}

/// An IP packet around a message, checksums and all.
pub(super) fn packet_of(from: IpAddr, to: IpAddr, protocol: u8, message: &[u8]) -> Option<Vec<u8>> {
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(IPV4_HEADER + message.len()).ok()?.to_be_bytes();
            let mut header = vec![0x45, 0, length[0], length[1], 0, 0, DONT_FRAGMENT, 0, HOPS, protocol, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            renew_ipv4(&mut header);
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u16::try_from(message.len()).ok()?.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, HOPS];
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        _ => return None,
    };
    packet.extend_from_slice(message);
    finish_transport(&mut packet)?;
    Some(packet)
}

/// Type, code, checksum and an unused word.
const ICMP_HEADER: usize = 8;
/// How far our packets go.
const HOPS: u8 = 64;
/// The flag of IPv4, in the upper byte.
const DONT_FRAGMENT: u8 = 0x40;

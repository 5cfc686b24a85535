//! A packet as the stack wants it: whole, verified, without extension headers.
//!
//! Fragments are dropped: TCP makes none, and a question to the resolver fits a packet.

use std::borrow::Cow;

use crate::offload::is_intact;
use crate::packet::{Fragment, IPV6_HEADER, Outline, UDP_HEADER, be16, put};

/// A packet, and where its parts are.
pub(super) struct Normal<'a> {
    pub(super) packet: Cow<'a, [u8]>,
    pub(super) outline: Outline,
}

/// Reads a packet. `verified`: its checksum was looked at before. `None`: nothing is to be done with it.
pub(super) fn read(packet: &[u8], verified: bool) -> Option<Normal<'_>> {
    let outline = Outline::read(packet)?;
    if outline.fragment != Fragment::Whole || outline.source.is_unspecified() || outline.source.is_multicast() {
        return None;
    }
    let packet = packet.get(..outline.length)?;
    if !verified && !is_intact(packet, &outline) {
        return None;
    }
    if outline.source.is_ipv4() || outline.payload_at == IPV6_HEADER {
        return Some(Normal { packet: Cow::Borrowed(packet), outline });
    }
    let packet = strip(packet, &outline)?;
    let outline = Outline::read(&packet)?;
    Some(Normal { packet: Cow::Owned(packet), outline })
}

/// The packet without its extension headers. `None` where a routing header has somewhere else to go (RFC 8200, 4.4).
fn strip(packet: &[u8], outline: &Outline) -> Option<Vec<u8>> {
    let (mut at, mut kind) = (IPV6_HEADER, *packet.get(6)?);
    while at < outline.payload_at {
        let (next, words) = (*packet.get(at)?, usize::from(*packet.get(at + 1)?));
        if kind == ROUTING && *packet.get(at + 3)? != 0 {
            return None;
        }
        at += match kind {
            FRAGMENT => 8,
            AUTHENTICATION => 8 + words * 4,
            _ => 8 + words * 8,
        };
        kind = next;
    }
    let mut plain = packet.get(..IPV6_HEADER)?.to_vec();
    plain.extend_from_slice(packet.get(outline.payload_at..)?);
    let length = u16::try_from(plain.len() - IPV6_HEADER).ok()?;
    put(&mut plain, 4, &length.to_be_bytes());
    put(&mut plain, 6, &[outline.protocol]);
    Some(plain)
}

/// The payload of a UDP datagram; `None` where its length lies.
pub(super) fn datagram<'a>(packet: &'a [u8], outline: &Outline) -> Option<&'a [u8]> {
    let datagram = packet.get(outline.payload_at..)?;
    let length = usize::from(be16(datagram, 4)?);
    datagram.get(UDP_HEADER..length)
}

/// Extension headers (RFC 8200, section 4; RFC 4302).
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
